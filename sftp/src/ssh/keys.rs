//! Identities: key files, and keys in the agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};
use russh::keys::{Certificate, PrivateKey, PublicKey};

use super::destination::{Agent, Destination};
use super::error::ConnectError;
use super::interaction::{Interaction, Progress, Question};

/// How often a passphrase may be wrong.
const ATTEMPTS: u32 = 3;

/// The agent's protocol over whatever stream leads to it.
pub(super) type AnyAgent = AgentClient<Box<dyn AgentStream + Send + Unpin>>;

/// An identity to offer.
pub(super) enum Identity {
    /// A key file; asked for its passphrase only when its turn comes.
    File(PathBuf),
    /// A key in the agent.
    Agent(Box<AgentIdentity>),
}

/// The agent, if there is one.
pub(super) async fn agent(destination: &Destination) -> Option<AnyAgent> {
    let connected = match &destination.agent {
        Agent::None => return None,
        Agent::FromEnvironment => AgentClient::connect_env().await,
        Agent::Socket(path) => AgentClient::connect_uds(path).await,
    };
    match connected {
        Ok(agent) => Some(agent.dynamic()),
        Err(error) => {
            tracing::debug!(%error, "no agent");
            None
        }
    }
}

/// The identities to offer, in order: the named ones first, from the agent where it holds them, then what else the agent holds, then the
/// files that are looked for by default.
pub(super) async fn identities(destination: &Destination, agent: Option<&mut AnyAgent>) -> Vec<Identity> {
    let mut held = match agent {
        Some(agent) => agent.request_identities().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let mut identities = Vec::new();
    for path in &destination.identities {
        let public = public_half(path);
        let in_agent = public.and_then(|public| {
            let at = held.iter().position(|held| held_key(held).key_data() == public.key_data())?;
            Some(held.remove(at))
        });
        identities.push(match in_agent {
            Some(held) => Identity::Agent(Box::new(held)),
            None => Identity::File(path.clone()),
        });
    }
    if !destination.identities_only {
        identities.extend(held.into_iter().map(|held| Identity::Agent(Box::new(held))));
    }
    if destination.identities.is_empty() {
        let files = destination.default_identities.iter().filter(|path| path.is_file());
        identities.extend(files.map(|path| Identity::File(path.clone())));
    }
    identities
}

fn held_key(held: &AgentIdentity) -> PublicKey {
    match held {
        AgentIdentity::PublicKey { key, .. } => key.clone(),
        AgentIdentity::Certificate { certificate, .. } => certificate.public_key().clone().into(),
    }
}

/// The public key beside a key file, or the file itself if it is one (it then names a key in the agent).
fn public_half(path: &Path) -> Option<PublicKey> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    [PathBuf::from(beside), path.to_owned()]
        .iter()
        .find_map(|path| PublicKey::from_openssh(std::fs::read_to_string(path).ok()?.trim()).ok())
}

/// The certificates that could go with a key file: those the user named, and the one beside it.
pub(super) fn certificates(destination: &Destination, path: &Path) -> Vec<Certificate> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("-cert.pub");
    destination
        .certificates
        .iter()
        .chain(&[PathBuf::from(beside)])
        .filter_map(|path| russh::keys::load_openssh_certificate(path).ok())
        .collect()
}

/// Reads a key file, asking for its passphrase if it has one: three times at most. `None` if the file is no private key that can be
/// read; that is told, and the next identity has its turn.
pub(super) async fn load(
    path: &Path,
    destination: &Destination,
    interaction: &dyn Interaction,
) -> Result<Option<Arc<PrivateKey>>, ConnectError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(error) => {
            let named = destination.identities.iter().any(|named| named == path);
            if named {
                let reason = format!("identity file {}: {error}", path.display());
                return Err(ConnectError::Refused { destination: destination.shown(), reason });
            }
            return Ok(None);
        }
    };
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => return Ok(Some(Arc::new(key))),
        Err(error) if needs_passphrase(&error, &text) => {}
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "not a private key that can be read");
            return Ok(None);
        }
    }
    for attempt in 1..=ATTEMPTS {
        let question = Question::Passphrase { path: path.to_owned() };
        let text_of_question = question.text();
        let passphrase = interaction.ask(question).await.map_err(|_| ConnectError::Cancelled {
            destination: destination.shown(),
            question: text_of_question,
        })?;
        // Deriving the key takes a moment of CPU.
        let (text, passphrase) = (text.clone(), passphrase.clone());
        let decoded =
            tokio::task::spawn_blocking(move || russh::keys::decode_secret_key(&text, Some(&passphrase)))
                .await;
        if let Ok(Ok(key)) = decoded {
            return Ok(Some(Arc::new(key)));
        }
        if attempt < ATTEMPTS {
            interaction.progress(Progress::WrongAnswer("passphrase"));
        }
    }
    let reason = format!("wrong passphrase for key {}, {ATTEMPTS} times", path.display());
    Err(ConnectError::Refused { destination: destination.shown(), reason })
}

fn needs_passphrase(error: &russh::keys::Error, text: &str) -> bool {
    matches!(error, russh::keys::Error::KeyIsEncrypted)
        || text.contains("ENCRYPTED")
        || error.to_string().to_lowercase().contains("encrypted")
}

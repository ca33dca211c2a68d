//! Secrets that the user wants remembered: which there are, and where they come in. The secrets themselves are in the
//! user's `keyring`; a small file for each tells what it opens and the random number that it has there.
//!
//! A secret is looked up before anybody is asked for it. One that turns out wrong is forgotten at once. What a person
//! typed instead, and turned out right, can be remembered when nothing else is to be asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use scaup_sftp::ssh::Destination;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::keyring::{Found, Keyring, KeyringError, Life};
use super::people::People;
use super::protocol::{PromptKind, UserQuestion};
use super::remembered::RememberedVaults;
use super::secret_names::{SecretKind, SecretName};
use crate::config::records::{self, RecordError, Records};
use crate::config::settings::Remember;
use crate::remote::RemotePath;

/// A secret that is remembered, as its file says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    secret: SecretName,
    /// Its number in the keyring.
    id: Uuid,
    life: Life,
}

impl records::Record for Record {
    fn key(&self) -> Vec<&str> {
        self.secret.parts()
    }
}

fn records() -> Records {
    Records::called("secrets")
}

/// Why a secret can't be remembered, or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum KeptSecretError {
    /// The keyring is not there, is locked, or refuses.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// What Scaup knows of the secrets can't be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Returns the secret, if it is remembered and can be had. A person who waits may unlock the keyring for it.
async fn find(secret: &SecretName, is_attended: bool) -> Result<Option<Zeroizing<String>>, KeptSecretError> {
    let Some(record) = records().find::<Record>(&secret.parts())? else { return Ok(None) };
    let keyring = Keyring::connect().await?;
    match keyring.find(&record.id.to_string(), is_attended).await? {
        Found::Secret(found) => Ok(Some(found)),
        Found::Locked => Ok(None),
        Found::Nothing => {
            // The user has logged out since then, or has removed it there.
            records().remove(&secret.parts())?;
            Ok(None)
        }
    }
}

async fn find_of_agent(key_file: &str) -> Result<Found, KeyringError> {
    Keyring::connect().await?.find_of_agent(key_file).await
}

/// Remembers a secret.
async fn keep(secret: &SecretName, text: &str, life: Life) -> Result<(), KeptSecretError> {
    let known = records().find::<Record>(&secret.parts())?;
    let id = known.as_ref().map_or_else(Uuid::new_v4, |known| known.id);
    // First the file: what it does not name could never be forgotten.
    records().write(&Record { secret: secret.clone(), id, life })?;
    let kept = async {
        let label = format!("Scaup: {secret}");
        Keyring::connect().await?.keep(&id.to_string(), &label, text, life).await
    };
    if let Err(error) = kept.await {
        match known {
            Some(known) => records().write(&known)?,
            None => records().remove(&secret.parts())?,
        }
        return Err(error.into());
    }
    Ok(())
}

/// Forgets a secret. Returns whether it was remembered.
async fn forget(secret: &SecretName, is_attended: bool) -> Result<bool, KeptSecretError> {
    let Some(record) = records().find::<Record>(&secret.parts())? else { return Ok(false) };
    Keyring::connect().await?.remove(&record.id.to_string(), is_attended).await?;
    records().remove(&secret.parts())?;
    Ok(true)
}

/// Forgets a remembered secret that turned out wrong. Returns what to tell the person, if Scaup remembered it.
pub(super) async fn refuse(secret: &SecretName, is_attended: bool) -> Option<String> {
    match Box::pin(forget(secret, is_attended)).await {
        Ok(true) => Some(format!("{secret} was remembered, but is wrong: it is forgotten")),
        Ok(false) => None,
        Err(error) => Some(format!("{secret} was remembered, but is wrong, and can't be forgotten: {error}")),
    }
}

/// Whose remembered secrets are meant.
pub enum Whose {
    /// Those of all servers, and of everything.
    All,
    /// Those that a login at this server needs, and those of vaults in or below this directory of it.
    Server {
        /// The server.
        destination: Box<Destination>,
        /// The vaults there.
        vaults: RememberedVaults,
    },
    /// Those of vaults in or below a directory of this machine.
    Local(RememberedVaults),
}

impl Whose {
    fn includes(&self, secret: &SecretName) -> bool {
        let (destination, vaults) = match self {
            Self::All => return true,
            Self::Server { destination, vaults } => (Some(destination), vaults),
            Self::Local(vaults) => (None, vaults),
        };
        let mut roads = destination.into_iter().flat_map(|to| to.jumps.iter().chain([to.as_ref()]));
        match secret.kind {
            SecretKind::VaultPassword => vaults.includes(&secret.server, &secret.name),
            SecretKind::KeyPassphrase => roads.any(|to| {
                let mut keys = to.identities.iter().chain(&to.default_identities);
                keys.any(|key| key.to_string_lossy() == secret.name)
            }),
            SecretKind::ServerPassword | SecretKind::Codes => {
                roads.any(|to| to.user_at_host() == secret.server)
            }
        }
    }
}

/// Remembers what makes the codes that a login at this server asks for: an `otpauth://` address, or a secret in Base32.
/// Returns what they are for.
///
/// # Errors
///
/// If the keyring refuses.
pub async fn keep_codes(destination: &Destination, text: &str) -> Result<String, KeptSecretError> {
    let secret = SecretName::codes(&destination.user_at_host());
    keep(&secret, text, Life::Computer).await?;
    Ok(secret.to_string())
}

/// Returns the password of a vault, if it is remembered. A failure of the keyring is no reason not to ask a person.
pub async fn password_of(vaults: &RememberedVaults, path: &RemotePath) -> Option<Zeroizing<String>> {
    find(&vaults.password_of(path), true).await.ok().flatten()
}

/// Forgets the password of a vault, which turned out wrong. Returns what to tell the person.
pub async fn refuse_password_of(vaults: &RememberedVaults, path: &RemotePath) -> Option<String> {
    refuse(&vaults.password_of(path), true).await
}

/// Returns what is remembered, and for how long, in words.
///
/// # Errors
///
/// If the files can't be read.
pub fn listed(whose: &Whose) -> Result<Vec<String>, RecordError> {
    let records = records().all::<Record>()?.into_iter().filter(|record| whose.includes(&record.secret));
    let mut listed: Vec<String> = records
        .map(|Record { secret, life, .. }| match life {
            Life::Session => format!("{secret}, until you log out"),
            Life::Computer => format!("{secret}, on this computer"),
        })
        .collect();
    listed.sort();
    Ok(listed)
}

/// Forgets secrets. Returns what they opened.
///
/// # Errors
///
/// If the keyring refuses to remove one, or its file can't be removed.
pub async fn forget_those(whose: &Whose) -> Result<Vec<String>, KeptSecretError> {
    let mut forgotten = Vec::new();
    for record in records().all::<Record>()?.into_iter().filter(|record| whose.includes(&record.secret)) {
        forget(&record.secret, true).await?;
        forgotten.push(record.secret.to_string());
    }
    Ok(forgotten)
}

/// The secrets of one command or mount: those that are remembered, and those that a person types.
pub(super) struct KeptSecrets {
    /// When a typed secret is remembered; `None` where the keyring is left alone.
    when: Option<Remember>,
    /// What a person typed, and turned out right.
    typed: Mutex<Vec<(SecretName, Zeroizing<String>)>>,
}

impl KeptSecrets {
    pub(super) fn new(when: Option<Remember>) -> Self {
        Self { when, typed: Mutex::default() }
    }

    fn typed(&self) -> MutexGuard<'_, Vec<(SecretName, Zeroizing<String>)>> {
        self.typed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the secret may be remembered, without a look at the keyring.
    pub(super) fn may_know(&self, secret: &SecretName) -> bool {
        records().find::<Record>(&secret.parts()).is_ok_and(|known| known.is_some())
    }

    /// Returns the secret, if it is remembered. A failure of the keyring is no reason to end a login: then a person is
    /// asked.
    pub(super) async fn find(&self, secret: &SecretName, is_attended: bool) -> Option<Zeroizing<String>> {
        self.when?;
        // What talks to the keyring is large, and rarely needed.
        let found = match Box::pin(find(secret, is_attended)).await {
            Ok(found) => found,
            Err(error) => {
                tracing::info!(%error, "a remembered secret is not used");
                return None;
            }
        };
        if found.is_some() || secret.kind != SecretKind::KeyPassphrase {
            return found;
        }
        match Box::pin(find_of_agent(&secret.name)).await {
            Ok(Found::Secret(passphrase)) => Some(passphrase),
            Ok(Found::Locked | Found::Nothing) | Err(_) => None,
        }
    }

    /// Records what a person typed.
    pub(super) fn add_typed(&self, secret: SecretName, text: &Zeroizing<String>) {
        if self.when.is_none_or(|when| when == Remember::Never) {
            return;
        }
        let mut typed = self.typed();
        typed.retain(|(known, _)| *known != secret);
        typed.push((secret, text.clone()));
    }

    /// Discards what was typed: it may be wrong.
    pub(super) fn discard_typed(&self) {
        self.typed().clear();
    }

    /// Remembers what a person typed, if they want it: they are asked once, about all of it.
    pub(super) async fn offer(&self, people: &dyn People) {
        let mut typed = std::mem::take(&mut *self.typed());
        // What is remembered was typed only because the keyring is locked.
        typed.retain(|(secret, _)| !self.may_know(secret));
        if typed.is_empty() {
            return;
        }
        let life = match self.when {
            None | Some(Remember::Never) => return,
            Some(Remember::Session) => Some(Life::Session),
            Some(Remember::Always) => Some(Life::Computer),
            Some(Remember::Ask) => match Box::pin(Keyring::connect()).await {
                Ok(_) => ask_for_how_long(typed.iter().map(|(secret, _)| secret), people).await,
                // Where nothing can be remembered, nobody is asked.
                Err(error) => {
                    tracing::debug!(%error, "no secret can be remembered");
                    return;
                }
            },
        };
        let Some(life) = life else { return };
        for (secret, text) in typed {
            if let Err(error) = Box::pin(keep(&secret, &text, life)).await {
                people.tell(format!("{secret} is not remembered: {error}"));
            }
        }
    }
}

async fn ask_for_how_long(typed: impl Iterator<Item = &SecretName>, people: &dyn People) -> Option<Life> {
    let names: Vec<String> = typed.map(SecretName::to_string).collect();
    let text = format!("Remember {}? no / until I log out / on this computer [no]: ", names.join(", and "));
    let question =
        UserQuestion { kind: PromptKind::Other, destination: String::new(), attempt: 1, text, echo: true };
    how_long(&people.by_person(question).await.ok()?)
}

/// Returns what an answer means. The first letters of each answer are enough.
fn how_long(answer: &str) -> Option<Life> {
    let answer = answer.trim().to_lowercase();
    let is = |words: &[&str]| !answer.is_empty() && words.iter().any(|whole| whole.starts_with(&answer));
    if is(&["until i log out", "log out", "session"]) {
        Some(Life::Session)
    } else if is(&["on this computer", "computer", "always", "yes"]) {
        Some(Life::Computer)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_what_it_begins() {
        for (answer, means) in [
            ("", None),
            ("n", None),
            ("no", None),
            ("nonsense", None),
            ("u\n", Some(Life::Session)),
            ("Until I log out", Some(Life::Session)),
            ("session", Some(Life::Session)),
            ("o", Some(Life::Computer)),
            (" on this computer ", Some(Life::Computer)),
        ] {
            assert_eq!(how_long(answer), means, "{answer:?}");
        }
    }
}

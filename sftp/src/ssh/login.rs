//! Going through the methods of authentication (RFC 4252), in whatever order the server wants.

use std::sync::{Mutex, PoisonError};

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};
use russh::{MethodKind, MethodSet};

use super::connect::Client;
use super::destination::Destination;
use super::error::ConnectError;
use super::interaction::{Interaction, Progress, Question};
use super::keys::{self, AnyAgent, Identity};

/// How often a code or password may be wrong.
const ATTEMPTS: u32 = 3;

/// Keys that are offered before others have their turn: servers count each, and most stop at six.
const OFFERS_MAX: usize = 5;

/// Prompts that a server may send in one login, of all rounds.
const PROMPTS_MAX: usize = 100;

/// What one step came to.
enum Step {
    /// The user is in.
    In,
    /// This was right, and more is wanted.
    Partly(MethodSet),
    /// This was not right.
    Refused(MethodSet),
}

impl From<AuthResult> for Step {
    fn from(result: AuthResult) -> Self {
        match result {
            AuthResult::Success => Self::In,
            AuthResult::Failure { remaining_methods, partial_success: true } => {
                Self::Partly(remaining_methods)
            }
            AuthResult::Failure { remaining_methods, .. } => Self::Refused(remaining_methods),
        }
    }
}

/// One login under way.
struct Login<'a> {
    handle: &'a mut Handle<Client>,
    destination: &'a Destination,
    interaction: &'a dyn Interaction,
    /// Only ever used by its one owner; behind a lock since its stream can't be shared, and a login may move between threads.
    agent: Option<Mutex<AnyAgent>>,
    identities: std::vec::IntoIter<Identity>,
    offers: usize,
    tried: Vec<&'static str>,
}

/// Logs in.
pub(super) async fn log_in(
    handle: &mut Handle<Client>,
    destination: &Destination,
    interaction: &dyn Interaction,
) -> Result<(), ConnectError> {
    let mut agent = keys::agent(destination).await;
    let identities = keys::identities(destination, agent.as_mut()).await.into_iter();
    let agent = agent.map(Mutex::new);
    let login = Login { handle, destination, interaction, agent, identities, offers: 0, tried: Vec::new() };
    login.run().await
}

impl Login<'_> {
    async fn run(mut self) -> Result<(), ConnectError> {
        // "none" is refused with the list of methods; some servers let in with it.
        let user = self.destination.user.clone();
        let first = self.handle.authenticate_none(user).await.map_err(|error| self.broken(&error))?;
        let mut methods = match Step::from(first) {
            Step::In => return Ok(()),
            Step::Partly(methods) | Step::Refused(methods) => methods,
        };
        loop {
            let step = if methods.contains(&MethodKind::PublicKey) && self.may_offer() {
                self.offer_key().await?
            } else if methods.contains(&MethodKind::KeyboardInteractive) {
                self.answer_prompts().await?
            } else if methods.contains(&MethodKind::Password) {
                self.give_password().await?
            } else {
                return Err(self.refused(&methods));
            };
            match step {
                Some(Step::In) => return Ok(()),
                Some(Step::Partly(more) | Step::Refused(more)) => methods = more,
                // No key was left to offer.
                None => {}
            }
        }
    }

    fn may_offer(&self) -> bool {
        self.offers < OFFERS_MAX && self.identities.len() > 0
    }

    fn broken(&self, error: &russh::Error) -> ConnectError {
        let reason = match error {
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::SendError
            | russh::Error::RecvError => {
                "the server closed the connection during the login (too many attempts, or too slow)"
                    .to_owned()
            }
            error => error.to_string(),
        };
        ConnectError::Refused { destination: self.destination.shown(), reason }
    }

    fn refused(&self, methods: &MethodSet) -> ConnectError {
        let wanted: Vec<&str> = methods.iter().map(Into::into).collect();
        let tried = match self.tried.as_slice() {
            [] => "no key was found to offer; name one with -i, or load it into the agent".to_owned(),
            tried => format!("the server refused {}", tried.join(", ")),
        };
        let reason = format!("login refused: {tried} (it accepts: {})", wanted.join(", "));
        ConnectError::Refused { destination: self.destination.shown(), reason }
    }

    /// Three wrong answers.
    fn wrong(&self, what: &str) -> ConnectError {
        let reason = format!("login refused: wrong {what}, {ATTEMPTS} times");
        ConnectError::Refused { destination: self.destination.shown(), reason }
    }

    async fn ask(&self, question: Question) -> Result<zeroize::Zeroizing<String>, ConnectError> {
        let text = question.text();
        self.interaction
            .ask(question)
            .await
            .map_err(|_| ConnectError::Cancelled { destination: self.destination.shown(), question: text })
    }

    /// Offers the next key; `None` if there is none.
    async fn offer_key(&mut self) -> Result<Option<Step>, ConnectError> {
        let Some(identity) = self.identities.next() else { return Ok(None) };
        let step = match identity {
            Identity::File(path) => {
                let Some(key) = keys::load(&path, self.destination, self.interaction).await? else {
                    return Ok(None);
                };
                self.offers += 1;
                let user = self.destination.user.clone();
                let certificate = keys::certificates(self.destination, &path)
                    .into_iter()
                    .find(|certificate| certificate.public_key() == key.public_key().key_data());
                if let Some(certificate) = certificate {
                    let accepted = self
                        .handle
                        .authenticate_openssh_cert(user.clone(), key.clone(), certificate)
                        .await
                        .map_err(|error| self.broken(&error))?;
                    let step = Step::from(accepted);
                    if !matches!(step, Step::Refused(_)) {
                        self.interaction.progress(Progress::KeyAccepted);
                        return Ok(Some(step));
                    }
                    self.offers += 1;
                }
                let hash = self.rsa_hash().await;
                let key = PrivateKeyWithHashAlg::new(key, hash);
                let accepted = self.handle.authenticate_publickey(user, key).await;
                Step::from(accepted.map_err(|error| self.broken(&error))?)
            }
            Identity::Agent(held) => {
                self.offers += 1;
                match self.offer_from_agent(*held).await? {
                    Some(step) => step,
                    None => return Ok(None),
                }
            }
        };
        if matches!(step, Step::Refused(_)) {
            self.note("key");
        } else {
            self.interaction.progress(Progress::KeyAccepted);
        }
        Ok(Some(step))
    }

    async fn offer_from_agent(&mut self, held: AgentIdentity) -> Result<Option<Step>, ConnectError> {
        let hash = self.rsa_hash().await;
        let Some(agent) = self.agent.as_mut() else { return Ok(None) };
        let agent = agent.get_mut().unwrap_or_else(PoisonError::into_inner);
        let user = self.destination.user.clone();
        let signed = match held {
            AgentIdentity::PublicKey { key, .. } => {
                let hash = hash.filter(|_| key.algorithm().is_rsa());
                self.handle.authenticate_publickey_with(user, key, hash, agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                self.handle.authenticate_certificate_with(user, certificate, hash, agent).await
            }
        };
        match signed {
            Ok(result) => Ok(Some(result.into())),
            // The agent does not want to sign with this one; the next has its turn.
            Err(error) => {
                tracing::info!(%error, "the agent did not sign");
                Ok(None)
            }
        }
    }

    /// The hash for signatures with RSA keys: never SHA-1.
    async fn rsa_hash(&self) -> Option<HashAlg> {
        match self.handle.best_supported_rsa_hash().await {
            Ok(Some(Some(hash))) => Some(hash),
            _ => Some(HashAlg::Sha256),
        }
    }

    /// Goes through the server's prompts, any number of rounds (RFC 4256), and again if what was typed is wrong.
    async fn answer_prompts(&mut self) -> Result<Option<Step>, ConnectError> {
        for attempt in 1..=ATTEMPTS {
            let step = self.answer_once().await?;
            match step {
                Step::Refused(methods) if methods.contains(&MethodKind::KeyboardInteractive) => {
                    if attempt < ATTEMPTS {
                        self.interaction.progress(Progress::WrongAnswer("code"));
                    }
                }
                Step::Refused(methods) => {
                    self.note("keyboard-interactive");
                    return Ok(Some(Step::Refused(methods)));
                }
                step => {
                    self.interaction.progress(Progress::CodeAccepted);
                    return Ok(Some(step));
                }
            }
        }
        Err(self.wrong("code"))
    }

    async fn answer_once(&mut self) -> Result<Step, ConnectError> {
        let user = self.destination.user.clone();
        let mut response = self
            .handle
            .authenticate_keyboard_interactive_start(user, None)
            .await
            .map_err(|error| self.broken(&error))?;
        let mut asked = 0;
        loop {
            let (instructions, prompts) = match response {
                KeyboardInteractiveAuthResponse::Success => return Ok(Step::In),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success: true } => {
                    return Ok(Step::Partly(remaining_methods));
                }
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, .. } => {
                    return Ok(Step::Refused(remaining_methods));
                }
                KeyboardInteractiveAuthResponse::InfoRequest { instructions, prompts, .. } => {
                    (instructions, prompts)
                }
            };
            asked += prompts.len().max(1);
            if asked > PROMPTS_MAX {
                let reason = "the server asks without end".to_owned();
                return Err(ConnectError::Protocol { destination: self.destination.shown(), reason });
            }
            let mut answers = Vec::with_capacity(prompts.len());
            for (index, prompt) in prompts.into_iter().enumerate() {
                let question = Question::Prompt {
                    destination: self.destination.shown(),
                    instruction: if index == 0 { instructions.clone() } else { String::new() },
                    prompt: prompt.prompt,
                    echo: prompt.echo,
                };
                // The library takes plain strings, and sends them at once.
                answers.push(self.ask(question).await?.to_string());
            }
            response = self
                .handle
                .authenticate_keyboard_interactive_respond(answers)
                .await
                .map_err(|error| self.broken(&error))?;
        }
    }

    async fn give_password(&mut self) -> Result<Option<Step>, ConnectError> {
        for attempt in 1..=ATTEMPTS {
            let question = Question::Password { destination: self.destination.shown() };
            let password = self.ask(question).await?;
            let user = self.destination.user.clone();
            let result = self.handle.authenticate_password(user, password.as_str()).await;
            match Step::from(result.map_err(|error| self.broken(&error))?) {
                Step::Refused(methods) if methods.contains(&MethodKind::Password) => {
                    if attempt < ATTEMPTS {
                        self.interaction.progress(Progress::WrongAnswer("password"));
                    }
                }
                Step::Refused(methods) => {
                    self.note("password");
                    return Ok(Some(Step::Refused(methods)));
                }
                step => {
                    self.interaction.progress(Progress::PasswordAccepted);
                    return Ok(Some(step));
                }
            }
        }
        Err(self.wrong("password"))
    }

    fn note(&mut self, what: &'static str) {
        if !self.tried.contains(&what) {
            self.tried.push(what);
        }
    }
}

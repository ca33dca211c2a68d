//! Tries the methods of authentication (RFC 4252), in whatever order the server wants.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use russh::{AgentAuthError, MethodKind, MethodSet};

use super::bounds::{ANSWER_MAX, APPROVAL_MAX, Signing, Silent, answered, answered_unless};
use super::credential::{Credential, listed};
use super::destination::{Destination, Method};
use super::error::ConnectError;
use super::handler::Client;
use super::held_keys::HeldKeys;
use super::interaction::{Cancelled, Interaction, Progress, Question};
use super::keys::{self, AnyAgent, Identity, KeyFile};
use super::patience::{Exhausted, Patience, Words};
use super::secret_key::KeySigner;
use super::session::Transport;
use super::wanted::wanted;
use crate::text::Line;

/// Keys that are offered before other methods are tried: servers count each, and most stop at six.
const OFFERS_MAX: usize = 5;

/// The result of one step.
enum Step {
    /// The user is logged in.
    In,
    /// The credential was right, and more is wanted.
    Partly(MethodSet),
    /// The credential was not accepted.
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
    transport: &'a Transport,
    destination: &'a Destination,
    interaction: &'a dyn Interaction,
    held: Option<&'a HeldKeys>,
    words: &'a Words,
    patience: Patience,
    /// Only its one owner uses it; it is behind a lock since its stream can't be shared, and a login may move between
    /// threads.
    agent: Option<Mutex<AnyAgent>>,
    identities: std::vec::IntoIter<Identity>,
    offers: usize,
    tried: Vec<&'static str>,
    /// Identity files that can't be used, with the reason.
    unusable: Vec<String>,
    /// Whether a person was asked for something.
    asked: AtomicBool,
}

/// Logs in.
pub(super) async fn log_in(
    handle: &mut Handle<Client>,
    transport: &Transport,
    destination: &Destination,
    interaction: &dyn Interaction,
    words: &Words,
    held: Option<&HeldKeys>,
) -> Result<(), ConnectError> {
    let mut agent = keys::agent(destination).await;
    let identities = keys::identities(destination, agent.as_mut()).await.into_iter();
    let agent = agent.map(Mutex::new);
    let login = Login {
        handle,
        transport,
        destination,
        interaction,
        held,
        words,
        patience: Patience::new(destination.attempts),
        agent,
        identities,
        offers: 0,
        tried: Vec::new(),
        unusable: Vec::new(),
        asked: AtomicBool::new(false),
    };
    login.run().await
}

impl Login<'_> {
    async fn run(mut self) -> Result<(), ConnectError> {
        let Some(mut methods) = self.begin().await? else { return Ok(()) };
        loop {
            let method = self.destination.methods.iter().find(|method| match method {
                Method::PublicKey => methods.contains(&MethodKind::PublicKey) && self.may_offer(),
                Method::KeyboardInteractive => methods.contains(&MethodKind::KeyboardInteractive),
                Method::Password => methods.contains(&MethodKind::Password),
            });
            let step = match method {
                Some(Method::PublicKey) => self.offer_key().await?,
                Some(Method::KeyboardInteractive) => self.answer_prompts().await?,
                Some(Method::Password) => self.give_password().await?,
                None => return Err(self.refused(&methods)),
            };
            match step {
                Some(Step::In) => return Ok(()),
                // The library reports a lost connection in this way.
                Some(Step::Refused(more)) if more.is_empty() => {
                    return Err(self.broken(&russh::Error::Disconnect));
                }
                Some(Step::Partly(more) | Step::Refused(more)) => methods = more,
                // No key was left to offer.
                None => {}
            }
        }
    }

    /// Returns the methods that the server wants first; `None` if the user is logged in.
    async fn begin(&mut self) -> Result<Option<MethodSet>, ConnectError> {
        // A user who named a key knows that the server takes keys: offering it at once saves asking for the methods.
        // But nobody should type a passphrase before that.
        let named = self.identities.as_slice().first().filter(|_| !self.destination.identities.is_empty());
        let key_first = self.destination.methods.first() == Some(&Method::PublicKey);
        let first = if key_first && named.is_some_and(Identity::can_be_shown) {
            let identities = self.identities.clone();
            let step = self.offer_key().await?;
            if matches!(&step, Some(Step::Refused(methods)) if !methods.contains(&MethodKind::PublicKey)) {
                // The server wants another method first, and did not look at the key: the key is offered again later.
                self.identities = identities;
                self.offers = 0;
                self.tried.clear();
            }
            step
        } else {
            None
        };
        let first = match first {
            Some(step) => step,
            // "none" is refused with the list of methods; some servers let the user log in with it.
            None => {
                let user = self.destination.user.clone();
                let asked = answered(ANSWER_MAX, self.handle.authenticate_none(user)).await;
                asked.map_err(|silent| self.gives_up(silent))?.map_err(|error| self.broken(&error))?.into()
            }
        };
        match first {
            Step::In => Ok(None),
            // The library reports a lost connection in this way.
            Step::Refused(methods) if methods.is_empty() => Err(self.broken(&russh::Error::Disconnect)),
            Step::Partly(methods) | Step::Refused(methods) => Ok(Some(methods)),
        }
    }

    fn may_offer(&self) -> bool {
        self.offers < OFFERS_MAX && self.identities.len() > 0
    }

    /// Returns the error for a server that does not reply. Nothing is known about the credential, so another attempt is
    /// worthwhile.
    fn gives_up(&self, silent: Silent) -> ConnectError {
        let reason = format!("during the login, {silent}");
        ConnectError::Protocol { destination: self.destination.user_at_host(), reason }
    }

    /// Returns the error for a broken connection. If a credential was refused, there may have been too many attempts:
    /// the user has to retry. If a person was asked, they may have been too slow. Otherwise only the road failed.
    fn broken(&self, error: &russh::Error) -> ConnectError {
        if self.words.are_exhausted() {
            return self.without_end(Exhausted);
        }
        let destination = self.destination.user_at_host();
        let was_asked = self.asked.load(Ordering::Relaxed);
        let reason = match error {
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::SendError
            | russh::Error::RecvError => {
                let after = match self.tried.as_slice() {
                    [] if was_asked => {
                        "; it may have waited too long for the answer, or the network is gone".to_owned()
                    }
                    [] => String::new(),
                    tried => format!(", after it had refused {}", tried.join(", ")),
                };
                let only_keys = self.tried == ["key"] && self.offers > 1;
                let offers = if only_keys { self.too_many_keys() } else { String::new() };
                format!("the server closed the connection during the login{after}{offers}")
            }
            error => error.to_string(),
        };
        if !self.tried.is_empty() {
            ConnectError::Refused { destination, reason }
        } else if was_asked {
            ConnectError::CutOff { destination, reason }
        } else {
            ConnectError::Protocol { destination, reason }
        }
    }

    fn refused(&self, methods: &MethodSet) -> ConnectError {
        let wanted: Vec<&str> = methods.iter().map(Into::into).collect();
        let may_offer_keys = self.destination.methods.contains(&Method::PublicKey);
        let tried = match self.tried.as_slice() {
            [] if !may_offer_keys => "the server accepts no method that may be tried".to_owned(),
            [] if self.unusable.is_empty() => {
                "no key was found to offer; name one with -i, or load it into the agent".to_owned()
            }
            [] => "no key could be offered".to_owned(),
            tried => format!("the server refused {}", tried.join(", ")),
        };
        let unusable: String = self.unusable.iter().map(|reason| format!("; {reason}")).collect();
        let some_left = self.offers >= OFFERS_MAX && self.identities.len() > 0;
        let offers = if some_left { self.too_many_keys() } else { String::new() };
        let wanted = wanted.join(", ");
        let reason = format!("login refused: {tried}{unusable} (the server accepts: {wanted}){offers}");
        ConnectError::Refused { destination: self.destination.user_at_host(), reason }
    }

    /// Returns the way out where the right key may not have been offered.
    fn too_many_keys(&self) -> String {
        let left = match self.identities.len() {
            0 => String::new(),
            left => format!(", {left} more were not"),
        };
        format!(
            "; {} keys were offered{left}, and servers give up after some: name the right one with -i, or with \
             IdentityFile and IdentitiesOnly yes in ~/.ssh/config",
            self.offers
        )
    }

    /// Returns the error for a server that goes on without end: a refused login is not retried automatically.
    fn without_end(&self, Exhausted: Exhausted) -> ConnectError {
        let reason = "login given up: the server sends questions or messages without end".to_owned();
        ConnectError::Refused { destination: self.destination.user_at_host(), reason }
    }

    /// Returns the error after the last permitted wrong answer.
    fn wrong(&self, credentials: &[Credential]) -> ConnectError {
        let (what, times) = (listed(credentials, " or "), self.destination.times());
        let reason = format!("login refused: wrong {what}{times}");
        ConnectError::Refused { destination: self.destination.user_at_host(), reason }
    }

    async fn ask(&self, question: Question) -> Result<zeroize::Zeroizing<String>, ConnectError> {
        self.asked.store(true, Ordering::Relaxed);
        let text = question.text();
        let cancelled = |Cancelled(reason)| ConnectError::Cancelled {
            destination: self.destination.user_at_host(),
            question: text,
            reason,
        };
        self.while_connected(async { self.interaction.ask(question).await.map_err(cancelled) }).await
    }

    /// Waits for a person as long as the server does: an answer after the server hung up would be lost, and the
    /// question should then disappear.
    ///
    /// The library reads nothing meanwhile, so the socket itself is checked.
    async fn while_connected<T>(
        &self,
        waiting: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        const LOOK_EVERY: Duration = Duration::from_millis(500);
        let hung_up = async {
            while !self.transport.is_hung_up() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            done = waiting => done,
            () = hung_up => Err(self.broken(&russh::Error::Disconnect)),
        }
    }

    /// Offers the next identity; `None` if it can't be offered.
    async fn offer_key(&mut self) -> Result<Option<Step>, ConnectError> {
        let step = match self.identities.next() {
            Some(Identity::File { path, certificate }) => self.offer_file(&path, certificate).await?,
            Some(Identity::Agent(held)) => self.offer_from_agent(*held).await?,
            None => None,
        };
        match step {
            Some(Step::Refused(_)) => self.record_tried("key"),
            Some(_) => self.interaction.progress(Progress::Accepted(vec![Credential::Key])),
            None => {}
        }
        Ok(step)
    }

    async fn offer_file(
        &mut self,
        path: &Path,
        certificate: Option<Box<Certificate>>,
    ) -> Result<Option<Step>, ConnectError> {
        let key = match keys::read(path) {
            Ok(KeyFile::Open(key)) => key,
            Ok(KeyFile::Locked { text, public }) => match self.held.and_then(|held| held.get(&text)) {
                Some(key) => key,
                None => {
                    // Nobody should type a passphrase for a key that may not be offered, or that the server does not
                    // want.
                    let shown = certificate.as_deref().map(Certificate::public_key);
                    let shown = shown.or_else(|| public.as_ref().map(PublicKey::key_data));
                    if shown.is_some_and(|key| self.is_ruled_out(key, certificate.is_some(), path.display()))
                    {
                        return Ok(None);
                    }
                    if let Some(refused) = self.try_public(public, certificate.as_deref()).await? {
                        return Ok(Some(refused));
                    }
                    self.asked.store(true, Ordering::Relaxed);
                    let unlocked = keys::unlock(path, &text, self.destination, self.interaction);
                    let key = self.while_connected(unlocked).await?;
                    if let Some(held) = self.held {
                        held.hold(&text, &key);
                    }
                    key
                }
            },
            Err(reason) => {
                tracing::warn!("{reason}");
                self.unusable.push(reason.to_string());
                return Ok(None);
            }
        };
        let public = key.public().clone();
        if certificate.as_ref().is_some_and(|certificate| certificate.public_key() != public.key_data()) {
            return Ok(None);
        }
        if self.is_ruled_out(public.key_data(), certificate.is_some(), path.display()) {
            return Ok(None);
        }
        self.offers += 1;
        let (user, hash) =
            (self.destination.user.clone(), self.rsa_hash(public.algorithm(), certificate.is_some()).await);
        let mut signer = KeySigner(key);
        let signed = match certificate {
            Some(certificate) => {
                let offered =
                    self.handle.authenticate_certificate_with(user, *certificate, hash, &mut signer);
                answered(ANSWER_MAX, offered).await
            }
            None => {
                let offered = self.handle.authenticate_publickey_with(user, public, hash, &mut signer);
                answered(ANSWER_MAX, offered).await
            }
        };
        match signed.map_err(|silent| self.gives_up(silent))? {
            Ok(result) => Ok(Some(result.into())),
            Err(AgentAuthError::Key(error)) => {
                self.unusable.push(format!("{}: {error}", path.display()));
                Ok(None)
            }
            Err(AgentAuthError::Send(_)) => Err(self.broken(&russh::Error::Disconnect)),
        }
    }

    /// Asks the server whether it would accept a key (RFC 4252, section 7), without signing; returns the refusal, if it
    /// would not.
    async fn try_public(
        &mut self,
        public: Option<PublicKey>,
        certificate: Option<&Certificate>,
    ) -> Result<Option<Step>, ConnectError> {
        let user = self.destination.user.clone();
        // An agent that never signs: the library calls it only when the server wants a signature.
        let mut nobody = AgentClient::connect(tokio::io::empty());
        let answer = match (certificate, public) {
            (Some(certificate), _) => {
                let hash = self.rsa_hash(certificate.public_key().algorithm(), true).await;
                let certificate = certificate.clone();
                let asked = self.handle.authenticate_certificate_with(user, certificate, hash, &mut nobody);
                answered(ANSWER_MAX, asked).await
            }
            (None, Some(public)) => {
                let hash = self.rsa_hash(public.algorithm(), false).await;
                let asked = self.handle.authenticate_publickey_with(user, public, hash, &mut nobody);
                answered(ANSWER_MAX, asked).await
            }
            (None, None) => return Ok(None),
        };
        match answer.map_err(|silent| self.gives_up(silent))? {
            Ok(result) => {
                self.offers += 1;
                Ok(Some(result.into()))
            }
            Err(AgentAuthError::Key(_)) => Ok(None),
            Err(AgentAuthError::Send(_)) => Err(self.broken(&russh::Error::Disconnect)),
        }
    }

    async fn offer_from_agent(&mut self, held: AgentIdentity) -> Result<Option<Step>, ConnectError> {
        let (key, is_certificate) = match &held {
            AgentIdentity::PublicKey { key, .. } => (key.key_data(), false),
            AgentIdentity::Certificate { certificate, .. } => (certificate.public_key(), true),
        };
        if self.is_ruled_out(key, is_certificate, "a key in the agent") {
            return Ok(None);
        }
        self.offers += 1;
        let hash = self.rsa_hash(key.algorithm(), is_certificate).await;
        let Some(agent) = self.agent.as_mut() else { return Ok(None) };
        // The agent may ask a person: that time does not count against the server.
        let signs = AtomicBool::new(false);
        let mut agent = Signing::new(agent.get_mut().unwrap_or_else(PoisonError::into_inner), &signs);
        let user = self.destination.user.clone();
        let signed = match held {
            AgentIdentity::PublicKey { key, .. } => {
                let offered = self.handle.authenticate_publickey_with(user, key, hash, &mut agent);
                answered_unless(&signs, ANSWER_MAX, offered).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                let offered = self.handle.authenticate_certificate_with(user, certificate, hash, &mut agent);
                answered_unless(&signs, ANSWER_MAX, offered).await
            }
        };
        match signed.map_err(|silent| self.gives_up(silent))? {
            Ok(result) => Ok(Some(result.into())),
            // The agent refuses to sign with this key; the next one is tried.
            Err(error) => {
                tracing::info!(%error, "the agent did not sign");
                Ok(None)
            }
        }
    }

    /// Returns whether the configuration forbids offering a key, and records the reason.
    fn is_ruled_out(&mut self, key: &KeyData, is_certificate: bool, name: impl std::fmt::Display) -> bool {
        let user_keys = &self.destination.algorithms.user_keys;
        let reason = if let Some(bits) = keys::is_too_short(key, self.destination.rsa_bits_min) {
            format!("{name}: {bits} bits are fewer than RequiredRSASize")
        } else if user_keys.hash(&key.algorithm(), is_certificate, None).is_none() {
            format!("{name}: PubkeyAcceptedAlgorithms rules {} out", key.algorithm())
        } else {
            return false;
        };
        self.unusable.push(reason.to_string());
        true
    }

    /// Returns the hash for signatures with RSA keys. For other keys there is no choice, and the server's list is not
    /// waited for.
    async fn rsa_hash(&self, algorithm: Algorithm, is_certificate: bool) -> Option<HashAlg> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return None;
        }
        let servers_choice = self.handle.best_supported_rsa_hash().await.ok().flatten().flatten();
        self.destination.algorithms.user_keys.hash(&algorithm, is_certificate, servers_choice).flatten()
    }

    /// Answers the server's prompts, any number of rounds (RFC 4256), and again if an answer is wrong.
    async fn answer_prompts(&mut self) -> Result<Option<Step>, ConnectError> {
        loop {
            let (step, asked) = self.answer_once().await?;
            // Wrong answers count the same whether the server goes on with another method or stays with this one.
            if matches!(&step, Step::Refused(methods) if !methods.is_empty()) && !asked.is_empty() {
                self.patience.was_wrong().map_err(|Exhausted| self.wrong(&asked))?;
            }
            match step {
                // Without a prompt there was no answer that could be wrong, or right the next time.
                Step::Refused(methods)
                    if methods.contains(&MethodKind::KeyboardInteractive) && asked.is_empty() =>
                {
                    self.record_tried("keyboard-interactive");
                    return Err(self.refused(&methods));
                }
                Step::Refused(methods) if methods.contains(&MethodKind::KeyboardInteractive) => {
                    self.interaction.progress(Progress::Wrong(asked));
                }
                Step::Refused(methods) => {
                    self.record_tried("keyboard-interactive");
                    return Ok(Some(Step::Refused(methods)));
                }
                step => {
                    if matches!(step, Step::Partly(_)) {
                        self.patience.was_partly_right().map_err(|exhausted| self.without_end(exhausted))?;
                    }
                    if !asked.is_empty() {
                        self.interaction.progress(Progress::Accepted(asked));
                    }
                    return Ok(Some(step));
                }
            }
        }
    }

    /// Returns the result, and which credentials the prompts asked for.
    async fn answer_once(&mut self) -> Result<(Step, Vec<Credential>), ConnectError> {
        self.patience.asked(0).map_err(|exhausted| self.without_end(exhausted))?;
        let user = self.destination.user.clone();
        let devices = self.destination.kbd_interactive_devices.clone();
        let started = self.handle.authenticate_keyboard_interactive_start(user, devices);
        let mut response = answered(APPROVAL_MAX, started)
            .await
            .map_err(|silent| self.gives_up(silent))?
            .map_err(|error| self.broken(&error))?;
        let mut asked = Vec::new();
        loop {
            let (words, prompts) = match response {
                KeyboardInteractiveAuthResponse::Success => return Ok((Step::In, asked)),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success: true } => {
                    return Ok((Step::Partly(remaining_methods), asked));
                }
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, .. } => {
                    return Ok((Step::Refused(remaining_methods), asked));
                }
                KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts } => {
                    ([name, instructions], prompts)
                }
            };
            for words in &words {
                self.words.said(words.len()).map_err(|exhausted| self.without_end(exhausted))?;
            }
            for line in words.iter().flat_map(|words| Line::each_of(words)) {
                self.interaction
                    .progress(Progress::Said { destination: self.destination.user_at_host(), line });
            }
            self.patience.asked(prompts.len()).map_err(|exhausted| self.without_end(exhausted))?;
            // A command can't answer more than one code prompt at a time.
            let one_code =
                prompts.iter().filter(|prompt| wanted(&prompt.prompt) == Credential::Code).count() == 1;
            let mut answers = Vec::with_capacity(prompts.len());
            for prompt in prompts {
                let unattended = one_code
                    && self.destination.unattended_codes
                    && wanted(&prompt.prompt) == Credential::Code
                    && self.patience.may_have_code();
                let question = Question::Prompt {
                    destination: self.destination.user_at_host(),
                    prompt: Line::of(&prompt.prompt),
                    echo: prompt.echo,
                    unattended,
                };
                asked.extend(question.credential().filter(|credential| !asked.contains(credential)));
                // The library takes plain strings, and sends them at once.
                answers.push(self.ask(question).await?.to_string());
            }
            let answering = self.handle.authenticate_keyboard_interactive_respond(answers);
            response = answered(APPROVAL_MAX, answering)
                .await
                .map_err(|silent| self.gives_up(silent))?
                .map_err(|error| self.broken(&error))?;
        }
    }

    async fn give_password(&mut self) -> Result<Option<Step>, ConnectError> {
        loop {
            self.patience.asked(1).map_err(|exhausted| self.without_end(exhausted))?;
            let question = Question::Password { destination: self.destination.user_at_host() };
            let password = self.ask(question).await?;
            let user = self.destination.user.clone();
            let given = self.handle.authenticate_password(user, password.as_str());
            let result = answered(APPROVAL_MAX, given).await.map_err(|silent| self.gives_up(silent))?;
            let step = Step::from(result.map_err(|error| self.broken(&error))?);
            if let Step::Refused(methods) = step {
                if !methods.is_empty() {
                    self.patience.was_wrong().map_err(|Exhausted| self.wrong(&[Credential::Password]))?;
                }
                if !methods.contains(&MethodKind::Password) {
                    self.record_tried("password");
                    return Ok(Some(Step::Refused(methods)));
                }
                self.interaction.progress(Progress::Wrong(vec![Credential::Password]));
                continue;
            }
            if matches!(step, Step::Partly(_)) {
                self.patience.was_partly_right().map_err(|exhausted| self.without_end(exhausted))?;
            }
            self.interaction.progress(Progress::Accepted(vec![Credential::Password]));
            return Ok(Some(step));
        }
    }

    fn record_tried(&mut self, what: &'static str) {
        if !self.tried.contains(&what) {
            self.tried.push(what);
        }
    }
}

//! Resolves a request to the server, or to the directory of this machine, and connects.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{self, ConnectError, Destination, HeldKeys, HostKeyProblem, Interaction, Session};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::answer_programs::{AnswerCommand, BATCH_MODE};
use super::codes::CodeLedger;
use super::connection::ServerConnection;
use super::kept_secrets::{KeptSecrets, Whose};
use super::login_questions::Asker;
use super::people::People;
use super::protocol::{Failure, FailureKind, LoginRequest, UserQuestion};
use super::remembered::RememberedVaults;
use crate::config::settings::Remember;
use crate::config::ssh_config;
use crate::config::target::Target;
use crate::remote::local::LocalRemote;
use crate::remote::sftp::{ConnectFailure, Connector, LoginAllowance, SftpRemote};
use crate::remote::{Reachability, Remote, RemoteError};

/// The target of a login, by the user's configuration.
pub(super) enum ResolvedTarget {
    /// A directory of this machine.
    Local(PathBuf),
    /// A directory of a server.
    Server { destination: Box<Destination>, directory: String },
}

impl ResolvedTarget {
    pub(super) fn of(request: &LoginRequest) -> Result<Self, Failure> {
        let server = match &request.target {
            Target::Local(path) => return Ok(Self::Local(path.clone())),
            Target::Server(server) => server,
        };
        let wanted = request.settings.wanted(server, &request.directory);
        let destination =
            ssh_config::resolve(&wanted).map_err(|error| Failure::new(FailureKind::Usage, error))?;
        Ok(Self::Server { destination: Box::new(destination), directory: server.directory.clone() })
    }

    /// Returns the mounted directory: of a server as it was named, relative to the login directory without a leading
    /// slash.
    pub(super) fn directory(&self) -> &Path {
        match self {
            Self::Local(path) => path,
            Self::Server { directory, .. } => Path::new(directory),
        }
    }

    /// Returns the vaults that were unlocked there before.
    pub(super) fn remembered_vaults(&self) -> RememberedVaults {
        match self {
            Self::Local(path) => RememberedVaults::of_local(path),
            Self::Server { destination, directory } => RememberedVaults::of_server(destination, directory),
        }
    }

    /// Returns whether no person may be asked (`BatchMode`).
    pub(super) fn asks_nobody(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Server { destination, .. } => {
                destination.batch_mode || destination.jumps.iter().any(|jump| jump.batch_mode)
            }
        }
    }
}

/// Returns the vaults that were unlocked at a request's target.
///
/// # Errors
///
/// If the configuration does not give the target.
pub fn remembered_vaults_of(request: &LoginRequest) -> Result<RememberedVaults, Failure> {
    Ok(ResolvedTarget::of(request)?.remembered_vaults())
}

/// Returns whose remembered secrets a request's target needs.
///
/// # Errors
///
/// If the configuration does not give the target.
pub fn whose_secrets(request: &LoginRequest) -> Result<Whose, Failure> {
    let target = ResolvedTarget::of(request)?;
    let vaults = target.remembered_vaults();
    Ok(match target {
        ResolvedTarget::Local(_) => Whose::Local(vaults),
        ResolvedTarget::Server { destination, .. } => Whose::Server { destination, vaults },
    })
}

/// Connects, and logs in where that is needed. [`Connected::ready`] tells whether the directory exists.
pub(super) async fn connect(
    target: &ResolvedTarget,
    request: &LoginRequest,
    people: Arc<dyn People>,
    kept: &Arc<KeptSecrets>,
) -> Result<Connected, Failure> {
    let (destination, directory) = match target {
        ResolvedTarget::Local(path) => {
            let failed = |error| Failure::new(FailureKind::Other, format!("{}: {error}", path.display()));
            let local = LocalRemote::open(path).map_err(failed)?;
            return Ok(Connected { remote: Arc::new(local), connection: None });
        }
        ResolvedTarget::Server { destination, directory } => (Destination::clone(destination), directory),
    };
    let held = (!request.settings.forget_key).then(HeldKeys::default);
    let ledger = CodeLedger::of_user().map_err(|error| Failure::new(FailureKind::Other, error))?;
    let asker = Arc::new(Asker::new(people, &request.settings, Arc::clone(kept), ledger));
    let login = Arc::new(Login { destination, asker, held });
    let session = login.log_in().await.map_err(|error| login_failure(&error))?;
    let remote = SftpRemote::open(session, directory.as_bytes(), login, request.settings.patience()).await;
    let remote = Arc::new(remote.map_err(|error| not_open(request, &error))?);
    let connection = Arc::clone(&remote) as Arc<dyn ServerConnection>;
    Ok(Connected { remote, connection: Some(connection) })
}

fn not_open(request: &LoginRequest, error: &RemoteError) -> Failure {
    // A shell without SFTP behind it ends at once.
    let hint = match error {
        RemoteError::Disconnected(_) => "; is SFTP enabled there for this user?",
        _ => "",
    };
    Failure::new(FailureKind::Other, format!("{}: {error}{hint}", request.target))
}

/// The connected target of a mount.
pub(super) struct Connected {
    pub(super) remote: Arc<dyn Remote>,
    /// `None` where no connection is needed: for a directory of this machine.
    pub(super) connection: Option<Arc<dyn ServerConnection>>,
}

impl Connected {
    /// Waits until the requested directory is known to exist. Reads begun meanwhile save a round trip.
    pub(super) async fn ready(&self, request: &LoginRequest) -> Result<(), Failure> {
        match &self.connection {
            None => Ok(()),
            Some(connection) => connection.ready().await.map_err(|error| not_open(request, &error)),
        }
    }
}

#[async_trait]
impl ServerConnection for SftpRemote {
    async fn ready(&self) -> Result<(), RemoteError> {
        self.ready().await
    }

    fn reachability(&self) -> watch::Receiver<Reachability> {
        self.reachability()
    }

    fn hurry(&self) {
        self.hurry();
    }

    fn doubt(&self, patience: Duration) {
        self.doubt(patience);
    }
}

/// The login of this mount, repeated when the connection is lost.
struct Login {
    destination: Destination,
    asker: Arc<Asker>,
    /// `None` if each login is to ask for the passphrase.
    held: Option<HeldKeys>,
}

impl Login {
    async fn log_in(&self) -> Result<Session, ConnectError> {
        self.asker.begin_login();
        let interaction = Arc::clone(&self.asker) as Arc<dyn Interaction>;
        let session = ssh::connect(&self.destination, &interaction, self.held.as_ref()).await;
        if let Err(ConnectError::Refused { .. }) = &session {
            self.asker.refused().await;
        }
        session
    }
}

#[async_trait]
impl Connector for Login {
    async fn connect(&self) -> Result<Session, ConnectFailure> {
        self.log_in().await.map_err(|error| {
            let why = error.to_string();
            match error {
                ConnectError::Refused { .. } | ConnectError::Cancelled { .. } => ConnectFailure::Refused(why),
                // Nothing secret is sent before the key is verified, so another try costs nothing: a hotel's portal
                // goes away. A person who rejected the key is not asked again.
                ConnectError::HostKey { problem: HostKeyProblem::NotConfirmed { .. }, .. } => {
                    ConnectFailure::Refused(why)
                }
                // Either the person was too slow, or the road is gone: the person is not asked again without their
                // request.
                ConnectError::CutOff { .. } if self.asker.needed() == LoginAllowance::OfPerson => {
                    ConnectFailure::Refused(why)
                }
                ConnectError::CutOff { .. } => ConnectFailure::CutOff(why),
                ConnectError::HostKey { .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::Protocol { .. } => ConnectFailure::Unreachable(why),
            }
        })
    }

    fn allowance(&self) -> LoginAllowance {
        self.asker.needed()
    }
}

fn login_failure(error: &ConnectError) -> Failure {
    let kind = match error {
        // The peer there is not an SSH server that Scaup can talk to.
        ConnectError::Unreachable { .. } | ConnectError::Protocol { .. } => FailureKind::Unreachable,
        ConnectError::HostKey { .. } => FailureKind::HostKey,
        ConnectError::Refused { .. } | ConnectError::Cancelled { .. } | ConnectError::CutOff { .. } => {
            FailureKind::Login
        }
    };
    Failure::new(kind, error)
}

/// Asks and tells by functions of this process: for commands that work without a daemon.
struct Here {
    ask: fn(&str, bool) -> Result<Zeroizing<String>, String>,
    tell: fn(&str),
    directory: PathBuf,
    batch_mode: bool,
}

#[async_trait]
impl People for Here {
    async fn by_command(&self, command: &str, text: &str) -> Result<Zeroizing<String>, String> {
        let (command, directory, text) = (command.to_owned(), self.directory.clone(), text.to_owned());
        let run = move || {
            let command =
                AnswerCommand { command: &command, directory: &directory, prompt: &text, vault: None };
            command.run_at_terminal()
        };
        tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn by_person(&self, question: UserQuestion) -> Result<Zeroizing<String>, String> {
        if self.batch_mode {
            return Err(BATCH_MODE.to_owned());
        }
        let ask = self.ask;
        let asked = tokio::task::spawn_blocking(move || ask(&question.text, question.echo)).await;
        asked.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn is_attended(&self) -> bool {
        !self.batch_mode
    }

    fn tell(&self, text: String) {
        (self.tell)(&text);
    }

    async fn pause(&self, _why: String, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Connects for a command that works without a daemon, asking by `ask` and telling by `tell` in this process. Without
/// `remember`, the keyring is left alone: neither read nor changed.
///
/// # Errors
///
/// As for mounting.
pub async fn connect_here(
    request: &LoginRequest,
    ask: fn(&str, bool) -> Result<Zeroizing<String>, String>,
    tell: fn(&str),
    remember: Option<Remember>,
) -> Result<Arc<dyn Remote>, Failure> {
    let target = ResolvedTarget::of(request)?;
    let here = Here { ask, tell, directory: request.directory.clone(), batch_mode: target.asks_nobody() };
    let (here, kept) = (Arc::new(here), Arc::new(KeptSecrets::new(remember)));
    let connected = connect(&target, request, Arc::clone(&here) as Arc<dyn People>, &kept).await?;
    connected.ready(request).await?;
    kept.offer(&*here).await;
    Ok(connected.remote)
}

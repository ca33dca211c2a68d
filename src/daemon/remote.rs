//! From a request to the server, or to the directory of this machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{
    self, Cancelled, ConnectError, Credential, Destination, HeldKeys, Interaction, Progress, Question,
    Session,
};
use zeroize::Zeroizing;

use super::answers::{AnswerCommand, BATCH_MODE};
use super::protocol::{Failure, FailureKind, MountRequest};
use super::remembered::Memory;
use crate::config::ssh_config;
use crate::config::target::Target;
use crate::remote::local::LocalRemote;
use crate::remote::sftp::{ConnectFailure, Connector, SftpRemote};
use crate::remote::{Remote, RemoteError};

/// Where a request leads, by the user's configuration.
pub(super) enum Place {
    /// A directory of this machine.
    Local(PathBuf),
    /// A directory of a server.
    Server { destination: Box<Destination>, directory: String },
}

impl Place {
    pub(super) fn of(request: &MountRequest) -> Result<Self, Failure> {
        let server = match &request.target {
            Target::Local(path) => return Ok(Self::Local(path.clone())),
            Target::Server(server) => server,
        };
        let wanted = ssh_config::Wanted {
            host: server.host.clone(),
            user: server.user.clone(),
            port: server.port,
            identity: request.identity.clone(),
            config_file: request.ssh_config.clone(),
            options: request.options.ssh.clone(),
            directory: request.directory.clone(),
        };
        let destination =
            ssh_config::resolve(&wanted).map_err(|error| Failure::new(FailureKind::Usage, error))?;
        Ok(Self::Server { destination: Box::new(destination), directory: server.directory.clone() })
    }

    /// The vaults that were unlocked there before.
    pub(super) fn memory(&self) -> Memory {
        match self {
            Self::Local(path) => Memory::of_local(path),
            Self::Server { destination, directory } => Memory::of_server(destination, directory),
        }
    }

    /// Whether nobody is to be asked anything (`BatchMode`).
    pub(super) fn asks_nobody(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Server { destination, .. } => {
                destination.batch_mode || destination.jumps.iter().any(|jump| jump.batch_mode)
            }
        }
    }
}

/// Connects, and logs in where that is needed. Whether the directory is there, [`Connected::ready`] tells.
pub(super) async fn connect(
    place: &Place,
    request: &MountRequest,
    interaction: Arc<dyn Interaction>,
) -> Result<Connected, Failure> {
    let (destination, directory) = match place {
        Place::Local(path) => {
            let failed = |error| Failure::new(FailureKind::Other, format!("{}: {error}", path.display()));
            return LocalRemote::open(path).map(|local| Connected::Local(Arc::new(local))).map_err(failed);
        }
        Place::Server { destination, directory } => (Destination::clone(destination), directory),
    };
    let held = (!request.forget_key).then(HeldKeys::default);
    let login = Arc::new(Login { destination, interaction, held });
    let session = login.log_in().await.map_err(|error| login_failure(&error))?;
    let timeout = Duration::from_secs(request.timeout);
    let remote = SftpRemote::open(session, directory.as_bytes(), login, timeout).await;
    remote.map(|remote| Connected::Server(Arc::new(remote))).map_err(|error| not_open(request, &error))
}

fn not_open(request: &MountRequest, error: &RemoteError) -> Failure {
    // A shell without SFTP behind it ends at once.
    let hint = match error {
        RemoteError::Disconnected(_) => "; is SFTP switched on there for this user?",
        _ => "",
    };
    Failure::new(FailureKind::Other, format!("{}: {error}{hint}", request.target))
}

/// What is mounted.
pub(super) enum Connected {
    /// A directory of this machine.
    Local(Arc<LocalRemote>),
    /// A server, whose connection may be lost and made anew.
    Server(Arc<SftpRemote>),
}

impl Connected {
    pub(super) fn remote(&self) -> Arc<dyn Remote> {
        match self {
            Self::Local(local) => Arc::clone(local) as Arc<dyn Remote>,
            Self::Server(server) => Arc::clone(server) as Arc<dyn Remote>,
        }
    }

    /// Waits until it is known that the requested directory is there. What is read meanwhile is read a round trip sooner.
    pub(super) async fn ready(&self, request: &MountRequest) -> Result<(), Failure> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Server(server) => server.ready().await.map_err(|error| not_open(request, &error)),
        }
    }
}

/// The login of this mount, to be made again when the connection is lost.
struct Login {
    destination: Destination,
    interaction: Arc<dyn Interaction>,
    /// `None` if each login is to ask for the passphrase.
    held: Option<HeldKeys>,
}

impl Login {
    async fn log_in(&self) -> Result<Session, ConnectError> {
        ssh::connect(&self.destination, &self.interaction, self.held.as_ref()).await
    }
}

#[async_trait]
impl Connector for Login {
    async fn connect(&self) -> Result<Session, ConnectFailure> {
        self.log_in().await.map_err(|error| match error {
            ConnectError::Refused { .. } | ConnectError::Cancelled { .. } | ConnectError::HostKey { .. } => {
                ConnectFailure::Refused(error.to_string())
            }
            ConnectError::Unreachable { .. } | ConnectError::Protocol { .. } => {
                ConnectFailure::Unreachable(error.to_string())
            }
        })
    }
}

fn login_failure(error: &ConnectError) -> Failure {
    let kind = match error {
        // What answers there is no SSH server that could be talked with.
        ConnectError::Unreachable { .. } | ConnectError::Protocol { .. } => FailureKind::Unreachable,
        ConnectError::HostKey { .. } => FailureKind::HostKey,
        ConnectError::Refused { .. } | ConnectError::Cancelled { .. } => FailureKind::Login,
    };
    Failure::new(kind, error)
}

/// Asks and tells by functions of this process: for commands that work without a daemon.
struct Here {
    ask: fn(&str, bool) -> Result<Zeroizing<String>, String>,
    tell: fn(&str),
    directory: PathBuf,
    passphrase_command: Option<String>,
    otp_command: Option<String>,
    batch_mode: bool,
}

#[async_trait]
impl Interaction for Here {
    async fn ask(&self, question: Question) -> Result<Zeroizing<String>, Cancelled> {
        let (ask, text) = (self.ask, question.text());
        let command = match question.credential() {
            Some(Credential::Passphrase) => self.passphrase_command.as_deref(),
            Some(Credential::Code) => self.otp_command.as_deref(),
            _ => None,
        };
        if let Some(command) = command {
            let command = AnswerCommand { command, directory: &self.directory, prompt: &text, vault: None };
            return command.run_at_terminal().await.map_err(Cancelled);
        }
        if self.batch_mode {
            return Err(Cancelled(BATCH_MODE.to_owned()));
        }
        let echo = matches!(question, Question::UnknownHost { .. } | Question::Prompt { echo: true, .. });
        let asked = tokio::task::spawn_blocking(move || ask(&text, echo)).await;
        asked.unwrap_or_else(|error| Err(error.to_string())).map_err(Cancelled)
    }

    fn progress(&self, progress: Progress) {
        (self.tell)(&progress.to_string());
    }
}

/// Connects for a command that works without a daemon, asking by `ask` and telling by `tell` in this process.
///
/// # Errors
///
/// As for mounting.
pub async fn connect_here(
    request: &MountRequest,
    ask: fn(&str, bool) -> Result<Zeroizing<String>, String>,
    tell: fn(&str),
) -> Result<Arc<dyn Remote>, Failure> {
    let place = Place::of(request)?;
    let here = Here {
        ask,
        tell,
        directory: request.directory.clone(),
        passphrase_command: request.passphrase_command.clone(),
        otp_command: request.otp_command.clone(),
        batch_mode: place.asks_nobody(),
    };
    let connected = connect(&place, request, Arc::new(here)).await?;
    connected.ready(request).await?;
    Ok(connected.remote())
}

//! From a request to the server, or to the directory of this machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{self, ConnectError, Destination, HeldKeys, HostKeyProblem, Interaction, Session};
use zeroize::Zeroizing;

use super::answers::{AnswerCommand, BATCH_MODE};
use super::asking::{Asker, People};
use super::codes::CodeLedger;
use super::protocol::{Failure, FailureKind, MountRequest};
use super::remembered::Memory;
use crate::config::ssh_config;
use crate::config::target::Target;
use crate::remote::local::LocalRemote;
use crate::remote::sftp::{Allowance, ConnectFailure, Connector, SftpRemote};
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
            otp_for: request.options.otp_for.clone(),
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

/// The vaults that were unlocked where a request leads.
///
/// # Errors
///
/// If the configuration does not tell where that is.
pub fn memory_of(request: &MountRequest) -> Result<Memory, Failure> {
    Ok(Place::of(request)?.memory())
}

/// Connects, and logs in where that is needed. Whether the directory is there, [`Connected::ready`] tells.
pub(super) async fn connect(
    place: &Place,
    request: &MountRequest,
    people: Arc<dyn People>,
) -> Result<Connected, Failure> {
    let (destination, directory) = match place {
        Place::Local(path) => {
            let failed = |error| Failure::new(FailureKind::Other, format!("{}: {error}", path.display()));
            return LocalRemote::open(path).map(|local| Connected::Local(Arc::new(local))).map_err(failed);
        }
        Place::Server { destination, directory } => (Destination::clone(destination), directory),
    };
    let held = (!request.forget_key).then(HeldKeys::default);
    let ledger = CodeLedger::of_user().map_err(|error| Failure::new(FailureKind::Other, error))?;
    let asker = Arc::new(Asker::new(people, request, ledger));
    let login = Arc::new(Login { destination, asker, held });
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
    asker: Arc<Asker>,
    /// `None` if each login is to ask for the passphrase.
    held: Option<HeldKeys>,
}

impl Login {
    async fn log_in(&self) -> Result<Session, ConnectError> {
        self.asker.begin_login();
        let interaction = Arc::clone(&self.asker) as Arc<dyn Interaction>;
        ssh::connect(&self.destination, &interaction, self.held.as_ref()).await
    }
}

#[async_trait]
impl Connector for Login {
    async fn connect(&self) -> Result<Session, ConnectFailure> {
        self.log_in().await.map_err(|error| {
            let why = error.to_string();
            match error {
                ConnectError::Refused { .. } | ConnectError::Cancelled { .. } => ConnectFailure::Refused(why),
                // Nothing secret is sent before the key is right, so looking again costs nothing: a hotel's portal goes away. Who said that
                // the key is wrong is not asked again.
                ConnectError::HostKey { problem: HostKeyProblem::NotConfirmed { .. }, .. } => {
                    ConnectFailure::Refused(why)
                }
                // Whether a person was too slow, or the road is gone: they are not asked again unless they want to be.
                ConnectError::CutOff { .. } if self.asker.needed() == Allowance::OfPerson => {
                    ConnectFailure::Refused(why)
                }
                ConnectError::CutOff { .. } => ConnectFailure::CutOff(why),
                ConnectError::HostKey { .. }
                | ConnectError::Unreachable { .. }
                | ConnectError::Protocol { .. } => ConnectFailure::Unreachable(why),
            }
        })
    }

    fn allowance(&self) -> Allowance {
        self.asker.needed()
    }
}

fn login_failure(error: &ConnectError) -> Failure {
    let kind = match error {
        // What answers there is no SSH server that could be talked with.
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

    async fn by_person(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String> {
        if self.batch_mode {
            return Err(BATCH_MODE.to_owned());
        }
        let ask = self.ask;
        let asked = tokio::task::spawn_blocking(move || ask(&text, echo)).await;
        asked.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn tell(&self, text: String) {
        (self.tell)(&text);
    }

    async fn pause(&self, _why: String, time: Duration) {
        tokio::time::sleep(time).await;
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
    let here = Here { ask, tell, directory: request.directory.clone(), batch_mode: place.asks_nobody() };
    let connected = connect(&place, request, Arc::new(here)).await?;
    connected.ready(request).await?;
    Ok(connected.remote())
}

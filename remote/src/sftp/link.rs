//! The current connection, and reconnecting when it is lost.
//!
//! One task watches the connection. When it is lost, the task first tries new lanes on the same login (a server's SFTP
//! program may have died), then logs in again, with growing pauses, until it succeeds or is told that nobody answers.
//! Operations wait meanwhile. A login may cost a one-time code, so a successful login is kept when a later step fails:
//! the directory or SFTP itself may come later. After an event that may have changed the road, the server has to show
//! that it is there, or, if the connection was lost, is tried again at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use scaup_sftp::client::{LaneCounters, SftpError};
use scaup_sftp::ssh::Session;
use scaup_sftp::text::Line;
use tokio::sync::{Notify, watch};

use super::connection::{Connection, MountedDirectory, PastTraffic, SSH_ANSWERS_WITHIN};
use super::logins::{InVain, LoginAllowance};
use crate::{Reachability, Refusals, RemoteError};

/// Pauses between attempts to connect: the first attempt comes at once, then each pause is twice as long as the one
/// before.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// The longest pause after logins that broke off after a code had been given for them.
const PAUSE_MAX_FOR_CODES: Duration = Duration::from_secs(300);
/// How long new lanes on the same login may take before it is given up.
const NEW_LANES_MAX: Duration = Duration::from_secs(5);

/// Why there is no connection, and whether automatic retries make sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The server does not answer, or another one does: that may change.
    Unreachable(String),
    /// The connection broke off during the login, after a command had given a code for it.
    CutOff(String),
    /// A person has to act first: nobody answered a question, or the server refused.
    Refused(String),
}

impl std::fmt::Display for ConnectFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Unreachable(why) | Self::CutOff(why) | Self::Refused(why)) = self;
        formatter.write_str(why)
    }
}

/// Logs in, as often as necessary.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Establishes a new connection.
    async fn connect(&self) -> Result<Session, ConnectFailure>;
    /// Returns how many logins of the last one's kind may lead to no connection.
    fn allowance(&self) -> LoginAllowance;
}

#[derive(Clone)]
enum State {
    Up(Arc<Connection>),
    Down,
}

/// The link to the server, over the current connection.
pub(super) struct Link {
    connection: watch::Sender<State>,
    reachability: watch::Sender<Reachability>,
    /// Requests an attempt right now, even if the last one was refused.
    hurry: Notify,
    /// Tells of an event that may have changed the road, and how long the server may take to show that it is there.
    doubts: watch::Sender<Duration>,
    /// The outcome of the first connection, once it is known.
    ready: watch::Sender<Option<Result<(), RemoteError>>>,
    timeout: Duration,
    past: PastTraffic,
    reconnects: AtomicU64,
    pub(super) refusals: Refusals,
}

impl Link {
    /// Takes over the first connection, and watches it for as long as the link is held, if it gets
    /// [ready](Self::ready).
    pub(super) fn start(
        first: Connection,
        session: Session,
        mounted: MountedDirectory,
        connector: Arc<dyn Connector>,
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            connection: watch::Sender::new(State::Up(Arc::new(first))),
            reachability: watch::Sender::new(Reachability::Connected),
            hurry: Notify::new(),
            doubts: watch::Sender::new(Duration::ZERO),
            ready: watch::Sender::new(None),
            timeout: mounted.timeout,
            past: PastTraffic::default(),
            reconnects: AtomicU64::new(0),
            refusals: Refusals::default(),
        });
        let (doubts, weak) = (link.doubts.subscribe(), Arc::downgrade(&link));
        let keeper = Keeper { link: weak, doubts, session, mounted, connector };
        tokio::spawn(keeper.keep());
        link
    }

    /// Waits until the server has greeted on the first connection, and has shown that the directory is a directory.
    pub(super) async fn ready(&self) -> Result<(), RemoteError> {
        match self.ready.subscribe().wait_for(Option::is_some).await.map(|ready| ready.clone()) {
            Ok(Some(ready)) => ready,
            Ok(None) | Err(_) => Err(ending()),
        }
    }

    /// Returns the connection, after waiting for one if there is none at the moment.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, RemoteError> {
        match self.present() {
            Some(connection) => Ok(connection),
            None => self.wait_for(|_| true).await,
        }
    }

    /// Returns the connection after that of `generation`, which was found lost.
    pub(super) async fn connection_after(&self, generation: u64) -> Result<Arc<Connection>, RemoteError> {
        self.wait_for(|connection| connection.generation > generation).await
    }

    async fn wait_for(
        &self,
        wanted: impl Fn(&Connection) -> bool + Send,
    ) -> Result<Arc<Connection>, RemoteError> {
        let mut changes = self.connection.subscribe();
        let up = changes.wait_for(|state| matches!(state, State::Up(connection) if wanted(connection)));
        match tokio::time::timeout(self.timeout, up).await {
            Ok(Ok(state)) => match &*state {
                State::Up(connection) => Ok(Arc::clone(connection)),
                State::Down => Err(RemoteError::Disconnected("the connection is lost".to_owned())),
            },
            Ok(Err(_)) => Err(ending()),
            Err(_) => Err(RemoteError::Timeout(self.timeout)),
        }
    }

    /// Returns how long an operation waits for a connection.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the connection, if there is one.
    pub(super) fn present(&self) -> Option<Arc<Connection>> {
        match &*self.connection.borrow() {
            State::Up(connection) => Some(Arc::clone(connection)),
            State::Down => None,
        }
    }

    pub(super) fn reachability(&self) -> watch::Receiver<Reachability> {
        self.reachability.subscribe()
    }

    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    pub(super) fn doubt(&self, patience: Duration) {
        self.doubts.send_replace(patience);
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Returns the traffic of this and all former connections.
    pub(super) fn counters(&self) -> LaneCounters {
        self.past.with(self.present().map(|connection| connection.counters()).unwrap_or_default())
    }
}

fn ending() -> RemoteError {
    RemoteError::Disconnected("the mount is ending".to_owned())
}

/// The task that keeps a link up.
struct Keeper {
    link: Weak<Link>,
    doubts: watch::Receiver<Duration>,
    session: Session,
    mounted: MountedDirectory,
    connector: Arc<dyn Connector>,
}

impl Keeper {
    async fn keep(mut self) {
        if !self.begin().await {
            return;
        }
        loop {
            let Some(connection) = self.present() else { return };
            let generation = connection.generation;
            let Some(why) = self.watch(&connection).await else { return };
            let Some(link) = self.link.upgrade() else { return };
            tracing::warn!(%why, "the connection is lost");
            link.past.add(connection.counters());
            drop(connection);
            link.connection.send_replace(State::Down);
            link.reachability.send_replace(Reachability::Reconnecting(why.to_string()));
            drop(link);
            let Some(next) = self.reconnect(generation + 1).await else { return };
            let Some(link) = self.link.upgrade() else { return };
            link.reconnects.fetch_add(1, Ordering::Relaxed);
            link.connection.send_replace(State::Up(Arc::new(next)));
            link.reachability.send_replace(Reachability::Connected);
            tracing::info!("connected again");
        }
    }

    fn present(&self) -> Option<Arc<Connection>> {
        self.link.upgrade().and_then(|link| link.present())
    }

    /// Waits until the first connection is ready, publishes the outcome, and returns whether it is ready. A connection
    /// that never was is not re-established.
    async fn begin(&self) -> bool {
        let Some(connection) = self.present() else { return false };
        let ready = connection.ready().await;
        let is_ready = ready.is_ok();
        if let Some(link) = self.link.upgrade() {
            link.ready.send_replace(Some(ready));
        }
        is_ready
    }

    /// Returns a connection once it is ready.
    async fn connect_on(
        &self,
        session: Session,
        timeout: Duration,
        generation: u64,
    ) -> Result<Connection, RemoteError> {
        let connection =
            Connection::open(session, MountedDirectory { timeout, ..self.mounted.clone() }, generation)
                .await?;
        connection.ready().await?;
        Ok(connection)
    }

    /// Waits until the connection is lost, and returns the reason; `None` if the link is no longer used. A connection
    /// in doubt that shows no sign of life is closed.
    async fn watch(&mut self, connection: &Connection) -> Option<SftpError> {
        let mut doubt = None;
        loop {
            let alive = async {
                match doubt {
                    Some(patience) => connection.is_alive(patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                why = connection.lost() => return Some(why),
                changed = self.doubts.changed() => {
                    changed.ok()?;
                    doubt = Some(*self.doubts.borrow_and_update());
                }
                alive = alive => {
                    doubt = None;
                    if !alive {
                        tracing::info!("the server does not reply to keep-alive messages");
                        self.session.abort();
                    }
                }
            }
        }
    }

    /// Tries until it succeeds; `None` if the link is no longer used.
    async fn reconnect(&mut self, generation: u64) -> Option<Connection> {
        let (mut pause, mut lanes_within) = (PAUSE_FIRST, NEW_LANES_MAX);
        let mut in_vain = InVain::default();
        let mut is_hurried = false;
        loop {
            let began = Instant::now();
            let error = match self.open_on_login(lanes_within, generation).await {
                Ok(connection) => return Some(connection),
                Err(error) => error,
            };
            let login_in = match is_hurried {
                true => Duration::ZERO,
                false => in_vain.next_in(self.connector.allowance()),
            };
            let failure = if self.is_to_be_kept(error.as_ref(), login_in).await {
                ConnectFailure::Unreachable(self.behind_login(error.as_ref(), Duration::ZERO))
            } else {
                // No half-finished attempt stays behind.
                self.session.abort();
                if login_in.is_zero() {
                    match self.connector.connect().await {
                        Ok(session) => {
                            self.session = session;
                            lanes_within = self.mounted.timeout;
                            in_vain.record();
                            match self.open_on_login(lanes_within, generation).await {
                                Ok(connection) => return Some(connection),
                                Err(error) => ConnectFailure::Unreachable(
                                    self.behind_login(error.as_ref(), Duration::ZERO),
                                ),
                            }
                        }
                        Err(failure) => failure,
                    }
                } else {
                    ConnectFailure::Unreachable(self.behind_login(error.as_ref(), login_in))
                }
            };
            tracing::info!(%failure, "no connection yet");
            let link = self.link.upgrade()?;
            let (may_try, pause_max) = match failure {
                ConnectFailure::Unreachable(_) => (true, PAUSE_MAX),
                ConnectFailure::CutOff(_) => (true, PAUSE_MAX_FOR_CODES),
                ConnectFailure::Refused(_) => (false, PAUSE_MAX),
            };
            link.reachability.send_replace(match failure {
                ConnectFailure::Unreachable(why) | ConnectFailure::CutOff(why) => {
                    Reachability::Reconnecting(why)
                }
                ConnectFailure::Refused(why) => Reachability::Waiting(why),
            });
            let rest = pause.saturating_sub(began.elapsed());
            is_hurried = false;
            tokio::select! {
                () = tokio::time::sleep(rest), if may_try => pause = (pause * 2).min(pause_max),
                // A refused login is not repeated because the network changed.
                changed = self.doubts.changed(), if may_try => {
                    changed.ok()?;
                    pause = PAUSE_FIRST;
                }
                () = link.hurry.notified() => {
                    pause = PAUSE_FIRST;
                    is_hurried = true;
                }
            }
        }
    }

    /// Opens a connection on the existing login within `within`; the error is `None` if that login is gone.
    async fn open_on_login(
        &self,
        within: Duration,
        generation: u64,
    ) -> Result<Connection, Option<RemoteError>> {
        if self.session.is_closed() {
            return Err(None);
        }
        let opening = self.connect_on(self.session.clone(), within, generation);
        match tokio::time::timeout(within, opening).await {
            Ok(opened) => opened.map_err(Some),
            Err(_) => Err(Some(RemoteError::Timeout(within))),
        }
    }

    /// Returns whether the login is kept although there is no connection on it: it lives, and another login would meet
    /// the same problem, or is not allowed for a while yet.
    async fn is_to_be_kept(&self, error: Option<&RemoteError>, login_in: Duration) -> bool {
        let is_missing = match error {
            None => return false,
            Some(error) => matches!(error, RemoteError::NotFound | RemoteError::NotADirectory),
        };
        (is_missing || !login_in.is_zero()) && self.session.is_answering(SSH_ANSWERS_WITHIN).await
    }

    /// Describes what is missing behind a successful login.
    fn behind_login(&self, error: Option<&RemoteError>, login_in: Duration) -> String {
        let directory = match self.mounted.directory.as_ref() {
            [] => "the login directory".to_owned(),
            directory => format!("the directory {}", Line::of(&String::from_utf8_lossy(directory))),
        };
        let what = match error {
            None => {
                return format!(
                    "the login succeeded, but the connection ended right after it; the next login, which may need a code, starts in {} s",
                    login_in.as_secs()
                );
            }
            Some(RemoteError::NotFound) => format!("{directory} is missing on the server"),
            Some(RemoteError::NotADirectory) => format!("{directory} is not a directory on the server"),
            Some(error) => error.to_string(),
        };
        format!("the login succeeded, but {what}")
    }
}

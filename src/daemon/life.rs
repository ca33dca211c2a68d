//! The life of a daemon: from the first request to the last saved file.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use scaup_fuse::requests::Requests;
use scaup_fuse::{Automount, Mount, MountError};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify, RwLock};
use tokio::time::Instant;

use super::connection::{self, ServerConnection};
use super::front_end::FrontEnd;
use super::kept_secrets::KeptSecrets;
use super::lock_causes::LockCauses;
use super::options::{drive_options, mount_options};
use super::people::People;
use super::prompts::Prompts;
use super::protocol::{
    Event, Failure, FailureKind, MOUNT_REQUEST_LEN_MAX, MountRequest, MountState, Request,
};
use super::remote::{ResolvedTarget, connect};
use super::signals::Signals;
use super::socket::{self, SocketFile};
use super::status::Activity;
use super::vaults::{self, Unlocking};
use super::{last_saving, log, mountpoint};
use crate::config::paths;
use crate::drive::Drive;

/// How long front ends may take to read the last reply.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The same with `unmount --force`, which ends within seconds in any case.
const LAST_WORDS_FORCED: Duration = Duration::from_secs(1);

/// Runs a daemon, whose front end is at standard input. Returns the exit code.
///
/// # Errors
///
/// If the process can't be set up at all.
pub fn run() -> io::Result<u8> {
    // The daemon must not keep the directory busy that it was started in.
    std::env::set_current_dir("/")?;
    let stream = io::stdin().as_fd().try_clone_to_owned()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(async {
        let stream = std::os::unix::net::UnixStream::from(stream);
        stream.set_nonblocking(true)?;
        Ok::<u8, io::Error>(serve(UnixStream::from_std(stream)?).await)
    })?;
    // Tasks that still run have nothing left to do.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn serve(stream: UnixStream) -> u8 {
    let (front_end, mut requests) = FrontEnd::start(stream, MOUNT_REQUEST_LEN_MAX);
    let Some(Request::Mount(request)) = requests.recv().await else {
        let _ = front_end.flush().await;
        return 1;
    };
    log::set_names(request.settings.log_names);
    log::keep_within_bound(&request.name);
    // This happens while the process is still in the group that it was started in: afterwards it can't reach a mount
    // point at which an automount waits.
    let automount = Automount::at(&request.mountpoint);
    // The daemon gets a session of its own, so that neither the terminal's Ctrl-C nor its end reaches it.
    let _ = rustix::process::setsid();
    match live(*request, automount, &front_end).await {
        Ok(code) => code,
        Err(failure) => {
            front_end.tell(Event::Failed(failure));
            let _ = front_end.flush().await;
            1
        }
    }
}

/// Runs a mount from connecting to the last saved file; returns the exit code.
async fn live(
    mut request: MountRequest,
    automount: Option<Automount>,
    front_end: &FrontEnd,
) -> Result<u8, Failure> {
    let other = |error: io::Error| Failure::new(FailureKind::Other, error);
    let mut signals = Signals::new().map_err(other)?;
    let target = ResolvedTarget::of(&request.login)?;
    request.interactive &= !target.asks_nobody();
    let (listener, socket) = listen(&request.name)?;
    let activity = Activity::new();
    let daemon = Arc::new(Daemon {
        prompts: Prompts::new(front_end.clone(), &request, target.asks_nobody(), Arc::clone(&activity)),
        kept: Arc::new(KeptSecrets::new(Some(request.login.settings.remember()))),
        request,
        target,
        activity,
        lock_causes: LockCauses::default(),
        standing: OnceLock::new(),
        given_up: Notify::new(),
        conversations: RwLock::new(()),
        began: SystemTime::now(),
    });
    let front_ends = tokio::spawn(Arc::clone(&daemon).receive(listener));
    let cancelled = || Failure::new(FailureKind::Other, "cancelled before it was mounted");
    // If the front end leaves meanwhile, nothing stays.
    let mounted = tokio::select! {
        mounted = daemon.mount(automount, front_end) => mounted,
        () = front_end.gone() => Err(cancelled()),
        () = daemon.given_up.notified() => Err(cancelled()),
        () = signals.asked() => Err(cancelled()),
    };
    let code = match mounted {
        Ok(standing) => {
            let standing = daemon.standing.get_or_init(|| standing);
            daemon.activity.set(MountState::Connected, None);
            let (name, mountpoint) = (daemon.request.name.clone(), daemon.request.mountpoint.clone());
            // The mount works already, and may end, while a person is asked.
            let telling = async {
                let weaknesses = standing.drive.weaknesses().into_iter();
                for weakness in weaknesses.filter(|weakness| weakness.endangers_data()) {
                    front_end.tell(Event::Progress(weakness.sentence().to_owned()));
                }
                daemon.kept.offer(&daemon.prompts).await;
                standing.login_prompts.end_mounting();
                front_end.tell(Event::Mounted { name, mountpoint });
                std::future::pending::<Infallible>().await
            };
            tokio::select! {
                code = daemon.until_the_end(standing, front_end, &mut signals) => Ok(code),
                never = telling => match never {},
                // Boxed: it is by far the largest part of this.
                never = Box::pin(daemon.accompany(standing)) => match never {},
            }
        }
        Err(failure) => Err(failure),
    };
    // The name is free again before any front end is told of the end.
    front_ends.abort();
    drop(socket);
    let is_forced = daemon.standing.get().is_some_and(|it| it.given_up.load(Ordering::Acquire));
    let patience = if is_forced { LAST_WORDS_FORCED } else { LAST_WORDS };
    let _ = tokio::time::timeout(patience, daemon.conversations.write()).await;
    code
}

/// One mount, from the first request on.
pub(super) struct Daemon {
    pub(super) request: MountRequest,
    pub(super) target: ResolvedTarget,
    pub(super) prompts: Prompts,
    /// What the user wants remembered.
    pub(super) kept: Arc<KeptSecrets>,
    pub(super) activity: Arc<Activity>,
    /// What locked vaults by itself.
    pub(super) lock_causes: LockCauses,
    pub(super) standing: OnceLock<Standing>,
    /// Notified when a front end gives the mount up.
    pub(super) given_up: Notify,
    /// Held for reading while a front end is being served.
    pub(super) conversations: RwLock<()>,
    /// When this process began to mount.
    pub(super) began: SystemTime,
}

/// The parts of a mount that is ready.
pub(super) struct Standing {
    pub(super) drive: Arc<Drive>,
    /// `None` where no connection is needed: for a directory of this machine.
    pub(super) connection: Option<Arc<dyn ServerConnection>>,
    /// What later logins ask with.
    pub(super) login_prompts: Arc<Prompts>,
    pub(super) mount: Mutex<Mount>,
    /// The kernel's requests so far, and those under way.
    pub(super) requests: Arc<Requests>,
    pub(super) made_mountpoint: bool,
    /// Whether the user gives up what is not saved (`unmount --force`).
    pub(super) given_up: AtomicBool,
}

fn fuse_failure(error: &MountError) -> Failure {
    Failure::new(FailureKind::Fuse, error)
}

fn listen(name: &str) -> Result<(UnixListener, SocketFile), Failure> {
    let failed = |error: io::Error| Failure::new(FailureKind::Other, format!("control socket: {error}"));
    let directory = paths::runtime().map_err(failed)?;
    socket::listen(directory, name).map_err(failed)?.map_err(|socket::IsMounted| {
        let text = format!("{name} is mounted already; `scaup status {name}` shows where");
        Failure::new(FailureKind::Other, text)
    })
}

/// Why a daemon ends.
enum End {
    /// The mount is gone already.
    Unmounted,
    /// A signal requests it, or the front end that it should end with is gone.
    Asked,
}

impl Daemon {
    /// Connects, unlocks, mounts.
    async fn mount(&self, automount: Option<Automount>, front_end: &FrontEnd) -> Result<Standing, Failure> {
        let request = &self.request;
        let login_prompts = Arc::new(self.prompts.for_logins(front_end.clone()));
        let (connected, password) = tokio::try_join!(
            connect(&self.target, &request.login, Arc::clone(&login_prompts) as Arc<dyn People>, &self.kept),
            async { Ok(vaults::first_secret(request, &self.prompts).await) }
        )?;
        let drive = Drive::new(Arc::clone(&connected.remote), drive_options(request));
        // Events during mounting are received as well.
        let (remembered, vault_events) = (self.target.remembered_vaults(), drive.vault_events());
        let expected = vaults::expect(&drive, request, &remembered)?;
        let unlocking = async {
            // No person is asked for the password of a vault in a directory that may not exist.
            if password.is_none() && !request.settings.vaults.is_empty() {
                connected.ready(&request.login).await?;
            }
            let prompts = &self.prompts;
            let unlocking =
                Unlocking { drive: &drive, remembered: &remembered, kept: &self.kept, prompts, front_end };
            let unlocked = unlocking.at_mount(request, password).await;
            // If the directory is missing, that is reported, and not the failure that follows from it.
            connected.ready(&request.login).await?;
            unlocked?;
            vaults::look_for_expected(&drive, request, &expected, &remembered, prompts, front_end).await
        };
        let looking = async {
            drive.look_at_root().await;
            Ok(())
        };
        // If the server turns out to have no SFTP, the other two would wait for another connection.
        tokio::try_join!(connected.ready(&request.login), unlocking, looking)?;
        let made_mountpoint = automount.is_none() && mountpoint::make(&request.mountpoint)?;
        let mounted = {
            let (drive, path) = (Arc::clone(&drive), request.mountpoint.clone());
            let runtime = tokio::runtime::Handle::current();
            let options = mount_options(request);
            let mount = move || scaup_fuse::mount(drive, &path, automount.as_ref(), &options, runtime);
            tokio::task::spawn_blocking(mount).await
        };
        let mount = match mounted {
            Ok(Ok(mount)) => mount,
            Ok(Err(error)) => {
                mountpoint::remove(&request.mountpoint, made_mountpoint);
                return Err(fuse_failure(&error));
            }
            Err(error) => return Err(Failure::new(FailureKind::Fuse, error)),
        };
        tokio::spawn(vaults::follow(vault_events, remembered, request.name.clone()));
        drive.set_mountpoint(request.mountpoint.clone());
        if let Some(invalidator) = mount.invalidator() {
            drive.set_invalidator(invalidator);
        }
        let connection = connected.connection;
        if let Some(connection) = &connection {
            tokio::spawn(connection::follow(
                connection.reachability(),
                Arc::clone(&self.activity),
                request.name.clone(),
            ));
        }
        Ok(Standing {
            drive,
            connection,
            login_prompts,
            requests: mount.requests(),
            mount: Mutex::new(mount),
            made_mountpoint,
            given_up: AtomicBool::new(false),
        })
    }

    /// Waits until the mount ends, or its end is requested; saves and unmounts. Returns the exit code.
    async fn until_the_end(&self, standing: &Standing, front_end: &FrontEnd, signals: &mut Signals) -> u8 {
        let unmounted = standing.mount.lock().await.ended();
        let end = tokio::select! {
            () = unmounted.wait() => End::Unmounted,
            () = signals.asked() => End::Asked,
            () = front_end.gone(), if self.request.foreground => End::Asked,
        };
        let _unmounting = self.activity.unmounts();
        standing.drive.begin_to_end();
        let deadline = Instant::now() + last_saving::LAST_TRIES;
        let save = async || {
            if standing.given_up.load(Ordering::Acquire) {
                standing.drive.unsaved()
            } else {
                last_saving::save_until(deadline, &standing.drive, front_end).await
            }
        };
        let (mut unsaved, insisted) = tokio::select! {
            unsaved = save() => (unsaved, false),
            () = signals.insisted() => (standing.drive.unsaved(), true),
        };
        if matches!(end, End::Asked) {
            if let Err(error) = standing.mount.lock().await.unmount(true) {
                tracing::error!(%error, "unmounting failed");
            }
            // Until then programs could write, and those that have a file open in it still can.
            unsaved = standing.drive.unsaved();
            if !insisted {
                tokio::select! {
                    left = save() => unsaved = left,
                    () = signals.insisted() => unsaved = standing.drive.unsaved(),
                }
            }
        }
        mountpoint::remove(&self.request.mountpoint, standing.made_mountpoint);
        // No program finds the vaults any more: previews can only come of what was read before.
        self.sweep(standing.drive.vaults().into_iter().map(|vault| vault.path)).await;
        if unsaved.files == 0 {
            standing.drive.forget_unfinished();
            return 0;
        }
        let lost =
            format!("lost: {}{}", last_saving::count_and_size(unsaved), last_saving::named(&standing.drive));
        front_end.tell(Event::Progress(lost));
        let _ = front_end.flush().await;
        tracing::error!(files = unsaved.files, bytes = unsaved.bytes, "content was lost");
        FailureKind::Unsaved.exit_code()
    }
}

//! The life of a daemon: from the first request to the last file saved.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use scaup_fuse::{Automount, Mount, MountError, MountOptions, UnmountError};
use scaup_sftp::text::visible;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, RwLock, watch};
use tokio::time::Instant;

use super::asking::People;
use super::front_ends::{Doing, Slot, Slots};
use super::link::{Link, NotHeard};
use super::prompts::Prompts;
use super::protocol::{
    Event, Failure, FailureKind, MOUNT_REQUEST_LEN_MAX, MountRequest, MountState, REQUEST_LEN_MAX, Request,
};
use super::remote::{Connected, Place, connect};
use super::socket::{self, SocketFile};
use super::status::Activity;
use super::users::users_of;
use super::{call, log, saving, travel, vaults};
use crate::config::paths;
use crate::drive::{Drive, DriveOptions};
use crate::remote::sftp::{Reachability, SftpRemote};

/// How long front ends may take to hear the last answer.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The same with `unmount --force`, which ends within seconds whatever waits.
const LAST_WORDS_FORCED: Duration = Duration::from_secs(1);

/// How long a front end may take to say what it wants.
const FIRST_WORDS: Duration = Duration::from_secs(10);

/// Signals that come within this time are one wish.
const ONE_WISH: Duration = Duration::from_millis(500);

/// Runs a daemon: its front end is at standard input. Answers the exit code.
///
/// # Errors
///
/// If the process can't be set up at all.
pub fn run() -> io::Result<u8> {
    // It must not keep the directory busy that it was started in.
    std::env::set_current_dir("/")?;
    let stream = io::stdin().as_fd().try_clone_to_owned()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(async {
        let stream = std::os::unix::net::UnixStream::from(stream);
        stream.set_nonblocking(true)?;
        Ok::<u8, io::Error>(serve(UnixStream::from_std(stream)?).await)
    })?;
    // What still runs has nothing left to do.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn serve(stream: UnixStream) -> u8 {
    let (link, mut requests) = Link::start(stream, MOUNT_REQUEST_LEN_MAX);
    let Some(Request::Mount(request)) = requests.recv().await else { return 1 };
    log::set_names(request.log_names);
    // While this process is in the group that it was started in: a mount point that an automount waits at is out of its reach afterwards.
    let automount = Automount::at(&request.mountpoint);
    // It has a session of its own, so that neither the terminal's Ctrl-C nor its end reach it.
    let _ = rustix::process::setsid();
    match live(*request, automount, &link).await {
        Ok(code) => code,
        Err(failure) => {
            link.tell(Event::Failed(failure));
            let _ = link.flush().await;
            1
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP: each asks for the end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// When the first SIGTERM or SIGINT came.
    asked: Option<Instant>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            asked: None,
        })
    }

    /// Waits until somebody asks for the end.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => self.asked = Some(Instant::now()),
            _ = self.interrupt.recv() => self.asked = Some(Instant::now()),
            _ = self.hangup.recv() => {}
        }
    }

    /// Waits until somebody insists on the end, whatever is lost: by a second SIGTERM or SIGINT. A terminal or session that is gone insists
    /// on nothing, and what comes together is one wish: systemd ends a session with SIGTERM and SIGHUP to all of it at once, and the front
    /// end passes its own on.
    async fn insisted(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if self.asked.get_or_insert_with(Instant::now).elapsed() >= ONE_WISH {
                return;
            }
        }
    }
}

/// From connecting to the last file saved; answers the exit code.
async fn live(mut request: MountRequest, automount: Option<Automount>, link: &Link) -> Result<u8, Failure> {
    let other = |error: io::Error| Failure::new(FailureKind::Other, error);
    let mut signals = Signals::new().map_err(other)?;
    let place = Place::of(&request)?;
    request.interactive &= !place.asks_nobody();
    let (listener, socket) = listen(&request.name)?;
    let activity = Activity::new();
    let daemon = Arc::new(Daemon {
        prompts: Prompts::new(link.clone(), &request, place.asks_nobody(), Arc::clone(&activity)),
        request,
        place,
        activity,
        standing: OnceLock::new(),
        given_up: Notify::new(),
        conversations: RwLock::new(()),
    });
    let front_ends = tokio::spawn(Arc::clone(&daemon).receive(listener));
    let cancelled = || Failure::new(FailureKind::Other, "given up before it was mounted");
    // The front end may leave meanwhile: then nothing stays.
    let mounted = tokio::select! {
        mounted = daemon.mount(automount, link) => mounted,
        () = link.gone() => Err(cancelled()),
        () = daemon.given_up.notified() => Err(cancelled()),
        () = signals.asked() => Err(cancelled()),
    };
    let code = match mounted {
        Ok(standing) => {
            let standing = daemon.standing.get_or_init(|| standing);
            daemon.activity.set(MountState::Connected, None);
            let (name, mountpoint) = (daemon.request.name.clone(), daemon.request.mountpoint.clone());
            link.tell(Event::Mounted { name, mountpoint });
            Ok(daemon.until_the_end(standing, link, &mut signals).await)
        }
        Err(failure) => Err(failure),
    };
    // The name is free again before any front end hears of the end.
    front_ends.abort();
    drop(socket);
    let is_forced = daemon.standing.get().is_some_and(|it| it.given_up.load(Ordering::Acquire));
    let patience = if is_forced { LAST_WORDS_FORCED } else { LAST_WORDS };
    let _ = tokio::time::timeout(patience, daemon.conversations.write()).await;
    code
}

/// One mount, from the first request on.
struct Daemon {
    request: MountRequest,
    place: Place,
    prompts: Prompts,
    activity: Arc<Activity>,
    standing: OnceLock<Standing>,
    /// A front end does not want it any more.
    given_up: Notify,
    /// Held for reading while a front end is being answered.
    conversations: RwLock<()>,
}

/// What there is once the mount stands.
struct Standing {
    drive: Arc<Drive>,
    /// `None` for a directory of this machine.
    server: Option<Server>,
    mount: Mutex<Mount>,
    made_mountpoint: bool,
    /// Whether the user gives up what is not saved (`unmount --force`).
    given_up: AtomicBool,
}

/// The server, and who is asked when it has to be logged in to once more.
struct Server {
    remote: Arc<SftpRemote>,
    prompts: Arc<Prompts>,
}

/// Has the status say when the connection is lost, and when it is back; where somebody has to do something, the desktop says so, too.
async fn follow(mut reachability: watch::Receiver<Reachability>, activity: Arc<Activity>, name: String) {
    while reachability.changed().await.is_ok() {
        let now = reachability.borrow_and_update().clone();
        let (state, reason) = match now {
            Reachability::Connected => (MountState::Connected, None),
            Reachability::Reconnecting(why) => (MountState::Reconnecting, Some(why)),
            Reachability::Waiting(why) => {
                tokio::spawn(call::to_log_in(name.clone(), reachability.clone()));
                let reason = format!("{why}; `scaup login {name}` asks again");
                (MountState::WaitingForAnswer, Some(reason))
            }
        };
        activity.set(state, reason);
    }
}

fn fuse_failure(error: &MountError) -> Failure {
    Failure::new(FailureKind::Fuse, error)
}

fn drive_options(request: &MountRequest) -> DriveOptions {
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let options = &request.options;
    let owner = (options.uid.unwrap_or(own.0), options.gid.unwrap_or(own.1));
    DriveOptions {
        read_only: request.read_only || options.read_only,
        vaults: !request.no_vaults,
        memory: request.memory,
        attr_timeout: Duration::from_secs(request.attr_timeout),
        owner: (!options.server_owners).then_some(owner),
        umask: options.umask.unwrap_or(0),
        others_in_vaults: options.allow_other.then(|| 0o077 & !options.umask.unwrap_or(0o077)),
        follow_outside: request.follow_outside,
        sync_on_close: request.sync_on_close,
        log_names: request.log_names,
        without: options.without.clone(),
    }
}

fn mount_options(request: &MountRequest) -> MountOptions {
    let options = &request.options;
    MountOptions {
        // It stands in lines of the system's own, of `mount` and `df`.
        fsname: visible(&options.fsname.clone().unwrap_or_else(|| request.target.to_string())),
        subtype: options.subtype.clone().unwrap_or_else(|| "sshfs".to_owned()),
        read_only: request.read_only || options.read_only,
        allow_other: options.allow_other,
        default_permissions: true,
        exec: !options.no_exec,
        // Larger requests cost less each, but programs may write to any number of files at once, each of which has one in memory.
        max_write: u32::try_from(request.memory / 2048).unwrap_or(u32::MAX).clamp(8 * 1024, 256 * 1024),
    }
}

fn listen(name: &str) -> Result<(UnixListener, SocketFile), Failure> {
    let failed = |error: io::Error| Failure::new(FailureKind::Other, format!("control socket: {error}"));
    let directory = paths::runtime().map_err(failed)?;
    socket::listen(directory, name).map_err(failed)?.map_err(|socket::IsMounted| {
        let text = format!("{name} is mounted already; `scaup status {name}` shows where");
        Failure::new(FailureKind::Other, text)
    })
}

/// The process of a front end; `None` if that is not the user's own, nor root's.
fn peer(stream: &UnixStream) -> Option<UCred> {
    let own = rustix::process::getuid().as_raw();
    stream.peer_cred().ok().filter(|peer| peer.uid() == own || peer.uid() == 0)
}

/// What answering a request is.
fn doing(request: &Request) -> Doing {
    match request {
        Request::Unlock { .. } | Request::Login => Doing::Waiting,
        Request::Mount(_)
        | Request::Status
        | Request::Unmount { .. }
        | Request::Lock { .. }
        | Request::Answer { .. } => Doing::Working,
    }
}

fn make_mountpoint(path: &Path) -> Result<bool, Failure> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::Fuse, format!("mount point {}: {error}", path.display()))
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            Ok(true)
        }
        // A stale mount says so here; mounting clears it.
        _ => Ok(false),
    }
}

fn remove_mountpoint(path: &Path, made: bool) {
    if made && let Err(error) = std::fs::remove_dir(path) {
        tracing::info!(%error, "left the mount point");
    }
}

/// How a daemon comes to its end.
enum End {
    /// The mount is gone already.
    Unmounted,
    /// A signal asks for it, or the front end that it should end with is gone.
    Asked,
}

impl Daemon {
    /// Connects, unlocks, mounts.
    async fn mount(&self, automount: Option<Automount>, link: &Link) -> Result<Standing, Failure> {
        let request = &self.request;
        let prompts_for_login = Arc::new(self.prompts.for_logins(link.clone()));
        let (connected, password) = tokio::try_join!(
            connect(&self.place, request, Arc::clone(&prompts_for_login) as Arc<dyn People>),
            async { Ok(vaults::first_password(request, &self.prompts).await) }
        )?;
        let drive = Drive::new(connected.remote(), drive_options(request));
        // What happens while mounting is told as well.
        let (memory, vault_events) = (self.place.memory(), drive.vault_events());
        let expected = vaults::expect(&drive, request, &memory)?;
        let unlocking = async {
            // Nobody is asked for the password of a vault in a directory that may not be there.
            if password.is_none() && !request.vaults.is_empty() {
                connected.ready(request).await?;
            }
            let prompts = &self.prompts;
            let unlocked = vaults::unlock_at_mount(&drive, request, password, &memory, prompts, link).await;
            // If it is not, that is what to tell, and not what comes of it.
            connected.ready(request).await?;
            unlocked?;
            vaults::look_for_expected(&drive, request, &expected, &memory, prompts, link).await
        };
        let looking = async {
            drive.look_at_root().await;
            Ok(())
        };
        // Where the server has no SFTP after all, what is asked of it meanwhile would wait for another connection.
        tokio::try_join!(connected.ready(request), unlocking, looking)?;
        let made_mountpoint = automount.is_none() && make_mountpoint(&request.mountpoint)?;
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
                remove_mountpoint(&request.mountpoint, made_mountpoint);
                return Err(fuse_failure(&error));
            }
            Err(error) => return Err(Failure::new(FailureKind::Fuse, error)),
        };
        tokio::spawn(vaults::follow(vault_events, memory, request.name.clone()));
        drive.set_mountpoint(request.mountpoint.clone());
        if let Some(invalidator) = mount.invalidator() {
            drive.set_invalidator(invalidator);
        }
        let server = match connected {
            Connected::Local(_) => None,
            Connected::Server(server) => {
                let (reachability, activity) = (server.reachability(), Arc::clone(&self.activity));
                tokio::spawn(follow(reachability, activity, request.name.clone()));
                let (drive, remote) = (Arc::clone(&drive), Arc::clone(&server));
                tokio::spawn(async move { travel::accompany(&drive, &remote).await });
                Some(Server { remote: server, prompts: prompts_for_login })
            }
        };
        Ok(Standing {
            drive,
            server,
            mount: Mutex::new(mount),
            made_mountpoint,
            given_up: AtomicBool::new(false),
        })
    }

    /// Waits until the mount ends, or something asks for its end; saves and unmounts. Answers the exit code.
    async fn until_the_end(&self, standing: &Standing, link: &Link, signals: &mut Signals) -> u8 {
        let unmounted = standing.mount.lock().await.ended();
        let end = tokio::select! {
            () = unmounted.wait() => End::Unmounted,
            () = signals.asked() => End::Asked,
            () = link.gone(), if self.request.foreground => End::Asked,
        };
        let _unmounting = self.activity.unmounts();
        standing.drive.begin_to_end();
        let deadline = Instant::now() + saving::LAST_TRIES;
        let save = async || {
            if standing.given_up.load(Ordering::Acquire) {
                standing.drive.unsaved()
            } else {
                saving::save_until(deadline, &standing.drive, link).await
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
            // Until then programs could write, and those that have something open in it still can.
            unsaved = standing.drive.unsaved();
            if !insisted {
                tokio::select! {
                    left = save() => unsaved = left,
                    () = signals.insisted() => unsaved = standing.drive.unsaved(),
                }
            }
        }
        remove_mountpoint(&self.request.mountpoint, standing.made_mountpoint);
        if unsaved.files == 0 {
            return 0;
        }
        let lost = format!("lost: {}{}", saving::shown(unsaved), saving::named(&standing.drive));
        link.tell(Event::Progress(lost));
        let _ = link.flush().await;
        tracing::error!(files = unsaved.files, bytes = unsaved.bytes, "content was lost");
        8
    }

    /// Takes front ends in.
    async fn receive(self: Arc<Self>, listener: UnixListener) {
        let slots = Arc::new(Slots::default());
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Some(peer) = peer(&stream) else { continue };
                    let (slot, sent_away) = slots.take(peer.pid()).await;
                    let daemon = Arc::clone(&self);
                    tokio::spawn(async move {
                        tokio::select! {
                            () = daemon.converse(stream, &slot) => {}
                            _ = sent_away => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a front end could not be received");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Answers one front end.
    async fn converse(&self, stream: UnixStream, slot: &Slot) {
        let (link, mut requests) = Link::start(stream, REQUEST_LEN_MAX);
        let mut next = tokio::time::timeout(FIRST_WORDS, requests.recv()).await.unwrap_or_default();
        while let Some(request) = next {
            if self.answer(request, &link, slot).await.is_err() {
                return;
            }
            next = requests.recv().await;
        }
    }

    async fn answer(&self, request: Request, link: &Link, slot: &Slot) -> Result<(), NotHeard> {
        let _answering = self.conversations.read().await;
        if !slot.note(doing(&request)) {
            return Err(NotHeard);
        }
        let is_for_it_alone = matches!(request, Request::Unlock { .. });
        let event = tokio::select! {
            event = self.obey(request, link) => event.unwrap_or_else(Event::Failed),
            () = link.gone(), if is_for_it_alone => return Err(NotHeard),
        };
        slot.note(Doing::Nothing);
        link.tell(event);
        link.flush().await
    }

    async fn obey(&self, request: Request, link: &Link) -> Result<Event, Failure> {
        let standing = self.standing.get();
        let request = match (request, standing) {
            (Request::Status, _) => {
                let drive = standing.map(|standing| standing.drive.as_ref());
                return Ok(Event::Status(Box::new(self.activity.status(&self.request, drive))));
            }
            (Request::Unmount { .. }, None) => {
                self.given_up.notify_one();
                return Ok(Event::Done);
            }
            (request, _) => request,
        };
        let name = &self.request.name;
        let standing =
            standing.ok_or_else(|| Failure::new(FailureKind::Other, format!("{name} is not mounted yet")))?;
        match request {
            Request::Unlock { vault, asks_front_end } => {
                let prompts = self.prompts.for_front_end(link.clone(), asks_front_end);
                if !prompts.has_vault_password() {
                    standing.logged_in(Duration::from_secs(self.request.timeout)).await?;
                }
                let memory = self.place.memory();
                let unlocked =
                    vaults::unlock(&standing.drive, vault.as_deref(), &memory, &prompts, link).await;
                unlocked.map(|()| Event::Done)
            }
            Request::Lock { vault } => {
                vaults::lock(&standing.drive, vault.as_deref()).await.map(|()| Event::Done)
            }
            Request::Unmount { force, wait } => {
                self.unmount(standing, force, wait, link).await.map(|()| Event::Done)
            }
            Request::Login => standing.log_in(link).await.map(|()| Event::Done),
            Request::Status | Request::Mount(_) | Request::Answer { .. } => {
                Err(Failure::new(FailureKind::Usage, "not something to ask of a mount that stands"))
            }
        }
    }

    /// Saves and unmounts, or says what stands against it and goes on.
    async fn unmount(
        &self,
        standing: &Standing,
        force: bool,
        wait: Option<u64>,
        link: &Link,
    ) -> Result<(), Failure> {
        let _unmounting = self.activity.unmounts();
        let unsaved = if force {
            saving::save_at_once(&standing.drive, link).await
        } else {
            let reachability = standing.server.as_ref().map(|server| server.remote.reachability());
            let told = saving::tell_what_is_missing(&standing.drive, reachability, link);
            let saving = async {
                let drive = Arc::clone(&standing.drive);
                match wait.map(Duration::from_secs) {
                    // A server that says no says so at once, and is not asked again.
                    None => saving::save_within(Duration::from_secs(self.request.timeout), drive, link).await,
                    Some(wait) => saving::save_again_within(wait, drive, link).await,
                }
            };
            tokio::select! {
                unsaved = saving => unsaved,
                never = told => match never {},
                // Nobody waits for the end any more. What is being saved goes on being saved.
                () = link.gone() => return Err(Failure::new(FailureKind::Unsaved, "given up; it stays mounted")),
            }
        };
        // Nothing is waited for any more: the server may keep silent for ever.
        standing.given_up.fetch_or(force, Ordering::AcqRel);
        if unsaved.files > 0 {
            let (lost, named) = (saving::shown(unsaved), saving::named(&standing.drive));
            if !force {
                let text = format!("{lost} can't be saved on the server; --force loses them:{named}");
                return Err(Failure::new(FailureKind::Unsaved, text));
            }
            link.tell(Event::Progress(format!("lost: {lost}{named}")));
        } else if !force && unsaved.off_disk > 0 {
            let text = "the server has everything, but did not confirm that it is on its disk; try again, or use --force";
            return Err(Failure::new(FailureKind::Unsaved, text));
        }
        let mut mount = standing.mount.lock().await;
        match mount.unmount(force) {
            Ok(()) => {
                let ended = mount.ended();
                drop(mount);
                // With force, programs may keep files open: the daemon goes all the same.
                let _ = tokio::time::timeout(Duration::from_secs(10), ended.wait()).await;
                Ok(())
            }
            Err(UnmountError::Busy(path)) => {
                let users = users_of(&path);
                let text =
                    format!("{} is in use{users}; close it and try again, or use --force", path.display());
                Err(Failure::new(FailureKind::Other, text))
            }
            Err(error) => Err(Failure::new(FailureKind::Other, error)),
        }
    }
}

impl Standing {
    /// Waits until no login is under way: nobody is asked for a vault's password while a server may ask, too.
    async fn logged_in(&self, patience: Duration) -> Result<(), Failure> {
        let Some(Server { remote, .. }) = &self.server else { return Ok(()) };
        let mut reachability = remote.reachability();
        let settled = reachability.wait_for(|now| !matches!(now, Reachability::Reconnecting(_)));
        let lost =
            |kind, why: &str| Failure::new(kind, format!("the connection to the server is lost: {why}"));
        match tokio::time::timeout(patience, settled).await {
            Ok(Ok(now)) => match &*now {
                Reachability::Waiting(why) => Err(lost(FailureKind::Login, why)),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(Failure::new(FailureKind::Other, "the mount is ending")),
            Err(_) => Err(lost(FailureKind::Unreachable, "it is still being made anew")),
        }
    }

    /// Makes a lost connection anew, asking this front end, and waits until it stands or somebody refuses.
    async fn log_in(&self, link: &Link) -> Result<(), Failure> {
        let Some(Server { remote, prompts }) = &self.server else { return Ok(()) };
        let mut reachability = remote.reachability();
        if *reachability.borrow_and_update() == Reachability::Connected {
            link.tell(Event::Progress("the connection stands".to_owned()));
            return Ok(());
        }
        let _attached = prompts.attach(link.clone());
        remote.hurry();
        loop {
            if reachability.changed().await.is_err() {
                return Err(Failure::new(FailureKind::Other, "the mount is ending"));
            }
            match &*reachability.borrow_and_update() {
                Reachability::Connected => return Ok(()),
                Reachability::Waiting(why) => return Err(Failure::new(FailureKind::Login, why)),
                Reachability::Reconnecting(why) => link.tell(Event::Progress(format!("trying again: {why}"))),
            }
        }
    }
}

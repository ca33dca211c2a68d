//! The life of a daemon: from the first request to the last file saved.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scaup_fuse::{Mount, MountError, MountOptions, UnmountError};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

use super::client::socket_path;
use super::link::Link;
use super::prompts::Prompts;
use super::protocol::{Event, Failure, FailureKind, MountRequest, MountState, Request};
use super::remote::connect;
use super::status::Activity;
use super::vaults;
use crate::drive::{Drive, DriveOptions};

/// How long ending may take before what can't be saved is given up, when nobody can be asked.
const LAST_TRIES: Duration = Duration::from_secs(60);

/// Runs a daemon: its front end is at standard input. Answers the exit code.
///
/// # Errors
///
/// If the process can't be set up at all.
pub fn run() -> io::Result<u8> {
    protect_memory();
    // It has a session of its own, so that neither the terminal's Ctrl-C nor its end reach it.
    let _ = rustix::process::setsid();
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

/// No core dump and no debugger of the same user sees the keys.
fn protect_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err()
        || set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
    {
        tracing::warn!("core dumps could not be switched off");
    }
}

async fn serve(stream: UnixStream) -> u8 {
    let (link, mut requests) = Link::start(stream);
    let Some(Request::Mount(request)) = requests.recv().await else { return 1 };
    match start(*request, &link).await {
        Ok(daemon) => {
            let name = daemon.request.name.clone();
            let mountpoint = daemon.request.mountpoint.clone();
            link.tell(Event::Mounted { name, mountpoint });
            daemon.live().await
        }
        Err(failure) => {
            link.tell(Event::Failed(failure));
            // The front end reads it and leaves.
            let _ = tokio::time::timeout(Duration::from_secs(5), link.gone()).await;
            1
        }
    }
}

/// A mount that stands.
struct Daemon {
    request: MountRequest,
    drive: Arc<Drive>,
    mount: Mutex<Mount>,
    prompts: Prompts,
    activity: Arc<Activity>,
    listener: UnixListener,
    socket: SocketFile,
    made_mountpoint: bool,
}

/// The control socket's file, removed at the end.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, "left a socket behind");
        }
    }
}

/// Connects, unlocks, mounts. The front end may leave meanwhile: then nothing stays.
async fn start(request: MountRequest, link: &Link) -> Result<Daemon, Failure> {
    tokio::select! {
        started = mount(request, link) => started,
        () = link.gone() => Err(Failure::new(FailureKind::Other, "cancelled")),
    }
}

async fn mount(request: MountRequest, link: &Link) -> Result<Daemon, Failure> {
    let activity = Activity::new();
    let (listener, socket) = listen(&request.name)?;
    let prompts = Prompts::new(link.clone(), &request, Arc::clone(&activity));
    let prompts_for_login = Arc::new(prompts.for_front_end(link.clone(), None));
    let remote = connect(&request, prompts_for_login).await?;
    let drive = Drive::new(remote, drive_options(&request));
    vaults::unlock_at_mount(&drive, &request, &prompts, link).await?;
    let made_mountpoint = make_mountpoint(&request.mountpoint)?;
    let mounted = {
        let (drive, request) = (Arc::clone(&drive), request.clone());
        let runtime = tokio::runtime::Handle::current();
        let options = mount_options(&request);
        tokio::task::spawn_blocking(move || scaup_fuse::mount(drive, &request.mountpoint, &options, runtime))
            .await
    };
    let mount = match mounted {
        Ok(Ok(mount)) => mount,
        Ok(Err(error)) => {
            remove_mountpoint(&request.mountpoint, made_mountpoint);
            return Err(fuse_failure(&error));
        }
        Err(error) => return Err(Failure::new(FailureKind::Fuse, error)),
    };
    drive.set_mountpoint(request.mountpoint.clone());
    if let Some(invalidator) = mount.invalidator() {
        drive.set_invalidator(invalidator);
    }
    activity.set(MountState::Connected);
    Ok(Daemon {
        request,
        drive,
        mount: Mutex::new(mount),
        prompts,
        activity,
        listener,
        socket,
        made_mountpoint,
    })
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
        log_names: request.log_names,
    }
}

fn mount_options(request: &MountRequest) -> MountOptions {
    let options = &request.options;
    MountOptions {
        fsname: options.fsname.clone().unwrap_or_else(|| request.target.to_string()),
        subtype: options.subtype.clone().unwrap_or_else(|| "sshfs".to_owned()),
        read_only: request.read_only || options.read_only,
        allow_other: options.allow_other,
        default_permissions: true,
        exec: !options.no_exec,
    }
}

fn listen(name: &str) -> Result<(UnixListener, SocketFile), Failure> {
    let other = |error: io::Error| Failure::new(FailureKind::Other, format!("control socket: {error}"));
    let path = socket_path(name).map_err(other)?;
    let listener = UnixListener::bind(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(
            FailureKind::Other,
            format!("{name} is mounted already; `scaup status {name}` shows where"),
        ),
        _ => other(error),
    })?;
    let socket = SocketFile(path);
    std::fs::set_permissions(&socket.0, std::fs::Permissions::from_mode(0o600)).map_err(other)?;
    Ok((listener, socket))
}

fn make_mountpoint(path: &Path) -> Result<bool, Failure> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::Fuse, format!("mount point {}: {error}", path.display()))
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path).map_err(failed)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
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
    /// A signal asks for it.
    Signal,
}

impl Daemon {
    /// Serves front ends until the mount ends; answers the exit code.
    async fn live(self) -> u8 {
        let daemon = Arc::new(self);
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signals can't be received");
            return 1;
        };
        let unmounted = {
            let mount = daemon.mount.lock().await;
            mount.ended()
        };
        let end = loop {
            tokio::select! {
                () = unmounted.wait() => break End::Unmounted,
                _ = terminate.recv() => break End::Signal,
                _ = interrupt.recv() => break End::Signal,
                accepted = daemon.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let daemon = Arc::clone(&daemon);
                        tokio::spawn(async move { daemon.converse(stream).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a front end could not be received");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        };
        daemon.activity.set(MountState::Unmounting);
        let code = daemon.finish(&end, &mut terminate, &mut interrupt).await;
        remove_mountpoint(&daemon.request.mountpoint, daemon.made_mountpoint);
        // Front ends that still wait hear of the end by the closed connection.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = &daemon.socket;
        code
    }

    /// Saves everything, trying for a while, and unmounts.
    async fn finish(&self, end: &End, terminate: &mut Signal, interrupt: &mut Signal) -> u8 {
        let save = async {
            let deadline = tokio::time::Instant::now() + LAST_TRIES;
            loop {
                let unsaved = self.drive.save_all().await;
                if unsaved.files == 0 || tokio::time::Instant::now() > deadline {
                    return unsaved;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let unsaved = tokio::select! {
            unsaved = save => unsaved,
            // A second one: the user means it.
            _ = interrupt.recv() => self.drive.unsaved(),
            _ = terminate.recv() => self.drive.unsaved(),
        };
        if matches!(end, End::Signal)
            && let Err(error) = self.mount.lock().await.unmount(true)
        {
            tracing::error!(%error, "unmounting failed");
        }
        if unsaved.files > 0 {
            tracing::error!(files = unsaved.files, bytes = unsaved.bytes, "content was lost");
            return 8;
        }
        0
    }

    /// Answers one front end.
    async fn converse(self: Arc<Self>, stream: UnixStream) {
        let own = rustix::process::getuid().as_raw();
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
            _ => return,
        }
        let (link, mut requests) = Link::start(stream);
        while let Some(request) = requests.recv().await {
            let event = match self.obey(request, &link).await {
                Ok(event) => event,
                Err(failure) => Event::Failed(failure),
            };
            link.tell(event);
        }
    }

    async fn obey(&self, request: Request, link: &Link) -> Result<Event, Failure> {
        match request {
            Request::Status => {
                Ok(Event::Status(Box::new(self.activity.status(&self.request, Some(&self.drive)))))
            }
            Request::Unlock { vault, password_command } => {
                let prompts = self.prompts.for_front_end(link.clone(), password_command);
                vaults::unlock(&self.drive, vault.as_deref(), &prompts, link).await.map(|()| Event::Done)
            }
            Request::Lock { vault } => {
                vaults::lock(&self.drive, vault.as_deref()).await.map(|()| Event::Done)
            }
            Request::Unmount { force } => self.unmount(force, link).await.map(|()| Event::Done),
            Request::Mount(_) | Request::Answer { .. } => {
                Err(Failure::new(FailureKind::Usage, "not something to ask of a mount that stands"))
            }
        }
    }

    /// Saves and unmounts, or says what stands against it and goes on.
    async fn unmount(&self, force: bool, link: &Link) -> Result<(), Failure> {
        let waiting = self.drive.unsaved();
        if waiting.files > 0 {
            let text = format!("saving {} files, {} bytes", waiting.files, waiting.bytes);
            link.tell(Event::Progress(text));
        }
        self.activity.set(MountState::Unmounting);
        let unsaved = self.drive.save_all().await;
        if unsaved.files > 0 {
            let lost =
                format!("{} files ({} bytes) can't be saved on the server", unsaved.files, unsaved.bytes);
            if !force {
                self.activity.set(MountState::Connected);
                let text =
                    format!("{lost}; `scaup status {}` says why, --force loses them", self.request.name);
                return Err(Failure::new(FailureKind::Unsaved, text));
            }
            link.tell(Event::Progress(format!("{lost}; they are lost")));
        }
        let mut mount = self.mount.lock().await;
        match mount.unmount(force) {
            Ok(()) => {
                let ended = mount.ended();
                drop(mount);
                // With force, programs may keep files open: the daemon goes all the same.
                let _ = tokio::time::timeout(Duration::from_secs(10), ended.wait()).await;
                Ok(())
            }
            Err(UnmountError::Busy(path)) => {
                self.activity.set(MountState::Connected);
                let users = super::status::users_of(&path);
                let text =
                    format!("{} is in use{users}; close it and try again, or use --force", path.display());
                Err(Failure::new(FailureKind::Other, text))
            }
            Err(error) => {
                self.activity.set(MountState::Connected);
                Err(Failure::new(FailureKind::Other, error))
            }
        }
    }
}

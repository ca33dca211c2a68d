//! Mounting and unmounting.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, mpsc};

use fuser::{BackgroundSession, Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use rustix::io::Errno as System;
use rustix::mount::MountFlags;
use tokio::sync::{oneshot, watch};

use crate::automount::Automount;
use crate::filesystem::{Filesystem, Inode, Invalidate};
use crate::options::MountOptions;
use crate::requests::Requests;
use crate::skin::Skin;

/// Why mounting failed, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no FUSE device.
    #[error(
        "FUSE is not available: /dev/fuse can't be opened ({0}); load the kernel module `fuse` or give this container the device"
    )]
    NoDevice(io::Error),
    /// The helper for ordinary users is missing.
    #[error("fusermount3 is missing; install the package `fuse3`")]
    NoFusermount,
    /// The mount point can't be used.
    #[error("mount point {}: {reason}", .path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// The problem with it.
        reason: String,
    },
    /// The system refused.
    #[error("mounting at {} failed: {source}{hint}", .path.display())]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
        /// A remedy to try.
        hint: &'static str,
    },
}

/// Why unmounting failed.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// A process has something open in it.
    #[error("{} is in use", .0.display())]
    Busy(PathBuf),
    /// The system refused.
    #[error("unmounting {} failed: {reason}", .path.display())]
    Failed {
        /// The mount point.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
}

/// The end of a mount, whatever its cause.
#[derive(Debug, Clone)]
pub struct MountEnd(watch::Receiver<bool>);

impl MountEnd {
    /// Waits until the mount is gone.
    pub async fn wait(&self) {
        let _ = self.0.clone().wait_for(|&ended| ended).await;
    }
}

/// A mounted file system. Dropping it unmounts.
pub struct Mount {
    path: PathBuf,
    session: Option<BackgroundSession>,
    /// Whether it is gone: the kernel says so, or it was detached.
    end: watch::Sender<bool>,
    /// Whether it is mounted on an automount: an access by path after this is gone wakes the automount.
    is_on_automount: bool,
    requests: Arc<Requests>,
}

/// Mounts `filesystem` at `path`, which must be an empty directory, or the place of an `automount`. Requests are served
/// on `runtime`.
///
/// # Errors
///
/// See [`MountError`]. A stale mount that a dead process left at `path` is cleared first.
pub fn mount<F: Filesystem>(
    filesystem: Arc<F>,
    path: &Path,
    automount: Option<&Automount>,
    options: &MountOptions,
    runtime: tokio::runtime::Handle,
) -> Result<Mount, MountError> {
    if automount.is_none() {
        check_mount_point(path)?;
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        return Err(MountError::NoDevice(error));
    }
    let mut config = Config::default();
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.mount_options = vec![
        MountOption::FSName(source(&options.fsname, rustix::process::geteuid().is_root())),
        // The library has its own option for it, which has no effect on a mount by root, which does without
        // `fusermount3`.
        MountOption::CUSTOM(format!("subtype={}", options.subtype)),
        MountOption::NoDev,
        MountOption::NoSuid,
        if options.read_only { MountOption::RO } else { MountOption::RW },
        if options.exec { MountOption::Exec } else { MountOption::NoExec },
    ];
    if options.default_permissions {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    let end = watch::Sender::new(false);
    let requests = Arc::<Requests>::default();
    let skin = Skin::new(filesystem, runtime, options, Arc::clone(&requests), end.clone());
    let session = match automount {
        None => fuser::spawn_mount(skin, path, &config),
        Some(automount) => mount_on(automount, skin, options, config),
    };
    let session = session.map_err(|source| refused(path, source))?;
    let is_on_automount = automount.is_some();
    Ok(Mount { path: path.to_owned(), session: Some(session), end, is_on_automount, requests })
}

/// Mounts at the place of an automount. The library and `fusermount3` would access it by path, and wait for themselves.
fn mount_on<F: Filesystem>(
    automount: &Automount,
    skin: Skin<F>,
    options: &MountOptions,
    config: Config,
) -> io::Result<BackgroundSession> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse")?;
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NOEXEC, !options.exec);
    let mut words = vec![format!("subtype={}", options.subtype)];
    words.extend(options.default_permissions.then(|| "default_permissions".to_owned()));
    words.extend(options.allow_other.then(|| "allow_other".to_owned()));
    automount.mount(&device, &options.fsname, flags, &words)?;
    let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    Session::from_fd(skin, device.into(), acl, config)?.spawn()
}

/// Returns the source, escaped as the way to mount needs it. `fusermount3`, by which every user but root mounts, takes
/// it as one of its options: a comma would begin the next one there, and a backslash makes either an ordinary character
/// (libfuse: util/fusermount.c, `do_mount`). mount(2) takes it separately.
fn source(fsname: &str, is_root: bool) -> String {
    if is_root { fsname.to_owned() } else { fsname.replace('\\', "\\\\").replace(',', "\\,") }
}

fn refused(path: &Path, source: io::Error) -> MountError {
    if source.kind() == io::ErrorKind::NotFound {
        return MountError::NoFusermount;
    }
    let text = source.to_string();
    let hint = if text.contains("user_allow_other") || text.contains("allow_other") {
        "; add the line `user_allow_other` to /etc/fuse.conf, or mount without allow_other"
    } else if source.kind() == io::ErrorKind::PermissionDenied || text.contains("ermission denied") {
        "; check that you can open /dev/fuse. On Ubuntu, AppArmor lets fusermount3 mount below your home directory only"
    } else {
        ""
    };
    MountError::Refused { path: path.to_owned(), source, hint }
}

fn check_mount_point(path: &Path) -> Result<(), MountError> {
    let wrong = |reason: String| MountError::MountPoint { path: path.to_owned(), reason };
    clear_stale(path).map_err(|error| wrong(error.to_string()))?;
    if is_mounted(path) {
        return Err(wrong("something is mounted there already".to_owned()));
    }
    let mut entries = std::fs::read_dir(path).map_err(|error| wrong(error.to_string()))?;
    if entries.next().is_some() {
        return Err(wrong("the directory is not empty; name an empty or a new one".to_owned()));
    }
    Ok(())
}

/// Returns whether a FUSE file system is mounted at `path`, by the kernel's own list (proc(5): the mount point is the
/// fifth field, the type follows a lone hyphen). Another mount, of systemd or an administrator, may be mounted over.
#[must_use]
pub fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The list has no links. The mount itself is not asked: it may be dead.
    let around = path.parent().and_then(|around| std::fs::canonicalize(around).ok());
    let path =
        around.zip(path.file_name()).map_or_else(|| path.to_owned(), |(around, name)| around.join(name));
    let escaped = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    mounts.lines().filter(|line| line.split(' ').nth(4) == Some(escaped.as_str())).any(|line| {
        line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with("fuse ") || rest.starts_with("fuse."))
    })
}

/// Clears a mount whose process is dead: every access to it fails with `ENOTCONN`. Returns whether there was one.
///
/// # Errors
///
/// If it can't be unmounted.
pub fn clear_stale(path: &Path) -> Result<bool, UnmountError> {
    if Automount::at(path).is_some() {
        return Ok(false);
    }
    // Opening always sends a request to the process behind the mount; attributes may come from the kernel's cache for a
    // while.
    match std::fs::read_dir(path) {
        Err(error) if error.raw_os_error() == Some(System::NOTCONN.raw_os_error()) => {
            detach(path, true).map(|()| true)
        }
        _ => Ok(false),
    }
}

impl Mount {
    /// Returns the interface that tells the kernel what to drop.
    #[must_use]
    pub fn invalidator(&self) -> Option<Arc<dyn Invalidate>> {
        let notifier = self.session.as_ref()?.notifier();
        Some(Arc::new(Invalidator::start(notifier)))
    }

    /// Returns the kernel's requests so far, and those under way.
    #[must_use]
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Returns the mount's end, to be waited for.
    #[must_use]
    pub fn ended(&self) -> MountEnd {
        MountEnd(self.end.subscribe())
    }

    /// Unmounts. With `lazy` the mount disappears at once even while in use, and ends when the last user closes it.
    ///
    /// # Errors
    ///
    /// [`UnmountError::Busy`] while something in it is open, and not `lazy`. The mount goes on then.
    pub fn unmount(&mut self, lazy: bool) -> Result<(), UnmountError> {
        if *self.end.borrow() {
            return Ok(());
        }
        detach(&self.path, lazy)?;
        if lazy {
            self.end.send_replace(true);
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A connection that was aborted (`/sys/fs/fuse`) has ended, but its mount is still there.
        let has_ended = *self.end.borrow();
        let left = match (has_ended, self.is_on_automount) {
            (true, true) => Ok(()),
            (true, false) => clear_stale(&self.path).map(drop),
            (false, _) => detach(&self.path, true),
        };
        if let Err(error) = left {
            tracing::warn!(%error, "left a mount behind");
        }
        // The library would unmount a mount that is gone already, or another one made there since.
        if let Some(session) = self.session.take() {
            std::mem::forget(session);
        }
    }
}

fn detach(path: &Path, lazy: bool) -> Result<(), UnmountError> {
    if rustix::process::geteuid().is_root() {
        let flags =
            if lazy { rustix::mount::UnmountFlags::DETACH } else { rustix::mount::UnmountFlags::empty() };
        return rustix::mount::unmount(path, flags | rustix::mount::UnmountFlags::NOFOLLOW).map_err(
            |error| match error {
                System::BUSY => UnmountError::Busy(path.to_owned()),
                error => UnmountError::Failed { path: path.to_owned(), reason: error.to_string() },
            },
        );
    }
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(path);
    let failed = |reason: String| UnmountError::Failed { path: path.to_owned(), reason };
    let output = command.output().map_err(|error| failed(format!("fusermount3: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false if said.contains("busy") => Err(UnmountError::Busy(path.to_owned())),
        false => Err(failed(said.trim().to_owned())),
    }
}

enum Order {
    Inode(Inode),
    Entry(Inode, OsString),
    Settled(oneshot::Sender<()>),
}

/// Passes orders to the kernel from a thread of its own: the kernel may make such an order wait for a request that is
/// being served, so the task that serves it must not wait for the order.
struct Invalidator {
    notifier: Notifier,
    orders: mpsc::Sender<Order>,
}

/// Logs the kernel's result of an order.
fn log_refusal(done: io::Result<()>) {
    match done {
        // The kernel does not know the inode or name: there is nothing to drop.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(%error, "the kernel did not drop what it holds");
        }
        _ => {}
    }
}

impl Invalidator {
    fn start(notifier: Notifier) -> Self {
        let (orders, incoming) = mpsc::channel();
        let waiting = notifier.clone();
        std::thread::spawn(move || {
            for order in incoming {
                log_refusal(match order {
                    Order::Inode(inode) => waiting.inval_inode(INodeNo(inode.0), 0, 0),
                    Order::Entry(parent, name) => waiting.inval_entry(INodeNo(parent.0), &name),
                    Order::Settled(told) => {
                        let _ = told.send(());
                        Ok(())
                    }
                });
            }
        });
        Self { notifier, orders }
    }
}

impl Invalidate for Invalidator {
    fn attributes(&self, inode: Inode) {
        // A negative offset leaves the pages alone, and with them everything that could make the order wait.
        log_refusal(self.notifier.inval_inode(INodeNo(inode.0), -1, 0));
    }

    fn inode(&self, inode: Inode) {
        let _ = self.orders.send(Order::Inode(inode));
    }

    fn entry(&self, parent: Inode, name: &OsStr) {
        let _ = self.orders.send(Order::Entry(parent, name.to_owned()));
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (told, settled) = oneshot::channel();
        let _ = self.orders.send(Order::Settled(told));
        // If the thread is gone, so is the mount.
        Box::pin(async move { drop(settled.await) })
    }
}

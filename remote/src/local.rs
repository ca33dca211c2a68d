//! A directory of this machine as a [`Remote`]: for vaults that a sync client keeps here.
//!
//! Paths are resolved below the directory and never through symbolic links, so nothing in it can lead elsewhere
//! (`openat2(2)` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    chmodat, chownat, fchmod, fchown, fstat, fsync, ftruncate, futimens, linkat, mkdirat, openat2,
    readlinkat, renameat_with, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{
    NamesBudget, Remote, RemoteAttributes, RemoteCounters, RemoteEntry, RemoteError, RemoteFile, RemoteKind,
    RemoteName, RemoteOpen, RemotePath, RemoteSetAttributes, RemoteStatistics, RenameHow, SET_GID,
};

/// A directory of this machine.
pub struct LocalRemote {
    shared: Arc<Shared>,
    names: NamesBudget,
}

struct Shared {
    root: OwnedFd,
    requests: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl LocalRemote {
    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// If it is missing, not a directory, or may not be entered.
    pub fn open(directory: &Path) -> Result<Self, RemoteError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(typed)?;
        let zero = || AtomicU64::new(0);
        let shared = Shared { root, requests: zero(), bytes_read: zero(), bytes_written: zero() };
        Ok(Self { shared: Arc::new(shared), names: NamesBudget::default() })
    }

    /// Runs a blocking operation on another thread.
    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Shared) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, RemoteError> {
        run(&self.shared, operation).await
    }
}

async fn run<T: Send + 'static>(
    shared: &Arc<Shared>,
    operation: impl FnOnce(&Shared) -> Result<T, Errno> + Send + 'static,
) -> Result<T, RemoteError> {
    let shared = Arc::clone(shared);
    shared.requests.fetch_add(1, Ordering::Relaxed);
    match tokio::task::spawn_blocking(move || operation(&shared)).await {
        Ok(done) => done.map_err(typed),
        Err(error) => Err(RemoteError::Failure(error.to_string())),
    }
}

fn typed(errno: Errno) -> RemoteError {
    match errno {
        Errno::NOENT => RemoteError::NotFound,
        Errno::EXIST => RemoteError::Exists,
        Errno::ACCESS | Errno::PERM => RemoteError::PermissionDenied,
        // A symbolic link in the middle of a path, or a path that leads out, is not a directory here.
        Errno::NOTDIR | Errno::LOOP | Errno::XDEV => RemoteError::NotADirectory,
        Errno::ISDIR => RemoteError::IsADirectory,
        Errno::NOTEMPTY => RemoteError::NotEmpty,
        Errno::NOSPC | Errno::DQUOT => RemoteError::NoSpace,
        Errno::ROFS => RemoteError::ReadOnly,
        Errno::NAMETOOLONG => RemoteError::NameTooLong,
        Errno::OPNOTSUPP | Errno::NOSYS => RemoteError::Unsupported("the file system does not offer it"),
        other => RemoteError::Failure(other.to_string()),
    }
}

/// Converts an error of an operation on two paths, neither of which leads out: `EXDEV` means two file systems.
fn typed_for_two(errno: Errno) -> RemoteError {
    if errno == Errno::XDEV { RemoteError::OtherFileSystem } else { typed(errno) }
}

/// Removing and replacing return `EEXIST` on some file systems where others return `ENOTEMPTY`.
fn not_empty(errno: Errno) -> Errno {
    if errno == Errno::EXIST { Errno::NOTEMPTY } else { errno }
}

fn text(path: &RemotePath) -> &OsStr {
    if path.is_root() { OsStr::new(".") } else { OsStr::from_bytes(path.as_bytes()) }
}

fn last(name: &RemoteName) -> &OsStr {
    OsStr::from_bytes(name.as_bytes())
}

fn mode_bits(mode: u16) -> Mode {
    Mode::from_raw_mode(u32::from(mode))
}

impl Shared {
    fn open_below(&self, path: &RemotePath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, text(path), flags | OFlags::CLOEXEC, mode, resolve)
    }

    /// Returns the directory that holds the path's last name, and that name.
    fn parent(&self, path: &RemotePath) -> Result<(OwnedFd, RemoteName), Errno> {
        let (parent, name) = path.split().ok_or(Errno::BUSY)?;
        Ok((self.open_below(&parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name))
    }

    fn stat(&self, path: &RemotePath) -> Result<Stat, Errno> {
        if path.is_root() {
            return fstat(&self.root);
        }
        let (parent, name) = self.parent(path)?;
        statat(parent, last(&name), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn open(&self, path: &RemotePath, how: RemoteOpen) -> Result<OwnedFd, Errno> {
        let (flags, mode) = match how {
            RemoteOpen::Read => (OFlags::RDONLY, Mode::empty()),
            RemoteOpen::ReadWrite => (OFlags::RDWR, Mode::empty()),
            RemoteOpen::CreateNew(mode) => (OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode_bits(mode)),
            RemoteOpen::CreateByUmask => (OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode_bits(0o666)),
        };
        // A named pipe must not block.
        let file = self.open_below(path, flags | OFlags::NONBLOCK | OFlags::NOFOLLOW, mode)?;
        if let RemoteOpen::CreateNew(mode) = how {
            fchmod(&file, mode_bits(mode))?;
        }
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn set_attributes(&self, path: &RemotePath, set: RemoteSetAttributes) -> Result<(), Errno> {
        if set.size.is_some() {
            return change_open(self.open_below(path, OFlags::WRONLY, Mode::empty())?.as_fd(), set);
        }
        let here = OsStr::new(".").to_owned();
        let (parent, name) = match path.split() {
            Some(_) => self.parent(path).map(|(parent, name)| (parent, last(&name).to_owned()))?,
            None => (self.open_below(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, here),
        };
        if let Some((uid, gid)) = set.owner {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chownat(&parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if let Some(mode) = set.mode {
            // fchmodat(2) follows links, and a link has no mode of its own.
            let kind = FileType::from_raw_mode(statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
            if kind == FileType::Symlink {
                return Err(Errno::OPNOTSUPP);
            }
            chmodat(&parent, &name, mode_bits(mode), AtFlags::empty())?;
        }
        if let Some((accessed, modified)) = set.times {
            let times = Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) };
            utimensat(&parent, &name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

fn attributes(stat: &Stat) -> RemoteAttributes {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => RemoteKind::Directory,
        FileType::Symlink => RemoteKind::Symlink,
        FileType::Fifo => RemoteKind::Fifo,
        FileType::Socket => RemoteKind::Socket,
        FileType::CharacterDevice => RemoteKind::CharDevice,
        FileType::BlockDevice => RemoteKind::BlockDevice,
        _ => RemoteKind::File,
    };
    RemoteAttributes {
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
        uid: stat.st_uid,
        gid: stat.st_gid,
        accessed: time(stat.st_atime, u32::try_from(stat.st_atime_nsec).unwrap_or(0)),
        modified: time(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
    }
}

fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    base + Duration::from_nanos(u64::from(nanoseconds))
}

fn timespec(time: SystemTime) -> Timespec {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timespec { tv_sec: seconds(after), tv_nsec: i64::from(after.subsec_nanos()) },
        Err(before) => {
            let before = before.duration();
            match i64::from(before.subsec_nanos()) {
                0 => Timespec { tv_sec: -seconds(before), tv_nsec: 0 },
                part => Timespec { tv_sec: -seconds(before) - 1, tv_nsec: 1_000_000_000 - part },
            }
        }
    }
}

fn change_open(file: BorrowedFd<'_>, set: RemoteSetAttributes) -> Result<(), Errno> {
    if let Some(size) = set.size {
        ftruncate(file, size)?;
    }
    if let Some((uid, gid)) = set.owner {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    if let Some(mode) = set.mode {
        fchmod(file, mode_bits(mode))?;
    }
    if let Some((accessed, modified)) = set.times {
        let times = Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) };
        futimens(file, &times)?;
    }
    Ok(())
}

#[async_trait]
impl Remote for LocalRemote {
    async fn stat(&self, path: &RemotePath) -> Result<RemoteAttributes, RemoteError> {
        let path = path.clone();
        self.run(move |shared| shared.stat(&path).map(|stat| attributes(&stat))).await
    }

    async fn list(&self, path: &RemotePath) -> Result<Vec<RemoteEntry>, RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            let directory = shared.open_below(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            let mut entries = Vec::new();
            for entry in rustix::fs::Dir::read_from(&directory)? {
                let entry = entry?;
                let Some(name) = RemoteName::parse(entry.file_name().to_bytes()) else { continue };
                match statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => entries.push(RemoteEntry { name, attributes: attributes(&stat) }),
                    // The entry was removed since it was listed.
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(entries)
        })
        .await
    }

    async fn open(&self, path: &RemotePath, how: RemoteOpen) -> Result<Arc<dyn RemoteFile>, RemoteError> {
        let path = path.clone();
        let file = self.run(move |shared| shared.open(&path, how)).await?;
        Ok(Arc::new(LocalFile { shared: Arc::clone(&self.shared), file: Mutex::new(Some(Arc::new(file))) }))
    }

    async fn set_attributes(&self, path: &RemotePath, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        let path = path.clone();
        self.run(move |shared| shared.set_attributes(&path, set)).await
    }

    async fn mkdir(&self, path: &RemotePath, mode: u16) -> Result<(), RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            let (parent, name) = shared.parent(&path)?;
            mkdirat(&parent, last(&name), mode_bits(mode))?;
            let made = statat(&parent, last(&name), AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
            let wanted = mode_bits(mode) | Mode::from_raw_mode(made) & mode_bits(SET_GID);
            chmodat(&parent, last(&name), wanted, AtFlags::empty())
        })
        .await
    }

    async fn mkdir_by_umask(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            let (parent, name) = shared.parent(&path)?;
            mkdirat(&parent, last(&name), mode_bits(0o777))
        })
        .await
    }

    async fn rmdir(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            let (parent, name) = shared.parent(&path)?;
            unlinkat(parent, last(&name), AtFlags::REMOVEDIR).map_err(not_empty)
        })
        .await
    }

    async fn remove(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            let (parent, name) = shared.parent(&path)?;
            unlinkat(parent, last(&name), AtFlags::empty())
        })
        .await
    }

    async fn rename(&self, from: &RemotePath, to: &RemotePath, how: RenameHow) -> Result<(), RemoteError> {
        let flags = match how {
            RenameHow::Replace => RenameFlags::empty(),
            RenameHow::New => RenameFlags::NOREPLACE,
        };
        let (from, to) = (from.clone(), to.clone());
        self.run(move |shared| {
            let (from_parent, from) = shared.parent(&from)?;
            let (to_parent, to) = shared.parent(&to)?;
            let renamed = renameat_with(from_parent, last(&from), to_parent, last(&to), flags);
            Ok(if how == RenameHow::Replace { renamed.map_err(not_empty) } else { renamed })
        })
        .await?
        .map_err(typed_for_two)
    }

    async fn sync_directory(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            fsync(shared.open_below(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
        })
        .await
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8]) -> Result<(), RemoteError> {
        let (path, target) = (path.clone(), target.to_vec());
        self.run(move |shared| {
            let (parent, name) = shared.parent(&path)?;
            symlinkat(OsStr::from_bytes(&target), parent, last(&name))
        })
        .await
    }

    async fn readlink(&self, path: &RemotePath) -> Result<Bytes, RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            let (parent, name) = shared.parent(&path)?;
            Ok(Bytes::from(readlinkat(parent, last(&name), Vec::new())?.into_bytes()))
        })
        .await
    }

    async fn hard_link(&self, existing: &RemotePath, new: &RemotePath) -> Result<(), RemoteError> {
        let (existing, new) = (existing.clone(), new.clone());
        self.run(move |shared| {
            let (from_parent, from) = shared.parent(&existing)?;
            let (to_parent, to) = shared.parent(&new)?;
            Ok(linkat(from_parent, last(&from), to_parent, last(&to), AtFlags::empty()))
        })
        .await?
        .map_err(typed_for_two)
    }

    async fn statistics(&self, path: &RemotePath) -> Result<RemoteStatistics, RemoteError> {
        let path = path.clone();
        self.run(move |shared| {
            let node = shared.open_below(&path, OFlags::PATH, Mode::empty())?;
            let statistics = rustix::fs::fstatvfs(node)?;
            Ok(RemoteStatistics {
                block_size: statistics.f_frsize,
                blocks: statistics.f_blocks,
                blocks_free: statistics.f_bfree,
                blocks_available: statistics.f_bavail,
                files: statistics.f_files,
                files_free: statistics.f_ffree,
                name_max: statistics.f_namemax,
            })
        })
        .await
    }

    fn names_budget(&self) -> &NamesBudget {
        &self.names
    }

    fn counters(&self) -> RemoteCounters {
        RemoteCounters {
            requests: self.shared.requests.load(Ordering::Relaxed),
            bytes_received: self.shared.bytes_read.load(Ordering::Relaxed),
            bytes_sent: self.shared.bytes_written.load(Ordering::Relaxed),
            reconnects: 0,
        }
    }
}

/// An open file of this machine.
struct LocalFile {
    shared: Arc<Shared>,
    /// `None` once closed.
    file: Mutex<Option<Arc<OwnedFd>>>,
}

impl LocalFile {
    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Shared, &OwnedFd) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let file = file.ok_or_else(|| RemoteError::Failure("the file is closed".to_owned()))?;
        run(&self.shared, move |shared| operation(shared, &file)).await
    }
}

#[async_trait]
impl RemoteFile for LocalFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
        self.run(move |shared, file| {
            let mut bytes = vec![0; length];
            let mut filled = 0;
            while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match rustix::io::pread(file, rest, offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(filled);
            shared.bytes_read.fetch_add(filled as u64, Ordering::Relaxed);
            Ok(Bytes::from(bytes))
        })
        .await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), RemoteError> {
        self.run(move |shared, file| {
            let mut written = 0;
            while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
                match rustix::io::pwrite(file, rest, offset + written as u64) {
                    Ok(count) => written += count,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            shared.bytes_written.fetch_add(written as u64, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    async fn stat(&self) -> Result<RemoteAttributes, RemoteError> {
        self.run(move |_, file| fstat(file).map(|stat| attributes(&stat))).await
    }

    async fn set_attributes(&self, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        self.run(move |_, file| change_open(file.as_fd(), set)).await
    }

    async fn fsync(&self) -> Result<(), RemoteError> {
        self.run(move |_, file| rustix::fs::fsync(file)).await
    }

    async fn close(&self) -> Result<(), RemoteError> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

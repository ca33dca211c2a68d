//! An SSH server as a [`Remote`].
//!
//! Two lanes: one for names and attributes, one for content, so that a look-up never waits behind a transfer. OpenSSH has one
//! answer (`SSH_FX_FAILURE`) for many reasons, so what failed is looked at once more to say why.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use scaup_sftp::client::{
    Attributes, FileHandle, Lane, OpenFlags, SetAttributes, SftpError, Statistics, StatusCode,
};
use scaup_sftp::ssh::Session;

use super::{
    Remote, RemoteAttributes, RemoteCounters, RemoteEntry, RemoteError, RemoteFile, RemoteKind, RemoteName,
    RemoteOpen, RemotePath, RemoteSetAttributes, RemoteStatistics,
};

/// A directory on an SSH server.
pub struct SftpRemote {
    names: Lane,
    content: Lane,
    root: Bytes,
    /// Ends with the last lane.
    _session: Option<Session>,
}

impl SftpRemote {
    /// Opens `directory` (empty: the login directory) on a server that one is logged in to.
    ///
    /// # Errors
    ///
    /// If the server has no SFTP, or no such directory.
    pub async fn open(session: Session, directory: &[u8], timeout: Duration) -> Result<Self, RemoteError> {
        let names = lane(&session, timeout).await?;
        // A server that allows one channel only (`MaxSessions 1`) has one lane for both.
        let content = match lane(&session, timeout).await {
            Ok(lane) => lane,
            Err(error) => {
                tracing::info!(%error, "the server allows one channel only");
                names.clone()
            }
        };
        Self::over(names, content, directory, Some(session)).await
    }

    /// Opens `directory` over lanes that stand already.
    ///
    /// # Errors
    ///
    /// If there is no such directory.
    pub async fn over(
        names: Lane,
        content: Lane,
        directory: &[u8],
        session: Option<Session>,
    ) -> Result<Self, RemoteError> {
        let directory = if directory.is_empty() { b"." } else { directory };
        let root = names.realpath(directory).await.map_err(plain)?;
        let root = if root.as_ref() == b"/" { Bytes::new() } else { root };
        let remote = Self { names, content, root, _session: session };
        match remote.stat(&RemotePath::root()).await?.kind {
            RemoteKind::Directory => Ok(remote),
            // The mounted directory itself may be a link: what is below it counts.
            RemoteKind::Symlink => {
                let inside =
                    remote.names.realpath(&[&remote.root[..], b"/."].concat()).await.map_err(plain)?;
                let remote = Self { root: inside, ..remote };
                match remote.stat(&RemotePath::root()).await?.kind {
                    RemoteKind::Directory => Ok(remote),
                    _ => Err(RemoteError::NotADirectory),
                }
            }
            _ => Err(RemoteError::NotADirectory),
        }
    }

    fn path(&self, path: &RemotePath) -> Vec<u8> {
        let mut whole = self.root.to_vec();
        if !path.is_root() || whole.is_empty() {
            whole.push(b'/');
        }
        whole.extend_from_slice(path.as_bytes());
        whole
    }

    /// Whether a name is taken.
    async fn exists(&self, path: &[u8]) -> Option<RemoteKind> {
        self.names.lstat(path).await.ok().map(|attributes| kind(&attributes))
    }

    /// Why making `path` failed.
    async fn why_not_made(&self, path: &[u8], error: SftpError) -> RemoteError {
        match error.code() {
            Some(StatusCode::Failure) if self.exists(path).await.is_some() => RemoteError::Exists,
            Some(StatusCode::Failure) => self.why_no_room(error).await,
            Some(StatusCode::NoSuchFile) => self.why_not_found(path).await,
            _ => plain(error),
        }
    }

    /// A missing name, or one behind something that is no directory.
    async fn why_not_found(&self, path: &[u8]) -> RemoteError {
        let parent = path.iter().rposition(|&byte| byte == b'/').and_then(|at| path.get(..at));
        match parent {
            Some(parent) if !parent.is_empty() => match self.exists(parent).await {
                Some(RemoteKind::Directory) | None => RemoteError::NotFound,
                Some(_) => RemoteError::NotADirectory,
            },
            _ => RemoteError::NotFound,
        }
    }

    /// A full disk, or something else.
    async fn why_no_room(&self, error: SftpError) -> RemoteError {
        no_room(&self.names, &self.root).await.unwrap_or_else(|| plain(error))
    }

    async fn why_not_removed(&self, path: &[u8], error: SftpError, wanted_directory: bool) -> RemoteError {
        let vague = matches!(error.code(), Some(StatusCode::Failure | StatusCode::PermissionDenied));
        match (vague, wanted_directory, self.exists(path).await) {
            (true, false, Some(RemoteKind::Directory)) => RemoteError::IsADirectory,
            (true, true, Some(RemoteKind::Directory)) if error.code() == Some(StatusCode::Failure) => {
                match self.names.list(path).await {
                    Ok(names) if names.iter().any(|entry| !is_dot(&entry.name)) => RemoteError::NotEmpty,
                    _ => plain(error),
                }
            }
            (true, true, Some(_)) if error.code() == Some(StatusCode::Failure) => RemoteError::NotADirectory,
            _ => plain(error),
        }
    }

    async fn why_not_renamed(&self, from: &[u8], to: &[u8], error: SftpError) -> RemoteError {
        if error.code() == Some(StatusCode::NoSuchFile) && self.exists(from).await.is_some() {
            return self.why_not_found(to).await;
        }
        if error.code() != Some(StatusCode::Failure) {
            return plain(error);
        }
        match (self.exists(from).await, self.exists(to).await) {
            (Some(RemoteKind::Directory), Some(RemoteKind::Directory)) => RemoteError::NotEmpty,
            (Some(RemoteKind::Directory), Some(_)) => RemoteError::NotADirectory,
            (Some(_), Some(RemoteKind::Directory)) => RemoteError::IsADirectory,
            _ => self.why_no_room(error).await,
        }
    }
}

async fn lane(session: &Session, timeout: Duration) -> Result<Lane, RemoteError> {
    let channel =
        session.open_sftp_channel().await.map_err(|error| RemoteError::Failure(format!("SFTP: {error}")))?;
    Lane::open(channel.into_stream(), timeout).await.map_err(plain)
}

/// The error as it stands, with nothing more known.
fn plain(error: SftpError) -> RemoteError {
    match error {
        SftpError::Status { code, message } => match code {
            StatusCode::NoSuchFile => RemoteError::NotFound,
            StatusCode::PermissionDenied => RemoteError::PermissionDenied,
            StatusCode::OpUnsupported => RemoteError::Unsupported("the server can't"),
            // OpenSSH's answer to ENAMETOOLONG and EINVAL.
            StatusCode::BadMessage => RemoteError::NameTooLong,
            _ => hinted(&message).unwrap_or(RemoteError::Failure(message)),
        },
        SftpError::NotOffered(extension) => RemoteError::Unsupported(extension),
        SftpError::Timeout(timeout) => RemoteError::Timeout(timeout),
        SftpError::Disconnected(why) => RemoteError::Disconnected(why),
        SftpError::Protocol(why) => RemoteError::Protocol(why),
    }
}

/// Some servers say more in words than by their codes.
fn hinted(message: &str) -> Option<RemoteError> {
    let message = message.to_lowercase();
    let hints = [
        ("no space", RemoteError::NoSpace),
        ("quota", RemoteError::NoSpace),
        ("read-only", RemoteError::ReadOnly),
        ("not empty", RemoteError::NotEmpty),
        ("not a directory", RemoteError::NotADirectory),
        ("is a directory", RemoteError::IsADirectory),
    ];
    hints.into_iter().find_map(|(words, error)| message.contains(words).then_some(error))
}

async fn no_room(lane: &Lane, root: &[u8]) -> Option<RemoteError> {
    let path = if root.is_empty() { b"/" } else { root };
    match lane.statistics(path).await {
        Ok(Statistics { blocks_available: 0, .. }) => Some(RemoteError::NoSpace),
        _ => None,
    }
}

fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

/// The kind of a node, by the type bits of its mode (`S_IFMT`). A server that leaves them out means files.
fn kind(attributes: &Attributes) -> RemoteKind {
    match attributes.permissions.unwrap_or(0) & 0o170_000 {
        0o040_000 => RemoteKind::Directory,
        0o120_000 => RemoteKind::Symlink,
        0o010_000 => RemoteKind::Fifo,
        0o140_000 => RemoteKind::Socket,
        0o020_000 => RemoteKind::CharDevice,
        0o060_000 => RemoteKind::BlockDevice,
        _ => RemoteKind::File,
    }
}

fn from_wire(attributes: &Attributes) -> RemoteAttributes {
    let (uid, gid) = attributes.owner.unwrap_or_default();
    let (accessed, modified) = attributes.times.unwrap_or_default();
    RemoteAttributes {
        kind: kind(attributes),
        size: attributes.size.unwrap_or(0),
        mode: u16::try_from(attributes.permissions.unwrap_or(0) & 0o7777).unwrap_or(0),
        uid,
        gid,
        accessed: UNIX_EPOCH + Duration::from_secs(u64::from(accessed)),
        modified: UNIX_EPOCH + Duration::from_secs(u64::from(modified)),
    }
}

/// Version 3 counts seconds from 1970 to 2106; what lies outside is the nearest it can say.
fn seconds(time: SystemTime) -> u32 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => u32::try_from(since.as_secs()).unwrap_or(u32::MAX),
        Err(_) => 0,
    }
}

fn to_wire(set: &RemoteSetAttributes) -> SetAttributes {
    SetAttributes {
        size: set.size,
        owner: set.owner,
        permissions: set.mode.map(u32::from),
        times: set.times.map(|(accessed, modified)| (seconds(accessed), seconds(modified))),
    }
}

fn with_mode(mode: u16) -> SetAttributes {
    SetAttributes { permissions: Some(u32::from(mode)), ..SetAttributes::default() }
}

#[async_trait]
impl Remote for SftpRemote {
    async fn stat(&self, path: &RemotePath) -> Result<RemoteAttributes, RemoteError> {
        let path = self.path(path);
        match self.names.lstat(&path).await {
            Ok(attributes) => Ok(from_wire(&attributes)),
            Err(error) => Err(plain(error)),
        }
    }

    async fn list(&self, path: &RemotePath) -> Result<Vec<RemoteEntry>, RemoteError> {
        let path = self.path(path);
        let names = match self.names.list(&path).await {
            Ok(names) => names,
            Err(error) if error.code() == Some(StatusCode::Failure) => {
                return Err(match self.exists(&path).await {
                    Some(RemoteKind::Directory) | None => plain(error),
                    Some(_) => RemoteError::NotADirectory,
                });
            }
            Err(error) => return Err(plain(error)),
        };
        let entries = names.into_iter().filter_map(|entry| {
            Some(RemoteEntry {
                name: RemoteName::parse(&entry.name)?,
                attributes: from_wire(&entry.attributes),
            })
        });
        Ok(entries.collect())
    }

    async fn open(&self, path: &RemotePath, how: RemoteOpen) -> Result<Arc<dyn RemoteFile>, RemoteError> {
        let path = self.path(path);
        let (flags, attributes) = match how {
            RemoteOpen::Read => (OpenFlags::Read, SetAttributes::default()),
            RemoteOpen::ReadWrite => (OpenFlags::ReadWrite, SetAttributes::default()),
            RemoteOpen::CreateNew(mode) => (OpenFlags::CreateNew, with_mode(mode)),
        };
        let handle = match self.content.open_file(&path, flags, &attributes).await {
            Ok(handle) => handle,
            Err(error) if flags == OpenFlags::CreateNew => return Err(self.why_not_made(&path, error).await),
            Err(error) if error.code() == Some(StatusCode::Failure) => {
                return Err(match self.exists(&path).await {
                    Some(RemoteKind::Directory) => RemoteError::IsADirectory,
                    _ => plain(error),
                });
            }
            Err(error) => return Err(plain(error)),
        };
        if let RemoteOpen::CreateNew(mode) = how {
            // The server's umask took bits away. Only where it shows is the mode set once more.
            const SERVER_UMASK_MAY_TAKE: u16 = 0o077;
            if mode & SERVER_UMASK_MAY_TAKE != 0 {
                self.content.set_open_attributes(&handle, &with_mode(mode)).await.map_err(plain)?;
            }
        }
        Ok(Arc::new(SftpFile {
            lane: self.content.clone(),
            names: self.names.clone(),
            root: self.root.clone(),
            handle,
        }))
    }

    async fn set_attributes(&self, path: &RemotePath, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        let path = self.path(path);
        self.names.set_attributes(&path, &to_wire(&set)).await.map_err(plain)
    }

    async fn mkdir(&self, path: &RemotePath, mode: u16) -> Result<(), RemoteError> {
        let path = self.path(path);
        match self.names.mkdir(&path, &with_mode(mode)).await {
            Ok(()) => {}
            Err(error) => return Err(self.why_not_made(&path, error).await),
        }
        self.names.set_attributes(&path, &with_mode(mode)).await.map_err(plain)
    }

    async fn rmdir(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let path = self.path(path);
        match self.names.rmdir(&path).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_removed(&path, error, true).await),
        }
    }

    async fn remove(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let path = self.path(path);
        match self.names.remove(&path).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_removed(&path, error, false).await),
        }
    }

    async fn rename(&self, from: &RemotePath, to: &RemotePath) -> Result<(), RemoteError> {
        let (from, to) = (self.path(from), self.path(to));
        match self.names.posix_rename(&from, &to).await {
            Ok(()) => Ok(()),
            Err(SftpError::NotOffered(_)) => self.rename_without_replacing(&from, &to).await,
            Err(error) => Err(self.why_not_renamed(&from, &to, error).await),
        }
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8]) -> Result<(), RemoteError> {
        let path = self.path(path);
        match self.names.symlink(target, &path).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_made(&path, error).await),
        }
    }

    async fn readlink(&self, path: &RemotePath) -> Result<Bytes, RemoteError> {
        let path = self.path(path);
        self.names.readlink(&path).await.map_err(plain)
    }

    async fn hard_link(&self, existing: &RemotePath, new: &RemotePath) -> Result<(), RemoteError> {
        let (existing, new) = (self.path(existing), self.path(new));
        match self.names.hard_link(&existing, &new).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_made(&new, error).await),
        }
    }

    async fn statistics(&self, path: &RemotePath) -> Result<RemoteStatistics, RemoteError> {
        let path = self.path(path);
        let s = self.names.statistics(&path).await.map_err(plain)?;
        Ok(RemoteStatistics {
            block_size: s.block_size,
            blocks: s.blocks,
            blocks_free: s.blocks_free,
            blocks_available: s.blocks_available,
            files: s.files,
            files_free: s.files_free,
            name_max: s.name_max,
        })
    }

    fn counters(&self) -> RemoteCounters {
        let (names, content) = (self.names.counters(), self.content.counters());
        RemoteCounters {
            requests: names.requests + content.requests,
            bytes_received: names.bytes_received + content.bytes_received,
            bytes_sent: names.bytes_sent + content.bytes_sent,
            reconnects: 0,
        }
    }
}

impl SftpRemote {
    /// On a server of plain version 3, whose RENAME can't replace: the target goes aside, comes back if the move fails, and is
    /// removed after it. A cut in between leaves the old content under a temporary name, beside the new.
    async fn rename_without_replacing(&self, from: &[u8], to: &[u8]) -> Result<(), RemoteError> {
        let error = match self.names.rename(from, to).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let replaces = matches!(
            (self.exists(from).await, self.exists(to).await),
            (Some(RemoteKind::File | RemoteKind::Symlink), Some(RemoteKind::File | RemoteKind::Symlink))
        );
        if !replaces {
            return Err(self.why_not_renamed(from, to, error).await);
        }
        let aside = [to, b".scaup-aside.~0"].concat();
        self.names.rename(to, &aside).await.map_err(plain)?;
        if let Err(error) = self.names.rename(from, to).await {
            self.names.rename(&aside, to).await.map_err(plain)?;
            return Err(plain(error));
        }
        self.names.remove(&aside).await.map_err(plain)
    }
}

struct SftpFile {
    lane: Lane,
    names: Lane,
    root: Bytes,
    handle: FileHandle,
}

impl SftpFile {
    async fn why_not_written(&self, error: SftpError) -> RemoteError {
        if error.code() == Some(StatusCode::Failure)
            && let Some(full) = no_room(&self.names, &self.root).await
        {
            return full;
        }
        plain(error)
    }
}

#[async_trait]
impl RemoteFile for SftpFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
        self.lane.read_at(&self.handle, offset, length).await.map_err(plain)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), RemoteError> {
        match self.lane.write_at(&self.handle, offset, &data).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_written(error).await),
        }
    }

    async fn stat(&self) -> Result<RemoteAttributes, RemoteError> {
        self.lane.fstat(&self.handle).await.map(|attributes| from_wire(&attributes)).map_err(plain)
    }

    async fn set_attributes(&self, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        self.lane.set_open_attributes(&self.handle, &to_wire(&set)).await.map_err(plain)
    }

    async fn fsync(&self) -> Result<(), RemoteError> {
        match self.lane.fsync(&self.handle).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_written(error).await),
        }
    }

    async fn close(&self) -> Result<(), RemoteError> {
        self.lane.close(&self.handle).await.map_err(plain)
    }
}

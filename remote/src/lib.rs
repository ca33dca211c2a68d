//! The interface through which the drive uses the server: positional, async, with typed errors.
//!
//! Two implementations: `sftp` (an SSH server) and `local` (a directory of this machine). The tests have a third, a
//! server in memory. Every call ends: each has a deadline of the implementation's own and returns
//! [`RemoteError::Timeout`] after it. A dropped future cancels nothing on the server, but leaves the connection in
//! order. Paths are relative to the directory that is mounted.
//!
//! What must always hold: an operation that was begun on a lost connection is begun again on the next, with the
//! knowledge that the server may have carried it out; an error that says nothing was answered
//! ([`RemoteError::is_unanswered`]) leaves open whether it was done, every other error is the server's refusal; nothing
//! that a server sends is believed without a bound.

mod listing;
pub mod local;
mod node;
mod path;
mod refusal;
pub mod sftp;
mod weakness;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use scaup_sftp::client::NoRoom;

pub use listing::{Record, RemoteListing};
use node::SET_GID;
pub use node::{RemoteAttributes, RemoteEntry, RemoteKind, RemoteSetAttributes};
pub use path::{RemoteName, RemotePath};
pub use refusal::{Refusal, Refusals};
pub use scaup_sftp::client::{HeldNames, NamesBudget};
pub use scaup_sftp::ssh::Agreed;
pub use weakness::Weakness;

/// How to open a file on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteOpen {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new file, for reading and writing, with these permission bits less those that the server's umask takes; fails
    /// with [`RemoteError::Exists`] if the name is taken.
    CreateNew(u16),
    /// The same with the permissions that the server gives to new files: what its umask leaves.
    CreateByUmask,
}

/// What a rename does with a name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// It replaces what has the name, as rename(2) does (`posix-rename@openssh.com`).
    Replace,
    /// It fails with [`RemoteError::Exists`]. OpenSSH's RENAME looks and renames in one step where a file is renamed,
    /// and in two where a directory is. Other servers' RENAME may replace a file, so the caller looks first.
    New,
}

/// Room on the road for content that nobody waits for yet. It counts as taken until this and its clones are dropped.
/// How that is counted only the implementation knows that [reserved](Remote::room_ahead) it.
#[derive(Clone, Default)]
pub struct Room(Option<Arc<dyn Any + Send + Sync>>);

impl Room {
    /// Room that is taken until `held` is dropped.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(held)))
    }

    /// Returns what the room was [made](Self::new) of; `None` if it is no `T`, or nothing is counted.
    #[must_use]
    pub fn held<T: Any + Send + Sync>(self) -> Option<Arc<T>> {
        self.0?.downcast().ok()
    }
}

/// Capacity of the server's file system, as `statvfs(3)` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteStatistics {
    /// Unit of the block counts, bytes.
    pub block_size: u64,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for ordinary users.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, bytes.
    pub name_max: u64,
}

/// What is known of a server and of the connection to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// How the connection is secured.
    pub agreed: Option<Agreed>,
    /// The extensions of SFTP that [`EXTENSIONS`] lists and the server offers.
    pub extensions: Vec<&'static str>,
    /// How many bytes it lets one request read, if it says.
    pub read_len_max: Option<u32>,
    /// What it does not do, as far as that is known by now.
    pub weaknesses: Vec<Weakness>,
}

/// The extensions of SFTP that are used where a server offers them, with what it means if it does not.
pub const EXTENSIONS: [(&str, Weakness); 7] = [
    ("posix-rename@openssh.com", Weakness::ReplacesInSteps),
    ("fsync@openssh.com", Weakness::ConfirmsNothing),
    ("limits@openssh.com", Weakness::SmallRequests),
    ("statvfs@openssh.com", Weakness::CountsNoSpace),
    ("hardlink@openssh.com", Weakness::NoHardLinks),
    ("lsetstat@openssh.com", Weakness::NoLinkAttributes),
    ("fstatvfs@openssh.com", Weakness::SeparateReading),
];

/// Counters of the traffic so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoteCounters {
    /// Requests sent.
    pub requests: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// How often the connection was restored.
    pub reconnects: u64,
}

/// Why the server did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// No such name (`SSH_FX_NO_SUCH_FILE`).
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("already exists")]
    Exists,
    /// The server's permissions forbid it.
    #[error("the server denied permission")]
    PermissionDenied,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsADirectory,
    /// The directory still holds names.
    #[error("directory not empty")]
    NotEmpty,
    /// The server's disk or quota is full.
    #[error("no space left on the server")]
    NoSpace,
    /// The server's file system is read-only.
    #[error("read-only on the server")]
    ReadOnly,
    /// Two places lie on different file systems of the server, so nothing can be moved or linked from one to the other.
    #[error("on another file system of the server")]
    OtherFileSystem,
    /// A name or path is too long for the server.
    #[error("name too long for the server")]
    NameTooLong,
    /// A file that can only be small is longer.
    #[error("a file of the vault that may have at most {limit} bytes is longer on the server")]
    TooLong {
        /// How long it may be, bytes.
        limit: usize,
    },
    /// A directory has more names than may be held in memory.
    #[error("the directory has more names than fit into memory; mount with a larger --memory")]
    TooManyNames,
    /// The server cannot do this at all.
    #[error("not supported by the server: {0}")]
    Unsupported(&'static str),
    /// The server took longer than the deadline.
    #[error("the server did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection is gone.
    #[error("connection to the server lost: {0}")]
    Disconnected(String),
    /// The file that was open is not there any more, or another one has its name.
    #[error("the file was replaced on the server while the connection was lost")]
    Replaced,
    /// The server answered against the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server failed and said no more than this.
    #[error("the server failed: {0}")]
    Failure(String),
}

impl From<NoRoom> for RemoteError {
    fn from(_: NoRoom) -> Self {
        Self::TooManyNames
    }
}

impl RemoteError {
    /// Its kind, without a word of its text: that may quote the server, whose words may hold names.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Exists => "Exists",
            Self::PermissionDenied => "PermissionDenied",
            Self::NotADirectory => "NotADirectory",
            Self::IsADirectory => "IsADirectory",
            Self::NotEmpty => "NotEmpty",
            Self::NoSpace => "NoSpace",
            Self::ReadOnly => "ReadOnly",
            Self::OtherFileSystem => "OtherFileSystem",
            Self::NameTooLong => "NameTooLong",
            Self::TooLong { .. } => "TooLong",
            Self::TooManyNames => "TooManyNames",
            Self::Unsupported(_) => "Unsupported",
            Self::Timeout(_) => "Timeout",
            Self::Disconnected(_) => "Disconnected",
            Self::Replaced => "Replaced",
            Self::Protocol(_) => "Protocol",
            Self::Failure(_) => "Failure",
        }
    }

    /// Whether no answer came: the server says nothing about what was asked.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Disconnected(_) | Self::Replaced)
    }

    /// Whether the server does not do this at all, or not for this user.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::PermissionDenied | Self::Unsupported(_))
    }

    /// Returns the error of a request that was not waited for any longer ([`Remote::refuse_requests`]).
    #[must_use]
    pub fn given_up() -> Self {
        Self::Disconnected("the server was not waited for any longer".to_owned())
    }

    /// Whether the server or the road failed, and did not just refuse.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_)
                | Self::Disconnected(_)
                | Self::TooLong { .. }
                | Self::TooManyNames
                | Self::Protocol(_)
                | Self::Failure(_)
        )
    }
}

/// Whether the server is reachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachability {
    /// It is reachable.
    Connected,
    /// The connection is lost and being re-established; with the reason why the last attempt failed.
    Reconnecting(String),
    /// The connection is lost and waits for a person, with the reason.
    Waiting(String),
}

/// The server, as the drive sees it.
#[async_trait]
pub trait Remote: Send + Sync + 'static {
    /// Attributes of what `path` names; links are not followed.
    async fn stat(&self, path: &RemotePath) -> Result<RemoteAttributes, RemoteError>;
    /// All names in the directory `path`, without `.` and `..`; unsafe names are dropped.
    async fn list(&self, path: &RemotePath) -> Result<Vec<RemoteEntry>, RemoteError>;
    /// The same in little memory, given up with [`RemoteError::TooManyNames`] where there are more than `most`, or more
    /// than the `budget` has room for: [that of names](Self::names_budget), or its part for guesses.
    async fn list_packed(
        &self,
        path: &RemotePath,
        most: usize,
        budget: &NamesBudget,
    ) -> Result<RemoteListing, RemoteError> {
        let entries = self.list(path).await?;
        if entries.len() > most {
            return Err(RemoteError::TooManyNames);
        }
        Ok(RemoteListing::of(entries, budget)?)
    }
    /// The memory that names from this server may take.
    fn names_budget(&self) -> &NamesBudget;
    /// Opens a regular file. A link in the last place is followed by the server, so callers stat first where it
    /// matters.
    async fn open(&self, path: &RemotePath, how: RemoteOpen) -> Result<Arc<dyn RemoteFile>, RemoteError>;
    /// Reads a whole small file, of at most `limit` bytes; a longer one fails with [`RemoteError::TooLong`].
    async fn read_small(&self, path: &RemotePath, limit: usize) -> Result<Bytes, RemoteError> {
        let file = self.open(path, RemoteOpen::Read).await?;
        let (_, content) = file.read_start(limit + 1, None).await?;
        if content.len() > limit {
            return Err(RemoteError::TooLong { limit });
        }
        Ok(content)
    }
    /// Changes attributes; a link in the last place is not followed where the server allows that.
    async fn set_attributes(&self, path: &RemotePath, set: RemoteSetAttributes) -> Result<(), RemoteError>;
    /// Makes a directory with these permission bits. What it inherits from the directory around it (set-gid, and with
    /// that the group of what is made in it) stays.
    async fn mkdir(&self, path: &RemotePath, mode: u16) -> Result<(), RemoteError>;
    /// Makes a directory with the permissions that the server gives to new ones: what its umask leaves.
    async fn mkdir_by_umask(&self, path: &RemotePath) -> Result<(), RemoteError>;
    /// Removes an empty directory.
    async fn rmdir(&self, path: &RemotePath) -> Result<(), RemoteError>;
    /// Removes a name that is not a directory.
    async fn remove(&self, path: &RemotePath) -> Result<(), RemoteError>;
    /// Renames; `how` says what happens where `to` is taken.
    async fn rename(&self, from: &RemotePath, to: &RemotePath, how: RenameHow) -> Result<(), RemoteError>;
    /// Waits until the server has the names in the directory `path` on its disk. Returns at once where the server can't
    /// be asked for that.
    async fn sync_directory(&self, path: &RemotePath) -> Result<(), RemoteError>;
    /// Makes the symbolic link `path` with the content `target`.
    async fn symlink(&self, path: &RemotePath, target: &[u8]) -> Result<(), RemoteError>;
    /// Reads a symbolic link.
    async fn readlink(&self, path: &RemotePath) -> Result<Bytes, RemoteError>;
    /// Makes `new` another name of the file `existing` (`hardlink@openssh.com`).
    async fn hard_link(&self, existing: &RemotePath, new: &RemotePath) -> Result<(), RemoteError>;
    /// Capacity of the file system that `path` lies on (`statvfs@openssh.com`).
    async fn statistics(&self, path: &RemotePath) -> Result<RemoteStatistics, RemoteError>;
    /// Waits until the road has room for `length` bytes that nobody waits for yet: what programs wait for goes first.
    async fn room_ahead(&self, _length: usize) -> Result<Room, RemoteError> {
        Ok(Room::default())
    }
    /// What is known of the server now; `None` where there is none, or no connection to it.
    fn server(&self) -> Option<ServerFacts> {
        None
    }
    /// Traffic so far.
    fn counters(&self) -> RemoteCounters;
    /// Whether the server can be asked now. While it can't, what is known of it is all there is.
    fn is_reachable(&self) -> bool {
        true
    }
    /// Has all requests fail, those under way too, until the result is dropped. A request that waits for nobody need
    /// not.
    fn refuse_requests(&self) -> Refusal {
        Refusal::default()
    }
    /// Whether content fills a slow line right now: what nobody waits for yet had better not be asked.
    fn is_filled(&self) -> bool {
        false
    }
}

/// An open file on the server.
///
/// Calls are carried out in the order in which they are first polled, though replies may come in any order: an
/// extension of a file that is cut short is cut at its end. Only the writes to a new file before its first `fsync` come
/// in any order: nobody should see it under its final name before that.
///
/// Dropping it closes it in the background; `close` reports whether that went well.
#[async_trait]
pub trait RemoteFile: Send + Sync + 'static {
    /// Reads `length` bytes from `offset`, of any length: the implementation splits and gathers. Fewer come only at the
    /// end of the file.
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, RemoteError>;
    /// Like [`Self::read_at`], for content that has its part of `room`, which [was waited for](Remote::room_ahead)
    /// before.
    async fn read_ahead(&self, offset: u64, length: usize, room: Room) -> Result<Bytes, RemoteError> {
        let read = self.read_at(offset, length).await;
        drop(room);
        read
    }
    /// The attributes and the first `length` bytes (all, if the file is shorter), in one round trip. What nobody waits
    /// for yet has its part of `room`.
    async fn read_start(
        &self,
        length: usize,
        room: Option<Room>,
    ) -> Result<(RemoteAttributes, Bytes), RemoteError> {
        let start = async {
            match room {
                Some(room) => self.read_ahead(0, length, room).await,
                None => self.read_at(0, length).await,
            }
        };
        let (attributes, start) = futures::join!(self.stat(), start);
        Ok((attributes?, start?))
    }
    /// Whether it can be written to. One that was opened for that can't if the server empties a file which is opened
    /// for writing: then it is replaced as a whole.
    fn takes_writes(&self) -> bool {
        true
    }
    /// Writes all of `data` at `offset`. Data of at most 32,816 bytes (one chunk) goes in one message.
    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), RemoteError>;
    /// Writes the whole content of a new file (what was written before stays where `data` does not reach), sets
    /// attributes, waits until the server has it on disk where it can say, and returns the file's attributes then.
    async fn write_whole(
        &self,
        data: Bytes,
        set: RemoteSetAttributes,
    ) -> Result<RemoteAttributes, RemoteError> {
        if !data.is_empty() {
            self.write_at(0, data).await?;
        }
        if set != RemoteSetAttributes::default() {
            self.set_attributes(set).await?;
        }
        match self.fsync().await {
            Ok(()) | Err(RemoteError::Unsupported(_)) => {}
            Err(error) => return Err(error),
        }
        self.stat().await
    }
    /// Attributes of the open file, even after it was renamed or removed.
    async fn stat(&self) -> Result<RemoteAttributes, RemoteError>;
    /// Changes attributes of the open file.
    async fn set_attributes(&self, set: RemoteSetAttributes) -> Result<(), RemoteError>;
    /// Waits until the server has the file on disk (`fsync@openssh.com`).
    async fn fsync(&self) -> Result<(), RemoteError>;
    /// Closes the file.
    async fn close(&self) -> Result<(), RemoteError>;
}

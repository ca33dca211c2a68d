//! The state of one file's content: what the server has, and what programs have written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use scaup_crypto::{ChunkNumber, CleartextLen};
use tokio::sync::RwLockWriteGuard;

use super::chunks::{ChunkKey, ContentId};
use super::codec::Codec;
use super::file::File;
use super::staged::StagedFile;
use super::uploader::Uploader;
use crate::drive::error::DriveError;
use crate::remote::{RemoteAttributes, RemoteFile};

/// Returns the present time as a server can keep it: SFTP version 3 has whole seconds.
pub(in crate::drive) fn present() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// Size and time of a file on the server, to detect whether somebody else changed it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drive) struct Base {
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

impl Base {
    /// When the server's file was last changed.
    pub(in crate::drive) fn modified(self) -> SystemTime {
        self.modified
    }
}

impl From<RemoteAttributes> for Base {
    fn from(attributes: RemoteAttributes) -> Self {
        Self { size: attributes.size, modified: attributes.modified }
    }
}

/// A file on the server that has its name: changes are written in place.
pub(in crate::drive) struct Stored {
    pub(in crate::drive) file: Arc<dyn RemoteFile>,
    pub(in crate::drive) writable: bool,
    /// Size and time when it was opened, or when it was last saved here.
    pub(super) base: Base,
    /// The file was compared with `base` since the last commit.
    pub(super) compared: bool,
    /// The last chunk of the file in a vault, if the chunk is not full: its number and its cleartext. The chunk is
    /// replaced as the file grows, and a server that has no room for the new one may leave half of it.
    pub(super) end: Option<(ChunkNumber, Bytes)>,
    /// The server had no room for the last append.
    pub(super) lacks_room: bool,
}

impl Stored {
    /// Describes a file that was just opened.
    pub(super) fn new(file: Arc<dyn RemoteFile>, writable: bool, base: Base) -> Self {
        Self { file, writable, base, compared: false, end: None, lacks_room: false }
    }
}

/// Which file on the server holds the content.
pub(in crate::drive) enum Backing {
    /// The file itself.
    Stored(Stored),
    /// A temporary file beside the file, to be renamed to the file's name.
    Staged {
        file: Arc<StagedFile>,
        /// Size and time of the file that will be replaced; `None` if the name was free.
        replaces: Option<Base>,
    },
}

impl Backing {
    pub(in crate::drive) fn file(&self) -> Arc<dyn RemoteFile> {
        match self {
            Self::Stored(stored) => Arc::clone(&stored.file),
            Self::Staged { file, .. } => Arc::clone(file) as Arc<dyn RemoteFile>,
        }
    }

    pub(in crate::drive) fn staged(&self) -> Option<Arc<StagedFile>> {
        match self {
            Self::Stored(_) => None,
            Self::Staged { file, .. } => Some(Arc::clone(file)),
        }
    }

    pub(super) fn is_staged(&self) -> bool {
        matches!(self, Self::Staged { .. })
    }
}

/// The content of a file and its write-back state.
pub(in crate::drive) struct State {
    pub(in crate::drive) backing: Backing,
    /// How chunks are encoded, or why the file's header can't be used.
    pub(super) codec: Result<Arc<Codec>, DriveError>,
    pub(super) content: ContentId,
    /// The length as programs see it.
    pub(super) length: CleartextLen,
    /// The length of the content that the server's file has.
    pub(super) stored_length: CleartextLen,
    /// How far the server's file may reach: a write that failed or got no reply may still have reached the server.
    pub(super) reach: CleartextLen,
    /// Chunks written and not sent; each is as long as the chunk is.
    pub(super) dirty: BTreeMap<ChunkNumber, Bytes>,
    /// Chunks sent and not acknowledged.
    pub(super) sending: HashMap<ChunkNumber, Bytes>,
    /// Sent chunks behind the end of the server's file that were acknowledged before the chunk in front of them.
    pub(super) early: BTreeSet<ChunkNumber>,
    pub(super) uploader: Option<Uploader>,
    /// The header of a staged file has to be sent with the next chunk.
    pub(super) header_unsent: bool,
    /// Something must reach the server before the content is safe there, even if no chunk is dirty.
    pub(super) uncommitted: bool,
    /// Times to set when everything is sent: sending changes them.
    pub(super) times: Option<(SystemTime, SystemTime)>,
    /// A failure that no program was told of yet.
    pub(super) failed: Option<DriveError>,
}

impl State {
    /// Creates the state of content of which the server's file has all, `length` bytes.
    pub(super) fn new(
        backing: Backing,
        codec: Result<Arc<Codec>, DriveError>,
        content: ContentId,
        length: CleartextLen,
    ) -> Self {
        Self {
            backing,
            codec,
            content,
            length,
            stored_length: length,
            reach: length,
            dirty: BTreeMap::new(),
            sending: HashMap::new(),
            early: BTreeSet::new(),
            uploader: None,
            header_unsent: false,
            uncommitted: false,
            times: None,
            failed: None,
        }
    }

    pub(super) fn codec(&self) -> Result<&Arc<Codec>, DriveError> {
        self.codec.as_ref().map_err(Clone::clone)
    }

    /// Returns size and time of the server's file; `None` for content that has no name yet.
    pub(in crate::drive) fn stored_base(&self) -> Option<Base> {
        match self.backing {
            Backing::Stored(Stored { base, .. }) => Some(base),
            Backing::Staged { .. } => None,
        }
    }

    pub(super) fn key(&self, number: ChunkNumber) -> ChunkKey {
        ChunkKey { content: self.content, number }
    }

    /// Forgets the keys and the content: the vault was locked. Programs that have the file open read and write nothing
    /// from now on. Content that has a name must have been saved before; content that has lost its name is lost.
    pub(in crate::drive) fn forget_content(&mut self) {
        if self.uncommitted || !self.dirty.is_empty() || !self.sending.is_empty() {
            self.failed = Some(DriveError::Locked);
        }
        self.codec = Err(DriveError::Locked);
        self.content = ContentId::fresh();
        self.uploader = None;
        self.dirty.clear();
        self.sending.clear();
        self.early.clear();
        if let Backing::Stored(stored) = &mut self.backing {
            stored.end = None;
        }
        self.uncommitted = false;
    }

    /// Returns the number of bytes that are not on the server.
    pub(super) fn unsent_bytes(&self) -> u64 {
        let dirty: usize = self.dirty.values().map(Bytes::len).sum();
        let sending: usize = self.sending.values().map(Bytes::len).sum();
        (dirty + sending) as u64
    }
}

/// The state, locked to be changed. What others see of the file without the lock is brought up to date when this is
/// dropped.
pub(in crate::drive) struct StateGuard<'a> {
    file: &'a File,
    state: RwLockWriteGuard<'a, State>,
}

impl<'a> StateGuard<'a> {
    pub(super) fn new(file: &'a File, state: RwLockWriteGuard<'a, State>) -> Self {
        Self { file, state }
    }
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        self.file.update_snapshot(&self.state);
    }
}

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
use super::sealed_place::SealedPlace;
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

/// Whether the content can be read and written.
pub(super) enum Access {
    /// It can, with this codec.
    Usable {
        codec: Arc<Codec>,
        /// The header has to be sent with the first chunk.
        header_unsent: bool,
    },
    /// The file on the server has a damaged header, or an impossible length: it can only be replaced.
    Damaged(String),
    /// The vault was locked before all was saved. What has to be sent is encrypted, and needs no key; programs can't
    /// read or write it.
    Sealed {
        codec: Arc<Codec>,
        /// As above.
        header_unsent: bool,
        /// Where it is saved.
        place: Arc<SealedPlace>,
    },
    /// The vault was locked.
    Locked {
        /// Something was unsaved then and could not be saved: every program that asks is told.
        lost_unsaved: bool,
    },
}

impl Access {
    /// Returns the access to content that the server's file has, with its header.
    pub(super) fn with_header(codec: Codec) -> Self {
        Self::Usable { codec: Arc::new(codec), header_unsent: false }
    }

    /// Returns the access to content whose header, if it has one, is not on the server.
    pub(super) fn without_header(codec: Arc<Codec>) -> Self {
        Self::Usable { header_unsent: codec.has_header(), codec }
    }
}

/// What has to be saved besides the chunks that are dirty or being sent.
pub(super) enum Rest {
    /// Nothing.
    Nothing,
    /// Something: the content is not safe on the server before the next commit, even if no chunk is dirty.
    Something,
    /// Something, since a send failed; no program was told of that yet.
    Failed(DriveError),
}

/// The content of a file and its write-back state.
pub(in crate::drive) struct State {
    pub(in crate::drive) backing: Backing,
    pub(super) access: Access,
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
    pub(super) rest: Rest,
    /// Times to set when everything is sent: sending changes them.
    pub(super) times: Option<(SystemTime, SystemTime)>,
}

impl State {
    /// Creates the state of content of which the server's file has all, `length` bytes.
    pub(super) fn new(backing: Backing, access: Access, content: ContentId, length: CleartextLen) -> Self {
        Self {
            backing,
            access,
            content,
            length,
            stored_length: length,
            reach: length,
            dirty: BTreeMap::new(),
            sending: HashMap::new(),
            early: BTreeSet::new(),
            uploader: None,
            rest: Rest::Nothing,
            times: None,
        }
    }

    /// Returns how chunks are encoded, or why the content can't be read and written.
    pub(super) fn codec(&self) -> Result<&Arc<Codec>, DriveError> {
        match &self.access {
            Access::Usable { codec, .. } => Ok(codec),
            Access::Damaged(what) => Err(DriveError::Damaged(what.clone())),
            Access::Sealed { .. } | Access::Locked { .. } => Err(DriveError::Locked),
        }
    }

    /// Returns how the chunks that are to be sent are encoded, or why nothing can be sent.
    pub(super) fn sending_codec(&self) -> Result<&Arc<Codec>, DriveError> {
        match &self.access {
            Access::Sealed { codec, .. } => Ok(codec),
            _ => self.codec(),
        }
    }

    /// Returns where content is saved whose vault was locked before that.
    pub(super) fn sealed_place(&self) -> Option<&Arc<SealedPlace>> {
        match &self.access {
            Access::Sealed { place, .. } => Some(place),
            _ => None,
        }
    }

    /// Returns where a chunk that is to be sent ends.
    pub(super) fn end_of(&self, number: ChunkNumber, chunk: &Bytes) -> CleartextLen {
        let length = self.sending_codec().map_or(chunk.len() as u64, |codec| codec.cleartext_len(chunk));
        number.start().saturating_add(length)
    }

    /// Whether the content is encrypted, and can be sent.
    pub(super) fn has_header(&self) -> bool {
        self.sending_codec().is_ok_and(|codec| codec.has_header())
    }

    /// Whether the header has to be sent.
    pub(super) fn is_header_unsent(&self) -> bool {
        matches!(
            self.access,
            Access::Usable { header_unsent: true, .. } | Access::Sealed { header_unsent: true, .. }
        )
    }

    /// Notes that the header is on its way, or on the server.
    pub(super) fn note_header_sent(&mut self) {
        if let Access::Usable { header_unsent, .. } | Access::Sealed { header_unsent, .. } = &mut self.access
        {
            *header_unsent = false;
        }
    }

    /// Notes that the server may not have the header.
    pub(super) fn take_header_back(&mut self) {
        if let Access::Usable { codec, header_unsent } | Access::Sealed { codec, header_unsent, .. } =
            &mut self.access
        {
            *header_unsent = codec.has_header();
        }
    }

    /// Notes that the content is not safe on the server before the next commit.
    pub(super) fn note_change(&mut self) {
        if matches!(self.rest, Rest::Nothing) {
            self.rest = Rest::Something;
        }
    }

    /// Notes that a send failed. Programs are told of the first failure.
    pub(super) fn note_failure(&mut self, error: DriveError) {
        if !matches!(self.rest, Rest::Failed(_)) {
            self.rest = Rest::Failed(error);
        }
    }

    /// Returns the failure that programs are to be told of.
    pub(super) fn failure(&self) -> Option<&DriveError> {
        match (&self.access, &self.rest) {
            (Access::Locked { lost_unsaved: true }, _) => Some(&DriveError::Locked),
            (_, Rest::Failed(error)) => Some(error),
            (_, Rest::Nothing | Rest::Something) => None,
        }
    }

    /// Returns the failure of a send, which nobody else is told of then.
    pub(super) fn take_failure(&mut self) -> Option<DriveError> {
        match std::mem::replace(&mut self.rest, Rest::Something) {
            Rest::Failed(error) => Some(error),
            rest => {
                self.rest = rest;
                None
            }
        }
    }

    /// Whether anything has to reach the server before the content is safe there.
    pub(super) fn is_unsaved(&self) -> bool {
        !matches!(self.rest, Rest::Nothing) || !self.dirty.is_empty() || !self.sending.is_empty()
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
        let was_lost = matches!(self.access, Access::Locked { lost_unsaved: true });
        self.access = Access::Locked { lost_unsaved: was_lost || self.is_unsaved() };
        self.content = ContentId::fresh();
        self.uploader = None;
        self.dirty.clear();
        self.sending.clear();
        self.early.clear();
        if let Backing::Stored(stored) = &mut self.backing {
            stored.end = None;
        }
        self.rest = Rest::Nothing;
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

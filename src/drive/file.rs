//! One open or unsaved file: its content, from what the server has to what programs have written.
//!
//! All handles of an inode share one [`File`]. Its content is, chunk by chunk and in this order: what is *dirty*
//! (written by programs, not sent), what is *sending* (sent, not acknowledged), what the chunk cache holds, and what
//! the server has. `file.rs` opens and reads; `writeback.rs` writes, truncates and commits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use scaup_fuse::filesystem::Inode;
use tokio::sync::RwLock;

use super::Drive;
use super::chunks::{ChunkCache, ChunkKey, Claim, ContentId, Promise, Waiting};
use super::codec::{CHUNK_LEN, Codec};
use super::error::DriveError;
use super::location::Location;
use super::opening::OpenedContent;
use super::shown::{Busy, Readable, Shown};
use super::staged::StagedFile;
use super::start::{Fetching, Start};
use super::status::Counters;
use super::uploader::Uploader;
use crate::remote::{RemoteAttributes, RemoteError, RemoteFile, RemoteOpen, Room};

/// The present as a server can keep it: SFTP version 3 has whole seconds.
pub(super) fn present() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// How a file on the server looked: what tells whether somebody else changed it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    size: u64,
    modified: SystemTime,
}

impl Base {
    /// When the server's file was last changed.
    pub(super) fn modified(self) -> SystemTime {
        self.modified
    }
}

impl From<RemoteAttributes> for Base {
    fn from(attributes: RemoteAttributes) -> Self {
        Self { size: attributes.size, modified: attributes.modified }
    }
}

/// Which file on the server holds the content.
pub(super) enum Backing {
    /// The file itself: changes go in place.
    Stored { file: Arc<dyn RemoteFile>, writable: bool, base: Base },
    /// A temporary file beside it, which will take its name.
    Staged {
        file: Arc<StagedFile>,
        /// How the file looked that will be replaced; `None` if the name was free.
        replaces: Option<Base>,
    },
}

impl Backing {
    pub(super) fn file(&self) -> Arc<dyn RemoteFile> {
        match self {
            Self::Stored { file, .. } => Arc::clone(file),
            Self::Staged { file, .. } => Arc::clone(file) as Arc<dyn RemoteFile>,
        }
    }

    pub(super) fn staged(&self) -> Option<Arc<StagedFile>> {
        match self {
            Self::Stored { .. } => None,
            Self::Staged { file, .. } => Some(Arc::clone(file)),
        }
    }

    pub(super) fn is_staged(&self) -> bool {
        matches!(self, Self::Staged { .. })
    }
}

/// Length of chunk `number` of content that has `length` bytes.
fn chunk_len(length: u64, number: u64) -> u64 {
    length.saturating_sub(number.saturating_mul(CHUNK_LEN)).min(CHUNK_LEN)
}

/// The content and what is known of it.
pub(super) struct State {
    pub(super) backing: Backing,
    /// How chunks are stored, or why the file's header can't be used.
    pub(super) codec: Result<Arc<Codec>, DriveError>,
    pub(super) content: ContentId,
    /// Cleartext length, as programs see it.
    pub(super) length: u64,
    /// Cleartext length of what the server's file holds.
    pub(super) stored_length: u64,
    /// How far the server's file may reach, bytes of cleartext: what failed or was not answered may be there all the same.
    pub(super) reach: u64,
    /// Chunks written and not sent; each is as long as the chunk is.
    pub(super) dirty: BTreeMap<u64, Bytes>,
    /// Chunks sent and not acknowledged.
    pub(super) sending: HashMap<u64, Bytes>,
    /// Those of them that go behind the end of the server's file, and were acknowledged before the one in front of them.
    pub(super) early: BTreeSet<u64>,
    pub(super) uploader: Option<Uploader>,
    /// The last chunk of the server's file, of a vault, if it is not full: its number and its cleartext. It is replaced as the file grows, and a
    /// server that has no room for that may leave half of it.
    pub(super) stored_end: Option<(u64, Bytes)>,
    /// The server had no room for what was added last.
    pub(super) lacks_room: bool,
    /// The header of a staged file has to go with the next chunk.
    pub(super) header_unsent: bool,
    /// Something must reach the server before the content is safe there, even if no chunk is dirty.
    pub(super) uncommitted: bool,
    /// Times to set when everything is sent: sending changes them.
    pub(super) times: Option<(SystemTime, SystemTime)>,
    /// In place: the server's file was compared with `base` since the last commit.
    pub(super) compared: bool,
    /// What failed and was not yet told to a program.
    pub(super) failed: Option<DriveError>,
}

impl State {
    /// Content of which the server's file has `length` bytes of cleartext, and nothing waits.
    pub(super) fn new(
        backing: Backing,
        codec: Result<Arc<Codec>, DriveError>,
        content: ContentId,
        length: u64,
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
            stored_end: None,
            lacks_room: false,
            header_unsent: false,
            uncommitted: false,
            times: None,
            compared: false,
            failed: None,
        }
    }

    pub(super) fn codec(&self) -> Result<&Arc<Codec>, DriveError> {
        self.codec.as_ref().map_err(Clone::clone)
    }

    /// How the server's file looked; `None` for content that has no name yet.
    pub(super) fn stored_base(&self) -> Option<Base> {
        match self.backing {
            Backing::Stored { base, .. } => Some(base),
            Backing::Staged { .. } => None,
        }
    }

    /// Length of chunk `number` as programs see it, bytes.
    pub(super) fn chunk_len(&self, number: u64) -> u64 {
        chunk_len(self.length, number)
    }

    /// Length of chunk `number` in the server's file, bytes of cleartext.
    pub(super) fn stored_chunk_len(&self, number: u64) -> u64 {
        chunk_len(self.stored_length, number)
    }

    pub(super) fn key(&self, number: u64) -> ChunkKey {
        ChunkKey { content: self.content, number }
    }

    /// Forgets the keys and the content, what was never sent as well: the vault was locked.
    fn forget_content(&mut self) {
        if self.uncommitted || !self.dirty.is_empty() || !self.sending.is_empty() {
            self.failed = Some(DriveError::Locked);
        }
        self.codec = Err(DriveError::Locked);
        self.content = ContentId::fresh();
        self.uploader = None;
        self.dirty.clear();
        self.sending.clear();
        self.early.clear();
        self.stored_end = None;
        self.uncommitted = false;
    }

    /// Bytes that are not on the server.
    pub(super) fn unsent_bytes(&self) -> u64 {
        let dirty: usize = self.dirty.values().map(Bytes::len).sum();
        let sending: usize = self.sending.values().map(Bytes::len).sum();
        (dirty + sending) as u64
    }
}

/// Content that is not on the server yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnsavedContent {
    pub(super) bytes: u64,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
    /// When a program says that it was last read; `None` if none did.
    pub(super) accessed: Option<SystemTime>,
    since: Instant,
    /// When a program last wrote.
    written: Instant,
    /// It has no name yet, and a program that has it open may not be done with it.
    is_growing: bool,
    /// It will take the place of other content, and is too long to have been written at once.
    is_long_replacement: bool,
}

impl UnsavedContent {
    /// How long it has waited to be saved.
    pub(super) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether its program is done with it, or has written nothing for so `long` that it must be. What nobody has seen yet is to be seen whole.
    pub(super) fn is_whole(&self, long: Duration) -> bool {
        !self.is_growing || self.written.elapsed() >= long
    }

    /// Whether saving it now takes nothing away: half of it is better than nothing, but not better than what was there before.
    pub(super) fn harms_nothing(&self, long: Duration) -> bool {
        !self.is_long_replacement || self.is_whole(long)
    }
}

/// One file of the mount.
pub(super) struct File {
    pub(super) inode: Inode,
    pub(super) state: RwLock<State>,
    /// What is read while somebody has the state and waits for the server.
    shown: Shown,
    /// A copy of what others ask about while the state is busy.
    unsaved: Mutex<Option<UnsavedContent>>,
    /// What all files of the drive have unsent.
    unsent: Arc<Unsent>,
    /// This one's part of its bytes. What has lost its name is never saved, but is in memory and on its way like all else.
    held: AtomicU64,
    unlinked: AtomicBool,
    /// A program closed it, and nobody wrote since: what is unsaved is whole.
    closed: AtomicBool,
    /// How often the server has acknowledged changes inside its file, and how many of these it has put on its disk since.
    acknowledged: AtomicU64,
    on_disk: AtomicU64,
    /// The length as programs see it, for when the state is busy.
    length: AtomicU64,
}

/// What programs wrote and the server does not have, of all files.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: AtomicU64,
    files: AtomicU64,
    /// Bytes of the writes that are being taken, and are not counted as unsent yet.
    being_taken: AtomicU64,
}

/// Room for the bytes of one write, until that is taken.
pub(super) struct Reservation<'a> {
    unsent: &'a Unsent,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.unsent.being_taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Unsent {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Room for so many more bytes, if no more than `most` are unsent then: any number of programs may write at the same moment.
    pub(super) fn reserve(&self, bytes: u64, most: u64) -> Option<Reservation<'_>> {
        let before = self.being_taken.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Reservation { unsent: self, bytes };
        (self.bytes() + before + bytes <= most).then_some(reservation)
    }

    fn change_bytes(&self, before: u64, now: u64) {
        self.bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    fn change_files(&self, had_unsaved: bool, has_unsaved: bool) {
        self.files.fetch_add(u64::from(has_unsaved).wrapping_sub(u64::from(had_unsaved)), Ordering::Relaxed);
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let had_unsaved = self.lock_unsaved().take().is_some();
        self.unsent.change_files(had_unsaved, false);
        self.unsent.change_bytes(self.held.swap(0, Ordering::Relaxed), 0);
    }
}

impl File {
    pub(super) fn new(drive: &Drive, inode: Inode, state: State) -> Arc<Self> {
        let file = Self {
            inode,
            length: AtomicU64::new(state.length),
            state: RwLock::new(state),
            shown: Shown::default(),
            unsaved: Mutex::new(None),
            unsent: Arc::clone(&drive.unsent),
            held: AtomicU64::new(0),
            unlinked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            on_disk: AtomicU64::new(0),
        };
        Arc::new(file)
    }

    /// Opens what the server has. A vault file's header, and the first chunk with it, come along in one message.
    pub(super) async fn open(
        drive: &Drive,
        location: &Location,
        writable: bool,
        known: Option<(ContentId, Base)>,
    ) -> Result<State, DriveError> {
        let how = if writable { RemoteOpen::ReadWrite } else { RemoteOpen::Read };
        let (path, length) = (location.file_path(), location.first_read_len());
        let start = Start::fetch(drive.remote.as_ref(), &path, how, length).await?;
        State::from_start(drive, location, start, writable, known).await
    }

    /// Opens for reading what the server has, with a start that was asked for ahead. If that failed, the server is asked anew.
    pub(super) async fn open_with(
        drive: &Drive,
        location: &Location,
        start: Fetching,
        known: Option<(ContentId, Base)>,
    ) -> Result<State, DriveError> {
        let is_done = start.is_done();
        match start.done().await {
            Ok(start) => State::from_start(drive, location, start, false, known).await,
            // The program has waited as long as it may, unless that was before it asked.
            Err(DriveError::Remote(error)) if error.is_unanswered() && !is_done => Err(error.into()),
            Err(_) => Self::open(drive, location, false, known).await,
        }
    }

    /// A program closed it: what is unsaved is whole.
    pub(super) fn note_closed(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(unsaved) = self.lock_unsaved().as_mut() {
            unsaved.is_growing = false;
        }
    }

    /// Whether it was closed, and is only still being saved.
    pub(super) fn is_being_saved(&self) -> bool {
        self.closed.load(Ordering::Acquire) && self.unsaved().is_some()
    }

    /// The server has acknowledged changes inside its file. New content is on its disk before it gets its name.
    pub(super) fn note_acknowledged(&self) {
        self.acknowledged.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the server has acknowledged changes that may be nowhere but in its memory.
    pub(super) fn is_off_disk(&self) -> bool {
        !self.is_unlinked()
            && self.on_disk.load(Ordering::Acquire) < self.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until the server has on its disk what it has acknowledged so far, where it can say.
    pub(super) async fn put_on_disk(&self) -> Result<(), DriveError> {
        let (file, acknowledged) = {
            let state = self.state.read().await;
            (state.backing.file(), self.acknowledged.load(Ordering::Acquire))
        };
        if !self.is_off_disk() {
            return Ok(());
        }
        let synced = match file.fsync().await {
            Err(RemoteError::Unsupported(_)) => Ok(()),
            synced => synced,
        };
        // Somebody else's file has the name after a reconnection: there is nothing left to put anywhere, and programs are told.
        if matches!(synced, Ok(()) | Err(RemoteError::Replaced)) {
            self.on_disk.fetch_max(acknowledged, Ordering::AcqRel);
        }
        Ok(synced?)
    }

    /// Whether its name was removed while it is open.
    pub(super) fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Acquire)
    }

    /// What is not on the server yet.
    pub(super) fn unsaved(&self) -> Option<UnsavedContent> {
        *self.lock_unsaved()
    }

    /// The length as programs see it.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// Whether a program that closes it has nothing to wait for, and is told nothing.
    pub(super) fn has_nothing_to_tell(&self) -> bool {
        self.unsaved().is_none() && self.state.try_read().is_ok_and(|state| state.failed.is_none())
    }

    /// What whoever opens it has to know; `None` while somebody has just got to work on it.
    pub(super) fn opened_content(&self) -> Option<OpenedContent> {
        match self.state.try_read() {
            Ok(state) => Some(OpenedContent::of(&state)),
            Err(_) => self.shown.read(|shown| shown.opened().clone()),
        }
    }

    /// Lets others read what the content is now while who has the `state` waits for the server. The result has to go before the state does.
    pub(super) fn show(&self, state: &State) -> Busy<'_> {
        self.shown.show(state)
    }

    /// What was sent has arrived: whoever reads meanwhile finds it in the cache, or on the server.
    pub(super) fn note_arrived(&self, state: &State, numbers: Range<u64>) {
        self.shown.note_arrived(state, numbers);
    }

    fn lock_unsaved(&self) -> MutexGuard<'_, Option<UnsavedContent>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the copy up to date with the state.
    pub(super) fn note(&self, state: &State) {
        self.length.store(state.length, Ordering::Relaxed);
        let bytes = state.unsent_bytes();
        self.unsent.change_bytes(self.held.swap(bytes, Ordering::Relaxed), bytes);
        let mut unsaved = self.lock_unsaved();
        let waits = state.uncommitted || !state.dirty.is_empty() || !state.sending.is_empty();
        let (modified, since, written) = match *unsaved {
            Some(before) => (before.modified, before.since, before.written),
            None => (present(), Instant::now(), Instant::now()),
        };
        let modified = state.times.map_or(modified, |(_, modified)| modified);
        let had_unsaved = unsaved.is_some();
        *unsaved = (waits && !self.is_unlinked()).then(|| UnsavedContent {
            bytes,
            length: state.length,
            modified,
            accessed: state.times.map(|(accessed, _)| accessed),
            since,
            written,
            is_growing: state.backing.is_staged() && !self.closed.load(Ordering::Acquire),
            is_long_replacement: matches!(state.backing, Backing::Staged { replaces: Some(_), .. })
                && !state.is_small(),
        });
        self.unsent.change_files(had_unsaved, unsaved.is_some());
    }

    /// Like [`Self::note`], after a program wrote something: the time of change is now.
    pub(super) fn note_written(&self, state: &State) {
        self.closed.store(false, Ordering::Release);
        self.note(state);
        if let Some(unsaved) = self.lock_unsaved().as_mut() {
            (unsaved.modified, unsaved.written) = (present(), Instant::now());
        }
    }

    /// The name is gone: nothing has to be saved under it any more. What is open stays readable and writable. Whoever took the name held the
    /// `state` meanwhile, or a save under way would have brought it back.
    pub(super) async fn unlink(&self, state: &State) {
        self.unlinked.store(true, Ordering::Release);
        if let Backing::Staged { file, .. } = &state.backing {
            file.discard().await;
        }
        self.note(state);
    }

    /// Forgets the keys and the content: the vault was locked. Whoever has it open reads and writes nothing from now on. Content that a name
    /// waits for must have been saved before; what has lost its name is nowhere then.
    pub(super) fn forget_content(&self, state: &mut State) {
        state.forget_content();
        self.note(state);
    }

    /// Makes sure that the server's file can be written through the handle that is held.
    pub(super) async fn make_writable(&self, drive: &Drive, location: &Location) -> Result<(), DriveError> {
        let mut state = self.state.write().await;
        let Backing::Stored { writable, .. } = &state.backing else { return Ok(()) };
        if *writable {
            return Ok(());
        }
        let _shown = self.show(&state);
        let State { backing: Backing::Stored { file, writable, base }, .. } = &mut *state else {
            return Ok(());
        };
        let reopened = drive.remote.open(&location.file_path(), RemoteOpen::ReadWrite).await?;
        let now = Base::from(reopened.stat().await?);
        if now == *base {
            *file = reopened;
            *writable = true;
            return Ok(());
        }
        *state = Self::open(drive, location, true, None).await?;
        self.note(&state);
        Ok(())
    }

    /// Looks whether somebody else changed the file since it was opened, and if so opens the new content. Unsaved content
    /// is left alone: its commit will find the conflict.
    pub(super) async fn refresh(&self, drive: &Drive, location: &Location) -> Result<(), DriveError> {
        if self.unsaved().is_some() || self.is_unlinked() {
            return Ok(());
        }
        let now = Base::from(drive.remote.stat(&location.file_path()).await?);
        let is_other =
            |state: &State| state.stored_base().is_some_and(|base| now != base) && self.unsaved().is_none();
        // Mostly it is the same: whoever reads it goes on meanwhile. Who has the state is changing the content, or has just opened it.
        if !is_other(&*self.state.read().await) {
            return Ok(());
        }
        let mut state = self.state.write().await;
        let Backing::Stored { writable, .. } = state.backing else { return Ok(()) };
        if is_other(&state) {
            let _shown = self.show(&state);
            *state = Self::open(drive, location, writable, None).await?;
            self.note(&state);
        }
        Ok(())
    }

    /// Attributes of the server's file were changed by us, `with_time` among them: that is no conflict. What somebody else did to it stays to be
    /// found.
    pub(super) async fn note_attributes_changed(&self, with_time: bool) -> Result<(), DriveError> {
        let mut state = self.state.write().await;
        let _shown = self.show(&state);
        if let Backing::Stored { file, base, .. } = &mut state.backing {
            let now = Base::from(file.stat().await?);
            if now.size == base.size && (with_time || now.modified == base.modified) {
                *base = now;
            }
        }
        Ok(())
    }

    /// Reads: fewer bytes than `length` only at the end of the file.
    pub(super) async fn read(&self, drive: &Drive, offset: u64, length: u64) -> Result<Bytes, DriveError> {
        // Nothing is held while the server is waited for: who writes would wait for that, too, and behind them all who read.
        let read = match self.state.try_read() {
            Ok(state) => Some(Read::begin(drive, &*state, offset, length)),
            Err(_) => self.shown.read(|shown| Read::begin(drive, shown, offset, length)),
        };
        let read = match read {
            Some(read) => read?,
            None => Read::begin(drive, &*self.state.read().await, offset, length)?,
        };
        match read.done().await {
            // A program may have made the chunk longer or shorter since it was asked for: once more, and nobody changes it meanwhile.
            Err(DriveError::Damaged(_)) => {
                let state = self.state.read().await;
                Read::begin(drive, &*state, offset, length)?.done().await
            }
            done => done,
        }
    }

    /// The cleartext of the chunks in `range`, each whole.
    pub(super) async fn chunks(
        &self,
        drive: &Drive,
        state: &State,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Vec<Bytes>, DriveError> {
        let mut chunks = Vec::new();
        for part in Part::ask_for(drive, state, range)? {
            chunks.push(part.done().await?);
        }
        Ok(chunks)
    }

    /// Has the chunks in `group` fetched that are not here, without waiting for them. Nothing is done while the content is worked on: waiting
    /// for that would keep `room` from those who need it to get done.
    pub(super) fn read_ahead(
        &self,
        cache: &Arc<ChunkCache>,
        counters: &Arc<Counters>,
        group: std::ops::Range<u64>,
        room: Option<Room>,
    ) {
        let Ok(state) = self.state.try_read() else { return };
        let Ok(codec) = state.codec() else { return };
        let end = group.end.min(state.stored_length.div_ceil(CHUNK_LEN));
        let mut run: Vec<Promise> = Vec::new();
        for number in group.start..end {
            if state.dirty.contains_key(&number) || state.sending.contains_key(&number) {
                continue;
            }
            let Some(promise) = cache.claim_ahead(state.key(number)) else { continue };
            if run.last().is_some_and(|last| last.number() + 1 != number) {
                fetch(counters, &*state, codec, std::mem::take(&mut run), room.clone());
            }
            run.push(promise);
        }
        fetch(counters, &*state, codec, run, room);
    }
}

impl Readable for State {
    fn codec(&self) -> Result<&Arc<Codec>, DriveError> {
        self.codec()
    }

    fn content(&self) -> ContentId {
        self.content
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn stored_length(&self) -> u64 {
        self.stored_length
    }

    fn file(&self) -> Arc<dyn RemoteFile> {
        self.backing.file()
    }

    fn unsent(&self, number: u64) -> Option<Bytes> {
        self.dirty.get(&number).or_else(|| self.sending.get(&number)).cloned()
    }
}

/// A chunk that is read.
enum Part {
    Here(Bytes),
    Coming(Waiting),
}

impl Part {
    /// The chunks in `range`: what is here, and what the server is asked for.
    fn ask_for(
        drive: &Drive,
        from: &impl Readable,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Vec<Self>, DriveError> {
        let codec = from.codec()?;
        let mut parts = Vec::new();
        let mut run: Vec<Promise> = Vec::new();
        for number in range {
            let part = match from.unsent(number) {
                Some(chunk) => Self::Here(chunk),
                None => match drive.cache.claim(ChunkKey { content: from.content(), number }) {
                    Claim::Ready(chunk) => Self::Here(chunk),
                    Claim::Wait(waiting) => Self::Coming(waiting),
                    Claim::Load(promise) => {
                        let waiting = promise.wait();
                        if run.last().is_some_and(|last| last.number() + 1 != number) {
                            fetch(&drive.counters, from, codec, std::mem::take(&mut run), None);
                        }
                        run.push(promise);
                        Self::Coming(waiting)
                    }
                },
            };
            parts.push(part);
        }
        fetch(&drive.counters, from, codec, run, None);
        Ok(parts)
    }

    async fn done(self) -> Result<Bytes, DriveError> {
        match self {
            Self::Here(chunk) => Ok(chunk),
            Self::Coming(waiting) => waiting.done().await,
        }
    }
}

/// A read under way, which needs nothing of the file any more.
struct Read {
    chunks: Vec<Part>,
    /// Where in the first chunk it begins, and how many bytes it has.
    from: usize,
    wanted: usize,
}

impl Read {
    fn begin(drive: &Drive, readable: &impl Readable, offset: u64, length: u64) -> Result<Self, DriveError> {
        readable.codec()?;
        let end = offset.saturating_add(length).min(readable.length());
        if offset >= end {
            return Ok(Self { chunks: Vec::new(), from: 0, wanted: 0 });
        }
        let chunks = Part::ask_for(drive, readable, offset / CHUNK_LEN..=(end - 1) / CHUNK_LEN)?;
        let from = usize::try_from(offset % CHUNK_LEN).unwrap_or(usize::MAX);
        let wanted = usize::try_from(end - offset).map_err(|_| DriveError::Invalid)?;
        Ok(Self { chunks, from, wanted })
    }

    async fn done(self) -> Result<Bytes, DriveError> {
        let Self { chunks, from, wanted } = self;
        let mut done = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            done.push(chunk.done().await?);
        }
        // Only now: there may be many who wait.
        let whole = match <[Bytes; 1]>::try_from(done) {
            Ok([only]) => only,
            Err(chunks) => {
                let mut joined = BytesMut::with_capacity(from + wanted);
                chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
                joined.freeze()
            }
        };
        if whole.len() < from + wanted {
            return Err(DriveError::damaged("a chunk is shorter than the file's length says"));
        }
        Ok(whole.slice(from..from + wanted))
    }
}

/// Fetches and decrypts one run of adjacent chunks in the background; with `room` if nobody waits for them yet.
fn fetch(
    counters: &Arc<Counters>,
    from: &impl Readable,
    codec: &Arc<Codec>,
    run: Vec<Promise>,
    room: Option<Room>,
) {
    let Some(first) = run.first().map(Promise::number) else { return };
    let lengths: Vec<u64> =
        run.iter().map(|promise| chunk_len(from.stored_length(), promise.number())).collect();
    let (file, codec) = (from.file(), Arc::clone(codec));
    let counters = Arc::clone(counters);
    tokio::spawn(async move {
        let stored_lengths: Vec<usize> = lengths
            .iter()
            .map(|&length| {
                usize::try_from(codec.stored_len(length) - codec.header_len()).unwrap_or(usize::MAX)
            })
            .collect();
        let total = stored_lengths.iter().sum();
        let read = match room {
            Some(room) => file.read_ahead(codec.offset(first), total, room).await,
            None => file.read_at(codec.offset(first), total).await,
        };
        let mut rest = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                run.into_iter().for_each(|promise| promise.keep(Err(error.clone().into())));
                return;
            }
        };
        for (promise, length) in run.into_iter().zip(stored_lengths) {
            let loaded = if rest.len() < length {
                Err(DriveError::damaged(format_args!("chunk {} is cut short", promise.number())))
            } else {
                counters.count_decrypted();
                codec.decode(promise.number(), &rest.split_to(length))
            };
            promise.keep(loaded);
        }
    });
}

//! The content of one open or unsaved file: what the server has, and what programs have written.
//!
//! All handles of an inode share one [`File`]. A chunk of its content is taken from the first of these that has it: the
//! *dirty* chunks (written by programs, not sent), the *sending* chunks (sent, not acknowledged), the chunk cache, and
//! the server. `reading.rs` reads, `writing.rs` writes, `lengths.rs` cuts and extends, `sending.rs` sends, `commit.rs`
//! commits; here the file is opened, and what others may know of it without its state is kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use scaup_crypto::{ChunkNumber, ChunkRange, CleartextLen};
use scaup_fuse::filesystem::Inode;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::chunks::ContentId;
use super::content_at_open::ContentAtOpen;
use super::first_read::{Fetching, FirstRead};
use super::home::{Home, Resources};
use super::location::Location;
use super::reading::{Part, Read, fetch_ahead};
use super::shown::{Busy, Shown};
use super::state::{Backing, Base, State, StateGuard, Stored, present};
use super::unsaved::UnsavedContent;
use super::unsent::Unsent;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::remote::{RemoteError, RemoteOpen, Room};

/// One file of the mount.
pub(in crate::drive) struct File {
    pub(in crate::drive) inode: Inode,
    state: RwLock<State>,
    /// The content that is read while another task holds the state and waits for the server.
    shown: Shown,
    /// A copy of the unsaved state, readable without taking `state`.
    unsaved: Mutex<Option<UnsavedContent>>,
    /// The unsent bytes and files of the whole drive.
    unsent: Arc<Unsent>,
    /// This file's part of the unsent bytes. Content that has lost its name is never saved, but still takes memory and
    /// is still sent.
    held: AtomicU64,
    /// Whether its name is gone. It is set by a task that holds `state`, but asked by tasks that hold the tree's lock
    /// and must not wait for `state`.
    unlinked: AtomicBool,
    /// How many changes the server has made inside its file, or may have made where no reply came, and how many of
    /// these it has put on its disk since.
    made_there: AtomicU64,
    on_disk: AtomicU64,
    /// The cleartext length as programs see it, readable without taking `state`.
    length: AtomicU64,
}

impl Drop for File {
    fn drop(&mut self) {
        let had_unsaved = self.lock_unsaved().take().is_some();
        self.unsent.change_files(had_unsaved, false);
        self.unsent.change_bytes(self.held.swap(0, Ordering::Relaxed), 0);
    }
}

impl File {
    pub(in crate::drive) fn new(home: &dyn Home, inode: Inode, state: State) -> Arc<Self> {
        let file = Self {
            inode,
            length: AtomicU64::new(state.length.0),
            state: RwLock::new(state),
            shown: Shown::default(),
            unsaved: Mutex::new(None),
            unsent: Arc::clone(&home.resources().unsent),
            held: AtomicU64::new(0),
            unlinked: AtomicBool::new(false),
            made_there: AtomicU64::new(0),
            on_disk: AtomicU64::new(0),
        };
        Arc::new(file)
    }

    /// Opens the server's file. A vault file's header and its first chunk arrive in the same message.
    pub(in crate::drive) async fn open(
        home: &dyn Home,
        location: &Location,
        writable: bool,
        known: Option<(ContentId, Base)>,
    ) -> Result<State, DriveError> {
        let how = if writable { RemoteOpen::ReadWrite } else { RemoteOpen::Read };
        let (path, length) = (location.file_path(), location.first_read_len());
        let read = FirstRead::fetch(home.resources().remote.as_ref(), &path, how, length).await?;
        State::from_first_read(home, location, read, writable, known).await
    }

    /// Opens the server's file for reading, whose first read was requested ahead. If that request failed, the server
    /// is asked again.
    pub(in crate::drive) async fn open_with(
        home: &dyn Home,
        location: &Location,
        first_read: Fetching,
        known: Option<(ContentId, Base)>,
    ) -> Result<State, DriveError> {
        let is_done = first_read.is_done();
        match first_read.done().await {
            Ok(read) => State::from_first_read(home, location, read, false, known).await,
            // The program has waited as long as it may, unless the request failed before the program asked.
            Err(DriveError::Remote(error)) if error.is_unanswered() && !is_done => Err(error.into()),
            Err(_) => Self::open(home, location, false, known).await,
        }
    }

    /// Locks the state, to change it.
    pub(in crate::drive) async fn lock(&self) -> StateGuard<'_> {
        StateGuard::new(self, self.state.write().await)
    }

    /// Locks the state, to look at it.
    pub(in crate::drive) async fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().await
    }

    /// Locks the state, to look at it; `None` while another task works on it.
    pub(in crate::drive) fn try_state(&self) -> Option<RwLockReadGuard<'_, State>> {
        self.state.try_read().ok()
    }

    /// Notes that a program closed the file: the unsaved content is whole.
    pub(in crate::drive) fn mark_closed(&self) {
        if let Some(unsaved) = self.lock_unsaved().as_mut() {
            unsaved.is_closed = true;
        }
    }

    /// Whether the file was closed, and is only still being saved.
    pub(in crate::drive) fn is_being_saved(&self) -> bool {
        self.unsaved().is_some_and(|unsaved| unsaved.is_closed)
    }

    /// Notes that the server has made changes inside its file, or may have made them. New content is on its disk before
    /// it gets its name.
    pub(super) fn count_made_there(&self) {
        self.made_there.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the server may have changes in its memory only.
    pub(in crate::drive) fn is_off_disk(&self) -> bool {
        !self.is_unlinked() && self.on_disk.load(Ordering::Acquire) < self.made_there.load(Ordering::Acquire)
    }

    /// Waits until the server has on its disk what it has changed so far, where it supports fsync.
    pub(in crate::drive) async fn put_on_disk(&self) -> Result<(), DriveError> {
        let (file, made_there) = {
            let state = self.state.read().await;
            (state.backing.file(), self.made_there.load(Ordering::Acquire))
        };
        if !self.is_off_disk() {
            return Ok(());
        }
        let synced = match file.fsync().await {
            Err(RemoteError::Unsupported(_)) => Ok(()),
            synced => synced,
        };
        // If somebody else's file has the name after a reconnection, there is nothing left to put on the disk, and
        // programs are told.
        if matches!(synced, Ok(()) | Err(RemoteError::Replaced)) {
            self.on_disk.fetch_max(made_there, Ordering::AcqRel);
        }
        Ok(synced?)
    }

    /// Whether the name was removed while the file is open.
    pub(in crate::drive) fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Acquire)
    }

    /// Returns the unsaved content, if there is any.
    pub(in crate::drive) fn unsaved(&self) -> Option<UnsavedContent> {
        *self.lock_unsaved()
    }

    /// Returns the length as programs see it.
    pub(in crate::drive) fn length(&self) -> CleartextLen {
        CleartextLen(self.length.load(Ordering::Relaxed))
    }

    /// Whether a program that closes the file has nothing to wait for and no failure to be told of.
    pub(in crate::drive) fn has_nothing_to_tell(&self) -> bool {
        self.unsaved().is_none() && self.state.try_read().is_ok_and(|state| state.failure().is_none())
    }

    /// Returns what a task that opens the file has to know; `None` while another task has only just begun to work on
    /// it.
    pub(in crate::drive) fn content_at_open(&self) -> Option<ContentAtOpen> {
        match self.state.try_read() {
            Ok(state) => Some(ContentAtOpen::of(&state)),
            Err(_) => self.shown.read(|shown| shown.at_open().clone()),
        }
    }

    /// Lets others read the present content while the holder of `state` waits for the server. The result has to be
    /// dropped before the state is.
    pub(in crate::drive) fn show(&self, state: &State) -> Busy<'_> {
        self.shown.show(state)
    }

    /// Notes that sent chunks have arrived: a concurrent reader finds them in the cache, or on the server.
    pub(super) fn mark_arrived(&self, state: &State, numbers: ChunkRange) {
        self.shown.mark_arrived(state, numbers);
    }

    fn lock_unsaved(&self) -> MutexGuard<'_, Option<UnsavedContent>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the copy of the unsaved state.
    pub(super) fn update_snapshot(&self, state: &State) {
        self.length.store(state.length.0, Ordering::Relaxed);
        let bytes = state.unsent_bytes();
        self.unsent.change_bytes(self.held.swap(bytes, Ordering::Relaxed), bytes);
        let mut unsaved = self.lock_unsaved();
        let (modified, since, written, is_closed) = match *unsaved {
            Some(before) => (before.modified, before.since, before.written, before.is_closed),
            None => (present(), Moment::now(), Moment::now(), false),
        };
        let modified = state.times.map_or(modified, |(_, modified)| modified);
        let had_unsaved = unsaved.is_some();
        *unsaved = (state.is_unsaved() && !self.is_unlinked()).then(|| UnsavedContent {
            bytes,
            length: state.length,
            modified,
            accessed: state.times.map(|(accessed, _)| accessed),
            since,
            written,
            is_closed,
            is_staged: state.backing.is_staged(),
            is_long_replacement: matches!(state.backing, Backing::Staged { replaces: Some(_), .. })
                && !state.is_small(),
        });
        self.unsent.change_files(had_unsaved, unsaved.is_some());
    }

    /// Like [`Self::update_snapshot`], after a program wrote: the modification time becomes now.
    pub(in crate::drive) fn update_snapshot_after_write(&self, state: &State) {
        self.update_snapshot(state);
        if let Some(unsaved) = self.lock_unsaved().as_mut() {
            (unsaved.modified, unsaved.written, unsaved.is_closed) = (present(), Moment::now(), false);
        }
    }

    /// Notes that the name is gone: nothing has to be saved under it any more. An open file stays readable and
    /// writable. The caller has held `state` since it took the name, or a save under way would have brought the name
    /// back.
    pub(in crate::drive) async fn unlink(&self, state: &State) {
        self.unlinked.store(true, Ordering::Release);
        if let Backing::Staged { file, .. } = &state.backing {
            file.discard().await;
        }
        self.update_snapshot(state);
    }

    /// Makes sure that the server's file can be written through the handle that is held.
    pub(in crate::drive) async fn make_writable(
        &self,
        home: &dyn Home,
        location: &Location,
    ) -> Result<(), DriveError> {
        let mut state = self.lock().await;
        if !matches!(state.backing, Backing::Stored(Stored { writable: false, .. })) {
            return Ok(());
        }
        let _shown = self.show(&state);
        let Backing::Stored(stored) = &mut state.backing else { return Ok(()) };
        let reopened = home.resources().remote.open(&location.file_path(), RemoteOpen::ReadWrite).await?;
        let now = Base::from(reopened.stat().await?);
        if now == stored.base {
            (stored.file, stored.writable) = (reopened, true);
            return Ok(());
        }
        *state = Self::open(home, location, true, None).await?;
        Ok(())
    }

    /// Checks whether somebody else changed the file since it was opened, and if so opens the new content. Unsaved
    /// content is left alone: its commit will find the conflict.
    pub(in crate::drive) async fn refresh(
        &self,
        home: &dyn Home,
        location: &Location,
    ) -> Result<(), DriveError> {
        if self.unsaved().is_some() || self.is_unlinked() {
            return Ok(());
        }
        let now = Base::from(home.resources().remote.stat(&location.file_path()).await?);
        let is_other =
            |state: &State| state.stored_base().is_some_and(|base| now != base) && self.unsaved().is_none();
        // Mostly the content is the same, and readers go on meanwhile. A task that holds the state is changing the
        // content, or has just opened it.
        if !is_other(&*self.state.read().await) {
            return Ok(());
        }
        let mut state = self.lock().await;
        let Backing::Stored(Stored { writable, .. }) = state.backing else { return Ok(()) };
        if is_other(&state) {
            let _shown = self.show(&state);
            *state = Self::open(home, location, writable, None).await?;
        }
        Ok(())
    }

    /// Notes that this mount changed attributes of the server's file, the time too if `with_time`: that is no conflict.
    /// Changes by somebody else are still detected.
    pub(in crate::drive) async fn accept_own_change(&self, with_time: bool) -> Result<(), DriveError> {
        let mut state = self.lock().await;
        let _shown = self.show(&state);
        if let Backing::Stored(stored) = &mut state.backing {
            let now = Base::from(stored.file.stat().await?);
            let base = stored.base;
            if now.size == base.size && (with_time || now.modified == base.modified) {
                stored.base = now;
            }
        }
        Ok(())
    }

    /// Reads up to `length` bytes: fewer only at the end of the file.
    pub(in crate::drive) async fn read(
        &self,
        home: &dyn Home,
        offset: CleartextLen,
        length: u64,
    ) -> Result<Bytes, DriveError> {
        // No lock is held during the wait for the server: a writer would wait for that, too, and all readers behind the
        // writer.
        let read = match self.state.try_read() {
            Ok(state) => Some(Read::begin(home.resources(), &*state, offset, length)),
            Err(_) => self.shown.read(|shown| Read::begin(home.resources(), shown, offset, length)),
        };
        let read = match read {
            Some(read) => read?,
            None => Read::begin(home.resources(), &*self.state.read().await, offset, length)?,
        };
        match read.done().await {
            // A program may have made the chunk longer or shorter since the request: try again, now with the lock held
            // so that nobody changes it.
            Err(DriveError::Damaged(_)) => {
                let state = self.state.read().await;
                Read::begin(home.resources(), &*state, offset, length)?.done().await
            }
            done => done,
        }
    }

    /// Returns the cleartext of a chunk; nothing behind the end.
    pub(super) async fn chunk(
        &self,
        home: &dyn Home,
        state: &State,
        number: ChunkNumber,
    ) -> Result<Bytes, DriveError> {
        match Part::ask_for(home.resources(), state, ChunkRange::only(number))?.pop() {
            Some(part) => part.done().await,
            None => Ok(Bytes::new()),
        }
    }

    /// Fetches the chunks in `group` that are not in memory, without waiting for them. Does nothing while the content
    /// is worked on: waiting for that would keep `room` from the tasks that need it to finish.
    pub(in crate::drive) fn read_ahead(&self, resources: &Resources, group: ChunkRange, room: Option<Room>) {
        let Ok(state) = self.state.try_read() else { return };
        // Content that can't be decrypted is reported to the program that reads it.
        let _ = fetch_ahead(resources, &state, group, room);
    }
}

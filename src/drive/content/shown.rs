//! The content of a file that can be read while another task works on it and waits for the server.
//!
//! A task may hold a file's state for as long as the server takes: to save, to truncate, to rename. The content that
//! programs read does not change before that is done. So the state is *shown* first, and a reader that finds the state
//! taken reads the shown content.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use scaup_crypto::{ChunkNumber, ChunkRange, CleartextLen};

use super::chunks::ContentId;
use super::codec::Codec;
use super::content_at_open::ContentAtOpen;
use super::state::State;
use crate::drive::error::DriveError;
use crate::remote::RemoteFile;

/// Content that can be read.
pub(super) trait Readable {
    /// Returns how its chunks are encoded, or why that is not known.
    fn codec(&self) -> Result<&Arc<Codec>, DriveError>;
    /// Returns its identity in the cache.
    fn content(&self) -> ContentId;
    /// Returns the length as programs see it.
    fn length(&self) -> CleartextLen;
    /// Returns the length of the content that the server's file has.
    fn stored_length(&self) -> CleartextLen;
    /// Returns the server's file.
    fn file(&self) -> Arc<dyn RemoteFile>;
    /// Returns a chunk that the server does not have in its present version.
    fn unsent(&self, number: ChunkNumber) -> Option<Bytes>;
}

/// Content as it was when it was shown. Chunks are shared with the state, not copied.
pub(super) struct Content {
    codec: Result<Arc<Codec>, DriveError>,
    content: ContentId,
    length: CleartextLen,
    stored_length: CleartextLen,
    file: Arc<dyn RemoteFile>,
    unsent: HashMap<ChunkNumber, Bytes>,
    at_open: ContentAtOpen,
}

impl Content {
    /// Returns what a task that opens the file has to know.
    pub(super) fn at_open(&self) -> &ContentAtOpen {
        &self.at_open
    }
}

impl Readable for Content {
    fn codec(&self) -> Result<&Arc<Codec>, DriveError> {
        self.codec.as_ref().map_err(Clone::clone)
    }

    fn content(&self) -> ContentId {
        self.content
    }

    fn length(&self) -> CleartextLen {
        self.length
    }

    fn stored_length(&self) -> CleartextLen {
        self.stored_length
    }

    fn file(&self) -> Arc<dyn RemoteFile> {
        Arc::clone(&self.file)
    }

    fn unsent(&self, number: ChunkNumber) -> Option<Bytes> {
        self.unsent.get(&number).cloned()
    }
}

/// The content that a file shows: none while no task waits with its state.
#[derive(Default)]
pub(super) struct Shown(Mutex<Option<Content>>);

/// Keeps a file's content shown while it lives. The holder of the state drops this first: the shown content is out of
/// date after that.
pub(in crate::drive) struct Busy<'a>(Option<&'a Shown>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(shown) = self.0 {
            *shown.lock() = None;
        }
    }
}

impl Shown {
    fn lock(&self) -> MutexGuard<'_, Option<Content>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the content of a state. If content is shown already, it stays until its own guard is dropped.
    pub(super) fn show(&self, state: &State) -> Busy<'_> {
        let mut shown = self.lock();
        if shown.is_some() {
            return Busy(None);
        }
        let dirty = state.dirty.iter().map(|(&number, chunk)| (number, chunk.clone()));
        let sending = state.sending.iter().map(|(&number, chunk)| (number, chunk.clone()));
        *shown = Some(Content {
            codec: state.codec().cloned(),
            content: state.content,
            length: state.length,
            stored_length: state.stored_length,
            file: state.backing.file(),
            // A dirty chunk is newer than one that is being sent.
            unsent: sending.chain(dirty).collect(),
            at_open: ContentAtOpen::of(state),
        });
        Busy(Some(self))
    }

    /// Notes that sent chunks are on the server now, and frees their memory.
    pub(super) fn mark_arrived(&self, state: &State, numbers: ChunkRange) {
        // The sent chunks may belong to a copy that nobody reads yet.
        if let Some(shown) = self.lock().as_mut().filter(|shown| shown.content == state.content) {
            numbers.numbers().filter(|number| !state.dirty.contains_key(number)).for_each(|number| {
                shown.unsent.remove(&number);
            });
            shown.stored_length = shown.stored_length.max(state.stored_length);
        }
    }

    /// Reads the shown content, if there is any.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Content) -> T) -> Option<T> {
        self.lock().as_ref().map(read)
    }
}

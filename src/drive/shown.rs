//! What is read of a file while somebody works on its content and waits for the server.
//!
//! Who has a file's state may have it for as long as the server takes: to save, to cut, to rename. What programs read does not change by that
//! before it is done. So the state is *shown* first, and whoever finds it taken reads what is shown.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::chunks::ContentId;
use super::codec::Codec;
use super::error::DriveError;
use super::file::State;
use super::opening::OpenedContent;
use crate::remote::RemoteFile;

/// Content that can be read.
pub(super) trait Readable {
    /// How its chunks are stored, or why that is not known.
    fn codec(&self) -> Result<&Arc<Codec>, DriveError>;
    /// Its name in the cache.
    fn content(&self) -> ContentId;
    /// Cleartext length, as programs see it.
    fn length(&self) -> u64;
    /// Cleartext length of what the server's file holds.
    fn stored_length(&self) -> u64;
    /// The server's file.
    fn file(&self) -> Arc<dyn RemoteFile>;
    /// A chunk that the server does not have as it is now.
    fn unsent(&self, number: u64) -> Option<Bytes>;
}

/// Content as it was when it was shown. Chunks are shared with the state, not copied.
pub(super) struct Content {
    codec: Result<Arc<Codec>, DriveError>,
    content: ContentId,
    length: u64,
    stored_length: u64,
    file: Arc<dyn RemoteFile>,
    unsent: HashMap<u64, Bytes>,
    opened: OpenedContent,
}

impl Content {
    /// What whoever opens it has to know.
    pub(super) fn opened(&self) -> &OpenedContent {
        &self.opened
    }
}

impl Readable for Content {
    fn codec(&self) -> Result<&Arc<Codec>, DriveError> {
        self.codec.as_ref().map_err(Clone::clone)
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
        Arc::clone(&self.file)
    }

    fn unsent(&self, number: u64) -> Option<Bytes> {
        self.unsent.get(&number).cloned()
    }
}

/// What a file shows: nothing while nobody waits with its state.
#[derive(Default)]
pub(super) struct Shown(Mutex<Option<Content>>);

/// While it lives, a file shows its content. Who has the state drops it first: what is shown is not the truth any more then.
pub(super) struct Busy<'a>(Option<&'a Shown>);

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

    /// Shows the content of a state. Where it is shown already, that goes on for as long as it was to.
    pub(super) fn show(&self, state: &State) -> Busy<'_> {
        let mut shown = self.lock();
        if shown.is_some() {
            return Busy(None);
        }
        let dirty = state.dirty.iter().map(|(&number, chunk)| (number, chunk.clone()));
        let sending = state.sending.iter().map(|(&number, chunk)| (number, chunk.clone()));
        *shown = Some(Content {
            codec: state.codec.clone(),
            content: state.content,
            length: state.length,
            stored_length: state.stored_length,
            file: state.backing.file(),
            // What is dirty is newer than what is on its way.
            unsent: sending.chain(dirty).collect(),
            opened: OpenedContent::of(state),
        });
        Busy(Some(self))
    }

    /// What was sent is on the server now, and its memory is free.
    pub(super) fn note_arrived(&self, state: &State, numbers: Range<u64>) {
        // What is on its way may belong to a copy that nobody reads yet.
        if let Some(shown) = self.lock().as_mut().filter(|shown| shown.content == state.content) {
            numbers.filter(|number| !state.dirty.contains_key(number)).for_each(|number| {
                shown.unsent.remove(&number);
            });
            shown.stored_length = shown.stored_length.max(state.stored_length);
        }
    }

    /// Reads what is shown, if anything is.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Content) -> T) -> Option<T> {
        self.lock().as_ref().map(read)
    }
}

//! Writing: from the bytes of programs to unsent chunks, which [`sending`](crate::drive::content::sending) sends and
//! [`commit`](crate::drive::content::commit) publishes.
//!
//! - New content, and content truncated to nothing, is *staged*: it goes to a temporary file beside the target and
//!   takes its name when it is whole and on the server's disk. Nobody ever sees half of it.
//! - Changes inside a file go in place, one chunk to one message, so a cut connection leaves each chunk old or new.
//! - Before either reaches the name, the server's file is compared with what was opened. If somebody else changed it,
//!   ours is kept beside it under a name that says so.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use scaup_crypto::{ChunkPart, ChunkRange, CleartextLen, chunk_parts};

use super::chunks::ContentId;
use super::file::File;
use super::home::{Hold, Home};
use super::location::Location;
use super::sending::SEND_AT_CHUNKS;
use super::staged::StagedFile;
use super::state::{Access, Backing, Base, Rest, State, StateGuard};
use crate::drive::error::DriveError;
use crate::remote::{RemoteError, RemoteSetAttributes};

/// Longest file: what a signed 64-bit offset can address with room for the ciphertext's overhead.
pub(super) const LENGTH_MAX: CleartextLen = CleartextLen(1 << 62);

/// When the temporary file of new content is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drive) enum Make {
    /// At once, so that a refusal is reported at once.
    Now,
    /// When there is something to send.
    Later,
}

impl File {
    /// Creates a new file: content that has no name yet. It gets its name at the first commit.
    pub(in crate::drive) async fn create(
        home: &dyn Home,
        location: &Location,
        mode: u16,
        make: Make,
    ) -> Result<State, DriveError> {
        stage(home, location, mode, None, make).await
    }

    /// Returns the state for writing, and a hold of the file's path if the server's file has to be checked before
    /// anything is sent. New content, and writes that stay in memory for now, need no hold: they are taken whatever is
    /// moved meanwhile.
    async fn settled_for_writing<'a>(
        &'a self,
        home: &'a dyn Home,
        offset: Option<CleartextLen>,
        length: usize,
    ) -> Result<(Option<Hold<'a>>, StateGuard<'a>), DriveError> {
        let state = self.lock().await;
        let is_settled = state.backing.staged().is_none_or(|staged| staged.attempt().is_none());
        let looks = match &state.backing {
            Backing::Staged { .. } => false,
            Backing::Stored(stored) if stored.compared || self.is_unlinked() => false,
            Backing::Stored(_) => {
                let offset = offset.unwrap_or(state.length);
                let written = ChunkRange::touched_by(offset..offset.saturating_add(length as u64));
                let dirty = state.dirty.len() as u64 + written.count();
                offset > state.length
                    || dirty >= SEND_AT_CHUNKS as u64
                    || home.resources().unsent.is_crowded()
            }
        };
        if is_settled && !looks {
            return Ok((None, state));
        }
        // Paths are held before states.
        drop(state);
        let paths = home.hold_path(self.inode).await;
        Ok((Some(paths), self.settled(home).await?))
    }

    /// Writes `data` at `offset`, or at the end.
    pub(in crate::drive) async fn write(
        &self,
        home: &dyn Home,
        offset: Option<CleartextLen>,
        mut data: Bytes,
    ) -> Result<(), DriveError> {
        let (_paths, mut state) = self.settled_for_writing(home, offset, data.len()).await?;
        // Reported before any data is taken: a program that appends would not know how much was.
        self.collect(home, &mut state);
        self.tell_failure(home, &mut state).await?;
        state.codec()?;
        // If nothing can be sent any more, no more is taken.
        if home.resources().unsent.is_crowded() && !state.dirty.is_empty() {
            self.send_what_is_due(home, &mut state, LENGTH_MAX).await?;
            self.tell_failure(home, &mut state).await?;
        }
        let offset = offset.unwrap_or(state.length);
        let end = offset.saturating_add(data.len() as u64);
        if end > LENGTH_MAX {
            return Err(DriveError::TooLarge);
        }
        if offset > state.length {
            self.grow(home, &mut state, offset).await?;
        }
        state.times = None;
        let mut at = offset;
        while !data.is_empty() {
            // If too much is unsent, no more than a chunk is taken before it is on its way.
            let until = if home.resources().unsent.has_much() { at.chunk().next().start() } else { end };
            let most = usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX);
            let piece = data.split_to(data.len().min(most));
            self.patch(home, &mut state, at, &piece).await?;
            at = at.saturating_add(piece.len() as u64);
            // The data is in the chunks now: the request's memory must not wait for the server.
            drop(piece);
            self.update_snapshot_after_write(&state);
            // If too much is unsent, a partly filled chunk does not wait for the next write: each file would have one.
            let filling = if home.resources().unsent.has_much() { LENGTH_MAX } else { at };
            self.send_what_is_due(home, &mut state, filling).await?;
        }
        Ok(())
    }

    /// Sets times to be applied when everything unsaved has been sent; returns whether anything is unsaved.
    pub(in crate::drive) async fn set_times_at_commit(&self, times: (SystemTime, SystemTime)) -> bool {
        let mut state = self.lock().await;
        if self.unsaved().is_none() {
            return false;
        }
        state.times = Some(times);
        true
    }

    /// Sets the permission bits of content that has no name yet; returns whether it had none.
    pub(in crate::drive) async fn set_staged_mode(
        &self,
        home: &dyn Home,
        new_mode: u16,
    ) -> Result<bool, DriveError> {
        let state = self.settled(home).await?;
        let _shown = self.show(&state);
        let Backing::Staged { file, .. } = &state.backing else { return Ok(false) };
        file.set_mode(new_mode).await?;
        Ok(true)
    }

    /// Sets the owner and group of content that has no name yet; returns whether it had none.
    pub(in crate::drive) async fn set_staged_owner(
        &self,
        home: &dyn Home,
        owner: (u32, u32),
    ) -> Result<bool, DriveError> {
        let state = self.settled(home).await?;
        let set = RemoteSetAttributes { owner: Some(owner), ..RemoteSetAttributes::default() };
        let staged = state.backing.is_staged();
        let _shown = self.show(&state);
        if staged {
            state.backing.file().set_attributes(set).await?;
        }
        Ok(staged)
    }

    /// Checks before the first in-place change whether the file is still the one that was opened. If not, ours becomes
    /// staged content, whose commit keeps both; so it does where the server takes no changes in place.
    pub(super) async fn compare(
        &self,
        home: &dyn Home,
        state: &mut State,
        location: &Location,
    ) -> Result<(), DriveError> {
        let Backing::Stored(stored) = &mut state.backing else { return Ok(()) };
        let takes_writes = stored.file.takes_writes();
        if self.is_unlinked() || (stored.compared && takes_writes) {
            return Ok(());
        }
        let base = stored.base;
        let same = takes_writes
            && match home.resources().remote.stat(&location.file_path()).await {
                Ok(attributes) => Base::from(attributes) == base,
                Err(RemoteError::NotFound) => false,
                Err(error) => return Err(error.into()),
            };
        if same {
            stored.compared = true;
            return Ok(());
        }
        let mode = home.mode_of(self.inode)?;
        let length = state.length;
        self.copy_to_staging(home, state, location, length, mode, Some(base)).await
    }

    /// Copies the first `length` bytes, as programs see them, to a new temporary file that becomes this file's content.
    pub(super) async fn copy_to_staging(
        &self,
        home: &dyn Home,
        state: &mut State,
        location: &Location,
        length: CleartextLen,
        mode: u16,
        replaces: Option<Base>,
    ) -> Result<(), DriveError> {
        self.drain(home, state).await?;
        if let Access::Sealed { place, codec, .. } = &state.access {
            let sealed = (Arc::clone(place), Arc::clone(codec));
            return Box::pin(self.copy_sealed(home, state, sealed, mode, replaces)).await;
        }
        // Content that can't be read any more can't be copied: that is found out before anything is made.
        let unread = length.chunks().numbers().find(|number| !state.dirty.contains_key(number));
        if let Some(number) = unread {
            self.chunk(home, state, number).await?;
        }
        let mut staged = stage(home, location, mode, replaces, Make::Now).await?;
        let copied = async {
            for number in length.chunks().numbers() {
                let chunk = self.chunk(home, state, number).await?;
                let chunk = beginning(&chunk, length.chunk_len(number))?;
                self.patch(home, &mut staged, number.start(), chunk).await?;
                if staged.dirty.len() > SEND_AT_CHUNKS {
                    self.send(home, &mut staged, None).await?;
                    self.wait_for_room(home, &mut staged).await?;
                    staged.tell_failure()?;
                }
            }
            Ok(())
        };
        if let Err(error) = copied.await {
            discard_staged(&staged).await;
            return Err(error);
        }
        staged.times = state.times;
        if let Some(error) = state.take_failure() {
            staged.note_failure(error);
        }
        *state = staged;
        Ok(())
    }

    /// Writes into the dirty chunks. The old content of a chunk is read first where it matters.
    pub(super) async fn patch(
        &self,
        home: &dyn Home,
        state: &mut State,
        offset: CleartextLen,
        data: &[u8],
    ) -> Result<(), DriveError> {
        let mut rest = data;
        for ChunkPart { number, within } in chunk_parts(offset..offset.saturating_add(data.len() as u64)) {
            let (piece, after) = rest.split_at_checked(within.len()).unwrap_or((rest, &[]));
            let covers_all = within.start == 0 && within.end >= state.length.chunk_len(number);
            let ends = state.is_stored_end(number) && !state.sending.contains_key(&number);
            if (!covers_all || ends) && !state.dirty.contains_key(&number) {
                let _shown = self.show(state);
                let old = self.chunk(home, state, number).await?;
                state.dirty.insert(number, old.clone());
                if ends {
                    state.keep_end(number, old);
                }
            }
            // Copied only if a reader shares it.
            let mut chunk = BytesMut::from(state.dirty.remove(&number).unwrap_or_default());
            if chunk.len() < within.end {
                chunk.resize(within.end, 0);
            }
            if let Some(target) = chunk.get_mut(within.clone()) {
                target.copy_from_slice(piece);
            }
            state.dirty.insert(number, chunk.freeze());
            state.length = state.length.max(number.start().saturating_add(within.end as u64));
            rest = after;
        }
        Ok(())
    }
}

/// Makes an empty temporary file that will replace `location`.
pub(super) async fn stage(
    home: &dyn Home,
    location: &Location,
    mode: u16,
    replaces: Option<Base>,
    make: Make,
) -> Result<State, DriveError> {
    let codec = location.new_codec()?;
    let file = StagedFile::new(Arc::clone(&home.resources().remote), location.temporary_path()?, mode);
    if make == Make::Now {
        file.make().await?;
    }
    let access = Access::without_header(Arc::new(codec));
    let state =
        State::new(Backing::Staged { file, replaces }, access, ContentId::fresh(), CleartextLen::ZERO);
    Ok(State { rest: Rest::Something, ..state })
}

/// Returns the first bytes of a chunk.
pub(super) fn beginning(chunk: &Bytes, length: usize) -> Result<&[u8], DriveError> {
    chunk.get(..length).ok_or_else(|| DriveError::damaged("a chunk is cut short"))
}

/// Removes the temporary file of discarded content.
pub(super) async fn discard_staged(state: &State) {
    if let Backing::Staged { file, .. } = &state.backing {
        file.discard().await;
    }
}

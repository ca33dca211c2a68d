//! From what programs write to what is on its way: writing, truncating, sending. [`commit`](super::commit) has the rest of the way.
//!
//! - New content, and content truncated to nothing, is *staged*: it goes to a temporary file beside the target and takes
//!   its name when it is whole and on the server's disk. Nobody ever sees half of it.
//! - Changes inside a file go in place, one chunk to one message, so a cut connection leaves each chunk old or new.
//! - Before either reaches the name, the server's file is compared with what was opened. If somebody else changed it,
//!   ours is kept beside it under a name that says so.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use tokio::sync::RwLockWriteGuard;

use super::Drive;
use super::chunks::ContentId;
use super::codec::{CHUNK_LEN, GROUP_CHUNKS};
use super::error::DriveError;
use super::file::{Backing, Base, File, State};
use super::location::Location;
use super::paths::PathHold;
use super::staged::StagedFile;
use super::uploader::{Acknowledgement, Uploader};
use crate::remote::{RemoteError, RemoteSetAttributes};

/// Dirty chunks of one file after which sending begins while the program still writes: 1 MiB.
const SEND_AT_CHUNKS: usize = 32;

/// Chunks of one file in flight after which a writer has to wait: 16 MiB.
const IN_FLIGHT_MAX: u64 = 512;

/// Longest content that is copied to a temporary file when a file is cut to a length inside a chunk. The copy makes the cut
/// atomic; beyond, the cut goes in place and leaves one chunk torn if the connection dies between two messages.
const COPY_FOR_CUT_MAX: u64 = 4 * 1024 * 1024;

/// Longest file: what a signed 64-bit offset can address with room for the ciphertext's overhead.
const LENGTH_MAX: u64 = 1 << 62;

/// When the temporary file of new content is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// At once, so that a refusal is heard at once.
    Now,
    /// When there is something to send.
    Later,
}

/// Zeros are written in pieces of this length.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

impl State {
    /// The next dirty chunks to send in one message, from chunk `from` on: several of staged content, which nobody sees before it is whole;
    /// one where changes go in place, since a longer message can be cut inside a chunk. A program is just filling `except`. In place,
    /// nothing goes behind a chunk that is not there: a cut would leave a gap.
    fn next_to_send(&self, from: u64, except: Option<u64>) -> Option<Range<u64>> {
        let is_staged = self.backing.is_staged();
        let last = *self.dirty.last_key_value()?.0;
        let may_wait = |number: u64| {
            let is_there = is_staged || (number + 1).saturating_mul(CHUNK_LEN) <= self.stored_length;
            Some(number) == except && (is_there || number == last)
        };
        let mut due = self.dirty.range(from..).map(|(&number, _)| number).filter(|&number| !may_wait(number));
        let first = due.next()?;
        let most = if is_staged { GROUP_CHUNKS } else { 1 };
        let rest = (first + 1..first + most).zip(due).take_while(|(next, due)| next == due).count();
        Some(first..first + 1 + rest as u64)
    }

    /// What to store for dirty chunks, and where: with the header before the first one if it is not there yet.
    pub(super) fn encode(&self, numbers: &Range<u64>) -> Result<(u64, Vec<u8>), DriveError> {
        let codec = self.codec()?;
        let with_header = numbers.start == 0 && self.header_unsent;
        let offset = if with_header { 0 } else { codec.offset(numbers.start) };
        let length = codec.offset(numbers.end) - offset;
        let mut stored = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        if with_header {
            stored.extend(codec.header()?);
        }
        for (&number, chunk) in self.dirty.range(numbers.clone()) {
            codec.encode(number, chunk, &mut stored)?;
        }
        Ok((offset, stored))
    }

    /// What failed on its way, if that was not told yet. What was lost by locking is told to whoever asks.
    pub(super) fn tell_failure(&mut self) -> Result<(), DriveError> {
        match &self.failed {
            Some(DriveError::Locked) => Err(DriveError::Locked),
            _ => self.failed.take().map_or(Ok(()), Err),
        }
    }

    /// A chunk that was sent is dirty again: it failed, or nobody knows.
    fn take_back(&mut self, number: u64) {
        let Some(chunk) = self.sending.remove(&number) else { return };
        // The header went with the first chunk. Sending it again changes nothing: the same header is the same bytes.
        if number == 0 && self.codec.as_ref().is_ok_and(|codec| codec.header_len() > 0) {
            self.header_unsent = true;
        }
        self.reach = self.reach.max(number * CHUNK_LEN + chunk.len() as u64);
        self.uncommitted = true;
        self.dirty.entry(number).or_insert(chunk);
    }

    /// Cuts the server's file where it reaches beyond `length` bytes of cleartext.
    pub(super) async fn cut_off(&mut self, length: u64) -> Result<(), DriveError> {
        if self.reach > length {
            let size = Some(self.codec()?.stored_len(length));
            let set = RemoteSetAttributes { size, ..RemoteSetAttributes::default() };
            self.backing.file().set_attributes(set).await?;
            self.reach = length;
            self.stored_length = self.stored_length.min(length);
        }
        Ok(())
    }
}

impl File {
    /// A new file: content that has no name yet. It gets its name at the first commit.
    pub(super) async fn create(
        drive: &Drive,
        location: &Location,
        mode: u16,
        make: Make,
    ) -> Result<State, DriveError> {
        stage(drive, location, mode, None, make).await
    }

    /// The state for writing, and a hold of the file's path where that is needed: where the server's file has to be looked at before anything is
    /// sent. New content, and what stays here for now, needs none: it is taken whatever is moved meanwhile.
    async fn settled_for_writing<'a>(
        &'a self,
        drive: &'a Drive,
        offset: Option<u64>,
        length: usize,
    ) -> Result<(Option<PathHold<'a>>, RwLockWriteGuard<'a, State>), DriveError> {
        let state = self.state.write().await;
        let is_settled = state.backing.staged().is_none_or(|staged| staged.attempt().is_none());
        let looks = match &state.backing {
            Backing::Staged { .. } => false,
            Backing::Stored { .. } if state.compared || self.is_unlinked() => false,
            Backing::Stored { .. } => {
                let offset = offset.unwrap_or(state.length);
                let chunks = (offset % CHUNK_LEN + length as u64).div_ceil(CHUNK_LEN);
                let dirty = state.dirty.len() as u64 + chunks;
                offset > state.length || dirty >= SEND_AT_CHUNKS as u64 || drive.is_crowded()
            }
        };
        if is_settled && !looks {
            return Ok((None, state));
        }
        // Paths are held before states.
        drop(state);
        let paths = drive.hold_paths([self.inode]).await;
        Ok((Some(paths), self.settled(drive).await?))
    }

    /// Writes `data` at `offset`, or at the end.
    pub(super) async fn write(
        &self,
        drive: &Drive,
        offset: Option<u64>,
        mut data: Bytes,
    ) -> Result<(), DriveError> {
        let (_paths, mut state) = self.settled_for_writing(drive, offset, data.len()).await?;
        // Told before anything is taken: who appends would not know how much was.
        self.collect(drive, &mut state);
        self.tell_failure(drive, &mut state).await?;
        state.codec()?;
        // Where nothing can be sent any more, no more is taken.
        if drive.is_crowded() && !state.dirty.is_empty() {
            self.send_what_is_due(drive, &mut state, LENGTH_MAX).await?;
            self.tell_failure(drive, &mut state).await?;
        }
        let offset = offset.unwrap_or(state.length);
        let end = offset.checked_add(data.len() as u64).filter(|&end| end <= LENGTH_MAX);
        let end = end.ok_or(DriveError::TooLarge)?;
        if offset > state.length {
            self.grow(drive, &mut state, offset).await?;
        }
        state.times = None;
        let mut at = offset;
        while !data.is_empty() {
            // Where too much waits, no more than a chunk is taken before it is on its way.
            let most = if drive.has_much_unsent() { CHUNK_LEN - at % CHUNK_LEN } else { end - at };
            let piece = data.split_to(data.len().min(usize::try_from(most).unwrap_or(usize::MAX)));
            self.patch(drive, &mut state, at, &piece).await?;
            at += piece.len() as u64;
            // It is in the chunks now: the request's memory must not wait for the server.
            drop(piece);
            self.note_written(&state);
            // Where too much waits, what is left of a chunk does not wait for the next write: each file would have one.
            let filling = if drive.has_much_unsent() { LENGTH_MAX } else { at };
            self.send_what_is_due(drive, &mut state, filling).await?;
        }
        self.note(&state);
        Ok(())
    }

    /// Cuts the content to `length` bytes or extends it with zeros. `named` is the file's place and permission bits; `None` if its
    /// name is gone.
    pub(super) async fn truncate(
        &self,
        drive: &Drive,
        named: Option<(&Location, u16)>,
        length: u64,
    ) -> Result<(), DriveError> {
        if length > LENGTH_MAX {
            return Err(DriveError::TooLarge);
        }
        let mut state = self.settled(drive).await?;
        let _shown = self.show(&state);
        if length == 0 {
            self.drop_content(drive, &mut state, named).await?;
        } else if length < state.length {
            self.cut(drive, &mut state, named, length).await?;
        } else if length > state.length {
            self.grow(drive, &mut state, length).await?;
        }
        state.times = None;
        self.note_written(&state);
        Ok(())
    }

    /// Extends with zeros to at least `length` bytes.
    pub(super) async fn grow_to(&self, drive: &Drive, length: u64) -> Result<(), DriveError> {
        if length > LENGTH_MAX {
            return Err(DriveError::TooLarge);
        }
        let mut state = self.settled(drive).await?;
        let _shown = self.show(&state);
        if length > state.length {
            self.grow(drive, &mut state, length).await?;
            self.note_written(&state);
        }
        Ok(())
    }

    /// Sets times when everything that waits has been sent; answers whether anything waits.
    pub(super) async fn set_times_at_commit(&self, times: (SystemTime, SystemTime)) -> bool {
        let mut state = self.state.write().await;
        if self.unsaved().is_none() {
            return false;
        }
        state.times = Some(times);
        self.note(&state);
        true
    }

    /// Sets the permission bits of content that has no name yet; answers whether it was such.
    pub(super) async fn set_staged_mode(&self, drive: &Drive, new_mode: u16) -> Result<bool, DriveError> {
        let state = self.settled(drive).await?;
        let _shown = self.show(&state);
        let Backing::Staged { file, .. } = &state.backing else { return Ok(false) };
        file.set_mode(new_mode).await?;
        Ok(true)
    }

    /// Sets the owner and group of content that has no name yet; answers whether it was such.
    pub(super) async fn set_staged_owner(
        &self,
        drive: &Drive,
        owner: (u32, u32),
    ) -> Result<bool, DriveError> {
        let state = self.settled(drive).await?;
        let set = RemoteSetAttributes { owner: Some(owner), ..RemoteSetAttributes::default() };
        let staged = state.backing.is_staged();
        let _shown = self.show(&state);
        if staged {
            state.backing.file().set_attributes(set).await?;
        }
        Ok(staged)
    }

    /// Before the first in-place change: looks whether the file is still the one that was opened. If not, ours becomes
    /// staged content, whose commit keeps both.
    pub(super) async fn compare(
        &self,
        drive: &Drive,
        state: &mut State,
        location: &Location,
    ) -> Result<(), DriveError> {
        let Backing::Stored { base, .. } = &state.backing else { return Ok(()) };
        if state.compared || self.is_unlinked() {
            return Ok(());
        }
        let base = *base;
        let same = match drive.remote.stat(&location.file_path()).await {
            Ok(attributes) => Base::from(attributes) == base,
            Err(RemoteError::NotFound) => false,
            Err(error) => return Err(error.into()),
        };
        if same {
            state.compared = true;
            return Ok(());
        }
        let mode = drive.mode_of(self.inode)?;
        let length = state.length;
        self.copy_to_staging(drive, state, location, length, mode, Some(base)).await
    }

    /// Copies the first `length` bytes, as programs see them, to a new temporary file that goes on as this file's content.
    pub(super) async fn copy_to_staging(
        &self,
        drive: &Drive,
        state: &mut State,
        location: &Location,
        length: u64,
        mode: u16,
        replaces: Option<Base>,
    ) -> Result<(), DriveError> {
        self.drain(drive, state).await?;
        // What can't be read any more can't be copied: that is found out before anything is made.
        let mut unread = (0..length.div_ceil(CHUNK_LEN)).filter(|number| !state.dirty.contains_key(number));
        if let Some(number) = unread.next() {
            self.chunks(drive, state, number..=number).await?;
        }
        let mut staged = stage(drive, location, mode, replaces, Make::Now).await?;
        let copied = async {
            for number in 0..length.div_ceil(CHUNK_LEN) {
                let chunk = self.chunks(drive, state, number..=number).await?.pop().unwrap_or_default();
                let start = number * CHUNK_LEN;
                let wanted = usize::try_from((length - start).min(CHUNK_LEN)).unwrap_or(usize::MAX);
                let chunk = chunk.get(..wanted).ok_or_else(|| DriveError::damaged("a chunk is cut short"))?;
                self.patch(drive, &mut staged, start, chunk).await?;
                if staged.dirty.len() > SEND_AT_CHUNKS {
                    self.send(drive, &mut staged, None).await?;
                    self.wait_for_room(drive, &mut staged).await?;
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
        staged.failed = state.failed.take();
        *state = staged;
        Ok(())
    }

    /// Truncates to nothing.
    async fn drop_content(
        &self,
        drive: &Drive,
        state: &mut State,
        named: Option<(&Location, u16)>,
    ) -> Result<(), DriveError> {
        if state.stored_base().is_some()
            && state.length == 0
            && state.codec.is_ok()
            && self.unsaved().is_none()
        {
            return Ok(());
        }
        let base = self.settled_base(drive, state).await?;
        if let (Some(base), Some((location, mode))) = (base, named) {
            if let Some(staged) = self.stage_replacement(drive, location, mode, base).await? {
                *state = staged;
                return Ok(());
            }
            self.compare(drive, state, location).await?;
        }
        // The content is not visible under its name, or nothing can be made beside it: it is emptied where it is.
        let codec = match (&state.codec, named) {
            (Ok(codec), _) => Arc::clone(codec),
            (Err(_), Some((location, _))) => Arc::new(location.new_codec()?),
            (Err(error), None) => return Err(error.clone()),
        };
        let file = state.backing.file();
        file.set_attributes(RemoteSetAttributes { size: Some(0), ..RemoteSetAttributes::default() }).await?;
        (state.stored_length, state.reach) = (0, 0);
        state.dirty.clear();
        state.failed = None;
        state.header_unsent = codec.header_len() > 0;
        state.codec = Ok(codec);
        state.content = ContentId::fresh();
        state.length = 0;
        state.uncommitted = true;
        Ok(())
    }

    /// Stages empty content in place of a file. `None` where that would change more than the content: the directory can't be written,
    /// or the new file would have another owner.
    async fn stage_replacement(
        &self,
        drive: &Drive,
        location: &Location,
        mode: u16,
        base: Base,
    ) -> Result<Option<State>, DriveError> {
        let staged = match stage(drive, location, mode, Some(base), Make::Now).await {
            Ok(staged) => staged,
            Err(DriveError::Remote(RemoteError::PermissionDenied)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if matches!(location, Location::Plain { .. }) {
            let path = location.file_path();
            let file = staged.backing.file();
            let (old, new) = futures::join!(drive.remote.stat(&path), file.stat());
            if let (Ok(old), Ok(new)) = (old, new)
                && (old.uid, old.gid) != (new.uid, new.gid)
            {
                discard_staged(&staged).await;
                return Ok(None);
            }
        }
        Ok(Some(staged))
    }

    /// Cuts to a length that is not 0.
    async fn cut(
        &self,
        drive: &Drive,
        state: &mut State,
        named: Option<(&Location, u16)>,
        length: u64,
    ) -> Result<(), DriveError> {
        let whole_chunks = length / CHUNK_LEN;
        let in_chunk = length % CHUNK_LEN;
        let base = self.settled_base(drive, state).await?;
        if let (Some(base), Some((location, mode))) = (base, named) {
            let tears = state.codec()?.header_len() > 0 && in_chunk > 0;
            if tears && length <= COPY_FOR_CUT_MAX {
                return self.copy_to_staging(drive, state, location, length, mode, Some(base)).await;
            }
            self.compare(drive, state, location).await?;
        }
        let encrypted = state.codec()?.header_len() > 0;
        let last = if in_chunk > 0 && (encrypted || state.dirty.contains_key(&whole_chunks)) {
            let last =
                self.chunks(drive, state, whole_chunks..=whole_chunks).await?.pop().unwrap_or_default();
            let kept = usize::try_from(in_chunk).unwrap_or(usize::MAX);
            let last = last.get(..kept).ok_or_else(|| DriveError::damaged("a chunk is cut short"))?;
            Some(Bytes::copy_from_slice(last))
        } else {
            None
        };
        // An encrypted chunk can't be cut: it goes, and comes again.
        let kept = if encrypted { whole_chunks * CHUNK_LEN } else { length };
        state.cut_off(kept).await?;
        drop(state.dirty.split_off(&whole_chunks));
        state.dirty.extend(last.map(|last| (whole_chunks, last)));
        state.length = length;
        state.content = ContentId::fresh();
        state.uncommitted = true;
        // What is kept of the last chunk is on its way at once.
        self.send(drive, state, None).await
    }

    /// Waits until nothing is under way, and answers how the server's file looks then: what it is compared with before it is
    /// replaced. `None` for content that has no name yet. What failed is dirty again.
    async fn settled_base(&self, drive: &Drive, state: &mut State) -> Result<Option<Base>, DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(drive, state).await?;
        }
        // Since it was compared, only we have changed it.
        let changed_by_us = state.compared;
        if let Backing::Stored { file, base, .. } = &mut state.backing
            && changed_by_us
        {
            *base = file.stat().await?.into();
        }
        Ok(state.stored_base())
    }

    /// Extends with zeros: encrypted ones in a vault, whose format has no holes; a hole outside.
    async fn grow(&self, drive: &Drive, state: &mut State, length: u64) -> Result<(), DriveError> {
        let codec = Arc::clone(state.codec()?);
        let _shown = self.show(state);
        if codec.header_len() == 0 {
            if !state.backing.is_staged() && !self.is_unlinked() {
                let location = drive.location(self.inode)?;
                self.compare(drive, state, &location).await?;
            }
            self.send(drive, state, None).await?;
            self.drain(drive, state).await?;
            let set = RemoteSetAttributes { size: Some(length), ..RemoteSetAttributes::default() };
            state.backing.file().set_attributes(set).await?;
            state.content = ContentId::fresh();
            (state.length, state.stored_length, state.reach) = (length, length, length);
            state.uncommitted = true;
            return Ok(());
        }
        let needed = codec.stored_len(length).saturating_sub(codec.stored_len(state.stored_length));
        drive.check_room(self.inode, needed).await?;
        let old_length = state.length;
        let grown = async {
            while state.length < length {
                let wanted = usize::try_from(length - state.length).unwrap_or(usize::MAX).min(ZEROS.len());
                let at = state.length;
                self.patch(drive, state, at, ZEROS.get(..wanted).unwrap_or(&ZEROS)).await?;
                let end = state.length;
                self.send_what_is_due(drive, state, end).await?;
                state.tell_failure()?;
            }
            Ok(())
        };
        let grown = grown.await;
        if grown.is_err() {
            self.shrink_unsent(drive, state, old_length).await?;
            // It is told now, and as long as before.
            state.failed = None;
            self.note(state);
        }
        grown
    }

    /// An extension failed: what of it did not reach the server is taken back.
    async fn shrink_unsent(
        &self,
        drive: &Drive,
        state: &mut State,
        old_length: u64,
    ) -> Result<(), DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(drive, state).await?;
        }
        state.put_back_end().await?;
        let length = state.length.min(state.stored_length).max(old_length);
        state.length = length;
        drop(state.dirty.split_off(&length.div_ceil(CHUNK_LEN)));
        let last = length / CHUNK_LEN;
        let last_len = usize::try_from(state.chunk_len(last)).unwrap_or(usize::MAX);
        if let Some(chunk) = state.dirty.get_mut(&last) {
            chunk.truncate(last_len);
        }
        Ok(())
    }

    /// Writes into the dirty chunks. What stands beside the data in a chunk is read first where it matters.
    async fn patch(
        &self,
        drive: &Drive,
        state: &mut State,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DriveError> {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let number = at / CHUNK_LEN;
            let within = usize::try_from(at % CHUNK_LEN).unwrap_or(usize::MAX);
            let room = usize::try_from(CHUNK_LEN).unwrap_or(usize::MAX) - within;
            let (piece, after) = rest.split_at(rest.len().min(room));
            let length = usize::try_from(state.chunk_len(number)).unwrap_or(usize::MAX);
            let covers_all = within == 0 && piece.len() >= length;
            let ends = state.is_stored_end(number) && !state.sending.contains_key(&number);
            if (!covers_all || ends) && !state.dirty.contains_key(&number) {
                let _shown = self.show(state);
                let old = self.chunks(drive, state, number..=number).await?.pop().unwrap_or_default();
                state.dirty.insert(number, old.clone());
                if ends {
                    state.stored_end = Some((number, old));
                }
            }
            // Copied only if somebody is reading it.
            let mut chunk = BytesMut::from(state.dirty.remove(&number).unwrap_or_default());
            let end = within + piece.len();
            if chunk.len() < end {
                chunk.resize(end, 0);
            }
            if let Some(target) = chunk.get_mut(within..end) {
                target.copy_from_slice(piece);
            }
            state.dirty.insert(number, chunk.freeze());
            at += piece.len() as u64;
            state.length = state.length.max(at);
            rest = after;
        }
        Ok(())
    }

    /// Sends while the program still writes: the chunks it is done with, or everything when too much waits altogether. Nothing while a failure
    /// is still to be told: each try would wait for the server again.
    async fn send_what_is_due(&self, drive: &Drive, state: &mut State, at: u64) -> Result<(), DriveError> {
        if state.failed.is_some() || (state.dirty.len() < SEND_AT_CHUNKS && !drive.is_crowded()) {
            return Ok(());
        }
        let _shown = self.show(state);
        if !state.backing.is_staged() && !self.is_unlinked() {
            let location = drive.location(self.inode)?;
            self.compare(drive, state, &location).await?;
            state.check_room(drive, &location).await?;
        }
        self.send(drive, state, Some(at / CHUNK_LEN)).await?;
        self.wait_for_room(drive, state).await
    }

    /// Encrypts dirty chunks and hands them to the stream, except the one a program is just filling. A chunk whose last version
    /// is still under way waits for it.
    pub(super) async fn send(
        &self,
        drive: &Drive,
        state: &mut State,
        except: Option<u64>,
    ) -> Result<(), DriveError> {
        self.collect(drive, state);
        let mut next = 0;
        while let Some(numbers) = state.next_to_send(next, except) {
            next = numbers.end;
            while numbers.clone().any(|number| state.sending.contains_key(&number)) {
                self.acknowledge_next(drive, state).await?;
            }
            let replaces_end = state.is_stored_end(numbers.start);
            let (offset, stored) = state.encode(&numbers)?;
            state.header_unsent &= numbers.start > 0;
            for number in numbers.clone() {
                let Some(chunk) = state.dirty.remove(&number) else { continue };
                state.sending.insert(number, chunk);
                drive.counters.count_encrypted();
            }
            let file = state.backing.file();
            state.uploader.get_or_insert_with(|| Uploader::start(file)).send(numbers, offset, stored.into());
            // What comes behind the end is sent once that is whole: else it could not be brought back.
            while replaces_end && !state.sending.is_empty() {
                self.acknowledge_next(drive, state).await?;
            }
            if replaces_end && state.failed.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the acknowledgements that have arrived.
    pub(super) fn collect(&self, drive: &Drive, state: &mut State) {
        while let Some(acknowledgement) = state.uploader.as_mut().and_then(Uploader::try_next) {
            self.acknowledge(drive, state, acknowledgement);
        }
    }

    fn acknowledge(&self, drive: &Drive, state: &mut State, acknowledgement: Acknowledgement) {
        let numbers = acknowledgement.0.clone();
        let arrived = acknowledgement.1.is_ok();
        acknowledge(drive, state, acknowledgement);
        if arrived {
            self.note_arrived(state, numbers);
        }
    }

    async fn acknowledge_next(&self, drive: &Drive, state: &mut State) -> Result<(), DriveError> {
        let next = match state.uploader.as_mut() {
            Some(uploader) => uploader.next().await,
            None => None,
        };
        match next {
            Some(acknowledgement) => self.acknowledge(drive, state, acknowledgement),
            // The stream broke: everything that was under way is dirty again, and the next goes by another stream.
            None => {
                state.uploader = None;
                let broke = || RemoteError::Failure("the stream to the server broke".to_owned()).into();
                state.failed.get_or_insert_with(broke);
                state.early.clear();
                let under_way: Vec<u64> = state.sending.keys().copied().collect();
                under_way.into_iter().for_each(|number| state.take_back(number));
            }
        }
        Ok(())
    }

    /// Waits until no more is under way than may be, of this file and of all.
    async fn wait_for_room(&self, drive: &Drive, state: &mut State) -> Result<(), DriveError> {
        let waiting = |state: &State| state.uploader.as_ref().map_or(0, Uploader::waiting);
        while waiting(state) > IN_FLIGHT_MAX || (waiting(state) > 0 && drive.is_crowded()) {
            self.acknowledge_next(drive, state).await?;
            self.note(state);
        }
        Ok(())
    }

    /// Waits for everything under way, and answers the first failure.
    pub(super) async fn drain(&self, drive: &Drive, state: &mut State) -> Result<(), DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(drive, state).await?;
        }
        self.tell_failure(drive, state).await
    }

    /// What failed on its way, if that was not told yet. What the server had before is whole then.
    pub(super) async fn tell_failure(&self, drive: &Drive, state: &mut State) -> Result<(), DriveError> {
        if !state.backing.is_staged() && state.failed.is_some() {
            while !state.sending.is_empty() {
                self.acknowledge_next(drive, state).await?;
            }
            // What was not answered may have room.
            let is_refused = state.failed.as_ref().is_some_and(|error| !error.is_unanswered());
            state.lacks_room |= is_refused && state.reach > state.stored_length;
            // Where that fails, too, it is tried again before anything else is sent.
            if let Err(error) = state.put_back_end().await {
                tracing::warn!(errno = error.errno(), "the end of a file may be torn until it is saved");
            }
        }
        state.tell_failure()
    }
}

fn acknowledge(drive: &Drive, state: &mut State, (numbers, result): Acknowledgement) {
    let is_in_place = !state.backing.is_staged();
    for number in numbers {
        match &result {
            Ok(()) if is_in_place && number * CHUNK_LEN > state.stored_length => {
                state.early.insert(number);
            }
            Ok(()) => note_stored(drive, state, number),
            Err(error) => {
                state.take_back(number);
                state.failed.get_or_insert_with(|| error.clone().into());
            }
        }
    }
    while let Some(number) =
        state.early.first().copied().filter(|next| next * CHUNK_LEN <= state.stored_length)
    {
        state.early.remove(&number);
        note_stored(drive, state, number);
    }
    // The one in front of them failed: there is a gap.
    if state.uploader.as_ref().is_none_or(|uploader| uploader.waiting() == 0) {
        std::mem::take(&mut state.early).into_iter().for_each(|number| state.take_back(number));
    }
}

/// The server has a chunk that was sent.
fn note_stored(drive: &Drive, state: &mut State, number: u64) {
    let Some(chunk) = state.sending.remove(&number) else { return };
    let end = number * CHUNK_LEN + chunk.len() as u64;
    state.stored_length = state.stored_length.max(end);
    state.reach = state.reach.max(end);
    state.uncommitted = true;
    if state.is_stored_end(number) {
        state.stored_end = Some((number, chunk.clone()));
    }
    drive.cache.put(state.key(number), chunk);
}

/// Makes an empty temporary file that will take the place of `location`.
async fn stage(
    drive: &Drive,
    location: &Location,
    mode: u16,
    replaces: Option<Base>,
    make: Make,
) -> Result<State, DriveError> {
    let codec = location.new_codec()?;
    let file = StagedFile::new(Arc::clone(&drive.remote), location.temporary_path()?, mode);
    if make == Make::Now {
        file.make().await?;
    }
    let header_unsent = codec.header_len() > 0;
    let state = State::new(Backing::Staged { file, replaces }, Ok(Arc::new(codec)), ContentId::fresh(), 0);
    Ok(State { header_unsent, uncommitted: true, ..state })
}

/// Removes the temporary file of content that is given up.
async fn discard_staged(state: &State) {
    if let Backing::Staged { file, .. } = &state.backing {
        file.discard().await;
    }
}

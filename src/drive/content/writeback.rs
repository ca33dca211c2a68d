//! Writing, truncating and sending: from the writes of programs to the stream of uploads.
//! [`commit`](crate::drive::content::commit) does the rest.
//!
//! - New content, and content truncated to nothing, is *staged*: it goes to a temporary file beside the target and
//!   takes its name when it is whole and on the server's disk. Nobody ever sees half of it.
//! - Changes inside a file go in place, one chunk to one message, so a cut connection leaves each chunk old or new.
//! - Before either reaches the name, the server's file is compared with what was opened. If somebody else changed it,
//!   ours is kept beside it under a name that says so.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use scaup_crypto::{ChunkNumber, ChunkPart, ChunkRange, CiphertextLen, CleartextLen, chunk_parts};
use scaup_fuse::filesystem::RequestError as _;

use super::chunks::ContentId;
use super::codec::GROUP_CHUNKS;
use super::file::File;
use super::home::{Hold, Home};
use super::location::Location;
use super::staged::StagedFile;
use super::state::{Access, Backing, Base, Rest, State, StateGuard};
use super::uploader::{Acknowledgement, Uploader};
use crate::drive::error::DriveError;
use crate::remote::{RemoteError, RemoteSetAttributes};

/// Dirty chunks of one file after which sending begins while the program still writes: 1 MiB.
const SEND_AT_CHUNKS: usize = 32;

/// Chunks of one file in flight above which a writer has to wait: 16 MiB.
const IN_FLIGHT_MAX: u64 = 512;

/// Longest content that is copied to a temporary file when a file is cut to a length inside a chunk. The copy makes the
/// cut atomic; a longer file is cut in place, which leaves one chunk torn if the connection dies between two messages.
const COPY_FOR_CUT_MAX: CleartextLen = CleartextLen(4 * 1024 * 1024);

/// Longest file: what a signed 64-bit offset can address with room for the ciphertext's overhead.
const LENGTH_MAX: CleartextLen = CleartextLen(1 << 62);

/// When the temporary file of new content is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drive) enum Make {
    /// At once, so that a refusal is reported at once.
    Now,
    /// When there is something to send.
    Later,
}

/// The source of zeros, which are written in pieces of this length.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

impl State {
    /// Returns the next dirty chunks to send in one message, from chunk `from` on: several of staged content, which
    /// nobody sees before it is whole; one where changes go in place, since a longer message can be cut inside a chunk.
    /// A program is just filling `except`. In place, nothing is sent behind a chunk that is missing on the server: a
    /// cut would leave a gap.
    fn next_to_send(&self, from: ChunkNumber, except: Option<ChunkNumber>) -> Option<ChunkRange> {
        let is_staged = self.backing.is_staged();
        let last = *self.dirty.last_key_value()?.0;
        let may_wait = |number: ChunkNumber| {
            let is_there = is_staged || number.next().start() <= self.stored_length;
            Some(number) == except && (is_there || number == last)
        };
        let mut due = self.dirty.range(from..).map(|(&number, _)| number).filter(|&number| !may_wait(number));
        let first = due.next()?;
        let most = if is_staged { GROUP_CHUNKS } else { 1 };
        let wanted = ChunkRange { start: first.next(), end: first.after(most) };
        let rest = wanted.numbers().zip(due).take_while(|(next, due)| next == due).count();
        Some(ChunkRange { start: first, end: first.next().after(rest as u64) })
    }

    /// Encodes dirty chunks, and returns where they go: with the header before the first one if it was not sent yet.
    pub(super) fn encode(&self, numbers: ChunkRange) -> Result<(CiphertextLen, Vec<u8>), DriveError> {
        let codec = self.codec()?;
        let with_header = numbers.start == ChunkNumber::FIRST && self.is_header_unsent();
        let offset = if with_header { CiphertextLen(0) } else { codec.offset(numbers.start) };
        let length = codec.offset(numbers.end).saturating_sub(offset);
        let mut stored = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        if with_header {
            stored.extend(codec.header()?);
        }
        for (&number, chunk) in self.dirty.range(numbers.start..numbers.end) {
            codec.encode(number, chunk, &mut stored)?;
        }
        Ok((offset, stored))
    }

    /// Returns the failure of a send that was not reported yet. A loss by locking is reported to every caller.
    pub(super) fn tell_failure(&mut self) -> Result<(), DriveError> {
        match self.access {
            Access::Locked { lost_unsaved: true } => Err(DriveError::Locked),
            _ => self.take_failure().map_or(Ok(()), Err),
        }
    }

    /// Makes a sent chunk dirty again: the send failed, or its outcome is unknown.
    fn take_back(&mut self, number: ChunkNumber) {
        let Some(chunk) = self.sending.remove(&number) else { return };
        // The header went with the first chunk. Sending it again changes nothing: the same header is the same bytes.
        if number == ChunkNumber::FIRST {
            self.take_header_back();
        }
        self.reach = self.reach.max(number.start().saturating_add(chunk.len() as u64));
        self.note_change();
        self.dirty.entry(number).or_insert(chunk);
    }

    /// Cuts the server's file where it reaches beyond `length`.
    pub(super) async fn cut_off(&mut self, length: CleartextLen) -> Result<(), DriveError> {
        if self.reach > length {
            let size = Some(self.codec()?.ciphertext_len(length).0);
            let set = RemoteSetAttributes { size, ..RemoteSetAttributes::default() };
            self.backing.file().set_attributes(set).await?;
            self.reach = length;
            self.stored_length = self.stored_length.min(length);
        }
        Ok(())
    }
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

    /// Cuts the content to `length` bytes or extends it with zeros. `named` is the file's place and permission bits;
    /// `None` if its name is gone.
    pub(in crate::drive) async fn truncate(
        &self,
        home: &dyn Home,
        named: Option<(&Location, u16)>,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        if length > LENGTH_MAX {
            return Err(DriveError::TooLarge);
        }
        let mut state = self.settled(home).await?;
        let _shown = self.show(&state);
        let changed = if length == CleartextLen::ZERO {
            self.drop_content(home, &mut state, named).await
        } else if length < state.length {
            self.cut(home, &mut state, named, length).await
        } else if length > state.length {
            self.grow(home, &mut state, length).await
        } else {
            Ok(())
        };
        self.note_if_unanswered(&changed);
        changed?;
        state.times = None;
        self.update_snapshot_after_write(&state);
        Ok(())
    }

    /// Extends the content with zeros to at least `length` bytes.
    pub(in crate::drive) async fn grow_to(
        &self,
        home: &dyn Home,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        if length > LENGTH_MAX {
            return Err(DriveError::TooLarge);
        }
        let mut state = self.settled(home).await?;
        let _shown = self.show(&state);
        if length > state.length {
            let grown = self.grow(home, &mut state, length).await;
            self.note_if_unanswered(&grown);
            grown?;
            self.update_snapshot_after_write(&state);
        }
        Ok(())
    }

    /// Notes that a request to change the length of the server's file got no reply. If it was carried out nevertheless,
    /// the next try finds nothing to do, but the length is not on the server's disk yet.
    fn note_if_unanswered(&self, changed: &Result<(), DriveError>) {
        if changed.as_ref().is_err_and(DriveError::is_unanswered) {
            self.count_made_there();
        }
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
    /// staged content, whose commit keeps both.
    pub(super) async fn compare(
        &self,
        home: &dyn Home,
        state: &mut State,
        location: &Location,
    ) -> Result<(), DriveError> {
        let Backing::Stored(stored) = &mut state.backing else { return Ok(()) };
        if stored.compared || self.is_unlinked() {
            return Ok(());
        }
        let base = stored.base;
        let same = match home.resources().remote.stat(&location.file_path()).await {
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

    /// Truncates the content to nothing.
    async fn drop_content(
        &self,
        home: &dyn Home,
        state: &mut State,
        named: Option<(&Location, u16)>,
    ) -> Result<(), DriveError> {
        if state.stored_base().is_some()
            && state.length == CleartextLen::ZERO
            && state.codec().is_ok()
            && self.unsaved().is_none()
        {
            return Ok(());
        }
        let base = self.settled_base(home, state).await?;
        if let (Some(base), Some((location, mode))) = (base, named) {
            if let Some(staged) = self.stage_replacement(home, location, mode, base).await? {
                *state = staged;
                return Ok(());
            }
            self.compare(home, state, location).await?;
        }
        // The content is not visible under its name, or nothing can be made beside it: it is emptied in place.
        let codec = match (state.codec(), named) {
            (Ok(codec), _) => Arc::clone(codec),
            (Err(_), Some((location, _))) => Arc::new(location.new_codec()?),
            (Err(error), None) => return Err(error),
        };
        let file = state.backing.file();
        file.set_attributes(RemoteSetAttributes { size: Some(0), ..RemoteSetAttributes::default() }).await?;
        (state.stored_length, state.reach) = (CleartextLen::ZERO, CleartextLen::ZERO);
        state.dirty.clear();
        state.access = Access::without_header(codec);
        state.content = ContentId::fresh();
        state.length = CleartextLen::ZERO;
        state.rest = Rest::Something;
        Ok(())
    }

    /// Stages empty content in place of a file. Returns `None` where that would change more than the content: the
    /// directory can't be written, or the new file would have another owner.
    async fn stage_replacement(
        &self,
        home: &dyn Home,
        location: &Location,
        mode: u16,
        base: Base,
    ) -> Result<Option<State>, DriveError> {
        let staged = match stage(home, location, mode, Some(base), Make::Now).await {
            Ok(staged) => staged,
            Err(DriveError::Remote(RemoteError::PermissionDenied)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if matches!(location, Location::Plain { .. }) {
            let path = location.file_path();
            let file = staged.backing.file();
            let (old, new) = futures::join!(home.resources().remote.stat(&path), file.stat());
            if let (Ok(old), Ok(new)) = (old, new)
                && (old.uid, old.gid) != (new.uid, new.gid)
            {
                discard_staged(&staged).await;
                return Ok(None);
            }
        }
        Ok(Some(staged))
    }

    /// Cuts the content to a length that is not 0.
    async fn cut(
        &self,
        home: &dyn Home,
        state: &mut State,
        named: Option<(&Location, u16)>,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        let (cut_chunk, in_chunk) = (length.chunk(), length.in_chunk());
        let base = self.settled_base(home, state).await?;
        if let (Some(base), Some((location, mode))) = (base, named) {
            let tears = state.codec()?.has_header() && in_chunk > 0;
            if tears && length <= COPY_FOR_CUT_MAX {
                return self.copy_to_staging(home, state, location, length, mode, Some(base)).await;
            }
            self.compare(home, state, location).await?;
        }
        let encrypted = state.codec()?.has_header();
        let last = if in_chunk > 0 && (encrypted || state.dirty.contains_key(&cut_chunk)) {
            let last = self.chunk(home, state, cut_chunk).await?;
            Some(Bytes::copy_from_slice(beginning(&last, in_chunk)?))
        } else {
            None
        };
        // An encrypted chunk can't be cut: it is removed, and written again.
        let kept = if encrypted { cut_chunk.start() } else { length };
        match (state.cut_off(kept).await, base, named) {
            // The server can't cut files: a shorter one takes its place.
            (Err(error), Some(base), Some((location, mode))) if error.is_refusal() => {
                return self.copy_to_staging(home, state, location, length, mode, Some(base)).await;
            }
            (cut, ..) => cut?,
        }
        drop(state.dirty.split_off(&cut_chunk));
        state.dirty.extend(last.map(|last| (cut_chunk, last)));
        state.length = length;
        state.content = ContentId::fresh();
        state.note_change();
        // The rest of the last chunk is sent at once.
        self.send(home, state, None).await
    }

    /// Waits until nothing is under way, and returns size and time of the server's file then, to be compared before it
    /// is replaced. `None` for content that has no name yet. Chunks whose send failed are dirty again.
    async fn settled_base(&self, home: &dyn Home, state: &mut State) -> Result<Option<Base>, DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(home, state).await?;
        }
        // Since it was compared, only we have changed it.
        if let Backing::Stored(stored) = &mut state.backing
            && stored.compared
        {
            stored.base = stored.file.stat().await?.into();
        }
        Ok(state.stored_base())
    }

    /// Extends the content with zeros: encrypted ones in a vault, whose format has no holes; a hole outside.
    async fn grow(&self, home: &dyn Home, state: &mut State, length: CleartextLen) -> Result<(), DriveError> {
        let codec = Arc::clone(state.codec()?);
        let _shown = self.show(state);
        if !codec.has_header() {
            if !state.backing.is_staged() && !self.is_unlinked() {
                let location = home.location(self.inode)?;
                self.compare(home, state, &location).await?;
            }
            self.send(home, state, None).await?;
            self.drain(home, state).await?;
            let set = RemoteSetAttributes {
                size: Some(codec.ciphertext_len(length).0),
                ..RemoteSetAttributes::default()
            };
            let file = state.backing.file();
            match file.set_attributes(set).await {
                // A byte behind the end makes the same hole.
                Err(error) if error.is_refusal() => {
                    let last = codec.ciphertext_len(length).0.saturating_sub(1);
                    file.write_at(last, Bytes::from_static(&[0])).await?;
                }
                set => set?,
            }
            state.content = ContentId::fresh();
            (state.length, state.stored_length, state.reach) = (length, length, length);
            state.note_change();
            return Ok(());
        }
        let needed = codec.ciphertext_len(length).saturating_sub(codec.ciphertext_len(state.stored_length));
        home.check_room(self.inode, needed).await?;
        let old_length = state.length;
        let grown = async {
            while state.length < length {
                let missing = usize::try_from(length.saturating_sub(state.length)).unwrap_or(usize::MAX);
                let wanted = missing.min(ZEROS.len());
                let at = state.length;
                self.patch(home, state, at, ZEROS.get(..wanted).unwrap_or(&ZEROS)).await?;
                let end = state.length;
                self.send_what_is_due(home, state, end).await?;
                state.tell_failure()?;
            }
            Ok(())
        };
        let grown = grown.await;
        if grown.is_err() {
            self.shrink_unsent(home, state, old_length).await?;
            // The failure is reported now, and the file is as long as before.
            state.take_failure();
            self.update_snapshot(state);
        }
        grown
    }

    /// Takes back the part of a failed extension that did not reach the server.
    async fn shrink_unsent(
        &self,
        home: &dyn Home,
        state: &mut State,
        old_length: CleartextLen,
    ) -> Result<(), DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(home, state).await?;
        }
        state.put_back_end().await?;
        let length = state.length.min(state.stored_length).max(old_length);
        state.length = length;
        drop(state.dirty.split_off(&length.chunks().end));
        if let Some(chunk) = state.dirty.get_mut(&length.chunk()) {
            chunk.truncate(length.in_chunk());
        }
        Ok(())
    }

    /// Writes into the dirty chunks. The old content of a chunk is read first where it matters.
    async fn patch(
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

    /// Sends while the program still writes: the chunks it has finished, or everything when too much is unsent
    /// altogether. Sends nothing while a failure is unreported: each try would wait for the server again.
    async fn send_what_is_due(
        &self,
        home: &dyn Home,
        state: &mut State,
        at: CleartextLen,
    ) -> Result<(), DriveError> {
        if state.failure().is_some()
            || (state.dirty.len() < SEND_AT_CHUNKS && !home.resources().unsent.is_crowded())
        {
            return Ok(());
        }
        let _shown = self.show(state);
        if !state.backing.is_staged() && !self.is_unlinked() {
            let location = home.location(self.inode)?;
            self.compare(home, state, &location).await?;
            state.check_room(home, &location).await?;
        }
        self.send(home, state, Some(at.chunk())).await?;
        self.wait_for_room(home, state).await
    }

    /// Encrypts dirty chunks and hands them to the stream, except the one that a program is just filling. A chunk whose
    /// last version is still under way waits for it.
    pub(super) async fn send(
        &self,
        home: &dyn Home,
        state: &mut State,
        except: Option<ChunkNumber>,
    ) -> Result<(), DriveError> {
        self.collect(home, state);
        let mut next = ChunkNumber::FIRST;
        while let Some(numbers) = state.next_to_send(next, except) {
            next = numbers.end;
            while numbers.numbers().any(|number| state.sending.contains_key(&number)) {
                self.acknowledge_next(home, state).await?;
            }
            let replaces_end = state.is_stored_end(numbers.start);
            let (offset, stored) = state.encode(numbers)?;
            if numbers.start == ChunkNumber::FIRST {
                state.note_header_sent();
            }
            for number in numbers.numbers() {
                let Some(chunk) = state.dirty.remove(&number) else { continue };
                state.sending.insert(number, chunk);
                home.resources().counters.count_encrypted();
            }
            let file = state.backing.file();
            state.uploader.get_or_insert_with(|| Uploader::start(file)).send(numbers, offset, stored.into());
            // Chunks behind the end are sent once that is whole: else it could not be restored.
            while replaces_end && !state.sending.is_empty() {
                self.acknowledge_next(home, state).await?;
            }
            if replaces_end && state.failure().is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the acknowledgements that have arrived.
    pub(super) fn collect(&self, home: &dyn Home, state: &mut State) {
        while let Some(acknowledgement) = state.uploader.as_mut().and_then(Uploader::try_next) {
            self.acknowledge(home, state, acknowledgement);
        }
    }

    fn acknowledge(&self, home: &dyn Home, state: &mut State, acknowledgement: Acknowledgement) {
        let numbers = acknowledgement.0;
        let arrived = acknowledgement.1.is_ok();
        acknowledge(home, state, acknowledgement);
        if arrived {
            self.mark_arrived(state, numbers);
        }
    }

    async fn acknowledge_next(&self, home: &dyn Home, state: &mut State) -> Result<(), DriveError> {
        let next = match state.uploader.as_mut() {
            Some(uploader) => uploader.next().await,
            None => None,
        };
        match next {
            Some(acknowledgement) => self.acknowledge(home, state, acknowledgement),
            // The stream broke: all chunks that were under way are dirty again, and the next go by another stream.
            None => {
                state.uploader = None;
                state.note_failure(RemoteError::Failure("the stream to the server broke".to_owned()).into());
                state.early.clear();
                let under_way: Vec<ChunkNumber> = state.sending.keys().copied().collect();
                under_way.into_iter().for_each(|number| state.take_back(number));
            }
        }
        Ok(())
    }

    /// Waits until the chunks under way, of this file and of all, are within their limits.
    async fn wait_for_room(&self, home: &dyn Home, state: &mut State) -> Result<(), DriveError> {
        let waiting = |state: &State| state.uploader.as_ref().map_or(0, Uploader::waiting);
        while waiting(state) > IN_FLIGHT_MAX || (waiting(state) > 0 && home.resources().unsent.is_crowded()) {
            self.acknowledge_next(home, state).await?;
            self.update_snapshot(state);
        }
        Ok(())
    }

    /// Waits for everything under way, and returns the first failure.
    pub(super) async fn drain(&self, home: &dyn Home, state: &mut State) -> Result<(), DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(home, state).await?;
        }
        self.tell_failure(home, state).await
    }

    /// Returns the failure of a send that was not reported yet. Before that, it restores the old end of the server's
    /// file.
    pub(super) async fn tell_failure(&self, home: &dyn Home, state: &mut State) -> Result<(), DriveError> {
        if !state.backing.is_staged() && state.failure().is_some() {
            while !state.sending.is_empty() {
                self.acknowledge_next(home, state).await?;
            }
            // A request without a reply does not mean that room is lacking.
            let is_refused = state.failure().is_some_and(|error| !error.is_unanswered());
            if let Backing::Stored(stored) = &mut state.backing {
                stored.lacks_room |= is_refused && state.reach > state.stored_length;
            }
            // If that fails, too, it is retried before anything else is sent.
            if let Err(error) = state.put_back_end().await {
                tracing::warn!(
                    error = error.for_log(false),
                    "the end of a file may be torn until it is saved"
                );
            }
        }
        state.tell_failure()
    }
}

fn acknowledge(home: &dyn Home, state: &mut State, (numbers, result): Acknowledgement) {
    let is_in_place = !state.backing.is_staged();
    for number in numbers.numbers() {
        match &result {
            Ok(()) if is_in_place && number.start() > state.stored_length => {
                state.early.insert(number);
            }
            Ok(()) => mark_stored(home, state, number),
            Err(error) => {
                state.take_back(number);
                state.note_failure(error.clone().into());
            }
        }
    }
    while let Some(number) = state.early.first().copied().filter(|next| next.start() <= state.stored_length) {
        state.early.remove(&number);
        mark_stored(home, state, number);
    }
    // The chunk in front of them failed: there is a gap.
    if state.uploader.as_ref().is_none_or(|uploader| uploader.waiting() == 0) {
        std::mem::take(&mut state.early).into_iter().for_each(|number| state.take_back(number));
    }
}

/// Notes that the server has a chunk that was sent.
fn mark_stored(home: &dyn Home, state: &mut State, number: ChunkNumber) {
    let Some(chunk) = state.sending.remove(&number) else { return };
    let end = number.start().saturating_add(chunk.len() as u64);
    state.stored_length = state.stored_length.max(end);
    state.reach = state.reach.max(end);
    state.note_change();
    if state.is_stored_end(number) {
        state.keep_end(number, chunk.clone());
    }
    home.resources().cache.put(state.key(number), chunk);
}

/// Makes an empty temporary file that will replace `location`.
async fn stage(
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
fn beginning(chunk: &Bytes, length: usize) -> Result<&[u8], DriveError> {
    chunk.get(..length).ok_or_else(|| DriveError::damaged("a chunk is cut short"))
}

/// Removes the temporary file of discarded content.
async fn discard_staged(state: &State) {
    if let Backing::Staged { file, .. } = &state.backing {
        file.discard().await;
    }
}

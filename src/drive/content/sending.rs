//! Sending: from the chunks that programs have written to acknowledged uploads.

use bytes::Bytes;
use scaup_crypto::{ChunkNumber, ChunkRange, CiphertextLen, CleartextLen};
use scaup_fuse::filesystem::RequestError as _;

use super::codec::GROUP_CHUNKS;
use super::file::File;
use super::home::Home;
use super::state::{Access, Backing, State};
use super::uploader::{Acknowledgement, Uploader};
use crate::drive::error::DriveError;
use crate::remote::RemoteError;

/// Dirty chunks of one file after which sending begins while the program still writes: 1 MiB.
pub(super) const SEND_AT_CHUNKS: usize = 32;

/// Chunks of one file in flight above which a writer has to wait: 16 MiB.
const IN_FLIGHT_MAX: u64 = 512;

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
        let codec = self.sending_codec()?;
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

    /// Keeps a chunk that the server has by now for those who read it. Nobody reads an encrypted one.
    pub(super) fn keep_sent(&self, home: &dyn Home, number: ChunkNumber, chunk: Bytes) {
        if self.sealed_place().is_none() {
            home.resources().cache.put(self.key(number), chunk);
        }
    }

    /// Makes a sent chunk dirty again: the send failed, or its outcome is unknown.
    pub(super) fn take_back(&mut self, number: ChunkNumber) {
        let Some(chunk) = self.sending.remove(&number) else { return };
        // The header went with the first chunk. Sending it again changes nothing: the same header is the same bytes.
        if number == ChunkNumber::FIRST {
            self.take_header_back();
        }
        self.reach = self.reach.max(self.end_of(number, &chunk));
        self.note_change();
        self.dirty.entry(number).or_insert(chunk);
    }
}

impl File {
    /// Sends while the program still writes: the chunks it has finished, or everything when too much is unsent
    /// altogether. Sends nothing while a failure is unreported: each try would wait for the server again.
    pub(super) async fn send_what_is_due(
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

    pub(super) async fn acknowledge_next(
        &self,
        home: &dyn Home,
        state: &mut State,
    ) -> Result<(), DriveError> {
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
    pub(super) async fn wait_for_room(&self, home: &dyn Home, state: &mut State) -> Result<(), DriveError> {
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
    let end = state.end_of(number, &chunk);
    state.stored_length = state.stored_length.max(end);
    state.reach = state.reach.max(end);
    state.note_change();
    if state.is_stored_end(number) {
        state.keep_end(number, chunk.clone());
    }
    state.keep_sent(home, number, chunk);
}

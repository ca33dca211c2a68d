//! Reading: a range of bytes becomes chunks, each from memory or, in runs of adjacent ones, from the server.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use scaup_crypto::{ChunkNumber, ChunkRange, CleartextLen};
use tracing::Instrument as _;

use super::chunks::{ChunkKey, Claim, ContentId, Promise, Waiting};
use super::codec::Codec;
use super::counters::Counters;
use super::home::Resources;
use super::shown::Readable;
use super::state::State;
use crate::drive::error::DriveError;
use crate::remote::{RemoteFile, Room};

impl Readable for State {
    fn codec(&self) -> Result<&Arc<Codec>, DriveError> {
        self.codec()
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
        self.backing.file()
    }

    fn unsent(&self, number: ChunkNumber) -> Option<Bytes> {
        self.dirty.get(&number).or_else(|| self.sending.get(&number)).cloned()
    }
}

/// A chunk that is being read.
pub(super) enum Part {
    Here(Bytes),
    Coming(Waiting),
}

impl Part {
    /// Returns the chunks in `range`: those in memory, and those now requested from the server.
    pub(super) fn ask_for(
        resources: &Resources,
        from: &impl Readable,
        range: ChunkRange,
    ) -> Result<Vec<Self>, DriveError> {
        let mut runs = Runs::new(resources, from, None)?;
        let parts = range.numbers().map(|number| match from.unsent(number) {
            Some(chunk) => Self::Here(chunk),
            None => match resources.cache.claim(ChunkKey { content: from.content(), number }) {
                Claim::Ready(chunk) => Self::Here(chunk),
                Claim::Wait(waiting) => Self::Coming(waiting),
                Claim::Load(promise) => {
                    let waiting = promise.wait();
                    runs.add(promise);
                    Self::Coming(waiting)
                }
            },
        });
        let parts = parts.collect();
        runs.fetch();
        Ok(parts)
    }

    pub(super) async fn done(self) -> Result<Bytes, DriveError> {
        match self {
            Self::Here(chunk) => Ok(chunk),
            Self::Coming(waiting) => waiting.done().await,
        }
    }
}

/// A read under way, which needs nothing of the file's state any more.
pub(super) struct Read {
    chunks: Vec<Part>,
    /// Offset of the read in the first chunk, and its length in bytes.
    from: usize,
    wanted: usize,
}

impl Read {
    pub(super) fn begin(
        resources: &Resources,
        readable: &impl Readable,
        offset: CleartextLen,
        length: u64,
    ) -> Result<Self, DriveError> {
        readable.codec()?;
        let end = offset.saturating_add(length).min(readable.length());
        if offset >= end {
            return Ok(Self { chunks: Vec::new(), from: 0, wanted: 0 });
        }
        let chunks = Part::ask_for(resources, readable, ChunkRange::touched_by(offset..end))?;
        let wanted = usize::try_from(end.saturating_sub(offset)).map_err(|_| DriveError::Invalid)?;
        Ok(Self { chunks, from: offset.in_chunk(), wanted })
    }

    pub(super) async fn done(self) -> Result<Bytes, DriveError> {
        let Self { chunks, from, wanted } = self;
        let mut done = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            done.push(chunk.done().await?);
        }
        // Joined only now: many readers may be waiting.
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

/// Requests the chunks in `group` that are not in memory, without waiting for them, each request with its `room`.
pub(super) fn fetch_ahead(
    resources: &Resources,
    state: &State,
    group: ChunkRange,
    room: Option<Room>,
) -> Result<(), DriveError> {
    let mut runs = Runs::new(resources, state, room)?;
    let there = ChunkRange { end: group.end.min(state.stored_length.chunks().end), ..group };
    for number in there.numbers() {
        if state.unsent(number).is_none()
            && let Some(promise) = resources.cache.claim_ahead(state.key(number))
        {
            runs.add(promise);
        }
    }
    runs.fetch();
    Ok(())
}

/// Collects chunks to be fetched: adjacent ones come by one request.
struct Runs<'a, R> {
    counters: &'a Arc<Counters>,
    from: &'a R,
    codec: &'a Arc<Codec>,
    room: Option<Room>,
    run: Vec<Promise>,
}

impl<'a, R: Readable> Runs<'a, R> {
    /// Creates the collection; `room` if nobody waits for the chunks yet.
    fn new(resources: &'a Resources, from: &'a R, room: Option<Room>) -> Result<Self, DriveError> {
        Ok(Self { counters: &resources.counters, from, codec: from.codec()?, room, run: Vec::new() })
    }

    /// Adds a chunk, whose number is higher than those before.
    fn add(&mut self, promise: Promise) {
        if self.run.last().is_some_and(|last| last.number().next() != promise.number()) {
            self.fetch();
        }
        self.run.push(promise);
    }

    /// Fetches and decrypts the run of adjacent chunks in the background.
    fn fetch(&mut self) {
        let run = std::mem::take(&mut self.run);
        let Some(first) = run.first().map(Promise::number) else { return };
        let (file, codec) = (self.from.file(), Arc::clone(self.codec));
        let stored_length = self.from.stored_length();
        let (counters, room) = (Arc::clone(self.counters), self.room.clone());
        let fetching = async move {
            let lengths: Vec<usize> =
                run.iter().map(|promise| codec.chunk_len(stored_length, promise.number())).collect();
            let (offset, total) = (codec.offset(first).0, lengths.iter().sum());
            let read = match room {
                Some(room) => file.read_ahead(offset, total, room).await,
                None => file.read_at(offset, total).await,
            };
            let mut rest = match read {
                Ok(bytes) => bytes,
                Err(error) => {
                    run.into_iter().for_each(|promise| promise.keep(Err(error.clone().into())));
                    return;
                }
            };
            for (promise, length) in run.into_iter().zip(lengths) {
                let loaded = if rest.len() < length {
                    Err(DriveError::damaged(format_args!("chunk {} is cut short", promise.number())))
                } else {
                    counters.count_decrypted();
                    codec.decode(promise.number(), &rest.split_to(length))
                };
                promise.keep(loaded);
            }
        };
        tokio::spawn(fetching.in_current_span());
    }
}

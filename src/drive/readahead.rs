//! Chunks that nobody asked for yet.
//!
//! The kernel reads ahead 128 KiB with at most two requests in flight, which leaves a long road empty. So each handle that is
//! read in sequence has a [plan](ReadAhead): how far to be ahead of the program. A task carries it out a group of chunks at a time, each when
//! the road has room for it, and looks at the plan again only then: what a program that jumps or closes the file did not need is
//! never asked for, and what it asks for itself meanwhile waits behind nothing.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use super::chunks::ChunkCache;
use super::codec::{CHUNK_LEN, GROUP_CHUNKS};
use super::handles::OpenFile;
use super::status::Counters;
use crate::remote::Remote;

/// About what a group takes on the road, bytes.
const GROUP_LEN: usize = (GROUP_CHUNKS * CHUNK_LEN) as usize;

/// How far a read may lie before the expected offset, since the kernel sends two at a time in any order: 2 x 128 KiB.
const BACKWARD: u64 = 256 * 1024;

/// How far it may lie behind at least: the kernel does not ask for pages that it still has.
const FORWARD: u64 = 1024 * 1024;

/// A program that read so many bytes in sequence is believed to read this many times as many more: what is in vain when it stops is bounded by
/// what it read, and three times as much is under way after each round trip.
const BELIEF: u64 = 2;

/// How many handles are read in sequence: they share the room for what nobody read yet.
#[derive(Debug, Default)]
pub(super) struct Readers(AtomicU64);

/// One of them, while it lives.
#[derive(Debug)]
struct Reader(Arc<Readers>);

impl Reader {
    fn new(readers: &Arc<Readers>) -> Self {
        readers.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(readers))
    }

    /// Its part of `room`.
    fn part(&self, room: u64) -> u64 {
        room / self.0.0.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How one handle is read, and how far to be ahead of it.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Where the next read begins if reading goes on in sequence.
    expected: u64,
    /// Bytes read since the last jump.
    run: u64,
    /// The first chunk that was not asked for yet, and where to stop.
    plan: Range<u64>,
    /// Counted among the readers since the last jump.
    reader: Option<Reader>,
    /// Whether a task carries the plan out.
    carried_out: bool,
}

impl ReadAhead {
    /// Notes a read from a file of `file_len` bytes; `room` is how many bytes all readers together may be ahead. Answers whether a task
    /// has to be started for what is planned now.
    pub(super) fn note(
        &mut self,
        read: Range<u64>,
        file_len: u64,
        readers: &Arc<Readers>,
        room: u64,
    ) -> bool {
        let goes_on = self.expected.saturating_sub(BACKWARD)
            ..=self.expected.saturating_add(FORWARD.max(self.run * BELIEF));
        if !goes_on.contains(&read.start) {
            *self = Self { expected: read.end, carried_out: self.carried_out, ..Self::default() };
            return false;
        }
        let length = read.end - read.start;
        self.run += length.min(read.end.saturating_sub(self.expected));
        self.expected = self.expected.max(read.end);
        let reader = self.reader.get_or_insert_with(|| Reader::new(readers));
        let window = (self.run * BELIEF).min(reader.part(room)) / CHUNK_LEN;
        let at = self.expected.div_ceil(CHUNK_LEN);
        let until = at.saturating_add(window).min(file_len.div_ceil(CHUNK_LEN));
        self.plan = self.plan.start.max(at)..until;
        let starts = !self.carried_out && self.is_due(file_len);
        self.carried_out |= starts;
        starts
    }

    /// Whether to ask for more: for a whole group, for the last of the file, or because nothing is ahead of the program.
    fn is_due(&self, file_len: u64) -> bool {
        let Range { start, end } = self.plan;
        let nothing_ahead = start <= self.expected.div_ceil(CHUNK_LEN);
        start < end && (end - start >= GROUP_CHUNKS || nothing_ahead || end >= file_len.div_ceil(CHUNK_LEN))
    }

    /// The chunks to ask for now; if there are none, the task ends.
    fn take_group(&mut self, file_len: u64) -> Option<Range<u64>> {
        self.carried_out = self.is_due(file_len);
        self.carried_out.then(|| {
            let group = self.plan.start..self.plan.end.min(self.plan.start + GROUP_CHUNKS);
            self.plan.start = group.end;
            group
        })
    }
}

/// What a task needs to read ahead, whatever becomes of the handle.
pub(super) struct Ahead {
    pub(super) remote: Arc<dyn Remote>,
    pub(super) cache: Arc<ChunkCache>,
    pub(super) counters: Arc<Counters>,
    /// Whether it waits until nobody else wants the road.
    pub(super) goes_last: bool,
}

impl Ahead {
    /// Carries out a handle's plan, until nothing is left of it or the handle is closed.
    pub(super) async fn run(self, handle: Weak<OpenFile>) {
        loop {
            let room =
                if self.goes_last { self.remote.room_ahead(GROUP_LEN).await.map(Some) } else { Ok(None) };
            let Some(open) = handle.upgrade() else { return };
            let group = {
                let mut plan = open.ahead.lock().unwrap_or_else(PoisonError::into_inner);
                let group = plan.take_group(open.file.length());
                // Without a connection there is nothing to be had ahead: the next read begins anew.
                plan.carried_out &= room.is_ok();
                group
            };
            let (Ok(room), Some(group)) = (room, group) else { return };
            open.file.read_ahead(&self.cache, &self.counters, group, room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = 128 * 1024;
    const FILE: u64 = 1 << 40;
    const ROOM: u64 = 16 << 20;

    /// Reads `length` bytes at `offset`, and answers what is asked for ahead then.
    fn read(ahead: &mut ReadAhead, readers: &Arc<Readers>, offset: u64, length: u64) -> Vec<Range<u64>> {
        ahead.note(offset..offset + length, FILE, readers, ROOM);
        std::iter::from_fn(|| ahead.take_group(FILE)).collect()
    }

    #[test]
    fn the_plan_grows_with_what_was_read_up_to_the_room_and_covers_everything_once() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        let mut covered = KERNEL / CHUNK_LEN;
        for request in 0..1000 {
            for group in read(&mut ahead, &readers, request * KERNEL, KERNEL) {
                assert_eq!(group.start, covered, "left out or asked for twice");
                covered = group.end;
            }
            let at = (request + 1) * KERNEL;
            let most = (at * BELIEF).min(ROOM);
            assert!(covered * CHUNK_LEN <= at + most, "{covered} chunks at {at}");
            assert!((covered + GROUP_CHUNKS) * CHUNK_LEN > at + most, "{covered} chunks at {at}");
        }
    }

    #[test]
    fn the_kernels_reordering_is_no_jump_and_a_jump_fetches_nothing() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        read(&mut ahead, &readers, 0, KERNEL);
        read(&mut ahead, &readers, 2 * KERNEL, KERNEL);
        read(&mut ahead, &readers, KERNEL, KERNEL);
        assert!(ahead.run >= 2 * KERNEL);
        assert!(read(&mut ahead, &readers, 1 << 30, 4096).is_empty());
        assert!(read(&mut ahead, &readers, 5 << 30, 4096).is_empty());
    }

    #[test]
    fn pages_that_the_kernel_still_has_are_no_jump() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        for request in 0..100 {
            read(&mut ahead, &readers, request * 6 * KERNEL, KERNEL);
        }
        assert_eq!(ahead.run, 100 * KERNEL);
    }

    #[test]
    fn random_reads_near_each_other_fetch_nothing_more() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        for request in [3, 7, 5, 11, 2, 17] {
            assert!(read(&mut ahead, &readers, request * CHUNK_LEN, 4096).is_empty());
        }
    }

    #[test]
    fn what_was_planned_before_a_jump_is_not_asked_for_after_it() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        ahead.note(0..4 * KERNEL, FILE, &readers, ROOM);
        assert!(ahead.take_group(FILE).is_some());
        ahead.note(1 << 30..(1 << 30) + KERNEL, FILE, &readers, ROOM);
        assert_eq!(ahead.take_group(FILE), None);
    }

    #[test]
    fn readers_share_the_room_until_they_jump_or_end() {
        let readers = Arc::default();
        let mut handles: Vec<ReadAhead> = (0..4).map(|_| ReadAhead::default()).collect();
        let ahead_of = |handle: &mut ReadAhead, at: u64| {
            handle.note(at..at + ROOM, FILE, &readers, ROOM);
            handle.plan.end * CHUNK_LEN - (at + ROOM)
        };
        for handle in &mut handles {
            ahead_of(handle, 0);
        }
        assert_eq!(handles.iter_mut().map(|handle| ahead_of(handle, ROOM)).sum::<u64>(), ROOM);
        handles.truncate(2);
        assert_eq!(ahead_of(&mut handles[0], 2 * ROOM), ROOM / 2);
        handles[1].note(1 << 39..1 << 39, FILE, &readers, ROOM);
        assert_eq!(ahead_of(&mut handles[0], 3 * ROOM), ROOM);
    }

    #[test]
    fn the_last_chunks_of_a_file_are_asked_for_even_if_they_are_no_group() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        let file_len = 5 * CHUNK_LEN + 1;
        assert!(ahead.note(0..KERNEL, file_len, &readers, ROOM));
        assert_eq!(ahead.take_group(file_len), Some(4..6));
        assert_eq!(ahead.take_group(file_len), None);
    }
}

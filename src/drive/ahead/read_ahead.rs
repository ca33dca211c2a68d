//! Sequential read-ahead per open handle.
//!
//! The kernel reads ahead 128 KiB with at most two requests in flight, which leaves a long connection idle. So each
//! handle that is read in sequence has a [plan](ReadAhead): how far to be ahead of the program. A task carries it out a
//! group of chunks at a time, each when the connection has room for it, and checks the plan again only then: chunks
//! that a program that jumps or closes the file did not need are never requested, and its own reads meanwhile wait
//! behind nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use scaup_crypto::{ChunkRange, CleartextLen};

use crate::drive::content::codec::{GROUP_CHUNKS, GROUP_LEN};

/// About the bytes that a group takes on the connection.
pub(super) const GROUP_ROOM: usize = GROUP_LEN.0 as usize;

/// How far a read may lie before the expected offset, since the kernel sends two at a time in any order: 2 x 128 KiB.
const BACKWARD: u64 = 256 * 1024;

/// How far a read may at least lie behind the expected offset: the kernel does not ask for pages that it still has.
const FORWARD: u64 = 1024 * 1024;

/// A program that read so many bytes in sequence is expected to read this many times as many more: what is wasted when
/// it stops is bounded by what it read, and three times as much is under way after each round trip.
const BELIEF: u64 = 2;

/// How many handles are read in sequence: they share the room for chunks that nobody read yet.
#[derive(Debug, Default)]
pub(in crate::drive) struct Readers(AtomicU64);

/// One of these handles, counted while this lives.
#[derive(Debug)]
struct Reader(Arc<Readers>);

impl Reader {
    fn new(readers: &Arc<Readers>) -> Self {
        readers.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(readers))
    }

    /// Returns its part of `room`.
    fn part(&self, room: u64) -> u64 {
        room / self.0.0.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How one handle is read, and how far to read ahead of it.
#[derive(Debug, Default)]
pub(in crate::drive) struct ReadAhead {
    /// Where the next read begins if reading goes on in sequence.
    expected: CleartextLen,
    /// Bytes read since the last jump.
    run: u64,
    /// The first chunk that was not requested yet, and where to stop.
    plan: ChunkRange,
    /// Counted among the readers since the last jump.
    reader: Option<Reader>,
    /// Whether a task carries the plan out.
    pub(in crate::drive) carried_out: bool,
}

impl ReadAhead {
    /// Plans what to read ahead after a read from a file of `file_len`; `room` is how many bytes all readers together
    /// may be ahead. Returns whether a task has to be started for the new plan.
    pub(in crate::drive) fn plan_after(
        &mut self,
        read: Range<CleartextLen>,
        file_len: CleartextLen,
        readers: &Arc<Readers>,
        room: u64,
    ) -> bool {
        let goes_on = CleartextLen(self.expected.0.saturating_sub(BACKWARD))
            ..=self.expected.saturating_add(FORWARD.max(self.run * BELIEF));
        if !goes_on.contains(&read.start) {
            *self = Self { expected: read.end, carried_out: self.carried_out, ..Self::default() };
            return false;
        }
        let length = read.end.saturating_sub(read.start);
        self.run += length.min(read.end.saturating_sub(self.expected));
        self.expected = self.expected.max(read.end);
        let reader = self.reader.get_or_insert_with(|| Reader::new(readers));
        let window = CleartextLen((self.run * BELIEF).min(reader.part(room))).chunk();
        let at = self.expected.chunks().end;
        let until = at.after(window.0).min(file_len.chunks().end);
        self.plan = ChunkRange { start: self.plan.start.max(at), end: until };
        let starts = !self.carried_out && self.is_due(file_len);
        self.carried_out |= starts;
        starts
    }

    /// Whether to request more: a whole group, the last of the file, or because nothing is ahead of the program.
    fn is_due(&self, file_len: CleartextLen) -> bool {
        let ChunkRange { start, end } = self.plan;
        let nothing_ahead = start <= self.expected.chunks().end;
        let is_group = self.plan.count() >= GROUP_CHUNKS;
        start < end && (is_group || nothing_ahead || end >= file_len.chunks().end)
    }

    /// Returns the chunks to request now; if there are none, the task ends.
    pub(in crate::drive) fn take_group(&mut self, file_len: CleartextLen) -> Option<ChunkRange> {
        self.carried_out = self.is_due(file_len);
        self.carried_out.then(|| {
            let group =
                ChunkRange { end: self.plan.end.min(self.plan.start.after(GROUP_CHUNKS)), ..self.plan };
            self.plan.start = group.end;
            group
        })
    }
}

#[cfg(test)]
mod tests {
    use scaup_crypto::ChunkNumber;

    use super::*;

    const KERNEL: u64 = 128 * 1024;
    const CHUNK_LEN: u64 = ChunkNumber(1).start().0;
    const FILE: CleartextLen = CleartextLen(1 << 40);
    const ROOM: u64 = 16 << 20;

    fn bytes(range: Range<u64>) -> Range<CleartextLen> {
        CleartextLen(range.start)..CleartextLen(range.end)
    }

    /// Reads `length` bytes at `offset`, and returns what is then read ahead.
    fn read(ahead: &mut ReadAhead, readers: &Arc<Readers>, offset: u64, length: u64) -> Vec<ChunkRange> {
        ahead.plan_after(bytes(offset..offset + length), FILE, readers, ROOM);
        std::iter::from_fn(|| ahead.take_group(FILE)).collect()
    }

    #[test]
    fn the_plan_grows_with_what_was_read_up_to_the_room_and_covers_everything_once() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        let mut covered = KERNEL / CHUNK_LEN;
        for request in 0..1000 {
            for group in read(&mut ahead, &readers, request * KERNEL, KERNEL) {
                assert_eq!(group.start.0, covered, "left out or asked for twice");
                covered = group.end.0;
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
        ahead.plan_after(bytes(0..4 * KERNEL), FILE, &readers, ROOM);
        assert!(ahead.take_group(FILE).is_some());
        ahead.plan_after(bytes(1 << 30..(1 << 30) + KERNEL), FILE, &readers, ROOM);
        assert_eq!(ahead.take_group(FILE), None);
    }

    #[test]
    fn readers_share_the_room_until_they_jump_or_end() {
        let readers = Arc::default();
        let mut handles: Vec<ReadAhead> = (0..4).map(|_| ReadAhead::default()).collect();
        let ahead_of = |handle: &mut ReadAhead, at: u64| {
            handle.plan_after(bytes(at..at + ROOM), FILE, &readers, ROOM);
            handle.plan.end.start().0 - (at + ROOM)
        };
        for handle in &mut handles {
            ahead_of(handle, 0);
        }
        assert_eq!(handles.iter_mut().map(|handle| ahead_of(handle, ROOM)).sum::<u64>(), ROOM);
        handles.truncate(2);
        assert_eq!(ahead_of(&mut handles[0], 2 * ROOM), ROOM / 2);
        handles[1].plan_after(bytes(1 << 39..1 << 39), FILE, &readers, ROOM);
        assert_eq!(ahead_of(&mut handles[0], 3 * ROOM), ROOM);
    }

    #[test]
    fn the_last_chunks_of_a_file_are_asked_for_even_if_they_are_no_group() {
        let (mut ahead, readers) = (ReadAhead::default(), Arc::default());
        let file_len = CleartextLen(5 * CHUNK_LEN + 1);
        assert!(ahead.plan_after(bytes(0..KERNEL), file_len, &readers, ROOM));
        assert_eq!(
            ahead.take_group(file_len),
            Some(ChunkRange { start: ChunkNumber(4), end: ChunkNumber(6) })
        );
        assert_eq!(ahead.take_group(file_len), None);
    }
}

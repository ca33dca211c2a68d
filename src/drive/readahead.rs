//! When to fetch chunks that nobody asked for yet.
//!
//! The kernel reads ahead 128 KiB with at most two requests in flight, which leaves a long road empty. So each handle that is
//! read in sequence gets a window of its own, which doubles while the reading goes on and falls to nothing at a jump.

use std::ops::Range;

use super::codec::CHUNK_LEN;

/// Chunks fetched by one message: 7 encrypted chunks are 229,572 bytes, under OpenSSH's limit of 255 KiB a read.
pub(super) const GROUP_CHUNKS: usize = 7;

/// How far a request may miss the expected offset, since the kernel sends two at a time in any order: 2 x 128 KiB.
const TOLERANCE: u64 = 256 * 1024;

/// How one handle is being read.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Where the next read begins if reading goes on in sequence.
    expected: u64,
    /// The window, chunks; 0 while reading jumps about.
    window: u64,
    /// The first chunk that was not asked for yet.
    fetched_to: u64,
}

impl ReadAhead {
    /// Notes a read, and answers which chunks to fetch ahead; `window_max` is in chunks.
    pub(super) fn note(&mut self, offset: u64, length: u64, window_max: u64) -> Range<u64> {
        let end = offset.saturating_add(length);
        if offset.abs_diff(self.expected) > TOLERANCE {
            *self = Self { expected: end, ..Self::default() };
            return 0..0;
        }
        self.expected = self.expected.max(end);
        let at = self.expected.div_ceil(CHUNK_LEN);
        // The next window is asked for when half of this one is used up.
        if self.window > 0 && self.fetched_to > at + self.window / 2 {
            return 0..0;
        }
        self.window = (self.window * 2).max(GROUP_CHUNKS as u64).min(window_max);
        let range = self.fetched_to.max(at)..at.saturating_add(self.window);
        self.fetched_to = self.fetched_to.max(range.end);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = 128 * 1024;

    #[test]
    fn the_window_doubles_while_reading_is_sequential_and_covers_everything_once() {
        let mut ahead = ReadAhead::default();
        let mut covered = 0;
        for request in 0..1000 {
            let range = ahead.note(request * KERNEL, KERNEL, 256);
            if !range.is_empty() {
                assert!(range.start >= covered, "{range:?} was fetched before");
                covered = range.end;
            }
        }
        assert!(covered >= 1000 * KERNEL / CHUNK_LEN);
    }

    #[test]
    fn the_kernels_reordering_is_no_jump_and_a_jump_fetches_nothing() {
        let mut ahead = ReadAhead::default();
        let _ = ahead.note(0, KERNEL, 256);
        let _ = ahead.note(2 * KERNEL, KERNEL, 256);
        let _ = ahead.note(KERNEL, KERNEL, 256);
        assert!(ahead.window >= 14);
        assert!(ahead.note(1 << 30, 4096, 256).is_empty());
        assert!(ahead.note(5 << 30, 4096, 256).is_empty());
    }
}

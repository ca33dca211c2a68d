//! Lengths, offsets and chunk numbers (section 9), each a type of its own: a length of cleartext in the place of a
//! length of ciphertext, or of a chunk number, does not compile.
//!
//! The arithmetic on cleartext and its chunks is here; from cleartext to ciphertext and back leads only
//! [`CipherCombo`](crate::CipherCombo). Sums saturate: no server can hold a file of `u64::MAX` bytes.

use std::ops::Range;

use crate::CLEARTEXT_CHUNK_LEN;

const CHUNK_LEN: u64 = CLEARTEXT_CHUNK_LEN as u64;

/// The length of a file's content as programs see it, or an offset in it, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleartextLen(pub u64);

impl CleartextLen {
    /// Empty content, or its start.
    pub const ZERO: Self = Self(0);

    /// Returns the chunk that the byte at this offset lies in.
    #[must_use]
    pub const fn chunk(self) -> ChunkNumber {
        ChunkNumber(self.0 / CHUNK_LEN)
    }

    /// Returns where in its chunk the byte at this offset lies.
    #[must_use]
    pub const fn in_chunk(self) -> usize {
        (self.0 % CHUNK_LEN) as usize
    }

    /// Returns all chunks of content of this length.
    #[must_use]
    pub const fn chunks(self) -> ChunkRange {
        ChunkRange { start: ChunkNumber(0), end: ChunkNumber(self.0.div_ceil(CHUNK_LEN)) }
    }

    /// Returns the length of a chunk of content of this length; 0 behind its end.
    #[must_use]
    pub const fn chunk_len(self, number: ChunkNumber) -> usize {
        let from_there = self.saturating_sub(number.start());
        if from_there < CHUNK_LEN { from_there as usize } else { CLEARTEXT_CHUNK_LEN }
    }

    /// Returns the offset so many `bytes` further.
    #[must_use]
    pub const fn saturating_add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Returns the number of bytes from `start` to here; 0 if `start` lies behind.
    #[must_use]
    pub const fn saturating_sub(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

/// The length of a file as the server stores it, or an offset in that, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CiphertextLen(pub u64);

impl CiphertextLen {
    /// Returns the number of bytes from `start` to here; 0 if `start` lies behind.
    #[must_use]
    pub const fn saturating_sub(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

/// The number of a chunk in its file, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkNumber(pub u64);

impl ChunkNumber {
    /// A file's first chunk.
    pub const FIRST: Self = Self(0);

    /// Returns the offset at which the chunk begins.
    #[must_use]
    pub const fn start(self) -> CleartextLen {
        CleartextLen(self.0.saturating_mul(CHUNK_LEN))
    }

    /// Returns the number of the chunk behind it.
    #[must_use]
    pub const fn next(self) -> Self {
        self.after(1)
    }

    /// Returns the number of the chunk that is so many `chunks` behind it.
    #[must_use]
    pub const fn after(self, chunks: u64) -> Self {
        Self(self.0.saturating_add(chunks))
    }
}

impl std::fmt::Display for ChunkNumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Adjacent chunks, from `start` to before `end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkRange {
    /// The first of them.
    pub start: ChunkNumber,
    /// The one behind the last of them.
    pub end: ChunkNumber,
}

impl ChunkRange {
    /// Returns the chunks of which a range of bytes touches any part.
    #[must_use]
    pub const fn touched_by(bytes: Range<CleartextLen>) -> Self {
        let start = bytes.start.chunk();
        let end = if bytes.start.0 < bytes.end.0 { bytes.end.chunks().end } else { start };
        Self { start, end }
    }

    /// Returns the chunk `number` alone.
    #[must_use]
    pub const fn only(number: ChunkNumber) -> Self {
        Self { start: number, end: number.next() }
    }

    /// Returns how many chunks these are.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Returns their numbers, in order.
    pub fn numbers(self) -> impl Iterator<Item = ChunkNumber> + Clone + Send {
        (self.start.0..self.end.0).map(ChunkNumber)
    }
}

/// The part of one chunk that a range of bytes touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkPart {
    /// The chunk.
    pub number: ChunkNumber,
    /// The touched bytes of it.
    pub within: Range<usize>,
}

/// Returns which part of which chunk a range of bytes touches, in order.
pub fn chunk_parts(bytes: Range<CleartextLen>) -> impl Iterator<Item = ChunkPart> + Send {
    ChunkRange::touched_by(bytes.clone()).numbers().map(move |number| {
        let start = bytes.start.max(number.start()).in_chunk();
        ChunkPart { number, within: start..bytes.end.chunk_len(number) }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Offsets of which many lie near the edges of chunks.
    fn offset() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..5 * CHUNK_LEN,
            (1..5_u64, 0..5_u64).prop_map(|(chunks, beyond)| chunks * CHUNK_LEN + beyond - 2)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_parts_of_chunks_are_those_that_the_bytes_one_by_one_lie_in(start in offset(), end in offset()) {
            let mut wanted = BTreeMap::<u64, Range<usize>>::new();
            for byte in start..end {
                let within = (byte % CHUNK_LEN) as usize;
                let part = wanted.entry(byte / CHUNK_LEN).or_insert(within..within);
                prop_assert_eq!(part.end, within);
                part.end += 1;
            }
            let bytes = CleartextLen(start)..CleartextLen(end);
            let range = ChunkRange::touched_by(bytes.clone());
            prop_assert_eq!(range.count(), wanted.len() as u64);
            prop_assert!(range.numbers().map(|number| number.0).eq(wanted.keys().copied()));
            let parts = chunk_parts(bytes).map(|part| (part.number.0, part.within));
            prop_assert!(parts.eq(wanted));
        }

        #[test]
        fn the_chunks_of_a_length_have_that_length_together(length in offset()) {
            let length = CleartextLen(length);
            prop_assert_eq!(length.chunks(), ChunkRange::touched_by(CleartextLen::ZERO..length));
            let sum: usize = length.chunks().numbers().map(|number| length.chunk_len(number)).sum();
            prop_assert_eq!(sum as u64, length.0);
            prop_assert_eq!(length.chunk_len(length.chunks().end), 0);
            prop_assert_eq!(length.chunk().start().saturating_add(length.in_chunk() as u64), length);
        }

        #[test]
        fn nothing_overflows(start: u64, end: u64) {
            let (start, end) = (CleartextLen(start), CleartextLen(end));
            let range = ChunkRange::touched_by(start..end);
            prop_assert!(range.start <= range.end);
            prop_assert!(ChunkNumber(start.0).start() >= CleartextLen(start.0));
            prop_assert!(end.chunk_len(ChunkNumber(start.0)) <= CLEARTEXT_CHUNK_LEN);
            prop_assert!(chunk_parts(start..end).take(3).all(|part| part.within.start < part.within.end));
        }
    }
}

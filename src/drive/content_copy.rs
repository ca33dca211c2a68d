//! Content that is being saved, for those who read it meanwhile: who saves holds the file's state until the server has
//! answered, and what memory can answer must not wait for the server.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::chunks::ContentId;
use super::codec::CHUNK_LEN;
use super::file::{Base, State};

/// A copy of the whole content of a small file. It costs no more memory than what is unsent, which is bounded.
pub(super) struct ContentCopy {
    pub(super) content: ContentId,
    pub(super) length: u64,
    /// How the server's file looked.
    pub(super) base: Option<Base>,
    chunks: BTreeMap<u64, Bytes>,
}

impl ContentCopy {
    /// `None` if not all of the content is here, or it is long.
    pub(super) fn of(state: &State) -> Option<Self> {
        if state.codec.is_err() || !state.is_small() {
            return None;
        }
        Some(Self {
            content: state.content,
            length: state.length,
            base: state.stored_base(),
            chunks: state
                .dirty
                .iter()
                .map(|(&number, chunk)| (number, Bytes::copy_from_slice(chunk)))
                .collect(),
        })
    }

    /// Reads: fewer bytes than `length` only at the end of the content.
    pub(super) fn read(&self, offset: u64, length: u64) -> Bytes {
        let end = offset.saturating_add(length).min(self.length);
        let mut read = BytesMut::new();
        let mut at = offset;
        while at < end {
            let (number, within) = (at / CHUNK_LEN, usize::try_from(at % CHUNK_LEN).unwrap_or(usize::MAX));
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let rest = self.chunks.get(&number).and_then(|chunk| chunk.get(within..)).unwrap_or_default();
            let Some(piece) = rest.get(..wanted.min(rest.len())).filter(|piece| !piece.is_empty()) else {
                break;
            };
            read.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        read.freeze()
    }
}

//! Recognizes an open file on the server after a reconnection: by the data that this mount wrote to it last, or else by
//! its attributes. By then another file may have its name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use scaup_sftp::client::{FileHandle, Lane};
use siphasher::sip::SipHasher13;

use super::conversions::{from_wire, plain};
use crate::{RemoteAttributes, RemoteError};

/// Bytes from the beginning that distinguish a file from another that took its place: the header of a vault file, whose
/// nonce is unique.
const HEAD_LEN: usize = 64;

/// The facts known of one file.
#[derive(Default)]
pub(super) struct FileIdentity(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Its last known attributes; `None` if this mount has set attributes since.
    attributes: Option<RemoteAttributes>,
    /// Its first bytes, as last read.
    head: Option<Bytes>,
    /// Number of changes by this mount.
    changes: u64,
    /// Number of writes under way.
    under_way: usize,
    /// The last acknowledged write since the attributes were last known.
    written: Option<Written>,
    /// Later writes that may have arrived, by the number of the change.
    unsure: BTreeMap<u64, Written>,
}

/// The time of a request, as the number of changes before it. Its reply says nothing of later changes.
#[derive(Clone, Copy)]
pub(super) struct ChangeCount(u64);

impl Known {
    /// Returns whether there was no change since, and none is under way.
    fn is_still_as(&self, asked: ChangeCount) -> bool {
        self.changes == asked.0 && self.under_way == 0
    }
}

/// Bytes that were written: their place and their hash.
#[derive(Clone, Copy)]
struct Written {
    offset: u64,
    length: usize,
    hash: u64,
}

impl Written {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.length as u64)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    /// Returns whether the file holds them.
    async fn is_in(&self, lane: &Lane, handle: &FileHandle) -> Result<bool, RemoteError> {
        let read = lane.read_at(handle, self.offset, self.length).await.map_err(plain)?;
        Ok(read.len() == self.length && hash(&read) == self.hash)
    }
}

/// SipHash-1-3 with zero keys: stable, unlike a toolchain's own hash.
fn hash(data: &[u8]) -> u64 {
    SipHasher13::new().hash(data)
}

/// A write that is under way. Whatever its outcome, it may have arrived.
pub(super) struct Writing<'a> {
    identity: &'a FileIdentity,
    number: u64,
}

impl Writing<'_> {
    pub(super) fn record_acknowledged(&self) {
        let mut known = self.identity.lock();
        if let Some(written) = known.unsure.remove(&self.number) {
            known.written = Some(written);
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.identity.lock().under_way -= 1;
    }
}

impl FileIdentity {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current moment, before a request is sent.
    pub(super) fn now(&self) -> ChangeCount {
        ChangeCount(self.lock().changes)
    }

    /// Records the file's attributes.
    pub(super) fn record_attributes(&self, asked: ChangeCount, attributes: RemoteAttributes) {
        let mut known = self.lock();
        if known.is_still_as(asked) {
            (known.attributes, known.written) = (Some(attributes), None);
            known.unsure.clear();
        }
    }

    /// Records the file's first bytes.
    pub(super) fn record_start(&self, asked: ChangeCount, start: &Bytes) {
        let mut known = self.lock();
        if known.is_still_as(asked) {
            known.head = Some(Bytes::copy_from_slice(start.get(..HEAD_LEN).unwrap_or(start)));
        }
    }

    /// Records a write that is about to be sent, to a file that others may have `seen`: under a temporary name nobody
    /// else writes.
    pub(super) fn record_writing(&self, offset: u64, data: &[u8], seen: bool) -> Writing<'_> {
        let mut known = self.lock();
        known.changes += 1;
        known.under_way += 1;
        if offset < HEAD_LEN as u64 {
            known.head = None;
        }
        let number = known.changes;
        if seen {
            known.unsure.insert(number, Written { offset, length: data.len(), hash: hash(data) });
        } else {
            known.attributes = None;
        }
        Writing { identity: self, number }
    }

    /// Records that attributes are about to be set, or the file is about to be cut to `kept` bytes: the known
    /// attributes, and writes behind that point, are then no longer valid.
    pub(super) fn record_setting(&self, kept: u64) {
        let mut known = self.lock();
        known.changes += 1;
        known.attributes = None;
        if kept < HEAD_LEN as u64 {
            known.head = None;
        }
        let is_kept = |written: &Written| written.end() <= kept;
        known.written = known.written.filter(is_kept);
        known.unsure.retain(|_, written| is_kept(written));
    }

    /// Fails with [`RemoteError::Replaced`] unless the file just opened is the one that these facts are known of.
    pub(super) async fn recognize(&self, lane: &Lane, handle: &FileHandle) -> Result<(), RemoteError> {
        let (attributes, head, written, unsure) = {
            let Known { attributes, head, written, unsure, .. } = &*self.lock();
            (*attributes, head.clone(), *written, unsure.values().copied().collect::<Vec<_>>())
        };
        if let Some(head) = head {
            let now = lane.read_at(handle, 0, head.len()).await.map_err(plain)?;
            if now != head {
                return Err(RemoteError::Replaced);
            }
        }
        let candidates: Vec<Written> = match (written, attributes) {
            // A write under way over it may have arrived.
            (Some(last), _) => [last]
                .into_iter()
                .chain(unsure.into_iter().filter(|written| written.overlaps(&last)))
                .collect(),
            (None, Some(known)) => {
                let now = from_wire(&lane.fstat(handle).await.map_err(plain)?);
                if (now.size, now.modified) == (known.size, known.modified) {
                    return Ok(());
                }
                unsure
            }
            (None, None) => return Ok(()),
        };
        for written in candidates {
            if written.is_in(lane, handle).await? {
                return Ok(());
            }
        }
        Err(RemoteError::Replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn content_has_the_same_hash_in_every_build() {
        assert_eq!(hash(b""), 0xd1fb_a762_150c_532c);
        assert_eq!(hash(b"what was written"), 0xd780_7641_6ef5_d423);
    }
}

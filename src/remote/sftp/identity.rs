//! What is known of an open file on the server, to recognize it after a reconnection: what this mount wrote to it last, or else how it
//! looked. Under its name there may be another one by then.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use scaup_sftp::client::{FileHandle, Lane};
use siphasher::sip::SipHasher13;

use super::reasons::{from_wire, plain};
use crate::remote::{RemoteAttributes, RemoteError};

/// Bytes from the beginning that tell one file from another that took its place: the header of a vault file, whose nonce is unique.
const HEAD_LEN: usize = 64;

/// What is known of one file.
#[derive(Default)]
pub(super) struct Identity(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// How it looked when it was last looked at; `None` if this mount has set attributes since.
    attributes: Option<RemoteAttributes>,
    /// Its first bytes, as they were read.
    head: Option<Bytes>,
    /// Changes of this mount so far.
    changes: u64,
    /// Writes that are under way.
    under_way: usize,
    /// What was last written and acknowledged since it was last looked at.
    written: Option<Written>,
    /// What was written since then and may have arrived, by the number of the change.
    unsure: BTreeMap<u64, Written>,
}

/// When something was asked of the file: after so many changes. An answer says nothing of later ones.
#[derive(Clone, Copy)]
pub(super) struct Moment(u64);

impl Known {
    /// Whether nothing was changed since, nor is being changed.
    fn is_still_as(&self, asked: Moment) -> bool {
        self.changes == asked.0 && self.under_way == 0
    }
}

/// Bytes that were written: where, and what they were.
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

    /// Whether the file holds them.
    async fn is_in(&self, lane: &Lane, handle: &FileHandle) -> Result<bool, RemoteError> {
        let read = lane.read_at(handle, self.offset, self.length).await.map_err(plain)?;
        Ok(read.len() == self.length && hash(&read) == self.hash)
    }
}

/// SipHash-1-3 with keys of zeros: the same for good, whatever a toolchain's own hash is.
fn hash(data: &[u8]) -> u64 {
    SipHasher13::new().hash(data)
}

/// A write that is under way. Whatever becomes of it, it may have arrived.
pub(super) struct Writing<'a> {
    identity: &'a Identity,
    number: u64,
}

impl Writing<'_> {
    pub(super) fn note_acknowledged(&self) {
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

impl Identity {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present: something is about to be asked.
    pub(super) fn now(&self) -> Moment {
        Moment(self.lock().changes)
    }

    /// It looks like this.
    pub(super) fn note_attributes(&self, asked: Moment, attributes: RemoteAttributes) {
        let mut known = self.lock();
        if known.is_still_as(asked) {
            (known.attributes, known.written) = (Some(attributes), None);
            known.unsure.clear();
        }
    }

    /// It begins like this.
    pub(super) fn note_start(&self, asked: Moment, start: &Bytes) {
        let mut known = self.lock();
        if known.is_still_as(asked) {
            known.head = Some(Bytes::copy_from_slice(start.get(..HEAD_LEN).unwrap_or(start)));
        }
    }

    /// Something is about to be written, to a file that others have `seen`: under a temporary name nobody else puts
    /// anything.
    pub(super) fn note_writing(&self, offset: u64, data: &[u8], seen: bool) -> Writing<'_> {
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

    /// Attributes are about to be set, or what lies behind `kept` bytes is about to be cut off: how it looked says nothing any more, nor does what
    /// was written there.
    pub(super) fn note_setting(&self, kept: u64) {
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

    /// Fails with [`RemoteError::Replaced`] unless what was opened now is the file that all this is known of.
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
            // What is just being written over it may have arrived.
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

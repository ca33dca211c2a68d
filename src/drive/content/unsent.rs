//! How much programs have written that the server does not have, and how much of that is too much.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of what programs wrote and the server does not have, over all files.
#[derive(Debug)]
pub(in crate::drive) struct Unsent {
    /// How many bytes may be unsent before writers have to wait.
    most: u64,
    /// Whether anything may be unsent while nobody writes.
    writes_behind: bool,
    bytes: AtomicU64,
    files: AtomicU64,
    /// Bytes of writes in progress, which are not counted as unsent yet.
    being_taken: AtomicU64,
}

/// Room for the bytes of one write, held until the write is taken.
pub(in crate::drive) struct Reservation<'a> {
    unsent: &'a Unsent,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.unsent.being_taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Unsent {
    pub(in crate::drive) fn new(most: u64, writes_behind: bool) -> Self {
        Self {
            most,
            writes_behind,
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            being_taken: AtomicU64::new(0),
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether so much is unsent that writers have to wait.
    pub(in crate::drive) fn is_crowded(&self) -> bool {
        /// Files that may wait to be saved after they were closed.
        const FILES_MAX: u64 = 512;
        !self.writes_behind || self.has_much() || self.files.load(Ordering::Relaxed) > FILES_MAX
    }

    /// Whether the unsent content takes all the memory that it may.
    pub(super) fn has_much(&self) -> bool {
        self.bytes() > self.most
    }

    /// Reserves room for `bytes` more, if no more than the most are unsent then: any number of programs may write at
    /// the same moment.
    pub(in crate::drive) fn reserve(&self, bytes: u64) -> Option<Reservation<'_>> {
        let before = self.being_taken.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Reservation { unsent: self, bytes };
        (self.bytes() + before + bytes <= self.most).then_some(reservation)
    }

    pub(super) fn change_bytes(&self, before: u64, now: u64) {
        self.bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(super) fn change_files(&self, had_unsaved: bool, has_unsaved: bool) {
        self.files.fetch_add(u64::from(has_unsaved).wrapping_sub(u64::from(had_unsaved)), Ordering::Relaxed);
    }
}

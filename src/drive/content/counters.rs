//! Counts of the chunks that went through the drive.

use std::sync::atomic::{AtomicU64, Ordering};

/// Chunks that went through the drive.
#[derive(Debug, Default)]
pub(in crate::drive) struct Counters {
    pub(in crate::drive) decrypted: AtomicU64,
    pub(in crate::drive) encrypted: AtomicU64,
}

impl Counters {
    pub(super) fn count_decrypted(&self) {
        self.decrypted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_encrypted(&self) {
        self.encrypted.fetch_add(1, Ordering::Relaxed);
    }
}

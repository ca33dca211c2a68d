//! The time of a request or of a reply.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A point in time that no other is equal to: a request before a change is older than the change, even if the clock did
/// not move between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    // Compared first.
    number: u64,
    at: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), at: Instant::now() }
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.at.elapsed()
    }
}

//! The time of a request or of a reply.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicU64};
use std::time::Duration;

use tokio::time::Instant;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A point in time that no other is equal to: a request before a change is older than the change, even if the clock did
/// not move between the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Its place in the order of requests and changes; this alone is compared.
    number: u64,
    /// From when its age is counted.
    at: Instant,
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { number: NEXT.fetch_add(1, atomic::Ordering::Relaxed), at: Instant::now() }
    }

    /// Returns the same moment, with its age counted from now: what was asked for then is shown to a program now.
    pub(crate) fn as_of_now(self) -> Self {
        Self { at: Instant::now(), ..self }
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.at.elapsed()
    }
}

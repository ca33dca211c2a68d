//! When a vault was used last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// When a vault was used last. The time that the machine sleeps counts as time without use.
pub(crate) struct LastUse {
    /// Milliseconds since the machine was started.
    at: AtomicU64,
}

impl LastUse {
    pub(crate) fn now() -> Self {
        Self { at: AtomicU64::new(now()) }
    }

    pub(crate) fn renew(&self) {
        self.at.store(now(), Ordering::Relaxed);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.at.load(Ordering::Relaxed)))
    }
}

fn now() -> u64 {
    let since_start = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
    u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX)
}

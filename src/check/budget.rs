//! The memory for content that is being read.

use tokio::sync::{Semaphore, SemaphorePermit};

/// The unit in which memory is allocated, bytes: most files take one.
const UNIT: u64 = 64 * 1024;
/// Memory for content, in units: 16 MiB.
const UNITS: u32 = 256;

/// Memory budget for content being read. Small files are read many at a time, large ones few.
pub(super) struct ContentBudget(Semaphore);

impl Default for ContentBudget {
    fn default() -> Self {
        Self(Semaphore::new(UNITS as usize))
    }
}

impl ContentBudget {
    /// Waits until there is memory for so many bytes, or all of it. It is free again when the permit is dropped.
    pub(super) async fn take(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(UNITS).clamp(1, UNITS);
        // The semaphore is never closed.
        self.0.acquire_many(units).await.ok()
    }
}

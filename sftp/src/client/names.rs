//! The memory budget for names from a server, wherever they are held: in packets on their way to the caller, in
//! listings under way, and in caches. A server can make up any number of names, so all of them together have one bound
//! in bytes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The limit until [`NamesBudget::set_limit`] sets another, bytes.
const LIMIT: u64 = 64 * 1024 * 1024;

/// There is no room for more names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no memory left for so many names")]
pub struct NoRoom;

/// Evicts names that are only cached: at least this many bytes of them, if there are.
type LetGo = Arc<dyn Fn(u64) + Send + Sync>;

/// A budget for names, in bytes. Clones share it.
#[derive(Clone)]
pub struct NamesBudget {
    inner: Arc<Inner>,
    is_for_guesses: bool,
}

struct Inner {
    limit: AtomicU64,
    used: AtomicU64,
    let_go: Mutex<Option<LetGo>>,
}

impl fmt::Debug for NamesBudget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NamesBudget({} of {:?})", self.used(), self.inner.limit)
    }
}

impl Default for NamesBudget {
    fn default() -> Self {
        let (limit, used) = (AtomicU64::new(LIMIT), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { limit, used, let_go: Mutex::default() }), is_for_guesses: false }
    }
}

impl NamesBudget {
    /// Sets the limit, bytes.
    pub fn set_limit(&self, bytes: u64) {
        self.inner.limit.store(bytes, Ordering::Relaxed);
    }

    /// Sets the eviction function that is called when there is no room. The caller of [`take`](Self::take) calls it,
    /// and must hold nothing that `let_go` needs.
    pub fn set_let_go(&self, let_go: impl Fn(u64) + Send + Sync + 'static) {
        *self.inner.let_go.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(let_go));
    }

    /// Returns the same budget for prefetched names: they take room only while half of it is free, and nothing is
    /// evicted for them.
    #[must_use]
    pub fn for_guesses(&self) -> Self {
        Self { is_for_guesses: true, ..self.clone() }
    }

    /// Returns how many bytes are taken.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// Reserves room that is given back when the value is dropped.
    ///
    /// # Errors
    ///
    /// If there is none, even after eviction.
    pub fn take(&self, bytes: u64) -> Result<HeldNames, NoRoom> {
        let mut held = self.nothing();
        held.grow(bytes)?;
        Ok(held)
    }

    /// Reserves no room yet.
    #[must_use]
    pub fn nothing(&self) -> HeldNames {
        HeldNames { budget: self.clone(), bytes: 0 }
    }

    fn try_take(&self, bytes: u64) -> Result<(), u64> {
        let limit = self.inner.limit.load(Ordering::Relaxed) / if self.is_for_guesses { 2 } else { 1 };
        let fits = |used: u64| Some(used + bytes).filter(|&sum| sum <= limit);
        let taken = self.inner.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(drop).map_err(|used| (used + bytes).saturating_sub(limit))
    }
}

/// Reserved room for names. Dropping it gives it back.
#[derive(Debug)]
pub struct HeldNames {
    budget: NamesBudget,
    bytes: u64,
}

impl HeldNames {
    /// Reserves more.
    ///
    /// # Errors
    ///
    /// As for [`NamesBudget::take`]; the room reserved before is kept.
    pub fn grow(&mut self, bytes: u64) -> Result<(), NoRoom> {
        if let Err(missing) = self.budget.try_take(bytes) {
            let let_go = self.budget.inner.let_go.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let_go.filter(|_| !self.budget.is_for_guesses).ok_or(NoRoom)?(missing);
            self.budget.try_take(bytes).map_err(|_| NoRoom)?;
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Counts bytes that the owner already holds, without checking the limit.
    pub fn count(&mut self, bytes: u64) {
        self.budget.inner.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }

    /// Gives some room back.
    pub fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.budget.inner.used.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }

    /// Returns how many bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the budget that it belongs to.
    #[must_use]
    pub fn budget(&self) -> &NamesBudget {
        &self.budget
    }
}

impl Clone for HeldNames {
    /// Reserves the same amount again, [counted](Self::count).
    fn clone(&self) -> Self {
        let mut held = self.budget.nothing();
        held.count(self.bytes);
        held
    }
}

impl Drop for HeldNames {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_for_later_gives_way_and_all_comes_back() {
        let budget = NamesBudget::default();
        budget.set_limit(100);
        let kept = Arc::new(Mutex::new(Some(budget.take(60).unwrap())));
        assert_eq!(budget.take(41).unwrap_err(), NoRoom);
        budget.set_let_go({
            let kept = Arc::clone(&kept);
            move |missing| {
                assert!(missing > 0);
                kept.lock().unwrap().take();
            }
        });
        let mut taken = budget.take(41).unwrap();
        assert_eq!(taken.grow(60), Err(NoRoom));
        taken.grow(59).unwrap();
        assert_eq!((taken.bytes(), budget.used()), (100, 100));
        taken.give_back(51);
        assert_eq!(budget.for_guesses().take(2).unwrap_err(), NoRoom);
        assert_eq!(budget.for_guesses().take(1).unwrap().bytes(), 1);
        drop(taken);
        assert_eq!(budget.used(), 0);
    }
}

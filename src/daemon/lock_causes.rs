//! Why vaults were locked without a request, for `status`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::lock_on::IdleTime;
use crate::remote::RemotePath;

/// What locks a vault by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockCause {
    /// The machine goes to sleep or is switched off.
    Sleep,
    /// The user's screen is locked.
    Screen,
    /// The user's session ended.
    SessionEnd,
    /// No program used the vault for this long.
    Idle(IdleTime),
}

/// The sentence without its subject.
impl fmt::Display for LockCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sleep => formatter.write_str("locked when the machine went to sleep"),
            Self::Screen => formatter.write_str("locked when the screen was locked"),
            Self::SessionEnd => formatter.write_str("locked when the session ended"),
            Self::Idle(time) => write!(formatter, "locked after {time} without use"),
        }
    }
}

/// What locked each vault last, if that was not a request. It says nothing of a vault that was unlocked since.
#[derive(Default)]
pub(super) struct LockCauses(Mutex<BTreeMap<RemotePath, LockCause>>);

impl LockCauses {
    fn all(&self) -> MutexGuard<'_, BTreeMap<RemotePath, LockCause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, vault: &RemotePath, cause: LockCause) {
        self.all().insert(vault.clone(), cause);
    }

    /// Forgets what locked a vault: a request did.
    pub(super) fn forget(&self, vault: &RemotePath) {
        self.all().remove(vault);
    }

    pub(super) fn of(&self, vault: &RemotePath) -> Option<LockCause> {
        self.all().get(vault).copied()
    }
}

//! The names of directories that were seen: a sync client that merges two renames of one directory leaves it two.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use scaup_crypto::DirectoryId;

use super::node::Entry;

/// Most directories whose names are remembered: with more, a second name of one is not noticed.
const DIRECTORIES_MAX: usize = 100_000;

/// Where a directory is named: in the directory of this id, as this entry.
pub(super) type NamedAt = (DirectoryId, Entry);

/// The names of directories that were seen since the vault was unlocked.
#[derive(Default)]
pub(crate) struct KnownNames(Mutex<HashMap<DirectoryId, Vec<NamedAt>>>);

impl KnownNames {
    fn lock(&self) -> MutexGuard<'_, HashMap<DirectoryId, Vec<NamedAt>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a name of a directory, and returns its others: they may be gone by now.
    pub(super) fn record(&self, id: &DirectoryId, at: NamedAt) -> Vec<NamedAt> {
        let mut known = self.lock();
        if known.len() >= DIRECTORIES_MAX && !known.contains_key(id) {
            return Vec::new();
        }
        let names = known.entry(id.clone()).or_default();
        if !names.contains(&at) {
            names.push(at.clone());
        }
        names.iter().filter(|other| **other != at).cloned().collect()
    }

    /// Returns the names of a directory beside this one: they may be gone by now.
    pub(super) fn others(&self, id: &DirectoryId, at: &NamedAt) -> Vec<NamedAt> {
        self.lock().get(id).into_iter().flatten().filter(|other| *other != at).cloned().collect()
    }

    /// Returns the names of a directory if it had more than one: they may be gone by now.
    pub(super) fn of_several(&self, id: &DirectoryId) -> Vec<NamedAt> {
        self.lock().get(id).filter(|names| names.len() > 1).cloned().unwrap_or_default()
    }

    /// Forgets a name that is gone.
    pub(super) fn forget(&self, id: &DirectoryId, at: &NamedAt) {
        let mut known = self.lock();
        if let Some(names) = known.get_mut(id) {
            names.retain(|name| name != at);
            if names.is_empty() {
                known.remove(id);
            }
        }
    }
}

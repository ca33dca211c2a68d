//! Files that no program has open any more, kept open on the server for a while.
//!
//! What is opened once is often opened again at once: git reads `HEAD` and `config` several times, a file manager a document's type, then its
//! picture. Then one look whether it is still the same file is enough, instead of two round trips to open and begin to read it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scaup_fuse::filesystem::Inode;
use tokio::time::Instant;

use super::file::File;
use super::streak::Key;
use crate::remote::RemotePath;

/// How many files are kept open, and for how long at the least.
const FILES_MAX: usize = 32;
const KEPT: Duration = Duration::from_secs(10);

struct Kept {
    key: Key,
    path: RemotePath,
    file: Arc<File>,
    since: Instant,
}

/// The files that are kept open.
#[derive(Default)]
pub(super) struct KeptOpen(Mutex<VecDeque<Kept>>);

impl KeptOpen {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a file that was closed and lies at `path`. The one that was kept the longest goes if there are too many.
    pub(super) fn keep(&self, key: Key, path: RemotePath, file: Arc<File>) {
        let mut kept = self.lock();
        kept.retain(|kept| kept.key != key);
        if kept.len() >= FILES_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { key, path, file, since: Instant::now() });
    }

    /// The file that is opened again at `path`: whether it is still the same, the server has to say. A file that was renamed has
    /// another `inode` once the kernel has forgotten it; what was kept for the old one is not it.
    pub(super) fn take(&self, inode: Inode, key: &Key, path: &RemotePath) -> Option<Arc<File>> {
        let mut kept = self.lock();
        let at = kept.iter().position(|kept| kept.key == *key)?;
        kept.remove(at).filter(|kept| kept.path == *path && kept.file.inode == inode).map(|kept| kept.file)
    }

    /// This mount changed what has that name.
    pub(super) fn forget(&self, parent: Inode, name: &OsStr) {
        self.lock().retain(|kept| kept.key.parent != parent || kept.key.name != name);
    }

    /// Closes all: places were moved, or a vault was locked.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Closes what was kept long enough.
    pub(super) fn sweep(&self) {
        self.lock().retain(|kept| kept.since.elapsed() < KEPT);
    }
}

//! Files that no program has open any more, kept open on the server for a while.
//!
//! A file that is opened once is often opened again at once: git reads `HEAD` and `config` several times, a file
//! manager a document's type, then its picture. Then one stat to see that it is still the same file is enough, instead
//! of two round trips to open it and begin to read.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scaup_fuse::filesystem::Inode;

use super::streak::NameInDirectory;
use crate::drive::content::file::File;
use crate::drive::moment::Moment;
use crate::remote::RemotePath;

/// How many files are kept open, and for how long at least.
const FILES_MAX: usize = 32;
const KEPT: Duration = Duration::from_secs(10);

struct Kept {
    key: NameInDirectory,
    path: RemotePath,
    file: Arc<File>,
    since: Moment,
}

/// The files that are kept open.
#[derive(Default)]
pub(in crate::drive) struct KeptOpen(Mutex<VecDeque<Kept>>);

impl KeptOpen {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a closed file that lies at `path`. If there are too many, the one that was kept the longest is closed.
    pub(in crate::drive) fn keep(&self, key: NameInDirectory, path: RemotePath, file: Arc<File>) {
        let mut kept = self.lock();
        kept.retain(|kept| kept.key != key);
        if kept.len() >= FILES_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { key, path, file, since: Moment::now() });
    }

    /// Returns the kept file that is opened again at `path`; the server has to be asked whether it is still the same. A
    /// renamed file has another `inode` once the kernel has forgotten it; a file kept for the old inode is not returned
    /// for it.
    pub(in crate::drive) fn take(
        &self,
        inode: Inode,
        key: &NameInDirectory,
        path: &RemotePath,
    ) -> Option<Arc<File>> {
        let mut kept = self.lock();
        let at = kept.iter().position(|kept| kept.key == *key)?;
        kept.remove(at).filter(|kept| kept.path == *path && kept.file.inode == inode).map(|kept| kept.file)
    }

    /// Closes what was kept under a name: this mount changed what has that name.
    pub(in crate::drive) fn forget(&self, parent: Inode, name: &OsStr) {
        self.lock().retain(|kept| kept.key.parent != parent || kept.key.name != name);
    }

    /// Closes all: places were moved, or a vault was locked.
    pub(in crate::drive) fn clear(&self) {
        self.lock().clear();
    }

    /// Closes the files that were kept long enough.
    pub(in crate::drive) fn sweep(&self) {
        self.lock().retain(|kept| kept.since.elapsed() < KEPT);
    }
}

//! What the kernel has open: files, each with its own read-ahead, and directories, each with the names it had when opened.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use scaup_fuse::filesystem::{Handle, OpenFlags};

use super::error::DriveError;
use super::file::File;
use super::found::Found;
use super::readahead::ReadAhead;

/// An open file.
pub(super) struct OpenFile {
    pub(super) file: Arc<File>,
    pub(super) flags: OpenFlags,
    pub(super) ahead: Mutex<ReadAhead>,
}

/// An open directory.
pub(super) struct OpenDirectory {
    /// When the server was asked for them.
    pub(super) asked: Instant,
    pub(super) names: Vec<Found>,
}

/// All handles.
#[derive(Default)]
pub(super) struct Handles {
    files: Mutex<HashMap<Handle, Arc<OpenFile>>>,
    directories: Mutex<HashMap<Handle, Arc<OpenDirectory>>>,
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handles {
    fn number(&self) -> Handle {
        Handle(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn add_file(&self, file: Arc<File>, flags: OpenFlags) -> Handle {
        let handle = self.number();
        let open = OpenFile { file, flags, ahead: Mutex::default() };
        lock(&self.files).insert(handle, Arc::new(open));
        handle
    }

    pub(super) fn file(&self, handle: Handle) -> Result<Arc<OpenFile>, DriveError> {
        lock(&self.files).get(&handle).cloned().ok_or(DriveError::Stale)
    }

    pub(super) fn remove_file(&self, handle: Handle) -> Option<Arc<OpenFile>> {
        lock(&self.files).remove(&handle)
    }

    pub(super) fn add_directory(&self, asked: Instant, names: Vec<Found>) -> Handle {
        let handle = self.number();
        lock(&self.directories).insert(handle, Arc::new(OpenDirectory { asked, names }));
        handle
    }

    pub(super) fn directory(&self, handle: Handle) -> Result<Arc<OpenDirectory>, DriveError> {
        lock(&self.directories).get(&handle).cloned().ok_or(DriveError::Stale)
    }

    pub(super) fn remove_directory(&self, handle: Handle) {
        lock(&self.directories).remove(&handle);
    }
}

//! What the server has acknowledged and may have in its memory only: changes inside files, and names.
//!
//! A server that loses its power forgets that. Each [`File`](super::file::File) counts its own changes; the directories in which this mount
//! made, removed or changed names are kept here, until the server has put them on its disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Drive;
use super::error::DriveError;
use super::status::Unsaved;
use crate::remote::{RemoteError, RemotePath};

/// Directories that may wait. Those beyond are put on the disk in the background.
const DIRECTORIES_MAX: usize = 1000;

/// Directories on the server with names that may not be on its disk.
#[derive(Default)]
pub(super) struct OffDisk(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Each with the number of its last change.
    directories: HashMap<RemotePath, u64>,
    changes: u64,
}

impl OffDisk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This mount changes names in a directory.
    pub(super) fn note(&self, directory: RemotePath) {
        let mut waiting = self.lock();
        waiting.changes += 1;
        let change = waiting.changes;
        waiting.directories.insert(directory, change);
    }

    /// The names as they were after that change are on the disk. What was changed since waits for the next time.
    fn note_on_disk(&self, directory: &RemotePath, change: u64) {
        let mut waiting = self.lock();
        if waiting.directories.get(directory) == Some(&change) {
            waiting.directories.remove(directory);
        }
    }

    fn all(&self) -> Vec<RemotePath> {
        self.lock().directories.keys().cloned().collect()
    }
}

impl Drive {
    /// Waits until the names in a directory are on the server's disk.
    pub(super) async fn put_names_on_disk(&self, directory: &RemotePath) -> Result<(), DriveError> {
        let Some(change) = self.off_disk.lock().directories.get(directory).copied() else { return Ok(()) };
        match self.remote.sync_directory(directory).await {
            // It is gone, or has another name: the directory around it waits, too.
            Ok(()) | Err(RemoteError::NotFound | RemoteError::NotADirectory) => {
                self.off_disk.note_on_disk(directory, change);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same for all directories.
    pub(super) async fn put_all_names_on_disk(&self) {
        let directories = self.off_disk.all();
        let put = directories.iter().map(|directory| self.put_names_on_disk(directory));
        for error in futures::future::join_all(put).await.into_iter().filter_map(Result::err) {
            tracing::warn!(errno = error.errno(), "names may not be on the server's disk");
        }
    }

    /// The same where too many wait.
    pub(super) async fn put_some_names_on_disk(&self) {
        if self.off_disk.lock().directories.len() > DIRECTORIES_MAX {
            self.put_all_names_on_disk().await;
        }
    }

    /// What is not on the server, and what it may have in its memory only.
    #[must_use]
    pub fn left_to_save(&self) -> Unsaved {
        let files = self.tree.lock().files().iter().filter(|file| file.is_off_disk()).count() as u64;
        Unsaved { off_disk: files + self.off_disk.lock().directories.len() as u64, ..self.unsaved() }
    }
}

//! What the server has acknowledged and may have in its memory only: changes inside files, and names.
//!
//! A server that loses its power forgets that. Each [`File`](super::file::File) counts its own changes; the directories in which this mount
//! made, removed or changed names are kept here, until the server has put them on its disk.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Drive;
use super::error::DriveError;
use crate::remote::{RemoteError, RemotePath};

/// Directories that may wait. Those beyond are put on the disk in the background.
const DIRECTORIES_MAX: usize = 1000;

/// Directories on the server with names that may not be on its disk.
#[derive(Default)]
pub(super) struct OffDisk(Mutex<HashSet<RemotePath>>);

impl OffDisk {
    fn lock(&self) -> MutexGuard<'_, HashSet<RemotePath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This mount changes names in a directory.
    pub(super) fn note(&self, directory: RemotePath) {
        self.lock().insert(directory);
    }

    fn all(&self) -> Vec<RemotePath> {
        self.lock().iter().cloned().collect()
    }

    /// How many directories wait.
    pub(super) fn directories(&self) -> u64 {
        self.lock().len() as u64
    }
}

impl Drive {
    /// Waits until the names in a directory are on the server's disk. It is noted again if they are not: what is changed in it meanwhile has to wait for
    /// the next time in any case.
    pub(super) async fn put_names_on_disk(&self, directory: &RemotePath) -> Result<(), DriveError> {
        if !self.off_disk.lock().remove(directory) {
            return Ok(());
        }
        match self.remote.sync_directory(directory).await {
            // It is gone, or has another name: the directory around it waits, too.
            Ok(()) | Err(RemoteError::NotFound | RemoteError::NotADirectory) => Ok(()),
            Err(error) => {
                self.off_disk.note(directory.clone());
                Err(error.into())
            }
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
        if self.off_disk.lock().len() > DIRECTORIES_MAX {
            self.put_all_names_on_disk().await;
        }
    }

    /// Files and directories of which the server may have something in its memory only.
    pub(super) fn off_disk(&self) -> u64 {
        let files = self.tree.lock().files().iter().filter(|file| file.is_off_disk()).count();
        files as u64 + self.off_disk.directories()
    }
}

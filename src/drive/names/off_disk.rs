//! Changes that the server has acknowledged but may have only in its memory: inside files, and of names.
//!
//! A server that loses its power forgets those. Each [`File`](crate::drive::content::file::File) counts its own
//! changes; the directories in which this mount made, removed or changed names are kept here, until the server has put
//! them on its disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use scaup_fuse::filesystem::{Inode, RequestError as _};

use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::status::Unsaved;
use crate::remote::{RemoteError, RemotePath};

/// Most directories that wait. If there are more, they are put on the disk in the background.
const DIRECTORIES_MAX: usize = 1000;

/// Directories on the server with names that may not be on its disk.
#[derive(Default)]
pub(in crate::drive) struct OffDisk(Mutex<Waiting>);

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

    /// Adds a directory in which this mount changes names.
    pub(in crate::drive) fn add(&self, directory: RemotePath) {
        let mut waiting = self.lock();
        waiting.changes += 1;
        let change = waiting.changes;
        waiting.directories.insert(directory, change);
    }

    /// Follows a plain directory that was renamed: it and the directories below have other paths.
    pub(super) fn directory_moved(&self, from: &RemotePath, to: &RemotePath) {
        let mut waiting = self.lock();
        let moved =
            waiting.directories.extract_if(|path, _| path.moved(from, to).is_some()).collect::<Vec<_>>();
        let moved = moved.into_iter().filter_map(|(path, change)| Some((path.moved(from, to)?, change)));
        waiting.directories.extend(moved);
    }

    /// Marks the names as of that change as on the disk. Later changes wait for the next time.
    fn mark_on_disk(&self, directory: &RemotePath, change: u64) {
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
    pub(in crate::drive) async fn put_names_on_disk(&self, directory: &RemotePath) -> Result<(), DriveError> {
        let Some(change) = self.off_disk.lock().directories.get(directory).copied() else { return Ok(()) };
        match self.remote.sync_directory(directory).await {
            // The directory is gone, or has another name: the directory around it waits, too.
            Ok(()) | Err(RemoteError::NotFound | RemoteError::NotADirectory) => {
                self.off_disk.mark_on_disk(directory, change);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the names that lead to a file are on the server's disk: its own, and those of the directories above.
    pub(in crate::drive) async fn put_names_above_on_disk(&self, file: Inode) -> Result<(), DriveError> {
        let directories: Vec<RemotePath> = {
            let nodes = self.tree.lock();
            let above = nodes.above(file).into_iter().skip(1);
            above.map(|at| Ok(nodes.directory(at)?.path())).collect::<Result<_, DriveError>>()?
        };
        let put = directories.iter().map(|directory| self.put_names_on_disk(directory));
        futures::future::try_join_all(put).await.map(drop)
    }

    /// Like [`Self::put_names_on_disk`], for all directories.
    pub(in crate::drive) async fn put_all_names_on_disk(&self) {
        let directories = self.off_disk.all();
        let put = directories.iter().map(|directory| self.put_names_on_disk(directory));
        for error in futures::future::join_all(put).await.into_iter().filter_map(Result::err) {
            tracing::warn!(
                error = error.for_log(self.options.log_names),
                "names may not be on the server's disk"
            );
        }
    }

    /// Puts the names in all directories on the disk if too many wait.
    pub(in crate::drive) async fn put_some_names_on_disk(&self) {
        if self.off_disk.lock().directories.len() > DIRECTORIES_MAX {
            self.put_all_names_on_disk().await;
        }
    }

    /// Returns the content that is not on the server, and what the server may have only in its memory.
    #[must_use]
    pub fn left_to_save(&self) -> Unsaved {
        let files = self.tree.lock().files().iter().filter(|file| file.is_off_disk()).count() as u64;
        Unsaved { off_disk: files + self.off_disk.lock().directories.len() as u64, ..self.unsaved() }
    }
}

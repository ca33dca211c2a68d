//! What a drive tells about itself: counters, unsaved content, what went wrong.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use scaup_fuse::filesystem::Inode;

use super::file::File;
use super::vault::UnlockedVault;
use super::{Drive, DriveError};
use crate::remote::RemoteCounters;

/// The kind of an error that kept a file from being saved.
const UNSAVED: &str = "unsaved";

/// How many errors are remembered.
const ERRORS_MAX: usize = 100;

/// What is not yet safe on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unsaved {
    /// Files with unsent content.
    pub files: u64,
    /// Bytes of unsent content.
    pub bytes: u64,
    /// Removals that were answered and are not done.
    pub removals: u64,
    /// Files and directories that the server has, and may have in its memory only. [`Drive::left_to_save`] counts them, else it is 0.
    pub off_disk: u64,
}

impl Unsaved {
    /// Whether the server has everything on its disk.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.files == 0 && self.off_disk == 0
    }
}

/// Something that went wrong and that the user should be able to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRecord {
    /// When.
    pub time: SystemTime,
    /// A short word for its kind: `conflict`, `damaged`, `link`, `made_again`, `not_moved`, `not_removed`, `server`, `unsaved`, `vault`.
    pub kind: &'static str,
    /// One sentence, with names: it is kept in memory only, shown to the mount's user only, and forgotten when the vault is locked that the
    /// names are of.
    pub message: String,
}

/// An error, and the vault that it has names of.
pub(super) struct Recorded {
    record: ErrorRecord,
    /// What it is about, or is in.
    inode: Inode,
    vault: Option<Arc<UnlockedVault>>,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriveCounters {
    /// Traffic with the server.
    pub remote: RemoteCounters,
    /// Chunks decrypted.
    pub chunks_decrypted: u64,
    /// Chunks encrypted.
    pub chunks_encrypted: u64,
    /// Chunks answered from memory.
    pub cache_hits: u64,
}

/// Chunks that went through the drive.
#[derive(Debug, Default)]
pub(super) struct Counters {
    decrypted: AtomicU64,
    encrypted: AtomicU64,
}

impl Counters {
    pub(super) fn count_decrypted(&self) {
        self.decrypted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_encrypted(&self) {
        self.encrypted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drive {
    /// What is not yet safe on the server.
    #[must_use]
    pub fn unsaved(&self) -> Unsaved {
        let files = self.tree.lock().files();
        let none = Unsaved { removals: self.removals.under_way(), ..Unsaved::default() };
        files.iter().filter_map(|file| file.unsaved()).fold(none, |sum, unsaved| Unsaved {
            files: sum.files + 1,
            bytes: sum.bytes + unsaved.bytes,
            ..sum
        })
    }

    /// The files that are not yet safe on the server, by their paths as people see them.
    #[must_use]
    pub fn unsaved_paths(&self) -> Vec<OsString> {
        let files = self.tree.lock().files();
        let unsaved = files.iter().filter(|file| file.unsaved().is_some());
        unsaved.map(|file| self.tree.lock().shown_path(file.inode)).collect()
    }

    /// The last errors, newest first, at most 100.
    #[must_use]
    pub fn errors(&self) -> Vec<ErrorRecord> {
        self.lock_errors().iter().map(|recorded| recorded.record.clone()).collect()
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> DriveCounters {
        DriveCounters {
            remote: self.remote.counters(),
            chunks_decrypted: self.counters.decrypted.load(Ordering::Relaxed),
            chunks_encrypted: self.counters.encrypted.load(Ordering::Relaxed),
            cache_hits: self.cache.hits(),
        }
    }

    fn lock_errors(&self) -> MutexGuard<'_, VecDeque<Recorded>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an error for `status`, with names from the directory or file `inode`. The newest is not repeated: what is tried again fails
    /// again.
    pub(super) fn record(&self, inode: Inode, kind: &'static str, mut message: String) {
        let vault = self.tree.lock().vault_around(inode);
        let mut errors = self.lock_errors();
        // Looked at while the errors are held: `forget_errors_of` comes after the keys are gone.
        if vault.as_ref().is_some_and(|vault| vault.cryptor().is_err()) {
            "something failed in a vault that was locked meanwhile".clone_into(&mut message);
        }
        if self.options.log_names {
            tracing::warn!(kind, message);
        } else {
            tracing::warn!(kind, "an error was recorded; `scaup status` shows it");
        }
        errors.retain(|Recorded { record, .. }| record.kind != kind || record.message != message);
        errors.push_front(Recorded {
            record: ErrorRecord { time: SystemTime::now(), kind, message },
            inode,
            vault,
        });
        errors.truncate(ERRORS_MAX);
    }

    /// Forgets what names a vault that was locked.
    pub(super) fn forget_errors_of(&self, vault: &Arc<UnlockedVault>) {
        let is_of =
            |recorded: &Recorded| recorded.vault.as_ref().is_some_and(|other| Arc::ptr_eq(other, vault));
        self.lock_errors().retain(|recorded| !is_of(recorded));
    }

    /// Remembers why a file could not be saved, if it is not saved by now: what failed before may have been told here first.
    pub(super) fn report_unsaved(&self, file: &File, error: &DriveError) {
        if file.unsaved().is_some() {
            self.report(file.inode, UNSAVED, error);
        }
    }

    /// A file was saved: why that failed before is of no use any more.
    pub(super) fn forget_unsaved(&self, inode: Inode) {
        self.lock_errors().retain(|recorded| recorded.inode != inode || recorded.record.kind != UNSAVED);
    }

    /// Remembers what went wrong with one node.
    pub(super) fn report(&self, inode: Inode, kind: &'static str, error: &DriveError) {
        let shown = self.tree.lock().shown_path(inode);
        self.record(inode, kind, format!("{}: {error}", shown.display()));
    }

    /// Passes a result on, remembering damage and what the server failed at. What is missing in a vault may be missing because the vault is.
    pub(super) async fn reported<T>(
        &self,
        inode: Inode,
        result: Result<T, DriveError>,
    ) -> Result<T, DriveError> {
        let result = match result {
            Ok(done) => return Ok(done),
            Err(error) => Err(self.cause(inode, error).await),
        };
        match &result {
            Err(error @ DriveError::Damaged(_)) => self.report(inode, "damaged", error),
            Err(error @ DriveError::LeadsOutOfVault) => self.report(inode, "link", error),
            Err(error @ DriveError::Remote(remote)) if remote.is_failure() => {
                self.report(inode, "server", error);
            }
            _ => {}
        }
        result
    }
}

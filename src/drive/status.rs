//! What a drive reports about itself: counters, unsaved content, errors.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use scaup_fuse::filesystem::Inode;

use super::content::file::File;
use super::tree::Nodes;
use super::{Drive, DriveError};
use crate::drive::places::place::Place;
use crate::remote::{RemoteCounters, RemotePath, Weakness};
use crate::vault::{Undecided, UnlockedVault, VaultNode};

/// The kind of an error that kept a file from being saved.
const UNSAVED: &str = "unsaved";

/// The kind of what waits for a person's decision.
const UNDECIDED: &str = "undecided";

/// The same of content that no mount shows.
const UNDECIDED_CONTENT: &str = "undecided_content";

/// The kind of an error about what the server holds.
const DAMAGED: &str = "damaged";

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
    /// Files and directories that the server has, but perhaps only in its memory. Only [`Drive::left_to_save`] counts
    /// them, otherwise 0.
    pub off_disk: u64,
}

impl Unsaved {
    /// Whether the server has everything on its disk.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.files == 0 && self.off_disk == 0
    }
}

/// A file that is not yet safe on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsavedFile {
    /// Its path as the mount shows it.
    pub path: OsString,
    /// Why it could not be saved, if that was tried.
    pub why: Option<String>,
}

/// An error that the user should be able to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRecord {
    /// When it happened.
    pub time: SystemTime,
    /// A short word for its kind: `conflict`, `damaged`, `link`, `made_again`, `not_moved`, `not_removed`, `server`,
    /// `undecided`, `unsaved`, `vault`.
    pub kind: &'static str,
    /// One sentence, with names: it is kept in memory only, shown to the mount's user only, and forgotten when the
    /// vault of these names is locked.
    pub message: String,
}

/// An error, and the vault whose names it contains.
pub(super) struct Recorded {
    record: ErrorRecord,
    /// The error alone, where the message is a path and the error.
    why: Option<String>,
    /// The node that it is about, or the directory of it.
    inode: Inode,
    /// For a node that lacked a part of it: the directory that it is in, and its name there.
    broken: Option<(Inode, OsString)>,
    vault: Option<Arc<UnlockedVault>>,
}

/// Counters of the work done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriveCounters {
    /// Traffic with the server.
    pub remote: RemoteCounters,
    /// Chunks decrypted.
    pub chunks_decrypted: u64,
    /// Chunks encrypted.
    pub chunks_encrypted: u64,
    /// Chunks served from memory.
    pub cache_hits: u64,
}

/// What is said of a directory with two names.
const TWINS: &str =
    "two names for the same directory (nothing in it is removed until `rmdir` has removed one of the names)";

impl Drive {
    /// Returns what is not yet safe on the server.
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

    /// Returns the files that are not yet safe on the server.
    #[must_use]
    pub fn unsaved_files(&self) -> Vec<UnsavedFile> {
        let files = self.tree.lock().files();
        let unsaved = files.iter().filter(|file| file.unsaved().is_some()).map(|file| {
            let path = {
                let nodes = self.tree.lock();
                match nodes.check_unlocked(file.inode) {
                    Ok(()) => nodes.shown_path(file.inode),
                    Err(_) => OsString::from("a file of a vault that was locked"),
                }
            };
            let errors = self.lock_errors();
            let of_it = |error: &&Recorded| error.inode == file.inode && error.record.kind == UNSAVED;
            UnsavedFile { path, why: errors.iter().find(of_it).and_then(|error| error.why.clone()) }
        });
        unsaved.collect()
    }

    /// Returns the last errors, newest first, at most 100.
    #[must_use]
    pub fn errors(&self) -> Vec<ErrorRecord> {
        let nodes = self.tree.lock();
        let is_there = |recorded: &&Recorded| {
            if recorded.record.kind == UNDECIDED {
                return is_shown(&nodes, recorded.inode);
            }
            // A sync client brings a node in parts: what was broken until the last one came is right now.
            let Some((parent, name)) = &recorded.broken else { return true };
            let node = nodes.child(*parent, name).and_then(|inode| nodes.get(inode).ok());
            node.is_some_and(|node| is_broken(node.place()))
        };
        self.lock_errors().iter().filter(is_there).map(|recorded| recorded.record.clone()).collect()
    }

    /// Returns what the server does not do, as far as that is known by now.
    #[must_use]
    pub fn weaknesses(&self) -> Vec<Weakness> {
        self.remote.server().map(|server| server.weaknesses).unwrap_or_default()
    }

    /// Returns the counters of the work done so far.
    #[must_use]
    pub fn counters(&self) -> DriveCounters {
        DriveCounters {
            remote: self.remote.counters(),
            chunks_decrypted: self.content.counters.decrypted.load(Ordering::Relaxed),
            chunks_encrypted: self.content.counters.encrypted.load(Ordering::Relaxed),
            cache_hits: self.content.cache.hits(),
        }
    }

    fn lock_errors(&self) -> MutexGuard<'_, VecDeque<Recorded>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an error for `status`, with names from the directory or file `inode`. The newest one is not repeated:
    /// a retry fails again.
    pub(super) fn record(&self, inode: Inode, kind: &'static str, message: String) {
        self.remember(inode, kind, message, None);
    }

    fn remember(&self, inode: Inode, kind: &'static str, mut message: String, mut why: Option<String>) {
        let (vault, broken) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode).ok().filter(|node| kind == DAMAGED && is_broken(node.place()));
            (nodes.vault_around(inode), node.map(|node| node.parent_and_name()))
        };
        let mut errors = self.lock_errors();
        // Checked with the errors locked: `forget_errors_of` comes after the keys are gone.
        if vault.as_ref().is_some_and(|vault| vault.cryptor().is_err()) {
            let told = match kind {
                UNSAVED => "a file that was unsaved when its vault was locked is not on the server yet",
                _ => "something failed in a vault that was locked meanwhile",
            };
            told.clone_into(&mut message);
            why = None;
        }
        if self.options.log_names {
            tracing::warn!(kind, message);
        } else {
            tracing::warn!(kind, "an error was recorded; `scaup status` shows it");
        }
        errors.retain(|Recorded { record, .. }| record.kind != kind || record.message != message);
        errors.push_front(Recorded {
            record: ErrorRecord { time: SystemTime::now(), kind, message },
            why,
            inode,
            broken,
            vault,
        });
        errors.truncate(ERRORS_MAX);
    }

    /// Forgets the errors that contain names of a vault that was locked.
    pub(super) fn forget_errors_of(&self, vault: &Arc<UnlockedVault>) {
        let is_of =
            |recorded: &Recorded| recorded.vault.as_ref().is_some_and(|other| Arc::ptr_eq(other, vault));
        self.lock_errors().retain(|recorded| !is_of(recorded));
    }

    /// Remembers why a file could not be saved, if it is not saved by now: an earlier failure may have been reported
    /// here first.
    pub(super) fn report_unsaved(&self, file: &File, error: &DriveError) {
        if file.unsaved().is_some() {
            self.report(file.inode, UNSAVED, error);
        }
    }

    /// Forgets why a file could not be saved: it was saved.
    pub(super) fn forget_unsaved(&self, inode: Inode) {
        self.lock_errors().retain(|recorded| recorded.inode != inode || recorded.record.kind != UNSAVED);
    }

    /// Tells, once for each vault and session, that sync clients left something in it for a person to decide. If there
    /// is nothing any more where that was told, it is forgotten: a client was at work.
    pub(super) fn tell_undecided(&self, inode: Inode, vault: &UnlockedVault, undecided: Undecided) {
        let Undecided { copies, unnamed, twins, unshown } = undecided;
        let is_nothing = undecided == Undecided::default();
        {
            let nodes = self.tree.lock();
            let mut errors = self.lock_errors();
            errors.retain(|recorded| {
                let is_settled = is_nothing && recorded.inode == inode;
                recorded.record.kind != UNDECIDED || !is_settled && is_shown(&nodes, recorded.inode)
            });
            let is_of_it = |recorded: &Recorded| {
                let of = recorded.vault.as_ref().map(Arc::as_ptr);
                recorded.record.kind == UNDECIDED && of == Some(std::ptr::from_ref(vault))
            };
            if is_nothing || errors.iter().any(is_of_it) {
                return;
            }
        }
        let some = |count: usize, what: &'static str| (count > 0).then_some(what);
        let found = [
            some(copies, "more than one version of something (a conflict)"),
            some(unnamed, "content whose name is lost"),
            some(twins, TWINS),
            some(unshown, "something that may be somebody's and is not shown"),
        ];
        let found: Vec<&str> = found.into_iter().flatten().collect();
        let shown = self.tree.lock().shown_path(inode);
        self.record(
            inode,
            UNDECIDED,
            format!(
                "{}: a sync client left {} here; `scaup vault conflicts` lists all that waits for a decision in this vault",
                shown.display(),
                found.join(", and ")
            ),
        );
    }

    /// Tells that a sync client has changed the name of a content directory in an unlocked vault.
    pub(super) fn tell_renamed_content(&self, inode: Inode, content: &RemotePath) {
        let shown = self.tree.lock().shown_path(inode);
        self.record(
            inode,
            UNDECIDED_CONTENT,
            format!(
                "{}: a sync client kept what is in a directory that was removed on another machine, and mounts do not show it: {}; `scaup vault conflicts` lists what is in it",
                shown.display(),
                String::from_utf8_lossy(content.as_bytes())
            ),
        );
    }

    /// Remembers an error of one node.
    pub(super) fn report(&self, inode: Inode, kind: &'static str, error: &DriveError) {
        let shown = self.tree.lock().shown_path(inode);
        self.remember(inode, kind, format!("{}: {error}", shown.display()), Some(error.to_string()));
    }

    /// Passes a result on, remembering damage and failures of the server. Something missing in a vault may be missing
    /// because the whole vault is.
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
            Err(error @ DriveError::Damaged(_)) => self.report(inode, DAMAGED, error),
            Err(error @ DriveError::LeadsOutOfVault) => self.report(inode, "link", error),
            Err(error @ DriveError::Remote(remote)) if remote.is_failure() => {
                self.report(inode, "server", error);
            }
            _ => {}
        }
        result
    }
}

/// Whether a directory still has its name.
fn is_shown(nodes: &Nodes<'_>, directory: Inode) -> bool {
    nodes.get(directory).is_ok_and(|node| !node.has_lost_name())
}

fn is_broken(place: &Place) -> bool {
    matches!(place, Place::Vault { node: VaultNode::BrokenDirectory(_) | VaultNode::Unknown(_), .. })
}

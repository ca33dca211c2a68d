//! What all parts of one check share: the vault on its server, what is found, and the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use scaup_crypto::Cryptor;

use super::budget::ContentBudget;
use super::finding::{FindingKind, Findings, Spot};
use crate::remote::{Remote, RemoteEntry, RemoteError, RemotePath};

/// Directories that are read at the same time.
pub(super) const PARALLEL: usize = 128;
/// Most content directories of one vault: a server could invent them without end.
pub(super) const DIRECTORIES_MAX: usize = 1_000_000;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Also read all file content, and authenticate every chunk.
    pub content: bool,
}

/// How far a check is; may be read at any time.
#[derive(Debug, Default)]
pub struct CheckProgress {
    /// Content directories found.
    pub directories_found: AtomicU64,
    /// Content directories checked.
    pub directories: AtomicU64,
    /// Files checked.
    pub files: AtomicU64,
    /// Bytes of content read.
    pub bytes: AtomicU64,
}

/// Why a check did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The server can't be asked any more, or does not let the vault's directories be listed.
    #[error("{}: {source}", String::from_utf8_lossy(.path.as_bytes()))]
    Remote {
        /// What was asked for, relative to the vault.
        path: RemotePath,
        /// What the server said.
        source: RemoteError,
    },
    /// More directories than a vault can be expected to have.
    #[error("the vault has more than {DIRECTORIES_MAX} directories")]
    TooManyDirectories,
    /// Decryption ended for a reason of the program's own.
    #[error("the content of {path:?} was not decrypted: {reason}")]
    Interrupted {
        /// The file, relative to the vault.
        path: RemotePath,
        /// What the runtime said.
        reason: String,
    },
}

/// When something in a vault was last changed, as far as the check has seen.
#[derive(Debug)]
pub(super) struct LastChange {
    seconds: AtomicU64,
    /// What is later was set by somebody, or by a clock that is wrong.
    latest: SystemTime,
}

impl Default for LastChange {
    fn default() -> Self {
        Self { seconds: AtomicU64::new(0), latest: SystemTime::now() + Duration::from_secs(60) }
    }
}

impl LastChange {
    fn see(&self, changed: SystemTime) {
        let since_1970 = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if changed <= self.latest {
            self.seconds.fetch_max(since_1970.as_secs(), Ordering::Relaxed);
        }
    }

    /// Returns that time.
    pub(super) fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }
}

/// What all parts of one check share.
pub(super) struct Check<'a> {
    pub(super) remote: &'a dyn Remote,
    pub(super) vault: &'a RemotePath,
    pub(super) cryptor: &'a Arc<Cryptor>,
    pub(super) options: CheckOptions,
    pub(super) progress: &'a CheckProgress,
    pub(super) findings: Findings,
    pub(super) budget: ContentBudget,
    /// Nodes of directories that were read, each at most twice, and links that climb.
    pub(super) children: AtomicUsize,
    /// Whether something that leads to directories could not be read: then nothing is known to be missing.
    pub(super) is_partial: AtomicBool,
    pub(super) changed: LastChange,
}

impl Check<'_> {
    /// Where `path`, which is relative to the vault, lies on the server.
    pub(super) fn on_server(&self, path: &RemotePath) -> RemotePath {
        self.vault.below(path)
    }

    /// Counts nodes of directories, and links, that are remembered: a server could invent them without end.
    pub(super) fn remember(&self, children: usize) -> Result<(), CheckError> {
        let before = self.children.fetch_add(children, Ordering::Relaxed);
        if before.saturating_add(children) > 2 * DIRECTORIES_MAX {
            return Err(CheckError::TooManyDirectories);
        }
        Ok(())
    }

    /// Lists a directory. One that is gone or can't be read is a finding, and empty.
    pub(super) async fn list(
        &self,
        path: &RemotePath,
        spot: impl FnOnce() -> Spot,
    ) -> Result<Vec<RemoteEntry>, CheckError> {
        let mut listed = self.remote.list(&self.on_server(path)).await;
        // Servers lose handles, and run out of them.
        if matches!(listed, Err(RemoteError::Failure(_))) {
            listed = self.remote.list(&self.on_server(path)).await;
        }
        match listed {
            Ok(entries) => {
                entries.iter().for_each(|entry| self.changed.see(entry.attributes.modified));
                Ok(entries)
            }
            Err(error) => self.unreadable_way(path, spot(), error).map(|()| Vec::new()),
        }
    }

    /// Notes that something can't be read that leads to directories.
    pub(super) fn unreadable_way(
        &self,
        path: &RemotePath,
        spot: Spot,
        error: RemoteError,
    ) -> Result<(), CheckError> {
        self.is_partial.store(true, Ordering::Relaxed);
        self.unreadable(path, spot, error)
    }

    /// Notes that something can't be read; fails if that is because the server is gone.
    pub(super) fn unreadable(
        &self,
        path: &RemotePath,
        spot: Spot,
        error: RemoteError,
    ) -> Result<(), CheckError> {
        match error {
            RemoteError::Timeout(_) | RemoteError::Disconnected(_) => {
                return Err(CheckError::Remote { path: path.clone(), source: error });
            }
            RemoteError::NotFound | RemoteError::Replaced => {
                self.findings.add(FindingKind::ChangedMeanwhile, spot, "it is not there any more");
            }
            error => self.findings.add(FindingKind::Unreadable, spot, error),
        }
        Ok(())
    }
}

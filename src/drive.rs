//! The tree a mount shows. (Interface agreed first; the rooms behind it follow.)

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::remote::{Remote, RemoteCounters, RemotePath};

/// How a drive presents what is on the server.
#[derive(Debug, Clone)]
pub struct DriveOptions {
    /// Nothing is ever changed on the server.
    pub read_only: bool,
    /// Whether vaults are looked for at all.
    pub vaults: bool,
    /// The whole budget for cached and unsent content, bytes.
    pub memory: u64,
    /// How long names and attributes are believed.
    pub attr_timeout: Duration,
    /// Owner and group shown for everything, or `None` to show the server's numbers in plain places.
    pub owner: Option<(u32, u32)>,
    /// Permission bits taken away from what is shown.
    pub umask: u16,
    /// Whether messages may hold clear names.
    pub log_names: bool,
}

/// Whether a vault's content can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultState {
    /// Its decrypted content is shown.
    Unlocked,
    /// Its encrypted content is shown, read-only.
    Locked,
    /// It can't be opened by this program, with the reason and the way out.
    Unsupported(String),
}

/// A vault that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultStatus {
    /// Its directory.
    pub path: RemotePath,
    /// Whether its content can be seen.
    pub state: VaultState,
    /// The vault format (7 or 8 where supported), once known.
    pub format: Option<u32>,
    /// `SIV_GCM` or `SIV_CTRMAC`, once known.
    pub cipher_combo: Option<String>,
}

/// What is not yet safe on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unsaved {
    /// Files with unsent content.
    pub files: u64,
    /// Bytes of unsent content.
    pub bytes: u64,
}

/// Something that went wrong and that the user should be able to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRecord {
    /// When.
    pub time: SystemTime,
    /// A short word for its kind, such as `damaged`, `conflict`, `unsaved`.
    pub kind: &'static str,
    /// One sentence; without clear names unless those are logged.
    pub message: String,
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

/// Why a vault can't be unlocked, locked, inspected or created.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The password is wrong; worth asking again.
    #[error("wrong password for vault {0:?}")]
    WrongPassword(RemotePath),
    /// There is no vault at this path.
    #[error("no vault at {0:?}")]
    NotAVault(RemotePath),
    /// It can't be opened, with the reason and the way out.
    #[error("vault {path:?}: {reason}")]
    Refused {
        /// Its directory.
        path: RemotePath,
        /// Why, and what to do about it.
        reason: String,
    },
    /// Some content is not on the server yet.
    #[error("{} files are not saved on the server yet", .0.files)]
    Unsaved(Unsaved),
    /// The server failed meanwhile.
    #[error("vault {path:?}: {source}")]
    Remote {
        /// Its directory.
        path: RemotePath,
        /// What the server said.
        source: crate::remote::RemoteError,
    },
}

/// The tree a mount shows; implements `scaup_fuse::Filesystem`.
pub struct Drive {}

#[allow(clippy::todo, clippy::unused_async, unused_variables, missing_docs)]
impl Drive {
    /// A drive over `remote`, all vaults locked.
    pub fn new(remote: Arc<dyn Remote>, options: DriveOptions) -> Arc<Self> {
        todo!()
    }
    /// Sets where to tell the kernel what to drop; called once, when the mount stands.
    pub fn set_invalidator(&self, invalidate: Arc<dyn scaup_fuse::filesystem::Invalidate>) {
        todo!()
    }
    /// The vaults at the mounted directory itself or directly in it.
    pub async fn find_vaults(&self) -> Result<Vec<VaultStatus>, VaultError> {
        todo!()
    }
    /// Unlocks the vault at `path`, which need not have been met before.
    pub async fn unlock(&self, path: &RemotePath, password: &str) -> Result<(), VaultError> {
        todo!()
    }
    /// Saves what is unsaved in the vault, drops its keys and what the kernel holds of it.
    pub async fn lock(&self, path: &RemotePath) -> Result<(), VaultError> {
        todo!()
    }
    /// All vaults met so far.
    pub fn vaults(&self) -> Vec<VaultStatus> {
        todo!()
    }
    /// What is not yet safe on the server.
    pub fn unsaved(&self) -> Unsaved {
        todo!()
    }
    /// The last errors, newest first, at most 100.
    pub fn errors(&self) -> Vec<ErrorRecord> {
        todo!()
    }
    /// What was done so far.
    pub fn counters(&self) -> DriveCounters {
        todo!()
    }
    /// Waits until everything is on the server; answers what could not be saved.
    pub async fn save_all(&self) -> Unsaved {
        todo!()
    }
}

/// Makes a vault in `path`, which must be missing or empty.
pub async fn create_vault(
    remote: &dyn Remote,
    path: &RemotePath,
    password: &str,
    cipher_combo: scaup_crypto::CipherCombo,
    shortening_threshold: u32,
) -> Result<(), VaultError> {
    todo!()
}

/// What can be said of the vault at `path` without its password.
pub async fn inspect_vault(remote: &dyn Remote, path: &RemotePath) -> Result<VaultStatus, VaultError> {
    todo!()
}

//! The vaults of a mount: found, unlocked, locked. `names` notices that a directory is one when it lists it.
//!
//! A directory that holds the marker files of a vault is shown encrypted and read-only until it is unlocked; then a
//! binding in the tree holds the keys, and the directory shows cleartext. The path stays bound until the mount ends:
//! [`unlocking`] opens a vault, without the server if it was open here before. [`expected`] checks whether the server
//! still shows this vault there. [`locking`] forgets keys, names and content. [`whereabouts`] leads from a shown path
//! to the server's and back. [`marker_watch`] warns when the files that unlock the vault change, [`tidying`] removes
//! the debris of dead processes.

mod error;
pub(super) mod expected;
mod lock_within;
pub(super) mod locking;
pub(super) mod marker_watch;
mod renamed_content;
pub(super) mod tidying;
mod unlocking;
mod whereabouts;

use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use scaup_crypto::Cryptor;
use scaup_fuse::filesystem::{Inode, RequestError as _};

use crate::drive::moment::Moment;
use crate::drive::places::displacement::Displacement;
use crate::drive::places::place::Place;
use crate::drive::{Drive, DriveError};
use crate::remote::{Refusal, RemoteKind, RemotePath};
use crate::vault::{OpenError, UnlockedVault, VaultInfo, find_files};
pub use error::VaultError;
pub use lock_within::LockedWithin;
use locking::nobody_has;
pub use whereabouts::{StoredAs, Whereabouts};

/// How long locking and unlocking wait until the kernel has dropped what it holds.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);

/// How long locking on request, and unlocking, wait until what is unsaved is on the server.
const SAVING_PATIENCE: Duration = Duration::from_secs(5);

/// How long tasks may take to end by themselves that use a vault's keys.
const SOON: Duration = Duration::from_secs(1);

/// Whether a vault's content can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultState {
    /// Its decrypted content is shown.
    Unlocked,
    /// Its encrypted content is shown, read-only.
    Locked,
    /// It can't be opened by this program, with the reason and what to do about it.
    Unsupported(String),
}

/// A vault that was found.
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
    /// Its id, once known; formats before 8 have none.
    pub id: Option<String>,
    /// What the server shows in its place, if that is something else.
    pub displaced: Option<Displacement>,
}

/// A vault that lost its keys, and what others may still have of it.
struct KeysDropped {
    /// Requests under way have the keys to their end.
    keys: Weak<Cryptor>,
    inode: Inode,
    /// What the kernel may know below its directory: directory, name, and the node of that name.
    names: Vec<(Inode, std::ffi::OsString, Inode)>,
    /// Requests had to be made to stop.
    refusal: Option<Refusal>,
}

/// A vault that this drive found.
pub(super) struct KnownVault {
    inode: Inode,
    info: VaultInfo,
}

impl Drive {
    fn lock_vaults(&self) -> MutexGuard<'_, Vec<KnownVault>> {
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a vault that was found on the way.
    pub(super) async fn meet_vault(&self, inode: Inode, path: &RemotePath) {
        let info = match find_files(self.remote.as_ref(), path, None).await {
            Ok(opening) => {
                let mut nodes = self.tree.lock();
                if nodes.is_another(inode, &opening) {
                    nodes.displace(inode, Displacement::OtherVault);
                }
                VaultInfo::from(&opening)
            }
            Err(OpenError::Refused { reason, .. }) => VaultInfo::unsupported(reason),
            Err(error) => VaultInfo::unsupported(error.to_string()),
        };
        let mut vaults = self.lock_vaults();
        vaults.retain(|vault| vault.inode != inode);
        vaults.push(KnownVault { inode, info });
    }

    /// Returns the directories of all vaults that were found so far or are expected.
    pub(super) fn met_vaults(&self) -> Vec<Inode> {
        let mut vaults: Vec<Inode> = self.lock_vaults().iter().map(|vault| vault.inode).collect();
        vaults.extend(self.tree.lock().bound_below(Inode::ROOT));
        vaults
    }

    /// Sets why a vault can't be unlocked any more, or with `None` that it can again.
    pub(super) fn set_unsupported(&self, inode: Inode, unsupported: Option<String>) {
        if let Some(known) = self.lock_vaults().iter_mut().find(|vault| vault.inode == inode) {
            known.info.unsupported = unsupported;
        }
    }

    /// Returns all vaults found so far.
    #[must_use]
    pub fn vaults(&self) -> Vec<VaultStatus> {
        let met = self.lock_vaults();
        let nodes = self.tree.lock();
        let is_met = |bound: &Inode| met.iter().any(|vault| vault.inode == *bound);
        let expected = nodes.bound_below(Inode::ROOT).into_iter().filter(|bound| !is_met(bound));
        let expected: Vec<KnownVault> =
            expected.map(|inode| KnownVault { inode, info: VaultInfo::default() }).collect();
        met.iter()
            .chain(&expected)
            .filter_map(|vault| {
                let path = nodes.path_of(vault.inode).ok()?;
                let VaultInfo { unsupported, format, cipher_combo, id, .. } = vault.info.clone();
                let state = match (nodes.bindings().unlocked(vault.inode), unsupported) {
                    (Some(_), _) => VaultState::Unlocked,
                    (None, Some(reason)) => VaultState::Unsupported(reason),
                    (None, None) => VaultState::Locked,
                };
                Some(VaultStatus {
                    path,
                    state,
                    format,
                    cipher_combo,
                    id,
                    displaced: nodes.displacement_of(vault.inode).cloned(),
                })
            })
            .collect()
    }

    /// Finds the vaults at the mounted directory itself or directly in it.
    ///
    /// # Errors
    ///
    /// If the mounted directory can't be listed.
    pub async fn find_vaults(&self) -> Result<Vec<VaultStatus>, VaultError> {
        let root = RemotePath::root();
        let directories: Vec<std::ffi::OsString> = {
            let _paths = self.hold_paths([Inode::ROOT]).await;
            let (_, names) = self.names(Inode::ROOT).await.map_err(|error| drive_failed(&root, error))?;
            let directories = names.kinds().filter(|&(_, kind)| kind == RemoteKind::Directory);
            directories.map(|(name, _)| name.to_owned()).collect()
        };
        /// Directories that are checked at the same time.
        const LOOKS_AT_ONCE: usize = 128;
        // A vault's own directories are no vaults.
        if self.lock_vaults().is_empty() {
            let looks = directories.iter().map(|name| async move {
                let _paths = self.hold_name(Inode::ROOT, name).await;
                match self.find(Inode::ROOT, name).await {
                    Ok(Some(inode)) => self.directory(inode).await.map(|_| ()),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                }
            });
            // A server can make up any number of directories.
            let mut looks = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
            while let Some(look) = looks.next().await {
                if let Err(error) = look {
                    tracing::debug!(
                        error = error.for_log(self.options.log_names),
                        "could not look into a directory for a vault"
                    );
                }
            }
        }
        Ok(self.vaults())
    }

    /// Returns the node of a directory, looked up from the root.
    async fn directory_at(&self, path: &RemotePath) -> Result<Inode, VaultError> {
        let mut at = Inode::ROOT;
        for name in path.as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
            let _paths = self.hold_name(at, name).await;
            let found = match self.find(at, name).await {
                Ok(None) => {
                    // Somebody may have made it just now.
                    self.forget_names(at);
                    self.find(at, name).await
                }
                found => found,
            };
            at = match found {
                Ok(Some(inode)) => inode,
                Ok(None) => return Err(OpenError::NotAVault(path.clone()).into()),
                Err(error) => return Err(drive_failed(path, error)),
            };
        }
        let nodes = self.tree.lock();
        match nodes.get(at) {
            Ok(node) if matches!(node.place(), Place::Plain) && node.kind() == RemoteKind::Directory => {
                Ok(at)
            }
            _ => Err(OpenError::NotAVault(path.clone()).into()),
        }
    }

    /// Locks a vault: drops its keys, names and content, even if programs still have something of it open, and what the
    /// kernel holds of it. Unsaved content is saved first, for a few seconds; what is unsaved then is encrypted, and is
    /// sent when the server can be reached. The content of removed files that programs still have open is lost.
    ///
    /// # Errors
    ///
    /// [`VaultError::Unsaved`] if unsaved content has no place any more where it could be saved: the vault stays
    /// unlocked then.
    pub async fn lock(&self, path: &RemotePath) -> Result<(), VaultError> {
        let Some((inode, vault)) = self.unlocked_at(path) else {
            return self.directory_at(path).await.map(drop);
        };
        if let Some(drive) = self.me.upgrade().filter(|_| self.remote.is_reachable()) {
            // Saves under way go on. What is not saved in time is encrypted.
            let saving = tokio::spawn(async move { drive.save_all().await });
            let _ = tokio::time::timeout(SAVING_PATIENCE, saving).await;
        }
        let dropped = self.drop_keys(inode, &vault, SOON).await?;
        self.drop_names(dropped, SOON).await;
        Ok(())
    }

    /// Returns the vault that is unlocked at `path`. The place of its keys does not depend on what the server shows.
    fn unlocked_at(&self, path: &RemotePath) -> Option<(Inode, Arc<UnlockedVault>)> {
        let nodes = self.tree.lock();
        let inode = nodes.bound_at(path)?;
        Some((inode, nodes.bindings().unlocked(inode).cloned()?))
    }

    /// Drops a vault's keys, content and names here. Tasks that wait for the server with one of its files are made to
    /// stop where they do not end by themselves within `patience`.
    async fn drop_keys(
        &self,
        inode: Inode,
        vault: &Arc<UnlockedVault>,
        patience: Duration,
    ) -> Result<KeysDropped, VaultError> {
        let mut refusal = None;
        let keys = match tokio::time::timeout(patience, self.forget_content_of(vault)).await {
            Ok(keys) => keys?,
            Err(_) => {
                refusal = Some(self.remote.refuse_requests());
                self.forget_content_of(vault).await?
            }
        };
        let names = {
            let mut nodes = self.tree.lock();
            let gone = nodes.detach_below(inode, Moment::now());
            nodes.lock_bound(inode);
            gone
        };
        vault.unfinished.forget();
        self.forget_names_of(vault);
        Ok(KeysDropped { keys, inode, names, refusal })
    }

    /// Has the kernel drop the names and pages of a vault that lost its keys, and waits for requests under way: those
    /// that do not end by themselves within `patience` are made to stop.
    async fn drop_names(&self, dropped: KeysDropped, patience: Duration) {
        let KeysDropped { keys, inode, names, mut refusal } = dropped;
        let nobody = async {
            if tokio::time::timeout(patience, nobody_has(&keys)).await.is_err() {
                refusal.get_or_insert_with(|| self.remote.refuse_requests());
                nobody_has(&keys).await;
            }
        };
        futures::join!(self.drop_from_kernel(inode, names), nobody);
        // Chunks that were on their way when the keys were removed have been decrypted since.
        self.content.cache.clear();
    }

    /// Has the kernel drop what it holds below a directory, and waits for that: until then those names and pages are
    /// readable.
    async fn drop_from_kernel(&self, inode: Inode, gone: Vec<(Inode, std::ffi::OsString, Inode)>) {
        let Some(invalidate) = self.invalidate.get() else { return };
        for (parent, name, child) in gone.iter().rev() {
            invalidate.inode(*child);
            invalidate.entry(*parent, name);
        }
        invalidate.inode(inode);
        // Forgetting the directory's own entry forgets the names below it that were looked for and not found.
        let entry = self.tree.lock().get(inode).ok().map(|node| node.parent_and_name());
        if let Some((parent, name)) = entry.filter(|(parent, _)| *parent != inode) {
            invalidate.entry(parent, &name);
        }
        // The kernel waits for lookups of these names that are under way.
        if tokio::time::timeout(KERNEL_PATIENCE, invalidate.settled()).await.is_err() {
            tracing::warn!("the kernel has not dropped all names of a vault yet");
        }
    }
}

fn drive_failed(path: &RemotePath, error: DriveError) -> VaultError {
    match error {
        DriveError::Remote(source) => OpenError::of(path)(source).into(),
        DriveError::Displaced(shown) => VaultError::Displaced { path: path.clone(), shown },
        error => OpenError::refused(path, error).into(),
    }
}

//! Forgetting all that is known of a vault's content and names when it is locked, even if programs still have something
//! of it open.
//!
//! The keys go first. From then on nothing can be added to a table, since a task that adds to one checks the keys with
//! the table locked; so what is dropped here stays dropped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use scaup_crypto::Cryptor;
use scaup_fuse::filesystem::Inode;

use super::error::VaultError;
use crate::drive::Drive;
use crate::drive::content::file::File;
use crate::drive::error::DriveError;
use crate::drive::places::place::Place;
use crate::drive::saving::SAVE_AFTER;
use crate::drive::status::Unsaved;
use crate::drive::tree::Nodes;
use crate::vault::UnlockedVault;

/// How long locking waits for requests under way, which still have the keys, and at what intervals it checks.
const REQUESTS_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until the requests that were under way when a vault lost its `keys` have ended.
pub(super) async fn nobody_has(keys: &Weak<Cryptor>) {
    let gone = async {
        while keys.strong_count() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(REQUESTS_PATIENCE, gone).await.is_err() {
        tracing::warn!(
            "a server that does not answer keeps requests to a locked vault, and with them its keys"
        );
    }
}

impl Nodes<'_> {
    /// Returns all open or unsaved files of one vault, including those that lost their names.
    pub(super) fn files_of(&self, vault: &Arc<UnlockedVault>) -> Vec<Arc<File>> {
        let in_vault = self.nodes().values().filter(|node| node.is_in(vault));
        in_vault.filter_map(|node| node.file().cloned()).collect()
    }

    /// Fails if the node lies in a vault that was locked since.
    pub(in crate::drive) fn check_unlocked(&self, inode: Inode) -> Result<(), DriveError> {
        match self.get(inode)?.place() {
            Place::Plain => Ok(()),
            Place::Vault { vault, .. } => Ok(vault.cryptor().map(drop)?),
        }
    }

    /// Returns the vault that a node lies in, or whose own directory it is.
    pub(in crate::drive) fn vault_around(&self, inode: Inode) -> Option<Arc<UnlockedVault>> {
        match self.nodes().get(&inode)?.place() {
            Place::Vault { vault, .. } => Some(Arc::clone(vault)),
            Place::Plain => self.bindings().unlocked(inode).cloned(),
        }
    }

    /// Fails if a vault was locked or unlocked in a directory since it was opened in this one, or in none.
    pub(in crate::drive) fn check_same_vault(
        &self,
        inode: Inode,
        opened_in: Option<&Arc<UnlockedVault>>,
    ) -> Result<(), DriveError> {
        let is_same = self.vault_around(inode).as_ref().map(Arc::as_ptr) == opened_in.map(Arc::as_ptr);
        if is_same { Ok(()) } else { Err(DriveError::Locked) }
    }

    /// Checks that an entry can lie in the directory `parent` as that is now. The entry may have been found before a
    /// vault was locked or unlocked there.
    pub(in crate::drive) fn check_belongs(&self, parent: Inode, place: &Place) -> Result<(), DriveError> {
        match (place, self.vault_around(parent)) {
            (Place::Plain, None) => Ok(()),
            (Place::Vault { vault, .. }, around) => {
                vault.cryptor()?;
                around.filter(|around| Arc::ptr_eq(around, vault)).map(drop).ok_or(DriveError::Stale)
            }
            (Place::Plain, Some(_)) => Err(DriveError::Stale),
        }
    }

    /// Forgets the names, and other cleartext, of all nodes of a vault that was locked; returns the nodes that are
    /// left. Some stay for as long as a program has something open.
    pub(super) fn forget_names_of(&mut self, vault: &Arc<UnlockedVault>) -> Vec<Inode> {
        self.forms_mut().forget_those_of(vault);
        let in_vault = self.nodes_mut().iter_mut().filter(|(_, node)| node.is_in(vault));
        let left = in_vault.map(|(&inode, node)| {
            node.forget_names();
            inode
        });
        left.collect()
    }
}

impl Drive {
    /// Removes the keys of a vault, and the content of its files. What has to be saved is encrypted, and kept. Fails,
    /// and changes nothing, if something can't be saved anywhere.
    pub(super) async fn forget_content_of(
        &self,
        vault: &Arc<UnlockedVault>,
    ) -> Result<Weak<Cryptor>, VaultError> {
        loop {
            let mut files = self.tree.lock().files_of(vault);
            // Locked in one order, or this and a rename could wait for each other.
            files.sort_by_key(|file| file.inode.0);
            // From here on nobody writes to open files.
            let mut states = Vec::new();
            for file in &files {
                states.push(file.lock().await);
            }
            let mut sealed = Vec::new();
            for (file, state) in files.iter().zip(&mut states) {
                let unsaved = file.unsaved();
                let seal =
                    unsaved.map(|unsaved| file.sealed(self, state, !unsaved.harms_nothing(SAVE_AFTER)));
                sealed.push(seal.transpose().map_err(|error| {
                    tracing::warn!(error = %error.kind(), "a vault stays unlocked: a file of it has no place");
                    VaultError::Unsaved(self.unsaved())
                })?);
            }
            let nodes = self.tree.lock();
            let is_held = |file: &Arc<File>| files.iter().any(|held| Arc::ptr_eq(held, file));
            if !nodes.files_of(vault).iter().all(is_held) {
                // A file was opened meanwhile, and could be written to.
                continue;
            }
            // With the tree locked: a file that is added later finds the vault locked.
            let keys = vault.forget_keys();
            drop(nodes);
            for (state, sealed) in states.iter_mut().zip(sealed) {
                match sealed {
                    Some(sealed) => state.seal(sealed),
                    None => state.forget_content(),
                }
            }
            drop(states);
            // Nobody writes to it any more.
            files.iter().for_each(|file| file.mark_closed());
            // Chunks of other vaults go too: they are read again when they are needed.
            self.content.cache.clear();
            return Ok(keys);
        }
    }

    /// Fails if a file's content was unsaved when its vault was locked, and still is: it is sent when the server can be
    /// reached, and no program waits for that.
    pub(in crate::drive) fn check_not_sealed(&self, file: &File) -> Result<(), DriveError> {
        match file.unsaved() {
            Some(_) => self.tree.lock().check_unlocked(file.inode),
            None => Ok(()),
        }
    }

    /// Saves what was unsaved when its vault was locked.
    pub(super) async fn save_sealed(&self) {
        let sealed = self.sealed_files();
        futures::future::join_all(sealed.iter().map(|file| self.save(file, |_| true))).await;
    }

    /// Returns how much was unsaved when its vault was locked, and still is.
    #[must_use]
    pub fn sealed(&self) -> Unsaved {
        let sealed = self.sealed_files();
        let bytes = sealed.iter().filter_map(|file| Some(file.unsaved()?.bytes));
        bytes.fold(Unsaved::default(), |sum, bytes| Unsaved {
            files: sum.files + 1,
            bytes: sum.bytes + bytes,
            ..sum
        })
    }

    fn sealed_files(&self) -> Vec<Arc<File>> {
        let nodes = self.tree.lock();
        let is_sealed = |file: &Arc<File>| nodes.check_unlocked(file.inode).is_err();
        nodes.files().into_iter().filter(is_sealed).collect()
    }

    /// Forgets the names of a vault that has lost its keys, wherever they are kept: in nodes, listings, open
    /// directories, files that were opened ahead or kept open, and the errors of `status`. The kernel drops the pages
    /// of files that a program still has open.
    pub(super) fn forget_names_of(&self, vault: &Arc<UnlockedVault>) {
        self.handles.forget_directories_of(vault);
        self.forget_errors_of(vault);
        self.listings.clear();
        self.forget_all_opened();
        let left = self.tree.lock().forget_names_of(vault);
        if let Some(invalidate) = self.invalidate.get() {
            left.into_iter().for_each(|inode| invalidate.inode(inode));
        }
    }
}

//! What is forgotten when a vault is locked: all that is known of its content and names, whoever still has something of it open.
//!
//! The keys go first. What is added to a table from then on is refused there, since whoever adds to it looks at the keys while the table is
//! held; so what is dropped here stays dropped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use scaup_crypto::Cryptor;

use super::Drive;
use super::file::File;
use super::status::Unsaved;
use super::vault::UnlockedVault;
use super::vaults::VaultError;

/// How long locking waits for requests under way, which still have the keys, and at what intervals it looks.
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

impl Drive {
    /// Takes the keys from a vault, and the content from its files. Fails, and changes nothing, if some content has to be saved.
    pub(super) async fn forget_content_of(
        &self,
        vault: &Arc<UnlockedVault>,
    ) -> Result<Weak<Cryptor>, VaultError> {
        loop {
            let mut files = self.tree.lock().files_of(vault);
            // Held in one order, or this and a rename could wait for each other.
            files.sort_by_key(|file| file.inode.0);
            // From here on nobody writes to what is open.
            let mut states = Vec::new();
            for file in &files {
                states.push(file.state.write().await);
            }
            let nodes = self.tree.lock();
            let is_held = |file: &Arc<File>| files.iter().any(|held| Arc::ptr_eq(held, file));
            if !nodes.files_of(vault).iter().all(is_held) {
                // Something was opened meanwhile, and could be written to.
                continue;
            }
            let unsaved = files.iter().filter_map(|file| file.unsaved());
            let unsaved = unsaved.fold(Unsaved::default(), |sum, unsaved| Unsaved {
                files: sum.files + 1,
                bytes: sum.bytes + unsaved.bytes,
                ..sum
            });
            if unsaved.files > 0 {
                return Err(VaultError::Unsaved(unsaved));
            }
            // While the tree is held: a file that comes into it later finds the vault locked.
            let keys = vault.forget_keys();
            drop(nodes);
            files.iter().zip(&mut states).for_each(|(file, state)| file.forget_content(state));
            // Chunks of other vaults go too: they are read again when they are needed.
            self.cache.clear();
            return Ok(keys);
        }
    }

    /// Forgets the names of a vault that has lost its keys, wherever they are kept: in nodes, listings, open directories, files that were opened
    /// ahead or kept open, and what `status` tells. Of what a program still has open, the kernel drops the pages.
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

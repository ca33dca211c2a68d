//! Watching the config and masterkey files of an unlocked vault: it works on without them, but can't be unlocked again.
//! So the user is told when somebody removes or replaces them.

use std::sync::Arc;

use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::vault::{MarkerFiles, OpenError, UnlockedVault, open_files};

impl Drive {
    /// Checks the marker files in the background if `inode` is an unlocked vault.
    pub(in crate::drive) fn look_at_marker_files(&self, inode: Inode) {
        let here = self.tree.lock().bindings().unlocked(inode).cloned();
        if let (Some(vault), Some(drive)) = (here, self.me.upgrade()) {
            tokio::spawn(async move { drive.compare_marker_files(inode, vault).await });
        }
    }

    async fn compare_marker_files(&self, inode: Inode, vault: Arc<UnlockedVault>) {
        let Ok(path) = self.tree.lock().plain_path(inode) else { return };
        let remote = self.remote.as_ref();
        let Ok(now) = MarkerFiles::look(remote, &path).await else { return };
        if vault.marker_files() == Some(now) {
            return;
        }
        let Ok(cryptor) = vault.cryptor() else { return };
        let broken = match open_files(remote, &path).await {
            Ok(opening) => {
                let broken = opening.belongs_to(&cryptor).err();
                if broken.is_none() {
                    self.tree.lock().remember_opening(inode, opening);
                }
                broken
            }
            // A missing reply proves nothing: the next check asks again.
            Err(OpenError::Remote { .. }) => return,
            Err(OpenError::Refused { reason, .. }) => Some(reason),
            Err(error) => Some(error.to_string()),
        };
        vault.record_marker_files(now);
        if let Some(reason) = &broken {
            let path = String::from_utf8_lossy(path.as_bytes());
            self.record(
                inode,
                "vault",
                format!("{path} stays unlocked, but can't be unlocked again: {reason}"),
            );
        }
        self.set_unsupported(inode, broken);
    }
}

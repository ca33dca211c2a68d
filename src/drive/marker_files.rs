//! The config and masterkey files of an unlocked vault: it goes on without them, but the next unlocking won't. So whoever has the vault open is
//! told when somebody removes them or puts others in their place.

use std::sync::Arc;

use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::file::Base;
use super::vault::{UnlockedVault, part};
use super::vaults::{Markers, VaultError, open_files};
use crate::remote::{Remote, RemoteError, RemotePath};

/// How both looked; `None` for one that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MarkerFiles {
    config: Option<Base>,
    masterkey: Option<Base>,
}

impl MarkerFiles {
    pub(super) async fn look(remote: &dyn Remote, vault: &RemotePath) -> Result<Self, RemoteError> {
        let look = async |name| match remote.stat(&vault.join(&part(name))).await {
            Ok(attributes) => Ok(Some(Base::from(attributes))),
            Err(RemoteError::NotFound) => Ok(None),
            Err(error) => Err(error),
        };
        let (config, masterkey) = futures::try_join!(look(Markers::CONFIG), look(Markers::MASTERKEY))?;
        Ok(Self { config, masterkey })
    }
}

impl Drive {
    /// Looks at them in the background if `inode` is an unlocked vault.
    pub(super) fn look_at_marker_files(&self, inode: Inode) {
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
            Ok(opening) => opening.belongs_to(&cryptor).err(),
            // No answer says nothing: the next look asks again.
            Err(VaultError::Remote { .. }) => return,
            Err(VaultError::Refused { reason, .. }) => Some(reason),
            Err(error) => Some(error.to_string()),
        };
        vault.note_marker_files(now);
        if let Some(reason) = &broken {
            let path = String::from_utf8_lossy(path.as_bytes());
            self.record(
                inode,
                "vault",
                format!("{path} stays unlocked, but can't be unlocked again: {reason}"),
            );
        }
        self.note_unsupported(inode, broken);
    }
}

//! Locking without a request: all vaults in a limited time, or one that nobody uses.

use std::sync::Arc;
use std::time::Duration;

use scaup_fuse::filesystem::Inode;
use tokio::time::{Instant, timeout_at};

use crate::drive::Drive;
use crate::remote::RemotePath;
use crate::vault::UnlockedVault;

/// What became of the vaults that were unlocked.
#[derive(Debug, Default)]
pub struct LockedWithin {
    /// Those whose keys are gone.
    pub locked: Vec<RemotePath>,
    /// Those that stay as they were, because something in them has no place any more where it could be saved.
    pub still_unlocked: Vec<RemotePath>,
}

impl Drive {
    /// Saves what can be saved, of plain places, too, and locks all vaults: what is unsaved in them then is encrypted.
    /// It takes `limit` at most, whatever the server does: three quarters for saving, the rest for locking.
    pub async fn lock_within(&self, limit: Duration) -> LockedWithin {
        let began = Instant::now();
        let (deadline, patience) = (began + limit, limit / 16);
        if timeout_at(began + limit / 4 * 3, self.save_before_sleep()).await.is_err() {
            tracing::info!("there was no time to save everything before vaults are locked");
        }
        let vaults = self.unlocked_vaults();
        let dropping = vaults.iter().map(|(_, inode, vault)| self.drop_keys(*inode, vault, patience));
        let dropped = futures::future::join_all(dropping).await;
        let (mut outcome, mut left) = (LockedWithin::default(), Vec::new());
        for ((path, ..), dropped) in vaults.into_iter().zip(dropped) {
            match dropped {
                Ok(dropped) => {
                    outcome.locked.push(path);
                    left.push(dropped);
                }
                Err(error) => {
                    tracing::warn!(%error, "a vault stays unlocked");
                    outcome.still_unlocked.push(path);
                }
            }
        }
        if let Some(drive) = self.me.upgrade() {
            // It goes on to its end even if that takes longer.
            let forgetting = tokio::spawn(async move {
                let left = left.into_iter().map(|dropped| drive.drop_names(dropped, patience));
                futures::future::join_all(left).await;
            });
            if timeout_at(deadline, forgetting).await.is_err() {
                tracing::warn!("the kernel or requests under way still have something of a locked vault");
            }
        }
        outcome
    }

    /// Returns how long no program has used each unlocked vault.
    #[must_use]
    pub fn unused(&self) -> Vec<(RemotePath, Duration)> {
        let vaults = self.unlocked_vaults();
        vaults.into_iter().map(|(path, _, vault)| (path, vault.last_use.elapsed())).collect()
    }

    /// Counts a request as use of the vault that the node lies in.
    pub(in crate::drive) fn count_use(&self, inode: Inode) {
        let vault = self.tree.lock().vault_around(inode);
        if let Some(vault) = vault {
            vault.last_use.renew();
        }
    }

    fn unlocked_vaults(&self) -> Vec<(RemotePath, Inode, Arc<UnlockedVault>)> {
        let nodes = self.tree.lock();
        let unlocked = nodes.bindings().vaults().filter_map(|inode| {
            Some((nodes.path_of(inode).ok()?, inode, nodes.bindings().unlocked(inode).cloned()?))
        });
        unlocked.collect()
    }
}

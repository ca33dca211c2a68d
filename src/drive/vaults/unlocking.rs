//! Unlocking a vault. The files that opened it are remembered until the mount ends: they open it again while the server
//! can't be reached, or is silent.

use std::sync::Arc;
use std::time::Duration;

use scaup_crypto::DirectoryId;
use scaup_fuse::filesystem::Inode;
use tokio::time::timeout;

use super::{KnownVault, SAVING_PATIENCE, VaultError, drive_failed};
use crate::drive::Drive;
use crate::drive::ahead::listings::Purpose;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::displacement::Displacement;
use crate::remote::{RemoteError, RemoteKind, RemotePath};
use crate::vault::unfinished::Unfinished;
use crate::vault::{
    MarkerFiles, OpenError, Opening, UnlockedVault, VaultDirectory, VaultInfo, VaultSecret, cryptor_of,
    find_files, inspect_vault, keys_of,
};

/// How long the server is waited for, each time, with a vault that opens without it.
const SERVER_PATIENCE: Duration = Duration::from_secs(1);

impl Drive {
    /// Whether the vault at `path` was open in this mount, and so opens without the server.
    #[must_use]
    pub fn remembers(&self, path: &RemotePath) -> bool {
        self.remembered_at(path).is_some()
    }

    /// Returns the vault at `path` with the files that opened it in this mount.
    fn remembered_at(&self, path: &RemotePath) -> Option<(Inode, Opening)> {
        let nodes = self.tree.lock();
        let inode = nodes.bound_at(path).filter(|&inode| nodes.displacement_of(inode).is_none())?;
        Some((inode, nodes.bindings().opening(inode)?.clone()))
    }

    /// Waits for what the server says of a vault that opens without it; `None` if it says nothing.
    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, VaultError>>,
    ) -> Result<Option<T>, VaultError> {
        if !self.remote.is_reachable() {
            return Ok(None);
        }
        match timeout(SERVER_PATIENCE, asked).await {
            Ok(Err(VaultError::Open(OpenError::Remote { source, .. }))) if source.is_unanswered() => Ok(None),
            Ok(outcome) => outcome.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Checks whether there is a vault at `path`, and which.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotAVault`], or the server's error.
    pub async fn inspect(&self, path: &RemotePath) -> Result<VaultInfo, VaultError> {
        let asked = async { Ok(inspect_vault(self.remote.as_ref(), path).await?) };
        match self.remembered_at(path) {
            None => asked.await,
            Some((_, opening)) => Ok(self.in_time(asked).await?.unwrap_or_else(|| VaultInfo::from(&opening))),
        }
    }

    /// Unlocks the vault at `path`, which need not have been found before. Unlocking an unlocked vault does nothing. A
    /// vault that was open in this mount is opened within seconds, whatever the server does.
    ///
    /// # Errors
    ///
    /// What [may be tried again](OpenError::is_wrong_secret) needs another secret; everything else says why the vault
    /// can't be opened.
    pub async fn unlock(&self, path: &RemotePath, secret: &VaultSecret) -> Result<(), VaultError> {
        if self.unlocked_at(path).is_some() {
            return Ok(());
        }
        let asked = self.find_vault(path, secret);
        let ((inode, opening), is_server_there) = match self.remembered_at(path) {
            None => (asked.await?, true),
            Some(remembered) => match self.in_time(asked).await? {
                Some(found) => (found, true),
                None => (remembered, false),
            },
        };
        // Its decrypted content would hide the other vault.
        if self.tree.lock().bound_below(inode).into_iter().any(|bound| bound != inode) {
            let reason = "another vault that was unlocked lies in its directory";
            return Err(OpenError::refused(path, reason).into());
        }
        let cryptor = match is_server_there {
            true => cryptor_of(self.remote.as_ref(), path, opening.clone(), secret).await?,
            false => keys_of(path, opening.clone(), secret).await?,
        };
        let unfinished = Unfinished::in_vault(self.options.unfinished.as_ref(), &cryptor);
        let vault = UnlockedVault::new(cryptor, unfinished);
        if is_server_there {
            // What was written before it was locked is to be found at once.
            let _ = timeout(SAVING_PATIENCE, self.save_sealed()).await;
        }
        let unlocked = Moment::now();
        if is_server_there {
            self.begin_with(path, &vault).await?;
        }
        let gone = {
            let mut vaults = self.lock_vaults();
            vaults.retain(|vault| vault.inode != inode);
            vaults.push(KnownVault { inode, info: VaultInfo::from(&opening) });
            drop(vaults);
            let mut nodes = self.tree.lock();
            let gone = nodes.detach_below(inode, unlocked);
            let unlocked = Arc::clone(&vault);
            nodes.bind_unlocked(inode, unlocked, opening).map_err(|error| drive_failed(path, error))?;
            gone
        };
        self.tidy_vault(inode, &vault, path);
        self.look_for_renamed_content(inode, &vault, path);
        if is_server_there {
            self.back_up_vault(path);
        }
        self.drop_from_kernel(inode, gone).await;
        Ok(())
    }

    /// Asks the server for the directory and the files of the vault at `path`.
    async fn find_vault(
        &self,
        path: &RemotePath,
        secret: &VaultSecret,
    ) -> Result<(Inode, Opening), VaultError> {
        let inode = self.directory_at(path).await?;
        let opening = find_files(self.remote.as_ref(), path, Some(secret)).await?;
        if self.tree.lock().is_another(inode, &opening) {
            return Err(VaultError::Displaced { path: path.clone(), shown: Displacement::OtherVault });
        }
        Ok((inode, opening))
    }

    /// Checks whether an unlocked vault's root has content, and has it listed meanwhile: that listing is needed first.
    async fn begin_with(&self, path: &RemotePath, vault: &Arc<UnlockedVault>) -> Result<(), VaultError> {
        let cryptor = vault.cryptor().map_err(|error| drive_failed(path, error.into()))?;
        let id = DirectoryId::root();
        let root = VaultDirectory { vault: Arc::clone(vault), cryptor, root: path.clone(), id };
        let content = root.content();
        let began = self.listings.begin(&self.remote, (Inode::ROOT, &Directory::Vault(root)), Purpose::Names);
        began.map_err(|error| drive_failed(path, error))?;
        let (looked, root) =
            futures::join!(MarkerFiles::look(self.remote.as_ref(), path), self.remote.stat(&content));
        if let Ok(looked) = looked {
            vault.record_marker_files(looked);
        }
        let reason = match root {
            Ok(attributes) if attributes.kind == RemoteKind::Directory => return Ok(()),
            Ok(_) | Err(RemoteError::NotFound) => OpenError::refused(
                path,
                "the content of its root directory is missing; restore the vault's d directory from a backup",
            ),
            Err(error) => OpenError::of(path)(error),
        };
        self.listings.forget(&content);
        Err(reason.into())
    }
}

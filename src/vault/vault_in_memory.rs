//! A vault for the tests of this module.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use scaup_crypto::{CipherCombo, DirectoryId};
use scaup_fakes::{MemoryRemote, MemoryServer};

use super::directory::VaultDirectory;
use super::unfinished::Unfinished;
use super::{UnlockedVault, VaultSecret, create_vault, open_vault};
use crate::remote::RemotePath;

/// The vault's own directory in a new vault, and its server.
pub(super) async fn vault() -> (Arc<MemoryRemote>, VaultDirectory) {
    let (remote, root) = (MemoryRemote::connect(&MemoryServer::default()), RemotePath::root());
    create_vault(remote.as_ref(), &root, "password", CipherCombo::SivGcm, 220).await.unwrap();
    let cryptor = open_vault(remote.as_ref(), &root, &VaultSecret::password("password")).await.unwrap();
    let unfinished = Unfinished::in_vault(None, &cryptor);
    let vault = UnlockedVault::new(cryptor, unfinished);
    let cryptor = vault.cryptor().unwrap();
    (remote, VaultDirectory { vault, cryptor, root, id: DirectoryId::root() })
}

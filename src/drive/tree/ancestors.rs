//! What follows from the nodes above a node: its path, the vault that it lies in, and the directory that it is.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use scaup_fuse::filesystem::Inode;

use super::Nodes;
use super::node::VaultHere;
use crate::drive::error::DriveError;
use crate::drive::places::directory::Directory;
use crate::drive::places::place::{Place, plain_name};
use crate::remote::{RemoteKind, RemotePath};
use crate::vault::{UnlockedVault, VaultDirectory, VaultNode};

impl Nodes<'_> {
    /// Returns the path of a plain node, or of a vault's own directory. Fails if the server shows something else in the
    /// place of a bound vault, so that nothing is done there.
    pub(in crate::drive) fn plain_path(&self, inode: Inode) -> Result<RemotePath, DriveError> {
        self.check_way(inode)?;
        self.path_of(inode)
    }

    /// Returns the path of a plain node, whatever the server shows there.
    pub(in crate::drive) fn path_of(&self, inode: Inode) -> Result<RemotePath, DriveError> {
        if inode == Inode::ROOT {
            return Ok(RemotePath::root());
        }
        let node = self.get(inode)?;
        match node.place() {
            Place::Plain if !node.is_detached() => {
                Ok(self.path_of(node.parent())?.join(&plain_name(node.name())?))
            }
            _ => Err(DriveError::Stale),
        }
    }

    /// Returns the nearest plain path: of the node itself, or of the directory of the vault that it lies in.
    pub(in crate::drive) fn plain_path_around(&self, inode: Inode) -> RemotePath {
        let mut at = inode;
        loop {
            match (self.plain_path(at), self.nodes().get(&at)) {
                (Ok(path), _) => return path,
                (Err(_), Some(node)) => at = node.parent(),
                (Err(_), None) => return RemotePath::root(),
            }
        }
    }

    /// Returns the node's path as the mount shows it, for messages.
    pub(in crate::drive) fn shown_path(&self, inode: Inode) -> OsString {
        let mut names = Vec::new();
        let mut at = inode;
        while at != Inode::ROOT
            && let Some(node) = self.nodes().get(&at)
        {
            names.push(node.name().to_owned());
            at = node.parent();
        }
        if names.is_empty() {
            return OsString::from("the mounted directory");
        }
        names.reverse();
        names.join(OsStr::new("/"))
    }

    /// Returns a directory and those above it, up to the root.
    pub(in crate::drive) fn above(&self, inode: Inode) -> Vec<Inode> {
        std::iter::successors(Some(inode), |&inode| {
            (inode != Inode::ROOT).then(|| self.nodes().get(&inode).map(|node| node.parent())).flatten()
        })
        .collect()
    }

    /// Returns the directory `inode`, ready for operations in it.
    pub(in crate::drive) fn directory(&self, inode: Inode) -> Result<Directory, DriveError> {
        let node = self.get(inode)?;
        if node.kind() != RemoteKind::Directory {
            return Err(DriveError::NotADirectory);
        }
        match (node.place(), self.bindings().unlocked(inode)) {
            (Place::Plain, Some(vault)) => Ok(Directory::Vault(VaultDirectory {
                cryptor: vault.cryptor()?,
                vault: Arc::clone(vault),
                root: self.plain_path(inode)?,
                id: scaup_crypto::DirectoryId::root(),
            })),
            (Place::Plain, _) => Ok(Directory::Plain(self.plain_path(inode)?)),
            (Place::Vault { vault, node: VaultNode::Directory(id), .. }, _) => {
                let cryptor = vault.cryptor()?;
                let (root, ids) = self.vault_root(inode, vault)?;
                // A directory inside itself would be walked for ever.
                if ids.iter().filter(|&above| above == id).count() > 1 {
                    return Err(DriveError::damaged("the directory's id is that of a directory around it"));
                }
                Ok(Directory::Vault(VaultDirectory {
                    cryptor,
                    vault: Arc::clone(vault),
                    root: self.plain_path(root)?,
                    id: id.clone(),
                }))
            }
            (Place::Vault { node: VaultNode::BrokenDirectory(why), .. }, _) => Err(DriveError::damaged(why)),
            (Place::Vault { .. }, _) => Err(DriveError::NotADirectory),
        }
    }

    /// Returns the vault's own directory above `inode`, and the ids of the directories from `inode` up to it.
    pub(in crate::drive) fn vault_root(
        &self,
        inode: Inode,
        vault: &Arc<UnlockedVault>,
    ) -> Result<(Inode, Vec<scaup_crypto::DirectoryId>), DriveError> {
        let mut ids = Vec::new();
        let mut at = inode;
        loop {
            let node = self.get(at)?;
            if self.bindings().unlocked(at).is_some_and(|here| Arc::ptr_eq(here, vault)) {
                return Ok((at, ids));
            }
            if let Place::Vault { node: VaultNode::Directory(id), .. } = node.place() {
                ids.push(id.clone());
            }
            if at == Inode::ROOT || node.is_detached() {
                return Err(DriveError::Stale);
            }
            at = node.parent();
        }
    }

    /// Whether the node lies in a vault that is locked (its own directory counts as in it).
    pub(in crate::drive) fn is_in_locked_vault(&self, inode: Inode) -> bool {
        let mut at = inode;
        loop {
            let bindings = self.bindings();
            if bindings.unlocked(at).is_some() {
                return false;
            }
            match self.nodes().get(&at) {
                Some(node) if node.vault_here() == VaultHere::Found || bindings.contains(at) => return true,
                Some(node) if at != Inode::ROOT => at = node.parent(),
                _ => return false,
            }
        }
    }

    /// Whether the node lies in a vault that is locked, and is not its own directory.
    pub(in crate::drive) fn is_below_locked_vault(&self, inode: Inode) -> bool {
        let parent = self.get(inode).map(|node| node.parent());
        inode != Inode::ROOT && parent.is_ok_and(|parent| self.is_in_locked_vault(parent))
    }
}

//! Directories that somebody else removed while something in them was not saved: they are made again for it.
//!
//! A file that somebody removed reappears when it is saved here, and so do the directories around it. In a vault a
//! directory gets the id that it had: its content, and the nodes that name it, stay valid.

use std::ffi::OsString;
use std::sync::Arc;

use scaup_crypto::DirectoryId;
use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::places::directory::Directory;
use crate::drive::places::place::{Found, Place, plain_name};
use crate::drive::tree::Nodes;
use crate::remote::{RemoteError, RemoteKind};
use crate::vault::{VaultDirectory, VaultNode, cleartext_name, conflict_names};

impl Nodes<'_> {
    /// Returns the directories around a node, innermost first, without the mount's own and those above a bound vault:
    /// these are not ours to make.
    fn directories_around(&self, inode: Inode) -> Vec<Inode> {
        let mut around = self.above(inode);
        around.retain(|&at| at != inode && at != Inode::ROOT && !self.leads_to_binding(at));
        around
    }
}

impl Drive {
    /// Makes the directories again that lead to a file and are missing on the server.
    pub(in crate::drive) async fn make_directories_again(&self, inode: Inode) -> Result<(), DriveError> {
        let around = {
            let mut nodes = self.tree.lock();
            nodes.keep_way(inode)?;
            nodes.directories_around(inode)
        };
        let mut missing = Vec::new();
        for directory in around {
            if self.has_content(directory).await? {
                break;
            }
            missing.push(directory);
        }
        for directory in missing.into_iter().rev() {
            self.make_again(directory).await?;
        }
        Ok(())
    }

    /// Whether the server has the content of a directory. In a vault the content stays in place when the directory is
    /// moved, so this distinguishes a moved directory from a removed one.
    async fn has_content(&self, inode: Inode) -> Result<bool, DriveError> {
        let path = self.tree.lock().directory(inode)?.path();
        match self.remote.stat(&path).await {
            Ok(there) => Ok(there.kind == RemoteKind::Directory),
            Err(RemoteError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn make_again(&self, inode: Inode) -> Result<(), DriveError> {
        let (parent, name, place, mode) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            (node.parent(), node.name().to_owned(), node.place().clone(), node.attributes.current().mode)
        };
        let around = self.tree.lock().directory(parent)?;
        let made = match (&around, &place) {
            (Directory::Plain(path), Place::Plain) => {
                let path = path.join(&plain_name(&name)?);
                match self.remote.stat(&path).await {
                    Ok(there) if there.kind == RemoteKind::Directory => None,
                    Ok(_) => return Err(DriveError::NotADirectory),
                    Err(RemoteError::NotFound) => {
                        self.remote.mkdir(&path, mode).await?;
                        Some((name, place))
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            (Directory::Vault(around), Place::Vault { node: VaultNode::Directory(id), .. }) => {
                self.make_again_in_vault(around, name, id, mode).await?
            }
            _ => return Err(DriveError::Stale),
        };
        let mut nodes = self.tree.lock();
        match made {
            Some((name, place)) => {
                nodes.rename(inode, parent, &name, place)?;
                self.record_name_change(&mut nodes, parent, &name, None);
                let shown = nodes.shown_path(inode);
                drop(nodes);
                self.record(
                    parent,
                    "made_again",
                    format!(
                        "{} was removed on the server, and created again because something in it was unsaved",
                        shown.display()
                    ),
                );
            }
            None => {
                nodes.mark_present(inode);
            }
        }
        Ok(())
    }

    /// Returns the name and place of a directory that was made again; `None` if it exists.
    async fn make_again_in_vault(
        &self,
        around: &VaultDirectory,
        name: OsString,
        id: &DirectoryId,
        mode: u16,
    ) -> Result<Option<(OsString, Place)>, DriveError> {
        let remote = self.remote.as_ref();
        let names = std::iter::once(name.clone()).chain(conflict_names(&name));
        for name in names {
            let cleartext = cleartext_name(&name)?;
            let found = match around.lookup(remote, &cleartext, None).await? {
                Some(found) => found,
                None => match around.make_directory_with(remote, &cleartext, id, mode).await {
                    Ok(found) => return Ok(Some((name, Found::in_vault(found, &around.vault).place))),
                    Err(error) if error.is_exists() => continue,
                    Err(error) => return Err(error.into()),
                },
            };
            match found.node {
                VaultNode::Directory(there) if there == *id => return Ok(None),
                // Only its content is gone. A second name for it would be one too many.
                VaultNode::BrokenDirectory(_)
                    if around.id_of(remote, &found.entry).await?.as_ref() == Some(id) =>
                {
                    around.make_content_of(remote, id, mode).await?;
                    let node = VaultNode::Directory(id.clone());
                    let vault = Arc::clone(&around.vault);
                    return Ok(Some((name, Place::Vault { vault, entry: found.entry, node })));
                }
                // Somebody has made another node under this name.
                _ => {}
            }
        }
        Err(DriveError::Exists)
    }
}

//! Directories that somebody else removed while something in them was not saved: they are made again for it.
//!
//! A file that somebody removed is there again as it is saved here, and so is the way to it. In a vault a directory comes back with the id that it
//! had: what lies in it, and what is named by it, stays what it is.

use std::ffi::OsString;

use scaup_crypto::DirectoryId;
use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::error::DriveError;
use super::found::{Directory, Place, cleartext_name, plain_name};
use super::location::conflict_names;
use super::tree::Nodes;
use super::vault::{VaultDirectory, VaultNode};
use crate::remote::{RemoteError, RemoteKind};

impl Nodes<'_> {
    /// The directories around a node, from the innermost one, without the mount's own and those that a bound vault hangs on: these are not ours
    /// to make.
    fn directories_around(&self, inode: Inode) -> Vec<Inode> {
        let mut around = self.above(inode);
        around.retain(|&at| at != inode && at != Inode::ROOT && !self.leads_to_binding(at));
        around
    }
}

impl Drive {
    /// Makes the directories again that lead to a file and that the server does not have.
    pub(super) async fn make_way_again(&self, inode: Inode) -> Result<(), DriveError> {
        let around = self.tree.lock().directories_around(inode);
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

    /// Whether the server has what is in a directory. In a vault that stays where it is while the directory is moved, so it tells a moved one from a
    /// removed one.
    async fn has_content(&self, inode: Inode) -> Result<bool, DriveError> {
        let path = match self.tree.lock().directory(inode) {
            Ok(directory) => directory.path(),
            Err(error) if error.is_not_there() => return Ok(false),
            Err(error) => return Err(error),
        };
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
            (node.parent, node.name.clone(), node.place.clone(), node.attributes.mode)
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
                self.note_name(&mut nodes, parent, &name, None);
                let shown = nodes.shown_path(inode);
                drop(nodes);
                self.record(
                    parent,
                    "made_again",
                    format!(
                        "{} was removed on the server, and made again for what was unsaved in it",
                        shown.display()
                    ),
                );
            }
            None => {
                nodes.note_there(inode);
            }
        }
        Ok(())
    }

    /// The name and place of a directory that was made again; `None` if it is there.
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
                None => match around.make_directory_with(remote, &cleartext, id.clone(), mode).await {
                    Ok(found) => return Ok(Some((name, found.place))),
                    Err(error) if error.is_exists() => continue,
                    Err(error) => return Err(error),
                },
            };
            match found.place {
                Place::Vault { node: VaultNode::Directory(there), .. } if there == *id => return Ok(None),
                // Only what it holds is gone. A second name for it would be one too many.
                Place::Vault { vault, entry, node: VaultNode::BrokenDirectory(_) }
                    if around.id_of(remote, &entry).await?.as_ref() == Some(id) =>
                {
                    around.make_content_of(remote, id, mode).await?;
                    let node = VaultNode::Directory(id.clone());
                    return Ok(Some((name, Place::Vault { vault, entry, node })));
                }
                // Under this name somebody has made another one.
                _ => {}
            }
        }
        Err(DriveError::Exists)
    }
}

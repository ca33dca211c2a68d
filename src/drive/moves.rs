//! Directories of a vault that were moved: whether the way to their new place still leads there.
//!
//! Where a directory of a vault lies says the node that names it, and its content stays where it is. So two machines can move two directories
//! into each other: each move is right by itself, and together they make a circle that no way leads to. After a move the way from the vault's
//! own directory to the new place is looked at afresh. Where it does not lead there any more, the move is undone: of two at least one notices.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use scaup_crypto::DirectoryId;
use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::error::DriveError;
use super::found::{Directory, Found, Place, cleartext_name};
use super::location::conflict_names;
use super::tree::Nodes;
use super::vault::{DIRECTORY_ID_MAX, Entry, VaultDirectory, VaultNode, part};
use crate::remote::{RemoteError, RemotePath, RenameHow};

/// How often a way that can't be looked at is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A directory that was moved in a vault.
pub(super) struct Moved {
    pub(super) inode: Inode,
    /// Where it was.
    pub(super) from: (Inode, OsString, VaultDirectory),
    /// Where it is.
    pub(super) to: (Inode, VaultDirectory),
    pub(super) entry: Entry,
    pub(super) node: VaultNode,
}

impl Nodes<'_> {
    /// The files that name the directories from `inode` up to its vault's own, and the ids that they have to hold.
    fn way_in_vault(&self, inode: Inode) -> Result<Vec<(RemotePath, DirectoryId)>, DriveError> {
        let mut way = Vec::new();
        let mut at = inode;
        while let Place::Vault { entry, node: VaultNode::Directory(id), .. } = &self.get(at)?.place {
            let parent = self.get(at)?.parent;
            let Directory::Vault(around) = self.directory(parent)? else { break };
            way.push((around.content().join(&entry.name).join(&part("dir.c9r")), id.clone()));
            at = parent;
        }
        Ok(way)
    }
}

impl Drive {
    /// Fails if the way to the place where a directory was moved does not lead there any more: then the directory is back where it was.
    pub(super) async fn check_move(&self, moved: Moved) -> Result<(), DriveError> {
        match self.settle_move(&moved).await {
            Err(error) if error.is_unanswered() => {
                // The move may be right: nobody knows before the server is back.
                let drive = self.me.upgrade().ok_or(DriveError::Stale)?;
                tokio::spawn(drive.settle_move_later(moved));
                Err(error)
            }
            settled => settled,
        }
    }

    async fn settle_move_later(self: Arc<Self>, moved: Moved) {
        let me = Arc::downgrade(&self);
        drop(self);
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Some(drive) = me.upgrade() else { return };
            let _paths = drive.hold_paths([moved.inode, moved.from.0, moved.to.0]).await;
            match drive.settle_move(&moved).await {
                Err(error) if error.is_unanswered() => {}
                Err(error) => return drive.report(moved.inode, "not_moved", &error),
                Ok(()) => return,
            }
        }
    }

    async fn settle_move(&self, moved: &Moved) -> Result<(), DriveError> {
        if self.leads_there(moved.to.0).await? {
            return Ok(());
        }
        // What was believed of the way is old.
        self.forget_way(moved.to.0);
        self.undo_move(moved).await?;
        Err(DriveError::NotFound)
    }

    /// Whether the server names each directory from `inode` up to its vault's own as this mount believes.
    async fn leads_there(&self, inode: Inode) -> Result<bool, DriveError> {
        let way = self.tree.lock().way_in_vault(inode)?;
        let looks = way.iter().map(|(path, id)| async move {
            match self.remote.read_small(path, DIRECTORY_ID_MAX).await {
                Ok(named) => Ok(*named == *id.as_bytes()),
                Err(RemoteError::NotFound | RemoteError::NotADirectory) => Ok(false),
                Err(error) => Err(error),
            }
        });
        Ok(try_join_all(looks).await?.into_iter().all(|leads| leads))
    }

    /// Has every directory from `inode` up looked at anew.
    fn forget_way(&self, inode: Inode) {
        let above = self.tree.lock().above(inode);
        for inode in above {
            self.expire_listed(inode);
            let (parent, name) = {
                let mut nodes = self.tree.lock();
                let Ok(node) = nodes.get_mut(inode) else { continue };
                node.doubt_names();
                (node.parent, node.name.clone())
            };
            if let Some(invalidate) = self.invalidate.get() {
                invalidate.entry(parent, &name);
            }
        }
        self.listings.clear();
        self.forget_all_opened();
    }

    /// Moves a directory back to where it was. Where that is gone, too, or no way leads there, it comes to the vault's own directory: that is always
    /// within reach. What somebody else has moved on stays there.
    async fn undo_move(&self, moved: &Moved) -> Result<(), DriveError> {
        let Moved { inode, from: (parent, name, from), to: (_, to), entry, .. } = moved;
        let (mut entry, mut to) = (entry.clone(), to.clone());
        let mut back = vec![self.vault_around_directory(*parent)?];
        if self.leads_there(*parent).await? {
            back.push((*parent, from.clone()));
        }
        while let Some((parent, around)) = back.pop() {
            match self.move_back(moved, (&to, &entry), &around, name).await? {
                Some((moved_to, name)) => {
                    let put = Place::Vault {
                        vault: Arc::clone(&from.vault),
                        entry: moved_to.clone(),
                        node: moved.node.clone(),
                    };
                    self.put_back(*inode, parent, &name, put)?;
                    if self.leads_there(parent).await? {
                        return Ok(());
                    }
                    (entry, to) = (moved_to, around);
                }
                // It is the place where it was that is gone.
                None if self.remote.stat(&to.content().join(&entry.name)).await.is_ok() => {}
                None => return Ok(()),
            }
        }
        Err(DriveError::NotFound)
    }

    /// Moves a directory from one place to another, under the name that it had or beside what has that. `None` if one of both is gone.
    async fn move_back(
        &self,
        moved: &Moved,
        (to, entry): (&VaultDirectory, &Entry),
        around: &VaultDirectory,
        name: &OsStr,
    ) -> Result<Option<(Entry, OsString)>, DriveError> {
        for name in std::iter::once(name.to_owned()).chain(conflict_names(name)) {
            let back = cleartext_name(&name)?;
            match around.move_here(self.remote.as_ref(), to, entry, &moved.node, &back, RenameHow::New).await
            {
                Ok(entry) => return Ok(Some((entry, name))),
                Err(error) if error.is_exists() => {}
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Err(DriveError::Exists)
    }

    /// The own directory of the vault around a directory.
    fn vault_around_directory(&self, inode: Inode) -> Result<(Inode, VaultDirectory), DriveError> {
        let nodes = self.tree.lock();
        let mut at = inode;
        while matches!(nodes.get(at)?.place, Place::Vault { .. }) {
            at = nodes.get(at)?.parent;
        }
        match nodes.directory(at)? {
            Directory::Vault(directory) => Ok((at, directory)),
            Directory::Plain(_) => Err(DriveError::Stale),
        }
    }

    fn put_back(&self, inode: Inode, parent: Inode, name: &OsStr, place: Place) -> Result<(), DriveError> {
        let mut nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        let (old_parent, old_name) = (node.parent, node.name.clone());
        let found = Found { name: name.to_owned(), attributes: node.attributes, place: place.clone() };
        nodes.rename(inode, parent, name, place)?;
        self.note_name(&mut nodes, old_parent, &old_name, None);
        self.note_name(&mut nodes, parent, name, Some(found));
        Ok(())
    }
}

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

    /// Moves a directory back to where it was, or beside what has that name by now. What somebody else has moved on stays there.
    async fn undo_move(&self, moved: &Moved) -> Result<(), DriveError> {
        let Moved { inode, from: (parent, name, from), to: (_, to), entry, node } = moved;
        for name in std::iter::once(name.clone()).chain(conflict_names(name)) {
            let back = cleartext_name(&name)?;
            match from.move_here(self.remote.as_ref(), to, entry, node, &back, RenameHow::New).await {
                Ok(entry) => {
                    let place = Place::Vault { vault: Arc::clone(&from.vault), entry, node: node.clone() };
                    return self.put_back(*inode, *parent, &name, place);
                }
                Err(error) if error.is_exists() => {}
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(DriveError::Exists)
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

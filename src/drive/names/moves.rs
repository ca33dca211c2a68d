//! Directories of a vault that were moved: checking that the path to their new place still leads there.
//!
//! The node that names a directory of a vault decides where it lies, and its content stays in place. So two machines
//! can move two directories into each other: each move is right by itself, and together they make a circle that no path
//! leads to. After a move the path from the vault's own directory to the new place is checked again. If it does not
//! lead there any more, the move is undone: of two machines at least one notices.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use scaup_crypto::DirectoryId;
use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::places::directory::Directory;
use crate::drive::places::place::{Found, Place};
use crate::drive::tree::Nodes;
use crate::remote::{RemoteError, RemotePath, RenameHow};
use crate::vault::{DIRECTORY_ID_MAX, Entry, VaultDirectory, VaultNode, cleartext_name, conflict_names};

/// How often a failed check of a path is retried.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A directory that was moved in a vault.
pub(super) struct Moved {
    pub(super) inode: Inode,
    /// Its old place.
    pub(super) from: (Inode, OsString, VaultDirectory),
    /// Its new place.
    pub(super) to: (Inode, VaultDirectory),
    pub(super) entry: Entry,
    pub(super) node: VaultNode,
}

impl Nodes<'_> {
    /// Returns the files that name the directories from `inode` up to its vault's own, and the ids they have to hold.
    fn way_in_vault(&self, inode: Inode) -> Result<Vec<(RemotePath, DirectoryId)>, DriveError> {
        let mut way = Vec::new();
        let mut at = inode;
        while let Place::Vault { entry, node: VaultNode::Directory(id), .. } = self.get(at)?.place() {
            let parent = self.get(at)?.parent();
            let Directory::Vault(around) = self.directory(parent)? else { break };
            way.push((around.path_of(entry), id.clone()));
            at = parent;
        }
        Ok(way)
    }
}

impl Drive {
    /// Fails if the path to the place where a directory was moved does not lead there any more: then the directory is
    /// back where it was.
    pub(super) async fn check_move(&self, moved: Moved) -> Result<(), DriveError> {
        match self.settle_move(&moved).await {
            Err(error) if error.is_unanswered() => {
                // The move may be right: the outcome is unknown until the server is back.
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
        if self.leads_for_certain(moved.to.0).await? {
            return Ok(());
        }
        // What was believed of the path is out of date.
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

    /// Like [`Self::leads_there`]; a directory that has left the tree meanwhile leads nowhere.
    async fn leads_for_certain(&self, inode: Inode) -> Result<bool, DriveError> {
        match self.leads_there(inode).await {
            Err(error) if !error.is_unanswered() => Ok(false),
            leads => leads,
        }
    }

    /// Has every directory from `inode` up looked up again.
    fn forget_way(&self, inode: Inode) {
        let above = self.tree.lock().above(inode);
        for inode in above {
            self.expire_listed(inode);
            let (parent, name) = {
                let mut nodes = self.tree.lock();
                let Ok(node) = nodes.get_mut(inode) else { continue };
                node.names.doubt();
                node.parent_and_name()
            };
            if let Some(invalidate) = self.invalidate.get() {
                invalidate.entry(parent, &name);
            }
        }
        self.listings.clear();
        self.forget_all_opened();
    }

    /// Moves a directory back to where it was. If that is gone, too, or no path leads there, it is moved to the vault's
    /// own directory, which is always within reach. A directory that somebody else has moved on stays there.
    async fn undo_move(&self, moved: &Moved) -> Result<(), DriveError> {
        let Moved { inode, from: (parent, name, from), to: (_, to), entry, .. } = moved;
        let (mut entry, mut to) = (entry.clone(), to.clone());
        let mut back = vec![(self.vault_around(*parent), from.root_directory())];
        if self.leads_for_certain(*parent).await? {
            back.push((Some(*parent), from.clone()));
        }
        while let Some((parent, around)) = back.pop() {
            match self.move_back(moved, (&to, &entry), &around, name).await? {
                Some((moved_to, name)) => {
                    let put = Place::Vault {
                        vault: Arc::clone(&from.vault),
                        entry: moved_to.clone(),
                        node: moved.node.clone(),
                    };
                    let leads = match parent {
                        Some(parent) => {
                            let noted = self.put_back(*inode, parent, &name, put);
                            noted.is_ok() && self.leads_for_certain(parent).await?
                        }
                        None => false,
                    };
                    if leads || around.is_root() {
                        return Ok(());
                    }
                    (entry, to) = (moved_to, around);
                }
                // The old place is gone, not the directory.
                None if self.remote.stat(&to.path_of(&entry)).await.is_ok() => {}
                None => return Ok(()),
            }
        }
        Err(DriveError::NotFound)
    }

    /// Moves a directory from one place to another, under its old name or beside a node that has that name. `None` if
    /// either is gone.
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
                Err(error) => return Err(error.into()),
            }
        }
        Err(DriveError::Exists)
    }

    /// Returns the own directory of the vault around a directory, if both are in the tree.
    fn vault_around(&self, inode: Inode) -> Option<Inode> {
        let nodes = self.tree.lock();
        let mut at = inode;
        while matches!(nodes.get(at).ok()?.place(), Place::Vault { .. }) {
            at = nodes.get(at).ok()?.parent();
        }
        Some(at)
    }

    fn put_back(&self, inode: Inode, parent: Inode, name: &OsStr, place: Place) -> Result<(), DriveError> {
        let mut nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        let (old_parent, old_name) = node.parent_and_name();
        let found =
            Found { name: name.to_owned(), attributes: node.attributes.current(), place: place.clone() };
        nodes.rename(inode, parent, name, place)?;
        self.record_name_change(&mut nodes, old_parent, &old_name, None);
        self.record_name_change(&mut nodes, parent, name, Some(found));
        Ok(())
    }
}

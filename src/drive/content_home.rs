//! The drive as the home of its files' content: it implements what `content/home.rs` asks for.

use std::ffi::{OsStr, OsString};

use async_trait::async_trait;
use scaup_crypto::CleartextLen;
use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::content::chunks::ContentId;
use super::content::home::{Hold, Home, Resources};
use super::content::location::Location;
use super::content::state::Base;
use super::error::DriveError;
use super::places::place::Place;
use crate::remote::{RemoteAttributes, RemotePath};

#[async_trait]
impl Home for Drive {
    fn resources(&self) -> &Resources {
        &self.content
    }

    fn location(&self, inode: Inode) -> Result<Location, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        // Open content keeps its place though somebody else took its name: saving it there meets theirs.
        if node.is_detached() && node.file().is_none_or(|file| file.is_unlinked()) {
            return Err(DriveError::Stale);
        }
        Location::new(nodes.directory(node.parent())?, node.name(), Some(node.place()))
    }

    fn name_of(&self, inode: Inode) -> Result<OsString, DriveError> {
        Ok(self.tree.lock().get(inode)?.name().to_owned())
    }

    fn mode_of(&self, inode: Inode) -> Result<u16, DriveError> {
        Ok(self.tree.lock().get(inode)?.attributes.current().mode)
    }

    fn is_open(&self, inode: Inode) -> bool {
        self.tree.lock().get(inode).is_ok_and(|node| node.kernel.handles() > 0)
    }

    async fn hold_path(&self, inode: Inode) -> Hold<'_> {
        Box::new(self.hold_paths([inode]).await)
    }

    async fn check_room(&self, inode: Inode, needed: u64) -> Result<(), DriveError> {
        /// Below this a check is not worth a round trip: the write itself will tell.
        const WORTH_A_LOOK: u64 = 1024 * 1024;
        if needed < WORTH_A_LOOK {
            return Ok(());
        }
        self.removals.all_done().await;
        let path = self.tree.lock().plain_path_around(inode);
        match self.remote.statistics(&path).await {
            Ok(room) if room.blocks_available.saturating_mul(room.block_size) < needed => {
                Err(DriveError::NoSpace)
            }
            _ => Ok(()),
        }
    }

    fn names_change(&self, directory: RemotePath) {
        self.off_disk.add(directory);
    }

    fn published(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        if let Ok(parent) = nodes.get(inode).map(|node| node.parent())
            && let Ok(above) = nodes.get_mut(parent)
        {
            above.names.record_making_allowed(true);
        }
    }

    fn saved(&self, inode: Inode, attributes: RemoteAttributes, length: CleartextLen, content: ContentId) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get_mut(inode) else { return };
        let base = Base::from(attributes);
        node.attributes.believe_saved(RemoteAttributes { size: length.0, ..attributes });
        node.openings.remember_content(content, base);
        let found = node.as_found();
        let (parent, name) = node.parent_and_name();
        let is_there_again = nodes.mark_present(inode);
        self.believe_name(&mut nodes, parent, &name, Some(found));
        drop(nodes);
        self.look_for_asides(parent);
        self.forget_unsaved(inode);
        // The kernel may have been told that there is no such name.
        if is_there_again && let Some(invalidate) = self.invalidate.get() {
            invalidate.entry(parent, &name);
        }
    }

    fn conflicted(&self, inode: Inode, copy: &OsStr, place: Place) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get(inode) else { return };
        let (parent, name) = node.parent_and_name();
        let shown = nodes.shown_path(inode);
        // If that fails there is no such node any more, and nothing to show under the new name.
        let _ = nodes.rename(inode, parent, copy, place);
        drop(nodes);
        self.tell_conflict((parent, &name), &shown, copy);
    }

    fn sealed_saved(&self, inode: Inode) {
        self.forget_unsaved(inode);
    }

    fn sealed_conflicted(&self, vault: &RemotePath) {
        self.tell_sealed_conflict(vault);
    }

    async fn make_way_again(&self, inode: Inode) -> Result<(), DriveError> {
        self.make_directories_again(inode).await
    }

    async fn put_way_on_disk(&self, inode: Inode) -> Result<(), DriveError> {
        self.put_names_above_on_disk(inode).await
    }
}

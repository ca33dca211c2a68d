//! Nodes that the server did not have when it was asked: somebody else removed them, while something in them may be
//! open here.

use scaup_fuse::filesystem::Inode;

use super::Nodes;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::displacement::Displacement;
use crate::vault::conflict_names;

impl Nodes<'_> {
    /// Marks a node that the server did not have under its name when it was asked. An open file keeps its name
    /// nevertheless: if a program writes to it, the file is made again.
    pub(in crate::drive) fn mark_missing(&mut self, inode: Inode, asked: Moment) {
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return };
        if node.is_unsaved() || node.attributes.know_better_than(asked) {
            return;
        }
        if self.leads_to_binding(inode) {
            self.displace(inode, Displacement::Missing);
            return;
        }
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return };
        let is_open = node.file().is_some_and(|file| !file.is_unlinked());
        if is_open || self.has_file_below(inode) {
            if let Some(node) = self.nodes_mut().get_mut(&inode) {
                node.mark_missing();
            }
        } else {
            self.detach(inode);
        }
    }

    /// Puts back the directories around a node that have left the tree: somebody looked for them while the node was
    /// being made. They are marked as missing; if another node has the name by now, a directory gets a name beside it,
    /// which nobody looks up.
    pub(in crate::drive) fn keep_way(&mut self, inode: Inode) -> Result<(), DriveError> {
        for at in self.above(inode).into_iter().skip(1) {
            let node = self.get(at)?;
            if !node.is_detached() {
                continue;
            }
            let (parent, name) = node.parent_and_name();
            let above = self.get(parent)?;
            let names = std::iter::once(name.clone()).chain(conflict_names(&name));
            let mut free = names.filter(|name| !above.children().contains_key(name));
            let name = free.next().ok_or(DriveError::Exists)?;
            self.get_mut(parent)?.add_child(name.clone(), at);
            let node = self.get_mut(at)?;
            node.regain_name(name);
            node.mark_missing();
        }
        Ok(())
    }

    /// Whether a file below a directory is open or unsaved.
    fn has_file_below(&self, inode: Inode) -> bool {
        let mut waiting = vec![inode];
        while let Some(at) = waiting.pop() {
            let Some(node) = self.nodes().get(&at) else { continue };
            if node.file().is_some() {
                return true;
            }
            waiting.extend(node.children().values());
        }
        false
    }

    /// Marks a node that the server has under its name, which the node may have lost. Returns whether it was missing or
    /// had lost its name, and has it again.
    pub(in crate::drive) fn mark_present(&mut self, inode: Inode) -> bool {
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return false };
        let was_missing = node.mark_present();
        if !node.is_detached() {
            return was_missing;
        }
        let (parent, name) = node.parent_and_name();
        let above = self.nodes_mut().get_mut(&parent).filter(|above| !above.children().contains_key(&name));
        let Some(above) = above else { return false };
        above.add_child(name.clone(), inode);
        if let Some(node) = self.nodes_mut().get_mut(&inode) {
            node.regain_name(name);
        }
        true
    }
}

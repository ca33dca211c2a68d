//! Nodes that the server did not have when it was asked: somebody else removed them, while something of them may be open here.

use std::time::Instant;

use scaup_fuse::filesystem::Inode;

use super::bindings::Displacement;
use super::tree::Nodes;

impl Nodes<'_> {
    /// The server did not have the node under its name when it was asked then. What is open keeps its name all the same: if a program
    /// writes to it, it is there again.
    pub(super) fn note_missing(&mut self, inode: Inode, asked: Instant) {
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return };
        if node.is_unsaved() || node.knows_better_than(asked) {
            return;
        }
        if self.leads_to_binding(inode) {
            self.displace(inode, Displacement::Missing);
            return;
        }
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return };
        let is_open = node.file.as_ref().is_some_and(|file| !file.is_unlinked());
        if is_open || self.has_file_below(inode) {
            if let Some(node) = self.nodes_mut().get_mut(&inode) {
                node.missing = true;
                node.fetched = None;
            }
        } else {
            self.detach(inode);
        }
    }

    /// Whether something in a directory is open or unsaved.
    fn has_file_below(&self, inode: Inode) -> bool {
        let mut waiting = vec![inode];
        while let Some(at) = waiting.pop() {
            let Some(node) = self.nodes().get(&at) else { continue };
            if node.file.is_some() {
                return true;
            }
            waiting.extend(node.children.values());
        }
        false
    }

    /// The server has the node under its name, which it may have lost. Answers whether it had, and has it again.
    pub(super) fn note_there(&mut self, inode: Inode) -> bool {
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return false };
        let was_missing = std::mem::take(&mut node.missing);
        if !node.detached {
            return was_missing;
        }
        let (parent, name) = (node.parent, node.name.clone());
        let Some(above) =
            self.nodes_mut().get_mut(&parent).filter(|above| !above.children.contains_key(&name))
        else {
            return false;
        };
        above.children.insert(name, inode);
        if let Some(node) = self.nodes_mut().get_mut(&inode) {
            node.detached = false;
        }
        true
    }
}

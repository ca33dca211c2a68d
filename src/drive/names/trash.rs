//! Trash directories beside vaults are neither shown nor made.
//!
//! Desktop programs move deleted files to a trash directory at the top of the file system (freedesktop.org's Trash
//! specification: `.Trash/UID` and `.Trash-UID`), after writing there the old name and path of each file. At the top of
//! a mount that would be in clear on the server, for files of vaults as for others. Where there is no trash directory,
//! and none can be made, desktops offer to delete for good. A trash directory in a vault is as safe as the rest of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::drive::tree::Nodes;

/// The prefix of every trash directory's name, and the name of one that all users share.
pub(super) const TRASH: &str = ".Trash";

/// Whether desktops take a directory of this name for a trash directory.
pub(in crate::drive) fn is_trash(name: &OsStr) -> bool {
    name == TRASH || name.as_bytes().starts_with(b".Trash-")
}

impl Drive {
    /// Whether a name in `directory` is that of a trash directory beside a vault, or lies in one.
    pub(super) fn is_in_trash(&self, directory: Inode, name: &OsStr) -> bool {
        let trashes: Vec<Inode> = {
            let nodes = self.tree.lock();
            let own = is_trash(name).then_some(directory);
            let above = nodes.above(directory).into_iter().filter_map(|inode| {
                let node = nodes.get(inode).ok()?;
                is_trash(node.name()).then_some(node.parent())
            });
            own.into_iter().chain(above).collect()
        };
        if trashes.is_empty() {
            return false;
        }
        let vaults = self.met_vaults();
        let nodes = self.tree.lock();
        trashes.into_iter().any(|directory| is_plain_above(&nodes, directory, &vaults))
    }
}

/// Whether a directory that is no part of an unlocked vault has one of these vaults below it.
fn is_plain_above(nodes: &Nodes<'_>, directory: Inode, vaults: &[Inode]) -> bool {
    let is_plain = nodes.get(directory).is_ok_and(|node| !node.is_in_vault());
    // All vaults of a mount lie below its root, including those whose place on the server is not known any more.
    is_plain
        && vaults.iter().any(|&vault| directory == Inode::ROOT || nodes.above(vault).contains(&directory))
}

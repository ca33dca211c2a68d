//! Has the kernel drop names in vaults that it remembers under other Unicode forms than they are kept in. Which names
//! it may remember is decided in `tree/forms.rs`.

use std::ffi::{OsStr, OsString};

use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::drive::places::directory::Directory;
use crate::drive::tree::forms::{in_vault, may_keep};
use crate::remote::RemoteKind;

impl Drive {
    fn is_vault(&self, directory: Inode) -> bool {
        matches!(self.tree.directory(directory), Ok(Directory::Vault(_)))
    }

    /// Returns a name as the drive keeps it: in vaults in NFC, whatever form was asked for.
    pub(in crate::drive) fn kept_name(&self, parent: Inode, name: &OsStr) -> OsString {
        if self.is_vault(parent) { in_vault(name) } else { name.to_owned() }
    }

    /// Whether the kernel may remember what this name in a directory stands for.
    pub(in crate::drive) fn kernel_may_keep(&self, parent: Inode, name: &OsStr) -> bool {
        name.is_ascii() || may_keep(name) || !self.is_vault(parent)
    }

    /// Invalidates a name in NFC in the kernel that was changed under another form. The kernel rarely remembers such a
    /// name: only single characters that stand for another one have such forms.
    pub(in crate::drive) fn drop_other_form(&self, parent: Inode, asked: &OsStr) {
        let kept = self.kept_name(parent, asked);
        if kept != asked
            && may_keep(&kept)
            && let Some(invalidate) = self.invalidate.get()
        {
            invalidate.entry(parent, &kept);
        }
    }

    /// Records the form of its name under which a node was renamed. The kernel would keep the new name for as long as
    /// the old one, so the new name is invalidated, which takes effect when the rename is over. A directory has only
    /// one name in the kernel, the one that was last asked for.
    pub(in crate::drive) fn record_renamed_form(&self, parent: Inode, asked: &OsStr) {
        let (kept, may_keep) = (self.kept_name(parent, asked), self.kernel_may_keep(parent, asked));
        let mut nodes = self.tree.lock();
        nodes.record_asked_form(parent, asked);
        let child = nodes.child(parent, &kept).and_then(|inode| nodes.get(inode).ok());
        let is_directory = child.is_some_and(|child| child.kind() == RemoteKind::Directory);
        drop(nodes);
        if !may_keep
            && !is_directory
            && let Some(invalidate) = self.invalidate.get()
        {
            invalidate.entry(parent, asked);
        }
    }
}

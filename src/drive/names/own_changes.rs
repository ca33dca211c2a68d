//! What this mount changed is entered into everything that remembers names: the tree, listings under way, files opened
//! ahead, and the kernel.

use std::ffi::OsStr;

use scaup_fuse::filesystem::Inode;

use crate::drive::Drive;
use crate::drive::places::place::Found;
use crate::drive::tree::Nodes;
use crate::remote::RemotePath;

impl Drive {
    /// Records that this mount added or removed a name. The directory around it is to be put on the server's disk.
    pub(in crate::drive) fn record_name_change(
        &self,
        nodes: &mut Nodes<'_>,
        parent: Inode,
        name: &OsStr,
        found: Option<Found>,
    ) {
        if let Ok(directory) = nodes.directory(parent) {
            self.off_disk.add(directory.path());
        }
        self.believe_name(nodes, parent, name, found);
    }

    /// Records what this mount knows of a name, the newest there is: everything else known of the directory stays true.
    pub(in crate::drive) fn believe_name(
        &self,
        nodes: &mut Nodes<'_>,
        parent: Inode,
        name: &OsStr,
        found: Option<Found>,
    ) {
        nodes.believe_name(parent, name, found);
        if let Ok(directory) = nodes.directory(parent) {
            self.listings.forget(&directory.path());
        }
        self.forget_opened(parent, name);
    }

    /// Forgets content opened in advance under a name: this mount changed what has that name.
    pub(in crate::drive) fn forget_opened(&self, parent: Inode, name: &OsStr) {
        self.open_ahead.forget(parent, name);
        self.kept_open.forget(parent, name);
    }

    /// Forgets all content opened in advance: places were moved, or a vault was locked.
    pub(in crate::drive) fn forget_all_opened(&self) {
        self.open_ahead.clear();
        self.kept_open.clear();
    }

    /// Has the name that somebody else took looked up again, and tells the user where our version is.
    pub(in crate::drive) fn tell_conflict(
        &self,
        (parent, name): (Inode, &OsStr),
        shown: &OsStr,
        copy: &OsStr,
    ) {
        if let Ok(above) = self.tree.lock().get_mut(parent) {
            above.names.drop_listing();
        }
        if let Some(invalidate) = self.invalidate.get() {
            invalidate.entry(parent, name);
        }
        self.record(
            parent,
            "conflict",
            format!(
                "{} was changed on the server meanwhile; your version was kept as {}",
                shown.display(),
                copy.display()
            ),
        );
    }

    /// Tells that a file of a vault that was locked is there twice.
    pub(in crate::drive) fn tell_sealed_conflict(&self, vault: &RemotePath) {
        let shown = String::from_utf8_lossy(vault.as_bytes()).into_owned();
        self.record(
            Inode::ROOT,
            "conflict",
            format!(
                "{shown}: a file that was unsaved when this vault was locked was changed on the server meanwhile, or was only half written; your version was kept beside it as a conflicted copy"
            ),
        );
    }
}

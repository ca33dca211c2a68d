//! The Unicode forms of a name in a vault.
//!
//! A vault keeps names in NFC, and finds them under any form that is brought into it. The kernel knows nothing of that: it remembers
//! each form that was asked for as a name of its own, and a change under one form leaves what it remembers of the others. Having it drop
//! those would come too late: it drops a name only when the change in that directory is over, and the program goes on at once. So it
//! is not allowed to keep such names: it asks for them each time, and is answered from memory for as long as it would have kept them.
//!
//! A listing shows the form by which a name was last made or asked for. A program that synchronizes by names (`rsync --delete`) and
//! brings decomposed ones takes a composed one for another file: it would find its own as up to date, and remove it under the other
//! form. This is safe for programs that go by what is listed: the form changes only when a program asks for another one, whoever asks
//! for what was listed leaves it as it is, and each form finds the file all the same.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Weak};

use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::found::{Directory, cleartext_name};
use super::tree::Nodes;
use super::vault::UnlockedVault;
use crate::remote::RemoteKind;

/// A name in a vault as the drive keeps it.
fn in_vault(name: &OsStr) -> OsString {
    cleartext_name(name).map_or_else(|_| name.to_owned(), |name| OsString::from(name.as_str()))
}

/// Whether the kernel may remember what this name in a vault stands for: no change under another form of it is to be expected.
pub(super) fn may_keep(name: &OsStr) -> bool {
    cleartext_name(name).is_ok_and(|kept| kept.as_str() == name && !kept.has_other_forms())
}

impl Drive {
    fn is_vault(&self, directory: Inode) -> bool {
        matches!(self.tree.directory(directory), Ok(Directory::Vault(_)))
    }

    /// A name as the drive keeps it: in vaults in NFC, whatever form was asked for.
    pub(super) fn kept_name(&self, parent: Inode, name: &OsStr) -> OsString {
        if self.is_vault(parent) { in_vault(name) } else { name.to_owned() }
    }

    /// Whether the kernel may remember what this name in a directory stands for.
    pub(super) fn kernel_may_keep(&self, parent: Inode, name: &OsStr) -> bool {
        name.is_ascii() || may_keep(name) || !self.is_vault(parent)
    }

    /// What the kernel remembers of a name in NFC has changed under another form of it. That it remembers any is rare: such forms are
    /// single characters that stand for another one.
    pub(super) fn drop_other_form(&self, parent: Inode, asked: &OsStr) {
        let kept = self.kept_name(parent, asked);
        if kept != asked
            && may_keep(&kept)
            && let Some(invalidate) = self.invalidate.get()
        {
            invalidate.entry(parent, &kept);
        }
    }

    /// Notes by which form of its name a node was renamed. The kernel goes on believing for as long as it would have under the old name,
    /// and drops that as soon as the renaming is over. A directory it remembers under one name only, that which was last asked for.
    pub(super) fn note_renamed(&self, parent: Inode, asked: &OsStr) {
        let (kept, may_keep) = (self.kept_name(parent, asked), self.kernel_may_keep(parent, asked));
        let mut nodes = self.tree.lock();
        nodes.note_asked(parent, asked);
        let child = nodes.child(parent, &kept).and_then(|inode| nodes.get(inode).ok());
        let is_directory = child.is_some_and(|child| child.attributes.kind == RemoteKind::Directory);
        drop(nodes);
        if !may_keep
            && !is_directory
            && let Some(invalidate) = self.invalidate.get()
        {
            invalidate.entry(parent, asked);
        }
    }
}

/// The forms by which names in vaults were last made or asked for, where that is not the one that the vault keeps. Those that were not
/// asked for longest are forgotten: their names are listed in NFC then.
#[derive(Default)]
pub(super) struct Forms {
    new: HashMap<(Inode, OsString), Form>,
    old: HashMap<(Inode, OsString), Form>,
}

struct Form {
    name: Box<OsStr>,
    vault: Weak<UnlockedVault>,
}

impl Forms {
    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    /// The other form by which a name in a directory was last asked for.
    pub(super) fn other(&self, parent: Inode, kept: &OsStr) -> Option<&OsStr> {
        if self.is_empty() {
            return None;
        }
        let key = (parent, kept.to_owned());
        self.new.get(&key).or_else(|| self.old.get(&key)).map(|form| form.name.as_ref())
    }

    fn note(&mut self, (parent, kept): (Inode, OsString), form: Option<Form>) {
        /// Forms that are remembered at least: a directory of 5,000 files is listed as it was asked for.
        const FORMS_MIN: usize = 8 * 1024;
        let key = (parent, kept);
        self.old.remove(&key);
        let Some(form) = form else {
            self.new.remove(&key);
            return;
        };
        if self.new.len() >= FORMS_MIN {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, form);
    }

    /// Forgets the names in a vault that was locked.
    pub(super) fn forget_those_of(&mut self, vault: &Arc<UnlockedVault>) {
        for forms in [&mut self.new, &mut self.old] {
            forms.retain(|_, form| !std::ptr::eq(form.vault.as_ptr(), Arc::as_ptr(vault)));
        }
    }
}

impl Nodes<'_> {
    /// Notes by which form a name was made or asked for.
    pub(super) fn note_asked(&mut self, parent: Inode, asked: &OsStr) {
        if asked.is_ascii() && self.forms().is_empty() {
            return;
        }
        let Ok(Directory::Vault(directory)) = self.directory(parent) else { return };
        let kept = in_vault(asked);
        let form = Form { name: asked.into(), vault: Arc::downgrade(&directory.vault) };
        let form = (kept != asked).then_some(form);
        self.forms_mut().note((parent, kept), form);
    }

    /// The form in which a listing shows a name.
    pub(super) fn listed_name(&self, parent: Inode, kept: &OsStr) -> OsString {
        self.forms().other(parent, kept).unwrap_or(kept).to_owned()
    }
}

//! The Unicode forms of a name in a vault.
//!
//! A vault keeps names in NFC, and finds them under any form that normalizes to it. The kernel knows nothing of that:
//! it remembers each form that was asked for as a separate name, and a change under one form leaves what it remembers
//! of the others. Invalidating those would come too late: the kernel drops a name only when the change in that
//! directory is over, and the program goes on at once. So the kernel may not keep such names: it asks for them each
//! time, and gets a reply from memory for as long as it would have kept them.
//!
//! A listing shows the form by which a name was last made or asked for. A program that synchronizes by names
//! (`rsync --delete`) and brings decomposed ones takes a composed one for another file: it would find its own as up to
//! date, and remove it under the other form. This is safe for programs that go by the listing: the form changes only
//! when a program asks for another one, a request for the listed form leaves it as it is, and each form finds the file
//! nevertheless.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Weak};

use scaup_fuse::filesystem::Inode;

use super::Nodes;
use crate::drive::places::directory::Directory;
use crate::vault::{UnlockedVault, cleartext_name};

/// Returns a name in a vault as the drive keeps it.
pub(in crate::drive) fn in_vault(name: &OsStr) -> OsString {
    cleartext_name(name).map_or_else(|_| name.to_owned(), |name| OsString::from(name.as_str()))
}

/// Whether the kernel may remember what this name in a vault stands for: no change under another form of it is
/// expected.
pub(in crate::drive) fn may_keep(name: &OsStr) -> bool {
    cleartext_name(name).is_ok_and(|kept| kept.as_str() == name && !kept.has_other_forms())
}

/// The forms by which names in vaults were last made or asked for, where that is not the form that the vault keeps. The
/// least recently used ones are forgotten: their names are listed in NFC then.
#[derive(Default)]
pub(in crate::drive) struct Forms {
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

    /// Returns the other form by which a name in a directory was last asked for.
    pub(super) fn other(&self, parent: Inode, kept: &OsStr) -> Option<&OsStr> {
        if self.is_empty() {
            return None;
        }
        let key = (parent, kept.to_owned());
        self.new.get(&key).or_else(|| self.old.get(&key)).map(|form| form.name.as_ref())
    }

    /// Remembers the other form by which a name in a directory was asked for, or (`None`) that it was the kept one.
    fn remember(&mut self, (parent, kept): (Inode, OsString), form: Option<Form>) {
        /// Fewest forms that are remembered: a directory of 5,000 files is listed as it was asked for.
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
    pub(in crate::drive) fn forget_those_of(&mut self, vault: &Arc<UnlockedVault>) {
        for forms in [&mut self.new, &mut self.old] {
            forms.retain(|_, form| !std::ptr::eq(form.vault.as_ptr(), Arc::as_ptr(vault)));
        }
    }
}

impl Nodes<'_> {
    /// Records the form by which a name was made or asked for.
    pub(in crate::drive) fn record_asked_form(&mut self, parent: Inode, asked: &OsStr) {
        if asked.is_ascii() && self.forms().is_empty() {
            return;
        }
        let Ok(Directory::Vault(directory)) = self.directory(parent) else { return };
        let kept = in_vault(asked);
        let form = Form { name: asked.into(), vault: Arc::downgrade(&directory.vault) };
        let form = (kept != asked).then_some(form);
        self.forms_mut().remember((parent, kept), form);
    }

    /// Returns the form in which a listing shows a name.
    pub(in crate::drive) fn listed_name(&self, parent: Inode, kept: &OsStr) -> OsString {
        self.forms().other(parent, kept).unwrap_or(kept).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eight_thousand_forms_are_remembered() {
        let mut forms = Forms::default();
        let key = |number: u32| (Inode::ROOT, OsString::from(format!("\u{e9} {number}")));
        for number in 0..40_000 {
            let name = OsString::from(format!("e\u{301} {number}")).into_boxed_os_str();
            forms.remember(key(number), Some(Form { name, vault: Weak::new() }));
            let oldest = key(number.saturating_sub(7_999)).1;
            assert!(forms.other(Inode::ROOT, &oldest).is_some(), "{number}");
        }
        assert!(forms.other(Inode::ROOT, &key(0).1).is_none(), "memory is bounded");
    }
}

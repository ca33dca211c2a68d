//! One node of the mount: a file, a directory or a link that the kernel knows, or that holds unsaved content.
//!
//! The node itself keeps what only the tree changes: its name and place, whether it still has that name, its children.
//! What is believed of it lies in parts with rules of their own: [`BelievedAttributes`], [`DirectoryNames`],
//! [`OpeningHistory`], [`KernelRefs`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use scaup_fuse::filesystem::Inode;

use super::believed_attributes::BelievedAttributes;
use super::directory_names::DirectoryNames;
use super::kernel_refs::KernelRefs;
use super::opening_history::OpeningHistory;
use crate::drive::content::file::File;
use crate::drive::moment::Moment;
use crate::drive::places::place::{Found, Place};
use crate::remote::{RemoteAttributes, RemoteKind};
use crate::vault::UnlockedVault;

/// What is known about a plain directory being a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drive) enum VaultHere {
    /// Not checked yet.
    Unknown,
    /// No vault.
    No,
    /// A vault. Unless one is unlocked here (`bindings`), its encrypted content is shown, read-only.
    Found,
}

/// One node of the mount.
pub(in crate::drive) struct Node {
    parent: Inode,
    name: OsString,
    place: Place,
    /// Whether its name was removed or given to another node.
    detached: bool,
    /// Whether it is open here, and somebody else removed it. An open file can be detached besides: somebody else took
    /// its name, and then the file itself was found to be gone.
    missing: bool,
    /// Whether this mount made it.
    made_here: bool,
    children: HashMap<OsString, Inode>,
    vault: VaultHere,
    /// Its content, while it is open or unsaved.
    file: Option<Arc<File>>,
    /// Its attributes, and where it leads if it is a link.
    pub(in crate::drive) attributes: BelievedAttributes,
    /// The names in it, if it is a directory.
    pub(in crate::drive) names: DirectoryNames,
    /// When it was opened, and what its content was then.
    pub(in crate::drive) openings: OpeningHistory,
    /// What the kernel holds of it.
    pub(in crate::drive) kernel: KernelRefs,
}

impl Node {
    /// Creates a node for what was found when the server was asked at `asked`.
    pub(super) fn new(parent: Inode, found: Found, asked: Moment) -> Self {
        Self {
            parent,
            name: found.name,
            place: found.place,
            detached: false,
            missing: false,
            made_here: false,
            children: HashMap::new(),
            vault: VaultHere::Unknown,
            file: None,
            attributes: BelievedAttributes::new(found.attributes, asked),
            names: DirectoryNames::new(asked),
            openings: OpeningHistory::new(asked),
            kernel: KernelRefs::default(),
        }
    }

    /// Returns the directory that it is or was in.
    pub(in crate::drive) fn parent(&self) -> Inode {
        self.parent
    }

    /// Returns its name, which it may have lost.
    pub(in crate::drive) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Returns the directory that it is or was in, and its name there.
    pub(in crate::drive) fn parent_and_name(&self) -> (Inode, OsString) {
        (self.parent, self.name.clone())
    }

    /// Returns where it lies on the server.
    pub(in crate::drive) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns its kind.
    pub(in crate::drive) fn kind(&self) -> RemoteKind {
        self.attributes.current().kind
    }

    /// Returns it as the entry of a listing.
    pub(in crate::drive) fn as_found(&self) -> Found {
        Found { name: self.name.clone(), attributes: self.attributes.current(), place: self.place.clone() }
    }

    /// Whether its name was removed or given to another node.
    pub(in crate::drive) fn is_detached(&self) -> bool {
        self.detached
    }

    /// Whether it is open here, and somebody else removed it.
    pub(in crate::drive) fn is_missing(&self) -> bool {
        self.missing
    }

    /// Whether its name is gone, here or on the server.
    pub(in crate::drive) fn has_lost_name(&self) -> bool {
        self.detached || self.missing
    }

    /// Takes its name away: it was removed, or another node has it now.
    pub(super) fn lose_name(&mut self) {
        self.detached = true;
    }

    /// Remembers that this mount made it.
    pub(in crate::drive) fn record_making(&mut self) {
        self.made_here = true;
    }

    /// Whether this mount made it.
    pub(in crate::drive) fn is_made_here(&self) -> bool {
        self.made_here
    }

    /// Gives its name back, or another one in the same directory.
    pub(super) fn regain_name(&mut self, name: OsString) {
        self.name = name;
        self.detached = false;
    }

    /// Marks it as removed by somebody else while it is open here. The server is asked again when it is next wanted.
    pub(super) fn mark_missing(&mut self) {
        self.missing = true;
        self.attributes.ask_again();
    }

    /// Marks it as present on the server; returns whether it was missing.
    pub(super) fn mark_present(&mut self) -> bool {
        std::mem::take(&mut self.missing)
    }

    /// Gives it another name and place. Replies to requests under the old name tell nothing about the new one.
    pub(super) fn move_to(&mut self, parent: Inode, name: &OsStr, place: Place) {
        self.parent = parent;
        self.name = name.to_owned();
        self.place = place;
        (self.detached, self.missing) = (false, false);
        self.attributes.changed_now();
        self.attributes.refuse_older_replies();
    }

    /// Believes attributes that the server was asked for at `asked`: so the server has it.
    pub(super) fn believe_attributes(&mut self, attributes: RemoteAttributes, asked: Moment) {
        self.attributes.believe(attributes, asked);
        self.missing = false;
    }

    /// Returns the nodes in it, by their names.
    pub(in crate::drive) fn children(&self) -> &HashMap<OsString, Inode> {
        &self.children
    }

    /// Adds a node in it.
    pub(super) fn add_child(&mut self, name: OsString, child: Inode) {
        self.children.insert(name, child);
    }

    /// Removes the node of that name from it.
    pub(super) fn remove_child(&mut self, name: &OsStr) {
        self.children.remove(name);
    }

    /// Removes all nodes from it, and returns them.
    pub(super) fn take_children(&mut self) -> HashMap<OsString, Inode> {
        std::mem::take(&mut self.children)
    }

    /// Whether a name that is about to be shown to a program has been removed since `then`.
    pub(in crate::drive) fn has_lost(&self, name: &OsStr, then: Moment) -> bool {
        let is_listed = self.names.listing().is_some_and(|(_, names)| names.contains(name));
        !self.names.are_unchanged_since(then) && !is_listed && !self.children.contains_key(name)
    }

    /// Returns what is known about it being a vault.
    pub(in crate::drive) fn vault_here(&self) -> VaultHere {
        self.vault
    }

    /// Sets what is known about it being a vault.
    pub(in crate::drive) fn set_vault_here(&mut self, vault: VaultHere) {
        self.vault = vault;
    }

    /// Whether it is a plain node of which nobody has checked yet whether it is a vault.
    pub(in crate::drive) fn may_be_vault(&self) -> bool {
        matches!(self.place, Place::Plain) && self.vault == VaultHere::Unknown
    }

    /// Whether it lies in an unlocked vault, or is the directory of a vault.
    pub(in crate::drive) fn is_in_vault(&self) -> bool {
        matches!(self.place, Place::Vault { .. }) || self.vault == VaultHere::Found
    }

    /// Whether it lies in the vault `wanted`.
    pub(in crate::drive) fn is_in(&self, wanted: &Arc<UnlockedVault>) -> bool {
        matches!(&self.place, Place::Vault { vault, .. } if Arc::ptr_eq(vault, wanted))
    }

    /// Forgets its name and the names in it: its vault was locked.
    pub(in crate::drive) fn forget_names(&mut self) {
        self.attributes.expire();
        self.names.doubt();
        self.names.forget_changes();
        self.openings.forget_content();
        self.detached = true;
        self.name = OsString::new();
        self.children = HashMap::new();
    }

    /// Returns its content, while it is open or unsaved.
    pub(in crate::drive) fn file(&self) -> Option<&Arc<File>> {
        self.file.as_ref()
    }

    /// Returns its content, which is `opened` unless it has some already: all handles share one.
    pub(in crate::drive) fn share_file(&mut self, opened: Arc<File>) -> Arc<File> {
        Arc::clone(self.file.get_or_insert(opened))
    }

    /// Drops its content: it is neither open nor unsaved.
    pub(in crate::drive) fn drop_file(&mut self) {
        self.file = None;
    }

    /// Whether the server may have changes of its content only in its memory.
    pub(in crate::drive) fn is_off_disk(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.is_off_disk())
    }

    /// Whether it has unsaved content: the server's attributes of it are out of date then.
    pub(in crate::drive) fn is_unsaved(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.unsaved().is_some())
    }

    /// Whether anything needs it: the kernel, content, or nodes below.
    pub(super) fn is_needed(&self, inode: Inode) -> bool {
        inode == Inode::ROOT
            || !self.kernel.are_none()
            || self.file.is_some()
            || !self.children.is_empty()
            || self.vault == VaultHere::Found
    }

    /// Whether only the kernel needs it, and would find it again unchanged. Directories are kept: something may be
    /// mounted below.
    pub(super) fn is_idle(&self) -> bool {
        self.kind() != RemoteKind::Directory
            && self.kernel.handles() == 0
            && self.file.is_none()
            && !self.detached
    }

    /// Whether this mount made something in it so recently that it surely may again.
    pub(in crate::drive) fn is_writable(&self) -> bool {
        self.names.is_making_allowed()
    }

    /// Whether this mount removed something from it so recently that it surely may again. Where only owners may remove
    /// (the sticky bit) one removal tells nothing about the next.
    pub(in crate::drive) fn is_removable_from(&self) -> bool {
        const STICKY: u16 = 0o1000;
        self.names.is_removing_allowed() && self.attributes.current().mode & STICKY == 0
    }
}

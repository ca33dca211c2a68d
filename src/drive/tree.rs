//! The nodes that the kernel knows, or that hold unsaved content: maps inode numbers to places on the server.
//!
//! A [`Node`](node::Node) has a name in a parent, a place on the server, and what is believed of it: its attributes
//! ([`believed_attributes`]), the names in it ([`directory_names`]), whether it is a vault. It lives as long as the
//! kernel knows its inode or has it open ([`kernel_refs`]), or its content is unsaved. The tree is locked only for
//! short, synchronous sections, never across a wait for the server; so a task that comes back from the server says when
//! it asked, and what this mount changed since then is known better here.
//!
//! [`ancestors`] computes what follows from the nodes above a node: its path, and the vault that it lies in.
//! [`bindings`] are the paths at which vaults are expected, [`paths`] the paths in use, which nobody may move
//! meanwhile, [`forms`] the Unicode forms of names in vaults, [`missing`] the nodes that somebody else removed.

pub(super) mod ancestors;
pub(super) mod believed_attributes;
pub(super) mod bindings;
pub(super) mod directory_names;
pub(super) mod forms;
pub(super) mod kernel_refs;
pub(super) mod missing;
pub(super) mod node;
pub(super) mod numbers;
pub(super) mod opening_history;
pub(super) mod paths;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use scaup_fuse::filesystem::Inode;

use crate::drive::content::file::File;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::displacement::Displacement;
use crate::drive::places::listed_names::Names;
use crate::drive::places::place::{Found, Place};
use crate::remote::{RemoteAttributes, RemoteKind};
use bindings::Bindings;
use forms::Forms;
use node::{Node, VaultHere};

/// All nodes. Locked only for short, synchronous sections.
pub(super) struct Tree {
    nodes: Mutex<Inner>,
}

struct Inner {
    nodes: HashMap<Inode, Box<Node>>,
    bindings: Bindings,
    forms: Forms,
}

/// The tree, locked.
pub(super) struct Nodes<'a> {
    inner: MutexGuard<'a, Inner>,
}

impl Tree {
    /// Creates a tree of only the root, a plain directory.
    pub(super) fn new() -> Self {
        let mut attributes = RemoteAttributes::new(RemoteKind::Directory, 0o755);
        attributes.modified = UNIX_EPOCH;
        let found = Found { name: OsString::new(), attributes, place: Place::Plain };
        let mut root = Node::new(Inode::ROOT, found, Moment::now());
        root.attributes.ask_again();
        let nodes = HashMap::from([(Inode::ROOT, Box::new(root))]);
        Self { nodes: Mutex::new(Inner { nodes, bindings: Bindings::default(), forms: Forms::default() }) }
    }

    /// Locks the tree. Never held across an `await`.
    pub(super) fn lock(&self) -> Nodes<'_> {
        Nodes { inner: self.nodes.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Returns the directory `inode`, ready for operations in it.
    pub(super) fn directory(&self, inode: Inode) -> Result<Directory, DriveError> {
        self.lock().directory(inode)
    }
}

impl Nodes<'_> {
    pub(super) fn nodes(&self) -> &HashMap<Inode, Box<Node>> {
        &self.inner.nodes
    }

    pub(super) fn nodes_mut(&mut self) -> &mut HashMap<Inode, Box<Node>> {
        &mut self.inner.nodes
    }

    /// Returns the paths at which vaults are expected.
    pub(super) fn bindings(&self) -> &Bindings {
        &self.inner.bindings
    }

    pub(super) fn bindings_mut(&mut self) -> &mut Bindings {
        &mut self.inner.bindings
    }

    /// Returns the Unicode forms by which names in vaults were last asked for.
    pub(super) fn forms(&self) -> &Forms {
        &self.inner.forms
    }

    pub(super) fn forms_mut(&mut self) -> &mut Forms {
        &mut self.inner.forms
    }

    pub(super) fn get(&self, inode: Inode) -> Result<&Node, DriveError> {
        self.nodes().get(&inode).map(Box::as_ref).ok_or(DriveError::Stale)
    }

    pub(super) fn get_mut(&mut self, inode: Inode) -> Result<&mut Node, DriveError> {
        self.nodes_mut().get_mut(&inode).map(Box::as_mut).ok_or(DriveError::Stale)
    }

    /// Returns the child of that name, if it is known.
    pub(super) fn child(&self, parent: Inode, name: &OsStr) -> Option<Inode> {
        self.nodes().get(&parent)?.children().get(name).copied()
    }

    /// Returns all files that are open or unsaved.
    pub(super) fn files(&self) -> Vec<Arc<File>> {
        self.nodes().values().filter_map(|node| node.file().cloned()).collect()
    }

    /// Returns those files that lie below a directory.
    pub(super) fn files_below(&self, directory: Inode) -> Vec<Arc<File>> {
        let files = self.nodes().iter().filter_map(|(&inode, node)| Some((inode, node.file().cloned()?)));
        files.filter(|&(inode, _)| self.above(inode).contains(&directory)).map(|(_, file)| file).collect()
    }

    /// Makes an entry that was found a child of `parent`, or updates the child of that name. `asked` is when the server
    /// was asked: what this mount did since then is known better here.
    pub(super) fn adopt(&mut self, parent: Inode, found: Found, asked: Moment) -> Result<Inode, DriveError> {
        self.check_belongs(parent, &found.place)?;
        if let Some(inode) = self.child(parent, &found.name) {
            let node = self.get_mut(inode)?;
            if node.is_unsaved() || node.attributes.know_better_than(asked) {
                return Ok(inode);
            }
            if node.kind() == found.attributes.kind && node.place().is_same(&found.place) {
                node.believe_attributes(found.attributes, asked);
                return Ok(inode);
            }
            if self.leads_to_binding(inode) {
                self.displace(inode, Displacement::of(found.attributes.kind));
                return Ok(inode);
            }
            // Something else has the name now.
            self.detach(inode);
        }
        let inode = self.free_number(parent, &found.name);
        self.get_mut(parent)?.add_child(found.name.clone(), inode);
        self.nodes_mut().insert(inode, Box::new(Node::new(parent, found, asked)));
        Ok(inode)
    }

    /// Returns the number that a child has or would get: the same in every mount, so that programs that remember inode
    /// numbers find the same ones again (otherwise git would read all files of a work tree again).
    pub(super) fn number_for(&self, parent: Inode, name: &OsStr) -> Inode {
        self.child(parent, name).unwrap_or_else(|| self.free_number(parent, name))
    }

    fn free_number(&self, parent: Inode, name: &OsStr) -> Inode {
        let mut number = numbers::first(parent, name);
        while number <= Inode::ROOT.0 || self.nodes().contains_key(&Inode(number)) {
            number = number.wrapping_add(1);
        }
        Inode(number)
    }

    /// Records that a file is opened.
    pub(super) fn record_opening(&mut self, inode: Inode) -> Result<(), DriveError> {
        let (parent, now) = (self.get(inode)?.parent(), Moment::now());
        if self.was_just_opened(inode) {
            self.get_mut(parent)?.openings.record_again_in(now);
        }
        self.get_mut(inode)?.openings.record(now);
        Ok(())
    }

    /// Whether a file was opened since one in its directory was opened again: a program that reads the whole directory
    /// has read this file.
    pub(super) fn was_just_opened(&self, inode: Inode) -> bool {
        let Ok(node) = self.get(inode) else { return false };
        let since = self.get(node.parent()).ok().map(|directory| directory.openings.again_in());
        node.openings.last().is_some_and(|opened| Some(opened) >= since)
    }

    /// Counts a lookup by the kernel.
    pub(super) fn count_lookup(&mut self, inode: Inode) -> Result<(), DriveError> {
        self.get_mut(inode)?.kernel.count_lookup();
        Ok(())
    }

    /// Returns how many nodes there are.
    pub(super) fn count(&self) -> usize {
        self.nodes().len()
    }

    /// Returns how many names all listings have.
    pub(super) fn count_listed(&self) -> usize {
        self.nodes().values().filter_map(|node| node.names.listing()).map(|(_, names)| names.len()).sum()
    }

    /// Drops listings, the oldest ones first, until `goes` returns `false` for one: that one and the newer ones stay.
    pub(super) fn drop_oldest_listings(&mut self, mut goes: impl FnMut(&Names) -> bool) {
        let nodes = self.nodes_mut().values_mut().map(|node| &mut node.names);
        let mut listed: Vec<_> = nodes.filter(|names| names.listing().is_some()).collect();
        listed.sort_unstable_by_key(|names| names.listing().map(|(asked, _)| asked));
        for names in listed {
            if !names.listing().is_some_and(|(_, listing)| goes(listing)) {
                return;
            }
            names.drop_listing();
        }
    }

    /// Returns the names that the kernel should forget so that no more than `kept` nodes are left: the least recently
    /// fetched ones, each only once.
    pub(super) fn take_idle(&mut self, kept: usize) -> Vec<(Inode, OsString)> {
        let left = self.nodes().values().filter(|node| !node.kernel.is_to_be_forgotten()).count();
        let is_due = |node: &Node| node.is_idle() && !node.kernel.is_to_be_forgotten();
        let mut idle: Vec<(Option<Moment>, Inode)> = self
            .nodes()
            .iter()
            .filter(|(_, node)| is_due(node))
            .map(|(&inode, node)| (node.attributes.fetched(), inode))
            .collect();
        idle.sort_unstable_by_key(|&(fetched, _)| fetched);
        idle.truncate(left.saturating_sub(kept));
        let told = idle.into_iter().filter_map(|(_, inode)| {
            let node = self.nodes_mut().get_mut(&inode)?;
            node.kernel.ask_to_forget();
            let (parent, name) = node.parent_and_name();
            let other = self.inner.forms.other(parent, &name).map(OsStr::to_owned);
            Some(other.into_iter().chain([name]).map(move |name| (parent, name)))
        });
        told.flatten().collect()
    }

    /// Uncounts lookups that the kernel forgets.
    pub(super) fn forget(&mut self, inode: Inode, count: u64) {
        if let Some(node) = self.nodes_mut().get_mut(&inode) {
            node.kernel.uncount_lookups(count);
            self.prune(inode);
        }
    }

    /// Removes the node, and those above it, if nothing needs them.
    pub(super) fn prune(&mut self, inode: Inode) {
        let mut at = inode;
        while let Some(node) = self.nodes().get(&at) {
            if node.is_needed(at) || self.bindings().contains(at) {
                return;
            }
            let Some(node) = self.nodes_mut().remove(&at) else { return };
            if let Some(above) = self.nodes_mut().get_mut(&node.parent()).filter(|_| !node.is_detached()) {
                above.remove_child(node.name());
            }
            at = node.parent();
        }
    }

    /// Removes a node's name: it was removed, or another node has it now. A node that leads to a bound vault keeps its
    /// name.
    pub(super) fn detach(&mut self, inode: Inode) {
        if self.leads_to_binding(inode) {
            return;
        }
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return };
        if node.is_detached() {
            return;
        }
        node.lose_name();
        let (parent, name) = node.parent_and_name();
        if let Some(above) = self.nodes_mut().get_mut(&parent) {
            above.remove_child(&name);
        }
        self.prune(inode);
    }

    /// Detaches everything below a directory: a vault was locked or unlocked there, and what was asked before `then` is
    /// of no use. Returns the names that were known.
    pub(super) fn detach_below(&mut self, inode: Inode, then: Moment) -> Vec<(Inode, OsString, Inode)> {
        let mut gone = Vec::new();
        let mut directories = vec![inode];
        while let Some(at) = directories.pop() {
            let Some(node) = self.nodes_mut().get_mut(&at) else { continue };
            node.names.doubt_before(then);
            node.names.forget_changes();
            for (name, child) in node.take_children() {
                if let Some(other) = self.inner.forms.other(at, &name) {
                    gone.push((at, other.to_owned(), child));
                }
                gone.push((at, name, child));
                directories.push(child);
                if let Some(node) = self.nodes_mut().get_mut(&child) {
                    node.lose_name();
                    node.attributes.forget_target();
                    node.set_vault_here(VaultHere::Unknown);
                }
            }
        }
        for (_, _, child) in gone.iter().rev() {
            self.prune(*child);
        }
        gone
    }

    /// Gives a node another name and place.
    pub(super) fn rename(
        &mut self,
        inode: Inode,
        parent: Inode,
        name: &OsStr,
        place: Place,
    ) -> Result<(), DriveError> {
        let (old_parent, old_name) = self.get(inode)?.parent_and_name();
        if let Some(replaced) = self.child(parent, name).filter(|&replaced| replaced != inode) {
            self.detach(replaced);
        }
        // The node may have lost the name, and another node may have that by now.
        if self.child(old_parent, &old_name) == Some(inode)
            && let Ok(above) = self.get_mut(old_parent)
        {
            above.remove_child(&old_name);
        }
        self.get_mut(parent)?.add_child(name.to_owned(), inode);
        self.get_mut(inode)?.move_to(parent, name, place);
        self.prune(old_parent);
        Ok(())
    }

    /// Believes attributes that were fetched, in the node and in the listing, unless something newer is known.
    pub(super) fn believe_attributes(
        &mut self,
        inode: Inode,
        attributes: RemoteAttributes,
        asked: Moment,
    ) -> Result<(), DriveError> {
        let node = self.get_mut(inode)?;
        if node.attributes.know_better_than(asked) {
            return Ok(());
        }
        node.believe_attributes(attributes, asked);
        let (parent, name) = node.parent_and_name();
        if !node.is_detached()
            && let Ok(above) = self.get_mut(parent)
        {
            above.names.believe_attributes(&name, attributes);
        }
        Ok(())
    }

    /// Believes that this mount has just added, changed or (`None`) removed a name in a directory.
    pub(super) fn believe_name(&mut self, parent: Inode, name: &OsStr, found: Option<Found>) {
        let Ok(node) = self.get_mut(parent) else { return };
        node.attributes.names_changed_now();
        node.names.believe_name(name, found);
    }
}

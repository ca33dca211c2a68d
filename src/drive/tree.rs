//! The nodes that the kernel knows, or that hold unsaved content: inode numbers to places on the server.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use scaup_fuse::filesystem::Inode;

use super::bindings::{Bindings, Displacement};
use super::chunks::ContentId;
use super::error::DriveError;
use super::file::{Base, File, present};
use super::forms::Forms;
use super::found::{Directory, Found, Place, plain_name};
use super::names::Names;
use super::numbers;
use super::vault::{UnlockedVault, VaultDirectory, VaultNode};
use crate::remote::{RemoteAttributes, RemoteKind, RemotePath};

/// What is known of a vault that a plain directory may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VaultHere {
    /// Nobody looked yet.
    Unknown,
    /// No vault.
    No,
    /// A vault. Unless one is unlocked here (`bindings`), its encrypted content is shown, read-only.
    Found,
}

/// A name that this mount added or changed, or (`None`) removed.
struct Change {
    at: Instant,
    name: OsString,
    found: Option<Found>,
}

/// One node.
pub(super) struct Node {
    pub(super) parent: Inode,
    pub(super) name: OsString,
    pub(super) place: Place,
    pub(super) attributes: RemoteAttributes,
    /// Whether its length became another one since it was last opened: the kernel may still have the old one, and would cut reads at it.
    pub(super) has_other_length: bool,
    /// When the attributes were asked for; `None` if they must be asked for again.
    pub(super) fetched: Option<Instant>,
    /// When this mount last changed its attributes: answers to older questions tell nothing of it.
    doubted: Instant,
    /// When this mount last changed the names in it: listings that were asked for before lack that.
    names_changed: Instant,
    /// What it changed of late, for listings that lack it.
    changes: VecDeque<Change>,
    /// Listings that were asked for before this can't be made true: nobody knows what became of a change, or too much was changed since.
    names_unsure: Instant,
    /// When this mount last changed it: the servers do not tell a `ctime`.
    pub(super) changed: SystemTime,
    pub(super) children: HashMap<OsString, Inode>,
    /// When this mount last made something in it.
    pub(super) made_in: Option<Instant>,
    /// When this mount last removed something from it.
    pub(super) removed_in: Option<Instant>,
    /// The names in it, and when they were listed.
    pub(super) listing: Option<(Instant, Arc<Names>)>,
    pub(super) vault: VaultHere,
    /// Its content, while it is open or unsaved.
    pub(super) file: Option<Arc<File>>,
    /// Open handles.
    pub(super) opens: u32,
    /// When it was last opened.
    opened: Option<Instant>,
    /// When one of the files in it was last opened again: those that were opened since, or are not yet, are what a program goes through.
    opened_again: Instant,
    /// Where it leads, if it is a symbolic link, and when the server was asked.
    pub(super) target: Option<(Instant, Bytes)>,
    /// The content that was last read through the kernel, and how the server's file looked then.
    pub(super) content: Option<(ContentId, Base)>,
    /// Its name was removed or given to another node.
    pub(super) detached: bool,
    /// It is open here, and somebody else removed it.
    pub(super) missing: bool,
    lookups: u64,
    /// The kernel was asked to forget it, and has not looked it up since.
    to_be_forgotten: bool,
}

impl Node {
    fn new(parent: Inode, found: Found, asked: Instant) -> Self {
        Self {
            parent,
            name: found.name,
            place: found.place,
            attributes: found.attributes,
            has_other_length: false,
            fetched: Some(asked),
            doubted: asked,
            names_changed: asked,
            changes: VecDeque::new(),
            names_unsure: asked,
            changed: UNIX_EPOCH,
            children: HashMap::new(),
            made_in: None,
            removed_in: None,
            listing: None,
            vault: VaultHere::Unknown,
            file: None,
            opens: 0,
            opened: None,
            opened_again: asked,
            target: None,
            content: None,
            detached: false,
            missing: false,
            lookups: 0,
            to_be_forgotten: false,
        }
    }

    /// What the server said of it when it was asked then.
    fn note_attributes(&mut self, attributes: RemoteAttributes, asked: Instant) {
        if (attributes.size, attributes.modified) != (self.attributes.size, self.attributes.modified) {
            self.target = None;
        }
        self.note_length(attributes.size);
        self.attributes = attributes;
        self.fetched = Some(asked);
        self.missing = false;
    }

    /// How long it is, in bytes of cleartext.
    pub(super) fn note_length(&mut self, length: u64) {
        self.has_other_length |= length != self.attributes.size;
        self.attributes.size = length;
    }

    /// Has the attributes asked for anew when they are next wanted.
    pub(super) fn expire(&mut self) {
        (self.fetched, self.target) = (None, None);
        self.doubted = Instant::now();
        self.changed = SystemTime::now();
    }

    /// Whether an answer to a question that was asked then is older than what is known.
    pub(super) fn knows_better_than(&self, asked: Instant) -> bool {
        asked < self.doubted || self.fetched.is_some_and(|fetched| asked < fetched)
    }

    /// Whether this mount has changed no name in it since then.
    pub(super) fn has_same_names_as(&self, then: Instant) -> bool {
        then >= self.names_changed
    }

    /// This mount changed a name in it. Of its attributes that changes only the time.
    pub(super) fn note_names_changed(&mut self) {
        (self.attributes.modified, self.changed) = (present(), SystemTime::now());
        self.doubted = Instant::now();
    }

    /// Nobody knows what became of a change of names.
    pub(super) fn doubt_names(&mut self) {
        self.doubt_names_before(Instant::now());
    }

    /// What was asked before `then` says nothing of its names.
    fn doubt_names_before(&mut self, then: Instant) {
        self.listing = None;
        self.names_unsure = then;
    }

    fn note_change(&mut self, name: &OsStr, found: Option<Found>) {
        /// Changes that are remembered: more than one listing takes to come.
        const CHANGES_MAX: usize = 1024;
        self.names_changed = Instant::now();
        if self.changes.len() >= CHANGES_MAX
            && let Some(forgotten) = self.changes.pop_front()
        {
            self.names_unsure = self.names_unsure.max(forgotten.at);
        }
        self.changes.push_back(Change { at: self.names_changed, name: name.to_owned(), found });
    }

    /// Adds what this mount changed since to names that were asked for then; answers whether they are all true now.
    pub(super) fn bring_up_to_date(&self, names: &mut Names, asked: Instant) -> bool {
        for Change { name, found, .. } in self.changes.iter().filter(|change| change.at >= asked) {
            match found {
                Some(found) => names.insert(found.clone()),
                None => names.remove(name),
            }
        }
        asked > self.names_unsure
    }

    /// Whether a name that a program was about to be told of is gone again.
    pub(super) fn has_lost(&self, name: &OsStr, then: Instant) -> bool {
        let listed = self.listing.as_ref().is_some_and(|(_, names)| names.contains(name));
        !self.has_same_names_as(then) && !listed && !self.children.contains_key(name)
    }

    /// Whether it lies in an unlocked vault, or is the directory of a vault.
    pub(super) fn is_in_vault(&self) -> bool {
        matches!(self.place, Place::Vault { .. }) || self.vault == VaultHere::Found
    }

    /// Forgets its name and the names in it: its vault was locked.
    pub(super) fn forget_names(&mut self) {
        self.expire();
        self.doubt_names();
        self.detached = true;
        self.name = OsString::new();
        self.children = HashMap::new();
        self.changes = VecDeque::new();
        self.content = None;
    }

    /// Whether it lies in this vault.
    pub(super) fn is_in(&self, wanted: &Arc<UnlockedVault>) -> bool {
        matches!(&self.place, Place::Vault { vault, .. } if Arc::ptr_eq(vault, wanted))
    }

    fn is_needed(&self, inode: Inode) -> bool {
        inode == Inode::ROOT
            || self.lookups > 0
            || self.opens > 0
            || self.file.is_some()
            || !self.children.is_empty()
            || self.vault == VaultHere::Found
    }

    /// Whether only the kernel knows it, and would find it again as it is. Directories are kept: something may be mounted below.
    fn is_idle(&self) -> bool {
        self.attributes.kind != RemoteKind::Directory
            && self.opens == 0
            && self.file.is_none()
            && !self.detached
    }

    /// Whether this mount made something in it so lately that it surely may again.
    pub(super) fn is_writable(&self) -> bool {
        is_lately(self.made_in)
    }

    /// Whether this mount removed something from it so lately that it surely may again. Where only owners may remove (the sticky
    /// bit) one removal tells nothing of the next.
    pub(super) fn is_removable_from(&self) -> bool {
        const STICKY: u16 = 0o1000;
        is_lately(self.removed_in) && self.attributes.mode & STICKY == 0
    }

    /// Whether the server may have changes of its content in its memory only.
    pub(super) fn is_off_disk(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.is_off_disk())
    }

    /// Whether content of it waits to be saved: what the server says of it is not the truth then.
    pub(super) fn is_unsaved(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.unsaved().is_some())
    }
}

fn is_lately(then: Option<Instant>) -> bool {
    const LATELY: Duration = Duration::from_secs(60);
    then.is_some_and(|then| then.elapsed() < LATELY)
}

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
    /// A tree of only the root, a plain directory.
    pub(super) fn new() -> Self {
        let mut attributes = RemoteAttributes::new(RemoteKind::Directory, 0o755);
        attributes.modified = UNIX_EPOCH;
        let found = Found { name: OsString::new(), attributes, place: Place::Plain };
        let mut root = Node::new(Inode::ROOT, found, Instant::now());
        root.fetched = None;
        let nodes = HashMap::from([(Inode::ROOT, Box::new(root))]);
        Self { nodes: Mutex::new(Inner { nodes, bindings: Bindings::default(), forms: Forms::default() }) }
    }

    /// Locks the tree. Never held across an `await`.
    pub(super) fn lock(&self) -> Nodes<'_> {
        Nodes { inner: self.nodes.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// The directory `inode`, ready to be worked in.
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

    /// The paths at which vaults are expected.
    pub(super) fn bindings(&self) -> &Bindings {
        &self.inner.bindings
    }

    pub(super) fn bindings_mut(&mut self) -> &mut Bindings {
        &mut self.inner.bindings
    }

    /// The Unicode forms by which names in vaults were last asked for.
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

    /// The child of that name, if it is known.
    pub(super) fn child(&self, parent: Inode, name: &OsStr) -> Option<Inode> {
        self.nodes().get(&parent)?.children.get(name).copied()
    }

    /// All files that are open or unsaved.
    pub(super) fn files(&self) -> Vec<Arc<File>> {
        self.nodes().values().filter_map(|node| node.file.clone()).collect()
    }

    /// Those of them that lie below a directory.
    pub(super) fn files_below(&self, directory: Inode) -> Vec<Arc<File>> {
        let files = self.nodes().iter().filter_map(|(&inode, node)| Some((inode, node.file.clone()?)));
        files.filter(|&(inode, _)| self.above(inode).contains(&directory)).map(|(_, file)| file).collect()
    }

    /// Where a plain node lies. Also the way to a vault's own directory. Fails where the server shows something else in the place of a bound
    /// vault, so that nothing is done there.
    pub(super) fn plain_path(&self, inode: Inode) -> Result<RemotePath, DriveError> {
        self.check_way(inode)?;
        self.path_of(inode)
    }

    /// The path of a plain node, whatever the server shows there.
    pub(super) fn path_of(&self, inode: Inode) -> Result<RemotePath, DriveError> {
        if inode == Inode::ROOT {
            return Ok(RemotePath::root());
        }
        let node = self.get(inode)?;
        match node.place {
            Place::Plain if !node.detached => Ok(self.path_of(node.parent)?.join(&plain_name(&node.name)?)),
            _ => Err(DriveError::Stale),
        }
    }

    /// The nearest plain place: the node itself, or the directory of the vault that it lies in.
    pub(super) fn plain_path_around(&self, inode: Inode) -> RemotePath {
        let mut at = inode;
        loop {
            match (self.plain_path(at), self.nodes().get(&at)) {
                (Ok(path), _) => return path,
                (Err(_), Some(node)) => at = node.parent,
                (Err(_), None) => return RemotePath::root(),
            }
        }
    }

    /// The node's path as the mount shows it, for messages.
    pub(super) fn shown_path(&self, inode: Inode) -> OsString {
        let mut names = Vec::new();
        let mut at = inode;
        while at != Inode::ROOT
            && let Some(node) = self.nodes().get(&at)
        {
            names.push(node.name.clone());
            at = node.parent;
        }
        if names.is_empty() {
            return OsString::from("the mounted directory");
        }
        names.reverse();
        names.join(OsStr::new("/"))
    }

    /// A directory and those above it, up to the root.
    pub(super) fn above(&self, inode: Inode) -> Vec<Inode> {
        std::iter::successors(Some(inode), |&inode| {
            (inode != Inode::ROOT).then(|| self.nodes().get(&inode).map(|node| node.parent)).flatten()
        })
        .collect()
    }

    /// The directory `inode`, ready to be worked in.
    pub(super) fn directory(&self, inode: Inode) -> Result<Directory, DriveError> {
        let node = self.get(inode)?;
        if node.attributes.kind != RemoteKind::Directory {
            return Err(DriveError::NotADirectory);
        }
        match (&node.place, self.bindings().unlocked(inode)) {
            (Place::Plain, Some(vault)) => Ok(Directory::Vault(VaultDirectory {
                cryptor: vault.cryptor()?,
                vault: Arc::clone(vault),
                root: self.plain_path(inode)?,
                id: scaup_crypto::DirectoryId::root(),
            })),
            (Place::Plain, _) => Ok(Directory::Plain(self.plain_path(inode)?)),
            (Place::Vault { vault, node: VaultNode::Directory(id), .. }, _) => {
                let cryptor = vault.cryptor()?;
                let (root, ids) = self.vault_root(inode, vault)?;
                // A directory inside itself would be walked for ever.
                if ids.iter().filter(|&above| above == id).count() > 1 {
                    return Err(DriveError::damaged("the directory's id is that of a directory around it"));
                }
                Ok(Directory::Vault(VaultDirectory {
                    cryptor,
                    vault: Arc::clone(vault),
                    root: self.plain_path(root)?,
                    id: id.clone(),
                }))
            }
            (Place::Vault { node: VaultNode::BrokenDirectory(why), .. }, _) => Err(DriveError::damaged(why)),
            (Place::Vault { .. }, _) => Err(DriveError::NotADirectory),
        }
    }

    /// The vault's own directory above `inode`, and the ids of the directories from `inode` up to it.
    pub(super) fn vault_root(
        &self,
        inode: Inode,
        vault: &Arc<UnlockedVault>,
    ) -> Result<(Inode, Vec<scaup_crypto::DirectoryId>), DriveError> {
        let mut ids = Vec::new();
        let mut at = inode;
        loop {
            let node = self.get(at)?;
            if self.bindings().unlocked(at).is_some_and(|here| Arc::ptr_eq(here, vault)) {
                return Ok((at, ids));
            }
            if let Place::Vault { node: VaultNode::Directory(id), .. } = &node.place {
                ids.push(id.clone());
            }
            if at == Inode::ROOT || node.detached {
                return Err(DriveError::Stale);
            }
            at = node.parent;
        }
    }

    /// Whether the node lies in a vault that is locked (its own directory counts as in it).
    pub(super) fn is_in_locked_vault(&self, inode: Inode) -> bool {
        let mut at = inode;
        loop {
            let bindings = self.bindings();
            if bindings.unlocked(at).is_some() {
                return false;
            }
            match self.nodes().get(&at) {
                Some(node) if node.vault == VaultHere::Found || bindings.contains(at) => return true,
                Some(node) if at != Inode::ROOT => at = node.parent,
                _ => return false,
            }
        }
    }

    /// Whether the node lies in a vault that is locked, and is not its own directory.
    pub(super) fn is_below_locked_vault(&self, inode: Inode) -> bool {
        let parent = self.get(inode).map(|node| node.parent);
        inode != Inode::ROOT && parent.is_ok_and(|parent| self.is_in_locked_vault(parent))
    }

    /// Makes what was found a child of `parent`, or brings the child of that name up to date. `asked` is when the server was
    /// asked: what this mount did since then is known better here.
    pub(super) fn adopt(&mut self, parent: Inode, found: Found, asked: Instant) -> Result<Inode, DriveError> {
        self.check_belongs(parent, &found.place)?;
        if let Some(inode) = self.child(parent, &found.name) {
            let node = self.get_mut(inode)?;
            if node.is_unsaved() || node.knows_better_than(asked) {
                return Ok(inode);
            }
            if node.attributes.kind == found.attributes.kind && node.place.is_same(&found.place) {
                node.note_attributes(found.attributes, asked);
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
        self.get_mut(parent)?.children.insert(found.name.clone(), inode);
        self.nodes_mut().insert(inode, Box::new(Node::new(parent, found, asked)));
        Ok(inode)
    }

    /// The number that a child has or would get: the same in every mount, so that programs that remember inode numbers find the same
    /// ones again (git would read all files of a work tree anew).
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

    /// Notes that a file is opened.
    pub(super) fn note_opened(&mut self, inode: Inode) -> Result<(), DriveError> {
        let (parent, now) = (self.get(inode)?.parent, Instant::now());
        if self.was_just_opened(inode) {
            self.get_mut(parent)?.opened_again = now;
        }
        self.get_mut(inode)?.opened = Some(now);
        Ok(())
    }

    /// Whether a file was opened since one in its directory was opened again: whoever goes through the directory has had it.
    pub(super) fn was_just_opened(&self, inode: Inode) -> bool {
        let Ok(node) = self.get(inode) else { return false };
        let since = self.get(node.parent).ok().map(|directory| directory.opened_again);
        node.opened.is_some() && node.opened >= since
    }

    /// Counts a look-up by the kernel.
    pub(super) fn count_lookup(&mut self, inode: Inode) -> Result<(), DriveError> {
        let node = self.get_mut(inode)?;
        node.lookups += 1;
        node.to_be_forgotten = false;
        Ok(())
    }

    /// How many nodes there are.
    pub(super) fn count(&self) -> usize {
        self.nodes().len()
    }

    /// Drops listings until those that are left have no more than `kept` names, the oldest ones first. The newest one is kept however long it is.
    pub(super) fn drop_listings(&mut self, kept: usize) {
        let listings = self.nodes().iter().filter_map(|(&inode, node)| {
            node.listing.as_ref().map(|(listed, names)| (*listed, names.len(), inode))
        });
        let mut listings: Vec<_> = listings.collect();
        listings.sort_unstable_by(|a, b| b.cmp(a));
        let mut names = 0;
        for (_, length, inode) in listings {
            let is_too_much = names > 0 && names + length > kept;
            names += length;
            if is_too_much && let Some(node) = self.nodes_mut().get_mut(&inode) {
                node.listing = None;
            }
        }
    }

    /// Drops listings, the oldest ones first, until so many bytes are free.
    pub(super) fn let_go_listings(&mut self, bytes: u64) {
        let listings = self.nodes().iter().filter_map(|(&inode, node)| {
            node.listing.as_ref().map(|(listed, names)| (*listed, names.bytes(), inode))
        });
        let mut listings: Vec<_> = listings.collect();
        listings.sort_unstable();
        let mut free = 0;
        for (_, length, inode) in listings {
            if free >= bytes {
                return;
            }
            free += length;
            if let Some(node) = self.nodes_mut().get_mut(&inode) {
                node.listing = None;
            }
        }
    }

    /// Answers what the kernel should forget for no more than `kept` nodes to be left: what was asked for longest ago, each only once.
    pub(super) fn take_idle(&mut self, kept: usize) -> Vec<(Inode, OsString)> {
        let left = self.nodes().values().filter(|node| !node.to_be_forgotten).count();
        let is_due = |node: &Node| node.is_idle() && !node.to_be_forgotten;
        let mut idle: Vec<(Option<Instant>, Inode)> = self
            .nodes()
            .iter()
            .filter(|(_, node)| is_due(node))
            .map(|(&inode, node)| (node.fetched, inode))
            .collect();
        idle.sort_unstable_by_key(|&(fetched, _)| fetched);
        idle.truncate(left.saturating_sub(kept));
        let told = idle.into_iter().filter_map(|(_, inode)| {
            let node = self.nodes_mut().get_mut(&inode)?;
            node.to_be_forgotten = true;
            let (parent, name) = (node.parent, node.name.clone());
            let other = self.inner.forms.other(parent, &name).map(OsStr::to_owned);
            Some(other.into_iter().chain([name]).map(move |name| (parent, name)))
        });
        told.flatten().collect()
    }

    /// The kernel forgets look-ups.
    pub(super) fn forget(&mut self, inode: Inode, count: u64) {
        if let Some(node) = self.nodes_mut().get_mut(&inode) {
            node.lookups = node.lookups.saturating_sub(count);
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
            let (parent, detached) = (node.parent, node.detached);
            let name = self.nodes_mut().remove(&at).map(|node| node.name).unwrap_or_default();
            if let Some(above) = self.nodes_mut().get_mut(&parent).filter(|_| !detached) {
                above.children.remove(&name);
            }
            at = parent;
        }
    }

    /// Takes a node's name away: it was removed, or another node has it now. Those that lead to a bound vault keep theirs.
    pub(super) fn detach(&mut self, inode: Inode) {
        if self.leads_to_binding(inode) {
            return;
        }
        let Some(node) = self.nodes_mut().get_mut(&inode) else { return };
        if node.detached {
            return;
        }
        node.detached = true;
        let (parent, name) = (node.parent, node.name.clone());
        if let Some(above) = self.nodes_mut().get_mut(&parent) {
            above.children.remove(&name);
        }
        self.prune(inode);
    }

    /// Detaches everything below a directory: a vault was locked or unlocked there, and what was asked before `then` is of no use. Answers
    /// the names that were known.
    pub(super) fn detach_below(&mut self, inode: Inode, then: Instant) -> Vec<(Inode, OsString, Inode)> {
        let mut gone = Vec::new();
        let mut directories = vec![inode];
        while let Some(at) = directories.pop() {
            let Some(node) = self.nodes_mut().get_mut(&at) else { continue };
            node.doubt_names_before(then);
            node.changes.clear();
            let children: Vec<_> = node.children.drain().collect();
            for (name, child) in children {
                if let Some(other) = self.inner.forms.other(at, &name) {
                    gone.push((at, other.to_owned(), child));
                }
                gone.push((at, name, child));
                directories.push(child);
                if let Some(node) = self.nodes_mut().get_mut(&child) {
                    node.detached = true;
                    node.target = None;
                    node.vault = VaultHere::Unknown;
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
        let node = self.get(inode)?;
        let (old_parent, old_name) = (node.parent, node.name.clone());
        if let Some(replaced) = self.child(parent, name).filter(|&replaced| replaced != inode) {
            self.detach(replaced);
        }
        // It may have lost the name, and another node may have that by now.
        if self.child(old_parent, &old_name) == Some(inode)
            && let Ok(above) = self.get_mut(old_parent)
        {
            above.children.remove(&old_name);
        }
        self.get_mut(parent)?.children.insert(name.to_owned(), inode);
        let node = self.get_mut(inode)?;
        node.parent = parent;
        node.name = name.to_owned();
        node.place = place;
        (node.detached, node.missing) = (false, false);
        node.changed = SystemTime::now();
        // What was asked under the old name tells nothing of the new one.
        node.doubted = Instant::now();
        self.prune(old_parent);
        Ok(())
    }

    /// Notes what was asked about a node: keeps the listing true.
    pub(super) fn note_attributes(
        &mut self,
        inode: Inode,
        attributes: RemoteAttributes,
        asked: Instant,
    ) -> Result<(), DriveError> {
        let node = self.get_mut(inode)?;
        if node.knows_better_than(asked) {
            return Ok(());
        }
        node.note_attributes(attributes, asked);
        let (parent, name) = (node.parent, node.name.clone());
        if !node.detached
            && let Ok(above) = self.get_mut(parent)
            && let Some((_, listing)) = &mut above.listing
        {
            Arc::make_mut(listing).note_attributes(&name, attributes);
        }
        Ok(())
    }

    /// Notes that this mount added, changed or removed a name: keeps the listing true, and those that are under way.
    pub(super) fn note_name(&mut self, parent: Inode, name: &OsStr, found: Option<Found>) {
        let Ok(node) = self.get_mut(parent) else { return };
        node.note_names_changed();
        node.note_change(name, found.clone());
        if let Some((_, listing)) = &mut node.listing {
            let names = Arc::make_mut(listing);
            match found {
                Some(found) => names.insert(found),
                None => names.remove(name),
            }
        }
    }
}

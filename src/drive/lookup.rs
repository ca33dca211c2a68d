//! From names to nodes: looking up, listing, attributes, and noticing vaults on the way.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scaup_fuse::filesystem::{Attributes, FileKind, Inode, TimedAttributes};
use tokio::sync::RwLockWriteGuard;

use super::bindings::Displacement;
use super::error::DriveError;
use super::file::{Backing, File, State};
use super::found::{Directory, Found, Place};
use super::handles::OpenDirectory;
use super::listings::Purpose;
use super::lookahead::Sooner;
use super::names::Names;
use super::temporary;
use super::trash::TRASH;
use super::tree::{Node, Nodes, VaultHere};
use super::vault::{VaultNode, content_path, discard_directory};
use super::vaults::Markers;
use super::{Drive, later};
use crate::remote::{RemoteAttributes, RemoteError, RemoteKind, RemoteName, RemotePath};

/// A node that a name stands for, as the operations here need it.
pub(super) struct Target {
    pub(super) inode: Inode,
    pub(super) kind: RemoteKind,
    pub(super) place: Place,
    pub(super) file: Option<Arc<File>>,
}

impl Target {
    /// Holds the content, so that nothing is saved while its name is being taken away. Answers also whether the server has it under its
    /// name: a new file that was never saved is not there.
    pub(super) async fn hold(
        &self,
        drive: &Drive,
    ) -> Result<(Option<RwLockWriteGuard<'_, State>>, bool), DriveError> {
        let Some(file) = &self.file else { return Ok((None, true)) };
        match file.settled(drive).await {
            Ok(state) => {
                let is_there = !matches!(state.backing, Backing::Staged { replaces: None, .. });
                Ok((Some(state), is_there))
            }
            Err(error) if error.is_not_found() => Ok((Some(file.state.write().await), false)),
            // Somebody else's has the name by now.
            Err(DriveError::Damaged(_)) => Ok((Some(file.state.write().await), true)),
            Err(error) => Err(error),
        }
    }
}

impl Drive {
    /// The directory `inode`, after looking whether it is a vault.
    pub(super) async fn directory(&self, inode: Inode) -> Result<Directory, DriveError> {
        self.look_for_vault(inode).await?;
        self.tree.directory(inode)
    }

    /// Like [`Self::find`], as far as the server need not be asked: `None` if it must be.
    pub(super) fn find_in_memory(
        &self,
        parent: Inode,
        name: &OsStr,
    ) -> Result<Option<Option<Inode>>, DriveError> {
        if self.is_in_trash(parent, name) {
            return Ok(Some(None));
        }
        let known = self.known(parent, name)?;
        let is_temporary = temporary::is_temporary(std::os::unix::ffi::OsStrExt::as_bytes(name));
        Ok(known.or(is_temporary.then_some(None)))
    }

    /// Finds `name` in `parent`; `None` if there is no such name. In a vault `name` is in NFC.
    pub(super) async fn find(&self, parent: Inode, name: &OsStr) -> Result<Option<Inode>, DriveError> {
        if let Some(known) = self.find_in_memory(parent, name)? {
            return Ok(known);
        }
        let directory = self.directory(parent).await?;
        if self.tree.lock().is_in_locked_vault(parent) {
            return self.find_encrypted(parent, name).await;
        }
        let asked = Instant::now();
        let place = {
            let nodes = self.tree.lock();
            nodes.child(parent, name).and_then(|inode| Some(nodes.get(inode).ok()?.place.clone()))
        };
        let direct = directory.lookup(self.remote.as_ref(), name, place.as_ref());
        let mut found = match self.sooner(parent, &directory, direct, || self.known(parent, name)).await? {
            Sooner::Listed(known) => return Ok(known),
            Sooner::Direct(found) => found,
        };
        if found.is_none() && matches!(directory, Directory::Vault(_)) {
            // It may be listed under this name all the same: a conflicting copy, or a foreign client's way of writing it.
            found = self.names(parent).await?.1.get(name);
        }
        let mut nodes = self.tree.lock();
        match found {
            Some(found) => {
                let inode = nodes.adopt(parent, found, asked)?;
                nodes.check_placed(inode)?;
                Ok(Some(inode))
            }
            None => {
                let Some(gone) = nodes.child(parent, name) else { return Ok(None) };
                if nodes.get(parent)?.has_same_names_as(asked) {
                    nodes.note_missing(gone, asked);
                    nodes.check_placed(gone)?;
                }
                // An answer that is older than what is known says nothing for sure; a vault is not told to be missing for it.
                if nodes.leads_to_binding(gone) {
                    return Err(DriveError::Displaced(Displacement::Missing));
                }
                Ok(None)
            }
        }
    }

    /// Finds a name in a locked vault among those that are listed. The server is never asked for it: programs go on asking for clear names
    /// that they knew while the vault was unlocked.
    async fn find_encrypted(&self, parent: Inode, name: &OsStr) -> Result<Option<Inode>, DriveError> {
        let (asked, names) = self.names(parent).await?;
        let Some(found) = names.get(name) else {
            if asked.elapsed() >= self.options.attr_timeout && !self.remote.is_reachable() {
                return Err(RemoteError::Disconnected("whether it exists is not known".to_owned()).into());
            }
            return Ok(None);
        };
        let mut nodes = self.tree.lock();
        let inode = nodes.adopt(parent, found, asked)?;
        nodes.check_placed(inode)?;
        Ok(Some(inode))
    }

    /// What `name` in `parent` stands for; `None` if there is no such name. In a vault `name` is in NFC.
    pub(super) async fn target(&self, parent: Inode, name: &OsStr) -> Result<Option<Target>, DriveError> {
        let Some(inode) = self.find(parent, name).await? else { return Ok(None) };
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        Ok(Some(Target {
            inode,
            kind: node.attributes.kind,
            place: node.place.clone(),
            file: node.file.clone(),
        }))
    }

    /// What is known of a name without asking the server: `None` if it has to be asked.
    fn known(&self, parent: Inode, name: &OsStr) -> Result<Option<Option<Inode>>, DriveError> {
        if self.removals.hides(parent, name) {
            return Ok(Some(None));
        }
        let mut nodes = self.tree.lock();
        let mut fetched = None;
        if let Some(inode) = nodes.child(parent, name) {
            nodes.check_placed(inode)?;
            let node = nodes.get(inode)?;
            if node.is_unsaved() || self.is_believed(node.fetched) {
                return Ok(Some(Some(inode)));
            }
            // What this mount changed since has to be asked for; what is merely old may stand in a newer listing.
            let Some(at) = node.fetched else { return Ok(None) };
            fetched = Some(at);
        }
        let Some((listed, names)) = &nodes.get(parent)?.listing else { return Ok(None) };
        let listed = *listed;
        if !self.is_believed(Some(listed)) || fetched.is_some_and(|at| at > listed) {
            return Ok(None);
        }
        match names.get(name) {
            Some(found) => nodes.adopt(parent, found, listed).map(|inode| Some(Some(inode))),
            // That a name is missing is believed no longer than any attribute: while the server is out of reach nobody knows.
            None => Ok((listed.elapsed() < self.options.attr_timeout).then_some(None)),
        }
    }

    /// Whether something fetched at that time may still be believed. While the server can't be asked, it is all there is.
    pub(super) fn is_believed(&self, fetched: Option<Instant>) -> bool {
        fetched.is_some_and(|at| at.elapsed() < self.options.attr_timeout || !self.remote.is_reachable())
    }

    /// The names in a directory, from memory while they are fresh, and when the server was asked for them.
    pub(super) async fn names(&self, inode: Inode) -> Result<(Instant, Arc<Names>), DriveError> {
        self.names_for(inode, Purpose::Names).await
    }

    /// Whether the names to show in a directory are known, and believed.
    pub(super) fn knows_names(&self, inode: Inode) -> bool {
        let nodes = self.tree.lock();
        let Ok(node) = nodes.get(inode) else { return false };
        let is_unknown = matches!(node.place, Place::Plain) && node.vault == VaultHere::Unknown;
        !is_unknown && node.listing.as_ref().is_some_and(|(listed, _)| self.is_believed(Some(*listed)))
    }

    async fn names_for(&self, inode: Inode, purpose: Purpose) -> Result<(Instant, Arc<Names>), DriveError> {
        let directory = {
            let nodes = self.tree.lock();
            // Nothing is told of a vault that was locked since it was listed.
            nodes.check_unlocked(inode)?;
            if let Some((listed, names)) = &nodes.get(inode)?.listing
                && self.is_believed(Some(*listed))
            {
                return Ok((*listed, Arc::clone(names)));
            }
            nodes.directory(inode)?
        };
        if matches!(directory, Directory::Vault(_)) {
            self.look_at_marker_files(inode);
        }
        let listed = self.listings.list(&self.remote, &directory, purpose).await?;
        let asked = listed.asked;
        if !self.options.read_only {
            self.remove_debris(&directory.path(), &listed.debris);
        }
        let mut names = listed.names.clone();
        if matches!(directory, Directory::Plain(_)) {
            self.note_markers(inode, Markers::in_listing(&names)).await?;
        }
        let mut nodes = self.tree.lock();
        nodes.check_unlocked(inode)?;
        // A directory that became unlocked meanwhile shows other names.
        if matches!(directory, Directory::Plain(_)) && nodes.bindings().unlocked(inode).is_some() {
            return Err(DriveError::Stale);
        }
        let node = nodes.get_mut(inode)?;
        // What this mount did meanwhile may lack in it.
        let is_true = node.bring_up_to_date(&mut names, asked);
        nodes.keep_bound(inode, &mut names);
        let node = nodes.get_mut(inode)?;
        for name in self.removals.hidden_in(inode) {
            names.remove(&name);
        }
        let names = Arc::new(names);
        if !is_true {
            return Ok((asked, names));
        }
        node.listing = Some((asked, Arc::clone(&names)));
        self.listed.notify_one();
        let children: Vec<(OsString, Inode)> =
            node.children.iter().map(|(name, &child)| (name.clone(), child)).collect();
        for (name, child) in children {
            match names.get(&name) {
                Some(found) => {
                    nodes.adopt(inode, found, asked)?;
                }
                None => nodes.note_missing(child, asked),
            }
        }
        Ok((asked, names))
    }

    /// The names to show: what the server lists, and new files that are not there yet.
    pub(super) async fn shown_names(&self, inode: Inode) -> Result<OpenDirectory, DriveError> {
        let vault = self.directory(inode).await?.vault();
        let (asked, names) = self.names_for(inode, Purpose::Walk).await?;
        let held = self.remote.names_budget().take(OpenDirectory::bytes_for(&names));
        let held = held.map_err(RemoteError::from)?;
        let hides_trash = self.is_in_trash(inode, OsStr::new(TRASH));
        let nodes = self.tree.lock();
        let mut unsaved = HashMap::new();
        for (name, &child) in &nodes.get(inode)?.children {
            let node = nodes.get(child)?;
            if node.is_unsaved() {
                let (attributes, place) = (node.attributes, node.place.clone());
                unsaved.insert(name.clone(), Found { name: name.clone(), attributes, place });
            }
        }
        Ok(OpenDirectory::new(names, vault, hides_trash, unsaved, asked, held))
    }

    /// Removes what a dead process of this machine left, in the background.
    fn remove_debris(&self, directory: &RemotePath, debris: &[RemoteName]) {
        if debris.is_empty() {
            return;
        }
        let (remote, directory, debris) = (Arc::clone(&self.remote), directory.clone(), debris.to_vec());
        tokio::spawn(async move {
            for name in debris {
                let path = directory.join(&name);
                match remote.stat(&path).await {
                    Ok(attributes) if attributes.kind == RemoteKind::Directory => {
                        discard_directory(remote.as_ref(), &path).await;
                    }
                    Ok(_) => {
                        if let Err(error) = remote.remove(&path).await {
                            temporary::abandon(&path, &error);
                        }
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// Looks once whether a plain directory is a vault, by its marker files, however many names it holds.
    async fn look_for_vault(&self, inode: Inode) -> Result<(), DriveError> {
        let path = {
            let mut nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            let unknown = matches!(node.place, Place::Plain) && node.vault == VaultHere::Unknown;
            let is_unlocked = nodes.bindings().unlocked(inode).is_some();
            if !unknown || is_unlocked || node.attributes.kind != RemoteKind::Directory {
                return Ok(());
            }
            if !self.options.vaults || nodes.is_below_locked_vault(inode) {
                nodes.get_mut(inode)?.vault = VaultHere::No;
                return Ok(());
            }
            nodes.plain_path(inode)?
        };
        let markers = Markers::on_server(self.remote.as_ref(), &path).await?;
        self.note_markers(inode, markers).await
    }

    async fn note_markers(&self, inode: Inode, markers: Markers) -> Result<(), DriveError> {
        let path = {
            let mut nodes = self.tree.lock();
            if nodes.bindings().contains(inode) && !markers.are_a_vault() {
                nodes.displace(inode, Displacement::NotThisVault);
                return nodes.check_placed(inode);
            }
            let in_vault = nodes.is_below_locked_vault(inode);
            let node = nodes.get_mut(inode)?;
            if node.vault == VaultHere::Found {
                return Ok(());
            }
            if !self.options.vaults || in_vault || !markers.are_a_vault() {
                node.vault = VaultHere::No;
                return Ok(());
            }
            node.vault = VaultHere::Found;
            nodes.plain_path(inode)?
        };
        self.meet_vault(inode, &path).await;
        Ok(())
    }

    /// Asks for the mounted directory's own attributes, so that they are here when the first program asks.
    pub async fn look_at_root(&self) {
        if let Err(error) = self.attributes(Inode::ROOT).await {
            tracing::debug!(errno = error.errno(), "the first program asks for the root's attributes itself");
        }
    }

    /// A node's attributes as the mount shows them, and how long they hold.
    pub(super) async fn attributes(&self, inode: Inode) -> Result<TimedAttributes, DriveError> {
        if let Some(shown) = self.known_attributes(inode)? {
            return Ok(shown);
        }
        let asked = Instant::now();
        let direct = async {
            // Their questions go first, so that all is there when this one is answered.
            let ((), attributes) = futures::join!(self.refresh_files_in(inode), self.fetch_attributes(inode));
            attributes
        };
        let fetched = match self.stale_in(inode)? {
            Some(parent) => {
                let directory = self.tree.directory(parent)?;
                match self.sooner(parent, &directory, direct, || self.known_attributes(inode)).await {
                    Ok(Sooner::Listed(shown)) => return Ok(shown),
                    Ok(Sooner::Direct(attributes)) => Ok(attributes),
                    Err(error) => Err(error),
                }
            }
            None => direct.await,
        };
        let mut nodes = self.tree.lock();
        match fetched {
            // It may have got another name while the server was asked about the old one.
            Err(error) if error.is_not_found() && nodes.get(inode)?.knows_better_than(asked) => {
                Ok(self.shown(inode, nodes.get(inode)?))
            }
            Ok(attributes) => {
                if attributes.kind != nodes.get(inode)?.attributes.kind {
                    if nodes.leads_to_binding(inode) {
                        nodes.displace(inode, Displacement::of(attributes.kind));
                        nodes.check_placed(inode)?;
                    }
                    return Err(DriveError::Stale);
                }
                nodes.note_attributes(inode, attributes, asked)?;
                Ok(self.shown(inode, nodes.get(inode)?))
            }
            Err(error) => {
                // The listing may tell what was before the question.
                let parent = nodes.get(inode)?.parent;
                if let Ok(above) = nodes.get_mut(parent) {
                    above.listing = None;
                }
                if error.is_not_found() && inode != Inode::ROOT {
                    nodes.note_missing(inode, asked);
                    // What is open is shown as it was opened.
                    if let Ok(node) = nodes.get(inode)
                        && node.missing
                    {
                        return Ok(self.shown(inode, node));
                    }
                }
                Err(error)
            }
        }
    }

    /// The directory around a node whose attributes are merely old: its listing has new ones.
    fn stale_in(&self, inode: Inode) -> Result<Option<Inode>, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        Ok((inode != Inode::ROOT && !node.detached && node.fetched.is_some()).then_some(node.parent))
    }

    pub(super) fn known_attributes(&self, inode: Inode) -> Result<Option<TimedAttributes>, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        let known = node.is_unsaved() || self.is_believed(node.fetched);
        Ok(known.then(|| self.shown(inode, node)))
    }

    /// Asks the server for a node's attributes; the length is the cleartext's.
    pub(super) async fn fetch_attributes(&self, inode: Inode) -> Result<RemoteAttributes, DriveError> {
        enum Ask {
            Path(RemotePath),
            Open(Arc<File>),
            Again(Inode, OsString, Place),
            Known(RemoteAttributes),
        }
        let ask = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            match (&node.place, &node.file) {
                (_, Some(file)) if node.detached => Ask::Open(Arc::clone(file)),
                _ if node.detached => return Err(DriveError::Stale),
                (Place::Plain, _) => Ask::Path(nodes.plain_path(inode)?),
                (Place::Vault { node: VaultNode::Unknown(_) | VaultNode::BrokenDirectory(_), .. }, _) => {
                    Ask::Known(node.attributes)
                }
                (Place::Vault { .. }, _) => Ask::Again(node.parent, node.name.clone(), node.place.clone()),
            }
        };
        match ask {
            Ask::Known(attributes) => Ok(attributes),
            Ask::Path(path) => Ok(self.remote.stat(&path).await?),
            Ask::Open(file) => {
                // Not held while the server is asked: who writes would wait for that.
                let stored = match &file.state.read().await.backing {
                    Backing::Stored { file, .. } => Some(Arc::clone(file)),
                    Backing::Staged { .. } => None,
                };
                // What was never saved is known better here.
                let attributes = match stored {
                    Some(stored) => stored.stat().await?,
                    None => self.tree.lock().get(inode)?.attributes,
                };
                Ok(RemoteAttributes { size: file.length(), ..attributes })
            }
            Ask::Again(parent, name, place) => {
                let directory = self.tree.directory(parent)?;
                let found = match directory.lookup(self.remote.as_ref(), &name, Some(&place)).await? {
                    Some(found) => Some(found),
                    None => {
                        if let Ok(node) = self.tree.lock().get_mut(parent) {
                            node.listing = None;
                        }
                        self.names(parent).await?.1.get(&name)
                    }
                };
                Ok(found.ok_or(DriveError::NotFound)?.attributes)
            }
        }
    }

    /// A node as programs see it: what they wrote counts, saved or not.
    pub(super) fn shown(&self, inode: Inode, node: &Node) -> TimedAttributes {
        let unsaved = node.file.as_ref().and_then(|file| file.unsaved());
        let RemoteAttributes { kind, size, mode, uid, gid, accessed, modified } = node.attributes;
        let (uid, gid) = match self.options.owner {
            Some(owner) => owner,
            None if node.is_in_vault() => own_ids(),
            None => (uid, gid),
        };
        let accessed = unsaved.and_then(|unsaved| unsaved.accessed).unwrap_or(accessed);
        let modified = unsaved.map_or(modified, |unsaved| unsaved.modified);
        // What is open is read as it was opened, and the kernel cuts reads at the length that it is told: what somebody else has
        // meanwhile put in its place is seen when the file is opened again.
        let size = node.file.as_ref().map_or(size, |file| file.length());
        let is_shown_as_open = size != node.attributes.size;
        let attributes = Attributes {
            inode,
            kind: file_kind(kind),
            size,
            mode: self.shown_mode(node.is_in_vault(), kind, mode),
            links: if node.detached || node.missing { 0 } else { 1 },
            uid,
            gid,
            accessed,
            modified,
            changed: later(modified, node.changed),
        };
        // What is not saved yet changes when the server has it, and costs nothing to ask for again; so does what is open, when it is
        // closed.
        let ttl = match node.fetched {
            Some(at) if unsaved.is_none() && !node.detached && !is_shown_as_open => {
                self.options.attr_timeout.saturating_sub(at.elapsed())
            }
            _ => Duration::ZERO,
        };
        TimedAttributes { attributes, ttl, name_ttl: ttl }
    }

    /// What was found, before it is a node.
    pub(super) fn shown_found(&self, inode: Inode, found: &Found) -> TimedAttributes {
        let RemoteAttributes { kind, size, mode, uid, gid, accessed, modified } = found.attributes;
        let attributes = Attributes {
            inode,
            kind: file_kind(kind),
            size,
            mode,
            links: 1,
            uid,
            gid,
            accessed,
            modified,
            changed: modified,
        };
        TimedAttributes { attributes, ttl: Duration::ZERO, name_ttl: Duration::ZERO }
    }

    /// Where a node's permissions and times are kept on the server: on the ciphertext file, for directories on the content
    /// directory (`vault-format` section 7).
    pub(super) fn attribute_path(&self, nodes: &Nodes<'_>, inode: Inode) -> Result<RemotePath, DriveError> {
        let node = nodes.get(inode)?;
        let Place::Vault { entry, node: kind, .. } = &node.place else { return nodes.plain_path(inode) };
        match (nodes.directory(node.parent)?, kind) {
            (Directory::Vault(parent), VaultNode::Directory(id)) => {
                Ok(content_path(&parent.root, &parent.cryptor, id))
            }
            (Directory::Vault(parent), VaultNode::File) => Ok(parent.file_path(entry)),
            (Directory::Vault(parent), VaultNode::Symlink) => Ok(parent.symlink_path(entry)),
            (Directory::Vault(parent), _) => Ok(parent.content().join(&entry.name)),
            (Directory::Plain(_), _) => Err(DriveError::Stale),
        }
    }

    /// Has the names in a directory asked for anew when they are next wanted.
    pub(super) fn forget_names(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        if let Ok(node) = nodes.get_mut(inode) {
            node.listing = None;
        }
        if let Ok(directory) = nodes.directory(inode) {
            self.listings.forget(&directory.path());
        }
    }

    /// A change of the node's attributes failed, or only its answer was lost: what is known of them is asked for anew.
    pub(super) fn expire_listed(&self, inode: Inode) {
        self.expire(inode);
        let mut nodes = self.tree.lock();
        if let Ok(parent) = nodes.get(inode).map(|node| node.parent)
            && let Ok(above) = nodes.get_mut(parent)
        {
            above.listing = None;
        }
    }

    /// Has the node's attributes fetched anew when they are next asked for.
    pub(super) fn expire(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get_mut(inode) else { return };
        node.expire();
        // A listing that waits to be used was asked for before.
        let (parent, name) = (node.parent, node.name.clone());
        if let Ok(directory) = nodes.directory(parent) {
            self.listings.forget(&directory.path());
        }
        self.forget_opened(parent, &name);
    }
}

/// The user and group of this process.
pub(super) fn own_ids() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

fn file_kind(kind: RemoteKind) -> FileKind {
    match kind {
        RemoteKind::File => FileKind::File,
        RemoteKind::Directory => FileKind::Directory,
        RemoteKind::Symlink => FileKind::Symlink,
        RemoteKind::Fifo => FileKind::Fifo,
        RemoteKind::Socket => FileKind::Socket,
        RemoteKind::CharDevice => FileKind::CharDevice,
        RemoteKind::BlockDevice => FileKind::BlockDevice,
    }
}

impl Markers {
    /// The markers as a look at each of them tells: one round trip for all.
    async fn on_server(remote: &dyn crate::remote::Remote, path: &RemotePath) -> Result<Self, DriveError> {
        let kind = |name: &'static str| {
            let path = RemoteName::parse(name.as_bytes()).map(|name| path.join(&name));
            async move {
                match path {
                    Some(path) => match remote.stat(&path).await {
                        Ok(attributes) => Ok(Some(attributes.kind)),
                        Err(error) if error.is_failure() => Err(error),
                        Err(_) => Ok(None),
                    },
                    None => Ok::<_, RemoteError>(None),
                }
            }
        };
        let (config, masterkey, uvf, data) =
            futures::try_join!(kind(Self::CONFIG), kind(Self::MASTERKEY), kind(Self::UVF), kind(Self::DATA))?;
        Ok(Self::from_kinds(config, masterkey, uvf, data))
    }

    fn in_listing(names: &Names) -> Self {
        let kind = |name: &str| names.get(OsStr::new(name)).map(|found| found.attributes.kind);
        Self::from_kinds(kind(Self::CONFIG), kind(Self::MASTERKEY), kind(Self::UVF), kind(Self::DATA))
    }
}

//! From names to nodes: lookup, listing, attributes, and detecting vaults on the way.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Duration;

use scaup_fuse::filesystem::{Attributes, FileKind, Inode, RequestError as _, TimedAttributes};

use super::trash::TRASH;
use crate::drive::ahead::listings::Purpose;
use crate::drive::ahead::look_ahead::Sooner;
use crate::drive::content::file::File;
use crate::drive::content::state::{Backing, StateGuard};
use crate::drive::error::DriveError;
use crate::drive::handles::OpenDirectory;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::displacement::Displacement;
use crate::drive::places::listed_names::Names;
use crate::drive::places::place::{Found, Place};
use crate::drive::tree::Nodes;
use crate::drive::tree::node::{Node, VaultHere};
use crate::drive::{Drive, later};
use crate::remote::{RemoteAttributes, RemoteError, RemoteKind, RemoteName, RemotePath};
use crate::vault::{Markers, VaultNode, content_path, temporary};

/// A node that a name stands for, as the operations here need it.
pub(super) struct NamedNode {
    pub(super) inode: Inode,
    pub(super) kind: RemoteKind,
    pub(super) place: Place,
    pub(super) file: Option<Arc<File>>,
}

impl NamedNode {
    /// Locks the content, so that nothing is saved while its name is being removed. Also returns whether the server has
    /// the file under its name: a new file that was never saved is not there.
    pub(super) async fn hold(&self, drive: &Drive) -> Result<(Option<StateGuard<'_>>, bool), DriveError> {
        let Some(file) = &self.file else { return Ok((None, true)) };
        match file.settled(drive).await {
            Ok(state) => {
                let is_there = !matches!(state.backing, Backing::Staged { replaces: None, .. });
                Ok((Some(state), is_there))
            }
            Err(error) if error.is_not_found() => Ok((Some(file.lock().await), false)),
            // Somebody else's file has the name by now.
            Err(DriveError::Damaged(_)) => Ok((Some(file.lock().await), true)),
            Err(error) => Err(error),
        }
    }
}

impl Drive {
    /// Returns the directory `inode`, after checking whether it is a vault.
    pub(in crate::drive) async fn directory(&self, inode: Inode) -> Result<Directory, DriveError> {
        self.look_for_vault(inode).await?;
        self.tree.directory(inode)
    }

    /// Like [`Self::find`], but without asking the server: `None` if it must be asked.
    pub(in crate::drive) fn find_in_memory(
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
    pub(in crate::drive) async fn find(
        &self,
        parent: Inode,
        name: &OsStr,
    ) -> Result<Option<Inode>, DriveError> {
        if let Some(known) = self.find_in_memory(parent, name)? {
            return Ok(known);
        }
        let directory = self.directory(parent).await?;
        if self.tree.lock().is_in_locked_vault(parent) {
            return self.find_encrypted(parent, name).await;
        }
        let asked = Moment::now();
        let place = {
            let nodes = self.tree.lock();
            nodes.child(parent, name).and_then(|inode| Some(nodes.get(inode).ok()?.place().clone()))
        };
        let direct = directory.lookup(self.remote.as_ref(), name, place.as_ref());
        let mut found = match self.sooner(parent, &directory, direct, || self.known(parent, name)).await? {
            Sooner::Listed(known) => return Ok(known),
            Sooner::Direct(found) => found,
        };
        if found.is_none() && matches!(directory, Directory::Vault(_)) {
            // The listing may have this name nevertheless: a conflicting copy, or a name as a foreign client writes it.
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
                if nodes.get(parent)?.names.are_unchanged_since(asked) {
                    nodes.mark_missing(gone, asked);
                    nodes.check_placed(gone)?;
                }
                // A reply that is older than what is known proves nothing; a vault is not reported missing because of
                // it.
                if nodes.leads_to_binding(gone) {
                    return Err(DriveError::Displaced(Displacement::Missing));
                }
                Ok(None)
            }
        }
    }

    /// Finds a name in a locked vault in the vault's listing. The server is never asked for it: programs go on asking
    /// for cleartext names that they knew while the vault was unlocked.
    async fn find_encrypted(&self, parent: Inode, name: &OsStr) -> Result<Option<Inode>, DriveError> {
        let (asked, names) = self.names(parent).await?;
        let Some(found) = names.get(name) else {
            if asked.elapsed() >= self.options.attr_timeout && !self.remote.is_reachable() {
                return Err(
                    RemoteError::Disconnected("it is not known whether the name exists".to_owned()).into()
                );
            }
            return Ok(None);
        };
        let mut nodes = self.tree.lock();
        let inode = nodes.adopt(parent, found, asked)?;
        nodes.check_placed(inode)?;
        Ok(Some(inode))
    }

    /// Returns what `name` in `parent` stands for; `None` if there is no such name. In a vault `name` is in NFC.
    pub(super) async fn target(&self, parent: Inode, name: &OsStr) -> Result<Option<NamedNode>, DriveError> {
        let Some(inode) = self.find(parent, name).await? else { return Ok(None) };
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        Ok(Some(NamedNode {
            inode,
            kind: node.kind(),
            place: node.place().clone(),
            file: node.file().cloned(),
        }))
    }

    /// Returns what is known of a name without asking the server: `None` if the server has to be asked.
    fn known(&self, parent: Inode, name: &OsStr) -> Result<Option<Option<Inode>>, DriveError> {
        if self.removals.hides(parent, name) {
            return Ok(Some(None));
        }
        let mut nodes = self.tree.lock();
        let mut fetched = None;
        if let Some(inode) = nodes.child(parent, name) {
            nodes.check_placed(inode)?;
            let node = nodes.get(inode)?;
            if node.is_unsaved() || self.is_believed(node.attributes.fetched()) {
                return Ok(Some(Some(inode)));
            }
            if self.is_listed_ahead(&mut nodes, inode) {
                return Ok(Some(Some(inode)));
            }
            let node = nodes.get(inode)?;
            // A node that this mount changed has to be requested; one that is merely old may be in a newer listing.
            let Some(at) = node.attributes.fetched() else { return Ok(None) };
            fetched = Some(at);
        }
        let Some((listed, names)) = nodes.get(parent)?.names.listing() else { return Ok(None) };
        if !self.is_believed(Some(listed)) || fetched.is_some_and(|at| at > listed) {
            return Ok(None);
        }
        match names.get(name) {
            Some(found) => nodes.adopt(parent, found, listed).map(|inode| Some(Some(inode))),
            // A missing name is believed no longer than any attribute: while the server is out of reach nobody knows.
            None => Ok((listed.elapsed() < self.options.attr_timeout).then_some(None)),
        }
    }

    /// Whether a directory that is known for long was listed ahead since, for a walk that enters it now: so it is still
    /// there. It is then believed again.
    fn is_listed_ahead(&self, nodes: &mut Nodes<'_>, inode: Inode) -> bool {
        if nodes.get(inode).is_ok_and(|node| node.kind() != RemoteKind::Directory) {
            return false;
        }
        let Ok(directory) = nodes.directory(inode) else { return false };
        let Some(listed) = self.listings.waiting(&directory.path()) else { return false };
        nodes.get_mut(inode).is_ok_and(|node| node.attributes.confirm(listed.asked.as_of_now()))
    }

    /// Whether something fetched at that time may still be believed. While the server can't be reached, there is
    /// nothing newer.
    pub(in crate::drive) fn is_believed(&self, fetched: Option<Moment>) -> bool {
        fetched.is_some_and(|at| at.elapsed() < self.options.attr_timeout || !self.remote.is_reachable())
    }

    /// Returns the names in a directory, from memory while they are fresh, and when the server was asked for them.
    pub(in crate::drive) async fn names(&self, inode: Inode) -> Result<(Moment, Arc<Names>), DriveError> {
        self.names_for(inode, Purpose::Names).await
    }

    /// Whether the names to show in a directory are known, and believed.
    pub(in crate::drive) fn knows_names(&self, inode: Inode) -> bool {
        let nodes = self.tree.lock();
        let Ok(node) = nodes.get(inode) else { return false };
        !node.may_be_vault() && node.names.listing().is_some_and(|(listed, _)| self.is_believed(Some(listed)))
    }

    async fn names_for(&self, inode: Inode, purpose: Purpose) -> Result<(Moment, Arc<Names>), DriveError> {
        let directory = {
            let nodes = self.tree.lock();
            // The names of a vault that was locked since it was listed are not returned.
            nodes.check_unlocked(inode)?;
            if let Some((listed, names)) = nodes.get(inode)?.names.listing()
                && self.is_believed(Some(listed))
            {
                let known = (listed, Arc::clone(names));
                if purpose == Purpose::List
                    && let Ok(directory) = nodes.directory(inode)
                {
                    self.listings.pass(&self.remote, &directory);
                }
                return Ok(known);
            }
            nodes.directory(inode)?
        };
        if matches!(directory, Directory::Vault(_)) {
            self.look_at_marker_files(inode);
        }
        let listed = self.listings.list(&self.remote, (inode, &directory), purpose).await?;
        // What was fetched ahead, or took long, is believed from now on.
        let asked = listed.asked.as_of_now();
        self.sweep(inode, directory.clone(), listed.debris.clone());
        if let Directory::Vault(directory) = &directory {
            self.tell_undecided(inode, &directory.vault, listed.undecided);
        }
        let mut names = listed.names.clone();
        if matches!(directory, Directory::Plain(_)) {
            self.believe_markers(inode, Markers::in_listing(&names)).await?;
        }
        let mut nodes = self.tree.lock();
        nodes.check_unlocked(inode)?;
        // A directory that became unlocked meanwhile shows other names.
        if matches!(directory, Directory::Plain(_)) && nodes.bindings().unlocked(inode).is_some() {
            return Err(DriveError::Stale);
        }
        let node = nodes.get_mut(inode)?;
        // The listing may lack what this mount did meanwhile.
        let is_true = node.names.bring_up_to_date(&mut names, asked);
        nodes.keep_bound(inode, &mut names);
        let node = nodes.get_mut(inode)?;
        for name in self.removals.hidden_in(inode) {
            names.remove(&name);
        }
        let names = Arc::new(names);
        if !is_true {
            return Ok((asked, names));
        }
        node.names.believe_listing(Arc::clone(&names), asked);
        self.listed.notify_one();
        let children: Vec<(OsString, Inode)> =
            node.children().iter().map(|(name, &child)| (name.clone(), child)).collect();
        for (name, child) in children {
            match names.get(&name) {
                Some(found) => {
                    nodes.adopt(inode, found, asked)?;
                }
                None => nodes.mark_missing(child, asked),
            }
        }
        Ok((asked, names))
    }

    /// Returns the names to show: those that the server lists, and new files that are not there yet.
    pub(in crate::drive) async fn shown_names(&self, inode: Inode) -> Result<OpenDirectory, DriveError> {
        // Taken before the names, so that those of a vault that is locked meanwhile are not shown.
        let mut vault = self.tree.directory(inode)?.vault();
        let listed = match self.names_for(inode, Purpose::List).await {
            // The listing showed that it is a vault, which is unlocked.
            Err(DriveError::Stale)
                if vault.is_none() && self.tree.lock().bindings().unlocked(inode).is_some() =>
            {
                vault = self.tree.directory(inode)?.vault();
                self.names_for(inode, Purpose::List).await
            }
            listed => listed,
        };
        let (asked, names) = listed?;
        let held = self.remote.names_budget().take(OpenDirectory::bytes_for(&names));
        let held = held.map_err(RemoteError::from)?;
        let hides_trash = self.is_in_trash(inode, OsStr::new(TRASH));
        let nodes = self.tree.lock();
        let mut unsaved = HashMap::new();
        for (name, &child) in nodes.get(inode)?.children() {
            let node = nodes.get(child)?;
            if node.is_unsaved() {
                unsaved.insert(name.clone(), node.as_found());
            }
        }
        Ok(OpenDirectory::new(names, vault, hides_trash, unsaved, asked, held))
    }

    /// Checks once whether a plain directory is a vault, by its marker files, however many names it holds.
    async fn look_for_vault(&self, inode: Inode) -> Result<(), DriveError> {
        let path = {
            let mut nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            let is_unlocked = nodes.bindings().unlocked(inode).is_some();
            if !node.may_be_vault() || is_unlocked || node.kind() != RemoteKind::Directory {
                return Ok(());
            }
            if !self.options.vaults || nodes.is_below_locked_vault(inode) {
                nodes.get_mut(inode)?.set_vault_here(VaultHere::No);
                return Ok(());
            }
            nodes.plain_path(inode)?
        };
        let markers = Markers::on_server(self.remote.as_ref(), &path).await?;
        self.believe_markers(inode, markers).await
    }

    /// Believes what the marker files in a plain directory tell: whether it is a vault, and, if one is bound to it,
    /// whether that is displaced.
    async fn believe_markers(&self, inode: Inode, markers: Markers) -> Result<(), DriveError> {
        let path = {
            let mut nodes = self.tree.lock();
            if nodes.bindings().contains(inode) && !markers.are_a_vault() {
                nodes.displace(inode, Displacement::NotThisVault);
                return nodes.check_placed(inode);
            }
            let in_vault = nodes.is_below_locked_vault(inode);
            let node = nodes.get_mut(inode)?;
            if node.vault_here() == VaultHere::Found {
                return Ok(());
            }
            if !self.options.vaults || in_vault || !markers.are_a_vault() {
                node.set_vault_here(VaultHere::No);
                return Ok(());
            }
            node.set_vault_here(VaultHere::Found);
            nodes.plain_path(inode)?
        };
        self.meet_vault(inode, &path).await;
        Ok(())
    }

    /// Fetches the mounted directory's own attributes, so that they are in memory when the first program asks.
    pub async fn look_at_root(&self) {
        if let Err(error) = self.attributes(Inode::ROOT).await {
            tracing::debug!(
                error = error.for_log(self.options.log_names),
                "the first program asks for the root's attributes itself"
            );
        }
    }

    /// Returns a node's attributes as the mount shows them, and how long they hold.
    pub(in crate::drive) async fn attributes(&self, inode: Inode) -> Result<TimedAttributes, DriveError> {
        if let Some(shown) = self.known_attributes(inode)? {
            return Ok(shown);
        }
        let asked = Moment::now();
        let direct = async {
            // Requests for the files go first, so that all is there when this one is answered.
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
            // The node may have got another name while the server was asked about the old one.
            Err(error) if error.is_not_found() && nodes.get(inode)?.attributes.know_better_than(asked) => {
                Ok(self.visible_attributes(inode, nodes.get(inode)?))
            }
            Ok(attributes) => {
                if attributes.kind != nodes.get(inode)?.kind() {
                    if nodes.leads_to_binding(inode) {
                        nodes.displace(inode, Displacement::of(attributes.kind));
                        nodes.check_placed(inode)?;
                    }
                    return Err(DriveError::Stale);
                }
                nodes.believe_attributes(inode, attributes, asked)?;
                Ok(self.visible_attributes(inode, nodes.get(inode)?))
            }
            Err(error) => {
                // The listing may be older than this request.
                let parent = nodes.get(inode)?.parent();
                if let Ok(above) = nodes.get_mut(parent) {
                    above.names.drop_listing();
                }
                if error.is_not_found() && inode != Inode::ROOT {
                    nodes.mark_missing(inode, asked);
                    // An open file is shown as it was opened.
                    if let Ok(node) = nodes.get(inode)
                        && node.is_missing()
                    {
                        return Ok(self.visible_attributes(inode, node));
                    }
                }
                Err(error)
            }
        }
    }

    /// Returns the directory around a node whose attributes are merely old: a new listing has them.
    fn stale_in(&self, inode: Inode) -> Result<Option<Inode>, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        Ok((inode != Inode::ROOT && !node.is_detached() && node.attributes.fetched().is_some())
            .then_some(node.parent()))
    }

    pub(in crate::drive) fn known_attributes(
        &self,
        inode: Inode,
    ) -> Result<Option<TimedAttributes>, DriveError> {
        let mut nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        let known = node.is_unsaved()
            || self.is_believed(node.attributes.fetched())
            || self.is_listed_ahead(&mut nodes, inode);
        known.then(|| Ok(self.visible_attributes(inode, nodes.get(inode)?))).transpose()
    }

    /// Asks the server for a node's attributes; the length is the cleartext's.
    pub(in crate::drive) async fn fetch_attributes(
        &self,
        inode: Inode,
    ) -> Result<RemoteAttributes, DriveError> {
        enum Ask {
            Path(RemotePath),
            Open(Arc<File>),
            Again(Inode, OsString, Place),
            Known(RemoteAttributes),
        }
        let ask = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            match (node.place(), node.file()) {
                (_, Some(file)) if node.is_detached() => Ask::Open(Arc::clone(file)),
                _ if node.is_detached() => return Err(DriveError::Stale),
                (Place::Plain, _) => Ask::Path(nodes.plain_path(inode)?),
                (Place::Vault { node: VaultNode::Unknown(_) | VaultNode::BrokenDirectory(_), .. }, _) => {
                    Ask::Known(node.attributes.current())
                }
                (Place::Vault { .. }, _) => {
                    Ask::Again(node.parent(), node.name().to_owned(), node.place().clone())
                }
            }
        };
        match ask {
            Ask::Known(attributes) => Ok(attributes),
            Ask::Path(path) => Ok(self.remote.stat(&path).await?),
            Ask::Open(file) => {
                // The lock is not held during the request: a writer would wait for that.
                let stored = match &file.state().await.backing {
                    Backing::Stored(stored) => Some(Arc::clone(&stored.file)),
                    Backing::Staged { .. } => None,
                };
                // The attributes of content that was never saved are known better here.
                let attributes = match stored {
                    Some(stored) => stored.stat().await?,
                    None => self.tree.lock().get(inode)?.attributes.current(),
                };
                Ok(RemoteAttributes { size: file.length().0, ..attributes })
            }
            Ask::Again(parent, name, place) => {
                let directory = self.tree.directory(parent)?;
                let found = match directory.lookup(self.remote.as_ref(), &name, Some(&place)).await? {
                    Some(found) => Some(found),
                    None => {
                        if let Ok(node) = self.tree.lock().get_mut(parent) {
                            node.names.drop_listing();
                        }
                        self.names(parent).await?.1.get(&name)
                    }
                };
                Ok(found.ok_or(DriveError::NotFound)?.attributes)
            }
        }
    }

    /// Returns a node's attributes as programs see them: with what they wrote, saved or not.
    pub(in crate::drive) fn visible_attributes(&self, inode: Inode, node: &Node) -> TimedAttributes {
        let unsaved = node.file().and_then(|file| file.unsaved());
        let RemoteAttributes { kind, size, mode, uid, gid, accessed, modified } = node.attributes.current();
        let (uid, gid) = match self.options.owner {
            Some(owner) => owner,
            None if node.is_in_vault() => own_ids(),
            None => (uid, gid),
        };
        let accessed = unsaved.and_then(|unsaved| unsaved.accessed).unwrap_or(accessed);
        let modified = unsaved.map_or(modified, |unsaved| unsaved.modified);
        // An open file is read as it was opened, and the kernel cuts reads at the length that it is told: content that
        // somebody else has meanwhile put in its place is seen when the file is opened again. A file that is only kept
        // until the server has it on its disk is not open.
        let is_open = node.kernel.handles() > 0 || unsaved.is_some();
        let size = node.file().filter(|_| is_open).map_or(size, |file| file.length().0);
        let is_shown_as_open = size != node.attributes.current().size;
        let attributes = Attributes {
            inode,
            kind: file_kind(kind),
            size,
            mode: self.shown_mode(node.is_in_vault(), kind, mode),
            links: if node.has_lost_name() { 0 } else { 1 },
            uid,
            gid,
            accessed,
            modified,
            changed: later(modified, node.attributes.changed()),
        };
        // Attributes of unsaved content change when it reaches the server, and cost nothing to ask for again; those of
        // an open file change when it is closed.
        let ttl = match node.attributes.fetched() {
            Some(at) if unsaved.is_none() && !node.is_detached() && !is_shown_as_open => {
                self.options.attr_timeout.saturating_sub(at.elapsed())
            }
            _ => Duration::ZERO,
        };
        TimedAttributes { attributes, ttl, name_ttl: ttl }
    }

    /// Returns the attributes of an entry that is not a node yet.
    pub(in crate::drive) fn shown_found(&self, inode: Inode, found: &Found) -> TimedAttributes {
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

    /// Returns the path that keeps a node's permissions and times on the server: the ciphertext file, for directories
    /// the content directory (`docs/vault-format.md` section 7).
    pub(in crate::drive) fn attribute_path(
        &self,
        nodes: &Nodes<'_>,
        inode: Inode,
    ) -> Result<RemotePath, DriveError> {
        let node = nodes.get(inode)?;
        let Place::Vault { entry, node: kind, .. } = node.place() else { return nodes.plain_path(inode) };
        match (nodes.directory(node.parent())?, kind) {
            (Directory::Vault(parent), VaultNode::Directory(id)) => {
                Ok(content_path(&parent.root, &parent.cryptor, id))
            }
            (Directory::Vault(parent), _) => Ok(parent.path_of(entry)),
            (Directory::Plain(_), _) => Err(DriveError::Stale),
        }
    }

    /// Has the names in a directory listed again when they are next wanted.
    pub(in crate::drive) fn forget_names(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        if let Ok(node) = nodes.get_mut(inode) {
            node.names.drop_listing();
        }
        if let Ok(directory) = nodes.directory(inode) {
            self.listings.forget(&directory.path());
        }
    }

    /// Has everything in a directory looked up again if an entry was moved aside there to make a name free.
    pub(in crate::drive) fn look_for_asides(&self, inode: Inode) {
        let children: Vec<(OsString, Inode)> = {
            let nodes = self.tree.lock();
            let Ok(Directory::Vault(directory)) = nodes.directory(inode) else { return };
            if !directory.vault.takes_aside(&directory.id) {
                return;
            }
            let Ok(node) = nodes.get(inode) else { return };
            node.children().iter().map(|(name, &child)| (name.clone(), child)).collect()
        };
        self.forget_names(inode);
        for (name, child) in children {
            self.expire(child);
            if let Some(invalidate) = self.invalidate.get() {
                invalidate.entry(inode, &name);
            }
        }
    }

    /// Has a node's attributes fetched again after a change of them that failed, or whose reply was lost.
    pub(in crate::drive) fn expire_listed(&self, inode: Inode) {
        self.expire(inode);
        let mut nodes = self.tree.lock();
        if let Ok(parent) = nodes.get(inode).map(|node| node.parent())
            && let Ok(above) = nodes.get_mut(parent)
        {
            above.names.drop_listing();
        }
    }

    /// Has the node's attributes fetched again when they are next wanted.
    pub(in crate::drive) fn expire(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get_mut(inode) else { return };
        node.attributes.expire();
        // A listing that waits to be used was requested before.
        let (parent, name) = node.parent_and_name();
        if let Ok(directory) = nodes.directory(parent) {
            self.listings.forget(&directory.path());
        }
        self.forget_opened(parent, &name);
    }
}

/// Returns the user and group of this process.
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
    /// Finds the markers with one stat each: one round trip for all.
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

//! Unlink and rmdir, synchronous or write-behind.
//!
//! A program that removes one name in a directory mostly removes them all, and over a slow connection each would cost a
//! round trip. So once a removal in a directory has succeeded, the next ones there are answered at once and done in the
//! background, many at a time. Until a removal is done its name is hidden: lookups and listings lack it, and a task
//! that wants to use the name again waits here. If a removal fails in the background, the name is shown again, and
//! `status` says why.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scaup_fuse::filesystem::Inode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::lookup::NamedNode;
use crate::config::parts::OptionalPart;
use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::places::directory::Directory;
use crate::drive::places::place::{Place, plain_name};
use crate::remote::{RemoteError, RemoteKind, RemotePath};
use crate::vault::{HiddenNode, cleartext_name, temporary};

/// Most removals under way; the next one has to wait.
const UNDER_WAY_MAX: usize = 128;

/// Closed when a removal ends: nothing is ever sent.
type Done = watch::Receiver<()>;

/// All removals that were answered and are not done.
pub(in crate::drive) struct Removals {
    /// Keyed by the directory's inode, then by the name.
    under_way: Mutex<HashMap<Inode, HashMap<OsString, Done>>>,
    room: Arc<Semaphore>,
}

impl Default for Removals {
    fn default() -> Self {
        Self { under_way: Mutex::default(), room: Arc::new(Semaphore::new(UNDER_WAY_MAX)) }
    }
}

impl Removals {
    fn lock(&self) -> MutexGuard<'_, HashMap<Inode, HashMap<OsString, Done>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hides a name until the result is dropped. Waits while too many removals are under way; `None` if the mount ends.
    pub(super) async fn begin(self: &Arc<Self>, parent: Inode, name: &OsStr) -> Option<Removal> {
        let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
        let (sender, done) = watch::channel(());
        self.lock().entry(parent).or_default().insert(name.to_owned(), done);
        let removals = Arc::clone(self);
        Some(Removal { removals, parent, name: name.to_owned(), _done: sender, _room: room })
    }

    /// Returns how many removals are under way.
    pub(in crate::drive) fn under_way(&self) -> u64 {
        self.lock().values().map(|names| names.len() as u64).sum()
    }

    /// Whether a name is hidden since it is being removed.
    pub(super) fn hides(&self, parent: Inode, name: &OsStr) -> bool {
        self.lock().get(&parent).is_some_and(|names| names.contains_key(name))
    }

    /// Returns the names that are hidden in a directory.
    pub(super) fn hidden_in(&self, parent: Inode) -> Vec<OsString> {
        self.lock().get(&parent).map(|names| names.keys().cloned().collect()).unwrap_or_default()
    }

    /// Waits until a name is no longer being removed.
    pub(super) async fn done_with(&self, parent: Inode, name: &OsStr) {
        let done = self.lock().get(&parent).and_then(|names| names.get(name).cloned());
        wait_for(done).await;
    }

    /// Waits until nothing in a directory is being removed.
    pub(in crate::drive) async fn done_in(&self, parent: Inode) {
        let all: Vec<Done> =
            self.lock().get(&parent).map(|names| names.values().cloned().collect()).unwrap_or_default();
        wait_for(all).await;
    }

    /// Waits for all removals that are under way now.
    pub(in crate::drive) async fn all_done(&self) {
        let all: Vec<Done> = self.lock().values().flat_map(|names| names.values().cloned()).collect();
        wait_for(all).await;
    }
}

async fn wait_for(all: impl IntoIterator<Item = Done>) {
    for mut done in all {
        // `changed` fails once the sender is dropped, which is when the removal is done.
        while done.changed().await.is_ok() {}
    }
}

/// A name that is being removed: hidden until this is dropped.
pub(super) struct Removal {
    removals: Arc<Removals>,
    parent: Inode,
    name: OsString,
    _done: watch::Sender<()>,
    _room: OwnedSemaphorePermit,
}

impl Removal {
    /// Returns the directory around the name.
    pub(super) fn parent(&self) -> Inode {
        self.parent
    }

    /// Returns the name as the mount showed it.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut under_way = self.removals.lock();
        if let Some(names) = under_way.get_mut(&self.parent) {
            names.remove(&self.name);
            if names.is_empty() {
                under_way.remove(&self.parent);
            }
        }
    }
}

impl Drive {
    pub(in crate::drive) async fn remove_file(&self, parent: Inode, name: &OsStr) -> Result<(), DriveError> {
        self.check_writable(parent)?;
        let name = self.kept_name(parent, name);
        let target = self.target(parent, &name).await?.ok_or(DriveError::NotFound)?;
        if target.kind == RemoteKind::Directory {
            return Err(DriveError::IsADirectory);
        }
        self.check_named_once(parent, target.inode).await?;
        let (held, is_there) = target.hold(self).await?;
        // The file can be read while the server removes it.
        let shown = target.file.as_ref().zip(held.as_deref()).map(|(file, state)| file.show(state));
        // A save that was waited for may have made a conflicting copy of it: the copy is removed, and theirs stays.
        let (name, place) = {
            let nodes = self.tree.lock();
            let node = nodes.get(target.inode)?;
            (node.name().to_owned(), node.place().clone())
        };
        if is_there {
            let target =
                NamedNode { place, file: target.file.clone(), inode: target.inode, kind: target.kind };
            let directory = self.directory(parent).await?;
            if target.file.is_none() && self.may_remove_behind(parent)? {
                drop(shown);
                drop(held);
                return self.remove_behind(parent, &name, directory, target).await;
            }
            let removed = self.remove_on_server(&directory, &name, &target).await;
            self.look_for_asides(parent);
            if let Err(error) = removed {
                if error.is_not_found() {
                    self.forget_name(parent, &name, target.inode);
                }
                return Err(error);
            }
        }
        self.forget_name(parent, &name, target.inode);
        drop(shown);
        if let (Some(file), Some(state)) = (&target.file, held) {
            file.unlink(&state).await;
            drop(state);
            self.close_if_unused(target.inode);
        }
        Ok(())
    }

    pub(in crate::drive) async fn remove_directory(
        &self,
        parent: Inode,
        name: &OsStr,
    ) -> Result<(), DriveError> {
        self.check_writable(parent)?;
        let name = self.kept_name(parent, name);
        let target = self.target(parent, &name).await?.ok_or(DriveError::NotFound)?;
        if target.kind != RemoteKind::Directory {
            return Err(DriveError::NotADirectory);
        }
        self.tree.lock().check_unbound(target.inode)?;
        self.check_no_unsaved_child(target.inode)?;
        self.check_named_once(parent, target.inode).await?;
        let directory = self.directory(parent).await?;
        self.check_writable(parent)?;
        if self.may_remove_behind(parent)? && self.is_known_empty(target.inode)? {
            return self.remove_behind(parent, &name, directory, target).await;
        }
        let hidden = self.remove_on_server(&directory, &name, &target).await?;
        self.look_for_asides(parent);
        self.forget_name(parent, &name, target.inode);
        // A removal of the directory around it has to wait until the hidden node is gone too.
        if let Some(hidden) = hidden
            && let Some(hidden_name) = hidden.name()
            && let Some(removal) =
                self.removals.begin(parent, OsStr::from_bytes(hidden_name.as_bytes())).await
        {
            let remote = Arc::clone(&self.remote);
            tokio::spawn(async move {
                hidden.discard(remote.as_ref()).await;
                drop(removal);
            });
        }
        Ok(())
    }

    /// Fails if a directory around what is to be removed has two names, unless this mount made it: a program that
    /// removes all below one name would take it from the other, which nobody removed.
    async fn check_named_once(&self, parent: Inode, inode: Inode) -> Result<(), DriveError> {
        let (directory, ids) = {
            let nodes = self.tree.lock();
            let Directory::Vault(directory) = nodes.directory(parent)? else { return Ok(()) };
            let (_, ids) = nodes.vault_root(parent, &directory.vault)?;
            if nodes.get(inode)?.is_made_here() {
                return Ok(());
            }
            (directory, ids)
        };
        let twice = Box::pin(directory.have_several_names(self.remote.as_ref(), &ids)).await?;
        if twice { Err(DriveError::NamedTwice) } else { Ok(()) }
    }

    /// Removes a file, a link, or a directory with nothing in it from the server. Returns the hidden rest of a
    /// directory's node, to be discarded.
    async fn remove_on_server(
        &self,
        directory: &Directory,
        name: &OsStr,
        target: &NamedNode,
    ) -> Result<Option<HiddenNode>, DriveError> {
        let is_directory = target.kind == RemoteKind::Directory;
        if is_directory {
            self.removals.done_in(target.inode).await;
        }
        let remote = self.remote.as_ref();
        match (directory, &target.place) {
            (Directory::Plain(path), _) if is_directory => {
                let path = path.join(&plain_name(name)?);
                match remote.rmdir(&path).await {
                    Err(RemoteError::NotEmpty) => self.remove_if_only_debris(&path).await?,
                    done => done?,
                }
            }
            (Directory::Plain(path), _) => remote.remove(&path.join(&plain_name(name)?)).await?,
            (Directory::Vault(directory), Place::Vault { entry, node, .. }) if is_directory => {
                let name = cleartext_name(name)?;
                // Boxed: its rare ways would make every future around it large.
                return Ok(Box::pin(directory.remove_directory(remote, &name, entry, node)).await?);
            }
            (Directory::Vault(directory), Place::Vault { entry, .. }) => {
                Box::pin(directory.remove_node(remote, entry)).await?;
            }
            (Directory::Vault(_), Place::Plain) => return Err(DriveError::Stale),
        }
        Ok(None)
    }

    /// Whether a removal from a directory may be answered before it is done: one has just succeeded there.
    fn may_remove_behind(&self, parent: Inode) -> Result<bool, DriveError> {
        let may =
            self.options.has(OptionalPart::RemoveBehind) && self.may_put_off() && self.remote.is_reachable();
        Ok(may && self.tree.lock().get(parent)?.is_removable_from())
    }

    /// Whether a directory is empty, as far as the server has told lately.
    fn is_known_empty(&self, inode: Inode) -> Result<bool, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        let listing = node.names.listing().filter(|(listed, _)| self.is_believed(Some(*listed)));
        Ok(node.children().is_empty() && listing.is_some_and(|(_, names)| names.is_empty()))
    }

    /// Hides a name at once, and removes it in the background.
    async fn remove_behind(
        &self,
        parent: Inode,
        name: &OsStr,
        directory: Directory,
        target: NamedNode,
    ) -> Result<(), DriveError> {
        let drive = self.me.upgrade().ok_or(DriveError::Stale)?;
        let removal = self.removals.begin(parent, name).await.ok_or(DriveError::Stale)?;
        self.forget_name(parent, name, target.inode);
        tokio::spawn(async move {
            let removed = drive.remove_on_server(&directory, removal.name(), &target).await;
            drive.look_for_asides(parent);
            match removed {
                Err(error) if !error.is_not_found() => drive.show_again(&removal, &error),
                removed => {
                    if let Ok(Some(hidden)) = removed {
                        hidden.discard(drive.remote.as_ref()).await;
                    }
                    // Listings that were asked for before this moment may still have the name.
                    drive.record_name_change(&mut drive.tree.lock(), parent, removal.name(), None);
                }
            }
            drop(removal);
        });
        Ok(())
    }

    /// Shows a name again whose removal was answered and has failed, or got no reply: the server tells what is there.
    fn show_again(&self, removal: &Removal, error: &DriveError) {
        let (parent, name) = (removal.parent(), removal.name());
        let shown = {
            let mut nodes = self.tree.lock();
            if let Ok(node) = nodes.get_mut(parent) {
                node.names.record_removing_allowed(false);
                node.names.doubt();
            }
            nodes.shown_path(parent)
        };
        self.listings.clear();
        if let Some(invalidate) = self.invalidate.get() {
            invalidate.entry(parent, name);
        }
        let shown = std::path::Path::new(&shown).join(name);
        self.record(
            parent,
            "not_removed",
            format!("{} was removed here, but not on the server: {error}", shown.display()),
        );
    }

    fn forget_name(&self, parent: Inode, name: &OsStr, inode: Inode) {
        let mut nodes = self.tree.lock();
        if let Ok(node) = nodes.get_mut(inode) {
            node.attributes.changed_now();
        }
        nodes.detach(inode);
        self.record_name_change(&mut nodes, parent, name, None);
        if let Ok(node) = nodes.get_mut(parent) {
            node.names.record_removing_allowed(true);
        }
    }

    pub(super) fn check_no_unsaved_child(&self, inode: Inode) -> Result<(), DriveError> {
        let nodes = self.tree.lock();
        for &child in nodes.get(inode)?.children().values() {
            if nodes.get(child)?.is_unsaved() {
                return Err(DriveError::NotEmpty);
            }
        }
        Ok(())
    }

    /// Removes a directory that shows nothing but may hold debris of a dead process of ours.
    async fn remove_if_only_debris(&self, path: &RemotePath) -> Result<(), DriveError> {
        let entries = self.remote.list_packed(path, usize::MAX, self.remote.names_budget()).await?;
        if !entries.records().all(|record| temporary::is_debris(record.name)) {
            return Err(DriveError::NotEmpty);
        }
        for entry in entries.into_entries() {
            self.remote.remove(&path.join(&entry.name)).await?;
        }
        Ok(self.remote.rmdir(path).await?)
    }
}

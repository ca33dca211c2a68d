//! Changing names: make, rename, link.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use scaup_fuse::filesystem::{Inode, RenameMode, RequestError as _};

use super::lookup::NamedNode;
use super::modes;
use super::moves::Moved;
use crate::drive::Drive;
use crate::drive::content::file::File;
use crate::drive::content::home::Home as _;
use crate::drive::content::location::Location;
use crate::drive::content::state::{Backing, Base, State, present};
use crate::drive::content::writing::Make;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::listed_names::Names;
use crate::drive::places::place::{Found, Place, plain_name};
use crate::drive::tree::node::VaultHere;
use crate::remote::{RemoteAttributes, RemoteError, RemoteKind, RemotePath, RenameHow};
use crate::vault::{Entry, VaultDirectory, VaultNode, cleartext_name, temporary};

impl Drive {
    /// Checks that a new name may be made in `parent`, and returns it as the drive keeps it: in vaults in NFC.
    async fn new_name(&self, parent: Inode, name: &OsStr) -> Result<(Directory, OsString), DriveError> {
        self.check_writable(parent)?;
        if temporary::is_temporary(name.as_bytes()) || self.is_in_trash(parent, name) {
            return Err(DriveError::NotPermitted);
        }
        let directory = self.directory(parent).await?;
        self.check_writable(parent)?;
        let name = match &directory {
            Directory::Plain(_) => plain_name(name).map(|_| name.to_owned())?,
            Directory::Vault(_) => OsString::from(cleartext_name(name)?.as_str()),
        };
        self.removals.done_with(parent, &name).await;
        Ok((directory, name))
    }

    /// Puts a node that was just made into the tree.
    fn add(&self, parent: Inode, found: Found) -> Result<Inode, DriveError> {
        self.look_for_asides(parent);
        let mut nodes = self.tree.lock();
        self.record_name_change(&mut nodes, parent, &found.name.clone(), Some(found.clone()));
        let inode = nodes.adopt(parent, found, Moment::now())?;
        let node = nodes.get_mut(inode)?;
        node.record_making();
        node.attributes.changed_now();
        nodes.get_mut(parent)?.names.record_making_allowed(true);
        Ok(inode)
    }

    pub(in crate::drive) async fn make_directory(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u16,
    ) -> Result<Inode, DriveError> {
        let mode = modes::of_new(mode);
        let (directory, name) = self.new_name(parent, name).await?;
        self.check_free(parent, &name)?;
        let remote = self.remote.as_ref();
        let found = match directory {
            Directory::Plain(path) => {
                let remote_name = plain_name(&name)?;
                let path = path.join(&remote_name);
                remote.mkdir(&path, mode).await?;
                let attributes = remote.stat(&path).await?;
                Found { name, attributes, place: Place::Plain }
            }
            Directory::Vault(directory) => {
                let made = directory.make_directory(remote, &cleartext_name(&name)?, mode).await?;
                Found::in_vault(made, &directory.vault)
            }
        };
        let inode = self.add(parent, found)?;
        // A new directory is empty, and may be filled.
        if let Ok(made) = self.tree.lock().get_mut(inode) {
            made.names.believe_listing(Arc::new(Names::none(self.remote.names_budget())), Moment::now());
            made.set_vault_here(VaultHere::No);
            made.names.record_making_allowed(mode & 0o200 != 0);
        }
        Ok(inode)
    }

    pub(in crate::drive) async fn make_symlink(
        &self,
        parent: Inode,
        name: &OsStr,
        target: &[u8],
    ) -> Result<Inode, DriveError> {
        let (directory, name) = self.new_name(parent, name).await?;
        self.check_free(parent, &name)?;
        if target.is_empty() {
            return Err(DriveError::NotFound);
        }
        self.check_link(parent, target)?;
        let remote = self.remote.as_ref();
        let found = match directory {
            Directory::Plain(path) => {
                let path = path.join(&plain_name(&name)?);
                remote.symlink(&path, target).await?;
                let attributes = remote.stat(&path).await?;
                Found { name, attributes, place: Place::Plain }
            }
            Directory::Vault(directory) => {
                let made = directory.make_symlink(remote, &cleartext_name(&name)?, target).await?;
                Found::in_vault(made, &directory.vault)
            }
        };
        self.add(parent, found)
    }

    /// Fails if a new file, which the server does not know yet, has the name.
    fn check_free(&self, parent: Inode, name: &OsStr) -> Result<(), DriveError> {
        let nodes = self.tree.lock();
        match nodes.child(parent, name) {
            Some(inode) if nodes.get(inode)?.is_unsaved() => Err(DriveError::Exists),
            Some(inode) => nodes.check_placed(inode),
            None => Ok(()),
        }
    }

    /// Makes a file, open for one handle: its content is staged until it is first saved.
    pub(in crate::drive) async fn make_file(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u16,
    ) -> Result<(Inode, Arc<File>), DriveError> {
        let mode = modes::of_new(mode);
        let (directory, name) = self.new_name(parent, name).await?;
        self.check_free(parent, &name)?;
        let location = Location::new(directory, &name, None)?;
        // Where this mount made something recently, it may make more: the file is made when there is something to send.
        let make = if self.tree.lock().get(parent)?.is_writable() { Make::Later } else { Make::Now };
        let state = File::create(self, &location, mode, make).await?;
        let now = present();
        let mut attributes = RemoteAttributes::new(RemoteKind::File, mode);
        (attributes.accessed, attributes.modified) = (now, now);
        if self.options.owner.is_none()
            && let Ok(staged) = state.backing.file().stat().await
        {
            (attributes.uid, attributes.gid) = (staged.uid, staged.gid);
        }
        let found = Found { name: name.clone(), attributes, place: location.place() };
        let staged = state.backing.staged();
        let (inode, file) = match self.add_new_file(parent, found, state) {
            Ok(added) => added,
            // Its vault was locked meanwhile.
            Err(error) => {
                if let Some(staged) = staged {
                    staged.discard().await;
                }
                return Err(error);
            }
        };
        file.update_snapshot_after_write(&*file.state().await);
        if let Err(error) = self.check_unlocked(&file).await {
            file.unlink(&*file.state().await).await;
            self.tree.lock().detach(inode);
            self.uncount_handle(inode);
            return Err(error);
        }
        Ok((inode, file))
    }

    fn add_new_file(
        &self,
        parent: Inode,
        found: Found,
        state: State,
    ) -> Result<(Inode, Arc<File>), DriveError> {
        let mut nodes = self.tree.lock();
        if let Some(old) = nodes.child(parent, &found.name) {
            nodes.detach(old);
        }
        let inode = nodes.adopt(parent, found, Moment::now())?;
        let file = File::new(self, inode, state);
        let node = nodes.get_mut(inode)?;
        node.record_making();
        node.attributes.changed_now();
        let file = node.share_file(file);
        node.kernel.count_handle();
        nodes.get_mut(parent)?.attributes.names_changed_now();
        Ok((inode, file))
    }

    pub(in crate::drive) async fn make_link(
        &self,
        inode: Inode,
        parent: Inode,
        name: &OsStr,
    ) -> Result<Inode, DriveError> {
        let (directory, name) = self.new_name(parent, name).await?;
        self.check_free(parent, &name)?;
        let (existing, file) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            if !matches!(node.place(), Place::Plain) {
                return Err(DriveError::NotPermitted);
            }
            (nodes.plain_path(inode)?, node.file().cloned())
        };
        let Directory::Plain(path) = directory else { return Err(DriveError::OtherVault) };
        if let Some(file) = file {
            file.commit(self).await?;
        }
        let path = path.join(&plain_name(&name)?);
        match self.remote.hard_link(&existing, &path).await {
            Err(RemoteError::Unsupported(_)) => return Err(DriveError::NotPermitted),
            done => done?,
        }
        let attributes = self.remote.stat(&path).await?;
        self.expire(inode);
        // The kernel takes the new name for another file, and would go on showing old attributes of this one.
        if let Some(invalidate) = self.invalidate.get() {
            invalidate.attributes(inode);
        }
        self.add(parent, Found { name, attributes, place: Place::Plain })
    }

    pub(in crate::drive) async fn rename_node(
        &self,
        parent: Inode,
        name: &OsStr,
        new_parent: Inode,
        new_name: &OsStr,
        mode: RenameMode,
    ) -> Result<(), DriveError> {
        if mode == RenameMode::Exchange {
            return Err(DriveError::Invalid);
        }
        self.check_writable(parent)?;
        let name = self.kept_name(parent, name);
        let (to, new_name) = self.new_name(new_parent, new_name).await?;
        let from = self.directory(parent).await?;
        let source = self.target(parent, &name).await?.ok_or(DriveError::NotFound)?;
        // No server refuses that in a vault, and a walk of the tree would never end.
        if self.tree.lock().above(new_parent).contains(&source.inode) {
            return Err(DriveError::Invalid);
        }
        let replaced = self.target(new_parent, &new_name).await?;
        if let Some(replaced) = &replaced {
            if replaced.inode == source.inode {
                return Ok(());
            }
            self.tree.lock().check_unbound(replaced.inode)?;
            match (mode, source.kind == RemoteKind::Directory, replaced.kind == RemoteKind::Directory) {
                (RenameMode::NoReplace, ..) => return Err(DriveError::Exists),
                (_, true, false) => return Err(DriveError::NotADirectory),
                (_, false, true) => return Err(DriveError::IsADirectory),
                (_, true, true) => {
                    self.check_no_unsaved_child(replaced.inode)?;
                    self.removals.done_in(replaced.inode).await;
                }
                _ => {}
            }
        }
        // Unsaved content first gets the name it was written under, so that there is something to rename. Meanwhile the
        // server is asked whether the new name is free: what is known of that here may be old. If nothing has to be
        // saved, only a rename that must not replace waits for the reply, or one that has to wait for the server
        // anyway: then what is known may be older than names are believed.
        let is_unsaved = source.file.as_ref().is_some_and(|file| file.unsaved().is_some());
        let save = async {
            match &source.file {
                Some(file) => file.commit(self).await,
                None => Ok(()),
            }
        };
        let look = async {
            if replaced.is_some()
                || (mode == RenameMode::Replace && !is_unsaved && self.remote.is_reachable())
            {
                return Ok::<_, DriveError>(false);
            }
            Ok(to.lookup(self.remote.as_ref(), &new_name, None).await?.is_some())
        };
        let (saved, is_taken) = futures::join!(save, look);
        saved?;
        if is_taken? {
            return self.rename_beside(&source, to, (new_parent, &new_name), mode).await;
        }
        if let Some(replaced) = &replaced
            && source.kind != RemoteKind::Directory
            && self.is_changed_since_opened(replaced, &source).await?
        {
            let (copy, _) =
                self.location(replaced.inode)?.conflicting(self.remote.as_ref(), &new_name).await?;
            let name = self.name_of(source.inode)?;
            let beside = self.rename_node(parent, &name, new_parent, &copy, RenameMode::NoReplace);
            Box::pin(beside).await?;
            let shown = self.tree.lock().shown_path(replaced.inode);
            self.expire(replaced.inode);
            self.tell_conflict((new_parent, &new_name), &shown, &copy);
            return Ok(());
        }
        // Nothing may be saved under either name while they change. The locks are taken in one order, or two renames
        // could wait for each other.
        let hold_source = async {
            match &source.file {
                Some(file) => Some(file.lock().await),
                None => None,
            }
        };
        let hold_replaced = async {
            match &replaced {
                Some(replaced) => replaced.hold(self).await,
                None => Ok((None, false)),
            }
        };
        let (held, (replaced_state, is_replaced_there)) =
            if replaced.as_ref().is_some_and(|replaced| replaced.inode.0 < source.inode.0) {
                let replaced = hold_replaced.await?;
                (hold_source.await, replaced)
            } else {
                (hold_source.await, hold_replaced.await?)
            };
        // Both can be read while the server renames.
        let shown_source = source.file.as_ref().zip(held.as_deref()).map(|(file, state)| file.show(state));
        let replaced_file = replaced.as_ref().and_then(|replaced| replaced.file.as_ref());
        let shown_replaced =
            replaced_file.zip(replaced_state.as_deref()).map(|(file, state)| file.show(state));
        // The commit may have made a conflicting copy of it.
        let (name, source_place) = {
            let nodes = self.tree.lock();
            let node = nodes.get(source.inode)?;
            (node.name().to_owned(), node.place().clone())
        };
        // A file that nobody here has seen stays: somebody may have made it since the check.
        let how = if is_replaced_there { RenameHow::Replace } else { RenameHow::New };
        let moved = match (&from, &to, &source_place) {
            (Directory::Plain(from), Directory::Plain(to), Place::Plain) => {
                let is_directory = source.kind == RemoteKind::Directory;
                // It became a directory since the paths were held: the kernel tries again.
                if is_directory && !self.paths.is_moving(source.inode) {
                    return Err(DriveError::Stale);
                }
                let (from, to) = (from.join(&plain_name(&name)?), to.join(&plain_name(&new_name)?));
                let moved = self.remote.rename(&from, &to, how).await;
                if moved.is_ok() && is_directory {
                    self.move_staged(source.inode, &from, &to).await;
                    self.off_disk.directory_moved(&from, &to);
                }
                moved.map(|()| Place::Plain).map_err(DriveError::from)
            }
            (Directory::Vault(from), Directory::Vault(to), Place::Vault { vault, entry, node })
                if Arc::ptr_eq(vault, &to.vault) =>
            {
                let replaced = match &replaced {
                    Some(replaced @ NamedNode { place: Place::Vault { entry, node, .. }, .. })
                        if is_replaced_there =>
                    {
                        Some((entry, node))
                    }
                    _ => None,
                };
                // Boxed: its rare ways would make every future around it large.
                let moved = Box::pin(self.move_in_vault(from, entry, node, to, &new_name, replaced)).await;
                moved.map(|entry| Place::Vault { vault: Arc::clone(vault), entry, node: node.clone() })
            }
            _ => return Err(DriveError::OtherVault),
        };
        let place = match moved {
            // Somebody took the name since it was looked at.
            Err(error)
                if how == RenameHow::New && error.is_exists() && source.kind != RemoteKind::Directory =>
            {
                drop((held, replaced_state));
                return self.rename_beside(&source, to, (new_parent, &new_name), mode).await;
            }
            moved => moved?,
        };
        let moved_directory = match (from, to, &place) {
            (Directory::Vault(from), Directory::Vault(to), Place::Vault { entry, node, .. })
                if source.kind == RemoteKind::Directory && from.id != to.id =>
            {
                let (entry, node) = (entry.clone(), node.clone());
                let from = (parent, name.clone(), from);
                Some(Moved { inode: source.inode, from, to: (new_parent, to), entry, node })
            }
            _ => None,
        };
        self.look_for_asides(parent);
        self.look_for_asides(new_parent);
        let noted =
            self.move_node(&source, (parent, &name), (new_parent, &new_name), replaced.as_ref(), place);
        drop(shown_source);
        drop(held);
        drop(shown_replaced);
        if let (Some(NamedNode { inode, file: Some(file), .. }), Some(state)) = (&replaced, replaced_state) {
            file.unlink(&state).await;
            drop(state);
            self.close_if_unused(*inode);
        }
        match moved_directory {
            // Checked even if the place has left the tree meanwhile: the directory is there on the server.
            Some(moved) => self.check_move(moved).await.and(noted),
            None => noted,
        }
    }

    /// Handles a name that `source` was to get and that somebody else took unseen: their file stays.
    async fn rename_beside(
        &self,
        source: &NamedNode,
        to: Directory,
        (new_parent, new_name): (Inode, &OsStr),
        mode: RenameMode,
    ) -> Result<(), DriveError> {
        self.forget_names(new_parent);
        if mode == RenameMode::NoReplace {
            if let Some(invalidate) = self.invalidate.get() {
                invalidate.entry(new_parent, new_name);
            }
            return Err(DriveError::Exists);
        }
        let (copy, _) =
            Location::new(to, new_name, None)?.conflicting(self.remote.as_ref(), new_name).await?;
        let (parent, name) = {
            let nodes = self.tree.lock();
            let node = nodes.get(source.inode)?;
            node.parent_and_name()
        };
        Box::pin(self.rename_node(parent, &name, new_parent, &copy, RenameMode::NoReplace)).await?;
        let shown = self.tree.lock().shown_path(source.inode);
        let shown = Path::new(&shown).with_file_name(new_name);
        self.tell_conflict((new_parent, new_name), shown.as_os_str(), &copy);
        Ok(())
    }

    /// Whether somebody else changed a file since programs here last had its content: what replaces it was made from
    /// that content.
    async fn is_changed_since_opened(
        &self,
        target: &NamedNode,
        source: &NamedNode,
    ) -> Result<bool, DriveError> {
        let opened = match &target.file {
            Some(file) if file.unsaved().is_some() => None,
            Some(file) => file.state().await.stored_base(),
            None => self.tree.lock().get(target.inode)?.openings.content().map(|(_, base)| base),
        };
        let Some(opened) = opened else { return Ok(false) };
        let there = match self.remote.stat(&self.location(target.inode)?.file_path()).await {
            Ok(there) => Base::from(there),
            Err(RemoteError::NotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if there == opened || !matches!(source.place, Place::Vault { .. }) {
            return Ok(there != opened);
        }
        // A move in a vault that was cut between its steps has put the source there already.
        match self.remote.stat(&self.location(source.inode)?.file_path()).await {
            Ok(source) => Ok(there != Base::from(source)),
            Err(RemoteError::NotFound) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the temporary files of unsaved content in a plain directory that it has moved.
    async fn move_staged(&self, directory: Inode, from: &RemotePath, to: &RemotePath) {
        let files = self.tree.lock().files_below(directory);
        for file in files {
            if let Backing::Staged { file, .. } = &file.state().await.backing {
                file.follow_move(from, to);
            }
        }
    }

    /// Moves a node in the tree after the server has renamed it.
    fn move_node(
        &self,
        source: &NamedNode,
        (parent, name): (Inode, &OsStr),
        (new_parent, new_name): (Inode, &OsStr),
        replaced: Option<&NamedNode>,
        place: Place,
    ) -> Result<(), DriveError> {
        let mut nodes = self.tree.lock();
        if let Some(replaced) = replaced {
            nodes.detach(replaced.inode);
        }
        nodes.rename(source.inode, new_parent, new_name, place.clone())?;
        let node = nodes.get_mut(source.inode)?;
        // A vault that was moved stays what it is; anything else has to be checked again.
        if node.vault_here() == VaultHere::No {
            node.set_vault_here(VaultHere::Unknown);
        }
        let found = Found { name: new_name.to_owned(), attributes: node.attributes.current(), place };
        nodes.bindings().changed.notify_one();
        if source.kind == RemoteKind::Directory {
            // Directories below it may have been listed by their paths.
            self.listings.clear();
            self.forget_all_opened();
        }
        self.record_name_change(&mut nodes, parent, name, None);
        self.record_name_change(&mut nodes, new_parent, new_name, Some(found));
        Ok(())
    }

    /// Moves a node within a vault; a node that has the name already is replaced.
    async fn move_in_vault(
        &self,
        from: &VaultDirectory,
        entry: &Entry,
        node: &VaultNode,
        to: &VaultDirectory,
        new_name: &OsStr,
        replaced: Option<(&Entry, &VaultNode)>,
    ) -> Result<Entry, DriveError> {
        let remote = self.remote.as_ref();
        let name = cleartext_name(new_name)?;
        let Some((old, old_node)) = replaced else {
            return Ok(to.move_here(remote, from, entry, node, &name, RenameHow::New).await?);
        };
        // In a directory that has two names, both lead to one node.
        if from.id == to.id && entry == old {
            return Ok(old.clone());
        }
        // A move that was cut between its steps left both names for one directory: it is finished here.
        if let VaultNode::Directory(id) = node
            && old_node == node
        {
            from.remove_first_name(remote, entry, id, (to, old)).await?;
            return Ok(old.clone());
        }
        to.check_empty(remote, old, old_node).await?;
        let canonical = to.file_entry(&name)?.0;
        let files = matches!((node, old_node), (VaultNode::File, VaultNode::File));
        if files && *old == canonical {
            return Ok(to.move_here(remote, from, entry, node, &name, RenameHow::Replace).await?);
        }
        // A node that can't be replaced in one step is hidden first, and comes back if the move fails.
        let hidden = to.hide_replaced(remote, (old, old_node), (from, entry)).await?;
        match to.move_here(remote, from, entry, node, &name, RenameHow::New).await {
            Ok(entry) => {
                // The move is done. The replaced node is debris until then.
                if let Err(error) = to.discard_replaced(remote, hidden, (&name, &entry), old_node).await {
                    tracing::warn!(error = %error.kind(), "what was replaced is not removed yet");
                }
                Ok(entry)
            }
            Err(error) => {
                if let Err(error) = to.bring_back(remote, hidden, &name, old_node).await {
                    tracing::warn!(
                        error = DriveError::from(error).for_log(self.options.log_names),
                        "what was to be replaced stays hidden"
                    );
                }
                Err(error.into())
            }
        }
    }
}

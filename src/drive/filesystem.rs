//! The requests of the kernel to the drive.

use std::ffi::OsStr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt as _;
use scaup_crypto::CleartextLen;
use scaup_fuse::Filesystem;
use scaup_fuse::filesystem::{
    Caller, DirectoryEntry, FileKind, FilesystemStatistics, Handle, Inode, LookupReply, OpenFlags, Opened,
    RenameMode, SetAttributes, SetTime, TimedAttributes,
};

use super::Drive;
use super::ahead::open_file::read_ahead;
use super::content::file::File;
use super::content::home::Home as _;
use super::error::DriveError;
use super::moment::Moment;
use super::places::directory::Directory;
use super::places::place::Place;
use super::saving::GROWS_FOR;
use super::tree::forms::may_keep;
use super::tree::paths::PathHold;
use crate::config::parts::OptionalPart;
use crate::remote::{RemoteError, RemoteKind, RemoteSetAttributes, RemoteStatistics};
use crate::vault::VaultNode;

/// Names returned at a time.
const NAMES_AT_ONCE: usize = 256;

impl Drive {
    /// Truncates the file that a program has `open`, or, by path, the file that the server has now.
    async fn truncate(
        &self,
        inode: Inode,
        open: Option<Handle>,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        self.check_writable(inode)?;
        if self.tree.lock().get(inode)?.kind() == RemoteKind::Directory {
            return Err(DriveError::IsADirectory);
        }
        let open = open.map(|handle| self.handles.file(handle)).transpose()?;
        if let Some(open) = open.filter(|open| open.flags.write) {
            // If somebody else has put another file in its place meanwhile, saving detects that.
            return self.truncate_file(inode, &open.file, length).await;
        }
        let unlinked = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            node.file().cloned().filter(|_| node.is_detached())
        };
        if let Some(file) = unlinked {
            return self.truncate_file(inode, &file, length).await;
        }
        let (file, _) = self.open_file(inode, true).await?;
        let result = self.truncate_file(inode, &file, length).await;
        let open_elsewhere = self.tree.lock().get(inode).is_ok_and(|node| node.kernel.handles() > 1);
        // truncate(2) by path has no close that would wait.
        let saved = if result.is_ok() && !open_elsewhere { file.commit(self).await } else { Ok(()) };
        self.uncount_handle(inode);
        result.and(saved)
    }

    async fn truncate_file(&self, inode: Inode, file: &File, length: CleartextLen) -> Result<(), DriveError> {
        if file.is_unlinked() {
            return file.truncate(self, None, length).await;
        }
        // If somebody else took the name, it is saved under that again, or beside theirs.
        let location = self.location(inode)?;
        file.truncate(self, Some((&location, self.mode_of(inode)?)), length).await
    }

    /// Waits until the files of a directory that programs have closed are saved.
    async fn save_what_was_closed_in(&self, inode: Inode) {
        let files: Vec<Arc<File>> = {
            let nodes = self.tree.lock();
            let children = nodes.get(inode).map(|node| node.children().values()).into_iter().flatten();
            children
                .filter_map(|&child| nodes.get(child).ok()?.file().cloned())
                .filter(|file| file.is_being_saved())
                .collect()
        };
        let saved = files.iter().map(|file| async move {
            if let Err(error) = file.commit(self).await {
                self.report_unsaved(file, &error);
            }
        });
        futures::future::join_all(saved).await;
    }

    async fn change_attributes(&self, inode: Inode, set: SetAttributes) -> Result<(), DriveError> {
        let (is_in_vault, file, shown, kept_mode, has_lost_name) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            let has_lost_name = node.has_lost_name();
            let shown = self.visible_attributes(inode, node).attributes;
            (node.is_in_vault(), node.file().cloned(), shown, node.attributes.current().mode, has_lost_name)
        };
        let mode = set.mode.map(|mode| self.mode_to_keep(is_in_vault, kept_mode, mode));
        // A file that is saved in it or removed from it later would change its times again, or be refused.
        futures::join!(self.save_what_was_closed_in(inode), self.removals.done_in(inode));
        let mut change = RemoteSetAttributes::default();
        let owner = (set.uid.unwrap_or(shown.uid), set.gid.unwrap_or(shown.gid));
        let owner = Some(owner).filter(|owner| *owner != (shown.uid, shown.gid));
        if let Some(owner) = owner {
            // Vaults keep no owners, and mapped ones are not the server's.
            if self.options.owner.is_some() || is_in_vault {
                return Err(DriveError::NotPermitted);
            }
            let staged = match &file {
                Some(file) => file.set_staged_owner(self, owner).await?,
                None => false,
            };
            change.owner = (!staged).then_some(owner);
        }
        if let Some(mode) = mode {
            let staged = match &file {
                Some(file) => file.set_staged_mode(self, mode).await?,
                None => false,
            };
            change.mode = (!staged).then_some(mode);
        }
        if set.accessed.is_some() || set.modified.is_some() {
            let now = SystemTime::now();
            let time = |set: Option<SetTime>, old: SystemTime| match set {
                None => old,
                Some(SetTime::Now) => now,
                Some(SetTime::At(time)) => time,
            };
            let times = (time(set.accessed, shown.accessed), time(set.modified, shown.modified));
            let later = match &file {
                Some(file) => file.set_times_at_commit(times).await,
                None => false,
            };
            change.times = (!later).then_some(times);
        }
        if change != RemoteSetAttributes::default() {
            match (&file, has_lost_name) {
                (Some(file), true) => {
                    let open = file.state().await.backing.file();
                    open.set_attributes(change).await?;
                }
                _ => {
                    let path = self.attribute_path(&self.tree.lock(), inode)?;
                    self.remote.set_attributes(&path, change).await?;
                    // If the names around the file are put on the disk, its attributes go along.
                    let is_directory = shown.kind == FileKind::Directory;
                    let around = if is_directory { None } else { path.split().map(|(around, _)| around) };
                    self.off_disk.add(around.unwrap_or(path));
                }
            }
            if let Some(file) = &file {
                file.accept_own_change(change.times.is_some()).await?;
            }
            // With another time the content can't be recognized by the old one.
            if change.times.is_some()
                && let Ok(node) = self.tree.lock().get_mut(inode)
            {
                node.openings.forget_content();
            }
        }
        self.expire(inode);
        // The server is not asked for attributes of unsaved content.
        if let Ok(node) = self.tree.lock().get_mut(inode) {
            if let Some(mode) = mode {
                node.attributes.set_mode(mode);
            }
            if let Some(owner) = owner {
                node.attributes.set_owner(owner);
            }
        }
        Ok(())
    }

    /// Like [`Drive::reported`], for a change of names. A change that failed on the way to the server or on the server
    /// may be done, or half done: these names are looked up again.
    async fn reported_change<T>(
        &self,
        result: Result<T, DriveError>,
        names: &[(Inode, &OsStr)],
    ) -> Result<T, DriveError> {
        if let Err(DriveError::Remote(_)) = &result {
            for &(parent, name) in names {
                let name = self.kept_name(parent, name);
                let mut nodes = self.tree.lock();
                self.record_name_change(&mut nodes, parent, &name, None);
                if let Ok(directory) = nodes.get_mut(parent) {
                    directory.names.doubt();
                }
                if let Some(child) = nodes.child(parent, &name)
                    && let Ok(node) = nodes.get_mut(child)
                {
                    node.attributes.expire();
                    node.names.drop_listing();
                }
            }
            self.listings.clear();
            self.forget_all_opened();
        }
        for &(parent, name) in names {
            self.drop_other_form(parent, name);
        }
        match names.first() {
            Some(&(parent, _)) => self.reported(parent, result).await,
            None => result,
        }
    }

    /// Returns where a symbolic link leads, if that is known and believed.
    fn known_target(&self, inode: Inode) -> Result<Option<Bytes>, DriveError> {
        let (parent, known) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            let is_in_vault = matches!(nodes.directory(node.parent())?, Directory::Vault(_));
            if is_in_vault != matches!(node.place(), Place::Vault { .. }) {
                return Err(DriveError::Stale);
            }
            (
                node.parent(),
                node.attributes.target().filter(|(asked, _)| self.is_believed(Some(*asked))).cloned(),
            )
        };
        let Some((_, target)) = known else { return Ok(None) };
        self.check_link(parent, &target)?;
        Ok(Some(target))
    }

    /// Returns where a symbolic link leads. That is checked each time: the link may have been moved since it was read.
    async fn target_of(&self, inode: Inode) -> Result<Bytes, DriveError> {
        let (parent, place, path, known) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            let known = node.attributes.target().filter(|(asked, _)| self.is_believed(Some(*asked))).cloned();
            (node.parent(), node.place().clone(), nodes.plain_path(inode), known)
        };
        let directory = self.tree.directory(parent)?;
        if matches!(directory, Directory::Vault(_)) != matches!(place, Place::Vault { .. }) {
            return Err(DriveError::Stale);
        }
        let target = match known {
            Some((_, target)) => target,
            None => {
                let asked = Moment::now();
                let target = match (directory, &place) {
                    (Directory::Vault(directory), Place::Vault { entry, .. }) => {
                        directory.read_symlink(self.remote.as_ref(), entry).await?.into()
                    }
                    _ => self.remote.readlink(&path?).await?,
                };
                if let Ok(node) = self.tree.lock().get_mut(inode) {
                    node.attributes.believe_target(target.clone(), asked);
                }
                target
            }
        };
        self.check_link(parent, &target)?;
        Ok(target)
    }

    /// Returns how long the kernel may believe that a name is missing that was looked for at `looked`: as long as the
    /// listing that lacks it is believed here.
    fn missing_for(&self, parent: Inode, asked: &OsStr, looked: Moment) -> Duration {
        if !self.kernel_may_keep(parent, asked) {
            return Duration::ZERO;
        }
        let nodes = self.tree.lock();
        let listed = nodes.get(parent).ok().and_then(|node| node.names.listing()).map(|(listed, _)| listed);
        let known = listed.filter(|&listed| self.is_believed(Some(listed))).unwrap_or(looked);
        self.options.attr_timeout.saturating_sub(known.elapsed())
    }

    /// Holds the paths of a rename. Only the path of a plain directory is part of other paths: one that gets another
    /// name, or loses it to another one, is held as moving.
    async fn hold_renamed(
        &self,
        (parent, name): (Inode, &OsStr),
        (new_parent, new_name): (Inode, &OsStr),
    ) -> PathHold<'_> {
        let kept_name = self.kept_name(parent, name);
        let kept_new_name = self.kept_name(new_parent, new_name);
        let is_known = self.tree.lock().child(parent, &kept_name).is_some();
        if !is_known {
            let _paths = self.hold_paths([parent]).await;
            // If this fails, the rename will fail, too.
            let _ = self.find(parent, &kept_name).await;
        }
        let plain_directories = || {
            let nodes = self.tree.lock();
            let named = [nodes.child(parent, &kept_name), nodes.child(new_parent, &kept_new_name)];
            let is_plain_directory = |&inode: &Inode| {
                nodes.get(inode).is_ok_and(|node| {
                    node.kind() == RemoteKind::Directory && matches!(node.place(), Place::Plain)
                })
            };
            let known = named.into_iter().flatten();
            known.filter(is_plain_directory).collect::<Vec<_>>()
        };
        loop {
            let moved = plain_directories();
            if moved.is_empty() {
                return self.hold_paths([parent, new_parent]).await;
            }
            let paths = self.paths.hold_moving(&self.tree, [parent, new_parent], &moved).await;
            // Removals in the background work with paths, too.
            self.removals.all_done().await;
            // Another rename may have gone first.
            if plain_directories() == moved {
                return paths;
            }
        }
    }

    /// Counts a lookup by which the kernel learnt of a node under the name that it `asked` for.
    fn counted(&self, inode: Inode, parent: Inode, asked: &OsStr) -> Result<TimedAttributes, DriveError> {
        let keeps = self.kernel_may_keep(parent, asked);
        let mut nodes = self.tree.lock();
        nodes.count_lookup(inode)?;
        nodes.record_asked_form(parent, asked);
        let shown = self.visible_attributes(inode, nodes.get(inode)?);
        Ok(TimedAttributes { name_ttl: if keeps { shown.ttl } else { Duration::ZERO }, ..shown })
    }
}

impl Filesystem for Drive {
    type Error = DriveError;

    async fn lookup(&self, parent: Inode, name: &OsStr) -> Result<LookupReply, DriveError> {
        if name.len() > crate::remote::RemoteName::MAX_LEN {
            return Err(DriveError::NameTooLong);
        }
        let kept = self.kept_name(parent, name);
        let looked = Moment::now();
        let found = match self.find_in_memory(parent, &kept) {
            Ok(None) => {
                let _paths = self.hold_name(parent, &kept).await;
                self.find(parent, &kept).await
            }
            Ok(Some(known)) => Ok(known),
            Err(error) => Err(error),
        };
        match self.reported(parent, found).await? {
            Some(inode) => self.counted(inode, parent, name).map(LookupReply::Found),
            None => Ok(LookupReply::Missing(self.missing_for(parent, name, looked))),
        }
    }

    fn forget(&self, inode: Inode, count: u64) {
        self.tree.lock().forget(inode, count);
    }

    async fn getattr(&self, inode: Inode, _handle: Option<Handle>) -> Result<TimedAttributes, DriveError> {
        self.tree.lock().check_unlocked(inode)?;
        let attributes = match self.known_attributes(inode) {
            Ok(None) => {
                let _paths = self.hold_paths([inode]).await;
                self.attributes(inode).await
            }
            Ok(Some(known)) => Ok(known),
            Err(error) => Err(error),
        };
        self.reported(inode, attributes).await
    }

    async fn setattr(
        &self,
        inode: Inode,
        handle: Option<Handle>,
        set: SetAttributes,
        _caller: Caller,
    ) -> Result<TimedAttributes, DriveError> {
        self.count_use(inode);
        let _paths = self.hold_paths([inode]).await;
        self.check_writable(inode)?;
        if let Some(length) = set.size {
            let truncated = self.truncate(inode, handle, CleartextLen(length)).await;
            if truncated.is_err() {
                self.expire_listed(inode);
            }
            self.reported(inode, truncated).await?;
        }
        if (SetAttributes { size: None, ..set }) != SetAttributes::default() {
            let changed = self.change_attributes(inode, set).await;
            if changed.is_err() {
                self.expire_listed(inode);
            }
            self.reported(inode, changed).await?;
        }
        self.attributes(inode).await
    }

    async fn readlink(&self, inode: Inode) -> Result<Bytes, DriveError> {
        self.tree.lock().check_unlocked(inode)?;
        let target = match self.known_target(inode) {
            Ok(None) => {
                let _paths = self.hold_paths([inode]).await;
                self.target_of(inode).await
            }
            Ok(Some(known)) => Ok(known),
            Err(error) => Err(error),
        };
        self.reported(inode, target).await
    }

    async fn mkdir(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u16,
        _caller: Caller,
    ) -> Result<TimedAttributes, DriveError> {
        self.count_use(parent);
        let _paths = self.hold_name(parent, name).await;
        let made = self.make_directory(parent, name, mode).await;
        self.counted(self.reported_change(made, &[(parent, name)]).await?, parent, name)
    }

    async fn unlink(&self, parent: Inode, name: &OsStr) -> Result<(), DriveError> {
        self.count_use(parent);
        let _paths = self.hold_name(parent, name).await;
        let removed = self.remove_file(parent, name).await;
        self.reported_change(removed, &[(parent, name)]).await
    }

    async fn rmdir(&self, parent: Inode, name: &OsStr) -> Result<(), DriveError> {
        self.count_use(parent);
        let _paths = self.hold_name(parent, name).await;
        let removed = self.remove_directory(parent, name).await;
        self.reported_change(removed, &[(parent, name)]).await
    }

    async fn symlink(
        &self,
        parent: Inode,
        name: &OsStr,
        target: &OsStr,
        _caller: Caller,
    ) -> Result<TimedAttributes, DriveError> {
        self.count_use(parent);
        let _paths = self.hold_name(parent, name).await;
        let target = std::os::unix::ffi::OsStrExt::as_bytes(target);
        let made = self.make_symlink(parent, name, target).await;
        self.counted(self.reported_change(made, &[(parent, name)]).await?, parent, name)
    }

    async fn link(
        &self,
        inode: Inode,
        new_parent: Inode,
        new_name: &OsStr,
    ) -> Result<TimedAttributes, DriveError> {
        self.count_use(new_parent);
        let _paths = self.hold_paths([inode, new_parent]).await;
        let made = self.make_link(inode, new_parent, new_name).await;
        self.counted(self.reported_change(made, &[(new_parent, new_name)]).await?, new_parent, new_name)
    }

    async fn rename(
        &self,
        parent: Inode,
        name: &OsStr,
        new_parent: Inode,
        new_name: &OsStr,
        mode: RenameMode,
    ) -> Result<(), DriveError> {
        self.count_use(parent);
        let _paths = self.hold_renamed((parent, name), (new_parent, new_name)).await;
        let renamed = self.rename_node(parent, name, new_parent, new_name, mode).await;
        self.reported_change(renamed, &[(parent, name), (new_parent, new_name)]).await?;
        self.record_renamed_form(new_parent, new_name);
        Ok(())
    }

    async fn open(&self, inode: Inode, flags: OpenFlags) -> Result<Opened, DriveError> {
        self.count_use(inode);
        if flags.write {
            self.check_writable(inode)?;
        }
        if let Some((file, unchanged)) = self.open_shared(inode, flags.write) {
            let keep_cache = unchanged && self.options.has(OptionalPart::KernelCache);
            return Ok(Opened { handle: self.handles.add_file(file, flags), keep_cache });
        }
        let _paths = self.hold_paths([inode]).await;
        if let Place::Vault { node: VaultNode::Unknown(why), .. } = self.tree.lock().get(inode)?.place() {
            return Err(DriveError::damaged(why));
        }
        let opened = match self.open_file(inode, flags.write).await {
            // Somebody else took its name since it was looked up. The kernel looks it up again, and makes the file if
            // that was requested.
            Err(error) if error.is_not_found() => {
                self.expire_listed(inode);
                Err(DriveError::Stale)
            }
            opened => opened,
        };
        let (file, unchanged) = self.reported(inode, opened).await?;
        let keep_cache = unchanged && self.options.has(OptionalPart::KernelCache);
        Ok(Opened { handle: self.handles.add_file(file, flags), keep_cache })
    }

    async fn create(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u16,
        flags: OpenFlags,
        _caller: Caller,
    ) -> Result<(TimedAttributes, Opened), DriveError> {
        self.count_use(parent);
        let _paths = self.hold_name(parent, name).await;
        let made = self.make_file(parent, name, mode).await;
        self.drop_other_form(parent, name);
        let (inode, file) = self.reported(parent, made).await?;
        // Closing it saves the new file, even if the program asked for a handle that only reads.
        let handle = self.handles.add_file(file, OpenFlags { write: true, ..flags });
        Ok((self.counted(inode, parent, name)?, Opened { handle, keep_cache: false }))
    }

    async fn read(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        length: u32,
    ) -> Result<Bytes, DriveError> {
        self.count_use(inode);
        let open = self.handles.file(handle)?;
        let (offset, length) = (CleartextLen(offset), u64::from(length));
        let begins = open.ahead.lock().unwrap_or_else(PoisonError::into_inner).plan_after(
            offset..offset.saturating_add(length),
            open.file.length(),
            &self.readers,
            self.read_ahead_max(),
        );
        if begins {
            let goes_last = self.options.has(OptionalPart::Priorities);
            tokio::spawn(read_ahead(Arc::clone(&self.content), Arc::downgrade(&open), goes_last));
        }
        let read = open.file.read(self, offset, length).await;
        self.reported(inode, read).await
    }

    async fn write(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        data: Bytes,
        appends: bool,
    ) -> Result<u32, DriveError> {
        self.count_use(inode);
        let open = self.handles.file(handle)?;
        let offset = (!appends).then_some(CleartextLen(offset));
        let length = u32::try_from(data.len()).map_err(|_| DriveError::Invalid)?;
        let reserved =
            if self.content.unsent.is_crowded() { None } else { self.content.unsent.reserve(length.into()) };
        // If there is room, a write does not queue behind those that wait. The semaphore is never closed.
        let _turn = if reserved.is_none() { self.writers.acquire().await.ok() } else { None };
        // Boxed: so writes that wait do not hold the memory that taking one needs.
        let written = Box::pin(open.file.write(self, offset, data)).await;
        self.reported(inode, written).await?;
        Ok(length)
    }

    async fn flush(&self, inode: Inode, handle: Handle) -> Result<(), DriveError> {
        let open = self.handles.file(handle)?;
        if !open.flags.write {
            return Ok(());
        }
        open.file.mark_closed();
        self.check_not_sealed(&open.file)?;
        // The release that follows saves the file, while the program goes on.
        let may_wait = self.options.has(OptionalPart::SaveBehind) && self.may_put_off();
        if may_wait && (open.file.has_nothing_to_tell() || open.file.may_be_saved_later(self).await) {
            return Ok(());
        }
        let _paths = self.hold_paths([inode]).await;
        let saved = if self.options.sync_on_close {
            open.file.sync(self).await
        } else {
            open.file.commit_if(self, |_| self.check_not_sealed(&open.file).is_ok()).await
        };
        let saved = saved.and_then(|()| self.check_not_sealed(&open.file));
        self.reported(inode, saved).await
    }

    async fn fsync(&self, inode: Inode, handle: Handle, _data_only: bool) -> Result<(), DriveError> {
        let open = self.handles.file(handle)?;
        self.check_not_sealed(&open.file)?;
        let _paths = self.hold_paths([inode]).await;
        let saved = open.file.sync(self).await;
        self.reported(inode, saved).await
    }

    async fn fallocate(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Result<(), DriveError> {
        self.count_use(inode);
        // A server can't be asked to reserve room: the file is extended, and holds its zeros in a vault only.
        if mode != 0 {
            return Err(DriveError::NotSupported);
        }
        let open = self.handles.file(handle)?;
        let end = offset.checked_add(length).ok_or(DriveError::TooLarge)?;
        let _paths = self.hold_paths([inode]).await;
        let grown = open.file.grow_to(self, CleartextLen(end)).await;
        self.reported(inode, grown).await
    }

    async fn release(&self, _inode: Inode, handle: Handle) {
        if let Some(open) = self.handles.remove_file(handle) {
            self.close_file(&open.file).await;
        }
    }

    async fn opendir(&self, inode: Inode) -> Result<Handle, DriveError> {
        let at_hand = if self.knows_names(inode) { self.shown_names(inode).now_or_never() } else { None };
        let names = match at_hand {
            Some(names) => names,
            None => {
                let _paths = self.hold_paths([inode]).await;
                self.shown_names(inode).await
            }
        };
        let names = self.reported(inode, names).await?;
        self.handles.add_directory(names)
    }

    async fn readdir(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        plus: bool,
    ) -> Result<Vec<DirectoryEntry>, DriveError> {
        let open = self.handles.directory(handle)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut nodes = self.tree.lock();
        nodes.check_same_vault(inode, open.vault.as_ref())?;
        let mut entries = Vec::new();
        for found in open.from(from).take(NAMES_AT_ONCE) {
            let name = nodes.listed_name(inode, &found.name);
            let attributes = if plus {
                let gone = nodes.get(inode)?.has_lost(&found.name, open.opened);
                let child = nodes.adopt(inode, found.clone(), open.asked)?;
                if gone {
                    // A program that looks it up has to ask.
                    nodes.get_mut(child)?.attributes.ask_again();
                }
                nodes.count_lookup(child)?;
                let shown = self.visible_attributes(child, nodes.get(child)?);
                let keeps = open.vault.is_none() || may_keep(&name);
                TimedAttributes { name_ttl: if keeps { shown.ttl } else { Duration::ZERO }, ..shown }
            } else {
                // The kernel takes only the number and the kind from here.
                self.shown_found(nodes.number_for(inode, &found.name), &found)
            };
            entries.push(DirectoryEntry { name, attributes });
        }
        Ok(entries)
    }

    async fn fsyncdir(&self, inode: Inode, _handle: Handle) -> Result<(), DriveError> {
        let _paths = self.hold_paths([inode]).await;
        self.removals.done_in(inode).await;
        // Files in it that programs have finished get their names now. A file that is still being written is to be seen
        // whole.
        let unsaved: Vec<_> = {
            let nodes = self.tree.lock();
            let children = nodes.get(inode)?.children().values();
            children.filter_map(|&child| nodes.get(child).ok()?.file().cloned()).collect()
        };
        for file in unsaved.into_iter().filter(|file| file.unsaved().is_some()) {
            let saved = file.commit_if(self, |unsaved| unsaved.is_whole(GROWS_FOR)).await;
            self.reported(file.inode, saved).await?;
        }
        let directory = self.tree.lock().directory(inode)?.path();
        let synced = self.put_names_on_disk(&directory).await;
        self.reported(inode, synced).await
    }

    async fn releasedir(&self, _inode: Inode, handle: Handle) {
        self.handles.remove_directory(handle);
    }

    async fn statfs(&self, inode: Inode) -> Result<FilesystemStatistics, DriveError> {
        self.removals.all_done().await;
        let path = self.tree.lock().plain_path_around(inode);
        let statistics = self.remote.statistics(&path).await;
        // No numbers mean that they are not known, as in other file systems without any: programs that look for room
        // take it so.
        let RemoteStatistics { block_size, blocks, blocks_free, blocks_available, files, files_free, .. } =
            match statistics {
                Ok(statistics) => statistics,
                Err(RemoteError::Unsupported(_)) => RemoteStatistics {
                    block_size: 4096,
                    blocks: 0,
                    blocks_free: 0,
                    blocks_available: 0,
                    files: 0,
                    files_free: 0,
                    name_max: 255,
                },
                Err(error) => return Err(error.into()),
            };
        Ok(FilesystemStatistics {
            block_size: u32::try_from(block_size).unwrap_or(4096),
            blocks,
            blocks_free,
            blocks_available,
            files,
            files_free,
            name_max: 255,
        })
    }
}

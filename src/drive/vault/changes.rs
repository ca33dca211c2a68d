//! Changing what lies inside vaults: make, publish, remove, move.
//!
//! Each change is put together under a temporary name and appears, or goes, in one step. So a cut at any point leaves the
//! old state or the new one, and at the most debris that nobody sees.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::{CleartextName, DirectoryId, Listed};

use super::{DIRECTORY_ID_MAX, Entry, SYMLINK_FILE_MAX, VaultDirectory, VaultNode, part};
use crate::drive::error::DriveError;
use crate::drive::found::{Found, Place, cleartext_name};
use crate::drive::location::conflict_names;
use crate::drive::temporary;
use crate::remote::{
    Remote, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemoteOpen, RemotePath, RemoteSetAttributes,
    RenameHow,
};

impl VaultDirectory {
    /// Makes a directory: its content first, then the node that names it, which appears at once and whole. A cut in
    /// between leaves at most a content directory that nothing names.
    pub(in crate::drive) async fn make_directory(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        mode: u16,
    ) -> Result<Found, DriveError> {
        let id = DirectoryId::random().map_err(|error| DriveError::Random(error.to_string()))?;
        let content = self.content_of(&id);
        let made = self.make_directory_with(remote, name, id, mode).await;
        // Without an answer the node may be there all the same, and needs its content. Nobody else knows of it.
        if made.as_ref().is_err_and(|error| !error.is_unanswered()) {
            discard_directory(remote, &content).await;
        }
        made
    }

    /// Makes a directory with an id that it had before, if not for the first time. What is left of its content stays.
    pub(in crate::drive) async fn make_directory_with(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        id: DirectoryId,
        mode: u16,
    ) -> Result<Found, DriveError> {
        // The node is prepared meanwhile, and gets its name when the content is whole.
        let (content, prepared) = futures::join!(
            self.make_content_of(remote, &id, mode),
            self.prepare_node(remote, name, "dir.c9r", id.as_bytes())
        );
        let made = match (content, prepared) {
            (Ok(()), Ok(prepared)) => self.reveal_node(remote, prepared).await,
            (Err(error), Ok(prepared)) => {
                discard_directory(remote, &prepared.temporary).await;
                Err(error)
            }
            (_, Err(error)) => Err(error),
        };
        let entry = made?;
        let attributes = remote.stat(&self.content_of(&id)).await?;
        let node = VaultNode::Directory(id);
        let attributes = self.shown_attributes(&node, attributes);
        let place = Place::Vault { vault: Arc::clone(&self.vault), entry, node };
        Ok(Found { name: name.as_str().into(), attributes, place })
    }

    /// Makes what a directory lies in. What is there of it stays.
    pub(in crate::drive) async fn make_content_of(
        &self,
        remote: &dyn Remote,
        id: &DirectoryId,
        mode: u16,
    ) -> Result<(), DriveError> {
        let content = self.content_of(id);
        let backup =
            self.cryptor.encrypt_small(id.as_bytes()).map_err(|e| DriveError::Random(e.to_string()))?;
        let made = make_content(remote, &content, 0o700 | mode).await;
        let written = match made {
            Ok(()) | Err(RemoteError::Exists) => {
                write_small(remote, &content.join(&part("dirid.c9r")), &backup).await
            }
            Err(error) => return Err(error.into()),
        };
        match written {
            Err(RemoteError::Exists) if made.is_err() => {}
            written => written?,
        }
        if mode & 0o700 != 0o700 {
            let inherited = remote.stat(&content).await?.mode & !0o1777;
            let set = RemoteSetAttributes { mode: Some(mode | inherited), ..RemoteSetAttributes::default() };
            remote.set_attributes(&content, set).await?;
        }
        Ok(())
    }

    /// Makes a symbolic link.
    pub(in crate::drive) async fn make_symlink(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        target: &[u8],
    ) -> Result<Found, DriveError> {
        let stored = self.cryptor.encrypt_small(target).map_err(|e| DriveError::Random(e.to_string()))?;
        let entry = self.make_node(remote, name, "symlink.c9r", &stored).await?;
        let attributes = remote.stat(&self.symlink_path(&entry)).await?;
        let attributes = self.shown_attributes(&VaultNode::Symlink, attributes);
        let place = Place::Vault { vault: Arc::clone(&self.vault), entry, node: VaultNode::Symlink };
        Ok(Found { name: name.as_str().into(), attributes, place })
    }

    /// Makes a node that is a directory on the server: built under a temporary name and renamed, so that it is there
    /// whole or not at all. Fails with `Exists` if the name is taken.
    async fn make_node(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        inside: &'static str,
        content: &[u8],
    ) -> Result<Entry, DriveError> {
        let prepared = self.prepare_node(remote, name, inside, content).await?;
        self.reveal_node(remote, prepared).await
    }

    /// Builds a node under a temporary name. Fails with `Exists` if its own is taken.
    async fn prepare_node(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        inside: &'static str,
        content: &[u8],
    ) -> Result<PreparedNode, DriveError> {
        let (entry, long_name) = self.entry(name)?;
        let target = self.content().join(&entry.name);
        let temporary = self.content().join(&temporary::name()?);
        let (taken, made) = futures::join!(remote.stat(&target), remote.mkdir_by_umask(&temporary));
        made?;
        let built = async {
            // rename(2) would replace an empty directory, so debris of others counts as taken too.
            match taken {
                Ok(_) => return Err(RemoteError::Exists),
                Err(RemoteError::NotFound) => {}
                Err(error) => return Err(error),
            }
            let (inside, long) = (temporary.join(&part(inside)), temporary.join(&part("name.c9s")));
            let write_long = async {
                match &long_name {
                    Some(long_name) => write_small(remote, &long, long_name.as_bytes()).await,
                    None => Ok(()),
                }
            };
            futures::try_join!(write_small(remote, &inside, content), write_long).map(drop)
        };
        match built.await {
            Ok(()) => Ok(PreparedNode { entry, target, temporary }),
            Err(error) => {
                discard_directory(remote, &temporary).await;
                Err(error.into())
            }
        }
    }

    /// Gives a prepared node its name: it is there whole, or not at all.
    async fn reveal_node(&self, remote: &dyn Remote, prepared: PreparedNode) -> Result<Entry, DriveError> {
        let PreparedNode { entry, target, temporary } = prepared;
        if let Err(error) = remote.rename(&temporary, &target, RenameHow::New).await {
            discard_directory(remote, &temporary).await;
            return Err(match error {
                RemoteError::NotEmpty | RemoteError::NotADirectory => DriveError::Exists,
                error => error.into(),
            });
        }
        Ok(entry)
    }

    /// Gives finished content, which lies under a temporary name in this directory, its name. A shortened node that is not
    /// there yet needs its long name.
    pub(in crate::drive) async fn publish_as(
        &self,
        remote: &dyn Remote,
        temporary: &RemotePath,
        entry: &Entry,
        long_name: Option<&str>,
        how: RenameHow,
    ) -> Result<(), DriveError> {
        if !entry.shortened {
            return Ok(remote.rename(temporary, &self.content().join(&entry.name), how).await?);
        }
        match remote.rename(temporary, &self.file_path(entry), how).await {
            Err(RemoteError::NotFound) => {}
            done => return Ok(done?),
        }
        // The shortened node does not exist yet: it is built beside and appears whole. Where it is built follows from the
        // temporary name, so that an attempt whose end nobody learned of is taken up again.
        let long_name = long_name.ok_or(DriveError::NotFound)?;
        let node = temporary::beside(temporary).ok_or(DriveError::Invalid)?;
        let moved = node.join(&part("contents.c9r"));
        match remote.mkdir_by_umask(&node).await {
            Ok(()) | Err(RemoteError::Exists) => {}
            Err(error) => return Err(error.into()),
        }
        let built = async {
            write_long_name(remote, &node, long_name).await?;
            match remote.rename(temporary, &moved, RenameHow::Replace).await {
                Err(RemoteError::NotFound) => remote.stat(&moved).await.map(|_| ())?,
                done => done?,
            }
            remote.rename(&node, &self.content().join(&entry.name), RenameHow::New).await
        };
        if let Err(error) = built.await {
            // Whoever published it still holds it. Where it can't be brought back, it stays where it is for the next attempt.
            if let Ok(()) | Err(RemoteError::NotFound) = Self::unpublish(remote, temporary).await {
                discard_directory(remote, &node).await;
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Brings content that [`Self::publish_as`] left half-way to a shortened node back to its temporary name. Not found if it went all
    /// the way.
    pub(in crate::drive) async fn unpublish(
        remote: &dyn Remote,
        temporary: &RemotePath,
    ) -> Result<(), RemoteError> {
        let node = temporary::beside(temporary).ok_or(RemoteError::NotFound)?;
        remote.rename(&node.join(&part("contents.c9r")), temporary, RenameHow::Replace).await
    }

    /// Removes a node that is not a directory of the mount: a file, a link, or one of no known kind.
    pub(in crate::drive) async fn remove_node(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<(), DriveError> {
        let path = self.content().join(&entry.name);
        if matches!(node, VaultNode::File) && !entry.shortened {
            return Ok(remote.remove(&path).await?);
        }
        if matches!(node, VaultNode::Unknown(_))
            && !matches!(remote.stat(&path).await?.kind, RemoteKind::Directory)
        {
            return Ok(remote.remove(&path).await?);
        }
        self.hide(remote, entry, node).await?.discard(remote).await;
        Ok(())
    }

    /// Removes an empty directory: the node goes out of sight first, so that a cut leaves at most content that nothing
    /// names, then the content goes. Answers what is left of the node, to be discarded.
    pub(in crate::drive) async fn remove_directory(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<HiddenNode, DriveError> {
        let VaultNode::Directory(id) = node else {
            // Its content could not be had when it was looked at. It may be there by now: another machine makes directories again.
            if self.has_content_by_now(remote, entry).await? {
                return Err(DriveError::NotEmpty);
            }
            return self.hide(remote, entry, node).await;
        };
        let content = self.content_of(id);
        let strays = self.strays_if_empty(remote, &content, id).await?;
        let hidden = self.hide(remote, entry, node).await?;
        let (directories, files): (Vec<_>, Vec<_>) =
            strays.into_iter().partition(|stray| stray.attributes.kind == RemoteKind::Directory);
        let directories: Vec<_> = directories.iter().map(|stray| content.join(&stray.name)).collect();
        futures::future::join_all(directories.iter().map(|path| discard_directory(remote, path))).await;
        let files: Vec<_> = files.into_iter().map(|stray| stray.name).collect();
        match remove_with(remote, &content, &files).await {
            Ok(()) | Err(RemoteError::NotFound) => {}
            // Without an answer it may be gone: a look tells. If nothing tells, it stays removed.
            Err(error) if error.is_unanswered() => match remote.stat(&content).await {
                Ok(_) => {
                    self.bring_back(remote, &hidden, name, entry, node).await?;
                    return Err(error.into());
                }
                Err(RemoteError::NotFound) => {}
                Err(_) => return Err(error.into()),
            },
            // Somebody made a file in it meanwhile: the directory comes back.
            Err(error) => {
                self.bring_back(remote, &hidden, name, entry, node).await?;
                return Err(error.into());
            }
        }
        Ok(hidden)
    }

    /// The id that a node names by now; `None` if it names none.
    pub(in crate::drive) async fn id_of(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
    ) -> Result<Option<DirectoryId>, DriveError> {
        let path = self.content().join(&entry.name).join(&part("dir.c9r"));
        match remote.read_small(&path, DIRECTORY_ID_MAX).await {
            Ok(id) => Ok(DirectoryId::parse(&id).ok()),
            Err(error) if error.is_unanswered() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Whether a node that is a directory names content that is there.
    async fn has_content_by_now(&self, remote: &dyn Remote, entry: &Entry) -> Result<bool, DriveError> {
        let Some(id) = self.id_of(remote, entry).await? else { return Ok(false) };
        match remote.stat(&self.content_of(&id)).await {
            Ok(_) => Ok(true),
            Err(RemoteError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What lies in an empty directory's content, all of it to be removed with it. Nodes, and names that look like nodes but
    /// do not decrypt, make it not empty: nothing that somebody may still want is wiped.
    async fn strays_if_empty(
        &self,
        remote: &dyn Remote,
        content: &RemotePath,
        id: &DirectoryId,
    ) -> Result<Vec<RemoteEntry>, DriveError> {
        let entries = remote.list_packed(content, usize::MAX, remote.names_budget()).await?;
        let holds_a_node = entries.records().any(|record| {
            let name = record.name;
            let left_alone = temporary::is_temporary(name) && !temporary::is_debris(name);
            left_alone || !matches!(self.cryptor.identify(name, id), Listed::NotAnEntry)
        });
        if holds_a_node { Err(DriveError::NotEmpty) } else { Ok(entries.into_entries().collect()) }
    }

    /// Whether the directory `node` may be replaced or removed.
    pub(in crate::drive) async fn check_empty(
        &self,
        remote: &dyn Remote,
        node: &VaultNode,
    ) -> Result<(), DriveError> {
        match node {
            VaultNode::Directory(id) => {
                let content = self.content_of(id);
                self.strays_if_empty(remote, &content, id).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Moves a node here from `from`, a directory of the same vault. A regular file may replace one.
    pub(in crate::drive) async fn move_here(
        &self,
        remote: &dyn Remote,
        from: &Self,
        source: &Entry,
        node: &VaultNode,
        name: &CleartextName,
        how: RenameHow,
    ) -> Result<Entry, DriveError> {
        let (target, long_name) = self.entry(name)?;
        let source_path = from.content().join(&source.name);
        if !source.shortened && !target.shortened {
            remote.rename(&source_path, &self.content().join(&target.name), how).await?;
            return Ok(target);
        }
        // A long name on either side takes more than one step. The node appears under its new name whole, then goes from the
        // old one: a cut in between leaves both names for one content, never none.
        match node {
            VaultNode::File => {
                let twin = self.content().join(&temporary::name()?);
                match remote.hard_link(&from.file_path(source), &twin).await {
                    Ok(()) => {
                        let published =
                            self.publish_as(remote, &twin, &target, long_name.as_deref(), how).await;
                        // rename(2) leaves it where it is if the target is the same file already.
                        let discarded = async {
                            if let Err(error) = remote.remove(&twin).await {
                                temporary::abandon(&twin, &error);
                            }
                        };
                        if published.is_ok() {
                            futures::join!(discarded, from.remove_after_move(remote, source, node)).1?;
                        } else {
                            discarded.await;
                        }
                        published?;
                    }
                    Err(
                        RemoteError::Unsupported(_) | RemoteError::PermissionDenied | RemoteError::Failure(_),
                    ) => {
                        let path = from.file_path(source);
                        self.move_content(remote, &path, &target, long_name.as_deref(), how).await?;
                        if source.shortened {
                            from.remove_after_move(remote, source, node).await?;
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => {
                let content =
                    remote.read_small(&source_path.join(&part("dir.c9r")), DIRECTORY_ID_MAX).await?;
                // Somebody else may have given the name to another directory since it was looked at.
                if matches!(node, VaultNode::Directory(id) if *content != *id.as_bytes()) {
                    return Err(DriveError::Stale);
                }
                self.make_node(remote, name, "dir.c9r", &content).await?;
                match from.hide(remote, source, node).await {
                    Ok(hidden) => hidden.discard(remote).await,
                    Err(error) => {
                        // Somebody else has moved it on meanwhile, or the server refuses: one directory must not have two names.
                        if !error.is_unanswered()
                            && let Ok(copy) = self.hide(remote, &target, node).await
                        {
                            copy.discard(remote).await;
                        }
                        return Err(error);
                    }
                }
            }
            VaultNode::Symlink => {
                let content =
                    remote.read_small(&source_path.join(&part("symlink.c9r")), SYMLINK_FILE_MAX).await?;
                self.make_node(remote, name, "symlink.c9r", &content).await?;
                from.hide(remote, source, node).await?.discard(remote).await;
            }
            VaultNode::Unknown(why) => return Err(DriveError::damaged(why)),
        }
        Ok(target)
    }

    /// Moves a file's bytes to where `target` has them, on a server without hard links. A cut leaves a node that says nothing
    /// but its name, and the bytes under the old name or the new.
    async fn move_content(
        &self,
        remote: &dyn Remote,
        source: &RemotePath,
        target: &Entry,
        long_name: Option<&str>,
        how: RenameHow,
    ) -> Result<(), DriveError> {
        match (remote.rename(source, &self.file_path(target), how).await, long_name) {
            (Err(RemoteError::NotFound), Some(long_name)) if target.shortened => {
                let node = self.content().join(&target.name);
                let shell = self.content().join(&temporary::name()?);
                remote.mkdir_by_umask(&shell).await?;
                let built = async {
                    write_long_name(remote, &shell, long_name).await?;
                    remote.rename(&shell, &node, RenameHow::New).await
                };
                if let Err(error) = built.await {
                    discard_directory(remote, &shell).await;
                    return Err(error.into());
                }
                let moved = remote.rename(source, &self.file_path(target), RenameHow::New).await;
                if let Err(error) = moved {
                    if !error.is_unanswered() {
                        discard_directory(remote, &node).await;
                    }
                    return Err(error.into());
                }
                Ok(())
            }
            (done, _) => Ok(done?),
        }
    }

    async fn remove_after_move(
        &self,
        remote: &dyn Remote,
        source: &Entry,
        node: &VaultNode,
    ) -> Result<(), DriveError> {
        match self.remove_node(remote, source, node).await {
            Err(error) if error.is_not_found() && !source.shortened => Ok(()),
            done => done,
        }
    }

    /// Takes a node out of sight, in one step: it is to be removed, or another takes its name.
    pub(in crate::drive) async fn hide(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<HiddenNode, DriveError> {
        let path = self.content().join(&temporary::name()?);
        let shown = self.content().join(&entry.name);
        match node {
            VaultNode::Directory(id) => hide_directory(remote, &shown, &path, id).await?,
            _ => remote.rename(&shown, &path, RenameHow::New).await?,
        }
        let inside = match node {
            VaultNode::File => Some("contents.c9r"),
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => Some("dir.c9r"),
            VaultNode::Symlink => Some("symlink.c9r"),
            VaultNode::Unknown(_) => None,
        };
        let parts = inside.into_iter().chain(entry.shortened.then_some("name.c9s")).map(part).collect();
        Ok(HiddenNode { path, parts })
    }

    /// Undoes [`Self::hide`] of what was to be removed or replaced. Where something else has the name by now, an empty directory is gone, and one in
    /// which somebody made something is shown beside it.
    pub(in crate::drive) async fn bring_back(
        &self,
        remote: &dyn Remote,
        hidden: &HiddenNode,
        name: &CleartextName,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<(), DriveError> {
        let shown = remote.rename(&hidden.path, &self.content().join(&entry.name), RenameHow::New).await;
        match (shown, node) {
            (Err(RemoteError::Exists), VaultNode::Directory(_)) => {
                self.discard_replaced(remote, hidden, name, node).await
            }
            (shown, _) => Ok(shown?),
        }
    }

    /// Names a directory as a conflicting copy of `name`.
    async fn show_beside(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        id: &DirectoryId,
    ) -> Result<(), DriveError> {
        for copy in conflict_names(OsStr::new(name.as_str())) {
            match self.make_node(remote, &cleartext_name(&copy)?, "dir.c9r", id.as_bytes()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Err(DriveError::Exists)
    }

    /// Removes for good what had `name` and was replaced, and which [`Self::hide`] took out of sight. A directory in which
    /// somebody made something meanwhile is there again, beside what replaced it.
    pub(in crate::drive) async fn discard_replaced(
        &self,
        remote: &dyn Remote,
        hidden: &HiddenNode,
        name: &CleartextName,
        node: &VaultNode,
    ) -> Result<(), DriveError> {
        if let VaultNode::Directory(id) = node
            && !self.discard_content(remote, id).await?
        {
            self.show_beside(remote, name, id).await?;
        }
        hidden.discard(remote).await;
        Ok(())
    }

    /// Removes the content of a directory that nothing names any more. Returns whether it is gone: it stays where somebody has made something in it.
    async fn discard_content(&self, remote: &dyn Remote, id: &DirectoryId) -> Result<bool, DriveError> {
        let content = self.content_of(id);
        let strays = match self.strays_if_empty(remote, &content, id).await {
            Ok(strays) => strays,
            Err(DriveError::NotEmpty) => return Ok(false),
            Err(_) => return Ok(true),
        };
        // Only what was seen to be no entry goes.
        let files: Vec<_> = strays.into_iter().map(|stray| stray.name).collect();
        if let Ok(()) | Err(RemoteError::NotFound) = remove_with(remote, &content, &files).await {
            return Ok(true);
        }
        // What is left without an entry in it, nobody misses.
        let left = self.strays_if_empty(remote, &content, id).await;
        Ok(!matches!(left, Err(DriveError::NotEmpty)))
    }
}

/// A node that was taken out of sight.
pub(in crate::drive) struct HiddenNode {
    path: RemotePath,
    /// What a node of its kind has in its directory.
    parts: Vec<RemoteName>,
}

impl HiddenNode {
    /// The temporary name that it has.
    pub(in crate::drive) fn name(&self) -> Option<RemoteName> {
        self.path.split().map(|(_, name)| name)
    }

    /// Removes it for good, as far as that goes: what stays is debris under a temporary name.
    pub(in crate::drive) async fn discard(&self, remote: &dyn Remote) {
        if remove_with(remote, &self.path, &self.parts).await.is_ok() {
            return;
        }
        // It holds something else, or is a mere file.
        match remote.stat(&self.path).await {
            Ok(attributes) if attributes.kind == RemoteKind::Directory => {
                discard_directory(remote, &self.path).await;
            }
            Ok(_) => {
                if let Err(error) = remote.remove(&self.path).await {
                    temporary::abandon(&self.path, &error);
                }
            }
            Err(error) => temporary::abandon(&self.path, &error),
        }
    }
}

/// A node that is built, under a temporary name.
struct PreparedNode {
    entry: Entry,
    target: RemotePath,
    temporary: RemotePath,
}

/// Takes the node of a directory out of sight. Somebody else may have given its name to another directory since it was looked at: that one stays.
async fn hide_directory(
    remote: &dyn Remote,
    shown: &RemotePath,
    hidden: &RemotePath,
    id: &DirectoryId,
) -> Result<(), DriveError> {
    let named = hidden.join(&part("dir.c9r"));
    // Both are asked for at once, in this order.
    let (renamed, id_there) = futures::join!(
        remote.rename(shown, hidden, RenameHow::New),
        remote.read_small(&named, DIRECTORY_ID_MAX)
    );
    renamed?;
    let id_there = match id_there {
        // This server read before it renamed.
        Err(RemoteError::NotFound) => remote.read_small(&named, DIRECTORY_ID_MAX).await,
        there => there,
    };
    match id_there {
        Ok(there) if *there != *id.as_bytes() => {}
        Err(error) if error.is_unanswered() => {
            // Nobody knows which it is: better it is shown.
            if let Err(error) = remote.rename(hidden, shown, RenameHow::New).await {
                tracing::warn!(%error, "a directory may stay out of sight");
            }
            return Err(error.into());
        }
        _ => return Ok(()),
    }
    remote.rename(hidden, shown, RenameHow::New).await?;
    Err(DriveError::Stale)
}

/// Makes a content directory, and the directory around it if it is the first in that.
async fn make_content(remote: &dyn Remote, content: &RemotePath, mode: u16) -> Result<(), RemoteError> {
    let Some((fan_out, _)) = content.split() else { return remote.mkdir(content, mode).await };
    // Both are asked for at once, in this order, and only the second answer is waited for: mostly the first is there already.
    let mut around = remote.mkdir_by_umask(&fan_out);
    let mut made = remote.mkdir(content, mode);
    let first = tokio::select! {
        biased;
        around = &mut around => match around {
            Ok(()) | Err(RemoteError::Exists) => made.await,
            Err(error) => return Err(error),
        },
        made = &mut made => match made {
            // This server made the second before the first.
            Err(RemoteError::NotFound) => {
                match around.await {
                    Ok(()) | Err(RemoteError::Exists) => Err(RemoteError::NotFound),
                    Err(error) => return Err(error),
                }
            }
            made => made,
        },
    };
    match first {
        Err(RemoteError::NotFound) => remote.mkdir(content, mode).await,
        made => made,
    }
}

/// Writes a whole small new file and makes it durable.
pub(in crate::drive) async fn write_small(
    remote: &dyn Remote,
    path: &RemotePath,
    content: &[u8],
) -> Result<(), RemoteError> {
    let file = remote.open(path, RemoteOpen::CreateByUmask).await?;
    file.write_whole(Bytes::copy_from_slice(content), RemoteSetAttributes::default()).await.map(drop)
}

/// Writes a node's long name, anew if an earlier attempt left something there.
async fn write_long_name(remote: &dyn Remote, node: &RemotePath, long_name: &str) -> Result<(), RemoteError> {
    let path = node.join(&part("name.c9s"));
    match write_small(remote, &path, long_name.as_bytes()).await {
        Err(RemoteError::Exists) => {
            remote.remove(&path).await?;
            write_small(remote, &path, long_name.as_bytes()).await
        }
        done => done,
    }
}

/// Removes a directory with the files of these names in it. All is asked for at once, in this order. Where it was done in another (over a
/// connection made anew, everything is asked again) the directory was not empty, or had been, and is by the time somebody looks why not.
async fn remove_with(
    remote: &dyn Remote,
    directory: &RemotePath,
    names: &[RemoteName],
) -> Result<(), RemoteError> {
    let paths: Vec<_> = names.iter().map(|name| directory.join(name)).collect();
    let files = futures::future::join_all(paths.iter().map(|path| remote.remove(path)));
    match futures::join!(files, remote.rmdir(directory)).1 {
        Err(RemoteError::NotEmpty | RemoteError::Failure(_)) => remote.rmdir(directory).await,
        done => done,
    }
}

/// Names in a directory of ours, at the most: what holds more is none, whatever a server says.
const DISCARDED_MAX: usize = 1000;

/// Removes a directory of ours with the files in it, as far as that goes: what stays is debris under a temporary name.
pub(in crate::drive) async fn discard_directory(remote: &dyn Remote, path: &RemotePath) {
    let entries = match remote.list_packed(path, DISCARDED_MAX, remote.names_budget()).await {
        Ok(entries) => entries.into_entries(),
        Err(error) => return temporary::abandon(path, &error),
    };
    let (directories, files): (Vec<_>, Vec<_>) =
        entries.partition(|entry| entry.attributes.kind == RemoteKind::Directory);
    let directories: Vec<_> = directories.iter().map(|entry| path.join(&entry.name)).collect();
    futures::future::join_all(directories.iter().map(|path| remote.rmdir(path))).await;
    let files: Vec<_> = files.into_iter().map(|entry| entry.name).collect();
    if let Err(error) = remove_with(remote, path, &files).await {
        temporary::abandon(path, &error);
    }
}

//! Changing the content of vaults: make, publish, move.
//!
//! Each change is prepared under a temporary name and appears, or goes, in one step. So a cut at any point leaves the
//! old state or the new one, and at most debris that nobody sees.

use scaup_crypto::{CleartextName, DirectoryId};

use super::directory::{SYMLINK_FILE_MAX, VaultDirectory};
use super::directory_removal::discard_directory;
use super::empty_entry::clear_entry;
use super::error::NodeError;
use super::format::{DIRECTORY_ID_MAX, part};
use super::node::{Entry, FoundNode, NodePart, VaultNode};
use super::removal::NotMoved;
use super::small_file::{write_long_name, write_long_name_if_missing, write_small};
use super::temporary::{self, Fate};
use super::unfinished::Begun;
use crate::remote::{Remote, RemoteError, RemotePath, RemoteSetAttributes, RenameHow};

impl VaultDirectory {
    /// Makes a directory: its content first, then the node that names it, which appears at once and whole. A cut in
    /// between leaves a hidden node that tells which content belongs to it.
    pub(crate) async fn make_directory(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        mode: u16,
    ) -> Result<FoundNode, NodeError> {
        let id = DirectoryId::random().map_err(NodeError::random)?;
        let temporary = self.temporary_of(&id, Fate::WithContent)?;
        let made = self.make_directory_by(remote, name, &id, mode, &temporary).await;
        if made.as_ref().is_err_and(|error| !error.is_unanswered()) {
            // The node is removed last: it tells what else has to be removed.
            discard_directory(remote, &self.content_of(&id)).await;
            discard_directory(remote, &temporary).await;
        }
        made
    }

    /// Makes a directory with an id that it had before. Remaining content of it stays.
    pub(crate) async fn make_directory_with(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        id: &DirectoryId,
        mode: u16,
    ) -> Result<FoundNode, NodeError> {
        let temporary = self.temporary_of(id, Fate::WithContent)?;
        let made = self.make_directory_by(remote, name, id, mode, &temporary).await;
        if made.as_ref().is_err_and(|error| !error.is_unanswered()) {
            discard_directory(remote, &temporary).await;
        }
        made
    }

    async fn make_directory_by(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        id: &DirectoryId,
        mode: u16,
        temporary: &RemotePath,
    ) -> Result<FoundNode, NodeError> {
        let made = async {
            // Requested first, so that no content exists without the node; the node gets its own name when the content
            // is whole.
            let (prepared, content) = futures::join!(
                self.prepare_node(remote, name, NodePart::Directory, id.as_bytes(), temporary),
                self.make_content_of(remote, id, mode)
            );
            content?;
            self.reveal_node(remote, prepared?, temporary).await
        };
        let entry = match made.await {
            Ok(entry) => entry,
            Err(error) => {
                // The node may have its name nevertheless, and then needs the content.
                if error.is_unanswered() {
                    temporary::abandon(temporary, error.clone());
                }
                return Err(error);
            }
        };
        let attributes = remote.stat(&self.content_of(id)).await?;
        let node = VaultNode::Directory(id.clone());
        let attributes = self.shown_attributes(&node, attributes);
        Ok(FoundNode { name: name.as_str().into(), attributes, entry, node })
    }

    /// Makes the content directory of a directory. Existing parts of it stay.
    pub(crate) async fn make_content_of(
        &self,
        remote: &dyn Remote,
        id: &DirectoryId,
        mode: u16,
    ) -> Result<(), NodeError> {
        let content = self.content_of(id);
        let backup = self.cryptor.encrypt_small(id.as_bytes()).map_err(NodeError::random)?;
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
    pub(crate) async fn make_symlink(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        target: &[u8],
    ) -> Result<FoundNode, NodeError> {
        let stored = self.cryptor.encrypt_small(target).map_err(NodeError::random)?;
        let entry = self.make_node(remote, name, NodePart::Symlink, &stored).await?;
        let attributes = remote.stat(&self.path_of(&entry)).await?;
        let attributes = self.shown_attributes(&VaultNode::Symlink, attributes);
        Ok(FoundNode { name: name.as_str().into(), attributes, entry, node: VaultNode::Symlink })
    }

    /// Makes a node that is a directory on the server: built under a temporary name and renamed, so that it is there
    /// whole or not at all. Fails with `Exists` if the name is taken.
    pub(crate) async fn make_node(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        inside: NodePart,
        content: &[u8],
    ) -> Result<Entry, NodeError> {
        let temporary = match DirectoryId::parse(content) {
            Ok(id) if inside == NodePart::Directory => self.temporary_of(&id, Fate::Alone)?,
            _ => self.temporary()?,
        };
        let made = async {
            let prepared = self.prepare_node(remote, name, inside, content, &temporary).await?;
            self.reveal_node(remote, prepared, &temporary).await
        };
        let made = made.await;
        if made.is_err() {
            discard_directory(remote, &temporary).await;
        }
        made
    }

    /// Builds a node under a temporary name. Fails with `Exists` if its final name is taken.
    async fn prepare_node(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        inside: NodePart,
        content: &[u8],
        temporary: &RemotePath,
    ) -> Result<Entry, NodeError> {
        let (entry, long_name) = self.entry_name(name)?;
        let target = self.content().join(&entry);
        let (made, taken) = futures::join!(remote.mkdir_by_umask(temporary), remote.stat(&target));
        made?;
        match taken {
            Ok(_) if self.make_way(remote, &entry).await? => {}
            Ok(_) => return Err(NodeError::Remote(RemoteError::Exists)),
            Err(RemoteError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let entry = Entry::inside(entry, inside);
        let (inside, long) = (temporary.join(&part(inside.file_name())), temporary.join(&part("name.c9s")));
        let write_long = async {
            match &long_name {
                Some(long_name) => write_small(remote, &long, long_name.as_bytes()).await,
                None => Ok(()),
            }
        };
        futures::try_join!(write_small(remote, &inside, content), write_long)?;
        Ok(entry)
    }

    /// Gives a prepared node its name: it is there whole, or not at all.
    async fn reveal_node(
        &self,
        remote: &dyn Remote,
        prepared: Entry,
        temporary: &RemotePath,
    ) -> Result<Entry, NodeError> {
        match remote.rename(temporary, &self.content().join(&prepared.name), RenameHow::New).await {
            Ok(()) => Ok(prepared),
            Err(RemoteError::NotEmpty | RemoteError::NotADirectory) => {
                Err(NodeError::Remote(RemoteError::Exists))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives finished content, which has a temporary name in this directory, its final name. `long_name` is what
    /// `name.c9s` has to hold, if the entry is a shortened one of that name: it may be missing there.
    pub(crate) async fn publish_as(
        &self,
        remote: &dyn Remote,
        temporary: &RemotePath,
        entry: &Entry,
        long_name: Option<&str>,
        how: RenameHow,
    ) -> Result<(), NodeError> {
        let Some(long_name) = self.put_content(remote, temporary, entry, long_name, how).await? else {
            return Ok(());
        };
        let target = self.content().join(&entry.name);
        Self::build_beside(remote, temporary, &target, long_name).await
    }

    /// The same in the content directory `content`, for a vault whose keys are gone: nothing is moved out of the way.
    pub(crate) async fn publish_in(
        remote: &dyn Remote,
        temporary: &RemotePath,
        content: &RemotePath,
        entry: &Entry,
        long_name: Option<&str>,
        how: RenameHow,
    ) -> Result<(), NodeError> {
        let node = content.join(&entry.name);
        match (remote.rename(temporary, &entry.path_in(content), how).await, long_name) {
            (Ok(()), Some(long_name)) => Ok(write_long_name_if_missing(remote, &node, long_name).await?),
            (Err(RemoteError::NotFound), Some(long_name)) => {
                Self::build_beside(remote, temporary, &node, long_name).await
            }
            (renamed, _) => Ok(renamed?),
        }
    }

    /// Makes the shortened node `target` of finished content.
    async fn build_beside(
        remote: &dyn Remote,
        temporary: &RemotePath,
        target: &RemotePath,
        long_name: &str,
    ) -> Result<(), NodeError> {
        // The shortened node does not exist yet: it is built beside and appears whole. The place where it is built
        // follows from the temporary name, so that an attempt with an unknown outcome is resumed.
        let node = temporary::beside(temporary).ok_or(NodeError::InvalidName)?;
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
            remote.rename(&node, target, RenameHow::New).await
        };
        if let Err(error) = built.await {
            // The caller that published it still holds it. If it can't be moved back, it stays in place for the next
            // attempt.
            if let Ok(()) | Err(RemoteError::NotFound) = Self::unpublish(remote, temporary).await {
                discard_directory(remote, &node).await;
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Renames content to where `entry` has it. Returns `None` if it is there, and the long name if the shortened entry
    /// does not exist yet.
    async fn put_content<'a>(
        &self,
        remote: &dyn Remote,
        content: &RemotePath,
        entry: &Entry,
        long_name: Option<&'a str>,
        how: RenameHow,
    ) -> Result<Option<&'a str>, NodeError> {
        let target = self.path_of(entry);
        let (Some(long_name), Some(part)) = (long_name, &entry.part) else {
            let renamed = match remote.rename(content, &target, how).await {
                Err(RemoteError::Exists) if self.make_way(remote, &entry.name).await? => {
                    remote.rename(content, &target, how).await
                }
                renamed => renamed,
            };
            return Ok(renamed.map(|()| None)?);
        };
        let (renamed, named) =
            futures::join!(remote.rename(content, &target, how), self.has_long_name(remote, &entry.name));
        match renamed {
            Ok(()) if named? => Ok(None),
            // A sync client took the name away, or has not brought it yet. Others in the entry must not get it.
            Ok(()) if self.has_company(remote, &entry.name, part).await? => {
                remote.rename(&target, content, RenameHow::New).await?;
                self.make_way(remote, &entry.name).await?;
                Ok(Some(long_name))
            }
            Ok(()) => {
                let node = self.content().join(&entry.name);
                Ok(write_long_name_if_missing(remote, &node, long_name).await.map(|()| None)?)
            }
            Err(RemoteError::NotFound) => Ok(Some(long_name)),
            Err(RemoteError::Exists) if self.make_way(remote, &entry.name).await? => Ok(Some(long_name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves content that [`Self::publish_as`] left half-way in a shortened node back to its temporary name. Fails with
    /// `NotFound` if the content went all the way.
    pub(crate) async fn unpublish(remote: &dyn Remote, temporary: &RemotePath) -> Result<(), RemoteError> {
        let node = temporary::beside(temporary).ok_or(RemoteError::NotFound)?;
        remote.rename(&node.join(&part("contents.c9r")), temporary, RenameHow::Replace).await
    }

    /// Moves a node here from `from`, a directory of the same vault. A regular file may replace one.
    pub(crate) async fn move_here(
        &self,
        remote: &dyn Remote,
        from: &Self,
        source: &Entry,
        node: &VaultNode,
        name: &CleartextName,
        how: RenameHow,
    ) -> Result<Entry, NodeError> {
        let (target, long_name) = self.entry_name(name)?;
        // What else lies in the entry stays where it is.
        let moves_whole = long_name.is_none()
            && (source.part.is_none()
                || !source.name.as_bytes().ends_with(b".c9s") && from.lies_alone(remote, source).await?);
        if moves_whole {
            let target = Entry { name: target, part: source.part.clone() };
            let moved = match from.move_whole(remote, source, (self, &target), node, how).await {
                Err(error) if error.is_exists() && self.make_way(remote, &target.name).await? => {
                    from.move_whole(remote, source, (self, &target), node, how).await
                }
                moved => moved,
            };
            moved?;
            from.forget_name_of(source, node);
            return Ok(target);
        }
        let target = match node {
            VaultNode::File if long_name.is_none() => Entry::whole(target),
            VaultNode::File | VaultNode::Unknown(_) => Entry::inside(target, NodePart::Contents),
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => {
                Entry::inside(target, NodePart::Directory)
            }
            VaultNode::Symlink => Entry::inside(target, NodePart::Symlink),
        };
        let lies_there = self.id == from.id && source.name == target.name;
        let is_named = lies_there && self.is_named_there(remote, &target.name).await?;
        if is_named && *source == target {
            return Ok(target);
        }
        let shown = source;
        let source = if lies_there && !is_named {
            // It is to have the entry for itself.
            let name = self.move_aside(remote, &target.name).await?.ok_or(RemoteError::Exists)?;
            &Entry { name, part: source.part.clone() }
        } else {
            source
        };
        let source_path = from.path_of(source);
        // A move into or out of an entry takes more than one step. The node appears under its new name whole, then is
        // removed from the old one: a cut in between leaves both names for one content, never none.
        match node {
            VaultNode::File => {
                let twin = self.temporary()?;
                match remote.hard_link(&source_path, &twin).await {
                    Ok(()) => {
                        let published =
                            self.publish_as(remote, &twin, &target, long_name.as_deref(), how).await;
                        // rename(2) leaves the twin in place if the target is the same file already.
                        let discarded = async {
                            if let Err(error) = remote.remove(&twin).await {
                                temporary::abandon(&twin, error);
                            }
                        };
                        if published.is_ok() {
                            futures::join!(discarded, from.remove_after_move(remote, source)).1?;
                        } else {
                            discarded.await;
                        }
                        published?;
                    }
                    Err(
                        RemoteError::Unsupported(_) | RemoteError::PermissionDenied | RemoteError::Failure(_),
                    ) => {
                        self.move_content(remote, &source_path, &target, long_name.as_deref(), how).await?;
                        if source.part.is_some() {
                            from.record_emptying(&source.name);
                            from.clear_emptied(remote, source).await;
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => {
                let content = remote.read_small(&source_path, DIRECTORY_ID_MAX).await?;
                // Somebody else may have given the name to another directory since it was looked at.
                if matches!(node, VaultNode::Directory(id) if *content != *id.as_bytes()) {
                    return Err(NodeError::Stale);
                }
                self.vault.unfinished.record(Begun::Move {
                    from: (from.id.clone(), source.clone()),
                    to: (self.id.clone(), target.clone()),
                });
                self.make_node(remote, name, NodePart::Directory, &content).await?;
                match from.hide(remote, source, node, Fate::Alone).await {
                    Ok(hidden) => from.discard_hidden(remote, hidden).await,
                    Err(error) => {
                        // Somebody else has moved it on meanwhile, or the server refuses: one directory must not have
                        // two names.
                        if !error.is_unanswered()
                            && let Ok(copy) = self.hide(remote, &target, node, Fate::Alone).await
                        {
                            self.discard_hidden(remote, copy).await;
                        }
                        return Err(error);
                    }
                }
            }
            VaultNode::Symlink => {
                let content = remote.read_small(&source_path, SYMLINK_FILE_MAX).await?;
                self.make_node(remote, name, NodePart::Symlink, &content).await?;
                if let Err(error) = from.remove_node(remote, source).await {
                    // One link must not have two names.
                    if !error.is_unanswered()
                        && let Err(error) = self.remove_node(remote, &target).await
                    {
                        tracing::debug!(error = error.kind(), "a link that was not moved stays twice");
                    }
                    return Err(error);
                }
            }
            VaultNode::Unknown(why) => return Err(NodeError::damaged(why)),
        }
        from.forget_name_of(shown, node);
        Ok(target)
    }

    /// Moves a node with the entry that it lies in to the directory `to`.
    async fn move_whole(
        &self,
        remote: &dyn Remote,
        source: &Entry,
        (to, target): (&Self, &Entry),
        node: &VaultNode,
        how: RenameHow,
    ) -> Result<(), NodeError> {
        let (from_path, to_path) = (self.content().join(&source.name), to.content().join(&target.name));
        if source.part.is_none() && self.id == to.id {
            return Ok(remote.rename(&from_path, &to_path, how).await?);
        }
        // A directory that was taken for something else could end up inside itself.
        match self.rename_node(remote, (&from_path, false), &to_path, node, how).await {
            Ok(()) => Ok(()),
            Err(NotMoved::Refused(error) | NotMoved::Unanswered(error)) => Err(error),
            Err(NotMoved::IsGone) => {
                to.clear_emptied(remote, target).await;
                Err(NodeError::Remote(RemoteError::NotFound))
            }
            Err(NotMoved::IsAnother(_)) => {
                // If its name was taken meanwhile, it stays where it is shown now.
                if let Err(error) = remote.rename(&to_path, &from_path, RenameHow::New).await {
                    tracing::warn!(error = error.kind(), "a directory was moved in place of another");
                }
                Err(NodeError::Stale)
            }
        }
    }

    /// Moves a file's bytes to the place that `target` has for them, on a server without hard links. A cut leaves a
    /// node that holds nothing but its name, and the bytes under the old name or the new.
    async fn move_content(
        &self,
        remote: &dyn Remote,
        source: &RemotePath,
        target: &Entry,
        long_name: Option<&str>,
        how: RenameHow,
    ) -> Result<(), NodeError> {
        let Some(long_name) = self.put_content(remote, source, target, long_name, how).await? else {
            return Ok(());
        };
        let (node, path) = (self.content().join(&target.name), self.path_of(target));
        let shell = self.temporary()?;
        remote.mkdir_by_umask(&shell).await?;
        let built = async {
            write_long_name(remote, &shell, long_name).await?;
            remote.rename(&shell, &node, RenameHow::New).await
        };
        if let Err(error) = built.await {
            discard_directory(remote, &shell).await;
            return Err(error.into());
        }
        if let Err(error) = remote.rename(source, &path, RenameHow::New).await {
            if !error.is_unanswered() {
                clear_entry(remote, &node).await?;
            }
            return Err(error.into());
        }
        Ok(())
    }

    async fn remove_after_move(&self, remote: &dyn Remote, source: &Entry) -> Result<(), NodeError> {
        match self.remove_node(remote, source).await {
            Err(error) if error.is_not_found() && source.part.is_none() => Ok(()),
            done => done,
        }
    }
}

/// Makes a content directory, and the directory around it if it is the first one there.
async fn make_content(remote: &dyn Remote, content: &RemotePath, mode: u16) -> Result<(), RemoteError> {
    let Some((fan_out, _)) = content.split() else { return remote.mkdir(content, mode).await };
    // Both requests are sent at once, in this order, and only the second reply is waited for: mostly the first
    // directory exists already.
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

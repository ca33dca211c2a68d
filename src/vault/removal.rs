//! Removing nodes of a vault for good, and directories with their content.
//!
//! The node of a directory is hidden first, under a temporary name that tells which directory it is; then its content
//! is removed, and the node last. If the removal is cut short, the temporary name leads to the rest
//! ([`sweep`](super::sweep)).

use std::ffi::OsStr;

use scaup_crypto::{CleartextName, DirectoryId, Listed};

use super::conflict_names::conflict_names;
use super::directory::VaultDirectory;
use super::error::NodeError;
use super::format::{DIRECTORY_ID_MAX, cleartext_name, part};
use super::node::{Entry, VaultNode};
use super::small_file::write_small;
use super::temporary::{self, Fate};
use crate::remote::{Remote, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath, RenameHow};

impl VaultDirectory {
    /// Removes a node that is not a directory of the mount: a file, a link, or one of no known kind.
    pub(crate) async fn remove_node(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<(), NodeError> {
        let path = self.content().join(&entry.name);
        if matches!(node, VaultNode::File) && !entry.shortened {
            return Ok(remote.remove(&path).await?);
        }
        if matches!(node, VaultNode::Unknown(_))
            && !matches!(remote.stat(&path).await?.kind, RemoteKind::Directory)
        {
            return Ok(remote.remove(&path).await?);
        }
        self.hide(remote, entry, node, Fate::Alone).await?.discard(remote).await;
        Ok(())
    }

    /// Removes an empty directory. Returns the hidden rest of the node, to be discarded.
    pub(crate) async fn remove_directory(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<HiddenNode, NodeError> {
        let VaultNode::Directory(id) = node else {
            return match self.hide(remote, entry, node, Fate::Alone).await {
                // The directory has content by now: another machine created it again.
                Err(NodeError::Stale) => Err(NodeError::Remote(RemoteError::NotEmpty)),
                hidden => hidden,
            };
        };
        let strays = self.strays_if_empty_by_now(remote, id).await?;
        let hidden = self.hide(remote, entry, node, Fate::WithContent).await?;
        match clear(remote, &self.content_of(id), strays).await {
            Ok(()) | Err(RemoteError::NotFound) => {}
            // Without a reply it may be gone: a stat tells. If the stat fails too, the directory stays removed.
            Err(error) if error.is_unanswered() => match remote.stat(&self.content_of(id)).await {
                Ok(_) => {
                    self.bring_back(remote, hidden, name, entry, node).await?;
                    return Err(error.into());
                }
                Err(RemoteError::NotFound) => {}
                Err(_) => {
                    hidden.abandon(error.clone());
                    return Err(error.into());
                }
            },
            // Somebody made a file in it meanwhile: the directory comes back.
            Err(error) => {
                self.bring_back(remote, hidden, name, entry, node).await?;
                return Err(error.into());
            }
        }
        Ok(hidden)
    }

    /// Returns the id that a node names by now; `None` if it names none.
    pub(crate) async fn id_of(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
    ) -> Result<Option<DirectoryId>, NodeError> {
        let path = self.content().join(&entry.name).join(&part("dir.c9r"));
        match remote.read_small(&path, DIRECTORY_ID_MAX).await {
            Ok(id) => Ok(DirectoryId::parse(&id).ok()),
            Err(error) if error.is_unanswered() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Returns the entries in an empty directory's content, all of them to be removed with it. Nodes, and names that
    /// look like nodes but do not decrypt, make the directory not empty: nothing that somebody may still want is wiped.
    /// So do directories that a dead process has not removed with all their content.
    async fn strays_if_empty(
        &self,
        remote: &dyn Remote,
        id: &DirectoryId,
    ) -> Result<Vec<RemoteEntry>, NodeError> {
        let entries = remote.list_packed(&self.content_of(id), usize::MAX, remote.names_budget()).await?;
        let holds_a_node = entries.records().any(|record| {
            let name = record.name;
            let is_left_alone = temporary::is_temporary(name)
                && (!temporary::is_debris(name) || temporary::directory_of(name).is_some());
            is_left_alone || !matches!(self.cryptor.identify(name, id), Listed::NotAnEntry)
        });
        if holds_a_node {
            Err(NodeError::Remote(RemoteError::NotEmpty))
        } else {
            Ok(entries.into_entries().collect())
        }
    }

    /// Like [`Self::strays_if_empty`], after debris of dead processes in it was removed.
    async fn strays_if_empty_by_now(
        &self,
        remote: &dyn Remote,
        id: &DirectoryId,
    ) -> Result<Vec<RemoteEntry>, NodeError> {
        match self.strays_if_empty(remote, id).await {
            Err(NodeError::Remote(RemoteError::NotEmpty)) => {
                Self { id: id.clone(), ..self.clone() }.sweep_all(remote).await?;
                self.strays_if_empty(remote, id).await
            }
            strays => strays,
        }
    }

    /// Fails unless the directory `node` is empty, so that it may be replaced.
    pub(crate) async fn check_empty(&self, remote: &dyn Remote, node: &VaultNode) -> Result<(), NodeError> {
        match node {
            VaultNode::Directory(id) => self.strays_if_empty_by_now(remote, id).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Hides a node in one step, before it is removed or another takes its name.
    pub(crate) async fn hide(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
        fate: Fate,
    ) -> Result<HiddenNode, NodeError> {
        let path = match node {
            VaultNode::Directory(id) => self.temporary_of(id, fate)?,
            _ => self.temporary()?,
        };
        self.rename_node(remote, &self.content().join(&entry.name), &path, node, RenameHow::New).await?;
        let inside = match node {
            VaultNode::File => Some("contents.c9r"),
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => Some("dir.c9r"),
            VaultNode::Symlink => Some("symlink.c9r"),
            VaultNode::Unknown(_) => None,
        };
        let parts = inside.into_iter().chain(entry.shortened.then_some("name.c9s")).map(part).collect();
        Ok(HiddenNode { path, parts })
    }

    /// Renames a node of this directory to a temporary name, or to one in another directory. Somebody else may have
    /// given the node's name to another directory since it was looked at: that directory stays.
    pub(super) async fn rename_node(
        &self,
        remote: &dyn Remote,
        from: &RemotePath,
        to: &RemotePath,
        node: &VaultNode,
        how: RenameHow,
    ) -> Result<(), NodeError> {
        let named = to.join(&part("dir.c9r"));
        // Both requests are sent at once, in this order.
        let (renamed, id_there) =
            futures::join!(remote.rename(from, to, how), remote.read_small(&named, DIRECTORY_ID_MAX));
        if let Err(error) = renamed {
            // The rename may be done nevertheless.
            if error.is_unanswered() {
                temporary::abandon(to, error.clone());
            }
            return Err(error.into());
        }
        let is_none = matches!(node, VaultNode::File | VaultNode::Symlink);
        let id_there = match id_there {
            // This server read before it renamed.
            Err(RemoteError::NotFound) if !is_none => remote.read_small(&named, DIRECTORY_ID_MAX).await,
            there => there,
        };
        let id_there = match id_there {
            Ok(there) => DirectoryId::parse(&there).ok(),
            // The id is unknown. A directory had better be shown; what was a file when it was looked at is as good as
            // removed.
            Err(error) if error.is_unanswered() && !is_none => {
                if let Err(error) = remote.rename(to, from, RenameHow::New).await {
                    tracing::warn!(error = error.kind(), "a directory may stay where it was not to be moved");
                }
                return Err(error.into());
            }
            Err(_) => None,
        };
        let Some(there) = id_there else { return Ok(()) };
        let is_another = match node {
            VaultNode::Directory(id) => there != *id,
            // A node that was no directory, or one without content, may be another directory with content by now.
            _ => !matches!(remote.stat(&self.content_of(&there)).await, Err(RemoteError::NotFound)),
        };
        if !is_another {
            return Ok(());
        }
        self.put_back(remote, to, from, &there).await?;
        Err(NodeError::Stale)
    }

    /// Gives a hidden directory its name back.
    async fn put_back(
        &self,
        remote: &dyn Remote,
        hidden: &RemotePath,
        shown: &RemotePath,
        id: &DirectoryId,
    ) -> Result<(), NodeError> {
        if let Err(error) = remote.rename(hidden, shown, RenameHow::New).await {
            // Something else has the name by now. The directory gets a temporary name that covers its content, so that
            // a sweep shows it again.
            let again = self.temporary_of(id, Fate::WithContent)?;
            remote.rename(hidden, &again, RenameHow::New).await?;
            temporary::abandon(&again, error);
        }
        Ok(())
    }

    /// Removes one of a directory's two names, if the directory still has the other. Returns whether it had: both may
    /// be the same one, if the directory around it was reached by two paths.
    pub(crate) async fn remove_first_name(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        id: &DirectoryId,
        (to, other): (&Self, &Entry),
    ) -> Result<bool, NodeError> {
        if self.id == to.id && entry.name == other.name {
            return Ok(false);
        }
        let hidden = self.hide(remote, entry, &VaultNode::Directory(id.clone()), Fate::Alone).await?;
        // Checked only now: somebody may have moved it from there to here, and of two tasks that do this at once one
        // finds nothing.
        let has_other = to.id_of(remote, other).await.map(|there| there.as_ref() == Some(id));
        if has_other == Ok(true) {
            hidden.discard(remote).await;
            return Ok(true);
        }
        self.put_back(remote, &hidden.path, &self.content().join(&entry.name), id).await?;
        has_other.and(Err(NodeError::Stale))
    }

    /// Undoes [`Self::hide`] of a node that was to be removed or replaced. Where something else has the name by now, an
    /// empty directory is gone, and one in which somebody made something is shown beside it.
    pub(crate) async fn bring_back(
        &self,
        remote: &dyn Remote,
        hidden: HiddenNode,
        name: &CleartextName,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<(), NodeError> {
        let shown = remote.rename(&hidden.path, &self.content().join(&entry.name), RenameHow::New).await;
        match (shown, node) {
            (Ok(()), VaultNode::Directory(id)) => self.write_backup(remote, id).await,
            (Err(RemoteError::Exists), VaultNode::Directory(_)) => {
                self.discard_replaced(remote, hidden, name, node).await
            }
            (Err(error), _) => {
                hidden.abandon(error.clone());
                Err(error.into())
            }
            (Ok(()), _) => Ok(()),
        }
    }

    /// Removes for good a node that had `name`, was replaced, and was hidden by [`Self::hide`]. A directory in which
    /// somebody made something meanwhile is shown again, beside the node that replaced it.
    pub(crate) async fn discard_replaced(
        &self,
        remote: &dyn Remote,
        hidden: HiddenNode,
        name: &CleartextName,
        node: &VaultNode,
    ) -> Result<(), NodeError> {
        if let VaultNode::Directory(id) = node {
            self.remove_content_or_show(remote, hidden, id, name).await.map(drop)
        } else {
            hidden.discard(remote).await;
            Ok(())
        }
    }

    /// Removes the content of a directory whose node is hidden, and then the node. If somebody has made something in
    /// it, the directory is shown as a conflicting copy of `name`, which is returned. If the server does not answer,
    /// the node stays and tells what is to be removed.
    pub(super) async fn remove_content_or_show(
        &self,
        remote: &dyn Remote,
        hidden: HiddenNode,
        id: &DirectoryId,
        name: &CleartextName,
    ) -> Result<Option<CleartextName>, NodeError> {
        match self.remove_content(remote, id).await {
            Ok(true) => {
                hidden.discard(remote).await;
                Ok(None)
            }
            Ok(false) => self.show_hidden(remote, hidden, id, name).await.map(Some),
            Err(error) => {
                hidden.abandon(error.clone());
                Err(error)
            }
        }
    }

    /// Shows a directory whose node is hidden as a conflicting copy of `name`. Returns the copy's name.
    pub(super) async fn show_hidden(
        &self,
        remote: &dyn Remote,
        hidden: HiddenNode,
        id: &DirectoryId,
        name: &CleartextName,
    ) -> Result<CleartextName, NodeError> {
        let shown = self.show_beside(remote, name, id).await;
        match &shown {
            Ok(_) => hidden.discard(remote).await,
            Err(error) => hidden.abandon(error.clone()),
        }
        shown
    }

    /// Makes a node for a directory, as a conflicting copy of `name`.
    async fn show_beside(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        id: &DirectoryId,
    ) -> Result<CleartextName, NodeError> {
        self.write_backup(remote, id).await?;
        for copy in conflict_names(OsStr::new(name.as_str())) {
            let copy = cleartext_name(&copy)?;
            match self.make_node(remote, &copy, "dir.c9r", id.as_bytes()).await {
                Ok(_) => return Ok(copy),
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Err(NodeError::Remote(RemoteError::Exists))
    }

    /// Removes the content of a directory that nothing names any more. Returns whether it is gone: it stays if somebody
    /// has made something in it.
    async fn remove_content(&self, remote: &dyn Remote, id: &DirectoryId) -> Result<bool, NodeError> {
        let content = self.content_of(id);
        let strays = match self.strays_if_empty(remote, id).await {
            Ok(strays) => strays,
            Err(NodeError::Remote(RemoteError::NotEmpty)) => return Ok(false),
            Err(error) if error.is_not_found() => return Ok(true),
            Err(error) => return Err(error),
        };
        // Only entries that were seen to be no nodes are removed.
        let refused = match clear(remote, &content, strays).await {
            Ok(()) | Err(RemoteError::NotFound) => return Ok(true),
            Err(error) => error,
        };
        match self.strays_if_empty(remote, id).await {
            Err(NodeError::Remote(RemoteError::NotEmpty)) => Ok(false),
            Err(error) if error.is_not_found() => Ok(true),
            _ => Err(refused.into()),
        }
    }

    /// Writes a directory's id into its content if it is missing there: a directory that was to be removed stays.
    async fn write_backup(&self, remote: &dyn Remote, id: &DirectoryId) -> Result<(), NodeError> {
        let backup = self.cryptor.encrypt_small(id.as_bytes()).map_err(NodeError::random)?;
        match write_small(remote, &self.content_of(id).join(&part("dirid.c9r")), &backup).await {
            Ok(()) | Err(RemoteError::Exists | RemoteError::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A node that was hidden under a temporary name.
#[must_use]
pub(crate) struct HiddenNode {
    path: RemotePath,
    /// The files that a node of its kind has in its directory.
    parts: Vec<RemoteName>,
}

impl HiddenNode {
    /// Describes the node of a directory that lies under a temporary name.
    pub(super) fn directory(path: RemotePath) -> Self {
        Self { path, parts: vec![part("dir.c9r")] }
    }

    /// Returns its temporary name.
    pub(crate) fn name(&self) -> Option<RemoteName> {
        self.path.split().map(|(_, name)| name)
    }

    /// Leaves it for now, as debris.
    pub(super) fn abandon(&self, error: impl Into<NodeError>) {
        temporary::abandon(&self.path, error);
    }

    /// Removes it for good, as far as possible: the rest is debris under a temporary name.
    pub(crate) async fn discard(&self, remote: &dyn Remote) {
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
                    temporary::abandon(&self.path, error);
                }
            }
            Err(error) => temporary::abandon(&self.path, error),
        }
    }
}

/// Removes a directory with the files of these names in it. All requests are sent at once, in this order. If they were
/// done in another order (after a reconnection all are sent again), the directory was not empty, or is by now, and
/// rmdir is tried again.
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

/// Most names in a directory of ours: one with more is not ours, whatever a server says.
const DISCARDED_MAX: usize = 1000;

/// Removes a directory of ours with the files in it, as far as possible: the rest is debris under a temporary name.
pub(crate) async fn discard_directory(remote: &dyn Remote, path: &RemotePath) {
    let entries = match remote.list_packed(path, DISCARDED_MAX, remote.names_budget()).await {
        Ok(entries) => entries.into_entries(),
        Err(error) => return temporary::abandon(path, error),
    };
    let (directories, files): (Vec<_>, Vec<_>) =
        entries.partition(|entry| entry.attributes.kind == RemoteKind::Directory);
    let directories: Vec<_> = directories.iter().map(|entry| path.join(&entry.name)).collect();
    futures::future::join_all(directories.iter().map(|path| remote.rmdir(path))).await;
    let files: Vec<_> = files.into_iter().map(|entry| entry.name).collect();
    if let Err(error) = remove_with(remote, path, &files).await {
        temporary::abandon(path, error);
    }
}

/// Removes a content directory with the entries seen in it that are no nodes.
async fn clear(
    remote: &dyn Remote,
    content: &RemotePath,
    strays: Vec<RemoteEntry>,
) -> Result<(), RemoteError> {
    let (directories, files): (Vec<_>, Vec<_>) =
        strays.into_iter().partition(|stray| stray.attributes.kind == RemoteKind::Directory);
    let directories: Vec<_> = directories.iter().map(|stray| content.join(&stray.name)).collect();
    futures::future::join_all(directories.iter().map(|path| discard_directory(remote, path))).await;
    let files: Vec<_> = files.into_iter().map(|stray| stray.name).collect();
    remove_with(remote, content, &files).await
}

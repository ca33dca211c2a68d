//! Removing nodes of a vault for good, and directories with their content.
//!
//! Only the part of an entry that makes it the node in question is ever removed. What else lies there goes if nobody
//! can want it ([`empty_entry`](super::empty_entry)), and stays otherwise.
//!
//! The part that names a directory is hidden first, under a temporary name that tells which directory it is; then its
//! content is removed, and the part last. If the removal is cut short, the temporary name leads to the rest
//! ([`sweep`](super::sweep)).

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::{CleartextName, DirectoryId};

use super::conflict_names::conflict_names;
use super::directory::VaultDirectory;
use super::directory_removal::{discard_directory, remove_with};
use super::empty_entry::{clear_entry, is_empty_entry};
use super::entry_kinds::{ContentEntry, InsideEntry, Stray};
use super::error::NodeError;
use super::format::{DIRECTORY_ID_MAX, cleartext_name, part};
use super::node::{Entry, NodePart, VaultNode};
use super::small_file::{write_long_name_if_missing, write_small};
use super::temporary::{self, Fate};
use super::unfinished::Begun;
use crate::remote::{Remote, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath, RenameHow};

/// How long after its node was last changed the content of a directory may still be on its way: sync clients bring the
/// node first. The server's clock is compared with this machine's.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60 * 60);
/// Entries that are looked into at the same time.
const PARALLEL: usize = 16;

impl VaultDirectory {
    /// Removes a node that is not a directory of the mount: a file, a link, or one of no known kind.
    pub(crate) async fn remove_node(&self, remote: &dyn Remote, entry: &Entry) -> Result<(), NodeError> {
        if entry.part.is_none() {
            return Ok(remote.remove(&self.path_of(entry)).await?);
        }
        if self.lies_alone(remote, entry).await? {
            let hidden = self.hide_whole(remote, entry, &VaultNode::File, Fate::Alone).await?;
            hidden.discard(remote).await;
            return Ok(());
        }
        self.record_emptying(&entry.name);
        remote.remove(&self.path_of(entry)).await?;
        self.clear_emptied(remote, entry).await;
        Ok(())
    }

    /// Records that an entry is being emptied: if it stays, the next mount removes it.
    pub(super) fn record_emptying(&self, name: &RemoteName) {
        self.vault.unfinished.record(Begun::Emptying(self.id.clone(), name.clone()));
    }

    /// Removes an entry that a dead process has emptied.
    pub(crate) async fn clear_left(&self, remote: &dyn Remote, name: &RemoteName) -> Result<(), NodeError> {
        Ok(clear_entry(remote, &self.content().join(name)).await.map(drop)?)
    }

    /// Removes an empty directory. Returns the hidden rest of the node, to be discarded. Of a directory that has
    /// another name only this name is removed, whatever is in it.
    pub(crate) async fn remove_directory(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<Option<HiddenNode>, NodeError> {
        let VaultNode::Directory(id) = node else {
            self.check_not_arriving(remote, entry).await?;
            return match self.hide(remote, entry, node, Fate::Alone).await {
                // The directory has content by now: another machine created it again.
                Err(NodeError::Stale) => Err(NodeError::Remote(RemoteError::NotEmpty)),
                hidden => hidden.map(Some),
            };
        };
        let at = (self.id.clone(), entry.clone());
        for other in self.vault.known_names.others(id, &at) {
            let around = Self { id: other.0.clone(), ..self.clone() };
            if self.is_named(remote, id, &other).await?
                && self.remove_first_name(remote, entry, id, (&around, &other.1)).await?
            {
                self.forget_name_of(entry, node);
                return Ok(None);
            }
        }
        let (strays, is_alone) =
            futures::try_join!(self.strays_if_empty_by_now(remote, id), self.lies_alone(remote, entry))?;
        let hidden = if is_alone {
            self.hide_whole(remote, entry, node, Fate::Emptied).await?
        } else {
            self.hide_part(remote, entry, node, Fate::Emptied).await?
        };
        let content = self.content_of(id);
        // The entry is cleared before this returns: somebody may use the name again at once.
        let emptying = self.clear_taken(remote, &hidden);
        match futures::join!(clear(remote, &content, strays), emptying).0 {
            Ok(()) | Err(RemoteError::NotFound) => {}
            // Without a reply it may be gone: a stat tells. If the stat fails too, the directory stays removed.
            Err(error) if error.is_unanswered() => match remote.stat(&content).await {
                Ok(_) => {
                    self.bring_back(remote, hidden, name, node).await?;
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
                self.bring_back(remote, hidden, name, node).await?;
                return Err(error.into());
            }
        }
        self.forget_name_of(entry, node);
        Ok(Some(hidden))
    }

    /// Forgets a name that a directory of this one has lost.
    pub(super) fn forget_name_of(&self, entry: &Entry, node: &VaultNode) {
        if let VaultNode::Directory(id) = node {
            self.vault.known_names.forget(id, &(self.id.clone(), entry.clone()));
        }
    }

    /// Fails while the content of a directory that has none may still be on its way.
    async fn check_not_arriving(&self, remote: &dyn Remote, entry: &Entry) -> Result<(), NodeError> {
        let (node, around) = (self.path_of(entry), self.content().join(&entry.name));
        let (node, around) = futures::try_join!(remote.stat(&node), remote.stat(&around))?;
        let changed = node.modified.max(around.modified);
        let is_old = SystemTime::now().duration_since(changed).is_ok_and(|age| age > ARRIVES_WITHIN);
        if is_old { Ok(()) } else { Err(NodeError::Remote(RemoteError::NotEmpty)) }
    }

    /// Returns the id that a node names by now; `None` if it names none.
    pub(crate) async fn id_of(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
    ) -> Result<Option<DirectoryId>, NodeError> {
        match remote.read_small(&self.path_of(entry), DIRECTORY_ID_MAX).await {
            Ok(id) => Ok(DirectoryId::parse(&id).ok()),
            Err(error) if error.is_unanswered() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Returns the entries in an empty directory's content, all of them to be removed with it. Whatever somebody may
    /// still want makes the directory not empty. So do directories that a dead process has not removed with all their
    /// content.
    async fn strays_if_empty(
        &self,
        remote: &dyn Remote,
        id: &DirectoryId,
    ) -> Result<Vec<RemoteEntry>, NodeError> {
        let content = self.content_of(id);
        let entries = remote.list_packed(&content, usize::MAX, remote.names_budget()).await?;
        let (mut strays, mut nodes) = (Vec::new(), Vec::new());
        for entry in entries.into_entries() {
            let (name, is_directory) =
                (entry.name.as_bytes(), entry.attributes.kind == RemoteKind::Directory);
            match ContentEntry::of(&self.cryptor, name, id) {
                ContentEntry::Stray(stray)
                    if !stray.is_kept(name) && (!is_directory || stray == Stray::Temporary) =>
                {
                    strays.push(entry);
                }
                ContentEntry::Named { .. } | ContentEntry::Shortened if is_directory => nodes.push(entry),
                _ => return Err(NodeError::Remote(RemoteError::NotEmpty)),
            }
        }
        let content = &content;
        let mut looks = stream::iter(nodes)
            .map(|entry| async move {
                is_empty_entry(remote, &content.join(&entry.name)).await.map(|is| (entry, is))
            })
            .buffer_unordered(PARALLEL);
        while let Some((entry, is_empty)) = looks.try_next().await? {
            if !is_empty {
                return Err(NodeError::Remote(RemoteError::NotEmpty));
            }
            strays.push(entry);
        }
        Ok(strays)
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
    pub(crate) async fn check_empty(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<(), NodeError> {
        match node {
            VaultNode::Directory(id) => self.strays_if_empty_by_now(remote, id).await.map(drop),
            VaultNode::BrokenDirectory(_) => self.check_not_arriving(remote, entry).await,
            VaultNode::File | VaultNode::Symlink | VaultNode::Unknown(_) => Ok(()),
        }
    }

    /// Hides a node in one step, before it is removed or another takes its name. Other nodes in its entry stay.
    pub(crate) async fn hide(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
        fate: Fate,
    ) -> Result<HiddenNode, NodeError> {
        if self.lies_alone(remote, entry).await? {
            self.hide_whole(remote, entry, node, fate).await
        } else {
            self.hide_part(remote, entry, node, fate).await
        }
    }

    /// Hides a node whose name the node at `by` in the directory `from` is to get. No other part of its entry gets the
    /// name before that.
    pub(crate) async fn hide_replaced(
        &self,
        remote: &dyn Remote,
        (entry, node): (&Entry, &VaultNode),
        (from, by): (&Self, &Entry),
    ) -> Result<HiddenNode, NodeError> {
        let hidden = self.hide(remote, entry, node, Fate::Emptied).await?;
        if let Some(taken) = &hidden.taken
            && let Err(error) = self.keep_names(remote, taken, Some(by).filter(|_| from.id == self.id)).await
        {
            tracing::debug!(error = error.kind(), "a part of an entry may get the name of another");
        }
        Ok(hidden)
    }

    /// Whether a node is the only one in its entry, and has the entry's name.
    pub(super) async fn lies_alone(&self, remote: &dyn Remote, entry: &Entry) -> Result<bool, NodeError> {
        match &entry.part {
            Some(part) if matches!(InsideEntry::of(part.as_bytes()), InsideEntry::Part(_)) => {
                Ok(!self.has_company(remote, &entry.name, part).await?)
            }
            _ => Ok(false),
        }
    }

    /// Hides a node without the entry that it lies in, where others lie, too.
    async fn hide_part(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
        fate: Fate,
    ) -> Result<HiddenNode, NodeError> {
        let is_directory = matches!(node, VaultNode::Directory(_) | VaultNode::BrokenDirectory(_));
        let hidden = HiddenNode {
            path: self.hidden_path(node, fate)?,
            shown: self.path_of(entry),
            taken: entry.part.is_some().then(|| entry.clone()),
            is_whole: !is_directory,
            parts: is_directory.then(|| part("dir.c9r")).into_iter().collect(),
        };
        if hidden.taken.is_some() {
            self.record_emptying(&entry.name);
        }
        let node_path = hidden.node_path();
        let from = (&hidden.shown, entry.part.is_some());
        let moving = self.rename_node(remote, from, &node_path, node, RenameHow::New);
        let moved = if is_directory {
            // Both are requested at once, in this order.
            let (made, moved) = futures::join!(remote.mkdir_by_umask(&hidden.path), moving);
            match (made, moved) {
                // This server renamed before it made the directory.
                (Ok(()), Err(NotMoved::Refused(error))) if error.is_not_found() => {
                    self.rename_node(remote, from, &node_path, node, RenameHow::New).await
                }
                (Err(error), Err(NotMoved::Refused(_))) => Err(NotMoved::Refused(error.into())),
                // What was moved lies in the directory, whatever was replied about that.
                (_, moved) => moved,
            }
        } else {
            moving.await
        };
        self.hidden_by(remote, hidden, moved).await
    }

    /// Hides a node that lies alone in its entry with that, so that nobody ever sees the entry without it.
    async fn hide_whole(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
        fate: Fate,
    ) -> Result<HiddenNode, NodeError> {
        let long_name = entry.name.as_bytes().ends_with(b".c9s").then(|| part("name.c9s"));
        let hidden = HiddenNode {
            path: self.hidden_path(node, fate)?,
            shown: self.content().join(&entry.name),
            taken: None,
            is_whole: true,
            parts: entry.part.iter().cloned().chain(long_name).collect(),
        };
        let moved =
            self.rename_node(remote, (&hidden.shown, false), &hidden.path, node, RenameHow::New).await;
        self.hidden_by(remote, hidden, moved).await
    }

    /// Clears the entry that a hidden node was taken out of.
    async fn clear_taken(&self, remote: &dyn Remote, hidden: &HiddenNode) {
        if let Some(taken) = &hidden.taken {
            self.clear_emptied(remote, taken).await;
        }
    }

    /// Removes a hidden node for good, and the entry that it was taken out of if nothing else lies there.
    pub(super) async fn discard_hidden(&self, remote: &dyn Remote, hidden: HiddenNode) {
        futures::join!(self.clear_taken(remote, &hidden), hidden.discard(remote));
    }

    fn hidden_path(&self, node: &VaultNode, fate: Fate) -> Result<RemotePath, NodeError> {
        match node {
            VaultNode::Directory(id) => self.temporary_of(id, fate),
            _ => self.temporary(),
        }
    }

    /// Returns a node that was hidden, or undoes what was done instead.
    async fn hidden_by(
        &self,
        remote: &dyn Remote,
        hidden: HiddenNode,
        moved: Result<(), NotMoved>,
    ) -> Result<HiddenNode, NodeError> {
        match moved {
            Ok(()) => Ok(hidden),
            Err(NotMoved::Refused(error)) => {
                hidden.clear_around_part(remote).await;
                Err(error)
            }
            Err(NotMoved::Unanswered(error)) => {
                hidden.abandon(error.clone());
                Err(error)
            }
            Err(NotMoved::IsAnother(id)) => {
                self.put_back(remote, &hidden, &id).await?;
                Err(NodeError::Stale)
            }
            Err(NotMoved::IsGone) => {
                discard_directory(remote, &hidden.path).await;
                Err(NodeError::Remote(RemoteError::NotFound))
            }
        }
    }

    /// Renames a node: the file that names a directory, or a whole entry. Somebody else may have given its name to
    /// another directory since it was looked at: then that one was renamed.
    pub(super) async fn rename_node(
        &self,
        remote: &dyn Remote,
        (from, is_part): (&RemotePath, bool),
        to: &RemotePath,
        node: &VaultNode,
        how: RenameHow,
    ) -> Result<(), NotMoved> {
        // A part is the file with the id itself.
        let named = if is_part { to.clone() } else { to.join(&part("dir.c9r")) };
        // Both requests are sent at once, in this order.
        let (renamed, id_there) =
            futures::join!(remote.rename(from, to, how), remote.read_small(&named, DIRECTORY_ID_MAX));
        if let Err(error) = renamed {
            // The rename may be done nevertheless.
            let is_unanswered = error.is_unanswered();
            return Err(if is_unanswered { NotMoved::Unanswered } else { NotMoved::Refused }(error.into()));
        }
        let is_directory = matches!(node, VaultNode::Directory(_) | VaultNode::BrokenDirectory(_));
        let id_there = match id_there {
            // This server read before it renamed.
            Err(RemoteError::NotFound) if is_directory => remote.read_small(&named, DIRECTORY_ID_MAX).await,
            there => there,
        };
        let id_there = match id_there {
            // What was a file when it was looked at, and is one, has no id.
            Ok(_) if is_part && !is_directory => None,
            Ok(there) => DirectoryId::parse(&there).ok(),
            Err(RemoteError::NotFound) if is_directory => return Err(NotMoved::IsGone),
            // The id is unknown. A directory had better be shown; what was a file when it was looked at is as good as
            // removed.
            Err(error) if error.is_unanswered() && is_directory => {
                if let Err(error) = remote.rename(to, from, RenameHow::New).await {
                    tracing::warn!(error = error.kind(), "a directory may stay where it was not to be moved");
                }
                return Err(NotMoved::Unanswered(error.into()));
            }
            Err(_) => None,
        };
        let Some(there) = id_there else { return Ok(()) };
        let is_another = match node {
            VaultNode::Directory(id) => there != *id,
            // A node that was no directory, or one without content, may be another directory with content by now.
            _ => !matches!(remote.stat(&self.content_of(&there)).await, Err(RemoteError::NotFound)),
        };
        if is_another { Err(NotMoved::IsAnother(there)) } else { Ok(()) }
    }

    /// Gives a hidden directory, which is `id`, its name back.
    async fn put_back(
        &self,
        remote: &dyn Remote,
        hidden: &HiddenNode,
        id: &DirectoryId,
    ) -> Result<(), NodeError> {
        if let Err(error) = remote.rename(&hidden.node_path(), &hidden.shown, RenameHow::New).await {
            // Something else has the name by now. The directory gets a temporary name that covers its content, so that
            // a sweep shows it again.
            let again = self.temporary_of(id, Fate::WithContent)?;
            remote.rename(&hidden.path, &again, RenameHow::New).await?;
            temporary::abandon(&again, error);
        } else {
            hidden.clear_around_part(remote).await;
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
        if self.id == to.id && entry == other {
            return Ok(false);
        }
        let hidden = self.hide(remote, entry, &VaultNode::Directory(id.clone()), Fate::Alone).await?;
        // Checked only now: somebody may have moved it from there to here, and of two tasks that do this at once one
        // finds nothing.
        let has_other = to.id_of(remote, other).await.map(|there| there.as_ref() == Some(id));
        if has_other == Ok(true) {
            self.discard_hidden(remote, hidden).await;
            return Ok(true);
        }
        self.put_back(remote, &hidden, id).await?;
        has_other.and(Err(NodeError::Stale))
    }

    /// Undoes [`Self::hide`] of a node that was to be removed or replaced. Where something else has the name by now, an
    /// empty directory is gone, and one in which somebody made something is shown beside it.
    pub(crate) async fn bring_back(
        &self,
        remote: &dyn Remote,
        hidden: HiddenNode,
        name: &CleartextName,
        node: &VaultNode,
    ) -> Result<(), NodeError> {
        let shown = match &hidden.taken {
            // Something else that has the name may lie beside the part that was taken by now.
            Some(taken) if self.is_taken(remote, &taken.name).await.unwrap_or(true) => {
                Err(RemoteError::Exists)
            }
            _ => remote.rename(&hidden.node_path(), &hidden.shown, RenameHow::New).await,
        };
        match (shown, node) {
            (Ok(()), _) => {
                hidden.clear_around_part(remote).await;
                if let Some(taken) = &hidden.taken
                    && let (entry, Some(long_name)) = self.entry_name(name)?
                    && entry == taken.name
                {
                    write_long_name_if_missing(remote, &self.content().join(&entry), &long_name).await?;
                }
                match node {
                    VaultNode::Directory(id) => self.write_backup(remote, id).await,
                    _ => Ok(()),
                }
            }
            (Err(RemoteError::Exists), VaultNode::Directory(id)) => {
                let hidden = HiddenNode { taken: None, ..hidden };
                self.remove_content_or_show(remote, hidden, id, name).await.map(drop)
            }
            // The entry around it was taken away.
            (Err(RemoteError::NotFound), VaultNode::Directory(id)) => {
                match self.make_node(remote, name, NodePart::Directory, id.as_bytes()).await {
                    Ok(_) => {
                        hidden.discard(remote).await;
                        self.write_backup(remote, id).await
                    }
                    Err(error) if error.is_exists() => {
                        self.show_hidden(remote, hidden, id, name).await.map(drop)
                    }
                    Err(error) => {
                        hidden.abandon(error.clone());
                        Err(error)
                    }
                }
            }
            (Err(error), _) => {
                hidden.abandon(error.clone());
                Err(error.into())
            }
        }
    }

    /// Removes for good a node that had `name`, was replaced by the node at `by`, and was hidden by [`Self::hide`]. A
    /// directory in which somebody made something meanwhile is shown again, beside the node that replaced it.
    pub(crate) async fn discard_replaced(
        &self,
        remote: &dyn Remote,
        mut hidden: HiddenNode,
        (name, by): (&CleartextName, &Entry),
        node: &VaultNode,
    ) -> Result<(), NodeError> {
        // The name of the entry was given to another part of it.
        hidden.taken = hidden.taken.filter(|taken| taken.name != by.name);
        if let VaultNode::Directory(id) = node {
            self.remove_content_or_show(remote, hidden, id, name).await.map(drop)
        } else {
            self.discard_hidden(remote, hidden).await;
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
                self.discard_hidden(remote, hidden).await;
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
            Ok(_) => self.discard_hidden(remote, hidden).await,
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
            match self.make_node(remote, &copy, NodePart::Directory, id.as_bytes()).await {
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

/// Why a node was not moved.
pub(super) enum NotMoved {
    /// The server refused.
    Refused(NodeError),
    /// No reply came: it may have been moved nevertheless.
    Unanswered(NodeError),
    /// This other directory was moved in its place.
    IsAnother(DirectoryId),
    /// Somebody took the node out of its entry, and only that was moved.
    IsGone,
}

/// A node that was hidden under a temporary name.
#[must_use]
pub(crate) struct HiddenNode {
    /// The temporary name.
    path: RemotePath,
    /// Where it was shown.
    shown: RemotePath,
    /// Where it was taken out of an entry, which is left without it.
    taken: Option<Entry>,
    /// Whether what has the temporary name is the node: a file, or the whole entry. If not, it is a directory that
    /// holds the part of the entry that was taken.
    is_whole: bool,
    /// The files in it, if it is a directory.
    parts: Vec<RemoteName>,
}

impl HiddenNode {
    /// Describes the node of a directory that lies under a temporary name.
    pub(super) fn directory(path: RemotePath) -> Self {
        Self { shown: path.clone(), path, taken: None, is_whole: true, parts: vec![part("dir.c9r")] }
    }

    /// Returns its temporary name.
    pub(crate) fn name(&self) -> Option<RemoteName> {
        self.path.split().map(|(_, name)| name)
    }

    /// Returns where the node lies now.
    fn node_path(&self) -> RemotePath {
        if self.is_whole { self.path.clone() } else { self.path.join(&part("dir.c9r")) }
    }

    /// Removes the directory that was made around a part, which does not lie there any more.
    async fn clear_around_part(&self, remote: &dyn Remote) {
        if !self.is_whole {
            discard_directory(remote, &self.path).await;
        }
    }

    /// Leaves it for now, as debris.
    pub(super) fn abandon(&self, error: impl Into<NodeError>) {
        temporary::abandon(&self.path, error);
    }

    /// Removes it for good, as far as possible: the rest is debris under a temporary name. What came into its entry
    /// after that was looked at is given back.
    pub(crate) async fn discard(&self, remote: &dyn Remote) {
        if self.parts.is_empty() {
            if let Err(error) = remote.remove(&self.path).await {
                temporary::abandon(&self.path, error);
            }
            return;
        }
        match remove_with(remote, &self.path, &self.parts).await {
            Ok(()) => {}
            Err(_) if self.is_whole && self.holds_others(remote).await => {
                if let Err(error) = remote.rename(&self.path, &self.shown, RenameHow::New).await {
                    temporary::abandon(&self.path, error);
                }
            }
            Err(_) => discard_directory(remote, &self.path).await,
        }
    }

    /// Whether something lies in the entry that is not its own and that somebody may want.
    async fn holds_others(&self, remote: &dyn Remote) -> bool {
        let entries = remote.list(&self.path).await.unwrap_or_default();
        let mut others = entries.iter().filter(|entry| !self.parts.contains(&entry.name));
        others.any(|entry| InsideEntry::of(entry.name.as_bytes()).is_kept(entry.name.as_bytes()))
    }
}

/// Removes a content directory with the entries seen in it that nobody wants: temporary directories of ours, empty
/// nodes, and files.
async fn clear(
    remote: &dyn Remote,
    content: &RemotePath,
    strays: Vec<RemoteEntry>,
) -> Result<(), RemoteError> {
    let (directories, files): (Vec<_>, Vec<_>) =
        strays.into_iter().partition(|stray| stray.attributes.kind == RemoteKind::Directory);
    let directories = directories.iter().map(|stray| async {
        let path = content.join(&stray.name);
        if temporary::is_temporary(stray.name.as_bytes()) {
            discard_directory(remote, &path).await;
            Ok(())
        } else {
            clear_entry(remote, &path).await.map(drop)
        }
    });
    futures::future::try_join_all(directories).await?;
    let files: Vec<_> = files.into_iter().map(|stray| stray.name).collect();
    remove_with(remote, content, &files).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::vault_in_memory::vault;
    use super::*;

    /// A sync client brings a second version between the look into the entry and its removal.
    #[tokio::test]
    async fn what_comes_into_an_entry_while_it_is_removed_is_given_back() {
        for long in ["", "a name that is so long that it is shortened, "] {
            let (remote, around) = vault().await;
            let name = cleartext_name(format!("link{}", long.repeat(5)).as_ref()).unwrap();
            let link = around.make_symlink(remote.as_ref(), &name, b"target").await.unwrap();
            let hidden = around
                .hide_whole(remote.as_ref(), &link.entry, &VaultNode::Symlink, Fate::Alone)
                .await
                .unwrap();
            let theirs = ["symlink.sync-conflict-20261129-101010-ABCDEFG.c9r", "contents.c9r"].map(part);
            for part in &theirs {
                write_small(remote.as_ref(), &hidden.path.join(part), b"theirs").await.unwrap();
            }
            hidden.discard(remote.as_ref()).await;
            let entry = around.content().join(&link.entry.name);
            let mut left: Vec<RemoteName> =
                remote.list(&entry).await.unwrap().into_iter().map(|entry| entry.name).collect();
            left.sort();
            let mut wanted = theirs.to_vec();
            wanted.sort();
            assert_eq!(left, wanted);
            let there = remote.list(&around.content()).await.unwrap();
            assert!(!there.iter().any(|entry| temporary::is_temporary(entry.name.as_bytes())), "{there:?}");
        }
    }
}

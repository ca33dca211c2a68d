//! Finishing or undoing what a dead process of this machine left in a vault.
//!
//! Several mounts may meet the same debris, and its process may have been in the middle of anything. So a mount first
//! renames the debris to a name of its own, which succeeds for only one of them.

use scaup_crypto::{CleartextName, DirectoryId};

use super::directory::VaultDirectory;
use super::directory_removal::discard_directory;
use super::error::NodeError;
use super::format::{DIRECTORY_ID_MAX, cleartext_name, part};
use super::node::Entry;
use super::removal::HiddenNode;
use super::temporary::{self, Fate};
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath, RenameHow};

/// The name for a directory in which somebody made something while it was removed, and whose own name was lost with the
/// process that removed it.
const NAMELESS: &str = "recovered folder";

impl VaultDirectory {
    /// Sweeps all debris in this directory. Returns the names of directories that are shown again, since somebody made
    /// something in them.
    ///
    /// # Errors
    ///
    /// Only if the server does not answer: debris that it refuses to remove stays.
    pub(crate) async fn sweep_all(&self, remote: &dyn Remote) -> Result<Vec<CleartextName>, NodeError> {
        let listed = remote.list_packed(&self.content(), usize::MAX, remote.names_budget()).await;
        match listed {
            Ok(listed) => self.sweep(remote, &temporary::debris_in(&listed)).await,
            Err(error) if error.is_unanswered() => Err(error.into()),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Like [`Self::sweep_all`], for debris that was seen in the directory.
    pub(crate) async fn sweep(
        &self,
        remote: &dyn Remote,
        debris: &[RemoteName],
    ) -> Result<Vec<CleartextName>, NodeError> {
        let mut shown = Vec::new();
        for name in debris {
            let path = self.content().join(name);
            let swept = match temporary::directory_of(name.as_bytes()) {
                Some((id, fate @ (Fate::WithContent | Fate::Emptied))) => {
                    self.sweep_directory(remote, &path, id, fate).await
                }
                Some((id, Fate::Alone)) => self.sweep_name(remote, &path, Some(id)).await,
                None => self.sweep_name(remote, &path, None).await,
            };
            match swept {
                Ok(again) => shown.extend(again),
                Err(error) if error.is_unanswered() => return Err(error),
                Err(error) => {
                    tracing::warn!(error = error.kind(), "something unfinished can't be removed");
                }
            }
        }
        Ok(shown)
    }

    /// Sweeps the node of a directory that was being made or removed: an empty directory is removed, any other is shown
    /// again.
    async fn sweep_directory(
        &self,
        remote: &dyn Remote,
        path: &RemotePath,
        id: DirectoryId,
        fate: Fate,
    ) -> Result<Option<CleartextName>, NodeError> {
        let own = self.temporary_of(&id, fate)?;
        if !takes(remote, path, &own).await? {
            return Ok(None);
        }
        let hidden = HiddenNode::directory(own.clone());
        let name = cleartext_name(NAMELESS.as_ref())?;
        match named_by(remote, &own).await? {
            // Somebody had given its name to another directory, which was hidden in its place.
            Some(named) if named != id => self.show_hidden(remote, hidden, &named, &name).await.map(Some),
            // The removal had not begun.
            None if fate == Fate::Emptied => {
                hidden.discard(remote).await;
                Ok(None)
            }
            _ => self.remove_content_or_show(remote, hidden, &id, &name).await,
        }
    }

    /// Sweeps debris without content of its own: a file, or the node of a directory, `known`, that has another name. If
    /// somebody had given its name to another directory, which was hidden in its place, that one is shown again.
    async fn sweep_name(
        &self,
        remote: &dyn Remote,
        path: &RemotePath,
        known: Option<DirectoryId>,
    ) -> Result<Option<CleartextName>, NodeError> {
        // Without an id in its name it may be the node of a directory whose id has no room there.
        let is_another = |named: &DirectoryId| match &known {
            Some(known) => named != known,
            None => temporary::has_room_for(named),
        };
        let Some(named) = named_by(remote, path).await?.filter(is_another) else {
            return discard(remote, path).await.map(|()| None);
        };
        let own = self.temporary()?;
        if !takes(remote, path, &own).await? {
            return Ok(None);
        }
        let hidden = HiddenNode::directory(own);
        match remote.stat(&self.content_of(&named)).await {
            Ok(_) => {
                let name = cleartext_name(NAMELESS.as_ref())?;
                self.show_hidden(remote, hidden, &named, &name).await.map(Some)
            }
            Err(RemoteError::NotFound) => {
                hidden.discard(remote).await;
                Ok(None)
            }
            Err(error) => {
                hidden.abandon(error.clone());
                Err(error.into())
            }
        }
    }

    /// Removes the first name of a directory that has two, since a move was cut in the middle. Returns whether a name
    /// was removed.
    pub(crate) async fn finish_move(
        &self,
        remote: &dyn Remote,
        from: &Entry,
        (to, to_entry): (&Self, &Entry),
    ) -> Result<bool, NodeError> {
        let (old, new) = futures::try_join!(self.id_of(remote, from), to.id_of(remote, to_entry))?;
        match (old, new) {
            (Some(old), Some(new)) if old == new => {
                self.remove_first_name(remote, from, &old, (to, to_entry)).await
            }
            _ => Ok(false),
        }
    }
}

/// Renames debris to a name of our own. Returns whether it was there: another mount may have been faster.
async fn takes(remote: &dyn Remote, path: &RemotePath, own: &RemotePath) -> Result<bool, NodeError> {
    match remote.rename(path, own, RenameHow::New).await {
        Ok(()) => Ok(true),
        Err(RemoteError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the directory that a hidden node names; `None` if it names none.
async fn named_by(remote: &dyn Remote, path: &RemotePath) -> Result<Option<DirectoryId>, NodeError> {
    match remote.read_small(&path.join(&part("dir.c9r")), DIRECTORY_ID_MAX).await {
        Ok(named) => Ok(DirectoryId::parse(&named).ok()),
        Err(error) if error.is_unanswered() => {
            temporary::abandon(path, error.clone());
            Err(error.into())
        }
        Err(_) => Ok(None),
    }
}

/// Sweeps debris in a plain directory. Debris of a locked vault there is swept when the vault is unlocked.
pub(crate) async fn sweep_plain(remote: &dyn Remote, directory: &RemotePath, debris: &[RemoteName]) {
    for name in debris.iter().filter(|name| temporary::directory_of(name.as_bytes()).is_none()) {
        if let Err(error) = discard(remote, &directory.join(name)).await {
            tracing::debug!(error = error.kind(), "something unfinished can't be removed");
        }
    }
}

/// Removes a file, or a directory with the files in it.
async fn discard(remote: &dyn Remote, path: &RemotePath) -> Result<(), NodeError> {
    match remote.stat(path).await {
        Ok(attributes) if attributes.kind == RemoteKind::Directory => {
            discard_directory(remote, path).await;
            Ok(())
        }
        Ok(_) => Ok(remote.remove(path).await?),
        Err(RemoteError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::small_file::write_small;
    use super::super::vault_in_memory::vault;
    use super::*;
    use scaup_fakes::MemoryRemote;

    /// Makes `directory`, whose node is then hidden under `debris`.
    async fn hide(remote: &MemoryRemote, around: &VaultDirectory, id: &DirectoryId, debris: &RemotePath) {
        let name = cleartext_name("directory".as_ref()).unwrap();
        let made = around.make_directory_with(remote, &name, id, 0o755).await.unwrap();
        remote.rename(&around.content().join(&made.entry.name), debris, RenameHow::New).await.unwrap();
        temporary::abandon(debris, RemoteError::Failure(String::new()));
    }

    /// Whose names the vault's own directory then has.
    async fn swept(remote: &MemoryRemote, around: &VaultDirectory) -> Vec<DirectoryId> {
        let shown = around.sweep_all(remote).await.unwrap();
        let mut ids = Vec::new();
        for name in shown {
            let found = around.lookup(remote, &name, None).await.unwrap().unwrap();
            ids.extend(around.id_of(remote, &found.entry).await.unwrap());
        }
        let left = remote.list(&around.content()).await.unwrap();
        assert!(!left.iter().any(|entry| temporary::is_temporary(entry.name.as_bytes())), "{left:?}");
        ids
    }

    #[tokio::test]
    async fn a_directory_that_was_hidden_in_place_of_something_else_is_shown_again() {
        let (hidden, other) = (DirectoryId::random().unwrap(), DirectoryId::random().unwrap());
        for known in [Some(Fate::Alone), Some(Fate::WithContent), Some(Fate::Emptied), None] {
            let (remote, around) = vault().await;
            let debris = match known {
                Some(fate) => around.temporary_of(&other, fate).unwrap(),
                None => around.temporary().unwrap(),
            };
            hide(&remote, &around, &hidden, &debris).await;
            assert_eq!(swept(&remote, &around).await, std::slice::from_ref(&hidden), "{known:?}");
        }
    }

    #[tokio::test]
    async fn a_name_of_a_directory_that_has_another_is_removed() {
        let long = DirectoryId::parse(&[b'x'; 100]).unwrap();
        for id in [DirectoryId::random().unwrap(), long] {
            let (remote, around) = vault().await;
            let debris = around.temporary_of(&id, Fate::Alone).unwrap();
            hide(&remote, &around, &id, &debris).await;
            assert_eq!(swept(&remote, &around).await, [], "{id:?}");
            assert!(
                remote.stat(&around.content_of(&id)).await.is_ok(),
                "its content goes on under the other name"
            );
        }
    }

    #[tokio::test]
    async fn a_hidden_node_that_names_a_directory_without_content_is_removed() {
        let (remote, around) = vault().await;
        let debris = around.temporary().unwrap();
        remote.mkdir(&debris, 0o755).await.unwrap();
        write_small(remote.as_ref(), &debris.join(&part("dir.c9r")), b"an id of nothing").await.unwrap();
        temporary::abandon(&debris, RemoteError::Failure(String::new()));
        assert_eq!(swept(&remote, &around).await, []);
    }
}

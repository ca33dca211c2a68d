//! Entries that hold no node: what sync clients leave where they removed one, and what is left once a node was taken
//! out.
//!
//! The name of such an entry is as good as free. It is removed, or moved aside, when somebody needs the name; what lies
//! in it that somebody may want is never removed.

use super::directory::{MARK_LEN, VaultDirectory, mark};
use super::directory_removal::remove_with;
use super::entry_kinds::InsideEntry;
use super::error::NodeError;
use super::format::part;
use super::inside::{Inside, read_long_name};
use super::node::Entry;
use super::small_file::write_small;
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath, RenameHow};

/// How many names are tried for an entry that is moved aside.
const ASIDE_MAX: u32 = 100;

/// Whether nothing that somebody may want lies in an entry, a directory on the server. One that is gone is empty.
pub(super) async fn is_empty_entry(remote: &dyn Remote, path: &RemotePath) -> Result<bool, RemoteError> {
    let inside = Inside::read(remote, path, false).await;
    match &inside.entries {
        Err(RemoteError::NotFound) => Ok(true),
        Err(error) if error.is_unanswered() => Err(error.clone()),
        _ => Ok(inside.unwanted().is_some()),
    }
}

/// Removes an entry, a directory on the server, unless something lies in it that somebody may want. Returns whether it
/// is gone.
pub(super) async fn clear_entry(remote: &dyn Remote, path: &RemotePath) -> Result<bool, RemoteError> {
    let is_shortened = path.split().is_some_and(|(_, name)| name.as_bytes().ends_with(b".c9s"));
    if !is_shortened {
        match remote.rmdir(path).await {
            Ok(()) | Err(RemoteError::NotFound) => return Ok(true),
            Err(error) if error.is_unanswered() => return Err(error),
            // Something lies in it.
            Err(_) => {}
        }
    }
    // Only what was judged is removed: somebody may bring something meanwhile.
    let inside = Inside::read(remote, path, is_shortened).await;
    match &inside.entries {
        Err(RemoteError::NotFound) => return Ok(true),
        Err(error) if error.is_unanswered() => return Err(error.clone()),
        _ => {}
    }
    let Some(unwanted) = inside.unwanted() else { return Ok(false) };
    match remove_with(remote, path, &unwanted).await {
        Ok(()) | Err(RemoteError::NotFound) => Ok(true),
        Err(error) if error.is_unanswered() => Err(error),
        Err(_) => {
            // Something has come meanwhile, which needs the name.
            if let Ok(long_name) = inside.long_name {
                match write_small(remote, &path.join(&part("name.c9s")), &long_name).await {
                    Ok(()) | Err(RemoteError::Exists) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(false)
        }
    }
}

impl VaultDirectory {
    /// Clears an entry from which the part `taken` was taken. What has to be done is done without that, so it does not
    /// fail: an empty entry is not shown, and a part that stays is shown, under one name or another.
    pub(super) async fn clear_emptied(&self, remote: &dyn Remote, taken: &Entry) {
        let cleared = async {
            if !clear_entry(remote, &self.content().join(&taken.name)).await? {
                self.keep_names(remote, taken, None).await?;
            }
            Ok::<_, RemoteError>(())
        };
        if let Err(error) = cleared.await {
            tracing::debug!(error = error.kind(), "an entry that was emptied is not cleared");
        }
    }

    /// Keeps the names under which the other parts of an entry are shown, except that of `heir`. Behind the part that
    /// had the name of the entry, the next one would get it: a program that removed the first once more would remove
    /// the other.
    pub(super) async fn keep_names(
        &self,
        remote: &dyn Remote,
        taken: &Entry,
        heir: Option<&Entry>,
    ) -> Result<(), RemoteError> {
        let Some(InsideEntry::Part(first)) = taken.part.as_ref().map(|part| InsideEntry::of(part.as_bytes()))
        else {
            return Ok(());
        };
        let path = self.content().join(&taken.name);
        for part in remote.list(&path).await?.into_iter().map(|entry| entry.name) {
            let InsideEntry::Part(of) = InsideEntry::of(part.as_bytes()) else { continue };
            let stem = of.file_name().trim_end_matches(".c9r");
            let shown = Entry { name: taken.name.clone(), part: Some(part.clone()) };
            let kept = RemoteName::parse(format!("{stem} ({}).c9r", mark(&shown, MARK_LEN)).as_bytes());
            if let Some(kept) = kept.filter(|_| of > first && heir != Some(&shown)) {
                remote.rename(&path.join(&part), &path.join(&kept), RenameHow::New).await?;
                self.vault.record_aside(&self.id);
            }
        }
        Ok(())
    }

    /// Whether the file that tells the name of a shortened entry is there.
    pub(crate) async fn has_long_name(
        &self,
        remote: &dyn Remote,
        name: &RemoteName,
    ) -> Result<bool, NodeError> {
        Self::has_long_name_in(remote, &self.content(), name).await
    }

    /// The same in the content directory `content`.
    pub(crate) async fn has_long_name_in(
        remote: &dyn Remote,
        content: &RemotePath,
        name: &RemoteName,
    ) -> Result<bool, NodeError> {
        match remote.stat(&content.join(name).join(&part("name.c9s"))).await {
            Ok(_) => Ok(true),
            Err(RemoteError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an entry free unless a node has its name. An entry in which only copies of nodes lie, or a content whose
    /// name is lost, is moved aside: all of that stays shown as it was. Returns whether the entry is free.
    pub(super) async fn make_way(&self, remote: &dyn Remote, name: &RemoteName) -> Result<bool, NodeError> {
        let path = self.content().join(name);
        match remote.stat(&path).await {
            Ok(attributes) if attributes.kind == RemoteKind::Directory => {}
            Ok(_) => return Ok(false),
            Err(RemoteError::NotFound) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        if self.is_named_there(remote, name).await? {
            return Ok(false);
        }
        Ok(clear_entry(remote, &path).await? || self.move_aside(remote, name).await?.is_some())
    }

    /// Whether a node that lies in an entry, a directory on the server, has the name that the entry tells.
    pub(super) async fn is_named_there(
        &self,
        remote: &dyn Remote,
        name: &RemoteName,
    ) -> Result<bool, NodeError> {
        let path = self.content().join(name);
        let is_shortened = name.as_bytes().ends_with(b".c9s");
        let inside = Inside::read(remote, &path, is_shortened).await;
        if let Err(error) = &inside.entries
            && error.is_unanswered()
        {
            return Err(error.clone().into());
        }
        if inside.parts().first().is_none_or(|part| part.addition.is_some()) {
            return Ok(false);
        }
        Ok(match read_long_name(remote, &path, &inside).await? {
            Some(long_name) => self.cryptor.expand_shortened(name.as_bytes(), &long_name, &self.id).is_ok(),
            None => !is_shortened,
        })
    }

    /// Gives an entry another name, so that all in it is shown as before. Returns the name; `None` if all are taken.
    pub(super) async fn move_aside(
        &self,
        remote: &dyn Remote,
        name: &RemoteName,
    ) -> Result<Option<RemoteName>, NodeError> {
        let path = self.content().join(name);
        for attempt in 1..=ASIDE_MAX {
            let Some(aside) = aside(name, attempt) else { break };
            match remote.rename(&path, &self.content().join(&aside), RenameHow::New).await {
                Ok(()) | Err(RemoteError::NotFound) => {
                    self.vault.record_aside(&self.id);
                    return Ok(Some(aside));
                }
                Err(RemoteError::Exists | RemoteError::NotEmpty) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Whether a node that has the name of an entry, a directory on the server, lies in it.
    pub(super) async fn is_taken(&self, remote: &dyn Remote, name: &RemoteName) -> Result<bool, RemoteError> {
        match remote.list(&self.content().join(name)).await {
            Ok(entries) => Ok(entries
                .iter()
                .any(|entry| matches!(InsideEntry::of(entry.name.as_bytes()), InsideEntry::Part(_)))),
            Err(error) if error.is_unanswered() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Whether other nodes, or something that somebody may want, lie in an entry beside this part of it.
    pub(super) async fn has_company(
        &self,
        remote: &dyn Remote,
        name: &RemoteName,
        part: &RemoteName,
    ) -> Result<bool, NodeError> {
        let entries = remote.list(&self.content().join(name)).await?;
        if !entries.iter().any(|entry| entry.name == *part) {
            return Err(NodeError::Remote(RemoteError::NotFound));
        }
        let kept = |name: &RemoteName| InsideEntry::of(name.as_bytes()).is_kept(name.as_bytes());
        Ok(entries.iter().any(|entry| entry.name != *part && kept(&entry.name)))
    }
}

/// Returns a name for an entry that has to leave its name to another: one that is read as a sync client's copy.
fn aside(name: &RemoteName, attempt: u32) -> Option<RemoteName> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    let (stem, ending) = text.rsplit_once('.')?;
    RemoteName::parse(format!("{stem} (aside {attempt}).{ending}").as_bytes())
}

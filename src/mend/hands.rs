//! The steps of which all mends are made: an entry is put aside, renamed where its new name is free, or a small file
//! appears whole. After each of them, all that could be read before can still be read.

use std::collections::HashSet;
use std::sync::Arc;

use scaup_crypto::{Cryptor, DirectoryId};

use super::error::MendError;
use crate::remote::{Remote, RemoteAttributes, RemoteError, RemoteKind, RemoteName, RemotePath, RenameHow};
use crate::vault::inside::Inside;
use crate::vault::unfinished::Unfinished;
use crate::vault::{UnlockedVault, VaultDirectory, part, temporary, write_small};

/// What became of a mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done; with words about where something is now, if that is not where it was.
    Done(String),
    /// It was not done, and why.
    Left(String),
}

impl Outcome {
    pub(super) fn left(why: &str) -> Self {
        Self::Left(why.to_owned())
    }
}

/// Mends one vault. Paths of its methods are relative to the vault.
pub(super) struct Hands<'a> {
    pub(super) remote: &'a dyn Remote,
    pub(super) vault: &'a RemotePath,
    pub(super) cryptor: &'a Arc<Cryptor>,
    /// The vault's own directory.
    pub(super) root: VaultDirectory,
    /// Where replaced and removed entries go, relative to the vault. It is made when it is needed.
    pub(super) aside: RemotePath,
    /// Content directories that a sync client has renamed.
    pub(super) renamed: &'a HashSet<RemotePath>,
}

impl<'a> Hands<'a> {
    pub(super) fn new(
        remote: &'a dyn Remote,
        vault: &'a RemotePath,
        cryptor: &'a Arc<Cryptor>,
        aside: RemotePath,
        renamed: &'a HashSet<RemotePath>,
    ) -> Self {
        let unfinished = Unfinished::in_vault(None, cryptor);
        let root = VaultDirectory {
            vault: UnlockedVault::new(Arc::clone(cryptor), unfinished),
            cryptor: Arc::clone(cryptor),
            root: vault.clone(),
            id: DirectoryId::root(),
        };
        Self { remote, vault, cryptor, root, aside, renamed }
    }

    pub(super) fn on_server(&self, path: &RemotePath) -> RemotePath {
        self.vault.below(path)
    }

    /// Returns the directory of this id.
    pub(super) fn directory(&self, id: &DirectoryId) -> VaultDirectory {
        VaultDirectory { id: id.clone(), ..self.root.clone() }
    }

    /// Returns the attributes of what a path names; `None` if there is nothing.
    pub(super) async fn look(&self, path: &RemotePath) -> Result<Option<RemoteAttributes>, MendError> {
        match self.remote.stat(&self.on_server(path)).await {
            Ok(attributes) => Ok(Some(attributes)),
            Err(RemoteError::NotFound | RemoteError::NotADirectory) => Ok(None),
            Err(error) => Err(MendError::of(path)(error)),
        }
    }

    /// Reads what lies in the directory of a node.
    pub(super) async fn inside(&self, node: &RemotePath) -> Result<Inside, MendError> {
        let inside = Inside::read(self.remote, &self.on_server(node), true).await;
        match &inside.entries {
            Ok(_) => Ok(inside),
            Err(error) => Err(MendError::of(node)(error.clone())),
        }
    }

    /// Whether an entry is the directory of a node in which there is nothing that anybody could want.
    pub(super) async fn is_empty_node(&self, path: &RemotePath) -> Result<bool, MendError> {
        let is_directory = |found: RemoteAttributes| found.kind == RemoteKind::Directory;
        if !self.look(path).await?.is_some_and(is_directory) {
            return Ok(false);
        }
        let inside = self.inside(path).await?;
        Ok(inside.parts().is_empty() && !inside.holds_unshown())
    }

    /// Returns a free path for `path` among what was put aside.
    async fn place_aside(&self, path: &RemotePath) -> Result<RemotePath, MendError> {
        let mut place = self.aside.below(path);
        let Some((around, name)) = place.split() else { return Ok(place) };
        let mut made = RemotePath::root();
        for name in around.names() {
            let Some(name) = RemoteName::parse(name.as_encoded_bytes()) else { continue };
            made = made.join(&name);
            match self.remote.mkdir_by_umask(&self.on_server(&made)).await {
                Ok(()) | Err(RemoteError::Exists) => {}
                // Some servers say no more than that it failed.
                Err(_) if self.look(&made).await?.is_some() => {}
                Err(error) => return Err(MendError::of(&made)(error)),
            }
        }
        for number in 2..=TRIED_MAX {
            if self.look(&place).await?.is_none() {
                return Ok(place);
            }
            let numbered = [name.as_bytes(), format!(" {number}").as_bytes()].concat();
            place = around.join(&RemoteName::parse(&numbered).unwrap_or_else(|| part("entry")));
        }
        Err(MendError::NoFreeName)
    }

    /// Moves an entry out of the vault's `d`, to where what was replaced and removed is kept. If it has gone meanwhile,
    /// that is as good.
    pub(super) async fn put_aside(&self, path: &RemotePath) -> Result<(), MendError> {
        let place = self.place_aside(path).await?;
        let (from, to) = (self.on_server(path), self.on_server(&place));
        match self.remote.rename(&from, &to, RenameHow::New).await {
            Ok(()) | Err(RemoteError::NotFound) => Ok(()),
            Err(error) => Err(MendError::of(path)(error)),
        }
    }

    /// Keeps a copy of a small file that is about to be replaced.
    pub(super) async fn copy_aside(&self, path: &RemotePath, content: &[u8]) -> Result<(), MendError> {
        let place = self.place_aside(path).await?;
        write_small(self.remote, &self.on_server(&place), content).await.map_err(MendError::of(path))
    }

    /// Renames an entry if the new name is free, or something that nobody can want has it; returns whether it was.
    pub(super) async fn rename(&self, from: &RemotePath, to: &RemotePath) -> Result<bool, MendError> {
        if !self.make_way(to).await? {
            return Ok(false);
        }
        match self.remote.rename(&self.on_server(from), &self.on_server(to), RenameHow::New).await {
            Ok(()) => Ok(true),
            Err(RemoteError::Exists | RemoteError::NotEmpty | RemoteError::NotADirectory) => Ok(false),
            Err(error) => Err(MendError::of(from)(error)),
        }
    }

    /// Returns whether a name is free, or was taken by an empty node, which is put aside.
    pub(super) async fn make_way(&self, path: &RemotePath) -> Result<bool, MendError> {
        if self.look(path).await?.is_none() {
            return Ok(true);
        }
        if !self.is_empty_node(path).await? {
            return Ok(false);
        }
        self.put_aside(path).await.map(|()| true)
    }

    /// Writes a small file, which appears whole, as a new one or in place of the one that is there.
    pub(super) async fn write(
        &self,
        path: &RemotePath,
        content: &[u8],
        how: RenameHow,
    ) -> Result<(), MendError> {
        let Some((around, _)) = path.split() else { return Err(MendError::NoFreeName) };
        let temporary = self.on_server(&around.join(&temporary::name()?));
        let written = async {
            write_small(self.remote, &temporary, content).await?;
            self.remote.rename(&temporary, &self.on_server(path), how).await
        };
        let written = written.await;
        if let Err(error) = &written
            && !error.is_unanswered()
        {
            // It was not put in place: nobody needs it.
            if let Err(error) = self.remote.remove(&temporary).await {
                temporary::abandon(&temporary, error);
            }
        }
        written.map_err(MendError::of(path))
    }
}

/// Most names that are tried for one entry.
pub(super) const TRIED_MAX: u32 = 10_000;

//! Mends of directories: what tells their ids, what they contain, and what leads to them.

use scaup_crypto::{CleartextName, DirectoryId};

use super::deed::Useless;
use super::error::MendError;
use super::hands::{Hands, Outcome, TRIED_MAX};
use super::names::Numbers;
use crate::remote::{RemoteEntry, RemoteError, RemoteKind, RemotePath, RenameHow};
use crate::vault::entry_kinds::{ContentEntry, Stray};
use crate::vault::{DIRECTORY_ID_MAX, NodePart, VaultDirectory, VaultNode, part, temporary};

/// Where Cryptomator's health check puts what it finds.
const LOST_AND_FOUND: &str = "LOST+FOUND";
/// The id that Cryptomator gives to that directory: it refuses one with another.
const LOST_AND_FOUND_ID: &[u8] = b"recovery";
/// Longest `dirid.c9r` that is read, bytes.
const ID_FILE_MAX: usize = DIRECTORY_ID_MAX + 200;
/// Longest id that Cryptomator reads, bytes.
const ID_LEN: usize = 36;

impl Hands<'_> {
    /// Writes the `dirid.c9r` of a content directory.
    pub(super) async fn write_id(
        &self,
        content: &RemotePath,
        id: &DirectoryId,
    ) -> Result<Outcome, MendError> {
        let path = content.join(&part("dirid.c9r"));
        let how = match self.look(&path).await? {
            None => RenameHow::New,
            // Its making was interrupted.
            Some(there) if there.kind == RemoteKind::File && there.size == 0 => RenameHow::Replace,
            Some(_) if self.claimed(content).await?.as_ref() == Some(id) => {
                return Ok(Outcome::left("it has changed meanwhile"));
            }
            Some(_) => {
                self.put_aside(&path).await?;
                RenameHow::New
            }
        };
        let stored = self.cryptor.encrypt_small(id.as_bytes()).map_err(random)?;
        self.write(&path, &stored, how).await.map(|()| Outcome::Done(String::new()))
    }

    /// Makes the content directory that a node leads to, or a file that is a part of one.
    pub(super) async fn make_content(&self, node: &RemotePath) -> Result<Outcome, MendError> {
        let Some(id) = self.id_of(node).await? else {
            return Ok(Outcome::left("it has changed meanwhile"));
        };
        if id.as_bytes().len() > ID_LEN {
            return Ok(Outcome::left(
                "the id in its dir.c9r can't be right; its content is in /LOST+FOUND if it was an orphan",
            ));
        }
        if self.may_be_renamed(&self.content_of(&id)) {
            return Ok(Outcome::left(
                "a choice: a sync client has renamed the content of this directory; renaming it back on the server \
                 restores it",
            ));
        }
        let directory = self.directory(&id);
        directory.make_content_of(self.remote, &id, self.mode().await?).await?;
        Ok(Outcome::Done("the directory is empty".to_owned()))
    }

    /// Puts something aside that is still of no use.
    pub(super) async fn put_useless_aside(
        &self,
        path: &RemotePath,
        what: Useless,
    ) -> Result<Outcome, MendError> {
        let Some(there) = self.look(path).await? else {
            return Ok(Outcome::left("it has gone meanwhile"));
        };
        let is_useless = match what {
            Useless::EmptyNode => self.is_empty_node(path).await?,
            Useless::NoNode => match there.kind {
                RemoteKind::Directory => false,
                RemoteKind::File => path.as_bytes().ends_with(b".c9s"),
                _ => true,
            },
            Useless::EmptyOrphan => self.is_empty_content(path).await?,
            Useless::LooseFile => there.kind == RemoteKind::File,
            Useless::Loop
                if there.kind == RemoteKind::Directory
                    && (!self.is_only_directory(path).await? || self.inside(path).await?.holds_unshown()) =>
            {
                let id = path.join(&part("dir.c9r"));
                self.put_aside(&id).await?;
                return Ok(Outcome::Done(String::new()));
            }
            Useless::Loop => true,
        };
        if !is_useless {
            return Ok(Outcome::left("something lies in it that may be somebody's"));
        }
        self.put_aside(path).await.map(|()| Outcome::Done(String::new()))
    }

    /// Makes a node in `/LOST+FOUND` that leads to a content directory.
    pub(super) async fn link(&self, content: &RemotePath, id: &DirectoryId) -> Result<Outcome, MendError> {
        if self.look(content).await?.is_none() || self.content_of(id) != *content {
            return Ok(Outcome::left("it has gone meanwhile"));
        }
        let found = self.lost_and_found().await?;
        for name in names_of(content) {
            match found.below.make_node(self.remote, &name, NodePart::Directory, id.as_bytes()).await {
                Ok(_) => return Ok(Outcome::Done(format!("it is {}/{}", found.path, name.as_str()))),
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(MendError::NoFreeName)
    }

    /// Moves what is in a content directory to a new directory in `/LOST+FOUND`, and puts the rest aside.
    pub(super) async fn adopt(&self, content: &RemotePath) -> Result<Outcome, MendError> {
        let entries = match self.remote.list(&self.on_server(content)).await {
            Ok(entries) => entries,
            Err(RemoteError::NotFound) => return Ok(Outcome::left("it has gone meanwhile")),
            Err(error) => return Err(MendError::of(content)(error)),
        };
        // A node that was hidden leads to a directory.
        let hides = |entry: &RemoteEntry| {
            let name = entry.name.as_bytes();
            Stray::of(name) == Stray::Temporary && Stray::Temporary.is_kept(name)
        };
        if entries.iter().any(hides) {
            return Ok(Outcome::left(
                "an interrupted Scaup has begun something in it, which a mount on its machine finishes",
            ));
        }
        let claimed = self.claimed(content).await?;
        let found = self.lost_and_found().await?;
        let (step_parent, name) = self.step_parent(&found.below, content).await?;
        let taken = self.remote.list(&self.on_server(&self.content_of(&step_parent))).await;
        let mut numbers = Numbers::beyond(taken.map_or(0, |taken| taken.len().saturating_sub(1)));
        for RemoteEntry { name, attributes } in &entries {
            let kind = ContentEntry::of(self.cryptor, name.as_bytes(), &DirectoryId::root());
            if !matches!(kind, ContentEntry::Stray(_)) {
                let entry = content.join(name);
                self.adopt_node((&entry, attributes), claimed.as_ref(), &step_parent, &mut numbers).await?;
            }
        }
        self.put_aside(content).await?;
        Ok(Outcome::Done(format!("what was in it is in {}/{}", found.path, name.as_str())))
    }

    /// Moves a node to `/LOST+FOUND` that leads to a directory which it lies in or below.
    pub(super) async fn break_circle(&self, node: &RemotePath) -> Result<Outcome, MendError> {
        let is_directory = self.look(node).await?.is_some_and(|there| there.kind == RemoteKind::Directory);
        if !is_directory || !self.is_only_directory(node).await? {
            return Ok(Outcome::left(
                "more than a directory lies in this node; rename the rest in a mount first",
            ));
        }
        let Some(id) = self.id_of(node).await? else {
            return Ok(Outcome::left("it has changed meanwhile"));
        };
        let found = self.lost_and_found().await?;
        let inside = self.inside(node).await?;
        for name in names_of(&self.content_of(&id)) {
            if self.move_to(node, Some(&inside), (&found.below.id, &name)).await? {
                return Ok(Outcome::Done(format!("it is {}/{}", found.path, name.as_str())));
            }
        }
        Err(MendError::NoFreeName)
    }

    /// Returns the directory that a node leads to, or a file that is a part of one.
    async fn id_of(&self, node: &RemotePath) -> Result<Option<DirectoryId>, MendError> {
        let path = match self.look(node).await? {
            Some(there) if there.kind == RemoteKind::Directory => node.join(&part("dir.c9r")),
            Some(_) => node.clone(),
            None => return Ok(None),
        };
        match self.remote.read_small(&self.on_server(&path), DIRECTORY_ID_MAX).await {
            Ok(id) => Ok(DirectoryId::parse(&id).ok()),
            Err(error) if error.is_unanswered() => Err(MendError::of(&path)(error)),
            Err(_) => Ok(None),
        }
    }

    /// Returns the id in a `dirid.c9r`, whichever directory that is.
    async fn claimed(&self, content: &RemotePath) -> Result<Option<DirectoryId>, MendError> {
        let path = content.join(&part("dirid.c9r"));
        match self.remote.read_small(&self.on_server(&path), ID_FILE_MAX).await {
            Ok(stored) => {
                let id = self.cryptor.decrypt_small(&stored).ok();
                Ok(id.and_then(|id| DirectoryId::parse(&id).ok()))
            }
            Err(error) if error.is_unanswered() => Err(MendError::of(&path)(error)),
            Err(_) => Ok(None),
        }
    }

    /// Whether nothing lies in a content directory that anybody could want.
    async fn is_empty_content(&self, content: &RemotePath) -> Result<bool, MendError> {
        let entries = self.remote.list(&self.on_server(content)).await.map_err(MendError::of(content))?;
        Ok(entries.iter().all(|entry| {
            let name = entry.name.as_bytes();
            match ContentEntry::of(self.cryptor, name, &DirectoryId::root()) {
                // Half a file of an interrupted Scaup; a hidden node of a directory leads to its content.
                ContentEntry::Stray(Stray::Temporary) => temporary::directory_of(name).is_none(),
                ContentEntry::Stray(stray) => !stray.is_kept(name),
                _ => false,
            }
        }))
    }

    /// Returns `/LOST+FOUND`, which is made if it is not there.
    async fn lost_and_found(&self) -> Result<Found, MendError> {
        let own = DirectoryId::parse(LOST_AND_FOUND_ID).ok();
        let (below, name) = self.directory_called(&self.root, LOST_AND_FOUND, own).await?;
        Ok(Found { below: self.directory(&below), path: format!("/{}", name.as_str()) })
    }

    /// Returns the directory in `/LOST+FOUND` for what is in a content directory.
    async fn step_parent(
        &self,
        found: &VaultDirectory,
        content: &RemotePath,
    ) -> Result<(DirectoryId, CleartextName), MendError> {
        self.directory_called(found, &hash_of(content), None).await
    }

    /// Returns a directory of this name, or of the name with a number; makes it if there is none: its content first,
    /// the node last. The new one has the id `own`, or a random one.
    async fn directory_called(
        &self,
        around: &VaultDirectory,
        name: &str,
        own: Option<DirectoryId>,
    ) -> Result<(DirectoryId, CleartextName), MendError> {
        for name in numbered(name.to_owned()) {
            match around.lookup(self.remote, &name, None).await? {
                Some(there) => {
                    if let VaultNode::Directory(id) = there.node {
                        return Ok((id, name));
                    }
                }
                None => {
                    let id = match own {
                        Some(id) => id,
                        None => DirectoryId::random().map_err(random)?,
                    };
                    around.make_content_of(self.remote, &id, self.mode().await?).await?;
                    // An interrupted run may have left the directory with less.
                    self.write_id(&self.content_of(&id), &id).await?;
                    around.make_node(self.remote, &name, NodePart::Directory, id.as_bytes()).await?;
                    return Ok((id, name));
                }
            }
        }
        Err(MendError::NoFreeName)
    }

    /// Returns the permission bits of the vault's own directory, for new ones.
    async fn mode(&self) -> Result<u16, MendError> {
        let content = self.root.content();
        let attributes = self.remote.stat(&content).await.map_err(MendError::of(&content))?;
        Ok(attributes.mode & 0o777)
    }

    /// Whether a sync client may have given the content directory another name.
    fn may_be_renamed(&self, content: &RemotePath) -> bool {
        let names: Vec<_> = content.names().collect();
        self.renamed.iter().any(|renamed| {
            let renamed: Vec<_> = renamed.names().collect();
            let begins_like = |(renamed, name): (&&std::ffi::OsStr, &&std::ffi::OsStr)| {
                renamed.as_encoded_bytes().starts_with(name.as_encoded_bytes())
            };
            renamed.len() == names.len() && renamed.iter().zip(&names).all(begins_like)
        })
    }
}

/// `/LOST+FOUND`.
struct Found {
    below: VaultDirectory,
    /// Its cleartext path.
    path: String,
}

fn random(error: impl std::fmt::Display) -> MendError {
    MendError::Random(error.to_string())
}

/// Returns the hash that the path of a content directory consists of.
fn hash_of(content: &RemotePath) -> String {
    content.names().skip(1).map(|name| name.to_string_lossy()).collect()
}

/// Returns the names that a content directory may have in `/LOST+FOUND`.
fn names_of(content: &RemotePath) -> impl Iterator<Item = CleartextName> {
    numbered(hash_of(content))
}

fn numbered(name: String) -> impl Iterator<Item = CleartextName> {
    let first = name.clone();
    let others = (2..TRIED_MAX).map(move |number| format!("{name} {number}"));
    std::iter::once(first).chain(others).filter_map(|name| CleartextName::parse(name.as_bytes()).ok())
}

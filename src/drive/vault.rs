//! Places inside vaults: how cleartext names and directories lie among the encrypted ones.
//!
//! A vault's directories are flat: each has an id, and its content lies in `d/AA/BBB…`, a path made from that id
//! (`vault-format` section 4). In it, a *node* is a file `X.c9r`, or a directory `X.c9r` or `H.c9s` that holds
//! what the node is: `dir.c9r` (a directory's id), `symlink.c9r`, or in the shortened form `contents.c9r` and the long
//! name `name.c9s` (sections 6 and 7).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::{CleartextName, Cryptor, DirectoryId, Listed, NameError};

use super::error::DriveError;
use super::found::{Found, Place};
use super::temporary;
use crate::remote::{
    Remote, RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemoteOpen, RemotePath,
    RemoteSetAttributes,
};

/// Longest `dir.c9r` (cryptofs loads at most this), bytes.
pub(crate) const DIRECTORY_ID_MAX: usize = 1000;
/// Longest `name.c9s`, bytes.
pub(crate) const LONG_NAME_MAX: usize = 10_240;
/// Longest ciphertext of a symbolic link: 32,767 bytes of target, a header and an overhead of either combo.
const SYMLINK_FILE_MAX: usize = 33_000;
/// Nodes whose kind is looked up at the same time.
const PARALLEL: usize = 64;

/// An unlocked vault. Its keys go when it is locked, whoever still holds the value.
pub(super) struct UnlockedVault {
    cryptor: RwLock<Option<Arc<Cryptor>>>,
}

impl UnlockedVault {
    pub(super) fn new(cryptor: Cryptor) -> Arc<Self> {
        Arc::new(Self { cryptor: RwLock::new(Some(Arc::new(cryptor))) })
    }

    /// The vault's keys, while it is unlocked.
    pub(super) fn cryptor(&self) -> Result<Arc<Cryptor>, DriveError> {
        self.cryptor.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(DriveError::Locked)
    }

    /// Lets go of the keys.
    pub(super) fn forget_keys(&self) {
        *self.cryptor.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What a node inside a vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VaultNode {
    /// A regular file.
    File,
    /// A directory with its id.
    Directory(DirectoryId),
    /// A directory whose id or content can't be had, and why.
    BrokenDirectory(String),
    /// A symbolic link.
    Symlink,
    /// A node of no known kind, and why.
    Unknown(String),
}

/// Where a node's entry lies: its name among the encrypted ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// `X.c9r` or `H.c9s`.
    pub(super) name: RemoteName,
    /// Whether it is the shortened form, a directory even for files.
    pub(super) shortened: bool,
}

impl Entry {
    fn new(name: RemoteName) -> Self {
        let shortened = name.as_bytes().ends_with(b".c9s");
        Self { name, shortened }
    }
}

/// One directory inside an unlocked vault.
#[derive(Clone)]
pub(super) struct VaultDirectory {
    pub(super) vault: Arc<UnlockedVault>,
    pub(super) cryptor: Arc<Cryptor>,
    /// The vault's own directory.
    pub(super) root: RemotePath,
    pub(super) id: DirectoryId,
}

/// A name for a part of a node, none of which can fail to parse.
pub(crate) fn part(name: &'static str) -> RemoteName {
    RemoteName::parse(name.as_bytes()).unwrap_or_else(|| unreachable!("{name} is a valid name"))
}

/// The path of a vault's content directory.
pub(crate) fn content_path(root: &RemotePath, cryptor: &Cryptor, id: &DirectoryId) -> RemotePath {
    cryptor
        .content_dir(id)
        .split('/')
        .filter_map(|name| RemoteName::parse(name.as_bytes()))
        .fold(root.clone(), |path, name| path.join(&name))
}

impl VaultDirectory {
    /// Where this directory's nodes lie on the server.
    pub(super) fn content(&self) -> RemotePath {
        content_path(&self.root, &self.cryptor, &self.id)
    }

    /// The entry of a cleartext name, and what `name.c9s` has to hold if it is shortened.
    pub(super) fn entry(&self, name: &CleartextName) -> Result<(Entry, Option<String>), DriveError> {
        let encrypted = self.cryptor.encrypt_name(name, &self.id);
        let entry = RemoteName::parse(encrypted.entry.as_bytes()).ok_or(DriveError::NameTooLong)?;
        Ok((Entry::new(entry), encrypted.long_name))
    }

    /// All nodes of this directory, conflicting copies under names of their own, and the debris seen on the way.
    pub(super) async fn list(
        &self,
        remote: &dyn Remote,
    ) -> Result<(Vec<Found>, Vec<RemoteName>), DriveError> {
        let entries = remote.list(&self.content()).await?;
        let debris = entries
            .iter()
            .filter(|entry| temporary::is_debris(entry.name.as_bytes()))
            .map(|entry| entry.name.clone())
            .collect();
        let identified: Vec<Option<Identified>> =
            stream::iter(entries.into_iter().map(|entry| self.identify(remote, entry)))
                .buffered(PARALLEL)
                .try_collect()
                .await?;
        Ok((self.name_all(identified.into_iter().flatten()), debris))
    }

    /// Finds one name: under its canonical entry if there is one, else among all nodes, since conflicting copies
    /// and names of foreign clients lie under other entries.
    pub(super) async fn lookup(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
    ) -> Result<Option<Found>, DriveError> {
        let (entry, _) = self.entry(name)?;
        let path = self.content().join(&entry.name);
        match remote.stat(&path).await {
            Ok(attributes) => {
                let entry = RemoteEntry { name: entry.name, attributes };
                let identified = self.resolve(remote, entry, name.clone()).await?;
                Ok(Some(self.found(name.as_str().into(), identified)))
            }
            Err(RemoteError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Names a listed entry and looks up what it is; `None` for what is no node. It fails only if no answer came: a damaged
    /// entry never hides its neighbours, but a lost connection must not make a node look damaged or missing.
    async fn identify(
        &self,
        remote: &dyn Remote,
        entry: RemoteEntry,
    ) -> Result<Option<Identified>, RemoteError> {
        Ok(match self.cryptor.identify(entry.name.as_bytes(), &self.id) {
            // What cannot be named cannot be shown. It stays where it is, and keeps its directory from being removed.
            Listed::NotAnEntry | Listed::Undecryptable => None,
            Listed::Name(name) => Some(self.resolve(remote, entry, name).await?),
            Listed::Conflict { original, suffix } => {
                let mut identified = self.resolve(remote, entry, original).await?;
                identified.conflict = Some(suffix);
                Some(identified)
            }
            Listed::Shortened => self.identify_shortened(remote, entry).await?,
        })
    }

    async fn identify_shortened(
        &self,
        remote: &dyn Remote,
        entry: RemoteEntry,
    ) -> Result<Option<Identified>, RemoteError> {
        let path = self.content().join(&entry.name);
        let long_name = match remote.read_small(&path.join(&part("name.c9s")), LONG_NAME_MAX).await {
            Ok(long_name) => long_name,
            Err(error) if error.is_unanswered() => return Err(error),
            Err(_) => return Ok(None),
        };
        Ok(match self.cryptor.expand_shortened(entry.name.as_bytes(), &long_name, &self.id) {
            Ok(name) => Some(self.resolve(remote, entry, name).await?),
            // Either a sync client's conflicting copy, whose name begins with the right hash, or a name that
            // belongs to another node: shown, but not believed.
            Err(NameError::HashMismatch { name }) => {
                let Ok((canonical, _)) = self.entry(&name) else { return Ok(None) };
                let stem = canonical.name.as_bytes().strip_suffix(b".c9s").unwrap_or_default();
                let text = String::from_utf8_lossy(entry.name.as_bytes()).into_owned();
                let copy = text.strip_suffix(".c9s").and_then(|text| {
                    let (_, suffix) =
                        text.split_once(std::str::from_utf8(stem).ok().filter(|stem| !stem.is_empty())?)?;
                    Some(suffix.to_owned())
                });
                match copy {
                    Some(suffix) => {
                        let mut identified = self.resolve(remote, entry, name).await?;
                        identified.conflict = Some(suffix);
                        Some(identified)
                    }
                    None => Some(Identified {
                        name,
                        entry: Entry::new(entry.name),
                        conflict: None,
                        node: VaultNode::Unknown("name.c9s belongs to another entry".to_owned()),
                        attributes: entry.attributes,
                    }),
                }
            }
            Err(_) => None,
        })
    }

    /// Looks up what an entry is (section 7): `dir.c9r` before `symlink.c9r` before `contents.c9r`.
    async fn resolve(
        &self,
        remote: &dyn Remote,
        entry: RemoteEntry,
        name: CleartextName,
    ) -> Result<Identified, RemoteError> {
        let RemoteEntry { name: entry_name, attributes } = entry;
        let entry = Entry::new(entry_name);
        let (node, attributes) = match (attributes.kind, entry.shortened) {
            (RemoteKind::File, false) => (VaultNode::File, attributes),
            (RemoteKind::Directory, shortened) => {
                self.look_inside(remote, &entry, attributes, shortened).await?
            }
            _ => (VaultNode::Unknown("neither a file nor a directory on the server".to_owned()), attributes),
        };
        Ok(Identified { name, entry, conflict: None, node, attributes })
    }

    async fn look_inside(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        attributes: RemoteAttributes,
        shortened: bool,
    ) -> Result<(VaultNode, RemoteAttributes), RemoteError> {
        let path = self.content().join(&entry.name);
        let (directory_path, symlink_path, contents_path) =
            (path.join(&part("dir.c9r")), path.join(&part("symlink.c9r")), path.join(&part("contents.c9r")));
        let contents =
            async { if shortened { remote.stat(&contents_path).await } else { Err(RemoteError::NotFound) } };
        let (id, symlink, contents) = futures::join!(
            remote.read_small(&directory_path, DIRECTORY_ID_MAX),
            remote.stat(&symlink_path),
            contents
        );
        Ok(match (id, symlink, contents) {
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) if error.is_unanswered() => {
                return Err(error);
            }
            (Ok(id), _, _) => self.resolve_directory(remote, &id, attributes).await?,
            (Err(RemoteError::NotFound), Ok(symlink), _) if symlink.kind == RemoteKind::File => {
                (VaultNode::Symlink, symlink)
            }
            (Err(RemoteError::NotFound), Err(RemoteError::NotFound), Ok(contents))
                if contents.kind == RemoteKind::File =>
            {
                (VaultNode::File, contents)
            }
            (Err(RemoteError::NotFound), ..) => {
                (VaultNode::Unknown("nothing inside says what it is".to_owned()), attributes)
            }
            (Err(error), ..) => (VaultNode::BrokenDirectory(format!("dir.c9r: {error}")), attributes),
        })
    }

    async fn resolve_directory(
        &self,
        remote: &dyn Remote,
        id: &Bytes,
        attributes: RemoteAttributes,
    ) -> Result<(VaultNode, RemoteAttributes), RemoteError> {
        let id = match DirectoryId::parse(id) {
            Ok(id) => id,
            Err(error) => return Ok((VaultNode::BrokenDirectory(format!("dir.c9r: {error}")), attributes)),
        };
        Ok(match remote.stat(&content_path(&self.root, &self.cryptor, &id)).await {
            Ok(content) if content.kind == RemoteKind::Directory => (VaultNode::Directory(id), content),
            Ok(_) => (VaultNode::BrokenDirectory("its content is no directory".to_owned()), attributes),
            Err(RemoteError::NotFound) => {
                (VaultNode::BrokenDirectory("its content directory is missing".to_owned()), attributes)
            }
            Err(error) if error.is_unanswered() => return Err(error),
            Err(error) => (VaultNode::BrokenDirectory(format!("its content directory: {error}")), attributes),
        })
    }

    /// Gives every node a name of its own. Canonical entries keep theirs; a conflicting copy is named after its
    /// original, as Cryptomator would rename it (section 14), but nothing is renamed on the server.
    fn name_all(&self, nodes: impl Iterator<Item = Identified>) -> Vec<Found> {
        let mut named: BTreeMap<OsString, Identified> = BTreeMap::new();
        let mut waiting = Vec::new();
        for node in nodes {
            let canonical = node.conflict.is_none()
                && self.entry(&node.name).is_ok_and(|(entry, _)| entry.name == node.entry.name);
            if canonical {
                named.insert(node.name.as_str().into(), node);
            } else {
                waiting.push(node);
            }
        }
        waiting.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        for node in waiting {
            let own: OsString = node.name.as_str().into();
            match named.get(&own) {
                None => {
                    named.insert(own, node);
                }
                // A sync client's second copy of the very same directory shows nothing new.
                Some(Identified { node: VaultNode::Directory(id), .. })
                    if node.node == VaultNode::Directory(id.clone()) => {}
                Some(_) => {
                    let suffix = node.conflict.clone().unwrap_or_default();
                    let free = self
                        .cryptor
                        .conflict_names(&node.name, &suffix)
                        .map(|name| OsString::from(name.as_str()))
                        .take(10_000)
                        .find(|name| !named.contains_key(name));
                    if let Some(name) = free {
                        named.insert(name, node);
                    }
                }
            }
        }
        named.into_iter().map(|(name, node)| self.found(name, node)).collect()
    }

    fn found(&self, name: OsString, node: Identified) -> Found {
        let Identified { entry, node, attributes, .. } = node;
        let attributes = self.shown_attributes(&node, attributes);
        Found { name, attributes, place: Place::Vault { vault: Arc::clone(&self.vault), entry, node } }
    }

    /// A node's attributes as the mount shows them: cleartext lengths, and the kind that it stands for.
    fn shown_attributes(&self, node: &VaultNode, mut attributes: RemoteAttributes) -> RemoteAttributes {
        let combo = self.cryptor.config().cipher_combo;
        attributes.kind = match node {
            VaultNode::File | VaultNode::Unknown(_) => RemoteKind::File,
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => RemoteKind::Directory,
            VaultNode::Symlink => RemoteKind::Symlink,
        };
        attributes.size = match node {
            // An illegal length shows as 0, and opening the file says why.
            VaultNode::File | VaultNode::Symlink => combo.cleartext_len(attributes.size).unwrap_or(0),
            VaultNode::Unknown(_) => 0,
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => attributes.size,
        };
        if matches!(node, VaultNode::Symlink) {
            attributes.mode = 0o777;
        }
        attributes
    }

    /// The target of a symbolic link, byte for byte.
    pub(super) async fn read_symlink(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
    ) -> Result<Vec<u8>, DriveError> {
        let path = self.symlink_path(entry);
        let stored = remote.read_small(&path, SYMLINK_FILE_MAX).await.map_err(|error| match error {
            RemoteError::Protocol(_) => DriveError::damaged("the link's target is unreasonably long"),
            error => error.into(),
        })?;
        let target = self.cryptor.decrypt_small(&stored).map_err(DriveError::damaged)?;
        // readlink(2) can't hand out more, nor an empty target.
        if target.is_empty() || target.len() >= 4096 {
            return Err(DriveError::damaged("the link's target is empty or longer than a path can be"));
        }
        Ok(target)
    }

    /// Makes a directory: its content first, then the node that names it, which appears at once and whole. A cut in
    /// between leaves at most a content directory that nothing names.
    pub(super) async fn make_directory(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        mode: u16,
    ) -> Result<Found, DriveError> {
        let id = DirectoryId::random().map_err(|error| DriveError::Random(error.to_string()))?;
        let content = content_path(&self.root, &self.cryptor, &id);
        let backup =
            self.cryptor.encrypt_small(id.as_bytes()).map_err(|e| DriveError::Random(e.to_string()))?;
        let fill = async {
            make_content(remote, &content, 0o700 | mode).await?;
            write_small(remote, &content.join(&part("dirid.c9r")), &backup).await?;
            if mode & 0o700 != 0o700 {
                let set = RemoteSetAttributes { mode: Some(mode), ..RemoteSetAttributes::default() };
                remote.set_attributes(&content, set).await?;
            }
            Ok::<_, DriveError>(())
        };
        // The node is prepared meanwhile, and gets its name when the content is whole.
        let made = match futures::join!(fill, self.prepare_node(remote, name, "dir.c9r", id.as_bytes())) {
            (Ok(()), Ok(prepared)) => self.reveal_node(remote, prepared).await,
            (Err(error), Ok(prepared)) => {
                discard_directory(remote, &prepared.temporary).await;
                Err(error)
            }
            (_, Err(error)) => Err(error),
        };
        match made {
            Ok(entry) => {
                let attributes = remote.stat(&content).await?;
                let node = VaultNode::Directory(id);
                let attributes = self.shown_attributes(&node, attributes);
                let place = Place::Vault { vault: Arc::clone(&self.vault), entry, node };
                Ok(Found { name: name.as_str().into(), attributes, place })
            }
            Err(error) => {
                // Without an answer the node may be there all the same, and needs its content.
                if !matches!(&error, DriveError::Remote(error) if error.is_unanswered()) {
                    discard_directory(remote, &content).await;
                }
                Err(error)
            }
        }
    }

    /// Makes a symbolic link.
    pub(super) async fn make_symlink(
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
        let (taken, made) = futures::join!(remote.stat(&target), remote.mkdir(&temporary, 0o755));
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
        if let Err(error) = remote.rename(&temporary, &target).await {
            discard_directory(remote, &temporary).await;
            return Err(match error {
                RemoteError::NotEmpty | RemoteError::NotADirectory => DriveError::Exists,
                error => error.into(),
            });
        }
        Ok(entry)
    }

    /// Where the target of a symbolic link lies.
    pub(super) fn symlink_path(&self, entry: &Entry) -> RemotePath {
        self.content().join(&entry.name).join(&part("symlink.c9r"))
    }

    /// Where the bytes of a regular file lie.
    pub(super) fn file_path(&self, entry: &Entry) -> RemotePath {
        let path = self.content().join(&entry.name);
        if entry.shortened { path.join(&part("contents.c9r")) } else { path }
    }

    /// Gives finished content, which lies under a temporary name in this directory, its name; what the name held is
    /// replaced. A shortened node that is not there yet needs its long name.
    pub(super) async fn publish_as(
        &self,
        remote: &dyn Remote,
        temporary: &RemotePath,
        entry: &Entry,
        long_name: Option<&str>,
    ) -> Result<(), DriveError> {
        if !entry.shortened {
            return Ok(remote.rename(temporary, &self.content().join(&entry.name)).await?);
        }
        match remote.rename(temporary, &self.file_path(entry)).await {
            Err(RemoteError::NotFound) => {}
            done => return Ok(done?),
        }
        // The shortened node does not exist yet: it is built beside and appears whole. Where it is built follows from the
        // temporary name, so that an attempt whose end nobody learned of is taken up again.
        let long_name = long_name.ok_or(DriveError::NotFound)?;
        let node = temporary::beside(temporary).ok_or(DriveError::Invalid)?;
        match remote.mkdir(&node, 0o755).await {
            Ok(()) | Err(RemoteError::Exists) => {}
            Err(error) => return Err(error.into()),
        }
        let moved = node.join(&part("contents.c9r"));
        let built = async {
            write_long_name(remote, &node, long_name).await?;
            match remote.rename(temporary, &moved).await {
                Err(RemoteError::NotFound) => remote.stat(&moved).await.map(|_| ())?,
                done => done?,
            }
            remote.rename(&node, &self.content().join(&entry.name)).await
        };
        if let Err(error) = built.await {
            // The content goes back to its temporary name: whoever published it still holds it. Where that fails it stays
            // where it is, for the next attempt.
            if let Ok(()) | Err(RemoteError::NotFound) = remote.rename(&moved, temporary).await {
                discard_directory(remote, &node).await;
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Removes a node that is not a directory of the mount: a file, a link, or one of no known kind.
    pub(super) async fn remove_node(
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
        self.remove_hidden(remote, &path).await
    }

    /// Removes a node's directory: out of sight first, in one step, then for good.
    async fn remove_hidden(&self, remote: &dyn Remote, path: &RemotePath) -> Result<(), DriveError> {
        let hidden = self.content().join(&temporary::name()?);
        remote.rename(path, &hidden).await?;
        discard_directory(remote, &hidden).await;
        Ok(())
    }

    /// Removes an empty directory: the node goes out of sight first, so that a cut leaves at most content that nothing
    /// names, then the content goes. Answers where what is left of the node lies, to be discarded.
    pub(super) async fn remove_directory(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<RemotePath, DriveError> {
        let path = self.content().join(&entry.name);
        let hidden = self.content().join(&temporary::name()?);
        let VaultNode::Directory(id) = node else {
            // Its content can't be had, so nothing reachable is lost.
            remote.rename(&path, &hidden).await?;
            return Ok(hidden);
        };
        let content = content_path(&self.root, &self.cryptor, id);
        let strays = self.strays_if_empty(remote, &content, id).await?;
        remote.rename(&path, &hidden).await?;
        let removals = strays.iter().map(|stray| {
            let path = content.join(&stray.name);
            async move {
                // What stays shows when the directory around it is to go.
                let _ = match stray.attributes.kind {
                    RemoteKind::Directory => {
                        discard_directory(remote, &path).await;
                        Ok(())
                    }
                    _ => remote.remove(&path).await,
                };
            }
        });
        futures::future::join_all(removals).await;
        match remote.rmdir(&content).await {
            Ok(()) | Err(RemoteError::NotFound) => {}
            // Without an answer it may be gone: a look tells. If nothing tells, it stays removed.
            Err(error) if error.is_unanswered() => match remote.stat(&content).await {
                Ok(_) => {
                    remote.rename(&hidden, &path).await?;
                    return Err(error.into());
                }
                Err(RemoteError::NotFound) => {}
                Err(_) => return Err(error.into()),
            },
            // Somebody made a file in it meanwhile: the directory comes back.
            Err(error) => {
                remote.rename(&hidden, &path).await?;
                return Err(error.into());
            }
        }
        Ok(hidden)
    }

    /// What lies in an empty directory's content, all of it to be removed with it. Nodes, and names that look like nodes but
    /// do not decrypt, make it not empty: nothing that somebody may still want is wiped.
    async fn strays_if_empty(
        &self,
        remote: &dyn Remote,
        content: &RemotePath,
        id: &DirectoryId,
    ) -> Result<Vec<RemoteEntry>, DriveError> {
        let entries = remote.list(content).await?;
        let holds_a_node = entries.iter().any(|entry| {
            let name = entry.name.as_bytes();
            let left_alone = temporary::is_temporary(name) && !temporary::is_debris(name);
            left_alone || !matches!(self.cryptor.identify(name, id), Listed::NotAnEntry)
        });
        if holds_a_node { Err(DriveError::NotEmpty) } else { Ok(entries) }
    }

    /// Whether the directory `node` may be replaced or removed.
    pub(super) async fn check_empty(&self, remote: &dyn Remote, node: &VaultNode) -> Result<(), DriveError> {
        match node {
            VaultNode::Directory(id) => {
                let content = content_path(&self.root, &self.cryptor, id);
                self.strays_if_empty(remote, &content, id).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Moves a node here from `from`, a directory of the same vault. The name must be free, or hold a regular file while a
    /// regular file is moved, which is then replaced.
    pub(super) async fn move_here(
        &self,
        remote: &dyn Remote,
        from: &Self,
        source: &Entry,
        node: &VaultNode,
        name: &CleartextName,
    ) -> Result<Entry, DriveError> {
        let (target, long_name) = self.entry(name)?;
        let source_path = from.content().join(&source.name);
        if !source.shortened && !target.shortened {
            remote.rename(&source_path, &self.content().join(&target.name)).await?;
            return Ok(target);
        }
        // A long name on either side takes more than one step. The node appears under its new name whole, then goes from the
        // old one: a cut in between leaves both names for one content, never none.
        match node {
            VaultNode::File => {
                let twin = self.content().join(&temporary::name()?);
                match remote.hard_link(&from.file_path(source), &twin).await {
                    Ok(()) => {
                        let published = self.publish_as(remote, &twin, &target, long_name.as_deref()).await;
                        // rename(2) leaves it where it is if the target is the same file already.
                        let discarded = async {
                            match remote.remove(&twin).await {
                                Ok(()) | Err(RemoteError::NotFound) => {}
                                Err(error) => tracing::debug!(%error, "left a temporary file behind"),
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
                        self.move_content(remote, &from.file_path(source), &target, long_name.as_deref())
                            .await?;
                        if source.shortened {
                            from.remove_after_move(remote, source).await?;
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => {
                self.copy_node(remote, &source_path, name, "dir.c9r", DIRECTORY_ID_MAX).await?;
                from.remove_hidden(remote, &source_path).await?;
            }
            VaultNode::Symlink => {
                self.copy_node(remote, &source_path, name, "symlink.c9r", SYMLINK_FILE_MAX).await?;
                from.remove_hidden(remote, &source_path).await?;
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
    ) -> Result<(), DriveError> {
        match (remote.rename(source, &self.file_path(target)).await, long_name) {
            (Err(RemoteError::NotFound), Some(long_name)) if target.shortened => {
                let node = self.content().join(&target.name);
                let shell = self.content().join(&temporary::name()?);
                remote.mkdir(&shell, 0o755).await?;
                let built = async {
                    write_long_name(remote, &shell, long_name).await?;
                    remote.rename(&shell, &node).await
                };
                if let Err(error) = built.await {
                    discard_directory(remote, &shell).await;
                    return Err(error.into());
                }
                let moved = remote.rename(source, &self.file_path(target)).await;
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

    async fn copy_node(
        &self,
        remote: &dyn Remote,
        source: &RemotePath,
        name: &CleartextName,
        inside: &'static str,
        limit: usize,
    ) -> Result<(), DriveError> {
        let content = remote.read_small(&source.join(&part(inside)), limit).await?;
        self.make_node(remote, name, inside, &content).await.map(|_| ())
    }

    async fn remove_after_move(&self, remote: &dyn Remote, source: &Entry) -> Result<(), DriveError> {
        let path = self.content().join(&source.name);
        if source.shortened {
            return self.remove_hidden(remote, &path).await;
        }
        match remote.remove(&path).await {
            Ok(()) | Err(RemoteError::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a node out of sight so that another can take its name; answers where it lies.
    pub(super) async fn hide(&self, remote: &dyn Remote, entry: &Entry) -> Result<RemotePath, DriveError> {
        let hidden = self.content().join(&temporary::name()?);
        remote.rename(&self.content().join(&entry.name), &hidden).await?;
        Ok(hidden)
    }

    /// Undoes [`Self::hide`].
    pub(super) async fn unhide(
        &self,
        remote: &dyn Remote,
        hidden: &RemotePath,
        entry: &Entry,
    ) -> Result<(), DriveError> {
        Ok(remote.rename(hidden, &self.content().join(&entry.name)).await?)
    }

    /// Removes for good what [`Self::hide`] took out of sight.
    pub(super) async fn discard(&self, remote: &dyn Remote, hidden: &RemotePath, node: &VaultNode) {
        if let VaultNode::Directory(id) = node {
            let content = content_path(&self.root, &self.cryptor, id);
            if self.strays_if_empty(remote, &content, id).await.is_ok() {
                discard_directory(remote, &content).await;
            }
        }
        match remote.stat(hidden).await {
            Ok(attributes) if attributes.kind == RemoteKind::Directory => {
                discard_directory(remote, hidden).await
            }
            _ => {
                let _ = remote.remove(hidden).await;
            }
        }
    }
}

/// A node that is built, under a temporary name.
struct PreparedNode {
    entry: Entry,
    target: RemotePath,
    temporary: RemotePath,
}

/// Makes a content directory, and the directory around it if it is the first in that.
async fn make_content(remote: &dyn Remote, content: &RemotePath, mode: u16) -> Result<(), RemoteError> {
    let Some((fan_out, _)) = content.split() else { return remote.mkdir(content, mode).await };
    // Both are asked for at once, in this order, and only the second answer is waited for: mostly the first is there already.
    let mut around = remote.mkdir(&fan_out, 0o755);
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

struct Identified {
    name: CleartextName,
    entry: Entry,
    /// For a conflicting copy: what the sync client added to the name.
    conflict: Option<String>,
    node: VaultNode,
    attributes: RemoteAttributes,
}

/// Writes a whole small new file and makes it durable.
pub(super) async fn write_small(
    remote: &dyn Remote,
    path: &RemotePath,
    content: &[u8],
) -> Result<(), RemoteError> {
    let file = remote.open(path, RemoteOpen::CreateNew(0o644)).await?;
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

/// Removes a directory of ours with the files in it, as far as that goes: what stays is debris under a temporary name.
pub(super) async fn discard_directory(remote: &dyn Remote, path: &RemotePath) {
    let Ok(entries) = remote.list(path).await else { return };
    let removals = entries.iter().map(|entry| {
        let path = path.join(&entry.name);
        async move {
            if entry.attributes.kind == RemoteKind::Directory {
                remote.rmdir(&path).await
            } else {
                remote.remove(&path).await
            }
        }
    });
    futures::future::join_all(removals).await;
    if let Err(error) = remote.rmdir(path).await {
        tracing::debug!(%error, "left a temporary directory behind");
    }
}

/// The names in a listing, for look-ups.
pub(super) type Names = HashMap<OsString, Found>;

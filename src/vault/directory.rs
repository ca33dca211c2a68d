//! The nodes of one directory of a vault: found by name, and listed.

use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::{CiphertextLen, CleartextName, Cryptor, DirectoryId, Listed, NameError};

use super::error::NodeError;
use super::format::{DIRECTORY_ID_MAX, LONG_NAME_MAX, content_path, part};
use super::node::{Entry, FoundNode, VaultNode};
use super::packed_nodes::VaultListing;
use super::temporary::{self, Fate};
use super::unfinished::Begun;
use super::unlocked::UnlockedVault;
use crate::remote::{
    NamesBudget, Remote, RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath,
};

/// Longest ciphertext of a symbolic link: 32,767 bytes of target, a header and an overhead of either combo.
pub(crate) const SYMLINK_FILE_MAX: usize = 33_000;
/// Most directories in one that are reported, to be listed ahead: a server can make up any number.
pub(crate) const BELOW_MAX: usize = 4096;
/// Nodes whose kind is looked up at the same time.
const PARALLEL: usize = 128;

/// One directory inside an unlocked vault.
#[derive(Clone)]
pub(crate) struct VaultDirectory {
    pub(crate) vault: Arc<UnlockedVault>,
    pub(crate) cryptor: Arc<Cryptor>,
    /// The vault's own directory.
    pub(crate) root: RemotePath,
    pub(crate) id: DirectoryId,
}

impl VaultDirectory {
    /// Returns the path of this directory's content on the server.
    pub(crate) fn content(&self) -> RemotePath {
        self.content_of(&self.id)
    }

    /// Returns a fresh temporary path for unfinished content in this directory.
    pub(crate) fn temporary(&self) -> Result<RemotePath, NodeError> {
        self.vault.unfinished.record(Begun::In(self.id.clone()));
        Ok(self.content().join(&temporary::name()?))
    }

    /// Returns a fresh temporary path for the node of a directory.
    pub(super) fn temporary_of(&self, id: &DirectoryId, fate: Fate) -> Result<RemotePath, NodeError> {
        self.vault.unfinished.record(Begun::In(self.id.clone()));
        Ok(self.content().join(&temporary::directory_name(id, fate)?))
    }

    /// Returns the vault's own directory.
    pub(crate) fn root_directory(&self) -> Self {
        Self { id: DirectoryId::root(), ..self.clone() }
    }

    /// Whether this is the vault's own directory.
    pub(crate) fn is_root(&self) -> bool {
        self.id == DirectoryId::root()
    }

    /// Returns the entry of a cleartext name, and the content of `name.c9s` if it is shortened.
    pub(crate) fn entry(&self, name: &CleartextName) -> Result<(Entry, Option<String>), NodeError> {
        let encrypted = self.cryptor.encrypt_name(name, &self.id);
        let entry = RemoteName::parse(encrypted.entry.as_bytes()).ok_or(RemoteError::NameTooLong)?;
        Ok((Entry::new(entry), encrypted.long_name))
    }

    /// Returns all nodes of this directory, unless there are more than `most`, conflicting copies under names of their
    /// own, and the debris seen on the way. Calls `met` with its directories as soon as these are known, before their
    /// attributes are.
    pub(crate) async fn list(
        &self,
        remote: &dyn Remote,
        (most, budget): (usize, &NamesBudget),
        met: impl FnOnce(Vec<Self>) + Send,
    ) -> Result<(VaultListing, Vec<RemoteName>), NodeError> {
        let entries = remote.list_packed(&self.content(), most, budget).await?;
        let debris = temporary::debris_in(&entries);
        let mut names = VaultListing::new(budget);
        let (mut others, mut held) = (Vec::new(), budget.nothing());
        let mut identified =
            stream::iter(entries.into_entries()).map(|entry| self.identify(remote, entry)).buffered(PARALLEL);
        while let Some(node) = identified.try_next().await? {
            let Some(node) = node else { continue };
            // Most nodes are files under their canonical names: nothing more has to be found out about them.
            if matches!(node.node, VaultNode::Directory(_)) || !self.is_canonical(&node) {
                held.grow(node.bytes()).map_err(RemoteError::from)?;
                others.push(node);
            } else {
                self.push(&mut names, node.name.as_str().into(), node)?;
            }
        }
        drop(identified);
        met(others.iter().filter_map(|node| self.below(&node.node)).take(BELOW_MAX).collect());
        let looked: Vec<Option<Identified>> =
            stream::iter(others.into_iter().map(|node| self.look_inside(remote, node, None)))
                .buffered(PARALLEL)
                .try_collect()
                .await?;
        Ok((self.name_all(names, looked.into_iter().flatten().collect())?, debris))
    }

    /// Whether a node lies under the entry that its name has in this directory.
    fn is_canonical(&self, node: &Identified) -> bool {
        node.conflict.is_none()
            && self.entry(&node.name).is_ok_and(|(entry, _)| entry.name == node.entry.name)
    }

    fn push(&self, names: &mut VaultListing, name: OsString, node: Identified) -> Result<(), NodeError> {
        let attributes = self.shown_attributes(&node.node, node.attributes);
        names.push(&name, &attributes, &node.entry, &node.node)
    }

    /// Returns the directory that a node of this one is; `None` if it is not a directory.
    pub(crate) fn below(&self, node: &VaultNode) -> Option<Self> {
        match node {
            VaultNode::Directory(id) => Some(Self { id: id.clone(), ..self.clone() }),
            _ => None,
        }
    }

    /// Finds one name: under its canonical entry if there is one, else among all nodes, since conflicting copies
    /// and names of foreign clients lie under other entries.
    ///
    /// The files inside the entry are requested at the same time, in case it is a directory, and so are the attributes
    /// of the directory that was `known` there.
    pub(crate) async fn lookup(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        known: Option<&DirectoryId>,
    ) -> Result<Option<FoundNode>, NodeError> {
        let (entry, _) = self.entry(name)?;
        let path = self.content().join(&entry.name);
        let known = async {
            let id = known?;
            Some((id, remote.stat(&self.content_of(id)).await))
        };
        let (attributes, inside, known) =
            futures::join!(remote.stat(&path), self.ask_inside(remote, &entry), known);
        match attributes {
            Ok(attributes) => {
                let inside = std::future::ready(inside);
                let node = self.resolve_with(remote, entry, name.clone(), attributes, inside).await?;
                let Some(node) = node else { return Ok(None) };
                let node = self.look_inside(remote, node, known).await?;
                Ok(node.map(|node| self.found(name.as_str().into(), node)))
            }
            Err(RemoteError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Decrypts the name of a listed entry and looks up its kind; `None` for an entry that is no node. It fails only if
    /// no reply came: a damaged entry never hides its neighbours, but a lost connection must not make a node look
    /// damaged or missing.
    async fn identify(
        &self,
        remote: &dyn Remote,
        entry: RemoteEntry,
    ) -> Result<Option<Identified>, RemoteError> {
        Ok(match self.cryptor.identify(entry.name.as_bytes(), &self.id) {
            // An entry without a name cannot be shown. It stays in place, and keeps its directory from being removed.
            Listed::NotAnEntry | Listed::Undecryptable => None,
            Listed::Name(name) => self.resolve(remote, entry, name).await?,
            Listed::Conflict { original, suffix } => {
                let identified = self.resolve(remote, entry, original).await?;
                identified.map(|identified| Identified { conflict: Some(suffix), ..identified })
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
            Ok(name) => self.resolve(remote, entry, name).await?,
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
                        let identified = self.resolve(remote, entry, name).await?;
                        identified.map(|identified| Identified { conflict: Some(suffix), ..identified })
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

    /// Looks up the kind of an entry (section 7): `dir.c9r` before `symlink.c9r` before `contents.c9r`. `None` if it
    /// has gone meanwhile.
    async fn resolve(
        &self,
        remote: &dyn Remote,
        entry: RemoteEntry,
        name: CleartextName,
    ) -> Result<Option<Identified>, RemoteError> {
        let RemoteEntry { name: entry_name, attributes } = entry;
        let entry = Entry::new(entry_name);
        let inside = self.ask_inside(remote, &entry);
        self.resolve_with(remote, entry.clone(), name, attributes, inside).await
    }

    /// Like [`Self::resolve`]; `inside` fetches the files inside if the entry is a directory on the server.
    async fn resolve_with(
        &self,
        remote: &dyn Remote,
        entry: Entry,
        name: CleartextName,
        attributes: RemoteAttributes,
        inside: impl Future<Output = Inside>,
    ) -> Result<Option<Identified>, RemoteError> {
        let (node, attributes) = match (attributes.kind, entry.shortened) {
            (RemoteKind::File, false) => (VaultNode::File, attributes),
            (RemoteKind::Directory, _) => inside.await.judge(attributes)?,
            _ => (VaultNode::Unknown("neither a file nor a directory on the server".to_owned()), attributes),
        };
        if matches!(node, VaultNode::Unknown(_)) && self.has_gone(remote, &entry).await? {
            return Ok(None);
        }
        Ok(Some(Identified { name, entry, conflict: None, node, attributes }))
    }

    /// Whether an entry that was there a moment ago is gone: an entry that seems damaged may have been moved or removed
    /// while it was looked at.
    async fn has_gone(&self, remote: &dyn Remote, entry: &Entry) -> Result<bool, RemoteError> {
        match remote.stat(&self.content().join(&entry.name)).await {
            Err(RemoteError::NotFound) => Ok(true),
            Err(error) if error.is_unanswered() => Err(error),
            _ => Ok(false),
        }
    }

    /// Requests at once all that tells the kind of an entry that is a directory on the server.
    async fn ask_inside(&self, remote: &dyn Remote, entry: &Entry) -> Inside {
        let path = self.content().join(&entry.name);
        let (directory_path, symlink_path, contents_path) =
            (path.join(&part("dir.c9r")), path.join(&part("symlink.c9r")), path.join(&part("contents.c9r")));
        let contents = async {
            if entry.shortened { remote.stat(&contents_path).await } else { Err(RemoteError::NotFound) }
        };
        let (id, symlink, contents) = futures::join!(
            remote.read_small(&directory_path, DIRECTORY_ID_MAX),
            remote.stat(&symlink_path),
            contents
        );
        Inside { id, symlink, contents }
    }

    /// Sets a directory's attributes to those of its content directory; the directory is broken without one. `None` if
    /// it has gone meanwhile. `known` holds attributes that were requested already.
    async fn look_inside(
        &self,
        remote: &dyn Remote,
        mut node: Identified,
        known: Option<(&DirectoryId, Result<RemoteAttributes, RemoteError>)>,
    ) -> Result<Option<Identified>, RemoteError> {
        let VaultNode::Directory(id) = &node.node else { return Ok(Some(node)) };
        let content = match known {
            Some((known, content)) if known == id => content,
            _ => remote.stat(&self.content_of(id)).await,
        };
        match content {
            Ok(content) if content.kind == RemoteKind::Directory => node.attributes = content,
            Err(error) if error.is_unanswered() => return Err(error),
            Err(RemoteError::NotFound) if self.has_gone(remote, &node.entry).await? => return Ok(None),
            content => {
                let why = match content {
                    Ok(_) => "its content is not a directory".to_owned(),
                    Err(RemoteError::NotFound) => "its content directory is missing".to_owned(),
                    Err(error) => format!("its content directory: {error}"),
                };
                node.node = VaultNode::BrokenDirectory(why);
            }
        }
        Ok(Some(node))
    }

    pub(super) fn content_of(&self, id: &DirectoryId) -> RemotePath {
        content_path(&self.root, &self.cryptor, id)
    }

    /// Gives every node a name of its own. Canonical entries keep theirs; a conflicting copy is named after its
    /// original, as Cryptomator would rename it (section 14), but nothing is renamed on the server.
    fn name_all(&self, mut names: VaultListing, nodes: Vec<Identified>) -> Result<VaultListing, NodeError> {
        let mut waiting = Vec::new();
        for node in nodes {
            if self.is_canonical(&node) {
                self.push(&mut names, node.name.as_str().into(), node)?;
            } else {
                waiting.push(node);
            }
        }
        names.records.sort();
        waiting.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        for node in waiting {
            let own: OsString = node.name.as_str().into();
            match names.get(&own) {
                None => names.beside.push(self.found(own, node)),
                // A sync client's second copy of the very same directory shows nothing new.
                Some(VaultNode::Directory(id)) if node.node == VaultNode::Directory(id.clone()) => {}
                Some(_) => {
                    let suffix = node.conflict.clone().unwrap_or_default();
                    let free = node
                        .name
                        .for_sync_copy(&suffix)
                        .map(|name| OsString::from(name.as_str()))
                        .take(10_000)
                        .find(|name| names.get(name).is_none());
                    if let Some(name) = free {
                        names.beside.push(self.found(name, node));
                    }
                }
            }
        }
        Ok(names)
    }

    fn found(&self, name: OsString, node: Identified) -> FoundNode {
        let Identified { entry, node, attributes, .. } = node;
        let attributes = self.shown_attributes(&node, attributes);
        FoundNode { name, attributes, entry, node }
    }

    /// Returns a node's attributes as the mount shows them: cleartext lengths, and the kind of the node.
    pub(super) fn shown_attributes(
        &self,
        node: &VaultNode,
        mut attributes: RemoteAttributes,
    ) -> RemoteAttributes {
        let combo = self.cryptor.config().cipher_combo;
        attributes.kind = match node {
            VaultNode::File | VaultNode::Unknown(_) => RemoteKind::File,
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => RemoteKind::Directory,
            VaultNode::Symlink => RemoteKind::Symlink,
        };
        attributes.size = match node {
            // An illegal length is shown as 0, and opening the file reports why.
            VaultNode::File | VaultNode::Symlink => {
                combo.cleartext_len(CiphertextLen(attributes.size)).unwrap_or_default().0
            }
            VaultNode::Unknown(_) => 0,
            VaultNode::Directory(_) | VaultNode::BrokenDirectory(_) => attributes.size,
        };
        if matches!(node, VaultNode::Symlink) {
            attributes.mode = 0o777;
        }
        attributes
    }

    /// Returns the target of a symbolic link, byte for byte.
    pub(crate) async fn read_symlink(
        &self,
        remote: &dyn Remote,
        entry: &Entry,
    ) -> Result<Vec<u8>, NodeError> {
        let path = self.symlink_path(entry);
        let stored = remote.read_small(&path, SYMLINK_FILE_MAX).await.map_err(|error| match error {
            RemoteError::TooLong { .. } => NodeError::damaged("the link's target is too long"),
            error => error.into(),
        })?;
        let target = self.cryptor.decrypt_small(&stored).map_err(NodeError::damaged)?;
        // readlink(2) can't return more, nor an empty target.
        if target.is_empty() || target.len() >= 4096 {
            return Err(NodeError::damaged("the link's target is empty or longer than a path can be"));
        }
        Ok(target)
    }

    /// Returns the path of the target of a symbolic link.
    pub(crate) fn symlink_path(&self, entry: &Entry) -> RemotePath {
        self.content().join(&entry.name).join(&part("symlink.c9r"))
    }

    /// Returns the path of the bytes of a regular file.
    pub(crate) fn file_path(&self, entry: &Entry) -> RemotePath {
        let path = self.content().join(&entry.name);
        if entry.shortened { path.join(&part("contents.c9r")) } else { path }
    }
}

/// The files in an entry that is a directory on the server.
struct Inside {
    /// `dir.c9r`.
    id: Result<Bytes, RemoteError>,
    /// `symlink.c9r`.
    symlink: Result<RemoteAttributes, RemoteError>,
    /// `contents.c9r`, for a shortened name.
    contents: Result<RemoteAttributes, RemoteError>,
}

impl Inside {
    /// Returns the node that an entry with these files is; `attributes` are the entry's own.
    fn judge(self, attributes: RemoteAttributes) -> Result<(VaultNode, RemoteAttributes), RemoteError> {
        let Self { id, symlink, contents } = self;
        Ok(match (id, symlink, contents) {
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) if error.is_unanswered() => {
                return Err(error);
            }
            (Ok(id), ..) => match DirectoryId::parse(&id) {
                Ok(id) => (VaultNode::Directory(id), attributes),
                Err(error) => (VaultNode::BrokenDirectory(format!("dir.c9r: {error}")), attributes),
            },
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
}

impl Identified {
    /// Returns about how many bytes it takes.
    fn bytes(&self) -> u64 {
        let words = match &self.node {
            VaultNode::Directory(id) => id.as_bytes().len(),
            VaultNode::BrokenDirectory(why) | VaultNode::Unknown(why) => why.len(),
            VaultNode::File | VaultNode::Symlink => 0,
        };
        let text = self.name.as_str().len() + self.entry.name.as_bytes().len() + words;
        (2 * size_of::<Self>() + text) as u64
    }
}

struct Identified {
    name: CleartextName,
    entry: Entry,
    /// For a conflicting copy: the suffix that the sync client added to the name.
    conflict: Option<String>,
    node: VaultNode,
    attributes: RemoteAttributes,
}

//! The nodes of one directory of a vault: found by name, and listed.

use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::{CiphertextLen, CleartextName, Cryptor, DirectoryId, NameError, addition_of};
use sha2::{Digest, Sha256};

use super::entry_kinds::{ContentEntry, Stray};
use super::error::NodeError;
use super::format::{DIRECTORY_ID_MAX, content_path, part};
use super::inside::{Inside, NodeInside, nodes_inside, read_long_name};
use super::known_names::NamedAt;
use super::node::{Entry, FoundNode, NodePart, VaultNode};
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
pub(crate) const BELOW_MAX: usize = 16 * 1024;
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

    /// Returns the name of the entry that a cleartext name has, and the content of `name.c9s` if it is shortened.
    pub(crate) fn entry_name(&self, name: &CleartextName) -> Result<(RemoteName, Option<String>), NodeError> {
        let encrypted = self.cryptor.encrypt_name(name, &self.id);
        let entry = RemoteName::parse(encrypted.entry.as_bytes()).ok_or(RemoteError::NameTooLong)?;
        Ok((entry, encrypted.long_name))
    }

    /// Returns where a file of that name lies, and the content of `name.c9s` if the name is shortened.
    pub(crate) fn file_entry(&self, name: &CleartextName) -> Result<(Entry, Option<String>), NodeError> {
        let (entry, long_name) = self.entry_name(name)?;
        let entry = match &long_name {
            Some(_) => Entry::inside(entry, NodePart::Contents),
            None => Entry::whole(entry),
        };
        Ok((entry, long_name))
    }

    /// Returns where a node lies: the file that holds a file's content, a link's target, or a directory's id.
    pub(crate) fn path_of(&self, entry: &Entry) -> RemotePath {
        entry.path_in(&self.content())
    }

    /// Returns all nodes of this directory, unless there are more than `most`, conflicting copies under names of their
    /// own, and the debris seen on the way. Calls `met` with its directories as soon as these are known, before their
    /// attributes are.
    pub(crate) async fn list(
        &self,
        remote: &dyn Remote,
        (most, budget): (usize, &NamesBudget),
        met: impl FnOnce(Vec<(OsString, Self)>) + Send,
    ) -> Result<(VaultListing, Vec<RemoteName>), NodeError> {
        let entries = remote.list_packed(&self.content(), most, budget).await?;
        let debris = temporary::debris_in(&entries);
        let mut names = VaultListing::new(budget);
        let (mut others, mut held) = (Vec::new(), budget.nothing());
        let mut identified =
            stream::iter(entries.into_entries()).map(|entry| self.identify(remote, entry)).buffered(PARALLEL);
        while let Some(found) = identified.try_next().await? {
            names.undecided.unshown += usize::from(found.holds_unshown);
            names.undecided.unnamed += usize::from(found.is_unnamed);
            for node in found.nodes {
                // Most nodes are files under their canonical names: nothing more has to be found out about them.
                if matches!(node.node, VaultNode::Directory(_)) || !self.is_canonical(&node) {
                    held.grow(node.bytes()).map_err(RemoteError::from)?;
                    others.push(node);
                } else {
                    self.push(&mut names, node.name.as_str().into(), node)?;
                }
            }
        }
        drop(identified);
        let below =
            others.iter().filter_map(|node| Some((node.name.as_str().into(), self.below(&node.node)?)));
        met(below.take(BELOW_MAX).collect());
        let looked: Vec<Option<Identified>> =
            stream::iter(others.into_iter().map(|node| self.look_at_content(remote, node, None)))
                .buffered(PARALLEL)
                .try_collect()
                .await?;
        let nodes: Vec<Identified> = looked.into_iter().flatten().collect();
        let looks: Vec<_> = nodes.iter().map(|node| self.has_other_name(remote, node)).collect();
        let twins: Vec<bool> = stream::iter(looks).buffered(PARALLEL).try_collect().await?;
        names.undecided.twins = twins.into_iter().filter(|is_twin| *is_twin).count();
        Ok((self.name_all(names, nodes)?, debris))
    }

    /// Whether a node is a directory that has another name besides.
    async fn has_other_name(&self, remote: &dyn Remote, node: &Identified) -> Result<bool, NodeError> {
        let VaultNode::Directory(id) = &node.node else { return Ok(false) };
        for other in self.vault.known_names.record(id, (self.id.clone(), node.entry.clone())) {
            if self.is_named(remote, id, &other).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether one of these directories of the vault has more than one name.
    pub(crate) async fn have_several_names(
        &self,
        remote: &dyn Remote,
        ids: &[DirectoryId],
    ) -> Result<bool, NodeError> {
        for id in ids {
            let mut names = 0;
            for at in self.vault.known_names.of_several(id) {
                names += usize::from(self.is_named(remote, id, &at).await?);
            }
            if names > 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a directory still has a name that it had.
    pub(super) async fn is_named(
        &self,
        remote: &dyn Remote,
        id: &DirectoryId,
        at: &NamedAt,
    ) -> Result<bool, NodeError> {
        let around = Self { id: at.0.clone(), ..self.clone() };
        let is_named = around.id_of(remote, &at.1).await?.as_ref() == Some(id);
        if !is_named {
            self.vault.known_names.forget(id, at);
        }
        Ok(is_named)
    }

    /// Whether a node lies under the entry that its name has in this directory.
    fn is_canonical(&self, node: &Identified) -> bool {
        node.addition.is_none()
            && self.entry_name(&node.name).is_ok_and(|(entry, _)| entry == node.entry.name)
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

    /// Finds one name under its canonical entry. All that is shown under a name of its own (sync clients' copies, names
    /// of foreign clients) is only found by [`Self::list`].
    ///
    /// The files inside the entry are requested at the same time, in case it is a directory, and so are the attributes
    /// of the directory that was `known` there.
    pub(crate) async fn lookup(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        known: Option<&DirectoryId>,
    ) -> Result<Option<FoundNode>, NodeError> {
        let (entry, long_name) = self.entry_name(name)?;
        let path = self.content().join(&entry);
        let known = async {
            let id = known?;
            Some((id, remote.stat(&self.content_of(id)).await))
        };
        let (attributes, inside, known) =
            futures::join!(remote.stat(&path), Known::ask(remote, &path, long_name.is_some()), known);
        let attributes = match attributes {
            Ok(attributes) => attributes,
            Err(RemoteError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (entry, node, attributes) = match (attributes.kind, long_name.is_some()) {
            (RemoteKind::File, false) => (Entry::whole(entry), VaultNode::File, attributes),
            (RemoteKind::Directory, _) => match inside.judge(attributes)? {
                Some((of, node, attributes)) => (Entry::inside(entry, of), node, attributes),
                None => return Ok(None),
            },
            _ => match self.unknown(remote, entry).await? {
                Some((entry, node)) => (entry, node, attributes),
                None => return Ok(None),
            },
        };
        let node = Identified { name: name.clone(), entry, addition: None, node, attributes };
        let node = self.look_at_content(remote, node, known).await?;
        Ok(node.map(|node| self.found(name.as_str().into(), node)))
    }

    /// Returns the nodes of a listed entry. It fails only if no reply came: a damaged entry never hides its neighbours,
    /// but a lost connection must not make a node look damaged or missing.
    async fn identify(&self, remote: &dyn Remote, entry: RemoteEntry) -> Result<Nodes, RemoteError> {
        let RemoteEntry { name: entry, attributes } = entry;
        let path = self.content().join(&entry);
        let named = match ContentEntry::of(&self.cryptor, entry.as_bytes(), &self.id) {
            ContentEntry::Stray(stray) => return Ok(Nodes::none(stray == Stray::Unknown)),
            // An entry without a name cannot be shown. It stays in place, and keeps its directory from being removed.
            ContentEntry::Undecryptable => return Ok(Nodes::none(true)),
            ContentEntry::Shortened if attributes.kind != RemoteKind::Directory => {
                return Ok(Nodes::none(true));
            }
            ContentEntry::Shortened => None,
            ContentEntry::Named { name, addition } => Some((name, addition)),
        };
        let mut is_unnamed = false;
        let (name, addition, inside) = match named {
            Some((name, addition)) if attributes.kind != RemoteKind::Directory => {
                let (entry, node) = if attributes.kind == RemoteKind::File {
                    (Entry::whole(entry), VaultNode::File)
                } else {
                    let Some(found) = self.unknown(remote, entry).await? else {
                        return Ok(Nodes::none(false));
                    };
                    found
                };
                let nodes = vec![Identified { name, entry, addition, node, attributes }];
                return Ok(Nodes { nodes, ..Nodes::none(false) });
            }
            Some((name, addition)) => (name, addition, Inside::read(remote, &path, false).await),
            None => {
                let inside = Inside::read(remote, &path, true).await;
                let long_name = read_long_name(remote, &path, &inside).await?;
                let named =
                    long_name.and_then(|name| long_name_of(&self.cryptor, &self.id, &entry, &name).ok());
                is_unnamed = named.is_none();
                let (name, addition) = named.unwrap_or_else(|| (stand_in(&entry), None));
                (name, addition, inside)
            }
        };
        let holds_unshown = inside.holds_unshown();
        let nodes = nodes_inside(remote, (&path, &entry), attributes, inside).await?;
        let nodes = nodes.into_iter().map(|NodeInside { entry, addition: added, node, attributes }| {
            // What tells the parts of one node apart says more than what the entry around them is called.
            let addition = added.filter(|added| !added.is_empty() || addition.is_none()).or(addition.clone());
            Identified { name: name.clone(), entry, addition, node, attributes }
        });
        let nodes: Vec<Identified> = nodes.collect();
        Ok(Nodes { is_unnamed: is_unnamed && !nodes.is_empty(), nodes, holds_unshown })
    }

    /// Returns what is neither a file nor a directory on the server as a node; `None` if it has gone meanwhile: it may
    /// have been moved or removed while it was looked at.
    async fn unknown(
        &self,
        remote: &dyn Remote,
        entry: RemoteName,
    ) -> Result<Option<(Entry, VaultNode)>, RemoteError> {
        let entry = Entry::whole(entry);
        let node = VaultNode::Unknown("neither a file nor a directory on the server".to_owned());
        Ok((!self.has_gone(remote, &entry).await?).then_some((entry, node)))
    }

    /// Whether a node that was there a moment ago is gone.
    async fn has_gone(&self, remote: &dyn Remote, entry: &Entry) -> Result<bool, RemoteError> {
        match remote.stat(&self.path_of(entry)).await {
            Err(RemoteError::NotFound) => Ok(true),
            Err(error) if error.is_unanswered() => Err(error),
            _ => Ok(false),
        }
    }

    /// Sets a directory's attributes to those of its content directory; the directory is broken without one. `None` if
    /// it has gone meanwhile. `known` holds attributes that were requested already.
    async fn look_at_content(
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

    /// Gives every node a name of its own. Canonical entries keep theirs. All others are named after themselves alone,
    /// not after what lies beside them, so that a name stays that node's when a neighbour goes; nothing is renamed on
    /// the server.
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
        // The parts of one entry are in their order already.
        waiting.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        for node in waiting {
            names.undecided.copies += usize::from(node.addition.is_some());
            let addition = node.addition.as_deref().unwrap_or_default();
            let preferred = node.name.with_addition(addition);
            let others = [MARK_LEN, 2 * MARK_LEN, 4 * MARK_LEN]
                .map(|len| node.name.with_addition(&format!("{addition} ({})", mark(&node.entry, len))));
            let mut tried =
                std::iter::once(preferred).chain(others).map(|name| OsString::from(name.as_str()));
            if let Some(name) = tried.find(|name| names.get(name).is_none()) {
                names.beside.push(self.found(name, node));
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
        let path = self.path_of(entry);
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
}

/// What tells which node lies under a canonical entry, if that is a directory on the server.
struct Known {
    /// `dir.c9r`.
    id: Result<Bytes, RemoteError>,
    /// `symlink.c9r`.
    symlink: Result<RemoteAttributes, RemoteError>,
    /// For a shortened name: `contents.c9r`, and `name.c9s`.
    shortened: Option<(Result<RemoteAttributes, RemoteError>, Result<RemoteAttributes, RemoteError>)>,
}

impl Known {
    /// Requests it all at once.
    async fn ask(remote: &dyn Remote, path: &RemotePath, is_shortened: bool) -> Self {
        let inside = |name| path.join(&part(name));
        let (id, symlink) = (inside("dir.c9r"), inside("symlink.c9r"));
        let shortened = async {
            if !is_shortened {
                return None;
            }
            let (contents, name) = (inside("contents.c9r"), inside("name.c9s"));
            Some(futures::join!(remote.stat(&contents), remote.stat(&name)))
        };
        let (id, symlink, shortened) =
            futures::join!(remote.read_small(&id, DIRECTORY_ID_MAX), remote.stat(&symlink), shortened);
        Self { id, symlink, shortened }
    }

    /// Returns the node that has the entry's name, if one has it: a shortened name has to be told by `name.c9s`.
    /// `attributes` are the entry's own.
    fn judge(
        self,
        attributes: RemoteAttributes,
    ) -> Result<Option<(NodePart, VaultNode, RemoteAttributes)>, RemoteError> {
        let Self { id, symlink, shortened } = self;
        let contents = match shortened {
            None => Err(RemoteError::NotFound),
            Some((_, Err(error))) if error.is_unanswered() => return Err(error),
            Some((_, Err(_))) => return Ok(None),
            Some((contents, Ok(_))) => contents,
        };
        let is_file = |there: &RemoteAttributes| there.kind == RemoteKind::File;
        Ok(match (id, symlink, contents) {
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) if error.is_unanswered() => {
                return Err(error);
            }
            (Ok(id), ..) => Some(match DirectoryId::parse(&id) {
                Ok(id) => (NodePart::Directory, VaultNode::Directory(id), attributes),
                Err(error) => {
                    let node = VaultNode::BrokenDirectory(format!("dir.c9r: {error}"));
                    (NodePart::Directory, node, attributes)
                }
            }),
            (Err(RemoteError::NotFound), Ok(link), _) if is_file(&link) => {
                Some((NodePart::Symlink, VaultNode::Symlink, link))
            }
            (Err(RemoteError::NotFound), Err(RemoteError::NotFound), Ok(contents)) if is_file(&contents) => {
                Some((NodePart::Contents, VaultNode::File, contents))
            }
            (Err(RemoteError::NotFound), ..) => None,
            (Err(error), ..) => {
                let node = VaultNode::BrokenDirectory(format!("dir.c9r: {error}"));
                Some((NodePart::Directory, node, attributes))
            }
        })
    }
}

/// Returns the name of a shortened entry of the directory `parent`, and what a sync client added to the entry;
/// `long_name` is the content of `name.c9s`.
///
/// # Errors
///
/// [`NameError::HashMismatch`] if that holds the name of another entry, and what [`Cryptor::decrypt_name`] says.
pub(crate) fn long_name_of(
    cryptor: &Cryptor,
    parent: &DirectoryId,
    entry: &RemoteName,
    long_name: &[u8],
) -> Result<(CleartextName, Option<String>), NameError> {
    let addition_to = |name: &CleartextName| {
        let canonical = cryptor.encrypt_name(name, parent).entry;
        let text = std::str::from_utf8(entry.as_bytes()).ok()?;
        let (before, behind) = text.split_once(canonical.strip_suffix(".c9s")?)?;
        Some(addition_of(before, behind, ".c9s"))
    };
    match cryptor.expand_shortened(entry.as_bytes(), long_name, parent) {
        Ok(name) => Ok((name, None)),
        Err(NameError::HashMismatch { name }) => match addition_to(&name) {
            Some(addition) => Ok((name, Some(addition))),
            None => Err(NameError::HashMismatch { name }),
        },
        Err(error) => Err(error),
    }
}

/// Returns the name that stands in for one that is lost: the same for an entry and for all copies of it.
pub(crate) fn stand_in(entry: &RemoteName) -> CleartextName {
    const LEN: usize = 8;
    let letters = entry.as_bytes().iter().take(LEN);
    let letters = letters.map(|&byte| if byte.is_ascii_graphic() { byte as char } else { '_' });
    let name = format!("unnamed {}", letters.collect::<String>());
    CleartextName::parse(name.as_bytes()).unwrap_or_else(|_| unreachable!("letters and a space are a name"))
}

/// Characters that tell an entry from others, unless they are the same for two.
pub(crate) const MARK_LEN: usize = 4;

/// Returns `len` characters that tell an entry from others.
pub(crate) fn mark(entry: &Entry, len: usize) -> String {
    let part = entry.part.as_ref().map_or(&b""[..], RemoteName::as_bytes);
    let digest = Sha256::digest([entry.name.as_bytes(), part].join(&b'/'));
    let mark = HEXLOWER.encode(&digest);
    mark.get(..len).unwrap_or_default().to_owned()
}

/// The nodes of one entry.
struct Nodes {
    nodes: Vec<Identified>,
    /// Whether something lies there that may be somebody's and is not shown.
    holds_unshown: bool,
    /// Whether their name is lost.
    is_unnamed: bool,
}

impl Nodes {
    fn none(holds_unshown: bool) -> Self {
        Self { nodes: Vec::new(), holds_unshown, is_unnamed: false }
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
    /// What is added to the name if the node does not have it itself: what a sync client added, or nothing.
    addition: Option<String>,
    node: VaultNode,
    attributes: RemoteAttributes,
}

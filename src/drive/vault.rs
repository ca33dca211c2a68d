//! Places inside vaults: how cleartext names and directories lie among the encrypted ones.
//!
//! A vault's directories are flat: each has an id, and its content lies in `d/AA/BBB…`, a path made from that id
//! (`vault-format` section 4). In it, a *node* is a file `X.c9r`, or a directory `X.c9r` or `H.c9s` that holds
//! what the node is: `dir.c9r` (a directory's id), `symlink.c9r`, or in the shortened form `contents.c9r` and the long
//! name `name.c9s` (sections 6 and 7).

mod changes;

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::{CleartextName, Cryptor, DirectoryId, Listed, NameError};

use super::error::DriveError;
use super::found::{Found, Place};
use super::marker_files::MarkerFiles;
use super::names::{Names, VaultNames};
use super::temporary;
use crate::remote::{
    NamesBudget, Remote, RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath,
};

pub(super) use changes::{HiddenNode, discard_directory, write_small};

/// Longest `dir.c9r` (cryptofs loads at most this), bytes.
pub(crate) const DIRECTORY_ID_MAX: usize = 1000;
/// Longest `name.c9s`, bytes.
pub(crate) const LONG_NAME_MAX: usize = 10_240;
/// Longest ciphertext of a symbolic link: 32,767 bytes of target, a header and an overhead of either combo.
const SYMLINK_FILE_MAX: usize = 33_000;
/// Directories in one that are told of, to be listed ahead: a server can make up any number.
pub(super) const BELOW_MAX: usize = 4096;
/// Nodes whose kind is looked up at the same time.
const PARALLEL: usize = 128;

/// An unlocked vault. Its keys go when it is locked, whoever still holds the value.
pub(super) struct UnlockedVault {
    cryptor: RwLock<Option<Arc<Cryptor>>>,
    /// How the files that it was unlocked with looked, when that was last known.
    marker_files: Mutex<Option<MarkerFiles>>,
}

impl UnlockedVault {
    pub(super) fn new(cryptor: Cryptor) -> Arc<Self> {
        Arc::new(Self { cryptor: RwLock::new(Some(Arc::new(cryptor))), marker_files: Mutex::default() })
    }

    pub(super) fn marker_files(&self) -> Option<MarkerFiles> {
        *self.marker_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_marker_files(&self, looked: MarkerFiles) {
        *self.marker_files.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked);
    }

    /// The vault's keys, while it is unlocked.
    pub(super) fn cryptor(&self) -> Result<Arc<Cryptor>, DriveError> {
        self.cryptor.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(DriveError::Locked)
    }

    /// Lets go of the keys. Requests under way keep them to their end, which the result tells.
    pub(super) fn forget_keys(&self) -> Weak<Cryptor> {
        let cryptor = self.cryptor.write().unwrap_or_else(PoisonError::into_inner).take();
        cryptor.map(|cryptor| Arc::downgrade(&cryptor)).unwrap_or_default()
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
    pub(super) fn new(name: RemoteName) -> Self {
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
        self.content_of(&self.id)
    }

    /// The entry of a cleartext name, and what `name.c9s` has to hold if it is shortened.
    pub(super) fn entry(&self, name: &CleartextName) -> Result<(Entry, Option<String>), DriveError> {
        let encrypted = self.cryptor.encrypt_name(name, &self.id);
        let entry = RemoteName::parse(encrypted.entry.as_bytes()).ok_or(DriveError::NameTooLong)?;
        Ok((Entry::new(entry), encrypted.long_name))
    }

    /// All nodes of this directory, unless there are more than `most`, conflicting copies under names of their own, and the debris seen on the
    /// way. Which directories it has `met` is told as soon as that is known, before it is known how they look.
    pub(super) async fn list(
        &self,
        remote: &dyn Remote,
        (most, budget): (usize, &NamesBudget),
        met: impl FnOnce(Vec<Self>) + Send,
    ) -> Result<(Names, Vec<RemoteName>), DriveError> {
        let entries = remote.list_packed(&self.content(), most, budget).await?;
        let debris = temporary::debris_in(&entries);
        let mut names = VaultNames::new(budget, Arc::clone(&self.vault));
        let (mut others, mut held) = (Vec::new(), budget.nothing());
        let mut identified =
            stream::iter(entries.into_entries()).map(|entry| self.identify(remote, entry)).buffered(PARALLEL);
        while let Some(node) = identified.try_next().await? {
            let Some(node) = node else { continue };
            // Most nodes are files under the names that they should have: of them nothing more has to be found out.
            if matches!(node.node, VaultNode::Directory(_)) || !self.is_canonical(&node) {
                held.grow(node.bytes()).map_err(RemoteError::from)?;
                others.push(node);
            } else {
                self.push(&mut names, node.name.as_str().into(), node)?;
            }
        }
        drop(identified);
        met(others.iter().filter_map(|node| self.below(&node.node)).take(BELOW_MAX).collect());
        let looked: Vec<Identified> =
            stream::iter(others.into_iter().map(|node| self.look_inside(remote, node, None)))
                .buffered(PARALLEL)
                .try_collect()
                .await?;
        Ok((self.name_all(names, looked)?, debris))
    }

    /// Whether a node lies under the entry that its name has in this directory.
    fn is_canonical(&self, node: &Identified) -> bool {
        node.conflict.is_none()
            && self.entry(&node.name).is_ok_and(|(entry, _)| entry.name == node.entry.name)
    }

    fn push(&self, names: &mut VaultNames, name: OsString, node: Identified) -> Result<(), DriveError> {
        let attributes = self.shown_attributes(&node.node, node.attributes);
        names.push(&name, &attributes, &node.entry, &node.node)
    }

    /// The directory that a node of this one is; `None` if it is none.
    pub(super) fn below(&self, node: &VaultNode) -> Option<Self> {
        match node {
            VaultNode::Directory(id) => Some(Self { id: id.clone(), ..self.clone() }),
            _ => None,
        }
    }

    /// Finds one name: under its canonical entry if there is one, else among all nodes, since conflicting copies
    /// and names of foreign clients lie under other entries.
    ///
    /// What lies in it is asked for at the same time, in case it is a directory, and how the directory looks that was `known` there.
    pub(super) async fn lookup(
        &self,
        remote: &dyn Remote,
        name: &CleartextName,
        known: Option<&DirectoryId>,
    ) -> Result<Option<Found>, DriveError> {
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
                let node = Self::resolve_with(entry, name.clone(), attributes, inside).await?;
                let node = self.look_inside(remote, node, known).await?;
                Ok(Some(self.found(name.as_str().into(), node)))
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
        let inside = self.ask_inside(remote, &entry);
        Self::resolve_with(entry.clone(), name, attributes, inside).await
    }

    /// The same, with a way to learn what lies inside if it is a directory on the server.
    async fn resolve_with(
        entry: Entry,
        name: CleartextName,
        attributes: RemoteAttributes,
        inside: impl Future<Output = Inside>,
    ) -> Result<Identified, RemoteError> {
        let (node, attributes) = match (attributes.kind, entry.shortened) {
            (RemoteKind::File, false) => (VaultNode::File, attributes),
            (RemoteKind::Directory, _) => inside.await.judge(attributes)?,
            _ => (VaultNode::Unknown("neither a file nor a directory on the server".to_owned()), attributes),
        };
        Ok(Identified { name, entry, conflict: None, node, attributes })
    }

    /// Asks all at once what tells what an entry is that is a directory on the server.
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

    /// A directory looks as the directory with its content does, and is broken without one. `known` is how one looks that was asked for
    /// already.
    async fn look_inside(
        &self,
        remote: &dyn Remote,
        mut node: Identified,
        known: Option<(&DirectoryId, Result<RemoteAttributes, RemoteError>)>,
    ) -> Result<Identified, RemoteError> {
        let VaultNode::Directory(id) = &node.node else { return Ok(node) };
        let content = match known {
            Some((known, content)) if known == id => content,
            _ => remote.stat(&self.content_of(id)).await,
        };
        match content {
            Ok(content) if content.kind == RemoteKind::Directory => node.attributes = content,
            Err(error) if error.is_unanswered() => return Err(error),
            content => {
                let why = match content {
                    Ok(_) => "its content is no directory".to_owned(),
                    Err(RemoteError::NotFound) => "its content directory is missing".to_owned(),
                    Err(error) => format!("its content directory: {error}"),
                };
                node.node = VaultNode::BrokenDirectory(why);
            }
        }
        Ok(node)
    }

    fn content_of(&self, id: &DirectoryId) -> RemotePath {
        content_path(&self.root, &self.cryptor, id)
    }

    /// Gives every node a name of its own. Canonical entries keep theirs; a conflicting copy is named after its
    /// original, as Cryptomator would rename it (section 14), but nothing is renamed on the server.
    fn name_all(&self, mut names: VaultNames, nodes: Vec<Identified>) -> Result<Names, DriveError> {
        let mut waiting = Vec::new();
        for node in nodes {
            if self.is_canonical(&node) {
                self.push(&mut names, node.name.as_str().into(), node)?;
            } else {
                waiting.push(node);
            }
        }
        let mut names = names.done();
        waiting.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        for node in waiting {
            let own: OsString = node.name.as_str().into();
            match names.get(&own).map(|found| found.place) {
                None => names.insert(self.found(own, node)),
                // A sync client's second copy of the very same directory shows nothing new.
                Some(Place::Vault { node: VaultNode::Directory(id), .. })
                    if node.node == VaultNode::Directory(id.clone()) => {}
                Some(_) => {
                    let suffix = node.conflict.clone().unwrap_or_default();
                    let free = self
                        .cryptor
                        .conflict_names(&node.name, &suffix)
                        .map(|name| OsString::from(name.as_str()))
                        .take(10_000)
                        .find(|name| !names.contains(name));
                    if let Some(name) = free {
                        names.insert(self.found(name, node));
                    }
                }
            }
        }
        Ok(names)
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

    /// Where the target of a symbolic link lies.
    pub(super) fn symlink_path(&self, entry: &Entry) -> RemotePath {
        self.content().join(&entry.name).join(&part("symlink.c9r"))
    }

    /// Where the bytes of a regular file lie.
    pub(super) fn file_path(&self, entry: &Entry) -> RemotePath {
        let path = self.content().join(&entry.name);
        if entry.shortened { path.join(&part("contents.c9r")) } else { path }
    }
}

/// What lies in an entry that is a directory on the server.
struct Inside {
    /// `dir.c9r`.
    id: Result<Bytes, RemoteError>,
    /// `symlink.c9r`.
    symlink: Result<RemoteAttributes, RemoteError>,
    /// `contents.c9r`, for a shortened name.
    contents: Result<RemoteAttributes, RemoteError>,
}

impl Inside {
    /// What an entry with this inside it is; `attributes` are its own.
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
    /// About what it takes.
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
    /// For a conflicting copy: what the sync client added to the name.
    conflict: Option<String>,
    node: VaultNode,
    attributes: RemoteAttributes,
}

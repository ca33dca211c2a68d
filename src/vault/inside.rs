//! Reads the directory of a node, and says which nodes lie in it.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::DirectoryId;

use super::entry_kinds::InsideEntry;
use super::format::{DIRECTORY_ID_MAX, LONG_NAME_MAX, part};
use super::node::{Entry, NodePart, VaultNode};
use crate::remote::{Remote, RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath};

/// Most entries in the directory of a node: one with more is damaged.
const ENTRIES_MAX: usize = 1000;
/// Parts of one node whose content is read at the same time.
const PARALLEL: usize = 8;

/// What lies in the directory of a node, as far as the server returned it.
pub(crate) struct Inside {
    /// Its entries.
    pub(crate) entries: Result<Vec<RemoteEntry>, RemoteError>,
    /// The content of `dir.c9r`.
    pub(crate) id: Result<Bytes, RemoteError>,
    /// The content of `name.c9s`; not asked for if the name is not shortened.
    pub(crate) long_name: Result<Bytes, RemoteError>,
}

impl Inside {
    /// Lists the directory `path` of a node and reads its small files, all at once.
    pub(crate) async fn read(remote: &dyn Remote, path: &RemotePath, is_shortened: bool) -> Self {
        let (id_path, long_name_path) = (path.join(&part("dir.c9r")), path.join(&part("name.c9s")));
        let entries = async {
            let listing = remote.list_packed(path, ENTRIES_MAX, remote.names_budget()).await?;
            Ok(listing.into_entries().collect())
        };
        let long_name = async {
            if is_shortened {
                remote.read_small(&long_name_path, LONG_NAME_MAX).await
            } else {
                Err(RemoteError::NotFound)
            }
        };
        let (entries, id, long_name) =
            futures::join!(entries, remote.read_small(&id_path, DIRECTORY_ID_MAX), long_name);
        Self { entries, id, long_name }
    }

    /// Returns the parts of the node, and the copies of them that sync clients made: the one that has the node's name
    /// first (section 7), and then in an order that does not depend on the server.
    pub(crate) fn parts(&self) -> Vec<PartFound> {
        let entries = self.entries.as_deref().unwrap_or_default();
        let files = entries.iter().filter(|entry| entry.attributes.kind == RemoteKind::File);
        let mut parts: Vec<PartFound> = files
            .filter_map(|entry| {
                let (of, addition) = match InsideEntry::of(entry.name.as_bytes()) {
                    InsideEntry::Part(of) => (of, None),
                    InsideEntry::Copy(of, addition) => (of, Some(addition)),
                    InsideEntry::LongName | InsideEntry::Stray(_) => return None,
                };
                Some(PartFound { of, addition, name: entry.name.clone(), attributes: entry.attributes })
            })
            .collect();
        parts.sort_by(|a, b| {
            (a.addition.is_some(), a.of, &a.name).cmp(&(b.addition.is_some(), b.of, &b.name))
        });
        // Only one part has the name: the next ones are shown beside it like copies.
        parts
            .iter_mut()
            .skip(1)
            .for_each(|part| part.addition = Some(part.addition.take().unwrap_or_default()));
        parts
    }

    /// Returns the names of all entries if nobody can want any of them; `None` if somebody may, or if that is not
    /// known.
    pub(super) fn unwanted(&self) -> Option<Vec<RemoteName>> {
        let entries = self.entries.as_ref().ok()?;
        let is_wanted = |entry: &RemoteEntry| {
            entry.attributes.kind == RemoteKind::Directory
                || InsideEntry::of(entry.name.as_bytes()).is_kept(entry.name.as_bytes())
        };
        (!entries.iter().any(is_wanted)).then(|| entries.iter().map(|entry| entry.name.clone()).collect())
    }

    /// Returns whether the node has to stay because of something in it that is shown nowhere.
    pub(crate) fn holds_unshown(&self) -> bool {
        self.entries.as_deref().unwrap_or_default().iter().any(|entry| {
            let kind = InsideEntry::of(entry.name.as_bytes());
            let is_shown = matches!(kind, InsideEntry::Part(_) | InsideEntry::Copy(..))
                && entry.attributes.kind == RemoteKind::File;
            !is_shown && kind.is_kept(entry.name.as_bytes())
        })
    }

    /// Returns the names of the copies of `name.c9s`.
    fn long_name_copies(&self) -> impl Iterator<Item = &RemoteName> {
        let entries = self.entries.as_deref().unwrap_or_default().iter().map(|entry| &entry.name);
        entries.filter(|name| {
            InsideEntry::of(name.as_bytes()) == InsideEntry::LongName && name.as_bytes() != b"name.c9s"
        })
    }
}

/// One part of a node, or a sync client's copy of one.
pub(crate) struct PartFound {
    pub(crate) of: NodePart,
    /// What is added to the name of the node; `None` if this part has the name.
    pub(crate) addition: Option<String>,
    /// The name of the file.
    pub(crate) name: RemoteName,
    /// Its attributes.
    pub(crate) attributes: RemoteAttributes,
}

/// Returns the content of `name.c9s`, or of a copy of it where that is missing; `None` if there is none.
pub(super) async fn read_long_name(
    remote: &dyn Remote,
    path: &RemotePath,
    inside: &Inside,
) -> Result<Option<Bytes>, RemoteError> {
    match &inside.long_name {
        Ok(long_name) => return Ok(Some(long_name.clone())),
        Err(error) if error.is_unanswered() => return Err(error.clone()),
        Err(_) => {}
    }
    for copy in inside.long_name_copies() {
        match remote.read_small(&path.join(copy), LONG_NAME_MAX).await {
            Ok(long_name) => return Ok(Some(long_name)),
            Err(error) if error.is_unanswered() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Returns the nodes that lie in the entry `name`, the directory `path` on the server with these `attributes`: each
/// with what is added to its name.
pub(super) async fn nodes_inside(
    remote: &dyn Remote,
    (path, name): (&RemotePath, &RemoteName),
    attributes: RemoteAttributes,
    inside: Inside,
) -> Result<Vec<NodeInside>, RemoteError> {
    match &inside.entries {
        Err(error) if error.is_unanswered() => return Err(error.clone()),
        // It was removed or replaced since its directory was listed.
        Err(RemoteError::NotFound | RemoteError::NotADirectory) => return Ok(Vec::new()),
        Err(error) => {
            let node = VaultNode::BrokenDirectory(format!("its node: {error}"));
            let entry = Entry::inside(name.clone(), NodePart::Directory);
            return Ok(vec![NodeInside { entry, addition: None, node, attributes }]);
        }
        Ok(_) => {}
    }
    let read = &inside.id;
    let nodes = stream::iter(inside.parts()).map(|found| async move {
        let node = match found.of {
            NodePart::Symlink => VaultNode::Symlink,
            NodePart::Contents => VaultNode::File,
            NodePart::Directory => {
                let id = match read {
                    // It came while its directory was being read.
                    read if found.name.as_bytes() == b"dir.c9r"
                        && !matches!(read, Err(RemoteError::NotFound)) =>
                    {
                        read.clone()
                    }
                    _ => remote.read_small(&path.join(&found.name), DIRECTORY_ID_MAX).await,
                };
                match id.map(|id| DirectoryId::parse(&id)) {
                    Ok(Ok(id)) => VaultNode::Directory(id),
                    Ok(Err(error)) => VaultNode::BrokenDirectory(format!("dir.c9r: {error}")),
                    Err(error) if error.is_unanswered() => return Err(error),
                    Err(RemoteError::NotFound) => return Ok(None),
                    Err(error) => VaultNode::BrokenDirectory(format!("dir.c9r: {error}")),
                }
            }
        };
        let attributes = if found.of == NodePart::Directory { attributes } else { found.attributes };
        let entry = Entry { name: name.clone(), part: Some(found.name) };
        Ok(Some(NodeInside { entry, addition: found.addition, node, attributes }))
    });
    nodes.buffered(PARALLEL).try_filter_map(async |node| Ok(node)).try_collect().await
}

/// A node that lies in an entry.
pub(super) struct NodeInside {
    pub(super) entry: Entry,
    /// What is added to the name of the entry; `None` if the node has that name.
    pub(super) addition: Option<String>,
    pub(super) node: VaultNode,
    pub(super) attributes: RemoteAttributes,
}

//! What is remembered of the content directories until the tree that they form is known.

use scaup_crypto::DirectoryId;

use super::finding::Spot;
use crate::remote::RemotePath;

/// The content directory that an entry lies in.
pub(super) struct Parent<'a> {
    pub(super) number: usize,
    pub(super) path: &'a RemotePath,
    pub(super) id: Option<&'a DirectoryId>,
}

/// A directory's node, which leads to its content.
pub(super) struct Child {
    /// The id that its `dir.c9r` holds.
    pub(super) id: DirectoryId,
    /// The node, relative to the vault.
    pub(super) path: RemotePath,
    /// Its cleartext name, if that is known.
    pub(super) name: Option<String>,
    /// Whether it is a sync client's second copy of a node.
    pub(super) is_copy: bool,
}

/// A content directory, and the facts remembered of it.
pub(super) struct ContentDirectory {
    /// Relative to the vault.
    pub(super) path: RemotePath,
    /// Its id, once it is known.
    pub(super) id: Option<DirectoryId>,
    /// The directories in it.
    pub(super) children: Vec<Child>,
    /// The links in it that climb.
    pub(super) links: Vec<ClimbingLink>,
    /// How many nodes are in it, of any kind.
    pub(super) nodes: u64,
}

impl ContentDirectory {
    /// Creates a directory of which only the path is known.
    pub(super) fn new(path: RemotePath) -> Self {
        Self { path, id: None, children: Vec::new(), links: Vec::new(), nodes: 0 }
    }
}

/// A link that climbs: whether it leads out of the vault is known once its directory's depth is.
pub(super) struct ClimbingLink {
    pub(super) spot: Spot,
    pub(super) climbs: usize,
    pub(super) detail: String,
}

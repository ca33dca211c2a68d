//! The nodes of a vault's directories.

use std::ffi::OsString;

use scaup_crypto::DirectoryId;

use super::format::part;
use crate::remote::{RemoteAttributes, RemoteName, RemotePath};

/// The kind of a node inside a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VaultNode {
    /// A regular file.
    File,
    /// A directory with its id.
    Directory(DirectoryId),
    /// A directory whose id or content can't be read, and why.
    BrokenDirectory(String),
    /// A symbolic link.
    Symlink,
    /// A node of no known kind, and why.
    Unknown(String),
}

/// The three files that make a directory on the server a node (section 7). The first that is there has the node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodePart {
    /// `dir.c9r`: the id of a directory.
    Directory,
    /// `symlink.c9r`: the target of a link.
    Symlink,
    /// `contents.c9r`: the content of a file whose name is shortened.
    Contents,
}

impl NodePart {
    pub(crate) const ALL: [Self; 3] = [Self::Directory, Self::Symlink, Self::Contents];

    /// Returns the name of the file.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Directory => "dir.c9r",
            Self::Symlink => "symlink.c9r",
            Self::Contents => "contents.c9r",
        }
    }
}

/// Where a node lies among the encrypted names. A sync client that keeps two versions puts the second beside the first,
/// and where both are directories on the server, *into* the first. So several nodes may lie in one entry, each as one
/// file there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    /// `X.c9r` or `H.c9s`, or a sync client's copy of one.
    pub(crate) name: RemoteName,
    /// The file in the entry that is the node: one of [`NodePart`], or a sync client's copy of one. `None` if the entry
    /// itself is the node.
    pub(crate) part: Option<RemoteName>,
}

impl Entry {
    /// Creates the place of a node that is the entry itself: a file whose name is not shortened.
    pub(crate) fn whole(name: RemoteName) -> Self {
        Self { name, part: None }
    }

    /// Creates the place of a node that is a file in the entry.
    pub(crate) fn inside(name: RemoteName, of: NodePart) -> Self {
        Self { name, part: Some(part(of.file_name())) }
    }

    /// Returns its path in a content directory.
    pub(crate) fn path_in(&self, content: &RemotePath) -> RemotePath {
        let path = content.join(&self.name);
        self.part.as_ref().map_or_else(|| path.clone(), |part| path.join(part))
    }
}

/// A node that was found, under the name that a mount shows.
#[derive(Debug, Clone)]
pub(crate) struct FoundNode {
    /// Its cleartext name.
    pub(crate) name: OsString,
    /// Its attributes, with cleartext length.
    pub(crate) attributes: RemoteAttributes,
    /// Its entry on the server.
    pub(crate) entry: Entry,
    /// Its kind.
    pub(crate) node: VaultNode,
}

//! The nodes of a vault's directories.

use std::ffi::OsString;

use scaup_crypto::DirectoryId;

use crate::remote::{RemoteAttributes, RemoteName};

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

/// The entry of a node: its name among the encrypted ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `X.c9r` or `H.c9s`.
    pub(crate) name: RemoteName,
    /// Whether it is the shortened form, a directory even for files.
    pub(crate) shortened: bool,
}

impl Entry {
    pub(crate) fn new(name: RemoteName) -> Self {
        let shortened = name.as_bytes().ends_with(b".c9s");
        Self { name, shortened }
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

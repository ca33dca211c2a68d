//! The nodes of a vault's directory, packed like the server's names, so that half a million fit.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use scaup_crypto::DirectoryId;

use super::error::NodeError;
use super::node::{Entry, FoundNode, VaultNode};
use crate::remote::{NamesBudget, Record, RemoteAttributes, RemoteError, RemoteListing, RemoteName};

/// The listing of a vault's directory: nodes by their cleartext names.
pub(crate) struct VaultListing {
    /// Most of the nodes; [`Self::unpack`] reads the records.
    pub(crate) records: RemoteListing,
    /// The nodes that got a name when all others were known.
    pub(crate) beside: Vec<FoundNode>,
    pub(crate) undecided: Undecided,
}

/// What sync clients left in a directory for a person to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Undecided {
    /// Nodes that are shown beside others, since a sync client kept them as copies.
    pub(crate) copies: usize,
    /// Entries of nodes whose name is lost.
    pub(crate) unnamed: usize,
    /// Directories that have another name besides.
    pub(crate) twins: usize,
    /// Entries that may be somebody's and are not shown.
    pub(crate) unshown: usize,
}

impl VaultListing {
    pub(super) fn new(budget: &NamesBudget) -> Self {
        Self { records: RemoteListing::new(budget), beside: Vec::new(), undecided: Undecided::default() }
    }

    /// Adds a node.
    pub(super) fn push(
        &mut self,
        name: &OsStr,
        attributes: &RemoteAttributes,
        entry: &Entry,
        node: &VaultNode,
    ) -> Result<(), NodeError> {
        let part = entry.part.as_ref().map_or(&b""[..], RemoteName::as_bytes);
        let entry = entry.name.as_bytes();
        let length = |name: &[u8]| u8::try_from(name.len()).map_err(|_| RemoteError::NameTooLong);
        let (tag, text) = pack(node);
        let lengths = [length(entry)?, length(part)?];
        let pushed = self.records.push(name.as_bytes(), attributes, &[&lengths, entry, part, &[tag], text]);
        Ok(pushed.map_err(RemoteError::from)?)
    }

    /// Returns the node of that name. All pushed nodes have to be sorted before.
    pub(super) fn get(&self, name: &OsStr) -> Option<VaultNode> {
        let beside = self.beside.iter().find(|found| found.name == name);
        beside.map(|found| found.node.clone()).or_else(|| {
            let record = self.records.get(self.records.find(name.as_bytes())?)?;
            Some(unpack(record.rest)?.1)
        })
    }

    /// Returns all nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = FoundNode> {
        self.records.records().filter_map(Self::unpack).chain(self.beside.iter().cloned())
    }

    /// Returns the node of a record of such a listing.
    pub(crate) fn unpack(record: Record<'_>) -> Option<FoundNode> {
        let (entry, node) = unpack(record.rest)?;
        Some(FoundNode {
            name: OsString::from_vec(record.name.to_vec()),
            attributes: record.attributes(),
            entry,
            node,
        })
    }
}

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const BROKEN_DIRECTORY: u8 = 2;
const SYMLINK: u8 = 3;
const UNKNOWN: u8 = 4;

fn pack(node: &VaultNode) -> (u8, &[u8]) {
    match node {
        VaultNode::File => (FILE, &[]),
        VaultNode::Directory(id) => (DIRECTORY, id.as_bytes()),
        VaultNode::BrokenDirectory(why) => (BROKEN_DIRECTORY, why.as_bytes()),
        VaultNode::Symlink => (SYMLINK, &[]),
        VaultNode::Unknown(why) => (UNKNOWN, why.as_bytes()),
    }
}

/// Unpacks what [`VaultListing::push`] packed.
fn unpack(bytes: &[u8]) -> Option<(Entry, VaultNode)> {
    let (&[entry_len, part_len], bytes) = bytes.split_first_chunk()?;
    let (entry, bytes) = bytes.split_at_checked(usize::from(entry_len))?;
    let (part, bytes) = bytes.split_at_checked(usize::from(part_len))?;
    let (&tag, text) = bytes.split_first()?;
    let words = || String::from_utf8_lossy(text).into_owned();
    let node = match tag {
        FILE => VaultNode::File,
        DIRECTORY => VaultNode::Directory(DirectoryId::parse(text).ok()?),
        BROKEN_DIRECTORY => VaultNode::BrokenDirectory(words()),
        SYMLINK => VaultNode::Symlink,
        _ => VaultNode::Unknown(words()),
    };
    // No part is the empty name, which is none.
    Some((Entry { name: RemoteName::parse(entry)?, part: RemoteName::parse(part) }, node))
}

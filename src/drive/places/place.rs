//! The results of lookups and listings, in plain directories and in vaults alike.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use crate::drive::error::DriveError;
use crate::remote::{RemoteAttributes, RemoteEntry, RemoteName};
use crate::vault::{Entry, FoundNode, UnlockedVault, VaultNode};

/// Where a node of the mount lies.
#[derive(Clone)]
pub(in crate::drive) enum Place {
    /// Outside vaults: under its own name in its parent's directory.
    Plain,
    /// Inside an unlocked vault.
    Vault {
        /// The vault.
        vault: Arc<UnlockedVault>,
        /// The node's entry among the encrypted ones.
        entry: Entry,
        /// The kind of the node.
        node: VaultNode,
    },
}

impl Place {
    /// Whether both are the same node on the server, as far as its name and kind tell.
    pub(in crate::drive) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain, Self::Plain) => true,
            (
                Self::Vault { vault, entry, node },
                Self::Vault { vault: other_vault, entry: other_entry, node: other_node },
            ) => Arc::ptr_eq(vault, other_vault) && entry == other_entry && node == other_node,
            _ => false,
        }
    }
}

/// A node that was found, under the name that the mount shows.
#[derive(Clone)]
pub(in crate::drive) struct Found {
    /// Its name, as shown.
    pub(in crate::drive) name: OsString,
    /// Its attributes, with cleartext length.
    pub(in crate::drive) attributes: RemoteAttributes,
    /// Its place.
    pub(in crate::drive) place: Place,
}

/// Validates a name for a plain (unencrypted) directory.
pub(in crate::drive) fn plain_name(name: &OsStr) -> Result<RemoteName, DriveError> {
    if name.len() > RemoteName::MAX_LEN {
        return Err(DriveError::NameTooLong);
    }
    RemoteName::parse(name.as_bytes()).ok_or(DriveError::Invalid)
}

impl Found {
    /// Creates an entry from a node that was found in a vault.
    pub(in crate::drive) fn in_vault(found: FoundNode, vault: &Arc<UnlockedVault>) -> Self {
        let FoundNode { name, attributes, entry, node } = found;
        Self { name, attributes, place: Place::Vault { vault: Arc::clone(vault), entry, node } }
    }
}

impl From<RemoteEntry> for Found {
    fn from(entry: RemoteEntry) -> Self {
        Self {
            name: OsString::from_vec(entry.name.as_bytes().to_vec()),
            attributes: entry.attributes,
            place: Place::Plain,
        }
    }
}

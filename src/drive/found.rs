//! What a look-up or a listing finds, in plain places and in vaults alike.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use scaup_crypto::{CleartextName, NameError};

use super::error::DriveError;
use super::names::Names;
use super::temporary;
use super::vault::{BELOW_MAX, Entry, UnlockedVault, VaultDirectory, VaultNode};
use crate::remote::{
    NamesBudget, Remote, RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath,
};

/// Where a node of the mount lies.
#[derive(Clone)]
pub(super) enum Place {
    /// Outside vaults: under its own name in its parent's directory.
    Plain,
    /// Inside an unlocked vault.
    Vault {
        /// The vault.
        vault: Arc<UnlockedVault>,
        /// Its entry among the encrypted ones.
        entry: Entry,
        /// What it is.
        node: VaultNode,
    },
}

impl Place {
    /// Whether both are the same thing on the server, as far as its name and kind tell.
    pub(super) fn is_same(&self, other: &Self) -> bool {
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
pub(super) struct Found {
    /// Its name, as shown.
    pub(super) name: OsString,
    /// Its attributes, with cleartext length.
    pub(super) attributes: RemoteAttributes,
    /// Where it lies.
    pub(super) place: Place,
}

/// A directory of the mount, ready to be worked in.
#[derive(Clone)]
pub(super) enum Directory {
    /// Outside vaults.
    Plain(RemotePath),
    /// Inside an unlocked vault.
    Vault(VaultDirectory),
}

/// A name as the directory's world wants it.
pub(super) fn plain_name(name: &OsStr) -> Result<RemoteName, DriveError> {
    if name.len() > RemoteName::MAX_LEN {
        return Err(DriveError::NameTooLong);
    }
    RemoteName::parse(name.as_bytes()).ok_or(DriveError::Invalid)
}

/// A name as a vault wants it.
pub(super) fn cleartext_name(name: &OsStr) -> Result<CleartextName, DriveError> {
    CleartextName::parse(name.as_bytes()).map_err(|error| match error {
        NameError::TooLong => DriveError::NameTooLong,
        _ => DriveError::Invalid,
    })
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

impl Directory {
    /// Where its entries lie on the server.
    pub(super) fn path(&self) -> RemotePath {
        match self {
            Self::Plain(path) => path.clone(),
            Self::Vault(directory) => directory.content(),
        }
    }

    /// The vault that it lies in.
    pub(super) fn vault(&self) -> Option<Arc<UnlockedVault>> {
        match self {
            Self::Plain(_) => None,
            Self::Vault(directory) => Some(Arc::clone(&directory.vault)),
        }
    }

    /// Whether it lies in a vault that was locked since.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Self::Vault(directory) if directory.vault.cryptor().is_err())
    }

    /// The directory that was found in this one; `None` if it is none, or can't be worked in.
    pub(super) fn child(&self, found: &Found) -> Option<Self> {
        match (self, &found.place) {
            (Self::Plain(path), Place::Plain) if found.attributes.kind == RemoteKind::Directory => {
                Some(Self::Plain(path.join(&plain_name(&found.name).ok()?)))
            }
            (Self::Vault(parent), Place::Vault { node, .. }) => parent.below(node).map(Self::Vault),
            _ => None,
        }
    }

    /// Finds one name; `None` if a direct look does not find it (in a vault it may still be listed under it). `known` is where it lay
    /// before.
    pub(super) async fn lookup(
        &self,
        remote: &dyn Remote,
        name: &OsStr,
        known: Option<&Place>,
    ) -> Result<Option<Found>, DriveError> {
        match self {
            Self::Plain(path) => {
                let name = plain_name(name)?;
                match remote.stat(&path.join(&name)).await {
                    Ok(attributes) => Ok(Some(RemoteEntry { name, attributes }.into())),
                    Err(RemoteError::NotFound) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Vault(directory) => {
                // A name that no vault can hold does not exist in one.
                let known = match known {
                    Some(Place::Vault { node: VaultNode::Directory(id), .. }) => Some(id),
                    _ => None,
                };
                match cleartext_name(name) {
                    Ok(name) => directory.lookup(remote, &name, known).await,
                    Err(DriveError::Invalid) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// All nodes of the directory, unless there are more than `most`, and debris of ours that was seen on the way. Which directories it has
    /// `met` is told as soon as that is known.
    pub(super) async fn list(
        &self,
        remote: &dyn Remote,
        (most, budget): (usize, &NamesBudget),
        met: impl FnOnce(Vec<Self>) + Send,
    ) -> Result<(Names, Vec<RemoteName>), DriveError> {
        match self {
            Self::Plain(path) => {
                let mut entries = remote.list_packed(path, most, budget).await?;
                let debris = temporary::debris_in(&entries);
                entries.retain(|record| !temporary::is_temporary(record.name));
                let directories = entries.records().filter(|record| record.kind() == RemoteKind::Directory);
                let below = directories.filter_map(|record| RemoteName::parse(record.name)).take(BELOW_MAX);
                met(below.map(|name| Self::Plain(path.join(&name))).collect());
                Ok((Names::plain(entries), debris))
            }
            Self::Vault(directory) => {
                directory
                    .list(remote, (most, budget), |below| met(below.into_iter().map(Self::Vault).collect()))
                    .await
            }
        }
    }
}

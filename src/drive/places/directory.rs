//! A directory of the mount as a place for operations: plain, or inside an unlocked vault. It finds and lists what lies
//! in it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::listed_names::Names;
use super::place::{Found, Place, plain_name};
use crate::drive::error::DriveError;
use crate::remote::{NamesBudget, Remote, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemotePath};
use crate::vault::{
    BELOW_MAX, NodeError, Undecided, UnlockedVault, VaultDirectory, VaultNode, cleartext_name, temporary,
};

/// A directory of the mount, ready for operations in it.
#[derive(Clone)]
pub(in crate::drive) enum Directory {
    /// Outside vaults.
    Plain(RemotePath),
    /// Inside an unlocked vault.
    Vault(VaultDirectory),
}

impl Directory {
    /// Returns the path of its entries on the server.
    pub(in crate::drive) fn path(&self) -> RemotePath {
        match self {
            Self::Plain(path) => path.clone(),
            Self::Vault(directory) => directory.content(),
        }
    }

    /// Returns the vault that it lies in.
    pub(in crate::drive) fn vault(&self) -> Option<Arc<UnlockedVault>> {
        match self {
            Self::Plain(_) => None,
            Self::Vault(directory) => Some(Arc::clone(&directory.vault)),
        }
    }

    /// Whether it lies in a vault, or is the vault's root.
    pub(in crate::drive) fn is_in_vault(&self) -> bool {
        matches!(self, Self::Vault(_))
    }

    /// Whether it lies in a vault that was locked since.
    pub(in crate::drive) fn is_locked(&self) -> bool {
        matches!(self, Self::Vault(directory) if directory.vault.cryptor().is_err())
    }

    /// Returns the directory that was found in this one; `None` if it is not a usable directory.
    pub(in crate::drive) fn child(&self, found: &Found) -> Option<Self> {
        match (self, &found.place) {
            (Self::Plain(path), Place::Plain) if found.attributes.kind == RemoteKind::Directory => {
                Some(Self::Plain(path.join(&plain_name(&found.name).ok()?)))
            }
            (Self::Vault(parent), Place::Vault { node, .. }) => parent.below(node).map(Self::Vault),
            _ => None,
        }
    }

    /// Finds one name; `None` if a direct lookup does not find it (in a vault the listing may still have the name).
    /// `known` is the place that the node had before.
    pub(in crate::drive) async fn lookup(
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
                    Ok(name) => {
                        let found = directory.lookup(remote, &name, known).await?;
                        Ok(found.map(|found| Found::in_vault(found, &directory.vault)))
                    }
                    Err(NodeError::InvalidName) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Returns all nodes of the directory, unless there are more than `most`, and our own debris and what waits for a
    /// person's decision that was seen on the way. Calls `met` with its directories as soon as they are known.
    pub(in crate::drive) async fn list(
        &self,
        remote: &dyn Remote,
        (most, budget): (usize, &NamesBudget),
        met: impl FnOnce(Vec<(OsString, Self)>) + Send,
    ) -> Result<(Names, Vec<RemoteName>, Undecided), DriveError> {
        match self {
            Self::Plain(path) => {
                let mut entries = remote.list_packed(path, most, budget).await?;
                let debris = temporary::debris_in(&entries);
                entries.retain(|record| !temporary::is_temporary(record.name));
                let directories = entries.records().filter(|record| record.kind() == RemoteKind::Directory);
                let below = directories.filter_map(|record| {
                    let path = path.join(&RemoteName::parse(record.name)?);
                    Some((OsStr::from_bytes(record.name).to_owned(), Self::Plain(path)))
                });
                met(below.take(BELOW_MAX).collect());
                Ok((Names::plain(entries), debris, Undecided::default()))
            }
            Self::Vault(directory) => {
                let met = |below: Vec<(OsString, VaultDirectory)>| {
                    met(below.into_iter().map(|(name, below)| (name, Self::Vault(below))).collect());
                };
                let (listing, debris) = directory.list(remote, (most, budget), met).await?;
                let undecided = listing.undecided;
                Ok((Names::of_vault(listing, &directory.vault), debris, undecided))
            }
        }
    }
}

//! How a Cryptomator vault lies on a [`Remote`](crate::remote::Remote): the names of its files and directories there,
//! and how they are read and changed (`docs/vault-format.md`). This module knows no mount: the drive shows what is
//! found here, and `check` judges it.
//!
//! A vault's directories are flat: each has an id, and its content lies in `d/AA/BBB…`, a path made from that id
//! (section 4). In it, a *node* is a file `X.c9r`, or a directory `X.c9r` or `H.c9s` whose files tell the kind of node:
//! `dir.c9r` (a directory's id), `symlink.c9r`, or in the shortened form `contents.c9r` and the long name `name.c9s`
//! (sections 6 and 7).
//!
//! `opening` and `create` work on the vault as a whole, `directory` finds and lists nodes, `changes` makes and moves
//! them, `removal` removes them. Unfinished content has a `temporary` name, `unfinished` records on this machine where
//! such names may be, and `sweep` removes debris of dead processes. If two machines change the same file, one version
//! gets one of the `conflict_names`.

mod changes;
mod conflict_names;
mod create;
mod directory;
mod error;
mod links;
mod listing;
mod opening;
mod removal;
mod sweep;
pub(crate) mod temporary;
pub(crate) mod unfinished;
mod unlocked;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use scaup_crypto::{CleartextName, Cryptor, DirectoryId, NameError};

use crate::remote::{RemoteError, RemoteName, RemotePath};

pub use create::{check_place_for_vault, create_vault};
pub use error::{NodeError, OpenError};
pub use opening::{VaultInfo, inspect_vault, open_vault};

pub(crate) use conflict_names::conflict_names;
pub(crate) use directory::{BELOW_MAX, Entry, FoundNode, VaultDirectory, VaultNode};
pub(crate) use links::climbs;
pub(crate) use listing::VaultListing;
pub(crate) use opening::{Markers, Opening, cryptor_of, open_files};
pub(crate) use removal::{Fate, HiddenNode};
pub(crate) use sweep::sweep_plain;
pub(crate) use unlocked::{MarkerFiles, UnlockedVault};

/// Longest `dir.c9r` (cryptofs loads at most this), bytes.
pub(crate) const DIRECTORY_ID_MAX: usize = 1000;
/// Longest `name.c9s`, bytes.
pub(crate) const LONG_NAME_MAX: usize = 10_240;

/// Returns a name that the format or this code defines: none of them can fail to parse.
pub(crate) fn part(name: &'static str) -> RemoteName {
    RemoteName::parse(name.as_bytes()).unwrap_or_else(|| unreachable!("{name} is a valid name"))
}

/// Parses a name for a vault, which checks and normalizes it.
pub(crate) fn cleartext_name(name: &OsStr) -> Result<CleartextName, NodeError> {
    CleartextName::parse(name.as_bytes()).map_err(|error| match error {
        NameError::TooLong => NodeError::Remote(RemoteError::NameTooLong),
        _ => NodeError::InvalidName,
    })
}

/// Returns the path of a vault's content directory.
pub(crate) fn content_path(root: &RemotePath, cryptor: &Cryptor, id: &DirectoryId) -> RemotePath {
    cryptor
        .content_dir(id)
        .split('/')
        .filter_map(|name| RemoteName::parse(name.as_bytes()))
        .fold(root.clone(), |path, name| path.join(&name))
}

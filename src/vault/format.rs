//! Names, paths and lengths that the vault format defines.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use scaup_crypto::{CleartextName, Cryptor, DirectoryId, NameError};

use super::error::NodeError;
use crate::remote::{RemoteError, RemoteName, RemotePath};

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

//! The place of content whose vault was locked before it was saved: the names that it may get, all encrypted.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::drive::error::DriveError;
use crate::remote::{Remote, RemotePath, RenameHow};
use crate::vault::{Entry, UnlockedVault, VaultDirectory, cleartext_name, conflict_names};

/// Names for a conflicting copy that are encrypted ahead.
const COPIES: usize = 10;

/// Where sealed content is saved.
pub(in crate::drive) struct SealedPlace {
    /// The vault, which has no keys any more.
    pub(super) vault: Arc<UnlockedVault>,
    /// The vault's own directory.
    root: RemotePath,
    /// The directory on the server that holds the file's name.
    pub(super) directory: RemotePath,
    /// The file's own name.
    pub(super) own: SealedName,
    /// The names that our version may get beside another one.
    copies: Vec<SealedName>,
    /// A program was in the middle of replacing other content: ours goes beside that.
    pub(super) is_half: bool,
}

/// The encrypted name of a file.
#[derive(Debug, Clone)]
pub(in crate::drive) struct SealedName {
    pub(super) entry: Entry,
    /// What `name.c9s` has to hold, if the name is shortened.
    pub(super) long_name: Option<String>,
}

impl SealedName {
    pub(super) fn of(directory: &VaultDirectory, name: &OsStr) -> Result<Self, DriveError> {
        let (entry, long_name) = directory.file_entry(&cleartext_name(name)?)?;
        Ok(Self { entry, long_name })
    }

    /// Returns what a conflicting copy is known by without its cleartext name.
    pub(super) fn known_as(&self) -> &OsStr {
        OsStr::from_bytes(self.entry.name.as_bytes())
    }

    /// Gives finished content this name.
    pub(super) async fn publish(
        &self,
        remote: &dyn Remote,
        temporary: &RemotePath,
        directory: &RemotePath,
        how: RenameHow,
    ) -> Result<(), DriveError> {
        let (entry, long_name) = (&self.entry, self.long_name.as_deref());
        Ok(Box::pin(VaultDirectory::publish_in(remote, temporary, directory, entry, long_name, how)).await?)
    }
}

impl SealedPlace {
    /// Returns the place of a file in a vault that still has its keys.
    pub(super) fn new(
        directory: VaultDirectory,
        own: SealedName,
        name: &OsStr,
        is_half: bool,
    ) -> Result<Self, DriveError> {
        let copies = conflict_names(name).take(COPIES).map(|copy| SealedName::of(&directory, &copy));
        Ok(Self {
            copies: copies.collect::<Result<_, _>>()?,
            directory: directory.content(),
            own,
            vault: Arc::clone(&directory.vault),
            root: directory.root,
            is_half,
        })
    }

    /// Returns what the names of a conflicting copy are known by.
    pub(super) fn copies(&self) -> Vec<OsString> {
        self.copies.iter().map(|copy| copy.known_as().to_owned()).collect()
    }

    /// Adds a name that a conflicting copy may have already.
    pub(super) fn add_copy(&mut self, copy: SealedName) {
        self.copies.push(copy);
    }

    /// Returns the name of a conflicting copy.
    pub(super) fn copy(&self, known_as: &OsStr) -> Option<SealedName> {
        self.copies.iter().find(|copy| copy.known_as() == known_as).cloned()
    }

    /// Returns the vault's own directory.
    pub(in crate::drive) fn vault_root(&self) -> &RemotePath {
        &self.root
    }
}

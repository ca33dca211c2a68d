//! The place of a file's content on the server, and how finished content gets its name.

use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::{ChunkNumber, CiphertextLen, CleartextLen, CleartextName};
use scaup_fuse::filesystem::Inode;

use super::codec::{Codec, GROUP_LEN};
use super::home::Home;
use super::sealed_place::{SealedName, SealedPlace};
use crate::drive::error::DriveError;
use crate::drive::places::directory::Directory;
use crate::drive::places::place::{Place, plain_name};
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath, RenameHow};
use crate::vault::{Entry, VaultDirectory, VaultNode, cleartext_name, conflict_names, temporary};

/// The place of one regular file.
pub(in crate::drive) enum Location {
    /// Outside vaults.
    Plain { directory: RemotePath, name: RemoteName },
    /// Inside an unlocked vault.
    Vault { directory: VaultDirectory, entry: Entry, long_name: Option<String> },
    /// Inside a vault that was locked before the file was saved.
    Sealed { place: Arc<SealedPlace>, name: SealedName },
}

impl Location {
    /// Creates the place of a file in `directory`. `place` is its present place, if it exists.
    pub(in crate::drive) fn new(
        directory: Directory,
        name: &std::ffi::OsStr,
        place: Option<&Place>,
    ) -> Result<Self, DriveError> {
        match (directory, place) {
            (Directory::Plain(directory), None | Some(Place::Plain)) => {
                Ok(Self::Plain { directory, name: plain_name(name)? })
            }
            (Directory::Vault(_), Some(Place::Vault { node: VaultNode::Unknown(why), .. })) => {
                Err(DriveError::damaged(why))
            }
            (Directory::Vault(directory), Some(Place::Vault { vault, entry, .. }))
                if Arc::ptr_eq(vault, &directory.vault) =>
            {
                // What is shown under a name of its own has another entry, which exists.
                let long_name = cleartext_name(name).ok().and_then(|name| {
                    let (canonical, long_name) = directory.file_entry(&name).ok()?;
                    long_name.filter(|_| canonical == *entry)
                });
                Ok(Self::Vault { directory, entry: entry.clone(), long_name })
            }
            (Directory::Vault(directory), None) => {
                let name: CleartextName = cleartext_name(name)?;
                let (entry, long_name) = directory.file_entry(&name)?;
                Ok(Self::Vault { directory, entry, long_name })
            }
            // The vault was locked or unlocked since.
            (Directory::Plain(_) | Directory::Vault(_), Some(_)) => Err(DriveError::Stale),
        }
    }

    /// Creates the place of a file whose vault was locked.
    pub(super) fn of_sealed(place: &Arc<SealedPlace>) -> Self {
        Self::Sealed { place: Arc::clone(place), name: place.own.clone() }
    }

    /// Returns the path of the file that holds the bytes.
    pub(in crate::drive) fn file_path(&self) -> RemotePath {
        match self {
            Self::Plain { directory, name } => directory.join(name),
            Self::Vault { directory, entry, .. } => directory.path_of(entry),
            Self::Sealed { place, name } => name.entry.path_in(&place.directory),
        }
    }

    /// Returns the directory on the server that holds its name.
    pub(super) fn directory(&self) -> RemotePath {
        match self {
            Self::Plain { directory, .. } => directory.clone(),
            Self::Vault { directory, .. } => directory.content(),
            Self::Sealed { place, .. } => place.directory.clone(),
        }
    }

    /// Returns a fresh path for unfinished content, in the same directory.
    pub(super) fn temporary_path(&self) -> Result<RemotePath, DriveError> {
        match self {
            Self::Plain { directory, .. } => Ok(directory.join(&temporary::name()?)),
            Self::Vault { directory, .. } => Ok(directory.temporary()?),
            Self::Sealed { place, .. } => Ok(place.directory.join(&temporary::name()?)),
        }
    }

    /// Returns the place as the tree remembers it.
    pub(in crate::drive) fn place(&self) -> Place {
        match self {
            Self::Plain { .. } => Place::Plain,
            Self::Vault { directory, entry, .. } => Place::Vault {
                vault: Arc::clone(&directory.vault),
                entry: entry.clone(),
                node: VaultNode::File,
            },
            Self::Sealed { place, name } => Place::Vault {
                vault: Arc::clone(&place.vault),
                entry: name.entry.clone(),
                node: VaultNode::File,
            },
        }
    }

    /// Gives finished content its name.
    pub(super) async fn publish(
        &self,
        remote: &dyn Remote,
        temporary: &RemotePath,
        how: RenameHow,
    ) -> Result<(), DriveError> {
        match self {
            Self::Plain { directory, name } => {
                Ok(remote.rename(temporary, &directory.join(name), how).await?)
            }
            Self::Vault { directory, entry, long_name } => {
                // Boxed: its rare ways would make every future around it large.
                let published =
                    Box::pin(directory.publish_as(remote, temporary, entry, long_name.as_deref(), how));
                Ok(published.await?)
            }
            Self::Sealed { place, name } => name.publish(remote, temporary, &place.directory, how).await,
        }
    }

    /// Whether nothing has the name on the server.
    pub(super) async fn is_free(&self, remote: &dyn Remote) -> Result<bool, DriveError> {
        match remote.stat(&self.file_path()).await {
            Err(RemoteError::NotFound) => Ok(true),
            Ok(_) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what lies where the file has to be has the file's name: a sync client may have left an empty node there,
    /// or a content whose name is lost.
    pub(super) async fn has_its_name(&self, remote: &dyn Remote) -> Result<bool, DriveError> {
        match self {
            Self::Vault { directory, entry, long_name: Some(_) } => {
                Ok(directory.has_long_name(remote, &entry.name).await?)
            }
            Self::Vault { directory, entry, .. } if entry.part.is_none() => {
                let there = remote.stat(&directory.path_of(entry)).await?;
                Ok(there.kind != RemoteKind::Directory)
            }
            Self::Sealed { place, name: SealedName { entry, long_name: Some(_) } } => {
                Ok(VaultDirectory::has_long_name_in(remote, &place.directory, &entry.name).await?)
            }
            Self::Vault { .. } | Self::Sealed { .. } | Self::Plain { .. } => Ok(true),
        }
    }

    /// Moves content back to its temporary name if an unanswered attempt to publish it went only half-way. Returns
    /// whether the content is there; if not, it was published.
    pub(super) async fn unpublish(
        &self,
        remote: &dyn Remote,
        temporary: &RemotePath,
    ) -> Result<bool, DriveError> {
        let there = match remote.stat(temporary).await {
            Err(RemoteError::NotFound) => match self {
                Self::Vault { entry, .. } | Self::Sealed { name: SealedName { entry, .. }, .. }
                    if entry.part.is_some() =>
                {
                    VaultDirectory::unpublish(remote, temporary).await
                }
                _ => Err(RemoteError::NotFound),
            },
            there => there.map(|_| ()),
        };
        match there {
            Ok(()) => Ok(true),
            Err(RemoteError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the names that our version may get beside another one, as [`Self::renamed`] takes them.
    pub(super) fn copies(&self, name: &std::ffi::OsStr) -> Vec<OsString> {
        match self {
            Self::Plain { .. } | Self::Vault { .. } => conflict_names(name).collect(),
            Self::Sealed { place, .. } => place.copies(),
        }
    }

    /// Whether the content is only half of what a program wanted to write: it does not replace other content.
    pub(super) fn is_half(&self) -> bool {
        matches!(self, Self::Sealed { place, .. } if place.is_half)
    }

    /// Tells that our version of a file has the name `copy`, at this place.
    pub(super) fn tell_conflict(&self, home: &dyn Home, inode: Inode, copy: &std::ffi::OsStr) {
        match self {
            Self::Plain { .. } | Self::Vault { .. } => home.conflicted(inode, copy, self.place()),
            Self::Sealed { place, .. } => home.sealed_conflicted(place.vault_root()),
        }
    }

    /// Returns the place of another name in the same directory.
    pub(super) fn renamed(self, name: &std::ffi::OsStr) -> Result<Self, DriveError> {
        match self {
            Self::Plain { directory, .. } => Self::new(Directory::Plain(directory), name, None),
            Self::Vault { directory, .. } => Self::new(Directory::Vault(directory), name, None),
            Self::Sealed { place, .. } => {
                let name = place.copy(name).ok_or(DriveError::Locked)?;
                Ok(Self::Sealed { place, name })
            }
        }
    }

    /// Returns a free name in the same directory for our version of `name`, and its place.
    pub(in crate::drive) async fn conflicting(
        self,
        remote: &dyn Remote,
        name: &std::ffi::OsStr,
    ) -> Result<(OsString, Self), DriveError> {
        let mut location = self;
        for copy in conflict_names(name) {
            location = location.renamed(&copy)?;
            if location.is_free(remote).await? {
                return Ok((copy, location));
            }
        }
        Err(DriveError::Exists)
    }

    /// Returns how many bytes from the start of a file hold its header and its first chunk.
    pub(super) fn first_read_len(&self) -> CiphertextLen {
        self.ciphertext_len(ChunkNumber::FIRST.next().start())
    }

    /// Returns how many bytes from the start of a file of this `length` come in one message: all of a small one,
    /// otherwise as much as [`Self::first_read_len`].
    pub(in crate::drive) fn first_read_ahead_len(&self, length: CleartextLen) -> CiphertextLen {
        if length > GROUP_LEN { self.first_read_len() } else { self.ciphertext_len(length) }
    }

    fn ciphertext_len(&self, length: CleartextLen) -> CiphertextLen {
        match self {
            Self::Plain { .. } => CiphertextLen(length.0),
            Self::Vault { directory, .. } => directory.cryptor.config().cipher_combo.ciphertext_len(length),
            // Nothing of it is read.
            Self::Sealed { .. } => CiphertextLen(0),
        }
    }

    /// Returns the codec for the chunks of a new file.
    pub(super) fn new_codec(&self) -> Result<Codec, DriveError> {
        match self {
            Self::Plain { .. } => Ok(Codec::Plain),
            Self::Vault { directory, .. } => {
                let header = directory.cryptor.new_header().map_err(|e| DriveError::Random(e.to_string()))?;
                Ok(Codec::Vault { cryptor: Arc::clone(&directory.cryptor), header: Box::new(header) })
            }
            Self::Sealed { .. } => Err(DriveError::Locked),
        }
    }

    /// Returns the codec for the chunks of an existing file, and its length; `head` is its beginning and `size` its
    /// length on the server.
    pub(super) fn read_header(
        &self,
        head: &Bytes,
        size: CiphertextLen,
    ) -> Result<(Codec, CleartextLen), DriveError> {
        let directory = match self {
            Self::Plain { .. } => return Ok((Codec::Plain, CleartextLen(size.0))),
            Self::Vault { directory, .. } => directory,
            Self::Sealed { .. } => return Err(DriveError::Locked),
        };
        let cryptor = &directory.cryptor;
        let combo = cryptor.config().cipher_combo;
        let length = combo.cleartext_len(size).map_err(DriveError::damaged)?;
        let header =
            head.get(..combo.header_len()).ok_or_else(|| DriveError::damaged("the header is cut short"))?;
        let header = cryptor.decrypt_header(header).map_err(DriveError::damaged)?;
        Ok((Codec::Vault { cryptor: Arc::clone(cryptor), header: Box::new(header) }, length))
    }
}

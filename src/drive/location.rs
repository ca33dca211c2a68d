//! Where the content of one file lies on the server, and how finished content gets its name.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::CleartextName;

use super::codec::{CHUNK_LEN, Codec, GROUP_CHUNKS};
use super::error::DriveError;
use super::found::{Directory, Place, cleartext_name, plain_name};

use super::temporary;
use super::vault::{Entry, VaultDirectory, VaultNode};
use crate::remote::{Remote, RemoteError, RemoteName, RemotePath, RenameHow};

/// Names that are tried for a conflicting copy.
const CONFLICT_NAMES_MAX: u32 = 100;

/// One regular file's place.
pub(super) enum Location {
    /// Outside vaults.
    Plain { directory: RemotePath, name: RemoteName },
    /// Inside an unlocked vault.
    Vault { directory: VaultDirectory, entry: Entry, long_name: Option<String> },
}

impl Location {
    /// The place of a file in `directory`. `place` is where it lies now, if it exists.
    pub(super) fn new(
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
                // A name that was made up for a conflicting copy has an entry of its own, which exists.
                let long_name = cleartext_name(name).ok().and_then(|name| {
                    let (canonical, long_name) = directory.entry(&name).ok()?;
                    long_name.filter(|_| canonical == *entry)
                });
                Ok(Self::Vault { directory, entry: entry.clone(), long_name })
            }
            (Directory::Vault(directory), None) => {
                let name: CleartextName = cleartext_name(name)?;
                let (entry, long_name) = directory.entry(&name)?;
                Ok(Self::Vault { directory, entry, long_name })
            }
            // The vault was locked or unlocked since.
            (Directory::Plain(_) | Directory::Vault(_), Some(_)) => Err(DriveError::Stale),
        }
    }

    /// The path of the file that holds the bytes.
    pub(super) fn file_path(&self) -> RemotePath {
        match self {
            Self::Plain { directory, name } => directory.join(name),
            Self::Vault { directory, entry, .. } => directory.file_path(entry),
        }
    }

    /// The directory on the server that holds its name.
    pub(super) fn directory(&self) -> RemotePath {
        match self {
            Self::Plain { directory, .. } => directory.clone(),
            Self::Vault { directory, .. } => directory.content(),
        }
    }

    /// A fresh path for content that is not finished, in the same directory.
    pub(super) fn temporary_path(&self) -> Result<RemotePath, DriveError> {
        let name = temporary::name()?;
        Ok(match self {
            Self::Plain { directory, .. } => directory.join(&name),
            Self::Vault { directory, .. } => directory.content().join(&name),
        })
    }

    /// The place as the tree remembers it.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Plain { .. } => Place::Plain,
            Self::Vault { directory, entry, .. } => Place::Vault {
                vault: Arc::clone(&directory.vault),
                entry: entry.clone(),
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
                directory.publish_as(remote, temporary, entry, long_name.as_deref(), how).await
            }
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

    /// Brings content that was to be published, and no answer came, back to its temporary name if it is in the midst of that. Answers
    /// whether it is there; if not, it went all the way.
    pub(super) async fn unpublish(
        &self,
        remote: &dyn Remote,
        temporary: &RemotePath,
    ) -> Result<bool, DriveError> {
        let there = match remote.stat(temporary).await {
            Err(RemoteError::NotFound) => match self {
                Self::Vault { entry, .. } if entry.shortened => {
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

    /// The same directory, another name.
    pub(super) fn renamed(self, name: &std::ffi::OsStr) -> Result<Self, DriveError> {
        match self {
            Self::Plain { directory, .. } => Self::new(Directory::Plain(directory), name, None),
            Self::Vault { directory, .. } => Self::new(Directory::Vault(directory), name, None),
        }
    }

    /// A free name in the same directory for our version of `name`, and its place.
    pub(super) async fn conflicting(
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

    /// Bytes from the start of a file that hold its header and its first chunk.
    pub(super) fn first_read_len(&self) -> u64 {
        match self {
            Self::Plain { .. } => CHUNK_LEN,
            Self::Vault { directory, .. } => {
                directory.cryptor.config().cipher_combo.ciphertext_len(CHUNK_LEN)
            }
        }
    }

    /// Bytes from the start of a file that come in one message: all of a small one, which has `length` bytes of cleartext, else as much as
    /// [`Self::first_read_len`].
    pub(super) fn start_len(&self, length: u64) -> u64 {
        if length > GROUP_CHUNKS * CHUNK_LEN {
            return self.first_read_len();
        }
        match self {
            Self::Plain { .. } => length,
            Self::Vault { directory, .. } => directory.cryptor.config().cipher_combo.ciphertext_len(length),
        }
    }

    /// How the chunks of a new file are stored.
    pub(super) fn new_codec(&self) -> Result<Codec, DriveError> {
        match self {
            Self::Plain { .. } => Ok(Codec::Plain),
            Self::Vault { directory, .. } => {
                let header = directory.cryptor.new_header().map_err(|e| DriveError::Random(e.to_string()))?;
                Ok(Codec::Vault { cryptor: Arc::clone(&directory.cryptor), header: Box::new(header) })
            }
        }
    }

    /// How the chunks of an existing file are stored, and its cleartext length; `head` is its beginning and `size` its length
    /// on the server.
    pub(super) fn read_header(&self, head: &Bytes, size: u64) -> Result<(Codec, u64), DriveError> {
        let Self::Vault { directory, .. } = self else { return Ok((Codec::Plain, size)) };
        let cryptor = &directory.cryptor;
        let combo = cryptor.config().cipher_combo;
        let length = combo.cleartext_len(size).map_err(DriveError::damaged)?;
        let header =
            head.get(..combo.header_len()).ok_or_else(|| DriveError::damaged("the header is cut short"))?;
        let header = cryptor.decrypt_header(header).map_err(DriveError::damaged)?;
        Ok((Codec::Vault { cryptor: Arc::clone(cryptor), header: Box::new(header) }, length))
    }
}

/// Names to try for our version of a file that somebody else changed meanwhile.
pub(super) fn conflict_names(name: &std::ffi::OsStr) -> impl Iterator<Item = OsString> {
    let now = jiff::Zoned::now();
    (0..CONFLICT_NAMES_MAX).map(move |attempt| conflict_name(name, &now, temporary::machine_mark(), attempt))
}

/// A name for our version, as the Nextcloud client forms it but for the mark of this machine: `name (conflicted copy DATE TIME MARK).ext`,
/// with a number from the second try on. Two machines that meet a conflict in the same second make two names.
fn conflict_name(name: &std::ffi::OsStr, now: &jiff::Zoned, mark: &str, attempt: u32) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    let name = name.as_bytes();
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&at| at > 0).unwrap_or(name.len());
    let (base, extension) = name.split_at(dot);
    let stamp = now.strftime("%Y-%m-%d %H%M%S");
    let number = if attempt == 0 { String::new() } else { format!(" {attempt}") };
    let suffix = format!(" (conflicted copy {stamp} {mark}{number})");
    let room = RemoteName::MAX_LEN.saturating_sub(suffix.len() + extension.len());
    // Cut between characters, so that the name stays UTF-8 if it was.
    let mut cut = base.len().min(room);
    while cut > 0 && cut < base.len() && base.get(cut).is_some_and(|byte| byte & 0xc0 == 0x80) {
        cut -= 1;
    }
    let mut copy = base.get(..cut).unwrap_or(base).to_vec();
    copy.extend_from_slice(suffix.as_bytes());
    copy.extend_from_slice(extension);
    OsString::from_vec(copy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at() -> jiff::Zoned {
        "2024-01-02T12:34:56[UTC]".parse().unwrap()
    }

    #[test]
    fn conflicting_copies_are_named_as_nextcloud_does_and_after_this_machine() {
        let name =
            |name: &str, attempt| conflict_name(name.as_ref(), &at(), "3f9c", attempt).into_string().unwrap();
        assert_eq!(name("letter.odt", 0), "letter (conflicted copy 2024-01-02 123456 3f9c).odt");
        assert_eq!(name("letter.odt", 2), "letter (conflicted copy 2024-01-02 123456 3f9c 2).odt");
        assert_eq!(name("noext", 0), "noext (conflicted copy 2024-01-02 123456 3f9c)");
        assert_eq!(name(".profile", 0), ".profile (conflicted copy 2024-01-02 123456 3f9c)");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = format!("{}.txt", "ä".repeat(125));
        let copy = conflict_name(long.as_ref(), &at(), "3f9c", 0);
        assert!(copy.len() <= 255);
        assert!(copy.into_string().unwrap().ends_with(" (conflicted copy 2024-01-02 123456 3f9c).txt"));
    }
}

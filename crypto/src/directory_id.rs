//! Directory ids, and where a directory's content lies (section 4).

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use data_encoding::BASE32;
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::stack::wiped_after;
use crate::{Cryptor, RandomError, fill_random};

/// The longest id that is accepted, bytes (cryptofs loads at most this).
const LEN_MAX: usize = 1000;

/// The identity of a cleartext directory. It does not change when the directory is renamed or moved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DirectoryId(Box<[u8]>);

/// Why the content of `dir.c9r` is no directory id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryIdError {
    /// Nothing in it: it would be the root's id.
    #[error("the directory id is empty")]
    Empty,
    /// More than 1000 bytes.
    #[error("the directory id has {0} bytes, more than 1000")]
    TooLong(usize),
}

impl DirectoryId {
    /// The id of a vault's root: empty.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::default())
    }

    /// A fresh id: a random UUID in lower case.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn random() -> Result<Self, RandomError> {
        let mut bytes = [0; 16];
        fill_random(&mut bytes)?;
        let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
        Ok(Self(uuid.to_string().into_bytes().into()))
    }

    /// The content of a `dir.c9r`, taken as it is: a trailing newline makes another id.
    ///
    /// # Errors
    ///
    /// If it is empty or longer than 1000 bytes.
    pub fn parse(content: &[u8]) -> Result<Self, DirectoryIdError> {
        match content.len() {
            0 => Err(DirectoryIdError::Empty),
            1..=LEN_MAX => Ok(Self(content.into())),
            len => Err(DirectoryIdError::TooLong(len)),
        }
    }

    /// The id's bytes, as `dir.c9r` holds them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Cryptor {
    /// Where the content of a directory lies, relative to the vault: `d/AA/BBBBBBBBBBBBBBBBBBBBBBBBBBBBBB`.
    #[must_use]
    pub fn content_dir(&self, id: &DirectoryId) -> String {
        // No associated data at all, which is not the same as empty associated data.
        let encrypted = wiped_after(|| self.siv().encrypt(std::iter::empty::<&[u8]>(), id.as_bytes()))
            .unwrap_or_else(|_| unreachable!("AES-SIV takes text of any length"));
        let hash = BASE32.encode(&Sha1::digest(&encrypted));
        let (fan_out, rest) = hash.split_at(2);
        format!("d/{fan_out}/{rest}")
    }

    /// For use within [`wiped_after`]. AES-SIV with the vault's keys in the order of RFC 5297: the authentication key
    /// first (section 0, trap 1).
    pub(crate) fn siv(&self) -> Aes256Siv {
        let mut key = Zeroizing::new([0; 64]);
        let (first, second) = key.split_at_mut(32);
        first.copy_from_slice(self.masterkey.mac_key());
        second.copy_from_slice(self.masterkey.encryption_key());
        Aes256Siv::new((&*key).into())
    }
}

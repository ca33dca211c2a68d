//! Names, encrypted and shortened (sections 5 and 6).

use data_encoding::BASE64URL;
use sha1::{Digest, Sha1};

use crate::stack::wiped_after;
use crate::{CleartextName, Cryptor, DirectoryId, NameError};

/// What an encrypted name ends with.
pub(crate) const REGULAR: &str = ".c9r";
/// What a shortened name ends with.
pub(crate) const SHORTENED: &str = ".c9s";
/// Bytes that encryption adds to a name.
const SIV_LEN: usize = 16;
/// Longest `name.c9s`, bytes.
const LONG_NAME_MAX: usize = 10_240;

/// How a name lies on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedName {
    /// The entry's name: `X.c9r`, or `H.c9s` if that would be too long.
    pub entry: String,
    /// For a shortened name: `X.c9r`, the content of its `name.c9s`.
    pub long_name: Option<String>,
}

impl Cryptor {
    /// Encrypts a name for the directory `parent`, and shortens it where the vault says so.
    #[must_use]
    pub fn encrypt_name(&self, name: &CleartextName, parent: &DirectoryId) -> EncryptedName {
        self.encrypt_raw_name(name.as_str(), parent)
    }

    /// Encrypts any text as a name: foreign clients store forms that this crate would not.
    #[must_use]
    pub fn encrypt_raw_name(&self, name: &str, parent: &DirectoryId) -> EncryptedName {
        // Exactly one associated datum, which is empty in the root.
        let encrypted = wiped_after(|| self.siv().encrypt([parent.as_bytes()], name.as_bytes()))
            .unwrap_or_else(|_| unreachable!("AES-SIV takes text of any length"));
        let long = BASE64URL.encode(&encrypted) + REGULAR;
        if long.len() <= self.config.shortening_threshold {
            return EncryptedName { entry: long, long_name: None };
        }
        EncryptedName { entry: shorten(&long), long_name: Some(long) }
    }

    /// Decrypts an entry's name `X.c9r` (or the content of a `name.c9s`) that lies in the directory `parent`.
    ///
    /// # Errors
    ///
    /// [`NameError::NotAuthentic`] if it is not from this directory, [`NameError::Unsafe`] or [`NameError::TooLong`] if
    /// what comes out can't be shown: key holders can store anything.
    pub fn decrypt_name(&self, entry: &str, parent: &DirectoryId) -> Result<CleartextName, NameError> {
        let encoded = entry.strip_suffix(REGULAR).ok_or(NameError::Malformed)?;
        let encrypted = BASE64URL.decode(encoded.as_bytes()).map_err(|_| NameError::Malformed)?;
        let name = wiped_after(|| self.siv().decrypt([parent.as_bytes()], &encrypted))
            .map_err(|_| NameError::NotAuthentic)?;
        CleartextName::parse(&name)
    }

    /// The name of a shortened entry `H.c9s`, from the content of its `name.c9s`.
    ///
    /// Bytes behind `.c9r` are ignored: an old Cryptomator left some there.
    ///
    /// # Errors
    ///
    /// [`NameError::HashMismatch`] if the entry is not the name's, and what [`Self::decrypt_name`] says.
    pub fn expand_shortened(
        &self,
        entry: &[u8],
        long_name: &[u8],
        parent: &DirectoryId,
    ) -> Result<CleartextName, NameError> {
        let long_name = long_name_in(long_name).ok_or(NameError::Malformed)?;
        let name = self.decrypt_name(long_name, parent)?;
        if shorten(long_name).as_bytes() == entry { Ok(name) } else { Err(NameError::HashMismatch { name }) }
    }
}

/// The long name in the content of a `name.c9s`: what stands behind it is ignored.
fn long_name_in(content: &[u8]) -> Option<&str> {
    if content.len() > LONG_NAME_MAX {
        return None;
    }
    let found = content.windows(REGULAR.len()).position(|window| window == REGULAR.as_bytes())?;
    std::str::from_utf8(content.get(..found + REGULAR.len())?).ok()
}

/// The length of the encrypted name that an entry `X.c9r` is, in characters; `None` if it can't be one. Tells nothing
/// about whose it is.
#[must_use]
pub fn encrypted_name_len(entry: &[u8]) -> Option<usize> {
    let encoded = entry.strip_suffix(REGULAR.as_bytes())?;
    let encrypted = BASE64URL.decode(encoded).ok()?;
    (encrypted.len() > SIV_LEN).then_some(entry.len())
}

/// The length of the encrypted name that a shortened entry `H.c9s` stands for, from the content of its `name.c9s`;
/// `None` if the entry is not the hash of such a name.
#[must_use]
pub fn shortened_name_len(entry: &[u8], long_name: &[u8]) -> Option<usize> {
    let long_name = long_name_in(long_name)?;
    if shorten(long_name).as_bytes() == entry { encrypted_name_len(long_name.as_bytes()) } else { None }
}

/// The entry of a name that is too long: a hash of the whole encrypted name, `.c9r` included.
fn shorten(long_name: &str) -> String {
    BASE64URL.encode(&Sha1::digest(long_name.as_bytes())) + SHORTENED
}

//! The Cryptomator vault format: bytes in, bytes out.
//!
//! No I/O and no async: what the server holds comes in as bytes, and what it should hold goes out as bytes. The format
//! is described in `docs/vault-format.md`, whose section numbers the comments here cite, and in Cryptomator's
//! documentation under "Vault Cryptography". This crate reads and writes formats 8 and 7.
//!
//! The way through: a [`MasterkeyFile`] is unlocked with a password and gives the [`Masterkey`], or a recovery key is
//! read, which is the masterkey in words; with it an [`UnverifiedConfig`] becomes the [`VaultConfig`]; both make a
//! [`Cryptor`], which encrypts and decrypts names and content.

pub mod age;
mod combo;
mod config;
mod content;
mod directory_id;
mod length;
mod listing;
mod masterkey;
mod masterkey_file;
mod name;
mod name_cipher;
mod recovery_key;
mod stack;
mod sync_clients;

pub use combo::{CLEARTEXT_CHUNK_LEN, CipherCombo, LengthError, UnknownCipherCombo};
pub use config::{ConfigError, UnverifiedConfig, VaultConfig};
pub use content::{ContentError, FileHeader};
pub use directory_id::{DirectoryId, DirectoryIdError};
pub use length::{ChunkNumber, ChunkPart, ChunkRange, CiphertextLen, CleartextLen, chunk_parts};
pub use listing::{Listed, addition_of, find_ending};
pub use masterkey::Masterkey;
pub use masterkey_file::{MasterkeyFile, MasterkeyFileError, UnlockError};
pub use name::{CleartextName, NameError, copy_name};
pub use name_cipher::{EncryptedName, encrypted_name_len, shortened_name_len};
pub use recovery_key::RecoveryKeyError;
pub use sync_clients::{ClientMark, conflict_mark, is_litter, unfinished};

/// The keys of one unlocked vault: encrypts and decrypts its names and content.
///
/// Its methods stand beside what they work on: names in `name_cipher` and `listing`, content in `content`.
pub struct Cryptor {
    masterkey: Masterkey,
    config: VaultConfig,
}

impl Cryptor {
    /// Puts keys and verified config together.
    #[must_use]
    pub fn new(masterkey: Masterkey, config: VaultConfig) -> Self {
        Self { masterkey, config }
    }

    /// Checks a config against this vault's keys.
    ///
    /// # Errors
    ///
    /// As [`UnverifiedConfig::verify`].
    pub fn verify(&self, config: UnverifiedConfig) -> Result<VaultConfig, ConfigError> {
        config.verify(&self.masterkey)
    }

    /// The vault's keys.
    #[must_use]
    pub fn masterkey(&self) -> &Masterkey {
        &self.masterkey
    }

    /// The vault's config.
    #[must_use]
    pub fn config(&self) -> &VaultConfig {
        &self.config
    }
}

impl std::fmt::Debug for Cryptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cryptor").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes: {0}")]
pub struct RandomError(#[from] getrandom::Error);

/// Fills `bytes` from the system's random source.
fn fill_random(bytes: &mut [u8]) -> Result<(), RandomError> {
    Ok(getrandom::fill(bytes)?)
}

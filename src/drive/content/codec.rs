//! The encoding of cleartext chunks in a file on the server: unchanged outside vaults, encrypted inside.

use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::{CLEARTEXT_CHUNK_LEN, Cryptor, FileHeader};

use crate::drive::error::DriveError;

/// Cleartext bytes in a full chunk (`docs/vault-format.md` section 9); plain files are handled in pieces of the same
/// length.
pub(in crate::drive) const CHUNK_LEN: u64 = CLEARTEXT_CHUNK_LEN as u64;

/// Chunks that go in one message where several may: 7 encrypted chunks are 229,572 bytes, with a header still under
/// OpenSSH's limit of 255 KiB a READ or WRITE.
pub(in crate::drive) const GROUP_CHUNKS: u64 = 7;

/// Converts between cleartext chunks and the bytes on the server, for one file.
pub(super) enum Codec {
    /// A file outside vaults: the bytes are stored unchanged.
    Plain,
    /// A file in a vault, with its header.
    Vault {
        /// The vault's keys.
        cryptor: Arc<Cryptor>,
        /// The file's own nonce and content key.
        header: Box<FileHeader>,
    },
}

impl Codec {
    /// Returns the number of bytes before the first chunk.
    pub(super) fn header_len(&self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Vault { cryptor, .. } => cryptor.config().cipher_combo.header_len() as u64,
        }
    }

    /// Returns the header as it is stored; empty outside vaults.
    pub(super) fn header(&self) -> Result<Vec<u8>, DriveError> {
        match self {
            Self::Plain => Ok(Vec::new()),
            Self::Vault { cryptor, header } => cryptor.encrypt_header(header).map_err(DriveError::damaged),
        }
    }

    /// Returns the length on the server of a file with `cleartext_len` bytes.
    pub(super) fn stored_len(&self, cleartext_len: u64) -> u64 {
        match self {
            Self::Plain => cleartext_len,
            Self::Vault { cryptor, .. } => cryptor.config().cipher_combo.ciphertext_len(cleartext_len),
        }
    }

    /// Returns the offset of chunk `number` on the server.
    pub(super) fn offset(&self, number: u64) -> u64 {
        self.stored_len(number.saturating_mul(CHUNK_LEN))
    }

    /// Appends the bytes to store for a chunk.
    pub(super) fn encode(
        &self,
        number: u64,
        cleartext: &[u8],
        stored: &mut Vec<u8>,
    ) -> Result<(), DriveError> {
        match self {
            Self::Plain => stored.extend_from_slice(cleartext),
            Self::Vault { cryptor, header } => {
                let chunk = cryptor.encrypt_chunk(header, number, cleartext);
                stored.extend(chunk.map_err(|error| DriveError::Random(error.to_string()))?);
            }
        }
        Ok(())
    }

    /// Returns the cleartext of a stored chunk, authenticated before a byte of it is returned.
    pub(super) fn decode(&self, number: u64, stored: &[u8]) -> Result<Bytes, DriveError> {
        match self {
            // A slice of a longer message would keep the whole message in memory.
            Self::Plain => Ok(Bytes::copy_from_slice(stored)),
            Self::Vault { cryptor, header } => cryptor
                .decrypt_chunk(header, number, stored)
                .map(Bytes::from)
                .map_err(|error| DriveError::damaged(format_args!("chunk {number}: {error}"))),
        }
    }
}

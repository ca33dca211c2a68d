//! The encoding of cleartext chunks in a file on the server: encrypted in vaults; unchanged outside, where files are
//! handled in pieces of the same length.

use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::{ChunkNumber, CipherCombo, CiphertextLen, CleartextLen, Cryptor, FileHeader};

use crate::drive::error::DriveError;

/// Chunks that go in one message where several may: 7 encrypted chunks are 229,572 bytes, with a header still under
/// OpenSSH's limit of 255 KiB a READ or WRITE.
pub(in crate::drive) const GROUP_CHUNKS: u64 = 7;

/// The cleartext of a full group.
pub(in crate::drive) const GROUP_LEN: CleartextLen = ChunkNumber(GROUP_CHUNKS).start();

/// Converts between cleartext chunks and the bytes on the server, for one file.
pub(super) enum Codec {
    /// A file outside vaults: its ciphertext is the cleartext, without a header.
    Plain,
    /// A file in a vault, with its header.
    Vault {
        /// The vault's keys.
        cryptor: Arc<Cryptor>,
        /// The file's own nonce and content key.
        header: Box<FileHeader>,
    },
    /// A file whose vault was locked before all of it was sent: its chunks are encrypted already.
    Sealed {
        /// The vault's ciphers.
        combo: CipherCombo,
        /// The header as it is stored.
        header: Bytes,
    },
}

impl Codec {
    /// Whether the file is encrypted: its chunks follow a header.
    pub(super) fn has_header(&self) -> bool {
        self.combo().is_some()
    }

    /// Returns the ciphers of the file's vault; `None` outside vaults.
    fn combo(&self) -> Option<CipherCombo> {
        match self {
            Self::Plain => None,
            Self::Vault { cryptor, .. } => Some(cryptor.config().cipher_combo),
            Self::Sealed { combo, .. } => Some(*combo),
        }
    }

    /// Returns the same for chunks that are encrypted already: no key is left in it.
    pub(super) fn sealed(&self) -> Result<Self, DriveError> {
        let combo = self.combo().ok_or(DriveError::Invalid)?;
        Ok(Self::Sealed { combo, header: Bytes::from(self.header()?) })
    }

    /// Returns the cleartext length of a chunk as this encodes it.
    pub(super) fn cleartext_len(&self, chunk: &Bytes) -> u64 {
        let overhead = match self {
            Self::Plain | Self::Vault { .. } => 0,
            Self::Sealed { combo, .. } => combo.chunk_overhead(),
        };
        chunk.len().saturating_sub(overhead) as u64
    }

    /// Returns the number of bytes before the first chunk.
    pub(super) fn header_len(&self) -> usize {
        self.combo().map_or(0, CipherCombo::header_len)
    }

    /// Returns the header as it is stored; empty outside vaults.
    pub(super) fn header(&self) -> Result<Vec<u8>, DriveError> {
        match self {
            Self::Plain => Ok(Vec::new()),
            Self::Vault { cryptor, header } => cryptor.encrypt_header(header).map_err(DriveError::damaged),
            Self::Sealed { header, .. } => Ok(header.to_vec()),
        }
    }

    /// Returns the length on the server of a file with so much cleartext.
    pub(super) fn ciphertext_len(&self, length: CleartextLen) -> CiphertextLen {
        self.combo().map_or(CiphertextLen(length.0), |combo| combo.ciphertext_len(length))
    }

    /// Returns the offset of a chunk on the server.
    pub(super) fn offset(&self, number: ChunkNumber) -> CiphertextLen {
        self.ciphertext_len(number.start())
    }

    /// Returns the bytes that a chunk takes on the server in a file of `length`; 0 behind its end.
    pub(super) fn chunk_len(&self, length: CleartextLen, number: ChunkNumber) -> usize {
        match (self.combo(), length.chunk_len(number)) {
            (Some(combo), cleartext @ 1..) => cleartext + combo.chunk_overhead(),
            (_, cleartext) => cleartext,
        }
    }

    /// Appends the bytes to store for a chunk, which is cleartext unless this is sealed.
    pub(super) fn encode(
        &self,
        number: ChunkNumber,
        chunk: &[u8],
        stored: &mut Vec<u8>,
    ) -> Result<(), DriveError> {
        match self {
            Self::Plain | Self::Sealed { .. } => stored.extend_from_slice(chunk),
            Self::Vault { cryptor, header } => {
                let chunk = cryptor.encrypt_chunk(header, number, chunk);
                stored.extend(chunk.map_err(|error| DriveError::Random(error.to_string()))?);
            }
        }
        Ok(())
    }

    /// Returns the cleartext of a stored chunk, authenticated before a byte of it is returned.
    pub(super) fn decode(&self, number: ChunkNumber, stored: &[u8]) -> Result<Bytes, DriveError> {
        match self {
            // A slice of a longer message would keep the whole message in memory.
            Self::Plain => Ok(Bytes::copy_from_slice(stored)),
            Self::Vault { cryptor, header } => cryptor
                .decrypt_chunk(header, number, stored)
                .map(Bytes::from)
                .map_err(|error| DriveError::damaged(format_args!("chunk {number}: {error}"))),
            Self::Sealed { .. } => Err(DriveError::Locked),
        }
    }
}

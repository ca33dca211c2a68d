//! The two cipher combos, and the formula between lengths of cleartext and ciphertext (sections 8 to 10).

use std::fmt;
use std::str::FromStr;

use crate::{CiphertextLen, CleartextLen};

/// Bytes of cleartext in a full chunk.
pub const CLEARTEXT_CHUNK_LEN: usize = 32 * 1024;

/// The ciphers of a vault. Names are AES-SIV in both; they differ in how content is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CipherCombo {
    /// Content by AES-256-GCM.
    SivGcm,
    /// Content by AES-256-CTR with HMAC-SHA256.
    SivCtrMac,
}

/// A ciphertext length that no file of the format can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// Not even a whole header.
    #[error("{0} bytes are too short for a file header")]
    TooShort(u64),
    /// The last chunk would be shorter than its own nonce and tag.
    #[error("{0} bytes end inside a chunk's nonce or tag")]
    IllegalRemainder(u64),
}

/// The name of a cipher combo that this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown cipher combo {0:?}")]
pub struct UnknownCipherCombo(pub String);

impl CipherCombo {
    /// Bytes of nonce that a header and every chunk begin with.
    pub(crate) const fn nonce_len(self) -> usize {
        match self {
            Self::SivGcm => 12,
            Self::SivCtrMac => 16,
        }
    }

    /// Bytes of tag that a header and every chunk end with.
    pub(crate) const fn tag_len(self) -> usize {
        match self {
            Self::SivGcm => 16,
            Self::SivCtrMac => 32,
        }
    }

    /// Bytes before the first chunk.
    #[must_use]
    pub const fn header_len(self) -> usize {
        self.nonce_len() + crate::content::HEADER_PAYLOAD_LEN + self.tag_len()
    }

    /// Bytes that encryption adds to a chunk.
    #[must_use]
    pub const fn chunk_overhead(self) -> usize {
        self.nonce_len() + self.tag_len()
    }

    /// Bytes of a full encrypted chunk.
    #[must_use]
    pub const fn ciphertext_chunk_len(self) -> usize {
        CLEARTEXT_CHUNK_LEN + self.chunk_overhead()
    }

    /// Length of the encrypted file for content of this length; saturates far beyond what any server can hold.
    #[must_use]
    pub const fn ciphertext_len(self, cleartext_len: CleartextLen) -> CiphertextLen {
        let overhead = cleartext_len.chunks().count().saturating_mul(self.chunk_overhead() as u64);
        CiphertextLen(cleartext_len.0.saturating_add(overhead).saturating_add(self.header_len() as u64))
    }

    /// Length of the cleartext in an encrypted file of this length.
    ///
    /// A trailing empty chunk is tolerated: some writers add one when the content fills its chunks exactly.
    ///
    /// # Errors
    ///
    /// If no content can have this length.
    pub const fn cleartext_len(self, ciphertext_len: CiphertextLen) -> Result<CleartextLen, LengthError> {
        let Some(payload) = ciphertext_len.0.checked_sub(self.header_len() as u64) else {
            return Err(LengthError::TooShort(ciphertext_len.0));
        };
        let full = self.ciphertext_chunk_len() as u64;
        let overhead = self.chunk_overhead() as u64;
        let whole_chunks = (payload / full) * CLEARTEXT_CHUNK_LEN as u64;
        match payload % full {
            0 => Ok(CleartextLen(whole_chunks)),
            remainder if remainder >= overhead => Ok(CleartextLen(whole_chunks + remainder - overhead)),
            _ => Err(LengthError::IllegalRemainder(ciphertext_len.0)),
        }
    }
}

impl fmt::Display for CipherCombo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SivGcm => "SIV_GCM",
            Self::SivCtrMac => "SIV_CTRMAC",
        })
    }
}

impl FromStr for CipherCombo {
    type Err = UnknownCipherCombo;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "SIV_GCM" => Ok(Self::SivGcm),
            "SIV_CTRMAC" => Ok(Self::SivCtrMac),
            other => Err(UnknownCipherCombo(other.to_owned())),
        }
    }
}

//! The Cryptomator vault format: bytes in, bytes out.

/// The ciphers of a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherCombo {
    /// AES-SIV names, AES-GCM content.
    SivGcm,
    /// AES-SIV names, AES-CTR content with HMAC-SHA256.
    SivCtrMac,
}

//! Private keys in the old encrypted PEM format, which `ssh-keygen -m PEM` and `openssl genrsa` write: a `DEK-Info` header names
//! the cipher (RFC 1421), and the key is derived as OpenSSL's `EVP_BytesToKey` does, with MD5 and one round.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use data_encoding::{BASE64, HEXUPPER_PERMISSIVE};
use zeroize::Zeroizing;

/// Why a key can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PemError {
    /// The passphrase is wrong, or the key damaged: the two look the same.
    #[error("the passphrase is wrong, or the key is damaged")]
    WrongPassphrase,
    /// Another cipher than AES.
    #[error("it is encrypted with {0}; convert it with `ssh-keygen -p -f FILE`")]
    Cipher(String),
    /// Not what a PEM file looks like.
    #[error("it is not a PEM file that can be read")]
    Malformed,
}

/// Whether a file is in this format.
pub(super) fn is_encrypted(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("DEK-Info:"))
}

/// The same key as PEM without encryption.
pub(super) fn decrypt(text: &str, passphrase: &str) -> Result<Zeroizing<String>, PemError> {
    let mut lines = text.lines().map(str::trim_end).skip_while(|line| !line.starts_with("-----BEGIN "));
    let begin = lines.next().ok_or(PemError::Malformed)?;
    let (mut cipher, mut body) = (None, String::new());
    for line in lines.take_while(|line| !line.starts_with("-----END ")) {
        match line.split_once(": ") {
            Some(("DEK-Info", value)) => cipher = value.split_once(','),
            Some(_) => {}
            None => body.push_str(line),
        }
    }
    let (cipher, iv) = cipher.ok_or(PemError::Malformed)?;
    let iv = HEXUPPER_PERMISSIVE.decode(iv.trim().as_bytes()).map_err(|_| PemError::Malformed)?;
    let mut content =
        Zeroizing::new(BASE64.decode(body.as_bytes()).map_err(|_| PemError::Malformed)?.to_vec());
    let len = match cipher {
        "AES-128-CBC" => decrypt_cbc::<cbc::Decryptor<Aes128>>(&mut content, passphrase, &iv, 16),
        "AES-192-CBC" => decrypt_cbc::<cbc::Decryptor<Aes192>>(&mut content, passphrase, &iv, 24),
        "AES-256-CBC" => decrypt_cbc::<cbc::Decryptor<Aes256>>(&mut content, passphrase, &iv, 32),
        other => return Err(PemError::Cipher(other.to_owned())),
    }?;
    let content = content.get(..len).unwrap_or_default();
    let body = Zeroizing::new(BASE64.encode(content));
    let end = begin.replacen("BEGIN", "END", 1);
    Ok(Zeroizing::new(format!("{begin}\n{}\n{end}\n", body.as_str())))
}

/// Decrypts in place; answers the length without the padding.
fn decrypt_cbc<C: KeyIvInit + BlockModeDecrypt>(
    content: &mut [u8],
    passphrase: &str,
    iv: &[u8],
    key_len: usize,
) -> Result<usize, PemError> {
    let salt = iv.get(..8).ok_or(PemError::Malformed)?;
    let mut key = Zeroizing::new(Vec::with_capacity(48));
    let mut last = Zeroizing::new(Vec::new());
    while key.len() < key_len {
        last.extend_from_slice(passphrase.as_bytes());
        last.extend_from_slice(salt);
        *last = md5::compute(last.as_slice()).0.to_vec();
        key.extend_from_slice(&last);
    }
    let key = key.get(..key_len).unwrap_or_default();
    let decryptor = C::new_from_slices(key, iv).map_err(|_| PemError::Malformed)?;
    let plain = decryptor.decrypt_padded::<Pkcs7>(content).map_err(|_| PemError::WrongPassphrase)?;
    Ok(plain.len())
}

//! File headers and chunks (sections 8 and 9).

use aes::Aes256;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::Mac;
use zeroize::Zeroizing;

use crate::masterkey::{KEY_LEN, Key, LockedKeys};
use crate::masterkey_file::hmac;
use crate::stack::wiped_after;
use crate::{CLEARTEXT_CHUNK_LEN, ChunkNumber, CipherCombo, Cryptor, RandomError, fill_random};

/// Encrypted bytes in a header: 8 reserved ones and the content key.
pub(crate) const HEADER_PAYLOAD_LEN: usize = RESERVED.len() + KEY_LEN;
/// They mean nothing, and are ignored when read.
const RESERVED: [u8; 8] = [0xff; 8];

/// Longest nonce of either combo, bytes.
const NONCE_LEN_MAX: usize = 16;

/// Why content can't be encrypted or decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The header was changed, or is from another vault.
    #[error("the file header does not authenticate")]
    Header,
    /// The chunk was changed, moved, or is from another file.
    #[error("the content does not authenticate")]
    Chunk,
    /// Fewer bytes than a header or chunk can have, or more.
    #[error("{0} bytes are not a whole header or chunk")]
    Length(usize),
    /// There is no nonce to encrypt with.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// What is a file's own: a nonce and a content key.
///
/// All chunks are bound to it. It stays the same while a file's content is changed in place; new content gets a new
/// one.
pub struct FileHeader {
    nonce: [u8; NONCE_LEN_MAX],
    content_key: LockedKeys<1>,
}

impl FileHeader {
    fn nonce(&self, combo: CipherCombo) -> &[u8] {
        self.nonce.split_at(combo.nonce_len()).0
    }

    fn content_key(&self) -> &Key {
        let [key] = &*self.content_key;
        key
    }
}

impl std::fmt::Debug for FileHeader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FileHeader(..)")
    }
}

/// What a chunk is bound to: its file and its number. A header is bound to nothing.
type Place<'a> = Option<(&'a FileHeader, ChunkNumber)>;

impl Cryptor {
    /// A header for new content.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn new_header(&self) -> Result<FileHeader, RandomError> {
        Ok(FileHeader { nonce: random_nonce()?, content_key: LockedKeys::random()? })
    }

    /// The bytes a file begins with. The same header always gives the same bytes.
    ///
    /// # Errors
    ///
    /// Never in practice: the cipher takes inputs of this length.
    pub fn encrypt_header(&self, header: &FileHeader) -> Result<Vec<u8>, ContentError> {
        let combo = self.config.cipher_combo;
        let mut bytes = Vec::with_capacity(combo.header_len());
        bytes.extend_from_slice(header.nonce(combo));
        bytes.extend_from_slice(&RESERVED);
        bytes.extend_from_slice(header.content_key());
        wiped_after(|| self.seal(self.masterkey.encryption_key(), None, &mut bytes))?;
        Ok(bytes)
    }

    /// Decrypts the header that a file begins with; `bytes` is exactly that.
    ///
    /// # Errors
    ///
    /// [`ContentError::Length`] or [`ContentError::Header`].
    pub fn decrypt_header(&self, bytes: &[u8]) -> Result<FileHeader, ContentError> {
        let combo = self.config.cipher_combo;
        if bytes.len() != combo.header_len() {
            return Err(ContentError::Length(bytes.len()));
        }
        let payload = wiped_after(|| self.open(self.masterkey.encryption_key(), None, bytes));
        let payload = Zeroizing::new(payload.map_err(|_| ContentError::Header)?);
        let mut header = FileHeader { nonce: [0; NONCE_LEN_MAX], content_key: LockedKeys::zeros() };
        header.nonce.iter_mut().zip(bytes).take(combo.nonce_len()).for_each(|(to, from)| *to = *from);
        let key = payload.get(RESERVED.len()..).ok_or(ContentError::Header)?;
        header.content_key.as_flattened_mut().copy_from_slice(key);
        Ok(header)
    }

    /// Encrypts chunk `number` of a file: at most [`CLEARTEXT_CHUNK_LEN`] bytes, under a fresh nonce.
    ///
    /// # Errors
    ///
    /// [`ContentError::Random`], or [`ContentError::Length`] if it is more than a chunk.
    pub fn encrypt_chunk(
        &self,
        header: &FileHeader,
        number: ChunkNumber,
        cleartext: &[u8],
    ) -> Result<Vec<u8>, ContentError> {
        self.encrypt_chunk_with(header, number, cleartext, &random_nonce()?)
    }

    fn encrypt_chunk_with(
        &self,
        header: &FileHeader,
        number: ChunkNumber,
        cleartext: &[u8],
        nonce: &[u8; NONCE_LEN_MAX],
    ) -> Result<Vec<u8>, ContentError> {
        let combo = self.config.cipher_combo;
        if cleartext.len() > CLEARTEXT_CHUNK_LEN {
            return Err(ContentError::Length(cleartext.len()));
        }
        let mut bytes = Vec::with_capacity(cleartext.len() + combo.chunk_overhead());
        bytes.extend_from_slice(nonce.split_at(combo.nonce_len()).0);
        bytes.extend_from_slice(cleartext);
        wiped_after(|| self.seal(header.content_key(), Some((header, number)), &mut bytes))?;
        Ok(bytes)
    }

    /// Decrypts chunk `number` of a file. Not one byte comes out before all of it is authenticated.
    ///
    /// # Errors
    ///
    /// [`ContentError::Length`] or [`ContentError::Chunk`].
    pub fn decrypt_chunk(
        &self,
        header: &FileHeader,
        number: ChunkNumber,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, ContentError> {
        let combo = self.config.cipher_combo;
        if !(combo.chunk_overhead()..=combo.ciphertext_chunk_len()).contains(&ciphertext.len()) {
            return Err(ContentError::Length(ciphertext.len()));
        }
        wiped_after(|| self.open(header.content_key(), Some((header, number)), ciphertext))
    }

    /// A whole small file: a header and its chunks. For `symlink.c9r` and `dirid.c9r`.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn encrypt_small(&self, cleartext: &[u8]) -> Result<Vec<u8>, ContentError> {
        let header = self.new_header()?;
        let mut bytes = self.encrypt_header(&header)?;
        for (number, chunk) in (0..).map(ChunkNumber).zip(cleartext.chunks(CLEARTEXT_CHUNK_LEN)) {
            bytes.extend(self.encrypt_chunk(&header, number, chunk)?);
        }
        Ok(bytes)
    }

    /// The content of a whole small file. A trailing empty chunk is tolerated, if it is authentic.
    ///
    /// # Errors
    ///
    /// As for headers and chunks.
    pub fn decrypt_small(&self, bytes: &[u8]) -> Result<Vec<u8>, ContentError> {
        let combo = self.config.cipher_combo;
        let (header, chunks) =
            bytes.split_at_checked(combo.header_len()).ok_or(ContentError::Length(bytes.len()))?;
        let header = self.decrypt_header(header)?;
        let mut cleartext = Vec::new();
        for (number, chunk) in (0..).map(ChunkNumber).zip(chunks.chunks(combo.ciphertext_chunk_len())) {
            cleartext.extend(self.decrypt_chunk(&header, number, chunk)?);
        }
        Ok(cleartext)
    }

    /// `bytes` is a nonce and cleartext; encrypts in place and appends the tag.
    fn seal(&self, key: &Key, place: Place<'_>, bytes: &mut Vec<u8>) -> Result<(), ContentError> {
        let combo = self.config.cipher_combo;
        let wrong_length = ContentError::Length(bytes.len());
        let (nonce, text) = bytes.split_at_mut(combo.nonce_len());
        match (combo, place) {
            (CipherCombo::SivGcm, None) => {
                let nonce = (&*nonce).try_into().map_err(|_| wrong_length)?;
                let tag = Aes256Gcm::new(key.into())
                    .encrypt_inout_detached(nonce, &[], text.into())
                    .map_err(|_| wrong_length)?;
                bytes.extend_from_slice(&tag);
            }
            (CipherCombo::SivGcm, Some(place)) => {
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong_length)?;
                let tag = chunk_cipher(key)
                    .and_then(|cipher| {
                        cipher.seal_in_place_separate_tag(nonce, Aad::from(gcm_associated(place)), text)
                    })
                    .map_err(|_| wrong_length)?;
                bytes.extend_from_slice(tag.as_ref());
            }
            (CipherCombo::SivCtrMac, _) => {
                apply_ctr(key, nonce, text).ok_or(wrong_length)?;
                let tag = self.ctr_mac(place, bytes).finalize().into_bytes();
                bytes.extend_from_slice(&tag);
            }
        }
        Ok(())
    }

    /// `bytes` is nonce, ciphertext and tag; gives the cleartext, or [`ContentError::Chunk`] if they don't
    /// authenticate.
    fn open(&self, key: &Key, place: Place<'_>, bytes: &[u8]) -> Result<Vec<u8>, ContentError> {
        let combo = self.config.cipher_combo;
        let wrong_length = ContentError::Length(bytes.len());
        let text_end = bytes.len().checked_sub(combo.tag_len()).ok_or(wrong_length)?;
        let (signed, tag) = bytes.split_at(text_end);
        let (nonce, text) = signed.split_at_checked(combo.nonce_len()).ok_or(wrong_length)?;
        match (combo, place) {
            (CipherCombo::SivGcm, None) => {
                let nonce = nonce.try_into().map_err(|_| wrong_length)?;
                let tag = tag.try_into().map_err(|_| wrong_length)?;
                let mut text = text.to_vec();
                Aes256Gcm::new(key.into())
                    .decrypt_inout_detached(nonce, &[], text.as_mut_slice().into(), tag)
                    .map_err(|_| ContentError::Chunk)?;
                Ok(text)
            }
            (CipherCombo::SivGcm, Some(place)) => {
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong_length)?;
                let associated = Aad::from(gcm_associated(place));
                // From one buffer to the other: the ciphertext is not copied first.
                let mut cleartext = vec![0; text.len()];
                chunk_cipher(key)
                    .and_then(|cipher| {
                        cipher.open_separate_gather(nonce, associated, text, tag, &mut cleartext)
                    })
                    .map_err(|_| ContentError::Chunk)?;
                Ok(cleartext)
            }
            (CipherCombo::SivCtrMac, _) => {
                self.ctr_mac(place, signed).verify_slice(tag).map_err(|_| ContentError::Chunk)?;
                let mut text = text.to_vec();
                apply_ctr(key, nonce, &mut text).ok_or(wrong_length)?;
                Ok(text)
            }
        }
    }

    /// The MAC over a header, or over a chunk with its file's nonce and its number before it.
    fn ctr_mac(&self, place: Place<'_>, signed: &[u8]) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = hmac(self.masterkey.mac_key());
        if let Some((header, number)) = place {
            mac.update(header.nonce(CipherCombo::SivCtrMac));
            mac.update(&number.0.to_be_bytes());
        }
        mac.update(signed);
        mac
    }
}

/// AES-GCM for chunks, of the library that the SSH connection uses too: bulk content is where its speed counts. It
/// wipes the key that it was set up with.
fn chunk_cipher(key: &Key) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new)
}

/// What GCM authenticates besides a chunk: its number first, then the file's nonce.
fn gcm_associated((header, number): (&FileHeader, ChunkNumber)) -> [u8; 20] {
    let mut associated = [0; 20];
    let (first, second) = associated.split_at_mut(8);
    first.copy_from_slice(&number.0.to_be_bytes());
    second.copy_from_slice(header.nonce(CipherCombo::SivGcm));
    associated
}

fn apply_ctr(key: &Key, nonce: &[u8], text: &mut [u8]) -> Option<()> {
    Ctr128BE::<Aes256>::new_from_slices(key, nonce).ok()?.try_apply_keystream(text).ok()
}

/// Enough random bytes for the nonce of either combo.
fn random_nonce() -> Result<[u8; NONCE_LEN_MAX], RandomError> {
    let mut nonce = [0; NONCE_LEN_MAX];
    fill_random(&mut nonce)?;
    Ok(nonce)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use data_encoding::HEXLOWER;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::{Masterkey, VaultConfig};

    pub(crate) const COMBOS: [CipherCombo; 2] = [CipherCombo::SivGcm, CipherCombo::SivCtrMac];

    /// A vector made by Cryptomator's own library, by its name in `tests/vectors.json`.
    pub(crate) fn vector(name: &str) -> String {
        let all: serde_json::Value = serde_json::from_str(include_str!("../tests/vectors.json")).unwrap();
        all.get(name).unwrap_or_else(|| panic!("no vector {name}")).as_str().unwrap().to_owned()
    }

    pub(crate) fn vector_bytes(name: &str) -> Vec<u8> {
        HEXLOWER.decode(vector(name).as_bytes()).unwrap()
    }

    pub(crate) fn vector_masterkey() -> Masterkey {
        let mut keys = LockedKeys::zeros();
        keys[0].copy_from_slice(&vector_bytes("masterkey.enc"));
        keys[1].copy_from_slice(&vector_bytes("masterkey.mac"));
        Masterkey::from_keys(keys)
    }

    pub(crate) fn cryptor(cipher_combo: CipherCombo, shortening_threshold: usize) -> Cryptor {
        Cryptor::new(vector_masterkey(), VaultConfig { format: 8, cipher_combo, shortening_threshold })
    }

    /// What Cryptomator wrote, written again under the nonces that it used; `tests/vectors.rs` has the other direction.
    #[test]
    fn chunks_are_written_as_in_the_vectors() {
        for combo in COMBOS {
            let cryptor = cryptor(combo, 220);
            let header = cryptor.decrypt_header(&vector_bytes(&format!("{combo}.header"))).unwrap();
            let encrypt = |header: &FileHeader, number, text: &[u8], nonce: &[u8]| {
                let mut padded = [0; NONCE_LEN_MAX];
                padded[..combo.nonce_len()].copy_from_slice(&nonce[..combo.nonce_len()]);
                cryptor.encrypt_chunk_with(header, ChunkNumber(number), text, &padded).unwrap()
            };
            for (name, number, text) in [
                ("chunk0(hello world)", 0, &b"hello world"[..]),
                ("chunk1(hello world)", 1, b"hello world"),
                ("chunk0(empty)", 0, b""),
            ] {
                let bytes = vector_bytes(&format!("{combo}.{name}"));
                assert_eq!(encrypt(&header, number, text, &bytes), bytes);
            }
            let nonce = vector_bytes(&format!("{combo}.chunk258(32768*'A').nonce"));
            let full = encrypt(&header, 258, &[b'A'; CLEARTEXT_CHUNK_LEN], &nonce);
            let hash = HEXLOWER.encode(&Sha256::digest(&full));
            assert_eq!(hash, vector(&format!("{combo}.chunk258(32768*'A').sha256")));
            assert_eq!(
                cryptor.decrypt_chunk(&header, ChunkNumber(258), &full).unwrap(),
                [b'A'; CLEARTEXT_CHUNK_LEN]
            );

            for text in ["", "e9250eb8-078d-4fc0-8835-be92a313360c", "../target.txt"] {
                let file = vector_bytes(&format!("{combo}.dirid.c9r({text})"));
                let (header_bytes, chunk) = file.split_at(combo.header_len());
                let header = cryptor.decrypt_header(header_bytes).unwrap();
                assert_eq!(cryptor.encrypt_header(&header).unwrap(), header_bytes);
                assert_eq!(encrypt(&header, 0, text.as_bytes(), chunk), chunk);
            }
        }
    }

    #[test]
    fn a_chunk_is_decrypted_into_one_allocation_of_its_length() {
        for combo in COMBOS {
            let cryptor = cryptor(combo, 220);
            let header = cryptor.new_header().unwrap();
            let stored =
                cryptor.encrypt_chunk(&header, ChunkNumber::FIRST, &[7; CLEARTEXT_CHUNK_LEN]).unwrap();
            assert_eq!(stored.capacity(), combo.ciphertext_chunk_len());
            let text = cryptor.decrypt_chunk(&header, ChunkNumber::FIRST, &stored).unwrap();
            assert_eq!(text.capacity(), CLEARTEXT_CHUNK_LEN);
        }
    }
}

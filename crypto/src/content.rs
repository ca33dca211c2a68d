//! File headers and chunks (sections 8 and 9).

use aes::Aes256;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::Mac;
use zeroize::{Zeroize, Zeroizing};

use crate::masterkey::KEY_LEN;
use crate::masterkey_file::hmac;
use crate::{CLEARTEXT_CHUNK_LEN, CipherCombo, Cryptor, RandomError, fill_random};

/// Encrypted bytes in a header: 8 reserved ones and the content key.
pub(crate) const HEADER_PAYLOAD_LEN: usize = RESERVED_LEN + KEY_LEN;
const RESERVED_LEN: usize = 8;

/// Longest nonce of either combo, bytes.
const NONCE_LEN_MAX: usize = 16;

/// Why content can't be decrypted.
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
}

/// What is a file's own: a nonce and a content key.
///
/// All chunks are bound to it. It stays the same while a file's content is changed in place; new content gets a new one.
pub struct FileHeader {
    nonce: [u8; NONCE_LEN_MAX],
    content_key: Zeroizing<[u8; KEY_LEN]>,
    /// The cipher for the content key, set up once: only used by `SIV_GCM`.
    gcm: Aes256Gcm,
}

impl FileHeader {
    fn new(nonce: &[u8], content_key: Zeroizing<[u8; KEY_LEN]>) -> Self {
        let mut own = [0; NONCE_LEN_MAX];
        own.iter_mut().zip(nonce).for_each(|(to, from)| *to = *from);
        Self { nonce: own, gcm: Aes256Gcm::new(&(*content_key).into()), content_key }
    }

    fn nonce(&self, combo: CipherCombo) -> &[u8] {
        self.nonce.split_at(combo.nonce_len()).0
    }
}

impl std::fmt::Debug for FileHeader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FileHeader(..)")
    }
}

impl Cryptor {
    /// A header for new content.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn new_header(&self) -> Result<FileHeader, RandomError> {
        let mut nonce = [0; NONCE_LEN_MAX];
        fill_random(&mut nonce)?;
        let mut content_key = Zeroizing::new([0; KEY_LEN]);
        fill_random(&mut *content_key)?;
        Ok(FileHeader::new(nonce.split_at(self.config.cipher_combo.nonce_len()).0, content_key))
    }

    /// The bytes a file begins with. The same header always gives the same bytes.
    ///
    /// # Errors
    ///
    /// Never in practice: the cipher takes inputs of this length.
    pub fn encrypt_header(&self, header: &FileHeader) -> Result<Vec<u8>, ContentError> {
        let combo = self.config.cipher_combo;
        let mut payload = Zeroizing::new([0xff; HEADER_PAYLOAD_LEN]);
        payload.split_at_mut(RESERVED_LEN).1.copy_from_slice(&*header.content_key);
        let mut bytes = Vec::with_capacity(combo.header_len());
        bytes.extend_from_slice(header.nonce(combo));
        bytes.extend_from_slice(&*payload);
        let cipher = Aes256Gcm::new_from_slice(self.masterkey.encryption_key());
        match (combo, cipher) {
            (CipherCombo::SivGcm, Ok(cipher)) => seal_gcm(&cipher, &[], &mut bytes)?,
            _ => self.seal_ctr(self.masterkey.encryption_key(), None, &mut bytes)?,
        }
        payload.zeroize();
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
        let mut opened = Zeroizing::new(bytes.to_vec());
        let cipher = Aes256Gcm::new_from_slice(self.masterkey.encryption_key());
        let payload = match (combo, cipher) {
            (CipherCombo::SivGcm, Ok(cipher)) => open_gcm(&cipher, &[], &mut opened),
            _ => self.open_ctr(self.masterkey.encryption_key(), None, &mut opened),
        };
        let payload = payload.map_err(|_| ContentError::Header)?;
        // The reserved bytes mean nothing.
        let (_, key) = payload.split_at_checked(RESERVED_LEN).ok_or(ContentError::Header)?;
        let key: [u8; KEY_LEN] = key.try_into().map_err(|_| ContentError::Header)?;
        Ok(FileHeader::new(bytes.split_at(combo.nonce_len()).0, Zeroizing::new(key)))
    }

    /// Encrypts chunk `number` of a file: at most [`CLEARTEXT_CHUNK_LEN`] bytes, under a fresh nonce.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn encrypt_chunk(
        &self,
        header: &FileHeader,
        number: u64,
        cleartext: &[u8],
    ) -> Result<Vec<u8>, RandomError> {
        let mut nonce = [0; NONCE_LEN_MAX];
        fill_random(&mut nonce)?;
        self.encrypt_chunk_with(header, number, cleartext, &nonce)
            .map_err(|error| RandomError(error.to_string()))
    }

    fn encrypt_chunk_with(
        &self,
        header: &FileHeader,
        number: u64,
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
        match combo {
            CipherCombo::SivGcm => seal_gcm(&header.gcm, &gcm_associated(header, number), &mut bytes)?,
            CipherCombo::SivCtrMac => {
                self.seal_ctr(&*header.content_key, Some((header, number)), &mut bytes)?;
            }
        }
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
        number: u64,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, ContentError> {
        let combo = self.config.cipher_combo;
        if !(combo.chunk_overhead()..=combo.ciphertext_chunk_len()).contains(&ciphertext.len()) {
            return Err(ContentError::Length(ciphertext.len()));
        }
        let mut bytes = ciphertext.to_vec();
        let length = match combo {
            CipherCombo::SivGcm => open_gcm(&header.gcm, &gcm_associated(header, number), &mut bytes)?.len(),
            CipherCombo::SivCtrMac => {
                self.open_ctr(&*header.content_key, Some((header, number)), &mut bytes)?.len()
            }
        };
        bytes.drain(..combo.nonce_len());
        bytes.truncate(length);
        Ok(bytes)
    }

    /// A whole small file: a header and its chunks. For `symlink.c9r` and `dirid.c9r`.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn encrypt_small(&self, cleartext: &[u8]) -> Result<Vec<u8>, RandomError> {
        let header = self.new_header()?;
        let mut bytes = self.encrypt_header(&header).map_err(|error| RandomError(error.to_string()))?;
        for (number, chunk) in (0..).zip(cleartext.chunks(CLEARTEXT_CHUNK_LEN)) {
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
        for (number, chunk) in (0..).zip(chunks.chunks(combo.ciphertext_chunk_len())) {
            cleartext.extend(self.decrypt_chunk(&header, number, chunk)?);
        }
        Ok(cleartext)
    }

    /// `bytes` is a nonce and cleartext; encrypts in place and appends the tag. Chunks are bound to their file and number.
    fn seal_ctr(
        &self,
        key: &[u8],
        chunk: Option<(&FileHeader, u64)>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), ContentError> {
        let length = bytes.len();
        let (nonce, text) = bytes.split_at_mut(CipherCombo::SivCtrMac.nonce_len());
        apply_ctr(key, nonce, text).ok_or(ContentError::Length(length))?;
        let tag = self.ctr_mac(chunk, bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag);
        Ok(())
    }

    /// `bytes` is nonce, ciphertext and tag; checks, decrypts in place and gives the cleartext.
    fn open_ctr<'a>(
        &self,
        key: &[u8],
        chunk: Option<(&FileHeader, u64)>,
        bytes: &'a mut [u8],
    ) -> Result<&'a [u8], ContentError> {
        let combo = CipherCombo::SivCtrMac;
        let length = bytes.len();
        let cut = length.checked_sub(combo.tag_len()).ok_or(ContentError::Length(length))?;
        let (signed, tag) = bytes.split_at_mut(cut);
        self.ctr_mac(chunk, signed).verify_slice(tag).map_err(|_| ContentError::Chunk)?;
        let (nonce, text) =
            signed.split_at_mut_checked(combo.nonce_len()).ok_or(ContentError::Length(length))?;
        apply_ctr(key, nonce, text).ok_or(ContentError::Length(length))?;
        Ok(text)
    }

    /// The MAC over a header, or over a chunk with its file's nonce and its number before it.
    fn ctr_mac(&self, chunk: Option<(&FileHeader, u64)>, signed: &[u8]) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = hmac(self.masterkey.mac_key());
        if let Some((header, number)) = chunk {
            mac.update(header.nonce(CipherCombo::SivCtrMac));
            mac.update(&number.to_be_bytes());
        }
        mac.update(signed);
        mac
    }
}

/// What a GCM chunk is bound to: its number first, then the file's nonce.
fn gcm_associated(header: &FileHeader, number: u64) -> [u8; 20] {
    let mut associated = [0; 20];
    let (first, second) = associated.split_at_mut(8);
    first.copy_from_slice(&number.to_be_bytes());
    second.copy_from_slice(header.nonce(CipherCombo::SivGcm));
    associated
}

fn seal_gcm(cipher: &Aes256Gcm, associated: &[u8], bytes: &mut Vec<u8>) -> Result<(), ContentError> {
    let length = bytes.len();
    let (nonce, text) = bytes.split_at_mut(CipherCombo::SivGcm.nonce_len());
    let nonce = (&*nonce).try_into().map_err(|_| ContentError::Length(length))?;
    let tag = cipher
        .encrypt_inout_detached(nonce, associated, text.into())
        .map_err(|_| ContentError::Length(length))?;
    bytes.extend_from_slice(&tag);
    Ok(())
}

fn open_gcm<'a>(
    cipher: &Aes256Gcm,
    associated: &[u8],
    bytes: &'a mut [u8],
) -> Result<&'a [u8], ContentError> {
    let combo = CipherCombo::SivGcm;
    let length = bytes.len();
    let cut = length.checked_sub(combo.tag_len()).ok_or(ContentError::Length(length))?;
    let (front, tag) = bytes.split_at_mut(cut);
    let (nonce, text) = front.split_at_mut_checked(combo.nonce_len()).ok_or(ContentError::Length(length))?;
    let nonce = (&*nonce).try_into().map_err(|_| ContentError::Length(length))?;
    let tag = (&*tag).try_into().map_err(|_| ContentError::Length(length))?;
    cipher
        .decrypt_inout_detached(nonce, associated, (&mut *text).into(), tag)
        .map_err(|_| ContentError::Chunk)?;
    Ok(text)
}

fn apply_ctr(key: &[u8], nonce: &[u8], text: &mut [u8]) -> Option<()> {
    Ctr128BE::<Aes256>::new_from_slices(key, nonce).ok()?.try_apply_keystream(text).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;
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
        let mut key = Masterkey::zeros();
        let (encryption, mac) = key.halves_mut();
        encryption.copy_from_slice(&vector_bytes("masterkey.enc"));
        mac.copy_from_slice(&vector_bytes("masterkey.mac"));
        key
    }

    pub(crate) fn cryptor(cipher_combo: CipherCombo, shortening_threshold: usize) -> Cryptor {
        Cryptor::new(vector_masterkey(), VaultConfig { format: 8, cipher_combo, shortening_threshold })
    }

    #[test]
    fn headers_and_chunks_match_the_vectors() {
        for combo in COMBOS {
            let cryptor = cryptor(combo, 220);
            let bytes = vector_bytes(&format!("{combo}.header"));
            let header = cryptor.decrypt_header(&bytes).unwrap();
            assert_eq!(cryptor.encrypt_header(&header).unwrap(), bytes);
            for (name, number, text) in [
                ("chunk0(hello world)", 0, &b"hello world"[..]),
                ("chunk1(hello world)", 1, b"hello world"),
                ("chunk0(empty)", 0, b""),
            ] {
                let bytes = vector_bytes(&format!("{combo}.{name}"));
                assert_eq!(cryptor.decrypt_chunk(&header, number, &bytes).unwrap(), text);
                let mut nonce = [0; NONCE_LEN_MAX];
                nonce[..combo.nonce_len()].copy_from_slice(&bytes[..combo.nonce_len()]);
                assert_eq!(cryptor.encrypt_chunk_with(&header, number, text, &nonce).unwrap(), bytes);
                assert_eq!(cryptor.decrypt_chunk(&header, number + 1, &bytes), Err(ContentError::Chunk));
            }
            let mut nonce = [0; NONCE_LEN_MAX];
            let given = vector_bytes(&format!("{combo}.chunk258(32768*'A').nonce"));
            nonce[..given.len()].copy_from_slice(&given);
            let full =
                cryptor.encrypt_chunk_with(&header, 258, &[b'A'; CLEARTEXT_CHUNK_LEN], &nonce).unwrap();
            let hash = HEXLOWER.encode(&Sha256::digest(&full));
            assert_eq!(hash, vector(&format!("{combo}.chunk258(32768*'A').sha256")));
        }
    }

    #[test]
    fn whole_small_files_match_the_vectors() {
        for combo in COMBOS {
            let cryptor = cryptor(combo, 220);
            for text in ["", "e9250eb8-078d-4fc0-8835-be92a313360c", "../target.txt"] {
                let bytes = vector_bytes(&format!("{combo}.dirid.c9r({text})"));
                assert_eq!(cryptor.decrypt_small(&bytes).unwrap(), text.as_bytes());
            }
        }
    }

    #[test]
    fn lengths_match_the_tables() {
        for combo in COMBOS {
            for pair in vector(&format!("{combo}.sizes clear->file")).split(' ') {
                let (clear, file) = pair.split_once("->").unwrap();
                let (clear, file): (u64, u64) = (clear.parse().unwrap(), file.parse().unwrap());
                assert_eq!(combo.ciphertext_len(clear), file);
                assert_eq!(combo.cleartext_len(file), Ok(clear));
            }
            for pair in vector(&format!("{combo}.sizes payload->clear")).split(' ') {
                let (payload, clear) = pair.split_once("->").unwrap();
                let payload: i64 = payload.parse().unwrap();
                let file = u64::try_from(payload + combo.header_len() as i64).unwrap();
                let trailing_empty =
                    payload > 0 && payload as usize % combo.ciphertext_chunk_len() == combo.chunk_overhead();
                match clear.parse::<u64>() {
                    Ok(clear) => assert_eq!(combo.cleartext_len(file), Ok(clear)),
                    // The one length that is tolerated beyond the format, see `cleartext_len`.
                    Err(_) if trailing_empty => assert!(combo.cleartext_len(file).is_ok()),
                    Err(_) => assert!(combo.cleartext_len(file).is_err(), "{combo} {payload}"),
                }
            }
        }
    }

    fn combo() -> impl Strategy<Value = CipherCombo> {
        prop::sample::select(COMBOS.to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_chunk_comes_back(combo in combo(), text in prop::collection::vec(any::<u8>(), 0..=CLEARTEXT_CHUNK_LEN), number: u64) {
            let cryptor = cryptor(combo, 220);
            let header = cryptor.new_header().unwrap();
            let bytes = cryptor.encrypt_chunk(&header, number, &text).unwrap();
            prop_assert_eq!(bytes.len(), text.len() + combo.chunk_overhead());
            prop_assert_eq!(cryptor.decrypt_chunk(&header, number, &bytes).unwrap(), text);
        }

        #[test]
        fn no_changed_bit_gets_through(combo in combo(), text in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0..8_u8) {
            let cryptor = cryptor(combo, 220);
            let header = cryptor.new_header().unwrap();
            let mut bytes = cryptor.encrypt_chunk(&header, 7, &text).unwrap();
            *at.get_mut(&mut bytes) ^= 1_u8 << bit;
            prop_assert_eq!(cryptor.decrypt_chunk(&header, 7, &bytes), Err(ContentError::Chunk));
            let mut bytes = cryptor.encrypt_header(&header).unwrap();
            *at.get_mut(&mut bytes) ^= 1_u8 << bit;
            prop_assert_eq!(cryptor.decrypt_header(&bytes).unwrap_err(), ContentError::Header);
        }

        #[test]
        fn any_small_file_comes_back(combo in combo(), text in prop::collection::vec(any::<u8>(), 0..100_000)) {
            let cryptor = cryptor(combo, 220);
            let bytes = cryptor.encrypt_small(&text).unwrap();
            prop_assert_eq!(bytes.len() as u64, combo.ciphertext_len(text.len() as u64));
            prop_assert_eq!(cryptor.decrypt_small(&bytes).unwrap(), text);
        }

        #[test]
        fn lengths_are_inverse_and_never_overflow(combo in combo(), length: u64) {
            let short = length >> 2;
            prop_assert_eq!(combo.cleartext_len(combo.ciphertext_len(short)), Ok(short));
            let _ = combo.ciphertext_len(length);
            let _ = combo.cleartext_len(length);
        }
    }
}

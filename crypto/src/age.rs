//! The encrypting half of the age file format, version 1, with a passphrase.
//!
//! The format is <https://age-encryption.org/v1> (the same text: <https://c2sp.org/age>), whose headings the
//! comments here cite. Of the ways to reach a file's key there is only "The scrypt recipient type", which
//! must be alone in its file. What comes out is opened with the passphrase by every program that knows the
//! format: `age --decrypt`.
//!
//! Nothing here decrypts. Tests have a decrypting half of their own.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use data_encoding::BASE64_NOPAD;
use zeroize::{Zeroize, Zeroizing};

use crate::masterkey::{KEY_LEN, Key, LockedKeys};
use crate::stack::wiped_after;
use crate::{RandomError, fill_random};

/// Cleartext bytes in every chunk but the last ("Payload": 64 KiB).
pub const CHUNK: usize = 64 * 1024;

/// Bytes that a file begins with: the header and the payload's nonce. It is the same for every file, since
/// salt, work factor, file key and MAC all have one length.
pub const HEADER_LEN: usize = VERSION_LINE.len()
    + STANZA_START.len()
    + base64_len(SALT_LEN)
    + " 18\n".len()
    + base64_len(FILE_KEY_LEN + TAG_LEN)
    + "\n--- ".len()
    + base64_len(MAC_LEN)
    + "\n".len()
    + PAYLOAD_NONCE_LEN;

/// "Version line".
const VERSION_LINE: &str = "age-encryption.org/v1\n";
/// "scrypt recipient stanza": what stands before the salt.
const STANZA_START: &str = "-> scrypt ";
/// "Header MAC": what is authenticated ends with this.
const MAC_MARK: &str = "---";
/// "scrypt recipient stanza": what scrypt's salt begins with.
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
/// "Header MAC": what its key is derived for.
const HEADER_INFO: &[u8] = b"header";
/// "Payload": what its key is derived for.
const PAYLOAD_INFO: &[u8] = b"payload";

/// "File key", bytes.
const FILE_KEY_LEN: usize = 16;
/// "scrypt recipient stanza": the random part of scrypt's salt, bytes.
const SALT_LEN: usize = 16;
/// "Payload": its own nonce, bytes. Chunks have other ones.
const PAYLOAD_NONCE_LEN: usize = 16;
/// What Poly1305 adds to every chunk (RFC 8439, section 2.8), bytes.
const TAG_LEN: usize = 16;
/// HMAC-SHA-256, bytes.
const MAC_LEN: usize = 32;

/// Logarithm of scrypt's cost parameter N: what the program `age` writes too, and below the 22 up to which it
/// reads (<https://github.com/FiloSottile/age/blob/main/scrypt.go>). About a second of CPU and 256
/// MiB of memory, for who encrypts and for every guess.
const SCRYPT_LOG_N: u8 = 18;
/// Block size r ("scrypt recipient stanza").
const SCRYPT_R: u32 = 8;
/// Parallelization p ("scrypt recipient stanza").
const SCRYPT_P: u32 = 1;

/// Characters of `bytes` bytes in base64 without padding.
const fn base64_len(bytes: usize) -> usize {
    (8 * bytes).div_ceil(6)
}

/// Why a file can't be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// Nothing would be secret. The program `age` refuses it as well (its `scrypt.go`).
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The last chunk has more than [`CHUNK`] bytes.
    #[error("{0} bytes are more than the last chunk of an age file can hold")]
    LastChunkTooLong(usize),
    /// The last chunk is empty, though the file is not: readers refuse such a file.
    #[error("an age file with content can't end with an empty chunk")]
    LastChunkEmpty,
    /// More chunks than can be counted: never in practice.
    #[error("the file is too long to be encrypted")]
    TooLong,
    /// A cipher did not take a key or text of the right length: never in practice.
    #[error("the cryptographic library refused to encrypt")]
    Refused,
    /// There is no key to encrypt with.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl From<Unspecified> for AgeError {
    fn from(_: Unspecified) -> Self {
        Self::Refused
    }
}

/// What is drawn anew for every file.
struct Fresh {
    file_key: Zeroizing<[u8; FILE_KEY_LEN]>,
    salt: [u8; SALT_LEN],
    payload_nonce: [u8; PAYLOAD_NONCE_LEN],
}

impl Fresh {
    fn draw() -> Result<Self, RandomError> {
        let mut fresh = Self {
            file_key: Zeroizing::new([0; FILE_KEY_LEN]),
            salt: [0; SALT_LEN],
            payload_nonce: [0; PAYLOAD_NONCE_LEN],
        };
        fill_random(fresh.file_key.as_mut_slice())?;
        fill_random(&mut fresh.salt)?;
        fill_random(&mut fresh.payload_nonce)?;
        Ok(fresh)
    }
}

/// Encrypts one file as a stream: [`header`](Self::header), then [`chunk`](Self::chunk) for every full chunk
/// but the last, then [`finish`](Self::finish).
///
/// It can't be cloned or wound back: under one key and nonce no two texts may be encrypted. To encrypt a file
/// again, say for a second try to send it, make a new one. Its key is locked into memory and wiped on drop.
pub struct Encryptor {
    header: Vec<u8>,
    payload_key: LockedKeys<1>,
    /// Number of the next chunk, which is also how many there have been.
    next: u64,
}

impl Encryptor {
    /// Keys for one new file. Takes about a second of CPU and 256 MiB of memory (scrypt with N = 2^18, r = 8,
    /// p = 1), so it is nothing for a thread that others wait for.
    ///
    /// The passphrase counts byte by byte, as UTF-8: the format knows no Unicode normalisation. Readers are
    /// asked for it on a terminal, so it should have one line, of characters that any keyboard has.
    ///
    /// # Errors
    ///
    /// [`AgeError::EmptyPassphrase`], or [`AgeError::Random`].
    pub fn new(passphrase: &str) -> Result<Self, AgeError> {
        wiped_after(|| Self::with(passphrase, SCRYPT_LOG_N, &Fresh::draw()?))
    }

    /// Keys that are given. Only for tests are they anything but drawn: the same ones for two files reveal
    /// both.
    fn with(passphrase: &str, log_n: u8, fresh: &Fresh) -> Result<Self, AgeError> {
        if passphrase.is_empty() {
            return Err(AgeError::EmptyPassphrase);
        }
        let mut payload_key = LockedKeys::zeros();
        let [key] = &mut *payload_key;
        derive(&fresh.file_key, &fresh.payload_nonce, PAYLOAD_INFO, key)?;
        Ok(Self { header: header(passphrase, log_n, fresh)?, payload_key, next: 0 })
    }

    /// What the file begins with: the header and the payload's nonce, [`HEADER_LEN`] bytes.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Encrypts the next chunk, which is not the last, and appends it to `out`: [`CHUNK`] bytes and 16 more.
    ///
    /// At least one byte must follow, by [`finish`](Self::finish): a file whose length is a multiple of
    /// [`CHUNK`] ends with a full chunk, not with an empty one.
    ///
    /// # Errors
    ///
    /// Never in practice: [`AgeError::TooLong`] or [`AgeError::Refused`]. Then nothing is appended.
    pub fn chunk(&mut self, plain: &[u8; CHUNK], out: &mut Vec<u8>) -> Result<(), AgeError> {
        let next = self.next.checked_add(1).ok_or(AgeError::TooLong)?;
        self.seal(plain, false, out)?;
        self.next = next;
        Ok(())
    }

    /// Encrypts the last chunk and appends it to `out`: its bytes and 16 more. Without it a reader takes the
    /// file for cut off, so whoever gives up half way just drops the encryptor.
    ///
    /// It has 1 to [`CHUNK`] bytes, or none if it is all of an empty file.
    ///
    /// # Errors
    ///
    /// [`AgeError::LastChunkTooLong`] or [`AgeError::LastChunkEmpty`]. Then nothing is appended.
    pub fn finish(self, last: &[u8], out: &mut Vec<u8>) -> Result<(), AgeError> {
        if last.len() > CHUNK {
            return Err(AgeError::LastChunkTooLong(last.len()));
        }
        if last.is_empty() && self.next > 0 {
            return Err(AgeError::LastChunkEmpty);
        }
        self.seal(last, true, out)
    }

    /// Bytes of the whole encrypted file for `plain` bytes of cleartext: [`HEADER_LEN`], the cleartext, and
    /// 16 bytes for each chunk. An empty file has one chunk. `None` if that is more than a `u64` holds.
    ///
    /// The length of the cleartext can be told from it: the format does not hide it.
    #[must_use]
    pub fn encrypted_length(plain: u64) -> Option<u64> {
        let chunks = plain.div_ceil(CHUNK as u64).max(1);
        chunks.checked_mul(TAG_LEN as u64)?.checked_add(plain)?.checked_add(HEADER_LEN as u64)
    }

    fn seal(&self, plain: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), AgeError> {
        let [key] = &*self.payload_key;
        wiped_after(|| seal(key, chunk_nonce(self.next, last), plain, out))
    }
}

impl std::fmt::Debug for Encryptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Encryptor(..)")
    }
}

/// "Header", and the nonce that the payload begins with.
fn header(passphrase: &str, log_n: u8, fresh: &Fresh) -> Result<Vec<u8>, AgeError> {
    let wrap_key = wrap_key(passphrase, log_n, &fresh.salt)?;
    let mut body = Vec::with_capacity(FILE_KEY_LEN + TAG_LEN);
    // The nonce is the same always, since the key never is.
    seal(&wrap_key, [0; NONCE_LEN], fresh.file_key.as_slice(), &mut body)?;

    let salt = BASE64_NOPAD.encode(&fresh.salt);
    // 43 characters: the body is shorter than a line may be, and ends with the line that must be shorter than
    // 64.
    let body = BASE64_NOPAD.encode(&body);
    let mut header = format!("{VERSION_LINE}{STANZA_START}{salt} {log_n}\n{body}\n{MAC_MARK}");

    let mut mac_key = Zeroizing::new([0; KEY_LEN]);
    derive(&fresh.file_key, &[], HEADER_INFO, &mut mac_key)?;
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, mac_key.as_slice()), header.as_bytes());
    header.push(' ');
    header.push_str(&BASE64_NOPAD.encode(mac.as_ref()));
    header.push('\n');

    let mut header = header.into_bytes();
    header.extend_from_slice(&fresh.payload_nonce);
    Ok(header)
}

/// "scrypt recipient stanza": the key that wraps the file key.
fn wrap_key(passphrase: &str, log_n: u8, salt: &[u8; SALT_LEN]) -> Result<Zeroizing<Key>, AgeError> {
    let params = scrypt::Params::new(log_n, SCRYPT_R, SCRYPT_P).map_err(|_| AgeError::Refused)?;
    let salt = [SALT_LABEL, salt].concat();
    let mut key = Zeroizing::new([0; KEY_LEN]);
    scrypt::scrypt(passphrase.as_bytes(), &salt, &params, key.as_mut_slice())
        .map_err(|_| AgeError::Refused)?;
    Ok(key)
}

/// HKDF-SHA-256 (RFC 5869), into `key`.
fn derive(file_key: &[u8; FILE_KEY_LEN], salt: &[u8], info: &[u8], key: &mut Key) -> Result<(), AgeError> {
    Ok(Salt::new(HKDF_SHA256, salt).extract(file_key).expand(&[info], HKDF_SHA256)?.fill(key)?)
}

/// "Payload": the chunk's number, big endian, in 11 bytes, then whether it is the last.
fn chunk_nonce(number: u64, last: bool) -> [u8; NONCE_LEN] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [0, 0, 0, a, b, c, d, e, f, g, h, u8::from(last)]
}

/// Appends ChaCha20-Poly1305 of `plain` to `out`, and the tag. If that fails, `out` is as it was.
fn seal(key: &Key, nonce: [u8; NONCE_LEN], plain: &[u8], out: &mut Vec<u8>) -> Result<(), AgeError> {
    let start = out.len();
    // All at once: growing later would leave a copy of the cleartext behind.
    out.reserve(plain.len() + TAG_LEN);
    out.extend_from_slice(plain);
    let (_, text) = out.split_at_mut(start);
    let sealed = UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new).and_then(|cipher| {
        cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), text)
    });
    match sealed {
        Ok(tag) => {
            out.extend_from_slice(tag.as_ref());
            Ok(())
        }
        Err(refused) => {
            text.zeroize();
            out.truncate(start);
            Err(refused.into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use data_encoding::HEXLOWER;

    use super::*;

    /// scrypt's work in tests: that of the published vectors, a few milliseconds.
    const QUICK: u8 = 10;

    /// The published test vectors are <https://github.com/C2SP/CCTV> (`age/testdata`, also under the 0BSD
    /// licence); their file key is the same in all.
    const VECTOR_FILE_KEY: &[u8; FILE_KEY_LEN] = b"YELLOW SUBMARINE";
    /// Vector `scrypt`, in hex from the payload on.
    const VECTOR_HEADER: &str = "age-encryption.org/v1
-> scrypt rF0/NwblUHHTpgQgRpe5CQ 10
gUjEymFKMVXQEKdMMHL24oYexjE3TIC0O0zGSqJ2aUY
--- IOXiQYStkoT1mvZW2tFOqZdhRVvj58egABx/sWfZQbc
";
    const VECTOR_PAYLOAD_NONCE: &str = "1b35c6e687dd00da3ac379ac9f742c21";
    const VECTOR_CHUNK: &str = "fd185a1b9e3ded739d14ac6a9a50124db866d8";
    const VECTOR_PASSPHRASE: &str = "password";
    /// Nonce of the vectors `stream_…`. Apart from the tag, every chunk of theirs is encrypted to zeros.
    const STREAM_NONCE: &str = "eecf62c7ce91b433274e68d4f2f9134c";

    /// Why the decrypting half refuses a file.
    #[derive(Debug, PartialEq, Eq)]
    enum Refusal {
        Header,
        WrongPassphrase,
        Mac,
        Chunk,
        EmptyLastChunk,
        CutOff,
    }

    /// The decrypting half: all of a file, strictly.
    fn decrypt(passphrase: &str, file: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (file_key, payload) = read_header(passphrase, file)?;
        decrypt_payload(&file_key, payload)
    }

    fn read_header<'a>(passphrase: &str, file: &'a [u8]) -> Result<([u8; FILE_KEY_LEN], &'a [u8]), Refusal> {
        let (header, payload) =
            file.split_at_checked(HEADER_LEN - PAYLOAD_NONCE_LEN).ok_or(Refusal::Header)?;
        let header = std::str::from_utf8(header).map_err(|_| Refusal::Header)?;
        let (authenticated, mac) = header.split_once("--- ").ok_or(Refusal::Header)?;
        let mut lines = authenticated.strip_suffix('\n').ok_or(Refusal::Header)?.split('\n');
        if lines.next() != Some("age-encryption.org/v1") {
            return Err(Refusal::Header);
        }
        let mut arguments = lines.next().ok_or(Refusal::Header)?.split(' ');
        if arguments.next() != Some("->") || arguments.next() != Some("scrypt") {
            return Err(Refusal::Header);
        }
        let decode = |text: Option<&str>, len| {
            let bytes = BASE64_NOPAD.decode(text?.as_bytes()).ok()?;
            (bytes.len() == len).then_some(bytes)
        };
        let salt = decode(arguments.next(), 16).ok_or(Refusal::Header)?;
        let log_n: u8 = arguments.next().and_then(|text| text.parse().ok()).ok_or(Refusal::Header)?;
        let mut body = decode(lines.next(), 32).ok_or(Refusal::Header)?;
        if arguments.next().is_some() || lines.next().is_some() || log_n > 18 {
            return Err(Refusal::Header);
        }

        let mut key = [0; 32];
        let params = scrypt::Params::new(log_n, 8, 1).unwrap();
        let salt = [b"age-encryption.org/v1/scrypt", salt.as_slice()].concat();
        scrypt::scrypt(passphrase.as_bytes(), &salt, &params, &mut key).unwrap();
        let file_key = open(&key, [0; 12], &mut body).ok_or(Refusal::WrongPassphrase)?;
        let file_key = file_key.try_into().unwrap();

        let mac = decode(mac.strip_suffix('\n'), 32).ok_or(Refusal::Header)?;
        derive(&file_key, &[], b"header", &mut key).unwrap();
        let mac_key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = [authenticated, "---"].concat();
        hmac::verify(&mac_key, signed.as_bytes(), &mac).map_err(|_| Refusal::Mac)?;
        Ok((file_key, payload))
    }

    fn decrypt_payload(file_key: &[u8; FILE_KEY_LEN], payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (nonce, mut rest) = payload.split_at_checked(16).ok_or(Refusal::CutOff)?;
        let mut key = [0; 32];
        derive(file_key, nonce, b"payload", &mut key).unwrap();
        let mut plain = Vec::new();
        for number in 0_u128.. {
            let (chunk, after) = rest.split_at(rest.len().min(65_536 + 16));
            rest = after;
            let nonce = |last: u8| {
                let mut nonce = [0; 12];
                nonce[..11].copy_from_slice(&number.to_be_bytes()[5..]);
                nonce[11] = last;
                nonce
            };
            let opened = open(&key, nonce(u8::from(rest.is_empty())), &mut chunk.to_vec());
            if rest.is_empty() && opened.is_none() && open(&key, nonce(0), &mut chunk.to_vec()).is_some() {
                return Err(Refusal::CutOff);
            }
            let opened = opened.ok_or(Refusal::Chunk)?;
            if opened.is_empty() && number > 0 {
                return Err(Refusal::EmptyLastChunk);
            }
            plain.extend(opened);
            if rest.is_empty() {
                break;
            }
        }
        Ok(plain)
    }

    fn open(key: &Key, nonce: [u8; 12], text: &mut [u8]) -> Option<Vec<u8>> {
        let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
        let plain = cipher.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), text).ok()?;
        Some(plain.to_vec())
    }

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    fn vector_fresh(payload_nonce: &str) -> Fresh {
        Fresh {
            file_key: Zeroizing::new(*VECTOR_FILE_KEY),
            salt: BASE64_NOPAD.decode(b"rF0/NwblUHHTpgQgRpe5CQ").unwrap().try_into().unwrap(),
            payload_nonce: hex(payload_nonce),
        }
    }

    /// Bytes of which no two chunks are the same.
    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    /// All of `plain`, as a caller would send it.
    fn encrypt(mut encryptor: Encryptor, plain: &[u8]) -> Vec<u8> {
        let mut out = encryptor.header().to_vec();
        let mut rest = plain;
        while let Some((chunk, after)) = rest.split_first_chunk().filter(|(_, after)| !after.is_empty()) {
            encryptor.chunk(chunk, &mut out).unwrap();
            rest = after;
        }
        encryptor.finish(rest, &mut out).unwrap();
        out
    }

    fn quick() -> Encryptor {
        Encryptor::with("pass", QUICK, &Fresh::draw().unwrap()).unwrap()
    }

    #[test]
    fn the_published_file_comes_out_byte_for_byte() {
        let chunk = HEXLOWER.decode(VECTOR_CHUNK.as_bytes()).unwrap();
        let published = [VECTOR_HEADER.as_bytes(), &hex::<16>(VECTOR_PAYLOAD_NONCE), &chunk].concat();
        let plain = decrypt(VECTOR_PASSPHRASE, &published).unwrap();
        assert_eq!(plain, b"age");
        let encryptor =
            Encryptor::with(VECTOR_PASSPHRASE, QUICK, &vector_fresh(VECTOR_PAYLOAD_NONCE)).unwrap();
        assert_eq!(encryptor.header().len(), HEADER_LEN);
        assert_eq!(encrypt(encryptor, &plain), published);
    }

    #[test]
    fn the_published_streams_come_out_byte_for_byte() {
        let three = [
            "e2ec971462be227b4c162156ce7e821d",
            "7f042dff9d303c155dc392dc318f3173",
            "f910c99b33869374d353f6fcc73e1a43",
        ];
        let streams = [
            ("stream_empty_payload", 0, &["ad2e4fcf3e528a4130deabef4336e555"][..]),
            ("stream_last_chunk_full", CHUNK, &["a5770c90198815ddedd1327e1d2de018"]),
            ("stream_two_chunks", CHUNK, &[three[0], "e43922e239bd89fe8628a286450ac415"]),
            ("stream_three_chunks", CHUNK, &three),
        ];
        for (name, chunk_len, tags) in streams {
            let mut published = hex::<16>(STREAM_NONCE).to_vec();
            for tag in tags {
                published.extend(vec![0; chunk_len]);
                published.extend(hex::<16>(tag));
            }
            let plain = decrypt_payload(VECTOR_FILE_KEY, &published).unwrap();
            assert_eq!(plain.len(), chunk_len * tags.len(), "{name}");
            let encryptor = Encryptor::with("pass", QUICK, &vector_fresh(STREAM_NONCE)).unwrap();
            let encrypted = encrypt(encryptor, &plain);
            assert!(encrypted[HEADER_LEN - PAYLOAD_NONCE_LEN..] == published, "{name}");
        }
    }

    #[test]
    fn a_new_file_has_the_work_of_the_program_age() {
        let encryptor = Encryptor::new("walnut-harbor-velvet-saddle-comfort-77").unwrap();
        let header = String::from_utf8_lossy(encryptor.header()).into_owned();
        let stanza = header.split('\n').nth(1).unwrap();
        assert!(stanza.starts_with("-> scrypt ") && stanza.ends_with(" 18"), "{stanza}");
        let file = encrypt(encryptor, b"hello");
        assert_eq!(decrypt("walnut-harbor-velvet-saddle-comfort-77", &file).unwrap(), b"hello");
    }

    #[test]
    fn every_length_is_opened_and_foretold() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 1024 * 1024 + 5] {
            let plain = sample(len);
            let file = encrypt(quick(), &plain);
            assert_eq!(Encryptor::encrypted_length(len as u64), Some(file.len() as u64), "{len}");
            assert!(decrypt("pass", &file).unwrap() == plain, "{len}");
        }
    }

    #[test]
    fn lengths_are_counted_without_overflow() {
        let head = HEADER_LEN as u64;
        assert_eq!(head, 166);
        assert_eq!(Encryptor::encrypted_length(0), Some(head + 16));
        assert_eq!(Encryptor::encrypted_length(65_536), Some(head + 65_536 + 16));
        assert_eq!(Encryptor::encrypted_length(65_537), Some(head + 65_537 + 32));
        assert_eq!(Encryptor::encrypted_length(1 << 62), Some(head + (1 << 62) + (1 << 50)));
        assert_eq!(Encryptor::encrypted_length(u64::MAX), None);
        assert_eq!(Encryptor::encrypted_length(u64::MAX - head), None);
    }

    #[test]
    fn wrong_ends_are_refused_and_leave_nothing() {
        let mut out = b"before".to_vec();
        let refused = quick().finish(&[0; CHUNK + 1], &mut out);
        assert_eq!(refused, Err(AgeError::LastChunkTooLong(CHUNK + 1)));
        assert_eq!(out, b"before");

        let mut encryptor = quick();
        encryptor.chunk(&[0; CHUNK], &mut out).unwrap();
        let len = out.len();
        assert_eq!(encryptor.finish(&[], &mut out), Err(AgeError::LastChunkEmpty));
        assert_eq!(out.len(), len);

        let mut encryptor = quick();
        encryptor.next = u64::MAX;
        assert_eq!(encryptor.chunk(&[0; CHUNK], &mut out), Err(AgeError::TooLong));
        assert_eq!(out.len(), len);
    }

    #[test]
    fn an_empty_passphrase_is_refused() {
        assert_eq!(Encryptor::new("").unwrap_err(), AgeError::EmptyPassphrase);
    }

    #[test]
    fn without_finish_a_file_is_cut_off() {
        let mut encryptor = quick();
        let mut file = encryptor.header().to_vec();
        assert_eq!(decrypt("pass", &file), Err(Refusal::Chunk));
        encryptor.chunk(&[7; CHUNK], &mut file).unwrap();
        encryptor.chunk(&[8; CHUNK], &mut file).unwrap();
        assert_eq!(decrypt("pass", &file), Err(Refusal::CutOff));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let file = encrypt(quick(), b"content");
        for at in 0..file.len() {
            for bit in [0x01, 0x40] {
                let mut changed = file.clone();
                changed[at] ^= bit;
                assert!(decrypt("pass", &changed).is_err(), "byte {at}");
            }
        }
        assert_eq!(decrypt("pasS", &file), Err(Refusal::WrongPassphrase));
    }

    #[test]
    fn chunks_can_be_neither_moved_nor_dropped_nor_added() {
        const SEALED: usize = CHUNK + TAG_LEN;
        let plain = sample(3 * CHUNK);
        let file = encrypt(quick(), &plain);
        assert!(decrypt("pass", &file).unwrap() == plain);
        let (head, chunks) = file.split_at(HEADER_LEN);
        let chunks: Vec<&[u8]> = chunks.chunks(SEALED).collect();
        let [first, second, third] = chunks[..] else { unreachable!("three chunks") };
        let refusal = |chunks: &[&[u8]]| decrypt("pass", &[&[head], chunks].concat().concat()).unwrap_err();
        assert_eq!(refusal(&[second, first, third]), Refusal::Chunk);
        assert_eq!(refusal(&[first, third]), Refusal::Chunk);
        assert_eq!(refusal(&[first, second]), Refusal::CutOff);
        assert_eq!(refusal(&[first, second, third, third]), Refusal::Chunk);
        assert_eq!(refusal(&[first, second, third, b"more"]), Refusal::Chunk);
        assert_eq!(refusal(&[first, second, &third[..SEALED - 1]]), Refusal::Chunk);
        let other = encrypt(quick(), &plain);
        assert_eq!(refusal(&[first, &other[HEADER_LEN + SEALED..][..SEALED], third]), Refusal::Chunk);
    }

    #[test]
    fn two_files_share_nothing() {
        let [one, other] = [encrypt(quick(), &[0; 64]), encrypt(quick(), &[0; 64])];
        let salt = VERSION_LINE.len() + STANZA_START.len()..;
        assert_ne!(one[salt.clone()][..22], other[salt][..22]);
        assert_ne!(one[HEADER_LEN - 16..HEADER_LEN], other[HEADER_LEN - 16..HEADER_LEN]);
        assert_ne!(one[HEADER_LEN..], other[HEADER_LEN..]);
    }

    #[test]
    fn the_counter_is_big_endian_in_eleven_bytes() {
        assert_eq!(chunk_nonce(0, false), [0; 12]);
        assert_eq!(chunk_nonce(0x0102, true), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1]);
        assert_eq!(chunk_nonce(u64::MAX, false), [0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
    }
}

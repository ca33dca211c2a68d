//! Every vector that Cryptomator's own library made, through the crate's front door.
//!
//! What needs a nonce or a salt to be given is written again in the unit tests beside the code; here it is read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use data_encoding::{BASE64URL, HEXLOWER};
use scaup_crypto::{
    ChunkNumber, CipherCombo, CiphertextLen, CleartextLen, CleartextName, ContentError, Cryptor, DirectoryId,
    Masterkey, MasterkeyFile, UnlockError, UnverifiedConfig, VaultConfig,
};
use unicode_normalization::UnicodeNormalization;

const COMBOS: [CipherCombo; 2] = [CipherCombo::SivGcm, CipherCombo::SivCtrMac];

fn vectors() -> BTreeMap<String, String> {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn vector(name: &str) -> String {
    vectors().remove(name).unwrap_or_else(|| panic!("no vector {name}"))
}

fn vector_bytes(name: &str) -> Vec<u8> {
    HEXLOWER.decode(vector(name).as_bytes()).unwrap()
}

fn masterkey() -> Masterkey {
    MasterkeyFile::parse(vector("masterkey.json").as_bytes()).unwrap().unlock(&vector("password")).unwrap()
}

fn cryptor(cipher_combo: CipherCombo, shortening_threshold: usize) -> Cryptor {
    Cryptor::new(masterkey(), VaultConfig { format: 8, cipher_combo, shortening_threshold })
}

fn directory(id: &str) -> DirectoryId {
    if id.is_empty() { DirectoryId::root() } else { DirectoryId::parse(id.as_bytes()).unwrap() }
}

fn name(text: &str) -> CleartextName {
    CleartextName::parse(text.as_bytes()).unwrap()
}

/// What the name of a vector has in its brackets, if it is of this kind.
fn argument<'a>(vector: &'a str, kind: &str) -> Option<&'a str> {
    vector.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')')
}

/// A vector that nothing looks at would prove nothing.
#[test]
fn every_vector_is_of_a_kind_that_is_checked() {
    let unit_tests = ["masterkey.enc", "masterkey.mac", "scrypt.salt", "scrypt.kek"];
    let here = ["password", "password.nfc.utf8", "masterkey.json", "masterkey.json.pepper(pepper!)", "jwt"];
    let content = ["header", "chunk", "dirid.c9r(", "sizes "];
    let kinds = ["dirhash", "name", "name.raw", "len", "c9r"];
    for vector in vectors().keys() {
        let known = unit_tests.contains(&vector.as_str())
            || here.contains(&vector.as_str())
            || kinds.iter().any(|kind| argument(vector, kind).is_some())
            || COMBOS.iter().any(|combo| {
                let of_combo = vector.strip_prefix(&format!("{combo}."));
                of_combo.is_some_and(|rest| content.iter().any(|kind| rest.starts_with(kind)))
            });
        assert!(known, "nothing checks {vector}");
    }
}

#[test]
fn the_masterkey_file_unlocks_with_its_password_and_no_pepper() {
    assert_eq!(vector("password").as_bytes(), vector_bytes("password.nfc.utf8"));
    masterkey();
    let peppered = MasterkeyFile::parse(vector("masterkey.json.pepper(pepper!)").as_bytes()).unwrap();
    assert_eq!(peppered.unlock(&vector("password")).unwrap_err(), UnlockError::WrongPassword);
}

#[test]
fn the_vault_config_verifies_under_each_hmac() {
    let [payload, hs256] = {
        let token = vector("jwt");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        [signed.split_once('.').unwrap().1.to_owned(), signature.to_owned()]
    };
    let header = |algorithm: &str| {
        let json =
            format!(r#"{{"kid":"masterkeyfile:masterkey.cryptomator","alg":"{algorithm}","typ":"JWT"}}"#);
        BASE64URL.encode(json.as_bytes()).trim_end_matches('=').to_owned()
    };
    let hs384 = "ye7TrF_0vE-2PGsAgOCVRlZQKruDBznWmJqfgFJzBlr7iC9oQVTM-voISh34W4VM";
    let hs512 = "jp0r9rnIF4rFYMu80S4ZI-C0PDhFHdaEIztiqmJzJtLm02b421-cVhFzXAhnIDxdtxqll2D7gqY_oH7dB9TxTg";
    let signatures = [("HS256", hs256.as_str()), ("HS384", hs384), ("HS512", hs512)];
    let expected = VaultConfig { format: 8, cipher_combo: CipherCombo::SivGcm, shortening_threshold: 220 };
    for (algorithm, signature) in signatures {
        let verify = |token: String| UnverifiedConfig::parse(token.as_bytes()).unwrap().verify(&masterkey());
        let header = header(algorithm);
        assert_eq!(verify(format!("{header}.{payload}.{signature}")), Ok(expected), "{algorithm}");
        // Another algorithm's signature, a shortened one, and none.
        for wrong in signatures.map(|(_, other)| other).iter().filter(|other| **other != signature) {
            assert!(verify(format!("{header}.{payload}.{wrong}")).is_err(), "{algorithm}");
        }
        assert!(verify(format!("{header}.{payload}.{}", &signature[..40])).is_err(), "{algorithm}");
        assert!(verify(format!("{header}.{payload}.")).is_err(), "{algorithm}");
    }
    let token = UnverifiedConfig::parse(vector("jwt").as_bytes()).unwrap();
    assert_eq!(token.masterkey_file_name(), Ok("masterkey.cryptomator"));
    assert_eq!(token.claimed_format(), Some(8));
    assert_eq!(token.claimed_cipher_combo().as_deref(), Some("SIV_GCM"));
}

#[test]
fn directories_lie_where_cryptomator_looks_for_them() {
    let cryptor = cryptor(CipherCombo::SivGcm, 220);
    for (vector, hash) in vectors() {
        let Some(id) = argument(&vector, "dirhash") else { continue };
        assert_eq!(
            cryptor.content_dir(&directory(id)),
            format!("d/{}/{}", &hash[..2], &hash[2..]),
            "{vector}"
        );
    }
}

#[test]
fn names_encrypt_and_decrypt_as_in_the_vectors() {
    let cryptor = cryptor(CipherCombo::SivCtrMac, 220);
    let mut checked = 0;
    for (vector, expected) in vectors() {
        let raw = argument(&vector, "name.raw");
        let Some(arguments) = raw.or(argument(&vector, "name")) else { continue };
        let (id, text) = arguments.strip_prefix("dirId=").unwrap().split_once(", ").unwrap();
        let expected = match raw {
            Some(_) => BASE64URL.encode(&HEXLOWER.decode(expected.as_bytes()).unwrap()) + ".c9r",
            None => expected,
        };
        assert_eq!(cryptor.encrypt_raw_name(text, &directory(id)).entry, expected, "{vector}");
        // The empty name has a vector too, but is no name.
        let decrypted = cryptor.decrypt_name(&expected, &directory(id));
        assert_eq!(decrypted.is_ok(), !text.is_empty(), "{vector}");
        if let Ok(decrypted) = decrypted {
            assert_eq!(decrypted, name(text), "{vector}");
            let nfd: String = text.nfd().collect();
            assert_eq!(cryptor.encrypt_name(&name(&nfd), &directory(id)).entry, expected, "{vector}");
        }
        checked += 1;
    }
    assert_eq!(checked, 20);
}

/// The mistakes that an implementer would make give other bytes than these.
#[test]
fn names_of_the_traps_are_not_ours() {
    let cryptor = cryptor(CipherCombo::SivGcm, 220);
    let root = DirectoryId::root();
    // No associated data instead of one that is empty.
    let without = "vK6u-VAse98WDCoW7NsY0TgKXwwomk1jcA==.c9r";
    assert!(cryptor.decrypt_name(without, &root).is_err());
    assert_ne!(cryptor.content_dir(&root), "d/MG/LRVPTYZVA5QEBMEJFQSOOJYLC4JYGZ");
    // A foreign client's NFD is read, and shown as NFC.
    let nfd = "oGd6ycH86XBxCTBzg9UvsreSSqPX-rh-UFsk.c9r";
    assert_eq!(cryptor.decrypt_name(nfd, &root).unwrap(), name("Ärger.txt"));
    assert_eq!(cryptor.encrypt_raw_name("A\u{308}rger.txt", &root).entry, nfd);
}

#[test]
fn long_names_are_shortened_as_in_the_vectors() {
    let root = DirectoryId::root();
    for (vector, long) in vectors() {
        let Some(length) = argument(&vector, "c9r") else { continue };
        let length: usize = length.strip_prefix("x*").unwrap().parse().unwrap();
        let original = name(&"x".repeat(length));
        let described = self::vector(&format!("len(x*{length})"));
        assert!(described.starts_with(&long.len().to_string()), "{described}");

        let cryptor = self::cryptor(CipherCombo::SivGcm, 220);
        let encrypted = cryptor.encrypt_name(&original, &root);
        if described.contains("not shortened") {
            assert_eq!((encrypted.entry.as_str(), encrypted.long_name), (long.as_str(), None));
            assert_eq!(cryptor.decrypt_name(&long, &root).unwrap(), original);
        } else {
            assert!(described.ends_with(&format!(" -> {}", encrypted.entry)), "{described}");
            assert_eq!(encrypted.long_name.as_ref(), Some(&long));
            let expanded = cryptor.expand_shortened(encrypted.entry.as_bytes(), long.as_bytes(), &root);
            assert_eq!(expanded.unwrap(), original);
        }

        // Longer than the threshold is shortened, as long as it is not.
        let shortened =
            |threshold| self::cryptor(CipherCombo::SivGcm, threshold).encrypt_name(&original, &root);
        assert_eq!(shortened(long.len()).long_name, None);
        assert_eq!(shortened(long.len() - 1).long_name, Some(long));
    }
}

#[test]
fn headers_and_chunks_decrypt_as_in_the_vectors() {
    for combo in COMBOS {
        let cryptor = cryptor(combo, 220);
        let bytes = vector_bytes(&format!("{combo}.header"));
        let header = cryptor.decrypt_header(&bytes).unwrap();
        assert_eq!(cryptor.encrypt_header(&header).unwrap(), bytes);
        for (kind, number, text) in [
            ("chunk0(hello world)", 0, &b"hello world"[..]),
            ("chunk1(hello world)", 1, b"hello world"),
            ("chunk0(empty)", 0, b""),
        ] {
            let bytes = vector_bytes(&format!("{combo}.{kind}"));
            assert_eq!(cryptor.decrypt_chunk(&header, ChunkNumber(number), &bytes).unwrap(), text);
            assert_eq!(
                cryptor.decrypt_chunk(&header, ChunkNumber(number + 1), &bytes),
                Err(ContentError::Chunk)
            );
        }
    }
}

#[test]
fn whole_files_decrypt_as_in_the_vectors() {
    for combo in COMBOS {
        let cryptor = cryptor(combo, 220);
        for (vector, bytes) in vectors() {
            let Some(text) = argument(&vector, &format!("{combo}.dirid.c9r")) else { continue };
            let bytes = HEXLOWER.decode(bytes.as_bytes()).unwrap();
            assert_eq!(cryptor.decrypt_small(&bytes).unwrap(), text.as_bytes(), "{vector}");
            let length = combo.cleartext_len(CiphertextLen(bytes.len() as u64));
            assert_eq!(length, Ok(CleartextLen(text.len() as u64)), "{vector}");
        }
    }
}

#[test]
fn lengths_are_those_of_the_vectors() {
    for combo in COMBOS {
        for pair in vector(&format!("{combo}.sizes clear->file")).split(' ') {
            let (clear, file) = pair.split_once("->").unwrap();
            let (clear, file) = (CleartextLen(clear.parse().unwrap()), CiphertextLen(file.parse().unwrap()));
            assert_eq!(combo.ciphertext_len(clear), file);
            assert_eq!(combo.cleartext_len(file), Ok(clear));
        }
        for pair in vector(&format!("{combo}.sizes payload->clear")).split(' ') {
            let (payload, clear) = pair.split_once("->").unwrap();
            let payload: i64 = payload.parse().unwrap();
            let file = CiphertextLen((combo.header_len() as u64).checked_add_signed(payload).unwrap());
            let remainder = payload % combo.ciphertext_chunk_len() as i64;
            match clear.parse().map(CleartextLen) {
                Ok(clear) => assert_eq!(combo.cleartext_len(file), Ok(clear)),
                // The one length that is tolerated beyond the format: a trailing empty chunk.
                Err(_) if remainder == combo.chunk_overhead() as i64 => {
                    let chunks = payload as u64 / combo.ciphertext_chunk_len() as u64;
                    assert_eq!(combo.cleartext_len(file), Ok(CleartextLen(chunks * 32768)));
                }
                Err(_) => assert!(combo.cleartext_len(file).is_err(), "{combo} {payload}"),
            }
        }
    }
}

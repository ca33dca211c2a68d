//! What holds for every name, every content and every damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use scaup_crypto::{
    CLEARTEXT_CHUNK_LEN, ChunkNumber, CipherCombo, CiphertextLen, CleartextLen, CleartextName, ConfigError,
    ContentError, Cryptor, DirectoryId, Listed, Masterkey, MasterkeyFile, NameError, UnlockError,
    UnverifiedConfig, VaultConfig,
};
use unicode_normalization::UnicodeNormalization;

const COMBOS: [CipherCombo; 2] = [CipherCombo::SivGcm, CipherCombo::SivCtrMac];

fn combo() -> impl Strategy<Value = CipherCombo> {
    prop::sample::select(&COMBOS[..])
}

fn config() -> impl Strategy<Value = VaultConfig> {
    (combo(), 36..=220_usize).prop_map(|(cipher_combo, shortening_threshold)| VaultConfig {
        format: 8,
        cipher_combo,
        shortening_threshold,
    })
}

fn vault(config: VaultConfig) -> Cryptor {
    Cryptor::new(Masterkey::generate().unwrap(), config)
}

fn vault_of(cipher_combo: CipherCombo) -> Cryptor {
    vault(VaultConfig { format: 8, cipher_combo, shortening_threshold: 220 })
}

/// Lengths of content, most of them near the edges of chunks.
fn content_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..200_usize,
        0..4 * CLEARTEXT_CHUNK_LEN,
        (1..4_usize, 0..5_usize).prop_map(|(chunks, beyond)| chunks * CLEARTEXT_CHUNK_LEN + beyond - 2),
    ]
}

/// `len` bytes that are nowhere the same.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Names as people and programs have them: ASCII, composed and decomposed letters, Hangul, emoji, and what is special
/// elsewhere.
fn name_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[^/\0]{1,80}",
        "[ -.0-~]{1,255}",
        "([aouAOU][\u{301}\u{308}\u{323}]{0,3}|[äöüẛ̣]){1,20}",
        "[\u{ac00}-\u{ac20}\u{1100}-\u{1112}\u{1161}-\u{1175}]{1,20}",
        "[\u{1f600}-\u{1f64f}\u{200d}\u{fe0f}]{1,20}",
        r"[. \\:*?]{1,10}[a-z][^/\pC]{0,10}",
    ]
}

/// Encrypts the name, and finds it again the way a listing does.
fn there_and_back(vault: &Cryptor, name: &CleartextName, parent: &DirectoryId) {
    let threshold = vault.config().shortening_threshold;
    let encrypted = vault.encrypt_name(name, parent);
    let full_len = 4 * (name.as_str().len() + 16).div_ceil(3) + 4;
    match encrypted.long_name {
        None => {
            assert_eq!(encrypted.entry.len(), full_len);
            assert!(full_len <= threshold);
            assert_eq!(vault.identify(encrypted.entry.as_bytes(), parent), Listed::Name(name.clone()));
        }
        Some(long) => {
            assert_eq!((long.len(), encrypted.entry.len()), (full_len, 32));
            assert!(full_len > threshold);
            assert_eq!(vault.identify(encrypted.entry.as_bytes(), parent), Listed::Shortened);
            let expanded = vault.expand_shortened(encrypted.entry.as_bytes(), long.as_bytes(), parent);
            assert_eq!(expanded.as_ref(), Ok(name));
        }
    }
}

#[test]
fn names_of_every_length_come_back_under_every_threshold() {
    let parents = [DirectoryId::root(), DirectoryId::random().unwrap()];
    for threshold in 36..=220 {
        let vault = vault(VaultConfig {
            format: 8,
            cipher_combo: CipherCombo::SivGcm,
            shortening_threshold: threshold,
        });
        // All lengths under the extremes, and where it matters under the others.
        let lengths = match threshold {
            36 | 220 => 1..=255,
            _ => (threshold * 3 / 4 - 22).max(1)..=threshold * 3 / 4 - 14,
        };
        for len in lengths {
            for unit in ["x", "é", "日", "🦆"] {
                let text = unit.repeat(len / unit.len()) + &"a".repeat(len % unit.len());
                let name = CleartextName::parse(text.as_bytes()).unwrap();
                assert_eq!(name.as_str().len(), len);
                there_and_back(&vault, &name, &parents[len % 2]);
            }
        }
    }
    assert_eq!(CleartextName::parse("x".repeat(256).as_bytes()), Err(NameError::TooLong));
}

#[test]
fn no_bit_of_a_header_or_chunk_can_be_flipped() {
    for combo in COMBOS {
        let vault = vault_of(combo);
        let header = vault.new_header().unwrap();
        let stored = vault.encrypt_header(&header).unwrap();
        assert_eq!(stored.len(), combo.header_len());
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..8 * stored.len() {
            let error = vault.decrypt_header(&flipped(&stored, bit)).unwrap_err();
            assert_eq!(error, ContentError::Header, "{combo} bit {bit}");
        }
        for text in [&b""[..], b"hello world"] {
            let stored = vault.encrypt_chunk(&header, ChunkNumber(7), text).unwrap();
            assert_eq!(vault.decrypt_chunk(&header, ChunkNumber(7), &stored).unwrap(), text);
            for bit in 0..8 * stored.len() {
                let result = vault.decrypt_chunk(&header, ChunkNumber(7), &flipped(&stored, bit));
                assert_eq!(result, Err(ContentError::Chunk), "{combo} bit {bit}");
            }
        }
    }
}

#[test]
fn lengths_that_end_inside_a_nonce_or_tag_are_errors() {
    for combo in COMBOS {
        for chunks in [0, 1, 2, 1000] {
            let whole = combo.ciphertext_len(ChunkNumber(chunks).start());
            for remainder in 1..combo.chunk_overhead() as u64 {
                let length = CiphertextLen(whole.0 + remainder);
                assert!(combo.cleartext_len(length).is_err(), "{combo} {chunks} {remainder}");
            }
        }
        for short in 0..combo.header_len() as u64 {
            assert!(combo.cleartext_len(CiphertextLen(short)).is_err(), "{combo} {short}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_name_comes_back_whatever_its_form(text in name_text(), config in config(), in_root: bool) {
        let vault = vault(config);
        let parent = if in_root { DirectoryId::root() } else { DirectoryId::random().unwrap() };
        let nfc: String = text.nfc().collect();
        let Ok(name) = CleartextName::parse(text.as_bytes()) else {
            prop_assert!(nfc.len() > 255 || text == "." || text == "..");
            return Ok(());
        };
        prop_assert_eq!(name.as_str(), &nfc);
        there_and_back(&vault, &name, &parent);

        // Either form of it is the same entry; one that was stored in another form by a foreign client shows the same
        // name.
        let nfd: String = text.nfd().collect();
        let other_form = CleartextName::parse(nfd.as_bytes()).unwrap();
        prop_assert_eq!(vault.encrypt_name(&other_form, &parent), vault.encrypt_name(&name, &parent));
        let foreign = vault.encrypt_raw_name(&nfd, &parent);
        let long = foreign.long_name.as_ref().unwrap_or(&foreign.entry);
        prop_assert_eq!(vault.decrypt_name(long, &parent), Ok(name.clone()));

        // It is bound to its directory.
        let elsewhere = DirectoryId::random().unwrap();
        prop_assert_eq!(vault.decrypt_name(long, &elsewhere), Err(NameError::NotAuthentic));
    }

    #[test]
    fn no_name_with_a_changed_character_decrypts(text in "[a-z]{1,100}", at: prop::sample::Index, to in "[A-Za-z0-9_-]") {
        let vault = vault_of(CipherCombo::SivGcm);
        let root = DirectoryId::root();
        let name = CleartextName::parse(text.as_bytes()).unwrap();
        let mut changed = vault.encrypt_name(&name, &root).entry;
        let at = at.index(changed.trim_end_matches(".c9r").trim_end_matches('=').len());
        prop_assume!(changed[at..=at] != to);
        changed.replace_range(at..=at, &to);
        // The last character before the padding also has bits that mean nothing: they must be zero.
        prop_assert!(matches!(
            vault.decrypt_name(&changed, &root),
            Err(NameError::NotAuthentic | NameError::Malformed)
        ));
        prop_assert_eq!(vault.identify(changed.as_bytes(), &root), Listed::Undecryptable);
    }

    #[test]
    fn any_vault_config_comes_back_and_no_change_of_it_does(config in config(), at: prop::sample::Index, to in "[A-Za-z0-9_.=-]") {
        let masterkey = Masterkey::generate().unwrap();
        let mut token = config.encode(&masterkey, "masterkey.cryptomator").unwrap();
        prop_assert_eq!(UnverifiedConfig::parse(token.as_bytes()).unwrap().verify(&masterkey), Ok(config));
        let stranger = Masterkey::generate().unwrap();
        prop_assert_eq!(UnverifiedConfig::parse(token.as_bytes()).unwrap().verify(&stranger), Err(ConfigError::WrongKey));
        let at = at.index(token.len());
        prop_assume!(token[at..=at] != to);
        token.replace_range(at..=at, &to);
        let changed = UnverifiedConfig::parse(token.as_bytes()).and_then(|changed| changed.verify(&masterkey));
        prop_assert!(changed.is_err());
    }

    #[test]
    fn lengths_are_inverse_and_never_overflow(combo in combo(), length: u64) {
        let possible = CleartextLen(length >> 2);
        prop_assert_eq!(combo.cleartext_len(combo.ciphertext_len(possible)), Ok(possible));
        prop_assert!(combo.ciphertext_len(CleartextLen(length)).0 >= length);
        if let Ok(cleartext) = combo.cleartext_len(CiphertextLen(length)) {
            prop_assert!(cleartext.0 < length);
            // One length is written for a content; a trailing empty chunk is the only other one that is read.
            let written = combo.ciphertext_len(cleartext).0;
            prop_assert!(written == length || written + combo.chunk_overhead() as u64 == length);
        }
    }

    #[test]
    fn near_every_edge_lengths_are_inverse(combo in combo(), chunks in 0..=1_u64 << 40, beyond in 0..70_u64) {
        let length = CleartextLen((chunks * CLEARTEXT_CHUNK_LEN as u64).saturating_add(beyond).saturating_sub(35));
        prop_assert_eq!(combo.cleartext_len(combo.ciphertext_len(length)), Ok(length));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_chunk_comes_back_in_its_own_place_only(combo in combo(), len in 0..=CLEARTEXT_CHUNK_LEN, number: u64, other: u64) {
        let (number, other) = (ChunkNumber(number), ChunkNumber(other));
        let vault = vault_of(combo);
        let header = vault.decrypt_header(&vault.encrypt_header(&vault.new_header().unwrap()).unwrap()).unwrap();
        let text = content(len);
        let stored = vault.encrypt_chunk(&header, number, &text).unwrap();
        prop_assert_eq!(stored.len(), text.len() + combo.chunk_overhead());
        prop_assert_eq!(vault.decrypt_chunk(&header, number, &stored).unwrap(), text);
        prop_assert_ne!(&vault.encrypt_chunk(&header, number, &content(len)).unwrap(), &stored, "a nonce was used twice");

        prop_assume!(other != number);
        prop_assert_eq!(vault.decrypt_chunk(&header, other, &stored), Err(ContentError::Chunk));
        let other_file = vault.new_header().unwrap();
        prop_assert_eq!(vault.decrypt_chunk(&other_file, number, &stored), Err(ContentError::Chunk));
        let other_vault = vault_of(combo);
        let stored_header = vault.encrypt_header(&header).unwrap();
        prop_assert_eq!(other_vault.decrypt_header(&stored_header).unwrap_err(), ContentError::Header);
    }

    #[test]
    fn no_damage_of_a_chunk_gets_through(combo in combo(), len in 0..=CLEARTEXT_CHUNK_LEN, at: prop::sample::Index, bit in 0..8_u8) {
        let vault = vault_of(combo);
        let header = vault.new_header().unwrap();
        let mut stored = vault.encrypt_chunk(&header, ChunkNumber(7), &content(len)).unwrap();
        let cut = vault.decrypt_chunk(&header, ChunkNumber(7), &stored[..at.index(stored.len())]);
        prop_assert!(matches!(cut, Err(ContentError::Chunk | ContentError::Length(_))));
        *at.get_mut(&mut stored) ^= 1_u8 << bit;
        prop_assert_eq!(vault.decrypt_chunk(&header, ChunkNumber(7), &stored), Err(ContentError::Chunk));
        *at.get_mut(&mut stored) ^= 1_u8 << bit;
        stored.push(0);
        let longer = vault.decrypt_chunk(&header, ChunkNumber(7), &stored);
        prop_assert!(matches!(longer, Err(ContentError::Chunk | ContentError::Length(_))));
    }

    #[test]
    fn any_whole_file_comes_back(combo in combo(), len in content_len()) {
        let vault = vault_of(combo);
        let text = content(len);
        let mut stored = vault.encrypt_small(&text).unwrap();
        let length = CleartextLen(len as u64);
        prop_assert_eq!(CiphertextLen(stored.len() as u64), combo.ciphertext_len(length));
        prop_assert_eq!(&vault.decrypt_small(&stored).unwrap(), &text);

        // A trailing chunk without content, as some writers leave, is read if it is authentic.
        if len % CLEARTEXT_CHUNK_LEN == 0 {
            let header = vault.decrypt_header(&stored[..combo.header_len()]).unwrap();
            stored.extend(vault.encrypt_chunk(&header, length.chunk(), b"").unwrap());
            prop_assert_eq!(&vault.decrypt_small(&stored).unwrap(), &text);
            prop_assert_eq!(combo.cleartext_len(CiphertextLen(stored.len() as u64)), Ok(length));
            *stored.last_mut().unwrap() ^= 1;
            prop_assert_eq!(vault.decrypt_small(&stored), Err(ContentError::Chunk));
        }
    }
}

#[test]
fn more_than_a_chunk_is_no_chunk() {
    for combo in COMBOS {
        let vault = vault_of(combo);
        let header = vault.new_header().unwrap();
        let too_long = CLEARTEXT_CHUNK_LEN + 1;
        let error = vault.encrypt_chunk(&header, ChunkNumber::FIRST, &vec![0; too_long]).unwrap_err();
        assert_eq!(error, ContentError::Length(too_long));
        for len in [0, combo.chunk_overhead() - 1, combo.ciphertext_chunk_len() + 1] {
            assert_eq!(
                vault.decrypt_chunk(&header, ChunkNumber::FIRST, &vec![0; len]),
                Err(ContentError::Length(len))
            );
        }
    }
}

proptest! {
    // Each takes scrypt some times.
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn any_password_opens_what_it_closed(password in "\\PC{0,40}", wrong in "\\PC{0,40}", combo in combo()) {
        let masterkey = Masterkey::generate().unwrap();
        let nfd: String = password.nfd().collect();
        prop_assume!(wrong.nfd().ne(nfd.chars()));
        let bytes = MasterkeyFile::create(&masterkey, &password, 999).unwrap();
        let file = MasterkeyFile::parse(&bytes).unwrap();
        prop_assert_eq!(file.unlock(&wrong).unwrap_err(), UnlockError::WrongPassword);
        // The same keys: what was signed with the one verifies with the other.
        let config = VaultConfig { format: 8, cipher_combo: combo, shortening_threshold: 220 };
        let token = config.encode(&masterkey, "masterkey.cryptomator").unwrap();
        let unlocked = file.unlock(&nfd).unwrap();
        prop_assert_eq!(UnverifiedConfig::parse(token.as_bytes()).unwrap().verify(&unlocked), Ok(config));
    }
}

/// Any bytes, or good ones with some of them changed, moved or cut.
fn mangled(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    let mangle = move |changes: Vec<(prop::sample::Index, u8, u8)>| {
        let mut bytes = good.to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.extend_from_within(at..),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|changed| *changed = byte),
            }
        }
        bytes
    };
    prop_oneof![any::<Vec<u8>>(), prop::collection::vec(change, 1..6).prop_map(mangle)]
}

const TOKEN: &[u8] = b"eyJraWQiOiJtYXN0ZXJrZXlmaWxlOm1hc3RlcmtleS5jcnlwdG9tYXRvciIsImFsZyI6IkhTMjU2IiwidHlwIjoiSldUIn0.\
eyJqdGkiOiI1NDE1ZmM2ZC0wNzNiLTRjMzQtODliNy1iYzMwMWI1OGY2MTciLCJmb3JtYXQiOjgsImNpcGhlckNvbWJvIjoiU0lWX0dDTSIsInNob3J0ZW5pbmdUaHJlc2hvbGQiOjIyMH0.\
gjgFwPQTchur_Pk2YAozVCR-Vz4p3UBf6D5lXjnER-M";
const MASTERKEY: &[u8] = br#"{"version":999,"scryptSalt":"AAECAwQFBgc=","scryptCostParam":16,"scryptBlockSize":1,
"primaryMasterKey":"84cXgnnogdoyMjEywF1ldr9xhC9RAxzoBPGNMCDq/r1t4lNXoc8gkw==",
"hmacMasterKey":"fFalA/NHNAuAyOBHnAsTt6ff0V+DQg9jP26NDEpgQzAz5UPMFJ/5AA==","versionMac":"te38NaywQwzDL8JpI/7fH4rBjoqfEz4JpdlYujCZlz8="}"#;
const ENTRY: &[u8] = b"9ovGh03FYi0-jGCbRkIA80k29tJKo9BfgA== (conflicted copy).c9r";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_a_parser_panic(
        token in mangled(TOKEN),
        masterkey in mangled(MASTERKEY),
        entry in mangled(ENTRY),
        content in mangled(&[7; 200]),
        combo in combo(),
    ) {
        let vault = vault_of(combo);
        let root = DirectoryId::root();
        if let Ok(config) = UnverifiedConfig::parse(&token) {
            let _ = (config.masterkey_file_name(), config.claimed_format(), config.claimed_cipher_combo());
            prop_assert!(config.verify(&Masterkey::generate().unwrap()).is_err());
        }
        let _ = MasterkeyFile::parse(&masterkey).map(|file| file.version());
        let _ = DirectoryId::parse(&content).map(|id| vault.content_dir(&id));
        let _ = CleartextName::parse(&entry);
        let _ = vault.decrypt_name(&String::from_utf8_lossy(&entry), &root);
        let _ = vault.identify(&entry, &root);
        let _ = vault.expand_shortened(&content, &entry, &root);
        prop_assert!(vault.decrypt_header(&content).is_err());
        prop_assert!(vault.decrypt_small(&content).is_err());
        prop_assert!(vault.decrypt_chunk(&vault.new_header().unwrap(), ChunkNumber::FIRST, &content).is_err());
    }
}

//! `name.c9s`: a line with the entry's name, then the content of the file, which is also taken as a cleartext name.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scaup_crypto::{CipherCombo, CleartextName, Cryptor, DirectoryId};
use scaup_crypto_fuzz::vault;

/// Every name is shortened.
static VAULT: LazyLock<Cryptor> = LazyLock::new(|| vault(CipherCombo::SivGcm, 0));

fuzz_target!(|data: &[u8]| {
    let (entry, content) = match data.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&[][..], data),
    };
    let root = DirectoryId::root();
    let _ = VAULT.expand_shortened(entry, content, &root);

    let Ok(name) = CleartextName::parse(content) else { return };
    let encrypted = VAULT.encrypt_name(&name, &root);
    let long_name = encrypted.long_name.expect("every name is shortened");
    for content in [long_name.clone(), format!("{long_name}\0\0"), format!("{long_name}.c9r")] {
        let expanded = VAULT.expand_shortened(encrypted.entry.as_bytes(), content.as_bytes(), &root);
        assert_eq!(expanded, Ok(name.clone()));
    }
});

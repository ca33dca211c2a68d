//! File headers, and whole small files.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scaup_crypto::{CiphertextLen, CleartextLen, Cryptor};
use scaup_crypto_fuzz::vaults;

static VAULTS: LazyLock<[Cryptor; 2]> = LazyLock::new(vaults);

fuzz_target!(|data: &[u8]| {
    for vault in &*VAULTS {
        if let Ok(header) = vault.decrypt_header(data) {
            assert_eq!(vault.encrypt_header(&header).expect("it was decrypted"), data);
        }
        let combo = vault.config().cipher_combo;
        let length = combo.cleartext_len(CiphertextLen(data.len() as u64));
        if let Ok(content) = vault.decrypt_small(data) {
            assert_eq!(length, Ok(CleartextLen(content.len() as u64)));
        }
    }
});

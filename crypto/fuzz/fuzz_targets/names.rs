//! Entries of a content directory: a line with the directory's id, then the entry, which is also taken as a cleartext
//! name.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scaup_crypto::{
    CipherCombo, CleartextName, Cryptor, DirectoryId, Listed, conflict_mark, is_litter, unfinished,
};
use scaup_crypto_fuzz::vault;

static VAULT: LazyLock<Cryptor> = LazyLock::new(|| vault(CipherCombo::SivGcm, 10_240));

/// No name that comes out of a vault may be a path.
fn check(name: &CleartextName) {
    let name = name.as_str();
    assert!(!name.is_empty() && name.len() <= 255 && name != "." && name != "..");
    assert!(!name.contains(['/', '\0']));
}

fn check_listed(entry: &[u8], parent: &DirectoryId) -> Listed {
    let listed = VAULT.identify(entry, parent);
    match &listed {
        Listed::Name(name) => check(name),
        Listed::Conflict { original, addition } => {
            check(original);
            check(&original.with_addition(addition));
            let _ = conflict_mark(addition);
        }
        Listed::NotAnEntry | Listed::Shortened | Listed::Undecryptable => {}
    }
    listed
}

fuzz_target!(|data: &[u8]| {
    let (id, entry) = match data.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&[][..], data),
    };
    let parent = DirectoryId::parse(id).unwrap_or_else(|_| DirectoryId::root());
    assert_eq!(VAULT.content_dir(&parent).len(), "d/AA/".len() + 30);

    check_listed(entry, &parent);
    let Ok(text) = std::str::from_utf8(entry) else { return };
    let _ = (VAULT.decrypt_name(text, &parent), is_litter(text), unfinished(text));

    // As a foreign client may have encrypted it, and as a sync client may then have copied it.
    let encrypted = VAULT.encrypt_raw_name(text, &parent).entry;
    let listed = check_listed(encrypted.as_bytes(), &parent);
    let stem = encrypted.strip_suffix(".c9r").expect("an encrypted name");
    check_listed(format!("{stem}{text}.c9r").as_bytes(), &parent);
    check_listed(format!("{text}{stem}.c9r").as_bytes(), &parent);

    if let Ok(name) = CleartextName::parse(entry) {
        assert_eq!(listed, Listed::Name(name.clone()));
        let own = VAULT.encrypt_name(&name, &parent).entry;
        assert_eq!(VAULT.identify(own.as_bytes(), &parent), Listed::Name(name));
    }
});

//! What the entries of a content directory are, by their names alone (section 14).

use data_encoding::BASE64URL;

use crate::name_cipher::{REGULAR, SHORTENED};
use crate::{CleartextName, Cryptor, DirectoryId, NameError, copy_name};

/// Shortest entry that can be a node: the encryption of a one-byte name, or a hash.
const ENTRY_LEN_MIN: usize = 28;

/// What an entry's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// No node: the directory's own `dirid.c9r`, in-use marks, temporary files, strays. Never shown.
    NotAnEntry,
    /// A node of that name. Its entry may differ from what [`Cryptor::encrypt_name`] gives, if a foreign client wrote
    /// it.
    Name(CleartextName),
    /// A shortened node: its `name.c9s` says its name.
    Shortened,
    /// A copy that a sync client made of a node when two versions met.
    Conflict {
        /// The name of the node.
        original: CleartextName,
        /// What the sync client put behind the encrypted name, such as ` (conflicted copy 2024-01-02 123456)`.
        suffix: String,
    },
    /// It looks like a node, but does not decrypt in this directory, or to a name that can't be shown.
    Undecryptable,
}

impl Cryptor {
    /// Says what an entry of the directory `parent` is.
    #[must_use]
    pub fn identify(&self, entry: &[u8], parent: &DirectoryId) -> Listed {
        let Ok(entry) = std::str::from_utf8(entry) else { return Listed::NotAnEntry };
        if entry.len() < ENTRY_LEN_MIN || entry.starts_with('.') {
            return Listed::NotAnEntry;
        }
        if entry.ends_with(SHORTENED) {
            return Listed::Shortened;
        }
        let Some(stem) = entry.strip_suffix(REGULAR) else { return Listed::NotAnEntry };
        match self.decrypt_name(entry, parent) {
            Ok(name) => return Listed::Name(name),
            // Authentic, but no name that can be shown: no conflict either.
            Err(NameError::Unsafe | NameError::TooLong) => return Listed::Undecryptable,
            Err(_) => {}
        }
        // No sync client's file system has longer names, and the search takes the square of the length.
        if entry.len() > CleartextName::MAX_LEN {
            return Listed::Undecryptable;
        }
        let mut siv = self.siv();
        for (encrypted, suffix) in candidates(stem) {
            let Ok(name) = siv.decrypt([parent.as_bytes()], &encrypted) else { continue };
            let Ok(original) = CleartextName::parse(&name) else { continue };
            return Listed::Conflict { original, suffix: suffix.to_owned() };
        }
        Listed::Undecryptable
    }
}

impl CleartextName {
    /// Names under which a sync client's copy of the node of this name can be shown, best first: with the sync client's
    /// `suffix` if there is one, then with numbers.
    pub fn for_sync_copy(&self, suffix: &str) -> impl Iterator<Item = Self> {
        let given = (!suffix.is_empty()).then(|| suffix.to_owned());
        let suffixes = given.into_iter().chain((1..).map(|number| format!(" ({number})")));
        suffixes.filter_map(|suffix| Self::parse(&copy_name(self.as_str().as_bytes(), &suffix)).ok())
    }
}

/// The parts of an entry's stem that could be the encrypted name which a sync client wrapped, decoded, each with what
/// stands behind it. The encrypted name is base64url, and of at least the 24 characters that one byte of name gives.
/// What stands before or behind may be of the same characters, but is then set off by `-` or `_`.
fn candidates(stem: &str) -> impl Iterator<Item = (Vec<u8>, &str)> {
    const LEN_MIN: usize = 24;
    let bytes = stem.as_bytes();
    let is = |at: usize, what: fn(u8) -> bool| bytes.get(at).is_some_and(|&byte| what(byte));
    let separator = |byte| matches!(byte, b'-' | b'_');
    let text = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let starts = (0..bytes.len()).filter(move |&at| {
        is(at, text) && at.checked_sub(1).is_none_or(|before| !is(before, text) || is(before, separator))
    });
    starts.flat_map(move |start| {
        let run_end = (start..bytes.len()).find(|&at| !is(at, text)).unwrap_or(bytes.len());
        let padding = (run_end..run_end + 2).take_while(|&at| is(at, |byte| byte == b'=')).count();
        // Longest first.
        std::iter::once(run_end + padding)
            .chain((start..run_end).rev().filter(move |&at| is(at, separator)))
            .filter(move |end| end.saturating_sub(start) >= LEN_MIN)
            .filter_map(move |end| {
                let encrypted = BASE64URL.decode(bytes.get(start..end)?).ok()?;
                Some((encrypted, stem.get(end..)?))
            })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::CipherCombo;
    use crate::content::tests::cryptor;

    const PARENT: &str = "e9250eb8-078d-4fc0-8835-be92a313360c";

    fn name(text: &str) -> CleartextName {
        CleartextName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn copies_of_sync_clients_are_recognised_however_they_are_named() {
        let cryptor = cryptor(CipherCombo::SivGcm, 220);
        let root = DirectoryId::root();
        let entry = cryptor.encrypt_name(&name("report.odt"), &root).entry;
        let stem = entry.strip_suffix(".c9r").unwrap();
        for (copy, suffix) in [
            (
                format!("{stem} (conflicted copy 2024-01-02 123456).c9r"),
                " (conflicted copy 2024-01-02 123456)",
            ),
            (
                format!("{stem}.sync-conflict-20240102-123456-ABCDEFG.c9r"),
                ".sync-conflict-20240102-123456-ABCDEFG",
            ),
            (format!("{stem}-LAPTOP-ABC.c9r"), "-LAPTOP-ABC"),
            (format!("Copy of {stem}.c9r"), ""),
            (format!("_{stem}.c9r"), ""),
            (format!("a_b-{stem}-c_d.c9r"), "-c_d"),
        ] {
            let expected = Listed::Conflict { original: name("report.odt"), suffix: suffix.to_owned() };
            assert_eq!(cryptor.identify(copy.as_bytes(), &root), expected, "{copy}");
        }
        assert_eq!(cryptor.identify(format!(".{stem}.swp (1).c9r").as_bytes(), &root), Listed::NotAnEntry);
        assert_eq!(cryptor.identify(b"dirid.c9r", &root), Listed::NotAnEntry);
        let elsewhere = DirectoryId::parse(PARENT.as_bytes()).unwrap();
        assert_eq!(cryptor.identify(entry.as_bytes(), &elsewhere), Listed::Undecryptable);
    }

    #[test]
    fn names_that_must_not_become_paths_are_undecryptable() {
        let cryptor = cryptor(CipherCombo::SivGcm, 220);
        for hostile in ["..", ".", "a/b", "/etc/passwd", "nul\0x", ""] {
            let entry = cryptor.encrypt_raw_name(hostile, &DirectoryId::root()).entry;
            let listed = cryptor.identify(entry.as_bytes(), &DirectoryId::root());
            assert!(matches!(listed, Listed::Undecryptable | Listed::NotAnEntry), "{hostile:?}");
        }
    }

    /// Names of every kind of padding, and so many that their encryptions begin and end with every character.
    #[test]
    fn every_name_is_found_in_the_copy_of_its_entry() {
        let cryptor = cryptor(CipherCombo::SivGcm, 220);
        let root = DirectoryId::root();
        for number in 0..500_usize {
            let original = name(&format!("{number}{}", "x".repeat(number % 100)));
            let entry = cryptor.encrypt_name(&original, &root).entry;
            let stem = entry.strip_suffix(".c9r").unwrap();
            for suffix in ["-LAPTOP", "_2", " (1)", ".sync-conflict-1"] {
                let listed = cryptor.identify(format!("a-{stem}{suffix}.c9r").as_bytes(), &root);
                let expected = Listed::Conflict { original: original.clone(), suffix: suffix.to_owned() };
                assert_eq!(listed, expected, "{stem}{suffix}");
            }
        }
    }

    #[test]
    fn a_name_longer_than_any_is_not_searched_for_copies() {
        let cryptor = cryptor(CipherCombo::SivGcm, 220);
        let root = DirectoryId::root();
        let entry = cryptor.encrypt_name(&name("a"), &root).entry;
        let endless = format!("{}{entry}", "-".repeat(1 << 20));
        assert_eq!(cryptor.identify(endless.as_bytes(), &root), Listed::Undecryptable);
    }

    #[test]
    fn copies_get_names_of_their_own_that_fit() {
        let names = |original: &str, suffix: &str| {
            name(original).for_sync_copy(suffix).take(3).map(|n| n.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("a.txt", " (x)"), ["a (x).txt", "a (1).txt", "a (2).txt"]);
        assert_eq!(names("noext", ""), ["noext (1)", "noext (2)", "noext (3)"]);
        assert!(names(&"ä".repeat(127), &"z".repeat(300)).iter().all(|name| name.len() <= 255));
        // However much of the name stands behind its last dot, there is room for the number.
        for extension in [1, 126, 127, 128, 253] {
            let original = name(&format!("{}.{}", "a".repeat(254 - extension), "x".repeat(extension)));
            let copies: std::collections::HashSet<_> =
                original.for_sync_copy("").take(1000).chain([original.clone()]).collect();
            assert_eq!(copies.len(), 1001, "{extension}");
        }
    }
}

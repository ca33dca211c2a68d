//! What the entries of a content directory are, by their names alone (section 14).

use data_encoding::BASE64URL;

use crate::name_cipher::{REGULAR, SHORTENED};
use crate::{CleartextName, Cryptor, DirectoryId, NameError, copy_name};

/// Shortest entry that can be a node: the encryption of a one-byte name, or a hash.
const ENTRY_LEN_MIN: usize = 28;

/// What an entry's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// No node: the directory's own `dirid.c9r`, in-use marks, temporary files, strays.
    NotAnEntry,
    /// A node of that name. Its entry may differ from what [`Cryptor::encrypt_name`] gives, if a foreign client wrote
    /// it.
    Name(CleartextName),
    /// A shortened node, or a sync client's copy of one: its `name.c9s` says its name.
    Shortened,
    /// A copy that a sync client made of a node when two versions met.
    Conflict {
        /// The name of the node.
        original: CleartextName,
        /// What the sync client added to the entry, such as ` (conflicted copy 2024-01-02 123456)` or `..path1`.
        addition: String,
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
        match self.decrypt_name(entry, parent) {
            Ok(name) => return Listed::Name(name),
            // Authentic, but no name that can be shown: no conflict either.
            Err(NameError::Unsafe | NameError::TooLong) => return Listed::Undecryptable,
            Err(_) => {}
        }
        if find_ending(entry, SHORTENED).is_some() {
            return Listed::Shortened;
        }
        if find_ending(entry, REGULAR).is_none() {
            return Listed::NotAnEntry;
        }
        // No sync client's file system has longer names, and the search takes the square of the length.
        if entry.len() > CleartextName::MAX_LEN {
            return Listed::Undecryptable;
        }
        let mut siv = self.siv();
        for (encrypted, before, behind) in candidates(entry) {
            let Ok(name) = siv.decrypt([parent.as_bytes()], &encrypted) else { continue };
            let Ok(original) = CleartextName::parse(&name) else { continue };
            return Listed::Conflict { original, addition: addition_of(before, behind, REGULAR) };
        }
        Listed::Undecryptable
    }
}

impl CleartextName {
    /// The name under which a sync client's copy of the node of this name is shown: with the client's `addition` before
    /// the extension.
    #[must_use]
    pub fn with_addition(&self, addition: &str) -> Self {
        // What is added may hold anything but what a name may not: it stood in one.
        Self::parse(&copy_name(self.as_str().as_bytes(), addition)).unwrap_or_else(|_| self.clone())
    }
}

/// What stands beside a name, `before` and `behind` it, without the ending that the format gives: that is what a sync
/// client has added. A word that stands before the name, such as `Copy of `, is put in brackets.
#[must_use]
pub fn addition_of(before: &str, behind: &str, ending: &str) -> String {
    let behind = match find_ending(behind, ending) {
        Some(at) => {
            let (left, right) = behind.split_at(at);
            format!("{left}{}", right.get(ending.len()..).unwrap_or_default())
        }
        None => behind.to_owned(),
    };
    let before = before.trim();
    if before.is_empty() { behind } else { format!(" ({before}){behind}") }
}

/// Where `ending` stands in `text`, in upper or lower case: sync clients put their words behind it, too, and file
/// systems without case change it.
#[must_use]
pub fn find_ending(text: &str, ending: &str) -> Option<usize> {
    let is_ending = |window: &[u8]| window.eq_ignore_ascii_case(ending.as_bytes());
    text.as_bytes().windows(ending.len()).rposition(is_ending)
}

/// The parts of an entry that could be the encrypted name which a sync client wrapped, decoded, each with what stands
/// before and behind it. The encrypted name is base64url, and of at least the 24 characters that one byte of name
/// gives. What stands before or behind may be of the same characters, but is then set off by `-` or `_`.
fn candidates(entry: &str) -> impl Iterator<Item = (Vec<u8>, &str, &str)> {
    const LEN_MIN: usize = 24;
    let bytes = entry.as_bytes();
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
                Some((encrypted, entry.get(..start)?, entry.get(end..)?))
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
        for (copy, addition) in [
            (
                format!("{stem} (conflicted copy 2024-01-02 123456).c9r"),
                " (conflicted copy 2024-01-02 123456)",
            ),
            (
                format!("{stem}.sync-conflict-20240102-123456-ABCDEFG.c9r"),
                ".sync-conflict-20240102-123456-ABCDEFG",
            ),
            (format!("{stem}-LAPTOP-ABC.c9r"), "-LAPTOP-ABC"),
            (format!("Copy of {stem}.c9r"), " (Copy of)"),
            (format!("_{stem}.c9r"), " (_)"),
            (format!("a_b-{stem}-c_d.c9r"), " (a_b-)-c_d"),
            (format!("{stem}.c9r..path1"), "..path1"),
            (format!("{stem}.c9r.conflict1"), ".conflict1"),
            (format!("{stem}.c9r (1)"), " (1)"),
            (format!("{stem}.C9R"), ""),
            (format!("{stem} (1).C9R"), " (1)"),
            (format!("{stem} (1).c9r (2)"), " (1) (2)"),
        ] {
            let expected = Listed::Conflict { original: name("report.odt"), addition: addition.to_owned() };
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
                let addition = format!(" (a-){suffix}");
                let expected = Listed::Conflict { original: original.clone(), addition };
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
        let copy =
            |original: &str, addition: &str| name(original).with_addition(addition).as_str().to_owned();
        assert_eq!(copy("a.txt", " (x)"), "a (x).txt");
        assert_eq!(copy("noext", "..path1"), "noext..path1");
        assert!(copy(&"ä".repeat(127), &"z".repeat(300)).len() <= 255);
        // However much of the name stands behind its last dot, there is room for what tells copies apart.
        for extension in [1, 126, 127, 128, 253] {
            let original = format!("{}.{}", "a".repeat(254 - extension), "x".repeat(extension));
            let copies: std::collections::HashSet<_> = (0..1000)
                .map(|number| copy(&original, &format!(" ({number})")))
                .chain([original.clone()])
                .collect();
            assert_eq!(copies.len(), 1001, "{extension}");
        }
    }
}

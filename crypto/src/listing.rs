//! What the entries of a content directory are, by their names alone (section 14).

use data_encoding::BASE64URL;

use crate::name_cipher::{REGULAR, SHORTENED};
use crate::{CleartextName, Cryptor, DirectoryId, NameError};

/// Shortest entry that can be a node: the encryption of a one-byte name, or a hash.
const ENTRY_LEN_MIN: usize = 28;

/// What an entry's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// No node: the directory's own `dirid.c9r`, in-use marks, temporary files, strays. Never shown.
    NotAnEntry,
    /// A node of that name. Its entry may differ from what [`Cryptor::encrypt_name`] gives, if a foreign client wrote it.
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
        for (range, encoded) in candidates(stem) {
            let Ok(original) = self.decrypt_name(&format!("{encoded}{REGULAR}"), parent) else { continue };
            let suffix = stem.get(range.end..).unwrap_or_default().to_owned();
            return Listed::Conflict { original, suffix };
        }
        Listed::Undecryptable
    }

    /// Names for a conflicting copy of `original`, best first: with the sync client's `suffix` if there is one, then with
    /// numbers. The extension stays; what is too long for a name is cut.
    pub fn conflict_names<'a>(
        &'a self,
        original: &'a CleartextName,
        suffix: &'a str,
    ) -> impl Iterator<Item = CleartextName> + 'a {
        let name = original.as_str();
        let (base, extension) = match name.rfind('.') {
            Some(at) if at > 0 => name.split_at(at),
            _ => (name, ""),
        };
        let given = (!suffix.is_empty()).then(|| suffix.to_owned());
        given.into_iter().chain((1..).map(|number| format!(" ({number})"))).filter_map(move |suffix| {
            let room = CleartextName::MAX_LEN.saturating_sub(extension.len());
            let suffix = cut(&suffix, room / 2);
            let base = cut(base, room - suffix.len());
            CleartextName::parse(format!("{base}{suffix}{extension}").as_bytes()).ok()
        })
    }
}

/// The beginning of `text`, at most `len` bytes, cut between characters.
fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.split_at(end).0
}

/// The parts of an entry's stem that could be the encrypted name which a sync client wrapped, each with its place: base64url
/// text whose length is a multiple of 4, of at least the 24 characters that one byte of name gives. Bounded by the length of a
/// name squared.
fn candidates(stem: &str) -> impl Iterator<Item = (std::ops::Range<usize>, &str)> {
    const LEN_MIN: usize = 24;
    let bytes = stem.as_bytes();
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let starts = 0..bytes.len().saturating_sub(LEN_MIN - 1);
    starts.flat_map(move |start| {
        let rest = bytes.get(start..).unwrap_or_default();
        let run = rest.iter().take_while(|&&byte| in_alphabet(byte)).count();
        let padding = rest.iter().skip(run).take(2).take_while(|&&byte| byte == b'=').count();
        // A suffix may itself be of the alphabet, so the end may lie before the run's. Longest first.
        let padded = (padding > 0).then_some(run + padding);
        let unpadded = (LEN_MIN..=run).rev();
        padded
            .into_iter()
            .chain(unpadded)
            .filter(|length| length % 4 == 0 && *length >= LEN_MIN)
            .filter_map(move |length| Some((start..start + length, stem.get(start..start + length)?)))
            .filter(|(_, text)| BASE64URL.decode(text.as_bytes()).is_ok())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::CipherCombo;
    use crate::content::tests::{COMBOS, cryptor, vector};

    const PARENT: &str = "e9250eb8-078d-4fc0-8835-be92a313360c";

    fn name(text: &str) -> CleartextName {
        CleartextName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_and_directories_match_the_vectors() {
        let cryptor = cryptor(CipherCombo::SivGcm, 220);
        for parent in ["", PARENT] {
            let id = if parent.is_empty() {
                DirectoryId::root()
            } else {
                DirectoryId::parse(parent.as_bytes()).unwrap()
            };
            for text in ["hello.txt", "a", "Ärger.txt", "日本.md"] {
                let expected = vector(&format!("name(dirId={parent}, {text})"));
                let encrypted = cryptor.encrypt_name(&name(text), &id);
                assert_eq!(encrypted.entry, expected);
                assert_eq!(cryptor.decrypt_name(&expected, &id).unwrap(), name(text));
            }
            let hash = vector(&format!("dirhash({parent})"));
            assert_eq!(cryptor.content_dir(&id), format!("d/{}/{}", &hash[..2], &hash[2..]));
        }
    }

    #[test]
    fn long_names_are_shortened_at_the_threshold_and_expand_again() {
        let cryptor = cryptor(CipherCombo::SivGcm, 220);
        let root = DirectoryId::root();
        assert_eq!(cryptor.encrypt_name(&name(&"x".repeat(146)), &root).long_name, None);
        for length in [147, 255] {
            let text = "x".repeat(length);
            let EncryptedName { entry, long_name } = cryptor.encrypt_name(&name(&text), &root);
            let long_name = long_name.unwrap();
            assert_eq!(long_name, vector(&format!("c9r(x*{length})")));
            assert!(vector(&format!("len(x*{length})")).ends_with(&entry));
            assert_eq!(
                cryptor.expand_shortened(entry.as_bytes(), long_name.as_bytes(), &root).unwrap(),
                name(&text)
            );
            let trailing = format!("{long_name}\0\0");
            assert_eq!(
                cryptor.expand_shortened(entry.as_bytes(), trailing.as_bytes(), &root).unwrap(),
                name(&text)
            );
            let other =
                cryptor.expand_shortened(b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=.c9s", long_name.as_bytes(), &root);
            assert_eq!(other, Err(NameError::HashMismatch { name: name(&text) }));
        }
    }

    use crate::EncryptedName;

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

    #[test]
    fn copies_get_names_of_their_own_that_fit() {
        let cryptor = cryptor(CipherCombo::SivGcm, 220);
        let names = |original: &str, suffix: &str| {
            let original = name(original);
            cryptor
                .conflict_names(&original, suffix)
                .take(3)
                .map(|n| n.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("a.txt", " (x)"), ["a (x).txt", "a (1).txt", "a (2).txt"]);
        assert_eq!(names("noext", ""), ["noext (1)", "noext (2)", "noext (3)"]);
        assert!(names(&"ä".repeat(127), &"z".repeat(300)).iter().all(|name| name.len() <= 255));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_name_comes_back(text in "[^/\0]{1,60}", combo in prop::sample::select(COMBOS.to_vec()), threshold in 28..400_usize, in_root: bool) {
            let Ok(name) = CleartextName::parse(text.as_bytes()) else { return Ok(()) };
            let cryptor = cryptor(combo, threshold);
            let parent = if in_root { DirectoryId::root() } else { DirectoryId::random().unwrap() };
            let EncryptedName { entry, long_name } = cryptor.encrypt_name(&name, &parent);
            match long_name {
                None => {
                    prop_assert!(entry.len() <= threshold);
                    prop_assert_eq!(cryptor.identify(entry.as_bytes(), &parent), Listed::Name(name));
                }
                Some(long) => {
                    prop_assert!(long.len() > threshold);
                    prop_assert_eq!(cryptor.identify(entry.as_bytes(), &parent), Listed::Shortened);
                    prop_assert_eq!(cryptor.expand_shortened(entry.as_bytes(), long.as_bytes(), &parent).unwrap(), name);
                }
            }
        }

        #[test]
        fn no_entry_makes_it_fail(entry: Vec<u8>, text in ".{0,200}") {
            let cryptor = cryptor(CipherCombo::SivGcm, 220);
            let _ = cryptor.identify(&entry, &DirectoryId::root());
            let _ = cryptor.identify(format!("{text}.c9r").as_bytes(), &DirectoryId::root());
            let _ = cryptor.expand_shortened(&entry, text.as_bytes(), &DirectoryId::root());
        }
    }
}

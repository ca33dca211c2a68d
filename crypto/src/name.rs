//! Cleartext names, checked (section 5).

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// A name as the mount shows it: NFC, not empty, not `.` or `..`, without `/` and NUL, at most 255 bytes.
///
/// It does not print itself: clear names stay out of logs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CleartextName(String);

/// Why something is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, `.`, `..`, not UTF-8, or with `/` or NUL in it.
    #[error("not a name that a directory can hold")]
    Unsafe,
    /// More than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    TooLong,
    /// It does not decrypt with the directory's id: damaged, or from another directory.
    #[error("the name does not decrypt in this directory")]
    NotAuthentic,
    /// `name.c9s` holds no encrypted name, or is too long.
    #[error("name.c9s is malformed")]
    Malformed,
    /// `name.c9s` holds a name that belongs to another entry.
    #[error("name.c9s belongs to another entry")]
    HashMismatch {
        /// The name it holds.
        name: CleartextName,
    },
}

impl CleartextName {
    /// Longest name, bytes (`NAME_MAX`).
    pub const MAX_LEN: usize = 255;

    /// Checks a name and brings it into NFC, the form that vaults store.
    ///
    /// # Errors
    ///
    /// [`NameError::Unsafe`] or [`NameError::TooLong`].
    pub fn parse(name: &[u8]) -> Result<Self, NameError> {
        let name = std::str::from_utf8(name).map_err(|_| NameError::Unsafe)?;
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(NameError::Unsafe);
        }
        let name: String = name.nfc().collect();
        if name.len() > Self::MAX_LEN { Err(NameError::TooLong) } else { Ok(Self(name)) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether programs may well write the name in another way that [`parse`](Self::parse) brings into the same form:
    /// something in it decomposes, or its marks may stand in another order. Single characters that stand for this one
    /// (the Kelvin sign for `K`) do not count, or every name would have them.
    #[must_use]
    pub fn has_other_forms(&self) -> bool {
        !self.0.is_ascii()
            && (self.0.chars().any(|c| canonical_combining_class(c) != 0) || self.0.nfd().ne(self.0.chars()))
    }
}

/// The name of a copy of `name`: with `suffix` before the extension, which stays unless it is no extension but most of
/// the name. What is too long for a name is cut, between characters if the name is UTF-8.
#[must_use]
pub fn copy_name(name: &[u8], suffix: &str) -> Vec<u8> {
    let dot = name.iter().rposition(|&byte| byte == b'.');
    let is_extension = |at: &usize| *at > 0 && name.len() - at <= CleartextName::MAX_LEN / 2;
    let (base, extension) = name.split_at(dot.filter(is_extension).unwrap_or(name.len()));
    let room = CleartextName::MAX_LEN - extension.len();
    let suffix = cut(suffix.as_bytes(), room / 2);
    [cut(base, room - suffix.len()), suffix, extension].concat()
}

/// The beginning of `text`, at most `len` bytes, cut between characters.
fn cut(text: &[u8], len: usize) -> &[u8] {
    let goes_on = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (0..=len.min(text.len())).rev().find(|&at| !goes_on(at)).unwrap_or(0);
    text.split_at(end).0
}

impl std::fmt::Debug for CleartextName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("CleartextName(..)")
    }
}

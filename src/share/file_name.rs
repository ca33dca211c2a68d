//! Names that a server accepts for a file.

use scaup_sftp::text::Line;

use super::error::ShareError;
use crate::dav::ForbiddenNames;

/// The longest name that all versions accept, bytes: some add a suffix to it during the upload.
const NAME_LEN_MAX: usize = 226;
/// What no version accepts.
const NEVER: [char; 2] = ['/', '\\'];
/// Ends that no version accepts.
const NEVER_ENDS: [&str; 2] = [".part", ".filepart"];

/// Makes sure that a server accepts a name.
pub(super) fn check(name: &str, forbidden: &ForbiddenNames) -> Result<(), ShareError> {
    let refused = |why: &str| Err(ShareError::Name { name: Line::of(name), why: why.to_owned() });
    if name.is_empty() || name == "." || name == ".." {
        return refused("it is no name");
    }
    if name.len() > NAME_LEN_MAX {
        return refused("it is too long");
    }
    if name.chars().any(char::is_control) {
        return refused("it contains a control character");
    }
    let is_in = |text: &String| !text.is_empty() && name.contains(text.as_str());
    if let Some(c) = name.chars().find(|c| NEVER.contains(c)) {
        return refused(&format!("it contains {c}"));
    }
    if let Some(c) = forbidden.characters.iter().find(|c| is_in(c)) {
        return refused(&format!("it contains {}", Line::of(c)));
    }
    if name.trim() != name || name.ends_with('.') {
        return refused("it begins or ends with a space or ends with a dot");
    }
    let lower = name.to_lowercase();
    let is_it = |other: &String| other.to_lowercase() == lower;
    let stem = lower.split('.').next().unwrap_or_default();
    let is_stem = |other: &String| !other.is_empty() && other.to_lowercase() == stem;
    let mut ends = forbidden.ends.iter().map(String::as_str).chain(NEVER_ENDS);
    let is_end = |end: &str| !end.is_empty() && lower.ends_with(&end.to_lowercase());
    if lower == ".htaccess" || forbidden.names.iter().chain(&forbidden.old_names).any(is_it) {
        return refused("the server keeps that name for itself");
    }
    if forbidden.stems.iter().any(is_stem) {
        return refused(&format!("names may not begin with {stem}."));
    }
    match ends.find(|end| is_end(end)) {
        Some(end) => refused(&format!("names may not end with {}", Line::of(end))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_server_refuses_are_known_before_the_upload() {
        let forbidden = ForbiddenNames {
            characters: vec!["*".to_owned(), "?".to_owned()],
            names: vec![".htaccess".to_owned(), "thumbs.db".to_owned()],
            stems: vec!["con".to_owned()],
            ends: vec![".exe".to_owned()],
            old_names: Vec::new(),
        };
        let is_accepted = |name: &str| check(name, &forbidden).is_ok();
        for name in ["Offer.pdf", "Übersicht 2026 (final).ods", "a.b.c", "console.txt", ".bashrc", "x.age"] {
            assert!(is_accepted(name), "{name}");
        }
        for name in [
            "a*b",
            "Thumbs.db",
            "CON.txt",
            "con",
            "setup.EXE",
            "a\\b",
            "a/b",
            "a.part",
            ".htaccess",
            "",
            "..",
            " a",
            "a ",
            "a.",
        ] {
            assert!(!is_accepted(name), "{name}");
        }
        assert!(!is_accepted("a\nb") && !is_accepted(&"ä".repeat(114)) && is_accepted(&"ä".repeat(113)));
    }
}

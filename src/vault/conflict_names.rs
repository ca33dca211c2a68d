//! Names for conflicting copies: files that this machine changed while somebody else did too, or directories shown
//! again beside a node that took their name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use scaup_crypto::copy_name;

use super::temporary;

/// Names that are tried for a conflicting copy.
const CONFLICT_NAMES_MAX: u32 = 100;

/// Returns names to try for our version of a file that somebody else changed meanwhile.
pub(crate) fn conflict_names(name: &OsStr) -> impl Iterator<Item = OsString> {
    let now = jiff::Zoned::now();
    (0..CONFLICT_NAMES_MAX).map(move |attempt| conflict_name(name, &now, temporary::machine_mark(), attempt))
}

/// Returns a name for our version, as the Nextcloud client forms it except for the mark of this machine:
/// `name (conflicted copy DATE TIME MARK).ext`, with a number from the second try on. Two machines that meet a conflict
/// in the same second make two names.
fn conflict_name(name: &OsStr, now: &jiff::Zoned, mark: &str, attempt: u32) -> OsString {
    let stamp = now.strftime("%Y-%m-%d %H%M%S");
    let number = if attempt == 0 { String::new() } else { format!(" {attempt}") };
    OsString::from_vec(copy_name(name.as_bytes(), &format!(" (conflicted copy {stamp} {mark}{number})")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at() -> jiff::Zoned {
        "2024-01-02T12:34:56[UTC]".parse().unwrap()
    }

    #[test]
    fn conflicting_copies_are_named_as_nextcloud_does_and_after_this_machine() {
        let name =
            |name: &str, attempt| conflict_name(name.as_ref(), &at(), "3f9c", attempt).into_string().unwrap();
        assert_eq!(name("letter.odt", 0), "letter (conflicted copy 2024-01-02 123456 3f9c).odt");
        assert_eq!(name("letter.odt", 2), "letter (conflicted copy 2024-01-02 123456 3f9c 2).odt");
        assert_eq!(name("noext", 0), "noext (conflicted copy 2024-01-02 123456 3f9c)");
        assert_eq!(name(".profile", 0), ".profile (conflicted copy 2024-01-02 123456 3f9c)");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = format!("{}.txt", "ä".repeat(125));
        let copy = conflict_name(long.as_ref(), &at(), "3f9c", 0);
        assert!(copy.len() <= 255);
        assert!(copy.into_string().unwrap().ends_with(" (conflicted copy 2024-01-02 123456 3f9c).txt"));
        // What stands behind the dot need be no extension, and leaves no room.
        for behind in [100, 126, 127, 128, 200, 253] {
            let long = format!("a.{}", "x".repeat(behind));
            let copy = conflict_name(long.as_ref(), &at(), "3f9c", 99).into_string().unwrap();
            assert!(
                copy.len() <= 255 && copy.contains(" (conflicted copy 2024-01-02 123456 3f9c 99)"),
                "{copy}"
            );
        }
    }
}

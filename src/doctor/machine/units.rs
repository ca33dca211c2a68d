//! Mounts that systemd makes at login.

use std::path::{Path, PathBuf};

use super::GROUP;
use crate::config::bookmark::Bookmark;
use crate::config::paths;
use crate::doctor::Check;

const NAME: &str = "systemd";

pub(super) fn checks(bookmarks: &[(String, Bookmark)]) -> Vec<Check> {
    let enabled = enabled(&paths::user_units());
    if enabled.is_empty() {
        return vec![GROUP.ok(NAME, "it mounts no bookmark at login")];
    }
    let is_bookmark = |name: &String| bookmarks.iter().any(|(bookmark, _)| bookmark == name);
    if let Some(name) = enabled.iter().find(|name| !is_bookmark(name)) {
        let found = format!("scaup@.service is enabled for {name}, which is no bookmark that can be read");
        let advice =
            format!("systemctl --user disable \"$(systemd-escape --template=scaup@.service '{name}')\"");
        return vec![GROUP.warning(NAME, found, advice)];
    }
    let when = if lingers() { "when the machine starts" } else { "at login" };
    vec![GROUP.ok(NAME, format!("it mounts {} {when}", enabled.join(", ")))]
}

/// Returns the names that the user's unit is enabled for, sorted.
fn enabled(units: &Path) -> Vec<String> {
    let directories = std::fs::read_dir(units).into_iter().flatten().flatten().map(|entry| entry.path());
    let wants = directories.filter(|path| path.extension().is_some_and(|kind| kind == "wants"));
    let links = wants.flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten());
    let names = links.filter_map(|link| {
        let name = link.file_name().into_string().ok()?;
        Some(unescaped(name.strip_prefix("scaup@")?.strip_suffix(".service")?))
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

/// Decodes the instance of a unit, as `%I` does: `-` is `/`, and `\x2d` a byte.
fn unescaped(instance: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = instance.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = rest.strip_prefix(br"\x").and_then(|code| code.get(..2));
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(if *first == b'-' { b'/' } else { *first }));
        rest = if code.is_some() { rest.get(4..).unwrap_or_default() } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns whether the user's services run from the machine's start (loginctl(1), `enable-linger`).
fn lingers() -> bool {
    std::env::var("USER")
        .is_ok_and(|user| !user.contains('/') && PathBuf::from("/var/lib/systemd/linger").join(user).exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn the_bookmarks_of_enabled_units_are_found() {
        let units = tempfile::tempdir().unwrap();
        for name in ["default.target.wants", "other.target.wants", "default.target.requires"] {
            fs::create_dir(units.path().join(name)).unwrap();
        }
        for link in [
            "default.target.wants/scaup@my\\x2dhq.service",
            "other.target.wants/scaup@my\\x2dhq.service",
            "other.target.wants/scaup@b.service",
            "default.target.requires/scaup@x.service",
            "default.target.wants/other@y.service",
        ] {
            std::os::unix::fs::symlink("/nowhere", units.path().join(link)).unwrap();
        }
        assert_eq!(enabled(units.path()), ["b", "my-hq"]);
        assert!(enabled(&units.path().join("missing")).is_empty());
    }

    #[test]
    fn names_are_decoded_as_systemd_escapes_them() {
        for (instance, name) in [
            ("hq", "hq"),
            ("a-b", "a/b"),
            ("\\xc3\\xa4\\x2dx", "ä-x"),
            ("äö", "äö"),
            ("\\x", "\\x"),
            ("\\xzz", "\\xzz"),
        ] {
            assert_eq!(unescaped(instance), name, "{instance}");
        }
    }
}

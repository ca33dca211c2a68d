//! A bookmark: whether what it names is there.

use std::io;
use std::path::{Path, PathBuf};

use scaup_fuse::{Automount, is_mounted};

use super::login::{Subject, checks_of_files};
use super::{Check, Group};
use crate::config::bookmark::{self, Bookmark, BookmarkError};
use crate::config::paths;
use crate::config::target::Target;

const GROUP: Group = Group::Login;

/// The longest file of a bookmark that is read, bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Returns all bookmarks by their names, and what keeps others from being read.
#[must_use]
pub fn all() -> (Vec<(String, Bookmark)>, Vec<Check>) {
    let names = match bookmark::names() {
        Ok(names) => names,
        Err(error) => return (Vec::new(), vec![unreadable(&error)]),
    };
    let (mut bookmarks, mut checks) = (Vec::new(), Vec::new());
    for name in names {
        match load(&name) {
            Ok(found) => bookmarks.push((name, found)),
            Err(error) => checks.push(unreadable(&error)),
        }
    }
    (bookmarks, checks)
}

/// Reads a bookmark that is a file of ordinary length.
fn load(name: &str) -> Result<Bookmark, BookmarkError> {
    let path = bookmark::path(name)?;
    let is_readable = std::fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() <= FILE_MAX);
    if !is_readable {
        return Err(BookmarkError::Invalid { path, reason: "not a file of ordinary length".to_owned() });
    }
    bookmark::load(name)
}

/// Examines a bookmark before it is used. Nothing is asked, and nothing connects.
#[must_use]
pub fn checks(name: &str, bookmark: &Bookmark, others: &[(String, Bookmark)]) -> Vec<Check> {
    let mut checks = place_checks(name, bookmark, others);
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    match Subject::of_bookmark(name, bookmark, directory) {
        Ok(subject) => checks.extend(checks_of_files(&subject)),
        Err(reason) => checks.push(GROUP.failed("target", format!("{name}: {reason}"), edit(name))),
    }
    checks
}

/// Examines the places of this machine that a bookmark names.
#[must_use]
pub fn place_checks(name: &str, bookmark: &Bookmark, others: &[(String, Bookmark)]) -> Vec<Check> {
    target(name, bookmark).into_iter().chain([mount_point(name, bookmark, others)]).collect()
}

/// Says why a bookmark can't be read.
fn unreadable(error: &BookmarkError) -> Check {
    let advice = match error {
        BookmarkError::Invalid { path, .. } | BookmarkError::Io { path, .. } => {
            format!("correct {} (man 5 scaup-bookmark), or remove it", path.display())
        }
        BookmarkError::Name(_) => "give its file another name".to_owned(),
        BookmarkError::Missing(_) | BookmarkError::Exists(_) => "scaup bookmark list".to_owned(),
    };
    GROUP.failed("bookmark", error.to_string(), advice)
}

fn edit(name: &str) -> String {
    format!("scaup bookmark edit {name}")
}

fn target(name: &str, bookmark: &Bookmark) -> Option<Check> {
    let Ok(Target::Local(path)) = Target::parse(&bookmark.target) else { return None };
    let shown = path.display();
    Some(match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => GROUP.ok("target", format!("{name}: {shown} is a directory")),
        Ok(_) => GROUP.failed("target", format!("{name}: {shown} is not a directory"), edit(name)),
        Err(error) => GROUP.failed("target", format!("{name}: {shown}: {error}"), edit(name)),
    })
}

fn mount_point(name: &str, bookmark: &Bookmark, others: &[(String, Bookmark)]) -> Check {
    let check = "mount point";
    let place = place_of(name, bookmark);
    let shown = place.display();
    let mut others = others.iter().filter(|(other, _)| other != name);
    if let Some((other, _)) = others.find(|(other, bookmark)| place_of(other, bookmark) == place) {
        let found = format!("{name}: bookmark {other} has the same one, {shown}");
        return GROUP.warning(check, found, edit(name));
    }
    // What is mounted is not asked: its process may hang.
    if is_mounted(&place) {
        return GROUP.ok(check, format!("{name}: {shown} is mounted"));
    }
    let advice = format!("choose another one: scaup bookmark edit {name} mountpoint=DIRECTORY");
    // Looking into it would wake an automount, which logs in.
    if Automount::at(&place).is_some() {
        return GROUP.ok(check, format!("{name}: {shown} is an automount"));
    }
    match is_empty(&place) {
        Ok(true) => GROUP.ok(check, format!("{name}: {shown} is free")),
        Ok(false) => GROUP.failed(check, format!("{name}: {shown} is not empty"), advice),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            GROUP.ok(check, format!("{name}: {shown} will be made"))
        }
        Err(error) => GROUP.failed(check, format!("{name}: {shown}: {error}"), advice),
    }
}

fn place_of(name: &str, bookmark: &Bookmark) -> PathBuf {
    bookmark.mountpoint.clone().map_or_else(|| paths::mounts().join(name), paths::expand_home)
}

fn is_empty(place: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(place)?.next().is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn what_a_bookmark_names_has_to_be_there_and_free() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for name in ["target", "empty", "full"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("full/file"), "").unwrap();
        let bookmark = |target: &str, place: &str| Bookmark {
            target: at(target).to_str().unwrap().to_owned(),
            mountpoint: Some(at(place)),
            ..Bookmark::default()
        };
        let taken = [("other".to_owned(), bookmark("target", "taken"))];
        for (target, place, bad) in [
            ("target", "empty", None),
            ("target", "new/below", None),
            ("target", "full", Some("mount point")),
            ("target", "full/file", Some("mount point")),
            ("target", "taken", Some("mount point")),
            ("missing", "empty", Some("target")),
            ("full/file", "empty", Some("target")),
        ] {
            let checks = place_checks("new", &bookmark(target, place), &taken);
            let found = checks.iter().find(|check| check.verdict != Verdict::Ok).map(|check| check.name);
            assert_eq!(found, bad, "{target} {place}: {checks:?}");
        }
        assert_eq!(place_checks("other", &taken[0].1, &taken)[1].verdict, Verdict::Ok, "it is the same one");
    }
}

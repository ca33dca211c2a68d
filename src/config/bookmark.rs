//! Bookmarks: targets and options for mounting, one TOML file each.

use std::io;
use std::path::PathBuf;

use clap::{ArgAction, Args, Command};
use serde::{Deserialize, Serialize};

use super::paths;
use super::settings::{LoginSettings, MountSettings};
use super::target::Target;
use super::toml_files::{self, Existing};

/// A bookmark. Its keys have the names of the options of `mount`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bookmark {
    /// The target to mount.
    pub target: String,
    /// The mount point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<PathBuf>,
    /// How the server is logged in to.
    #[serde(flatten)]
    pub login: LoginSettings,
    /// What is mounted, and how it behaves.
    #[serde(flatten)]
    pub mount: MountSettings,
}

/// A key of bookmarks, as it is explained to people.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// The form of its value.
    pub form: String,
    /// What it sets.
    pub help: String,
}

/// Returns all keys of bookmarks. Those of the settings are explained by the help of the options of `mount`.
#[must_use]
pub fn keys() -> Vec<Key> {
    let key =
        |name: &str, form: &str, help: &str| Key { name: name.into(), form: form.into(), help: help.into() };
    let mut keys = vec![
        key("target", "TARGET", "What is mounted; required. Forms: see scaup mount"),
        key("mountpoint", "DIRECTORY", "Where it is mounted [default: ~/Scaup/NAME]"),
    ];
    let settings = MountSettings::augment_args(LoginSettings::augment_args(Command::new("bookmark")));
    keys.extend(settings.get_arguments().map(|argument| {
        let value = argument.get_value_names().map_or_else(String::new, |names| names.concat());
        let form = match argument.get_action() {
            ArgAction::SetTrue => "true".to_owned(),
            ArgAction::Append => format!("[{value}, …]"),
            _ => value,
        };
        let help = argument.get_help().map_or_else(String::new, ToString::to_string);
        key(argument.get_id().as_str(), &form, &help)
    }));
    keys
}

/// Why a bookmark can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookmarkError {
    /// The name can't be a file's name, or looks like an option or a target.
    #[error(
        "{0:?} can't be a bookmark's name: use letters, digits, `.`, `_` and `-`, and begin with a letter or digit"
    )]
    Name(String),
    /// There is no bookmark of that name.
    #[error("no bookmark {0:?}; `scaup bookmark list` shows them")]
    Missing(String),
    /// There is already a bookmark of that name.
    #[error("there is a bookmark {0:?} already; change it with `scaup bookmark edit {0}`")]
    Exists(String),
    /// The file does not hold a bookmark.
    #[error("{}: {reason}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        reason: String,
    },
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Returns whether `name` can be a bookmark's name.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 200 && name.starts_with(char::is_alphanumeric) && name.chars().all(allowed)
}

/// Returns the path of a bookmark's file.
///
/// # Errors
///
/// [`BookmarkError::Name`].
pub fn path(name: &str) -> Result<PathBuf, BookmarkError> {
    if is_valid_name(name) {
        Ok(paths::bookmarks().join(format!("{name}.toml")))
    } else {
        Err(BookmarkError::Name(name.to_owned()))
    }
}

/// Reads a bookmark; `None` if there is none of that name.
///
/// # Errors
///
/// If its file can't be read or does not hold a bookmark.
pub fn find(name: &str) -> Result<Option<Bookmark>, BookmarkError> {
    let Ok(path) = path(name) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map(Some).map_err(|reason| BookmarkError::Invalid { path, reason }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BookmarkError::Io { path, source }),
    }
}

/// Reads a bookmark that must exist.
///
/// # Errors
///
/// [`BookmarkError::Missing`], and the errors of [`find`].
pub fn load(name: &str) -> Result<Bookmark, BookmarkError> {
    find(name)?.ok_or_else(|| BookmarkError::Missing(name.to_owned()))
}

/// Reads the text of a bookmark.
///
/// # Errors
///
/// A sentence that names the key that is unknown or has a bad value.
pub fn parse(text: &str) -> Result<Bookmark, String> {
    // Each part is also read by itself: an error in a flattened part does not tell the place in the text.
    let bookmark = toml::from_str::<LoginSettings>(text)
        .and_then(|_| toml::from_str::<MountSettings>(text))
        .and_then(|_| toml::from_str::<Bookmark>(text))
        .map_err(|error| error.to_string())?;
    Target::parse(&bookmark.target)?;
    if bookmark.mount.no_vaults && !bookmark.mount.vaults.is_empty() {
        return Err("no_vaults and vaults exclude each other".to_owned());
    }
    Ok(bookmark)
}

/// Writes a bookmark, whole or not at all.
///
/// # Errors
///
/// If the name or the bookmark is not valid, or the file can't be written.
pub fn save(name: &str, bookmark: &Bookmark) -> Result<(), BookmarkError> {
    let path = path(name)?;
    let invalid = |reason: String| BookmarkError::Invalid { path: path.clone(), reason };
    let text = toml::to_string(bookmark).map_err(|error| invalid(error.to_string()))?;
    parse(&text).map_err(invalid)?;
    let written = toml_files::write(&paths::bookmarks(), &path, &text, Existing::Replace);
    written.map_err(|source| BookmarkError::Io { path, source })
}

/// Removes a bookmark.
///
/// # Errors
///
/// [`BookmarkError::Missing`], or the error of the file system.
pub fn remove(name: &str) -> Result<(), BookmarkError> {
    let path = path(name)?;
    std::fs::remove_file(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => BookmarkError::Missing(name.to_owned()),
        _ => BookmarkError::Io { path, source },
    })
}

/// Returns the names of all bookmarks, sorted.
///
/// # Errors
///
/// If their directory can't be read.
pub fn names() -> Result<Vec<String>, BookmarkError> {
    let path = paths::bookmarks();
    toml_files::names(&path).map_err(|source| BookmarkError::Io { path, source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_names_its_place_or_its_key() {
        for (line, named) in [
            ("port = \"many\"", "port = \"many\""),
            ("memory = \"much\"", "memory = \"much\""),
            ("options = [\"nonsense\"]", "-o nonsense"),
            ("colour = \"red\"", "colour"),
            ("no_vaults = true\nvaults = [\"A\"]", "no_vaults"),
        ] {
            let error = parse(&format!("target = \"host\"\n{line}\n")).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
        assert!(parse("port = 22\n").unwrap_err().contains("target"));
    }
}

//! Bookmarks: what to mount and how, one TOML file each.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::paths;

/// A bookmark. Its keys are named as the options of `mount`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bookmark {
    /// What to mount.
    pub target: String,
    /// Where to mount it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<PathBuf>,
    /// The server's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The identity file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
    /// Vaults to unlock while mounting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vaults: Vec<String>,
    /// What `-o` takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Nothing is ever changed on the server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// The key's passphrase is asked for at every login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forget_key: bool,
    /// Links in vaults may lead anywhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow_outside: bool,
    /// Prints the passphrase of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_command: Option<String>,
    /// Prints the one-time code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otp_command: Option<String>,
    /// Prints the password of a vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_password_command: Option<String>,
    /// The memory budget, such as `128M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// How long names and attributes are believed, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attr_timeout: Option<u64>,
    /// How long an operation waits for a lost server, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// Why a bookmark can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookmarkError {
    /// The name can't be a file's, or looks like an option or a target.
    #[error(
        "{0:?} can't be a bookmark's name: use letters, digits, `.`, `_` and `-`, and begin with a letter or digit"
    )]
    Name(String),
    /// There is none of that name.
    #[error("no bookmark {0:?}; `scaup bookmark list` shows them")]
    Missing(String),
    /// There is one already.
    #[error("there is a bookmark {0:?} already; change it with `scaup bookmark edit {0}`")]
    Exists(String),
    /// The file does not hold a bookmark.
    #[error("{}: {reason}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Whether `name` can be a bookmark's.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 200 && name.starts_with(char::is_alphanumeric) && name.chars().all(allowed)
}

/// The file of a bookmark.
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
/// If its file can't be read or holds something else.
pub fn find(name: &str) -> Result<Option<Bookmark>, BookmarkError> {
    let Ok(path) = path(name) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(path, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BookmarkError::Io { path, source }),
    }
}

/// Reads a bookmark that must exist.
///
/// # Errors
///
/// [`BookmarkError::Missing`], and what [`find`] says.
pub fn load(name: &str) -> Result<Bookmark, BookmarkError> {
    find(name)?.ok_or_else(|| BookmarkError::Missing(name.to_owned()))
}

fn parse(path: PathBuf, text: &str) -> Result<Bookmark, BookmarkError> {
    let invalid = |reason: String| BookmarkError::Invalid { path: path.clone(), reason };
    let bookmark: Bookmark = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
    super::target::Target::parse(&bookmark.target).map_err(invalid)?;
    super::mount_options::sort(&bookmark.options).map_err(invalid)?;
    if let Some(memory) = &bookmark.memory {
        super::size::parse(memory).map_err(invalid)?;
    }
    Ok(bookmark)
}

/// Writes a bookmark: whole or not at all.
///
/// # Errors
///
/// If the name or the bookmark is not valid, or the file can't be written.
pub fn save(name: &str, bookmark: &Bookmark) -> Result<(), BookmarkError> {
    let path = path(name)?;
    let invalid = |reason: String| BookmarkError::Invalid { path: path.clone(), reason };
    let text = toml::to_string(bookmark).map_err(|error| invalid(error.to_string()))?;
    parse(path.clone(), &text)?;
    let temporary = path.with_extension("toml.new");
    let written = paths::make_private(&paths::bookmarks())
        .and_then(|()| std::fs::write(&temporary, text))
        .and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|source| BookmarkError::Io { path, source })
}

/// Removes a bookmark.
///
/// # Errors
///
/// [`BookmarkError::Missing`], or what the file system says.
pub fn remove(name: &str) -> Result<(), BookmarkError> {
    let path = path(name)?;
    std::fs::remove_file(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => BookmarkError::Missing(name.to_owned()),
        _ => BookmarkError::Io { path, source },
    })
}

/// The names of all bookmarks, sorted.
///
/// # Errors
///
/// If their directory can't be read.
pub fn names() -> Result<Vec<String>, BookmarkError> {
    let path = paths::bookmarks();
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(BookmarkError::Io { path, source }),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_suffix(".toml").map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}

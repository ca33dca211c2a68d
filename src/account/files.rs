//! The files of the accounts: `accounts/NAME.toml` beside the bookmarks.

use std::fs;
use std::io;
use std::path::PathBuf;

use scaup_sftp::text::Line;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::config::bookmark::is_valid_name;
use crate::config::paths;
use crate::config::toml_files::{self, Existing};

/// The folder on the server that holds what is shared. Sync clients skip names with `.~` in them, so the readable file
/// does not come back to the machines of its owner (seen with nextcloudcmd 3.7).
pub const FOLDER: &str = "Scaup shares.~";

/// Where the app password of an account comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppPassword {
    /// The desktop's keyring has it, under this number.
    Keyring(Uuid),
    /// This command prints it.
    Command(String),
    /// It is made by a login in the browser each time, and deleted afterwards.
    AskEveryTime,
}

/// An account on a Nextcloud server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The server's address.
    pub url: String,
    /// The name to log in with.
    pub login: String,
    /// The user's id on the server.
    pub user: String,
    /// The folder for what is shared.
    pub folder: String,
    /// A file with the certificates of further authorities to trust (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Where the app password comes from.
    pub app_password: AppPassword,
}

/// Why an account can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The name can't be a file's name, or looks like an option.
    #[error(
        "{0:?} can't be an account's name: choose one with --name, of letters, digits, `.`, `_` and `-`, that begins with a letter or digit"
    )]
    Name(String),
    /// The folder can't be one on a server.
    #[error("{0} can't be a folder on the server: name one below your files, such as \"Scaup shares.~\"")]
    Folder(Line),
    /// There is no account of that name.
    #[error("no account {0:?}; `scaup account list` shows them")]
    Missing(String),
    /// There is already an account of that name.
    #[error(
        "there is an account {0:?} already: choose another --name, or remove it with `scaup account remove {0}`"
    )]
    Exists(String),
    /// There is no account at all.
    #[error("there is no account yet: add one with `scaup account add https://…`")]
    None,
    /// There are several, and none was named.
    #[error("there are several accounts; choose one with --account: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The file does not hold an account.
    #[error("{} does not hold an account: {source}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The error in it.
        source: toml::de::Error,
    },
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

fn path(name: &str) -> Result<PathBuf, AccountError> {
    if is_valid_name(name) {
        Ok(paths::accounts().join(format!("{name}.toml")))
    } else {
        Err(AccountError::Name(name.to_owned()))
    }
}

impl Account {
    /// Reads an account.
    ///
    /// # Errors
    ///
    /// [`AccountError::Missing`], or if its file can't be read.
    pub fn load(name: &str) -> Result<Self, AccountError> {
        let path = path(name)?;
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => AccountError::Missing(name.to_owned()),
            _ => AccountError::Io { path: path.clone(), source },
        })?;
        toml::from_str(&text).map_err(|source| AccountError::Invalid { path, source })
    }

    /// Returns the account that is meant, with its name: the one that is named, or the only one.
    ///
    /// # Errors
    ///
    /// If there is none, or several.
    pub fn meant(name: Option<&str>) -> Result<(String, Self), AccountError> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => match names()?.as_slice() {
                [] => return Err(AccountError::None),
                [only] => only.clone(),
                several => return Err(AccountError::Several(several.to_vec())),
            },
        };
        Ok((name.clone(), Self::load(&name)?))
    }

    /// Writes an account under a name that is not taken.
    ///
    /// # Errors
    ///
    /// If it is taken or not valid, or the file can't be written.
    pub fn create(&self, name: &str) -> Result<(), AccountError> {
        let path = path(name)?;
        let text = toml::to_string(self).map_err(io::Error::other);
        let written =
            text.and_then(|text| toml_files::write(&paths::accounts(), &path, &text, Existing::Keep));
        written.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => AccountError::Exists(name.to_owned()),
            _ => AccountError::Io { path, source },
        })
    }
}

/// Makes sure that an account may have this name.
///
/// # Errors
///
/// If it is taken or not valid.
pub fn check_free(name: &str) -> Result<(), AccountError> {
    if path(name)?.exists() { Err(AccountError::Exists(name.to_owned())) } else { Ok(()) }
}

/// Returns the folder as the server stores its name.
///
/// # Errors
///
/// If it can't be a folder below the user's files.
pub fn checked_folder(folder: &str) -> Result<String, AccountError> {
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\\');
    if folder.split('/').all(is_name) && !folder.chars().any(char::is_control) {
        Ok(folder.nfc().collect())
    } else {
        Err(AccountError::Folder(Line::of(folder)))
    }
}

/// Removes the file of an account.
///
/// # Errors
///
/// If the file system refuses.
pub fn remove_file(name: &str) -> Result<(), AccountError> {
    let path = path(name)?;
    fs::remove_file(&path).map_err(|source| AccountError::Io { path, source })
}

/// Returns the names of all accounts, sorted.
///
/// # Errors
///
/// If their directory can't be read.
pub fn names() -> Result<Vec<String>, AccountError> {
    let path = paths::accounts();
    toml_files::names(&path).map_err(|source| AccountError::Io { path, source })
}

//! The directories of Scaup's files (XDG Base Directory Specification).

use std::io;
use std::path::{Path, PathBuf};

use super::private_directory::PrivateDirectory;

fn from_environment(variable: &str, below_home: &str) -> PathBuf {
    match std::env::var_os(variable).map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => home().join(below_home),
    }
}

/// Returns the user's home directory.
#[must_use]
pub fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"))
}

/// Expands a path as people write it in files: `~/` is the home directory, which on the command line the shell expands.
#[must_use]
pub fn expand_home(path: PathBuf) -> PathBuf {
    path.strip_prefix("~").map(|below| home().join(below)).unwrap_or(path)
}

/// The directories in which the programs of the user keep their files.
#[derive(Debug, Clone)]
pub struct UserDirectories {
    /// The home directory.
    pub home: PathBuf,
    /// `XDG_CACHE_HOME`.
    pub cache: PathBuf,
    /// `XDG_CONFIG_HOME`.
    pub config: PathBuf,
    /// `XDG_DATA_HOME`.
    pub data: PathBuf,
    /// `XDG_STATE_HOME`.
    pub state: PathBuf,
}

/// Returns the directories of all programs of the user.
#[must_use]
pub fn user_directories() -> UserDirectories {
    UserDirectories {
        home: home(),
        cache: from_environment("XDG_CACHE_HOME", ".cache"),
        config: from_environment("XDG_CONFIG_HOME", ".config"),
        data: from_environment("XDG_DATA_HOME", ".local/share"),
        state: from_environment("XDG_STATE_HOME", ".local/state"),
    }
}

/// Returns the directory of the bookmarks, one file each.
#[must_use]
pub fn bookmarks() -> PathBuf {
    user_directories().config.join("scaup/bookmarks")
}

/// Returns the directory of the accounts on Nextcloud servers, one file each.
#[must_use]
pub fn accounts() -> PathBuf {
    user_directories().config.join("scaup/accounts")
}

/// Returns the directory of the user's own units of systemd.
#[must_use]
pub fn user_units() -> PathBuf {
    user_directories().config.join("systemd/user")
}

/// Returns the directory of the daemons' logs.
#[must_use]
pub fn state() -> PathBuf {
    user_directories().state.join("scaup")
}

/// Returns the directory in which mount points are created if the user names none.
#[must_use]
pub fn mounts() -> PathBuf {
    home().join("Scaup")
}

/// Returns the directory for the daemons' logs, created if missing.
///
/// # Errors
///
/// As for [`PrivateDirectory::at`].
pub fn logs() -> io::Result<PrivateDirectory> {
    PrivateDirectory::at(&state())
}

/// Returns the directory for records of operations that mounts have begun and not finished, created if missing.
///
/// # Errors
///
/// As for [`PrivateDirectory::at`].
pub fn unfinished() -> io::Result<PrivateDirectory> {
    logs()?.below("unfinished")
}

/// Where the daemons' sockets lie.
#[derive(Debug)]
pub struct RuntimePlace {
    /// The directory around theirs, which has to be private to the user, too: another owner could exchange theirs for
    /// another one. `None` in the directory for temporary files: every user may write to that, and its sticky bit keeps
    /// theirs in its place.
    pub around: Option<PathBuf>,
    /// Their directory.
    pub directory: PathBuf,
}

/// Returns where the daemons' sockets lie: in `XDG_RUNTIME_DIR`, if there is one.
#[must_use]
pub fn runtime_place() -> RuntimePlace {
    let uid = rustix::process::getuid().as_raw();
    let systemd = PathBuf::from(format!("/run/user/{uid}"));
    let around = runtime_directory_named().or_else(|| Some(systemd).filter(|systemd| systemd.is_dir()));
    match around {
        Some(around) => RuntimePlace { directory: around.join("scaup"), around: Some(around) },
        None => RuntimePlace { around: None, directory: std::env::temp_dir().join(format!("scaup-{uid}")) },
    }
}

fn runtime_directory_named() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Returns the directory for the daemons' sockets, created if missing.
///
/// # Errors
///
/// As for [`PrivateDirectory::at`].
pub fn runtime() -> io::Result<PrivateDirectory> {
    let RuntimePlace { around, directory } = runtime_place();
    let Some(around) = around else { return PrivateDirectory::at(&directory) };
    let opened = PrivateDirectory::at(&around).map_err(|error| match runtime_directory_named() {
        Some(_) => {
            let text = format!("{error}; set XDG_RUNTIME_DIR to such a directory, or unset it");
            io::Error::new(error.kind(), text)
        }
        None => error,
    });
    opened?.below("scaup")
}

/// Creates a directory private to the user, or checks that an existing one is.
///
/// # Errors
///
/// As for [`PrivateDirectory::at`].
pub fn make_private(path: &Path) -> io::Result<()> {
    PrivateDirectory::at(path).map(drop)
}

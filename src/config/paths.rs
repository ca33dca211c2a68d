//! Where Scaup keeps its files (XDG Base Directory Specification).

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

fn from_environment(variable: &str, below_home: &str) -> PathBuf {
    match std::env::var_os(variable).map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => home().join(below_home),
    }
}

/// The user's home directory.
#[must_use]
pub fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"))
}

/// A path as people write it in files: `~/` is the home directory, which on the command line the shell puts in.
#[must_use]
pub fn expand_home(path: PathBuf) -> PathBuf {
    path.strip_prefix("~").map(|below| home().join(below)).unwrap_or(path)
}

/// One file per bookmark.
#[must_use]
pub fn bookmarks() -> PathBuf {
    from_environment("XDG_CONFIG_HOME", ".config").join("scaup/bookmarks")
}

/// The daemons' logs.
#[must_use]
pub fn state() -> PathBuf {
    from_environment("XDG_STATE_HOME", ".local/state").join("scaup")
}

/// Where mount points are made if the user names none.
#[must_use]
pub fn mounts() -> PathBuf {
    home().join("Scaup")
}

/// The daemons' sockets, in a directory that is the user's alone. Made if missing.
///
/// # Errors
///
/// If it can't be made, or belongs to somebody else.
pub fn runtime() -> io::Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let systemd = PathBuf::from(format!("/run/user/{uid}"));
    let path = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path.join("scaup"),
        _ if systemd.is_dir() => systemd.join("scaup"),
        _ => std::env::temp_dir().join(format!("scaup-{uid}")),
    };
    make_private(&path)?;
    Ok(path)
}

/// Makes a directory for the user alone, or checks that an existing one is.
///
/// # Errors
///
/// If it can't be made, or belongs to somebody else, or is open to others.
pub fn make_private(path: &Path) -> io::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let metadata = std::fs::symlink_metadata(path)?;
    let own = metadata.is_dir() && metadata.uid() == rustix::process::getuid().as_raw();
    if !own || metadata.mode() & 0o022 != 0 {
        let text = format!("{} does not belong to you alone; remove it and try again", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

//! Directories that are private to the user and hold one TOML file for each name.

use std::io::{self, Write};
use std::path::Path;

use super::paths;

/// What is done with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// It stays, and nothing is written.
    Keep,
}

/// Returns the names of all files in a directory, which need not exist, sorted and without their end.
///
/// # Errors
///
/// If the directory can't be read.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_suffix(".toml").map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Writes a file, whole or not at all. The directory `directory` is created if it is missing.
///
/// # Errors
///
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is one that shall stay, and other errors of the system.
pub fn write(directory: &Path, file: &Path, text: &str, existing: Existing) -> io::Result<()> {
    paths::make_private(directory)?;
    let mut written = tempfile::NamedTempFile::new_in(directory)?;
    written.write_all(text.as_bytes())?;
    written.as_file().sync_all()?;
    let persisted = match existing {
        Existing::Replace => written.persist(file),
        Existing::Keep => written.persist_noclobber(file),
    };
    persisted.map(drop).map_err(|error| error.error)
}

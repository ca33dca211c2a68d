//! Directories of small files with one record each, so that mounts that end at the same time do not write over each
//! other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::paths;
use super::toml_files::{self, Existing};

/// Why records can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is damaged.
    #[error("{} is damaged; if you do not need what it says, remove that file: {source}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The error in it.
        source: toml::de::Error,
    },
}

/// A record, which its key tells from others of its directory.
pub trait Record: Serialize + DeserializeOwned {
    /// Returns what has a file of its own, of which any part may be empty.
    fn key(&self) -> Vec<&str>;
}

/// One directory of records.
#[derive(Debug)]
pub struct Records {
    directory: PathBuf,
}

impl Records {
    /// Returns the records called `name` in the directory of Scaup's state, which need not exist.
    #[must_use]
    pub fn called(name: &str) -> Self {
        Self { directory: paths::state().join(name) }
    }

    fn file(&self, key: &[&str]) -> PathBuf {
        self.directory.join(format!("{}.toml", HEXLOWER.encode(&Sha256::digest(key.join("\0")))))
    }

    /// Returns all records.
    ///
    /// # Errors
    ///
    /// If one can't be read, or is none.
    pub fn all<R: Record>(&self) -> Result<Vec<R>, RecordError> {
        self.files()?.iter().map(|file| read(file)).collect()
    }

    /// Returns the record with this key, if there is one.
    ///
    /// # Errors
    ///
    /// As for [`Self::all`].
    pub fn find<R: Record>(&self, key: &[&str]) -> Result<Option<R>, RecordError> {
        match read(&self.file(key)) {
            Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// Writes a record, in the place of one that has the same key.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn write<R: Record>(&self, record: &R) -> Result<(), RecordError> {
        let failed = |source| RecordError::Io { path: self.directory.clone(), source };
        let file = self.file(&record.key());
        let text = toml::to_string(record).map_err(io::Error::other).map_err(failed)?;
        if fs::read_to_string(&file).is_ok_and(|known| known == text) {
            return Ok(());
        }
        toml_files::write(&self.directory, &file, &text, Existing::Replace)
            .map_err(|source| RecordError::Io { path: file, source })
    }

    /// Removes the record with this key, if there is one.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn remove(&self, key: &[&str]) -> Result<(), RecordError> {
        remove(&self.file(key))
    }

    /// Removes the files that hold no record.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn remove_damaged<R: Record>(&self) -> Result<(), RecordError> {
        for file in self.files()? {
            if matches!(read::<R>(&file), Err(RecordError::Damaged { .. })) {
                remove(&file)?;
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<PathBuf>, RecordError> {
        let failed = |source| RecordError::Io { path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "toml") {
                files.push(file);
            }
        }
        Ok(files)
    }
}

fn read<R: Record>(file: &Path) -> Result<R, RecordError> {
    let text =
        fs::read_to_string(file).map_err(|source| RecordError::Io { path: file.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| RecordError::Damaged { path: file.to_owned(), source })
}

fn remove(file: &Path) -> Result<(), RecordError> {
    match fs::remove_file(file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RecordError::Io { path: file.to_owned(), source })
        }
        _ => Ok(()),
    }
}

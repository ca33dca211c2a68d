//! The backups of a vault's two files, named as Cryptomator names those that it makes.

use std::time::SystemTime;

use super::copies_beside::{is_backup, is_copy_of};
use super::error::OpenError;
use super::format::part;
use super::markers::{MARKER_FILE_MAX, Markers};
use super::opening::{open_files, read_marker};
use super::replacement::VaultFile;
use crate::remote::{Remote, RemoteName, RemotePath};

/// Most backups of a file that are read.
const READ_MAX: usize = 16;

/// Whether a file has a backup beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backup {
    /// At least one has the same content.
    Same,
    /// There are some, and all that could be read have another content.
    Other,
    /// There is none.
    None,
}

/// One of a vault's two files, and its backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBackups {
    /// Its name.
    pub file: &'static str,
    /// The names of its backups, when each was made, and whether it was read and has the same content; the newest
    /// first.
    pub backups: Vec<(RemoteName, SystemTime, bool)>,
}

impl FileBackups {
    /// Returns what that means.
    #[must_use]
    pub fn state(&self) -> Backup {
        match self.backups.as_slice() {
            [] => Backup::None,
            backups if backups.iter().any(|&(_, _, is_same)| is_same) => Backup::Same,
            _ => Backup::Other,
        }
    }
}

/// Finds the backups of the two files of the vault at `path`. A file that can't be read is left out.
pub async fn backups(remote: &dyn Remote, path: &RemotePath) -> Vec<FileBackups> {
    let mut listed = remote.list(path).await.unwrap_or_default();
    listed.sort_by_key(|entry| std::cmp::Reverse(entry.attributes.modified));
    let mut found = Vec::new();
    for file in [Markers::MASTERKEY, Markers::CONFIG] {
        let read = async |name: &RemoteName| remote.read_small(&path.join(name), MARKER_FILE_MAX).await;
        let Ok(content) = read(&part(file)).await else { continue };
        let mut backups = Vec::new();
        for entry in &listed {
            let name = &entry.name;
            if is_backup(name.as_bytes()) && is_copy_of(name.as_bytes(), file) {
                let is_same =
                    backups.len() < READ_MAX && read(name).await.is_ok_and(|other| other == content);
                backups.push((name.clone(), entry.attributes.modified, is_same));
            }
        }
        found.push(FileBackups { file, backups });
    }
    found
}

/// Copies the config and the masterkey file of the vault at `path` to backups, unless there are such.
///
/// # Errors
///
/// If one of them can't be read or written, or something else has the name of its backup.
pub(crate) async fn back_up(remote: &dyn Remote, path: &RemotePath) -> Result<(), OpenError> {
    let opening = open_files(remote, path).await?;
    let config = match opening.has_config() {
        true => read_marker(remote, path, &part(Markers::CONFIG)).await?,
        false => None,
    };
    let config = config.map(|content| (part(Markers::CONFIG), content));
    // A vault that was opened by its recovery key may have none.
    let masterkey = opening.masterkey(path).ok().map(|found| (found.name.clone(), found.content.clone()));
    for (name, content) in config.into_iter().chain(masterkey) {
        VaultFile::read(remote, path, name, content).await?.back_up(remote).await?;
    }
    Ok(())
}

//! The backups that Cryptomator makes of a vault's two files.

use super::copies_beside::{is_backup, is_copy_of};
use super::markers::{MARKER_FILE_MAX, Markers};
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

/// Compares the two files of the vault at `path` with their backups. A file that can't be read is left out.
pub async fn backups(remote: &dyn Remote, path: &RemotePath) -> Vec<(&'static str, Backup)> {
    let listed: Vec<RemoteName> =
        remote.list(path).await.unwrap_or_default().into_iter().map(|entry| entry.name).collect();
    let mut found = Vec::new();
    for file in [Markers::MASTERKEY, Markers::CONFIG] {
        let read = async |name: &RemoteName| remote.read_small(&path.join(name), MARKER_FILE_MAX).await;
        let Some(name) = RemoteName::parse(file.as_bytes()) else { continue };
        let Ok(content) = read(&name).await else { continue };
        let is_backup_of_it =
            |name: &&RemoteName| is_backup(name.as_bytes()) && is_copy_of(name.as_bytes(), file);
        let mut backup = Backup::None;
        for name in listed.iter().filter(is_backup_of_it).take(READ_MAX) {
            backup = Backup::Other;
            if read(name).await.is_ok_and(|other| other == content) {
                backup = Backup::Same;
                break;
            }
        }
        found.push((file, backup));
    }
    found
}

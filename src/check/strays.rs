//! What lies in a vault's `d` beside its content directories.

use scaup_crypto::DirectoryId;

use super::base::{Check, CheckError};
use super::directory::BACKUP_MAX;
use super::finding::{FindingKind, Spot, Version};
use crate::remote::{RemoteEntry, RemoteKind, RemotePath};
use crate::vault::entry_kinds::{ContentEntry, Stray};
use crate::vault::part;

/// Most names that are told of a content directory that nothing leads to.
const NAMES_MAX: usize = 10;

impl Check<'_> {
    /// Records an entry of `d`, or of a directory in it, that is no content directory. A sync client gives the content
    /// of a directory that was removed on one machine and changed on another a name of its own.
    pub(super) async fn note_outside(
        &self,
        parent: &RemotePath,
        stray: &RemoteEntry,
        hash_len: usize,
    ) -> Result<(), CheckError> {
        let name = stray.name.as_bytes();
        let spot = || Spot::outside(parent.join(&stray.name));
        let begins_with_hash = name.get(..hash_len).is_some_and(is_hash);
        match Stray::of(name) {
            Stray::Unknown if begins_with_hash && stray.attributes.kind == RemoteKind::Directory => {
                let (held, names) = self.look_into(&parent.join(&stray.name)).await?;
                if held == 0 {
                    self.findings.add(FindingKind::Stray, spot(), "a directory with nothing in it");
                } else {
                    let more = held.saturating_sub(names.len());
                    let detail = match (names.is_empty(), more) {
                        (true, _) => format!("{held} files or directories are in it"),
                        (false, 0) => format!("in it are {}", names.join(", ")),
                        (false, _) => format!("in it are {}, and {more} more", names.join(", ")),
                    };
                    let version = Version::of(&stray.attributes);
                    self.findings.add_version(FindingKind::ConflictedContent, spot(), detail, version);
                }
            }
            kind => self.note_stray(kind, stray, spot()),
        }
        Ok(())
    }

    /// Returns how many nodes lie in a content directory that was renamed, and the names of some: its `dirid.c9r` tells
    /// which directory it was.
    async fn look_into(&self, path: &RemotePath) -> Result<(usize, Vec<String>), CheckError> {
        let backup = self.on_server(&path.join(&part("dirid.c9r")));
        let (entries, backup) = futures::join!(
            self.list(path, || Spot::outside(path.clone())),
            self.remote.read_small(&backup, BACKUP_MAX)
        );
        let id = backup.ok().and_then(|stored| self.cryptor.decrypt_small(&stored).ok());
        let id = id.and_then(|id| DirectoryId::parse(&id).ok());
        let (mut held, mut names) = (0, Vec::new());
        for entry in entries? {
            let kind = ContentEntry::of(
                self.cryptor,
                entry.name.as_bytes(),
                id.as_ref().unwrap_or(&DirectoryId::root()),
            );
            held += usize::from(!matches!(kind, ContentEntry::Stray(stray) if stray != Stray::Unknown));
            if let ContentEntry::Named { name, .. } = kind
                && names.len() < NAMES_MAX
            {
                names.push(format!("{:?}", name.as_str()));
            }
        }
        Ok((held, names))
    }
}

/// Whether these are characters of a base32 hash.
pub(super) fn is_hash(name: &[u8]) -> bool {
    name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

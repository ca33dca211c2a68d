//! What lies in a vault's `d` beside its content directories.

use scaup_crypto::DirectoryId;

use super::base::{Check, CheckError};
use super::directory::BACKUP_MAX;
use super::finding::{FindingKind, Spot, Version};
use crate::remote::{RemoteEntry, RemoteKind, RemotePath};
use crate::vault::data_entries::DataLevel;
use crate::vault::entry_kinds::{ContentEntry, Stray};
use crate::vault::part;

/// Most names that are told of a content directory that nothing leads to.
const NAMES_MAX: usize = 10;

impl Check<'_> {
    /// Records an entry of `d`, or of a directory in it, whose name a sync client has changed.
    pub(super) async fn note_renamed(
        &self,
        path: RemotePath,
        entry: &RemoteEntry,
        level: DataLevel,
    ) -> Result<(), CheckError> {
        if level == DataLevel::Content {
            return self.note_content(path, entry).await;
        }
        // Content directories lie in it.
        for entry in self.list(&path, || Spot::outside(path.clone())).await? {
            let path = path.join(&entry.name);
            if entry.attributes.kind == RemoteKind::Directory {
                self.note_content(path, &entry).await?;
            } else {
                self.note_stray(Stray::of(entry.name.as_bytes()), &entry, Spot::outside(path));
            }
        }
        Ok(())
    }

    /// Records a content directory whose own name, or that of the directory around it, was changed.
    async fn note_content(&self, path: RemotePath, entry: &RemoteEntry) -> Result<(), CheckError> {
        let (held, names) = self.look_into(&path).await?;
        let spot = Spot::outside(path);
        if held == 0 {
            self.findings.add(FindingKind::Stray, spot, "nothing is in it");
            return Ok(());
        }
        let more = held.saturating_sub(names.len());
        let detail = match (names.is_empty(), more) {
            (true, _) => format!("{held} files or directories are in it"),
            (false, 0) => format!("in it are {}", names.join(", ")),
            (false, _) => format!("in it are {}, and {more} more", names.join(", ")),
        };
        let version = Version::of(&entry.attributes);
        self.findings.add_version(FindingKind::ConflictedContent, spot, detail, version);
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
            let is_wanted = |stray: Stray| stray.is_kept(entry.name.as_bytes());
            held += usize::from(!matches!(kind, ContentEntry::Stray(stray) if !is_wanted(stray)));
            if let ContentEntry::Named { name, .. } = kind
                && names.len() < NAMES_MAX
            {
                names.push(format!("{:?}", name.as_str()));
            }
        }
        Ok((held, names))
    }
}

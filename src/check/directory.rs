//! Reads one content directory: its id, and all entries in it.

use std::sync::atomic::Ordering;

use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::DirectoryId;

use super::base::{Check, CheckError, PARALLEL};
use super::facts::{Child, ContentDirectory, Parent};
use super::finding::{FindingKind, Spot};
use crate::remote::{RemoteEntry, RemoteError, RemoteKind, RemotePath};
use crate::vault::entry_kinds::ContentEntry;
use crate::vault::inside::Inside;
use crate::vault::{DIRECTORY_ID_MAX, NodePart, content_path, part};

/// Longest `dirid.c9r`, bytes: the longest id, a header, and a chunk's overhead and an empty chunk of either combo.
pub(super) const BACKUP_MAX: usize = DIRECTORY_ID_MAX + 200;

/// A format that had no `dirid.c9r` yet.
const FORMAT_WITHOUT_BACKUPS: u32 = 7;

impl Check<'_> {
    /// Checks a directory if its id is known from the directory itself. If not, only the directories in it are read, to
    /// find out their ids.
    pub(super) async fn read_known(
        &self,
        number: usize,
        path: &RemotePath,
    ) -> Result<(usize, ContentDirectory), CheckError> {
        let spot = || Spot::directory(number, path.clone());
        let backup_path = path.join(&part("dirid.c9r"));
        let backup_on_server = self.on_server(&backup_path);
        let (entries, backup) =
            futures::join!(self.list(path, spot), self.remote.read_small(&backup_on_server, BACKUP_MAX));
        let entries = entries?;
        let mut id = self.id_from_backup(number, path, &backup_path, backup)?;
        if *path == content_path(&RemotePath::root(), self.cryptor, &DirectoryId::root()) {
            id = Some(DirectoryId::root());
        }
        if id.is_some() {
            return self.read_entries(number, path, entries, id).await;
        }
        let nodes = entries.iter().filter(|entry| {
            let kind = ContentEntry::of(self.cryptor, entry.name.as_bytes(), &DirectoryId::root());
            entry.attributes.kind == RemoteKind::Directory && !matches!(kind, ContentEntry::Stray(_))
        });
        let children: Vec<Vec<Child>> = stream::iter(nodes)
            .map(|entry| self.ids_in(path.join(&entry.name)))
            .buffer_unordered(PARALLEL)
            .and_then(async |children| self.remember(children.len()).map(|()| children))
            .try_collect()
            .await?;
        let children = children.into_iter().flatten().collect();
        Ok((number, ContentDirectory { children, ..ContentDirectory::new(path.clone()) }))
    }

    /// Returns the directories that a node names, whatever it is called. A problem with them is reported when the whole
    /// directory is checked.
    async fn ids_in(&self, path: RemotePath) -> Result<Vec<Child>, CheckError> {
        let inside = Inside::read(self.remote, &self.on_server(&path), false).await;
        let mut ids = vec![inside.id.clone()];
        for part in inside.parts() {
            if part.of == NodePart::Directory && part.name.as_bytes() != b"dir.c9r" {
                let path = self.on_server(&path.join(&part.name));
                ids.push(self.remote.read_small(&path, DIRECTORY_ID_MAX).await);
            }
        }
        let mut children = Vec::new();
        for id in ids {
            match id {
                Ok(id) => children.extend(DirectoryId::parse(&id).ok().map(|id| Child {
                    id,
                    path: path.clone(),
                    name: None,
                    is_copy: false,
                })),
                Err(source @ (RemoteError::Timeout(_) | RemoteError::Disconnected(_))) => {
                    return Err(CheckError::Remote { path, source });
                }
                Err(_) => {}
            }
        }
        Ok(children)
    }

    /// Checks a directory whose id is known by now, or is known nowhere.
    pub(super) async fn read_directory(
        &self,
        number: usize,
        path: &RemotePath,
        id: Option<DirectoryId>,
    ) -> Result<(usize, ContentDirectory), CheckError> {
        let entries = self.list(path, || Spot::directory(number, path.clone())).await?;
        self.read_entries(number, path, entries, id).await
    }

    async fn read_entries(
        &self,
        number: usize,
        path: &RemotePath,
        entries: Vec<RemoteEntry>,
        id: Option<DirectoryId>,
    ) -> Result<(usize, ContentDirectory), CheckError> {
        let parent = Parent { number, path, id: id.as_ref() };
        let mut checks =
            stream::iter(entries).map(|entry| self.check_entry(&parent, entry)).buffer_unordered(PARALLEL);
        let mut directory = ContentDirectory::new(path.clone());
        while let Some(found) = checks.try_next().await? {
            self.remember(found.children.len() + found.links.len())?;
            directory.nodes += u64::from(found.is_node);
            directory.children.extend(found.children);
            directory.links.extend(found.links);
        }
        drop(checks);
        // The order of replies must not matter; a copy comes after its original.
        directory.children.sort_by(|a, b| (a.is_copy, &a.path).cmp(&(b.is_copy, &b.path)));
        directory.id = id;
        self.progress.directories.fetch_add(1, Ordering::Relaxed);
        Ok((number, directory))
    }

    /// Returns the id in `dirid.c9r`, if it is this directory's.
    fn id_from_backup(
        &self,
        number: usize,
        path: &RemotePath,
        backup_path: &RemotePath,
        backup: Result<bytes::Bytes, RemoteError>,
    ) -> Result<Option<DirectoryId>, CheckError> {
        let spot = || Spot::directory(number, backup_path.clone());
        let wrong = |detail: String| self.findings.add(FindingKind::WrongDirectoryIdBackup, spot(), detail);
        let stored = match backup {
            Ok(stored) if !stored.is_empty() => stored,
            // A directory whose creation was interrupted may have an empty one.
            Ok(_) | Err(RemoteError::NotFound) => {
                if self.cryptor.config().format != FORMAT_WITHOUT_BACKUPS {
                    self.findings.add(
                        FindingKind::MissingDirectoryIdBackup,
                        Spot::directory(number, path.clone()),
                        "",
                    );
                }
                return Ok(None);
            }
            Err(RemoteError::TooLong { .. } | RemoteError::IsADirectory) => {
                wrong("it is not a file of this kind".to_owned());
                return Ok(None);
            }
            Err(error) => return self.unreadable(backup_path, spot(), error).map(|()| None),
        };
        let id = match self.cryptor.decrypt_small(&stored) {
            Ok(id) if id.is_empty() => DirectoryId::root(),
            Ok(id) => match DirectoryId::parse(&id) {
                Ok(id) => id,
                Err(error) => {
                    wrong(error.to_string());
                    return Ok(None);
                }
            },
            Err(error) => {
                wrong(error.to_string());
                return Ok(None);
            }
        };
        if content_path(&RemotePath::root(), self.cryptor, &id) != *path {
            wrong("it names another directory".to_owned());
            return Ok(None);
        }
        Ok(Some(id))
    }
}

//! The health check of a vault: reads it all, writes nothing, and says what is wrong, where, and what to do about it.
//!
//! It works over any [`Remote`], with the keys that [`open_vault`](crate::vault::open_vault) gives:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use scaup::{check, remote::{Remote, RemotePath}, vault};
//! # async fn example(remote: &dyn Remote, path: &RemotePath) -> Result<(), Box<dyn std::error::Error>> {
//! let cryptor = Arc::new(vault::open_vault(remote, path, &vault::VaultSecret::password("the password")).await?);
//! let options = check::CheckOptions { content: true };
//! let report = check::run(remote, path, &cryptor, options, &check::CheckProgress::default()).await?;
//! assert!(report.severity() <= check::Severity::Info, "{:#?}", report.findings);
//! # Ok(())
//! # }
//! ```
//!
//! The content directories of a vault lie flat in `d` (`docs/vault-format.md` section 4), so they are all read at once,
//! whatever the tree that they form (`directory`, `node` for one entry in it and what lies inside that, and `strays`
//! for what lies beside content directories). Most say by their `dirid.c9r` which directory they are, which gives their
//! names; those that don't are read again when all `dir.c9r` are known. From these the tree is put together at the end
//! (`tree`), and only then does every finding get its cleartext path. So memory goes with the number of directories,
//! not of files.

mod base;
mod budget;
mod content;
mod directory;
mod facts;
mod finding;
mod link;
mod node;
mod strays;
mod tree;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use futures::stream::{self, StreamExt, TryStreamExt};
use scaup_crypto::{Cryptor, DirectoryId};

use crate::remote::{Remote, RemoteEntry, RemotePath};
use crate::vault::data_entries::{DataEntry, DataLevel};
use crate::vault::temporary::is_temporary;
use crate::vault::{Markers, content_path, is_backup, is_copy_of, part};
use base::{Check, DIRECTORIES_MAX, LastChange, PARALLEL};
use budget::ContentBudget;
use facts::ContentDirectory;
use finding::{Findings, Spot, Version};
use tree::DirectoryTree;

pub use base::{CheckError, CheckOptions, CheckProgress};
pub use finding::{Conflict, Finding, FindingKind, Report, Severity, Summary};

/// Checks the vault in the directory `vault`, whose keys are `cryptor`. Nothing is written.
///
/// # Errors
///
/// Only if the check can't go on; whatever is wrong with the vault is in the report.
pub async fn run(
    remote: &dyn Remote,
    vault: &RemotePath,
    cryptor: &Arc<Cryptor>,
    options: CheckOptions,
    progress: &CheckProgress,
) -> Result<Report, CheckError> {
    Ok(examine(remote, vault, cryptor, options, progress).await?.report)
}

/// What a check learns of a vault, for who mends it.
#[derive(Debug)]
pub struct Examination {
    /// What is wrong.
    pub report: Report,
    /// The ids of the content directories, by their paths relative to the vault, where they are known.
    pub(crate) ids: HashMap<RemotePath, DirectoryId>,
    /// When something in the vault was last changed, as its server says. What lies more than a minute in the future is
    /// left out.
    pub changed: SystemTime,
}

/// Does the same, and returns more of what was learnt.
///
/// # Errors
///
/// As [`run`].
pub async fn examine(
    remote: &dyn Remote,
    vault: &RemotePath,
    cryptor: &Arc<Cryptor>,
    options: CheckOptions,
    progress: &CheckProgress,
) -> Result<Examination, CheckError> {
    let check = Check {
        remote,
        vault,
        cryptor,
        options,
        progress,
        findings: Findings::default(),
        budget: ContentBudget::default(),
        children: AtomicUsize::new(0),
        is_partial: AtomicBool::new(false),
        changed: LastChange::default(),
    };
    let (beside, paths) = futures::join!(check.look_beside(), check.content_directories());
    beside?;
    let paths = paths?;
    progress.directories_found.store(paths.len() as u64, Ordering::Relaxed);
    let directories = check.read_all(paths).await?;
    let root = content_path(&RemotePath::root(), cryptor, &DirectoryId::root());
    let tree = DirectoryTree::build(
        &directories,
        &root,
        cryptor,
        (&check.findings, check.is_partial.load(Ordering::Relaxed)),
    );
    check.judge_links(&directories, &tree);
    check.findings.count(|summary| {
        summary.directories = directories.len() as u64;
        summary.content = options.content;
    });
    let combo = cryptor.config().cipher_combo;
    let changed = check.changed.time();
    let report = check
        .findings
        .report(|directory, node| tree.cleartext(directory, node), |len| combo.cleartext_len(len).ok());
    let ids = directories.into_iter().filter_map(|directory| Some((directory.path, directory.id?))).collect();
    Ok(Examination { report, ids, changed })
}

impl Check<'_> {
    /// What lies beside the vault's `d`: copies of its two files, and leftovers.
    async fn look_beside(&self) -> Result<(), CheckError> {
        let root = RemotePath::root();
        let entries = self.remote.list(&self.on_server(&root)).await;
        let entries = entries.map_err(|source| CheckError::Remote { path: root.clone(), source })?;
        for RemoteEntry { name, attributes } in entries {
            let bytes = name.as_bytes();
            let kind = if is_temporary(bytes) {
                FindingKind::Leftover
            } else if !is_copy_of(bytes, Markers::CONFIG) && !is_copy_of(bytes, Markers::MASTERKEY) {
                continue;
            } else if is_backup(bytes) {
                FindingKind::Backup
            } else {
                FindingKind::ConflictCopyOfConfig
            };
            let spot = Spot::outside(root.join(&name));
            match kind {
                FindingKind::ConflictCopyOfConfig => {
                    self.findings.add_version(kind, spot, "", Version::of(&attributes));
                }
                kind => self.findings.add(kind, spot, ""),
            }
        }
        Ok(())
    }

    /// All content directories `d/AA/BBB…`, in order, relative to the vault.
    async fn content_directories(&self) -> Result<Vec<RemotePath>, CheckError> {
        let data = RemotePath::root().join(&part(Markers::DATA));
        let entries = self.remote.list(&self.on_server(&data)).await;
        let entries = entries.map_err(|source| CheckError::Remote { path: data.clone(), source })?;
        let fan_outs = self.take_directories(&data, entries, DataLevel::FanOut).await?;
        let mut lists = stream::iter(fan_outs.iter())
            .map(async |path| {
                Ok::<_, CheckError>((path, self.list(path, || Spot::outside(path.clone())).await?))
            })
            .buffer_unordered(PARALLEL);
        let mut found = Vec::new();
        while let Some(list) = lists.next().await {
            let (path, entries) = list?;
            found.extend(self.take_directories(path, entries, DataLevel::Content).await?);
            if found.len() > DIRECTORIES_MAX {
                return Err(CheckError::TooManyDirectories);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The directories of that level among the `entries` of `parent`. All else is recorded.
    async fn take_directories(
        &self,
        parent: &RemotePath,
        entries: Vec<RemoteEntry>,
        level: DataLevel,
    ) -> Result<Vec<RemotePath>, CheckError> {
        let mut directories = Vec::new();
        for entry in entries {
            let path = parent.join(&entry.name);
            match DataEntry::of(level, &entry) {
                DataEntry::Directory => directories.push(path),
                DataEntry::Renamed => self.note_renamed(path, &entry, level).await?,
                DataEntry::Stray(stray) => self.note_stray(stray, &entry, Spot::outside(path)),
            }
        }
        Ok(directories)
    }

    /// Reads all content directories; the answer is in the order of `paths`.
    async fn read_all(&self, paths: Vec<RemotePath>) -> Result<Vec<ContentDirectory>, CheckError> {
        let mut directories: Vec<ContentDirectory> = paths.into_iter().map(ContentDirectory::new).collect();
        let reads =
            directories.iter().enumerate().map(|(index, directory)| self.read_known(index, &directory.path));
        let known = self.all_at_once(reads).await?;
        take(&mut directories, known);
        // The others may be known to the directories around them.
        let ids: HashMap<RemotePath, DirectoryId> = directories
            .iter()
            .flat_map(|directory| &directory.children)
            .map(|child| (content_path(&RemotePath::root(), self.cryptor, &child.id), child.id.clone()))
            .collect();
        let unknown = directories.iter().enumerate().filter(|(_, directory)| directory.id.is_none());
        let reads = unknown.map(|(index, directory)| {
            self.read_directory(index, &directory.path, ids.get(&directory.path).cloned())
        });
        let read = self.all_at_once(reads).await?;
        take(&mut directories, read);
        Ok(directories)
    }

    async fn all_at_once<T>(
        &self,
        reads: impl Iterator<Item = impl Future<Output = Result<T, CheckError>>>,
    ) -> Result<Vec<T>, CheckError> {
        stream::iter(reads).buffer_unordered(PARALLEL).try_collect().await
    }
}

/// Puts what was read in its place.
fn take(directories: &mut [ContentDirectory], read: Vec<(usize, ContentDirectory)>) {
    for (index, read) in read {
        if let Some(directory) = directories.get_mut(index) {
            *directory = read;
        }
    }
}

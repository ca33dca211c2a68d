//! Tells front ends which path of the server is behind a path of the mount, and the other way.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::life::Standing;
use super::protocol::{Failure, FailureKind, WhichEntry, WhichOf};
use super::remote::ResolvedTarget;
use crate::drive::{DriveError, StoredAs, Whereabouts};
use crate::remote::RemotePath;

impl Standing {
    /// Returns where each of the paths is, in their order.
    pub(super) async fn which(
        &self,
        target: &ResolvedTarget,
        of: WhichOf,
        paths: &[String],
    ) -> Result<Vec<WhichEntry>, Failure> {
        let stored_as = match of {
            WhichOf::Node => StoredAs::Node,
            WhichOf::Content => StoredAs::Content,
            WhichOf::Shown => {
                let paths: Vec<Option<RemotePath>> =
                    paths.iter().map(|path| below_target(target.directory(), Path::new(path))).collect();
                let known: Vec<RemotePath> = paths.iter().flatten().cloned().collect();
                let mut found = self.drive.shown_at(&known).await.map_err(failed)?.into_iter();
                let found = paths.iter().map(|path| path.as_ref().and_then(|_| found.next()));
                return Ok(found
                    .map(|found| found.map_or(NOWHERE, |found| entry(Path::new(""), found)))
                    .collect());
            }
        };
        let mut entries = Vec::new();
        for path in paths {
            entries.push(match RemotePath::parse(path.as_bytes()) {
                Some(path) => {
                    let found = self.drive.stored_at(&path, stored_as).await.map_err(failed)?;
                    entry(target.directory(), found)
                }
                None => NOWHERE,
            });
        }
        Ok(entries)
    }
}

const NOWHERE: WhichEntry = WhichEntry::Nowhere { is_partial: false };

/// Returns a path of the server as one below the mounted directory. What lies elsewhere keeps its whole path: it may
/// be of a backup of a vault.
fn below_target(target: &Path, path: &Path) -> Option<RemotePath> {
    let below = path.strip_prefix(target).unwrap_or(path);
    RemotePath::parse(below.as_os_str().as_bytes())
}

/// Says where something is, `around` being the directory that paths are relative to.
fn entry(around: &Path, whereabouts: Whereabouts) -> WhichEntry {
    let text = |path: &RemotePath| String::from_utf8(path.as_bytes().to_vec()).ok();
    let (path, is_locked) = match &whereabouts {
        Whereabouts::At(path) => (text(path), false),
        Whereabouts::Locked(vault) => (text(vault), true),
        Whereabouts::Nowhere { is_partial } => return WhichEntry::Nowhere { is_partial: *is_partial },
    };
    match path {
        None => NOWHERE,
        Some(vault) if is_locked => WhichEntry::Locked(if vault.is_empty() { ".".to_owned() } else { vault }),
        Some(path) if path.is_empty() => WhichEntry::At(around.to_string_lossy().into_owned()),
        Some(path) => WhichEntry::At(around.join(path).to_string_lossy().into_owned()),
    }
}

fn failed(error: DriveError) -> Failure {
    let kind = match &error {
        DriveError::Remote(error) if error.is_unanswered() => FailureKind::Unreachable,
        DriveError::Locked => FailureKind::Vault,
        _ => FailureKind::Other,
    };
    Failure::new(kind, error)
}

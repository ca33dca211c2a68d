//! Removing directories on the server with what lies in them, as far as Scaup may.

use super::entry_kinds::{InsideEntry, Stray};
use super::temporary;
use crate::remote::{Remote, RemoteError, RemoteKind, RemoteName, RemotePath};

/// Removes a directory with the files of these names in it. All requests are sent at once, in this order. If they were
/// done in another order (after a reconnection all are sent again), the directory was not empty, or is by now, and
/// rmdir is tried again.
pub(super) async fn remove_with(
    remote: &dyn Remote,
    directory: &RemotePath,
    names: &[RemoteName],
) -> Result<(), RemoteError> {
    let paths: Vec<_> = names.iter().map(|name| directory.join(name)).collect();
    let files = futures::future::join_all(paths.iter().map(|path| remote.remove(path)));
    match futures::join!(files, remote.rmdir(directory)).1 {
        Err(RemoteError::NotEmpty | RemoteError::Failure(_)) => remote.rmdir(directory).await,
        done => done,
    }
}

/// Most names in a directory of ours: one with more is not ours, whatever a server says.
const DISCARDED_MAX: usize = 1000;

/// Removes a directory of ours with what Scaup writes in it, as far as possible: the rest is debris under a temporary
/// name. What Scaup has not written is never removed: a directory that an older Scaup hid may hold a sync client's
/// copy.
pub(crate) async fn discard_directory(remote: &dyn Remote, path: &RemotePath) {
    let entries = match remote.list_packed(path, DISCARDED_MAX, remote.names_budget()).await {
        Ok(entries) => entries.into_entries(),
        Err(error) => return temporary::abandon(path, error),
    };
    let is_ours = |name: &[u8]| match InsideEntry::of(name) {
        InsideEntry::Part(_) | InsideEntry::LongName => true,
        InsideEntry::Copy(..) => false,
        InsideEntry::Stray(stray) => stray == Stray::Temporary || !stray.is_kept(name),
    };
    let (directories, files): (Vec<_>, Vec<_>) = entries
        .filter(|entry| is_ours(entry.name.as_bytes()))
        .partition(|entry| entry.attributes.kind == RemoteKind::Directory);
    let directories: Vec<_> = directories.iter().map(|entry| path.join(&entry.name)).collect();
    futures::future::join_all(directories.iter().map(|path| remote.rmdir(path))).await;
    let files: Vec<_> = files.into_iter().map(|entry| entry.name).collect();
    if let Err(error) = remove_with(remote, path, &files).await {
        temporary::abandon(path, error);
    }
}

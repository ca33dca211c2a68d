//! Finds out why an operation failed: OpenSSH has one code (`SSH_FX_FAILURE`) for many reasons, so further requests are
//! sent. They outlive a connection as operations do: a cut meanwhile is not a reason, and a
//! refused operation is not repeated.

use scaup_sftp::client::{OpenMode, SftpError, Statistics, StatusCode};

use super::conversions::{kind, plain};
use super::link::Link;
use super::retry::retry;
use crate::{RemoteError, RemoteKind};

/// Returns the kind of the node that a path names now.
pub(super) async fn exists(link: &Link, path: &[u8]) -> Option<RemoteKind> {
    let look = retry(link, "exists", |connection, _| {
        Box::pin(async move { connection.names.lstat(path).await.map_err(plain) })
    });
    look.await.ok().map(|attributes| kind(&attributes))
}

/// Returns why creating `path` failed.
pub(super) async fn why_not_made(link: &Link, path: &[u8], error: SftpError) -> RemoteError {
    match error.code() {
        Some(StatusCode::Failure) if exists(link, path).await.is_some() => RemoteError::Exists,
        Some(StatusCode::Failure) => why_not_written(link, parent(path), error).await,
        Some(StatusCode::NoSuchFile) => why_not_found(link, path).await,
        _ => plain(error),
    }
}

/// Returns the path of the directory around a path.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        None | Some(0) => b"/",
        Some(at) => path.get(..at).unwrap_or(b"/"),
    }
}

/// Distinguishes a missing name from one behind a node that is not a directory.
async fn why_not_found(link: &Link, path: &[u8]) -> RemoteError {
    match exists(link, parent(path)).await {
        Some(RemoteKind::Directory) | None => RemoteError::NotFound,
        Some(_) => RemoteError::NotADirectory,
    }
}

/// Distinguishes a full and a read-only file system of `path` from other failures: SFTP has no code for either.
pub(super) async fn why_not_written(link: &Link, path: &[u8], error: SftpError) -> RemoteError {
    /// Free space, bytes, below which a server may have been unable to write one more message.
    const NOTHING_LEFT: u64 = 256 * 1024;
    if error.code() != Some(StatusCode::Failure) {
        return plain(error);
    }
    let look = retry(link, "why_not_written", |connection, _| {
        Box::pin(async move { connection.names.statistics(path).await.map_err(plain) })
    });
    match look.await {
        Ok(Statistics { read_only: true, .. }) => RemoteError::ReadOnly,
        Ok(room) if room.blocks_available.saturating_mul(room.block_size) < NOTHING_LEFT => {
            RemoteError::NoSpace
        }
        // Some file systems create inodes as needed, and count none.
        Ok(Statistics { files: 1.., files_free: 0, .. }) => RemoteError::NoSpace,
        _ => plain(error),
    }
}

/// Returns why an expected file can't be opened.
pub(super) async fn why_not_opened(
    link: &Link,
    path: &[u8],
    flags: OpenMode,
    error: SftpError,
) -> RemoteError {
    if error.code() != Some(StatusCode::Failure) {
        return plain(error);
    }
    match exists(link, path).await {
        Some(RemoteKind::Directory) => RemoteError::IsADirectory,
        _ if flags == OpenMode::ReadWrite => why_not_written(link, path, error).await,
        _ => plain(error),
    }
}

/// Returns why `path` can't be listed.
pub(super) async fn why_not_listed(link: &Link, path: &[u8], error: SftpError) -> RemoteError {
    if error.code() != Some(StatusCode::Failure) {
        return plain(error);
    }
    match exists(link, path).await {
        Some(RemoteKind::Directory) | None => plain(error),
        Some(_) => RemoteError::NotADirectory,
    }
}

/// Returns why `path` can't be removed, as a directory or as anything else.
pub(super) async fn why_not_removed(
    link: &Link,
    path: &[u8],
    error: SftpError,
    wanted_directory: bool,
) -> RemoteError {
    let fails = error.code() == Some(StatusCode::Failure);
    if !fails && error.code() != Some(StatusCode::PermissionDenied) {
        return plain(error);
    }
    match (wanted_directory, exists(link, path).await) {
        (false, Some(RemoteKind::Directory)) => RemoteError::IsADirectory,
        (true, Some(RemoteKind::Directory)) if fails => {
            let look = retry(link, "why_not_removed", |connection, _| {
                Box::pin(async move { connection.names.list(path).await.map_err(plain) })
            });
            match look.await {
                Ok(names) if names.iter().any(|entry| !is_dot(&entry.name)) => RemoteError::NotEmpty,
                _ => plain(error),
            }
        }
        (true, Some(_)) if fails => RemoteError::NotADirectory,
        _ => plain(error),
    }
}

/// Returns whether two paths lie in directories of different file systems. It returns `true` only where that is
/// certain: a file system that is mounted twice on the server is the same.
async fn are_apart(link: &Link, one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (parent(one), parent(other));
    if one == other {
        return false;
    }
    let look = |path| {
        retry(link, "are_apart", move |connection, _| {
            Box::pin(async move { connection.names.statistics(path).await.map_err(plain) })
        })
    };
    // Some systems number only some of their file systems, or none: then their sizes distinguish them.
    let told = |s: Statistics| (s.file_system, s.block_size, s.blocks, s.files);
    match futures::join!(look(one), look(other)) {
        (Ok(one), Ok(other)) => told(one) != told(other),
        _ => false,
    }
}

/// Returns why `new` can't be created as a hard link to `existing`.
pub(super) async fn why_not_linked(
    link: &Link,
    existing: &[u8],
    new: &[u8],
    error: SftpError,
) -> RemoteError {
    if error.code() == Some(StatusCode::Failure)
        && exists(link, new).await.is_none()
        && are_apart(link, existing, new).await
    {
        return RemoteError::OtherFileSystem;
    }
    why_not_made(link, new, error).await
}

/// Returns why `from` can't be renamed to `to`.
pub(super) async fn why_not_renamed(link: &Link, from: &[u8], to: &[u8], error: SftpError) -> RemoteError {
    if error.code() == Some(StatusCode::NoSuchFile) && exists(link, from).await.is_some() {
        return why_not_found(link, to).await;
    }
    if error.code() != Some(StatusCode::Failure) {
        return plain(error);
    }
    let looked = futures::join!(exists(link, from), exists(link, to), are_apart(link, from, to));
    let (source, target, are_apart) = looked;
    if source.is_some() && are_apart {
        return RemoteError::OtherFileSystem;
    }
    match (source, target) {
        (Some(RemoteKind::Directory), Some(RemoteKind::Directory)) => RemoteError::NotEmpty,
        (Some(RemoteKind::Directory), Some(_)) => RemoteError::NotADirectory,
        (Some(_), Some(RemoteKind::Directory)) => RemoteError::IsADirectory,
        _ => why_not_written(link, parent(to), error).await,
    }
}

fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

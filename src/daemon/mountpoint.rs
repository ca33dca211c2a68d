//! The directory on which a mount is made: a daemon that makes it removes it at the end.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::protocol::{Failure, FailureKind};

/// Makes the directory unless it exists; returns whether it was made.
pub(super) fn make(path: &Path) -> Result<bool, Failure> {
    let failed = |error: io::Error| {
        Failure::new(FailureKind::Fuse, format!("mount point {}: {error}", path.display()))
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            Ok(true)
        }
        // A stale mount fails here; mounting clears it.
        _ => Ok(false),
    }
}

/// Removes the directory if this daemon made it. A directory that is not empty stays.
pub(super) fn remove(path: &Path, made: bool) {
    if made && let Err(error) = std::fs::remove_dir(path) {
        tracing::info!(%error, "left the mount point");
    }
}

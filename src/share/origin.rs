//! Where a file comes from: out of a vault, or from a place that is not encrypted.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use scaup_fuse::{FuseMount, fuse_mounts};
use scaup_sftp::text::Line;

use super::error::ShareError;
use crate::config::mount_options::TYPES;
use crate::daemon::client::{self, Conversation};
use crate::daemon::protocol::{MountStatus, VaultEntryState};

/// The most links that are followed, as by the system (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// The kernel's list of mounts.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An unlocked vault.
    Vault {
        /// The vault's name.
        vault: Line,
        /// The mount's name.
        mount: String,
    },
    /// Anywhere else.
    Plain,
}

/// Returns where a file comes from, by the mounts that there are. The path need not exist: in a locked vault, it does
/// not.
///
/// # Errors
///
/// [`ShareError::Locked`], and [`ShareError::UnknownMount`] if the mount may be Scaup's and no daemon says what is in
/// it.
pub(super) fn origin_of(path: &Path) -> Result<Origin, ShareError> {
    let path = resolved(path);
    let mounts = std::fs::read_to_string(MOUNTS)
        .map_err(|source| ShareError::File { path: PathBuf::from(MOUNTS), source })?;
    let Some(device) = path.ancestors().find_map(device_of) else { return Ok(Origin::Plain) };
    // A bind mount shows the same file system at another place.
    let same: Vec<FuseMount> =
        fuse_mounts(&mounts).into_iter().filter(|mount| mount.device == device).collect();
    let around = same.iter().filter(|mount| path.starts_with(&mount.place));
    let around = around.max_by_key(|mount| mount.place.components().count());
    let Some(fuse) = around.or(same.first()) else { return Ok(Origin::Plain) };
    let inside = path.strip_prefix(&fuse.place).ok().map(|below| fuse.root.join(below));
    let daemon = daemons().into_iter().find(|daemon| device_of(&daemon.mountpoint) == Some(device));
    match (inside, daemon) {
        (Some(inside), Some(daemon)) => origin_in(&inside, &daemon),
        // The daemon may be another user's, of another session, or dead.
        _ if TYPES.contains(&fuse.kind.as_str()) => {
            Err(ShareError::UnknownMount { place: fuse.place.clone(), kind: fuse.kind.clone() })
        }
        _ => Ok(Origin::Plain),
    }
}

/// Returns where a file of a mount comes from. Its path begins at the root of the mount's file system.
fn origin_in(inside: &Path, mount: &MountStatus) -> Result<Origin, ShareError> {
    // A vault may lie in another one: the innermost counts.
    let mut innermost: Option<(usize, Origin)> = None;
    for vault in &mount.vaults {
        let directory = match vault.path.as_str() {
            "." => PathBuf::from("/"),
            below => Path::new("/").join(below),
        };
        let depth = directory.components().count();
        if !inside.starts_with(&directory) || innermost.as_ref().is_some_and(|(known, _)| *known > depth) {
            continue;
        }
        let name = match vault.path.rsplit('/').next() {
            Some(".") | None => mount.name.clone(),
            Some(name) => name.to_owned(),
        };
        let origin = match vault.state {
            VaultEntryState::Unlocked => Origin::Vault { vault: Line::of(&name), mount: mount.name.clone() },
            VaultEntryState::Locked => {
                return Err(ShareError::Locked { vault: Line::of(&vault.path), mount: mount.name.clone() });
            }
            VaultEntryState::Unsupported => Origin::Plain,
        };
        innermost = Some((depth, origin));
    }
    Ok(innermost.map_or(Origin::Plain, |(_, origin)| origin))
}

/// Returns the number of the device on which a path lies, if that exists. What serves the file system is not asked: it
/// may be dead.
fn device_of(path: &Path) -> Option<(u32, u32)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let seen = statx(CWD, path, flags, StatxFlags::empty()).ok()?;
    Some((seen.stx_dev_major, seen.stx_dev_minor))
}

/// Follows the links in a path, as far as it exists: a link into a locked vault leads to nothing.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let mut whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..LINKS_MAX {
        let real = whole.ancestors().find_map(|above| {
            let real = above.canonicalize().ok()?;
            Some(whole.strip_prefix(above).map_or(real.clone(), |below| real.join(below)))
        });
        let Some(real) = real else { return whole };
        match real.read_link() {
            Ok(target) => whole = real.parent().map_or(target.clone(), |around| around.join(target)),
            Err(_) => return real,
        }
    }
    whole
}

/// Returns the mounts whose daemons reply.
fn daemons() -> Vec<MountStatus> {
    let names = client::names().unwrap_or_default();
    names.iter().filter_map(|name| Conversation::with(name).ok()?.status().ok()?).collect()
}

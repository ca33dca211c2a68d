//! Where a file comes from: out of a vault, or from a place that is not encrypted.

use std::path::{Path, PathBuf};

use scaup_sftp::text::Line;

use super::error::ShareError;
use crate::daemon::client::{self, Conversation};
use crate::daemon::protocol::{MountStatus, VaultEntryState};

/// The most links that are followed, as by the system (path_resolution(7)).
const LINKS_MAX: usize = 40;

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
/// [`ShareError::Locked`].
pub(super) fn origin_of(path: &Path) -> Result<Origin, ShareError> {
    let path = resolved(path);
    // A vault may lie in another one, and a mount in another one: the innermost counts.
    let mut innermost: Option<(usize, Origin)> = None;
    for mount in mounts() {
        for vault in &mount.vaults {
            let directory = match vault.path.as_str() {
                "." => mount.mountpoint.clone(),
                below => mount.mountpoint.join(below),
            };
            let depth = directory.components().count();
            if !path.starts_with(&directory) || innermost.as_ref().is_some_and(|(known, _)| *known > depth) {
                continue;
            }
            let name = match vault.path.rsplit('/').next() {
                Some(".") | None => mount.name.clone(),
                Some(name) => name.to_owned(),
            };
            let origin = match vault.state {
                VaultEntryState::Unlocked => {
                    Origin::Vault { vault: Line::of(&name), mount: mount.name.clone() }
                }
                VaultEntryState::Locked => {
                    return Err(ShareError::Locked {
                        vault: Line::of(&vault.path),
                        mount: mount.name.clone(),
                    });
                }
                VaultEntryState::Unsupported => Origin::Plain,
            };
            innermost = Some((depth, origin));
        }
    }
    Ok(innermost.map_or(Origin::Plain, |(_, origin)| origin))
}

/// Follows the links in a path, as far as it exists: a link into a locked vault leads to nothing.
fn resolved(path: &Path) -> PathBuf {
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
fn mounts() -> Vec<MountStatus> {
    let names = client::names().unwrap_or_default();
    names.iter().filter_map(|name| Conversation::with(name).ok()?.status().ok()?).collect()
}

//! This machine: what mounting needs, what is left of former mounts, and where secrets could end up.

mod bus;
mod clock;
mod desktop;
mod directories;
mod fuse;
mod memory;
mod mounts;
mod units;

use std::io::{self, Read as _};
use std::path::Path;

use super::{Check, Group};
use crate::config::bookmark::Bookmark;

const GROUP: Group = Group::Machine;

/// The longest file of the system that is read, bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Examines this machine. The bookmarks, by their names, say what it is wanted for.
pub async fn checks(bookmarks: &[(String, Bookmark)]) -> Vec<Check> {
    let mut checks = fuse::checks(bookmarks);
    checks.extend(mounts::checks(bookmarks));
    checks.extend(directories::checks());
    checks.extend(memory::checks());
    checks.extend(clock::checks().await);
    checks.extend(desktop::checks().await);
    checks.extend(units::checks(bookmarks));
    checks
}

/// Reads the beginning of a file of the system.
fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(FILE_MAX).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

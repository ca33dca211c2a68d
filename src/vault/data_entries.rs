//! What lies in a vault's `d`, by names: directories of two characters, and in them the content directories. A sync
//! client gives the content of a directory that was removed on one machine and changed on another a name of its own.

use super::entry_kinds::Stray;
use crate::remote::{RemoteEntry, RemoteKind};

/// How deep in `d` an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLevel {
    /// In `d` itself.
    FanOut,
    /// In a directory of `d`, where content directories lie.
    Content,
}

/// What an entry of `d`, or of a directory in it, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataEntry {
    /// A directory of its level.
    Directory,
    /// One whose name a sync client has changed: no directory of the vault leads to it any more.
    Renamed,
    Stray(Stray),
}

impl DataEntry {
    pub(crate) fn of(level: DataLevel, entry: &RemoteEntry) -> Self {
        // Characters of the hash that the name is a part of.
        let len = match level {
            DataLevel::FanOut => 2,
            DataLevel::Content => 30,
        };
        let name = entry.name.as_bytes();
        let stray = Stray::of(name);
        if entry.attributes.kind != RemoteKind::Directory || !name.get(..len).is_some_and(is_hash) {
            Self::Stray(stray)
        } else if name.len() == len {
            Self::Directory
        } else if stray == Stray::Unknown {
            Self::Renamed
        } else {
            Self::Stray(stray)
        }
    }
}

/// Whether these are characters of a base32 hash.
fn is_hash(name: &[u8]) -> bool {
    name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

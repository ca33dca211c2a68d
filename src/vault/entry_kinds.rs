//! What lies in a vault's directories, by names alone: every name has a kind, and whatever reads, shows, removes or
//! checks goes by it.
//!
//! In a content directory `d/AA/BBB…`:
//!
//! | kind | shown | keeps its directory from being removed | what `check` says |
//! |---|---|---|---|
//! | `X.c9r`, `H.c9s` | under its name | yes, unless it is an empty node | what is wrong with it |
//! | a sync client's copy of one | beside it, with the client's addition | the same | conflict copy |
//! | looks like one, does not decrypt | no | yes | undecryptable name |
//!
//! In the directory of a node, where several parts may lie (`NodePart`):
//!
//! | kind | shown | keeps its node | what `check` says |
//! |---|---|---|---|
//! | `dir.c9r`, `symlink.c9r`, `contents.c9r` | as the node; the second one beside the first | yes | ambiguous if there are two |
//! | a sync client's copy of one | beside it, with the client's addition | yes | conflict copy |
//! | `name.c9s` and copies of it | they tell the name | no | what is wrong with it |
//!
//! In both ([`Stray`]):
//!
//! | kind | shown | keeps its directory | what `check` says |
//! |---|---|---|---|
//! | `dirid.c9r` and copies of it, in-use marks | no | no | nothing; in-use mark |
//! | Scaup's temporary names | no | yes, unless they are debris | leftover |
//! | unfinished files of sync clients | no | yes: they may become content | unfinished |
//! | what desktops strew about | no | no | stray |
//! | anything else | no | yes: it may be somebody's | unknown entry |
//!
//! A node's directory with no part and nothing that keeps it is an *empty node*: sync clients leave it where they
//! removed a node, and make it before they bring one. It is taken as not there.

use scaup_crypto::{
    CleartextName, Cryptor, DirectoryId, Listed, addition_of, find_ending, is_litter, unfinished,
};

use super::node::NodePart;
use super::temporary;

/// An entry that is no node and no part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stray {
    /// `dirid.c9r`, or a copy of it: the directory's id, kept for repairs.
    IdBackup,
    /// Cryptomator's mark of an open file.
    InUse,
    /// An unfinished file of a Scaup.
    Temporary,
    /// A file that this sync client has not finished.
    Unfinished(&'static str),
    /// What desktops and sync clients strew about.
    Litter,
    /// Nobody knows what it is.
    Unknown,
}

impl Stray {
    /// Says what an entry is that is no node.
    pub(crate) fn of(name: &[u8]) -> Self {
        if temporary::is_temporary(name) {
            return Self::Temporary;
        }
        let Ok(text) = std::str::from_utf8(name) else { return Self::Unknown };
        if let Some(client) = unfinished(text) {
            return Self::Unfinished(client);
        }
        if is_litter(text) {
            return Self::Litter;
        }
        if text.starts_with("dirid") && find_ending(text, ".c9r").is_some() {
            Self::IdBackup
        } else if text.ends_with(".c9u") {
            Self::InUse
        } else {
            Self::Unknown
        }
    }

    /// Whether the directory that it lies in has to stay because of it: it may be what somebody still wants.
    pub(crate) fn is_kept(self, name: &[u8]) -> bool {
        match self {
            // What a dead process hid of a directory leads to its content.
            Self::Temporary => !temporary::is_debris(name) || temporary::directory_of(name).is_some(),
            Self::Unfinished(_) | Self::Unknown => true,
            Self::IdBackup | Self::InUse | Self::Litter => false,
        }
    }
}

/// What an entry of a content directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentEntry {
    /// A node whose name its entry tells.
    Named {
        /// Its name.
        name: CleartextName,
        /// For a sync client's copy: what the client added.
        addition: Option<String>,
    },
    /// A shortened node, or a sync client's copy of one: what lies in it tells its name.
    Shortened,
    /// It looks like a node, and does not decrypt in this directory, or to a name that can't be shown.
    Undecryptable,
    /// No node.
    Stray(Stray),
}

impl ContentEntry {
    /// Says what an entry is that lies in the content of the directory `parent`.
    pub(crate) fn of(cryptor: &Cryptor, name: &[u8], parent: &DirectoryId) -> Self {
        let stray = Stray::of(name);
        // A client's unfinished file has the encrypted name in its own, too.
        if matches!(stray, Stray::Temporary | Stray::Unfinished(_)) {
            return Self::Stray(stray);
        }
        match cryptor.identify(name, parent) {
            Listed::NotAnEntry => Self::Stray(stray),
            Listed::Name(name) => Self::Named { name, addition: None },
            Listed::Conflict { original, addition } => {
                Self::Named { name: original, addition: Some(addition) }
            }
            Listed::Shortened => Self::Shortened,
            Listed::Undecryptable => Self::Undecryptable,
        }
    }
}

/// What an entry in the directory of a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InsideEntry {
    /// A part of the node.
    Part(NodePart),
    /// A sync client's copy of a part, and what the client added to the name.
    Copy(NodePart, String),
    /// `name.c9s`, or a copy of it.
    LongName,
    /// None of these.
    Stray(Stray),
}

impl InsideEntry {
    /// Says what an entry in the directory of a node is.
    pub(crate) fn of(name: &[u8]) -> Self {
        let stray = Stray::of(name);
        let (Stray::Unknown, Ok(text)) = (stray, std::str::from_utf8(name)) else {
            return Self::Stray(stray);
        };
        if let Some(part) = NodePart::ALL.into_iter().find(|part| part.file_name() == text) {
            return Self::Part(part);
        }
        for part in NodePart::ALL {
            let stem = part.file_name().trim_end_matches(".c9r");
            if let Some((before, behind)) = around(text, stem)
                && find_ending(behind, ".c9r").is_some()
            {
                return Self::Copy(part, addition_of(before, behind, ".c9r"));
            }
        }
        match around(text, "name") {
            Some((_, behind)) if find_ending(behind, ".c9s").is_some() => Self::LongName,
            _ => Self::Stray(Stray::Unknown),
        }
    }

    /// Whether a node with this in it has to stay.
    pub(crate) fn is_kept(&self, name: &[u8]) -> bool {
        match self {
            Self::Part(_) | Self::Copy(..) => true,
            Self::LongName => false,
            Self::Stray(stray) => stray.is_kept(name),
        }
    }
}

/// What stands before and behind `stem`, which has to be a word of its own there, in upper or lower case.
fn around<'a>(text: &'a str, stem: &str) -> Option<(&'a str, &'a str)> {
    let bytes = text.as_bytes();
    let at = bytes.windows(stem.len()).position(|window| window.eq_ignore_ascii_case(stem.as_bytes()))?;
    let (before, behind) = (text.get(..at)?, text.get(at + stem.len()..)?);
    let is_word = !before.ends_with(char::is_alphanumeric) && !behind.starts_with(char::is_alphanumeric);
    is_word.then_some((before, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_node_are_recognised_however_sync_clients_name_their_copies() {
        let copy = |part, addition: &str| InsideEntry::Copy(part, addition.to_owned());
        for (name, kind) in [
            ("dir.c9r", InsideEntry::Part(NodePart::Directory)),
            ("symlink.c9r", InsideEntry::Part(NodePart::Symlink)),
            ("contents.c9r", InsideEntry::Part(NodePart::Contents)),
            ("name.c9s", InsideEntry::LongName),
            ("name (conflicted copy 2026-01-02 123456).c9s", InsideEntry::LongName),
            (
                "dir.sync-conflict-20261128-104018-IPX6NPU.c9r",
                copy(NodePart::Directory, ".sync-conflict-20261128-104018-IPX6NPU"),
            ),
            (
                "contents (conflicted copy 2026-01-02).c9r",
                copy(NodePart::Contents, " (conflicted copy 2026-01-02)"),
            ),
            ("contents.c9r..path1", copy(NodePart::Contents, "..path1")),
            ("contents.c9r.conflict1", copy(NodePart::Contents, ".conflict1")),
            ("symlink-LAPTOP.c9r", copy(NodePart::Symlink, "-LAPTOP")),
            ("Copy of dir.c9r", copy(NodePart::Directory, " (Copy of)")),
            ("DIR.C9R", copy(NodePart::Directory, "")),
            ("dir 2.c9r", copy(NodePart::Directory, " 2")),
            (".DS_Store", InsideEntry::Stray(Stray::Litter)),
            ("dirid.c9r", InsideEntry::Stray(Stray::IdBackup)),
            ("notes.txt", InsideEntry::Stray(Stray::Unknown)),
            ("directory.c9r", InsideEntry::Stray(Stray::Unknown)),
            ("contents", InsideEntry::Stray(Stray::Unknown)),
        ] {
            assert_eq!(InsideEntry::of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn what_may_be_somebodys_keeps_its_directory() {
        for name in ["notes.txt", "contents (1).c9r", "contents.c9r.1a2b3c4d.partial", "dir.c9r", "\u{e4}"] {
            assert!(InsideEntry::of(name.as_bytes()).is_kept(name.as_bytes()), "{name}");
        }
        assert!(InsideEntry::of(b"\xff").is_kept(b"\xff"));
        for name in [".DS_Store", "name.c9s", "Thumbs.db"] {
            assert!(!InsideEntry::of(name.as_bytes()).is_kept(name.as_bytes()), "{name}");
        }
    }
}

//! The parts that make the drive fast and that it also works without: each can be left out, to measure what it is worth or to see
//! whether a fault is in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Content is fetched before it is asked for, while a file is read in sequence.
    ReadAhead,
    /// Directories are listed before they are asked for, while a tree is walked or names are looked up.
    ListAhead,
    /// Files are opened and begun to be read before they are asked for, while a program opens one after the other.
    OpenAhead,
    /// Files stay open on the server for a moment after they were read.
    KeepOpen,
    /// Decrypted chunks are kept. Without it nothing is read ahead either: there is no place for it.
    ChunkCache,
    /// Names, missing names and attributes are believed for a while, here and by the kernel.
    AttributeCache,
    /// The kernel keeps a file's pages from one opening to the next.
    KernelCache,
    /// What programs wait for goes before what is read ahead.
    Priorities,
    /// Written content is sent while the program goes on. Without it each write waits, and small new files are saved by `close`.
    WriteBehind,
    /// Small new files are saved after they were closed, many at a time.
    SaveBehind,
    /// What is removed goes from the server after it was answered, many at a time.
    RemoveBehind,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ReadAhead,
        Self::ListAhead,
        Self::OpenAhead,
        Self::KeepOpen,
        Self::ChunkCache,
        Self::AttributeCache,
        Self::KernelCache,
        Self::Priorities,
        Self::WriteBehind,
        Self::SaveBehind,
        Self::RemoveBehind,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ReadAhead => "read-ahead",
            Self::ListAhead => "list-ahead",
            Self::OpenAhead => "open-ahead",
            Self::KeepOpen => "keep-open",
            Self::ChunkCache => "chunk-cache",
            Self::AttributeCache => "attribute-cache",
            Self::KernelCache => "kernel-cache",
            Self::Priorities => "priorities",
            Self::WriteBehind => "write-behind",
            Self::SaveBehind => "save-behind",
            Self::RemoveBehind => "remove-behind",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No part has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no part {0:?}; there are {known}", known = Part::ALL.map(Part::name).join(", "))]
pub struct UnknownPart(String);

impl FromStr for Part {
    type Err = UnknownPart;

    fn from_str(name: &str) -> Result<Self, UnknownPart> {
        Self::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| UnknownPart(name.to_owned()))
    }
}

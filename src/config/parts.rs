//! The parts that make the drive fast and that it also works without: each can be left out, to measure its effect or to
//! find out whether it causes a fault.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptionalPart {
    /// Content is fetched ahead of requests while a file is read in sequence.
    ReadAhead,
    /// Directories are listed ahead of requests while a tree is walked or names are looked up.
    ListAhead,
    /// Files are opened and first read ahead of requests while a program opens one after the other.
    OpenAhead,
    /// Files stay open on the server for a moment after they were read.
    KeepOpen,
    /// Decrypted chunks are cached. Without it there is no read-ahead either: it has no place for the content.
    ChunkCache,
    /// Names, missing names and attributes are cached for a while, here and by the kernel.
    AttributeCache,
    /// The kernel keeps a file's pages from one opening to the next.
    KernelCache,
    /// Requests that programs wait for go before read-ahead.
    Priorities,
    /// Written content is sent while the program goes on. Without it each write waits, and small new files are saved by
    /// `close`.
    WriteBehind,
    /// Small new files are saved after they were closed, many at a time.
    SaveBehind,
    /// Removals are carried out on the server after the reply to the program, many at a time.
    RemoveBehind,
}

impl OptionalPart {
    /// All parts.
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

impl fmt::Display for OptionalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error that no part has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no part {0:?}; the parts are {known}", known = OptionalPart::ALL.map(OptionalPart::name).join(", "))]
pub struct UnknownPart(String);

impl FromStr for OptionalPart {
    type Err = UnknownPart;

    fn from_str(name: &str) -> Result<Self, UnknownPart> {
        Self::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| UnknownPart(name.to_owned()))
    }
}

//! What the server shows where a vault is expected.

use crate::remote::{RemoteError, RemoteKind};

/// What the server shows where a vault is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Displacement {
    /// Nothing.
    #[error("it is missing on the server")]
    Missing,
    /// A link, which may lead to any place of the server.
    #[error("the server shows a symbolic link in its place")]
    Link,
    /// A file or another node that is not a directory.
    #[error("the server shows something in its place that is not a directory")]
    NoDirectory,
    /// A directory that is not a vault, or lacks the content of this one.
    #[error("the server shows a directory in its place that is not this vault")]
    NotThisVault,
    /// A vault with another id.
    #[error("the server shows another vault in its place")]
    OtherVault,
    /// The server does not let it be looked at.
    #[error("it can't be examined on the server: {0}")]
    Refused(#[source] RemoteError),
}

impl Displacement {
    pub(in crate::drive) fn of(kind: RemoteKind) -> Self {
        if kind == RemoteKind::Symlink { Self::Link } else { Self::NoDirectory }
    }
}

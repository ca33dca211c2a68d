//! Why a vault can't be mended.

use crate::remote::{RemoteError, RemotePath};
use crate::vault::NodeError;

/// Why mending ended, or why one mend was not done.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The server failed or refused.
    #[error("{}: {source}", String::from_utf8_lossy(.path.as_bytes()))]
    Remote {
        /// What was asked for.
        path: RemotePath,
        /// What the server said.
        source: RemoteError,
    },
    /// A node could not be made.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The system gave no randomness.
    #[error("the system gave no random numbers: {0}")]
    Random(String),
    /// All names that were tried are taken.
    #[error("there is no free name for it")]
    NoFreeName,
}

impl MendError {
    /// Creates the error for a failure of the server.
    pub(super) fn of(path: &RemotePath) -> impl Fn(RemoteError) -> Self + '_ {
        |source| Self::Remote { path: path.clone(), source }
    }

    /// Whether the server can't be asked any more: then nothing else is tried.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::Remote { source, .. } => source.is_unanswered(),
            Self::Node(error) => error.is_unanswered(),
            Self::Random(_) | Self::NoFreeName => false,
        }
    }
}

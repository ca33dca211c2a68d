//! Why a vault can't be opened, and why a node in one can't be read or changed.

use super::copies_beside::CopiesBeside;
use crate::remote::{RemoteError, RemotePath};

/// Why a vault can't be opened, inspected or created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The password is wrong; worth asking again.
    #[error("wrong password for vault {path:?}{beside}")]
    WrongPassword {
        /// Its directory.
        path: RemotePath,
        /// Copies of its files, of which the password may fit one.
        beside: CopiesBeside,
    },
    /// The recovery key is whole, and no key of this vault; worth asking again.
    #[error(
        "vault {0:?}: the recovery key is that of another vault (or the file that proves it, vault.cryptomator, was changed)"
    )]
    ForeignKey(RemotePath),
    /// There is no vault at this path.
    #[error(
        "no vault at {0:?}: there is no vault.cryptomator or masterkey.cryptomator beside a directory named d"
    )]
    NotAVault(RemotePath),
    /// The vault can't be opened, with the reason and what to do about it.
    #[error("vault {path:?}: {reason}")]
    Refused {
        /// Its directory.
        path: RemotePath,
        /// Why, and what to do about it.
        reason: String,
        /// Whether one of its two files is missing or damaged, so that a copy of it may help.
        is_damage: bool,
    },
    /// The server failed meanwhile.
    #[error("vault {path:?}: {source}")]
    Remote {
        /// Its directory.
        path: RemotePath,
        /// The server's error.
        source: RemoteError,
    },
}

impl OpenError {
    /// Whether another password or recovery key may open the vault.
    #[must_use]
    pub fn is_wrong_secret(&self) -> bool {
        matches!(self, Self::WrongPassword { .. } | Self::ForeignKey(_))
    }

    pub(crate) fn refused(path: &RemotePath, reason: impl std::fmt::Display) -> Self {
        Self::Refused { path: path.clone(), reason: reason.to_string(), is_damage: false }
    }

    /// Creates the error for a vault of whose two files one is missing or damaged.
    pub(super) fn damaged(path: &RemotePath, reason: impl std::fmt::Display) -> Self {
        Self::Refused { path: path.clone(), reason: reason.to_string(), is_damage: true }
    }

    /// Creates the error for a failure of the server.
    pub(crate) fn of(path: &RemotePath) -> impl Fn(RemoteError) -> Self + '_ {
        |source| Self::Remote { path: path.clone(), source }
    }
}

/// Why a node of a vault can't be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The server refused or failed, or its error for a name holds for the node of that name.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Something else has the name by now.
    #[error("it was replaced in the meantime")]
    Stale,
    /// The server's data does not authenticate or is malformed.
    #[error("damaged: {0}")]
    Damaged(String),
    /// No name of a vault, or of a temporary file.
    #[error("not a valid name")]
    InvalidName,
    /// The vault was locked.
    #[error("the vault is locked")]
    Locked,
    /// The system gave no randomness.
    #[error("the system gave no random numbers: {0}")]
    Random(String),
}

impl NodeError {
    /// Creates the error for data on the server that does not authenticate or is malformed.
    pub(super) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged(what.to_string())
    }

    /// Creates the error for a system that gave no randomness.
    pub(super) fn random(error: impl std::fmt::Display) -> Self {
        Self::Random(error.to_string())
    }

    /// Whether no reply came: the outcome of the request is unknown.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Remote(error) if error.is_unanswered())
    }

    /// Whether the error says that a name is taken.
    pub(crate) fn is_exists(&self) -> bool {
        matches!(self, Self::Remote(RemoteError::Exists))
    }

    /// Whether the error says that a name does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Remote(RemoteError::NotFound))
    }

    /// Returns its kind, without a word of its text: that may quote the server, whose words may hold names.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Remote(error) => error.kind(),
            Self::Stale => "Stale",
            Self::Damaged(_) => "Damaged",
            Self::InvalidName => "InvalidName",
            Self::Locked => "Locked",
            Self::Random(_) => "Random",
        }
    }
}

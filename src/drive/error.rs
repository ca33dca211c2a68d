//! Why a request to the drive failed, and the one table from there to `errno(3)`.

use std::fmt;

use rustix::io::Errno as System;
use scaup_fuse::filesystem::{Errno, RequestError};

use super::places::displacement::Displacement;
use crate::remote::RemoteError;
use crate::vault::NodeError;

/// Why a request to the drive failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// The server refused or failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// No such name.
    #[error("no such file or directory")]
    NotFound,
    /// The kernel named an inode that is not part of the tree any more, or a handle that is not open.
    #[error("stale file handle")]
    Stale,
    /// The name is taken.
    #[error("already exists")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsADirectory,
    /// The directory still holds names.
    #[error("directory not empty")]
    NotEmpty,
    /// The mount, or the locked vault around this place, is read-only.
    #[error("read-only")]
    ReadOnly,
    /// Source and target lie in different vaults, or one outside.
    #[error("source and target are not in the same vault")]
    OtherVault,
    /// A name or link target is too long.
    #[error("name too long")]
    NameTooLong,
    /// A name or argument that the format or the kernel does not allow.
    #[error("invalid argument")]
    Invalid,
    /// A link that leads out of the mount.
    #[error("the link leads out of the mount")]
    LeadsOutOfMount,
    /// A link in a vault that leads out of it.
    #[error("the link leads out of the vault; `scaup mount --follow-outside` follows it")]
    LeadsOutOfVault,
    /// The vault format or the mount cannot represent this: owners, hard links.
    #[error("not permitted here")]
    NotPermitted,
    /// The operation is not offered.
    #[error("not supported")]
    NotSupported,
    /// The server has no room for an extension.
    #[error("no space left on the server")]
    NoSpace,
    /// A file beyond what the format or the protocol can address.
    #[error("file too large")]
    TooLarge,
    /// The server's data does not authenticate or is malformed.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The server shows something else where a vault is expected: nothing is done there.
    #[error("a vault is expected here: {0}")]
    Displaced(#[source] Displacement),
    /// A vault is unlocked here, or was: its directory, and those above it, can't be removed or replaced.
    #[error("a vault is expected here; it can't be removed or replaced while it is mounted")]
    Bound,
    /// A directory around this place has two names: what is removed under one is gone under the other.
    #[error("the directory has two names; nothing in it is removed until `rmdir` has removed one of them")]
    NamedTwice,
    /// The vault around this place was locked.
    #[error("the vault is locked")]
    Locked,
    /// The system gave no randomness.
    #[error("the system gave no random numbers: {0}")]
    Random(String),
}

/// The kind of an error, and of its cause.
pub(super) struct DriveErrorKind<'a>(&'static str, Option<&'a Displacement>);

impl fmt::Display for DriveErrorKind<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, cause) = *self;
        formatter.write_str(kind)?;
        match cause {
            None => Ok(()),
            Some(Displacement::Missing) => formatter.write_str(": Missing"),
            Some(Displacement::Link) => formatter.write_str(": Link"),
            Some(Displacement::NoDirectory) => formatter.write_str(": NoDirectory"),
            Some(Displacement::NotThisVault) => formatter.write_str(": NotThisVault"),
            Some(Displacement::OtherVault) => formatter.write_str(": OtherVault"),
            Some(Displacement::Refused(error)) => write!(formatter, ": Refused: {}", error.kind()),
        }
    }
}

impl DriveError {
    /// Creates the error for data on the server that does not authenticate or is malformed.
    pub(super) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged(what.to_string())
    }

    /// Returns the kind of the error and of its cause, without a word of its text.
    pub(super) fn kind(&self) -> DriveErrorKind<'_> {
        let (kind, cause) = match self {
            Self::Remote(error) => return DriveErrorKind(error.kind(), None),
            Self::NotFound => ("NotFound", None),
            Self::Stale => ("Stale", None),
            Self::Exists => ("Exists", None),
            Self::NotADirectory => ("NotADirectory", None),
            Self::IsADirectory => ("IsADirectory", None),
            Self::NotEmpty => ("NotEmpty", None),
            Self::ReadOnly => ("ReadOnly", None),
            Self::OtherVault => ("OtherVault", None),
            Self::NameTooLong => ("NameTooLong", None),
            Self::Invalid => ("Invalid", None),
            Self::LeadsOutOfMount => ("LeadsOutOfMount", None),
            Self::LeadsOutOfVault => ("LeadsOutOfVault", None),
            Self::NotPermitted => ("NotPermitted", None),
            Self::NotSupported => ("NotSupported", None),
            Self::NoSpace => ("NoSpace", None),
            Self::TooLarge => ("TooLarge", None),
            Self::Damaged(_) => ("Damaged", None),
            Self::Displaced(shown) => ("Displaced", Some(shown)),
            Self::Bound => ("Bound", None),
            Self::NamedTwice => ("NamedTwice", None),
            Self::Locked => ("Locked", None),
            Self::Random(_) => ("Random", None),
        };
        DriveErrorKind(kind, cause)
    }

    /// Whether no reply came: the outcome of the request is unknown.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Remote(error) if error.is_unanswered())
    }

    /// Whether the server does not do this at all, or not for this user.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Remote(error) if error.is_refusal())
    }

    /// Whether the error says that a name, or something on the path to it, does not exist.
    pub(super) fn is_not_there(&self) -> bool {
        matches!(self, Self::Stale) || self.is_not_found()
    }

    /// Whether the error says that a name is taken.
    pub(super) fn is_exists(&self) -> bool {
        matches!(self, Self::Exists | Self::Remote(RemoteError::Exists))
    }

    /// Whether the error says that a name does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound | Self::Remote(RemoteError::NotFound))
    }
}

impl RequestError for DriveError {
    fn errno(&self) -> Errno {
        Errno::from(self)
    }

    fn is_failure(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Displaced(_) | Self::Random(_) => true,
            Self::Remote(error) => error.is_failure(),
            _ => false,
        }
    }

    /// Decides, in this one place, what the log holds of an error: its text includes its causes, and may quote a name
    /// or the server, whose words may be a name.
    fn for_log(&self, names: bool) -> String {
        if names { self.to_string() } else { self.kind().to_string() }
    }
}

impl From<NodeError> for DriveError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Remote(error) => Self::Remote(error),
            NodeError::Stale => Self::Stale,
            NodeError::Damaged(what) => Self::Damaged(what),
            NodeError::InvalidName => Self::Invalid,
            NodeError::Locked => Self::Locked,
            NodeError::Random(why) => Self::Random(why),
        }
    }
}

impl From<DriveError> for Errno {
    fn from(error: DriveError) -> Self {
        Self::from(&error)
    }
}

impl From<&DriveError> for Errno {
    fn from(error: &DriveError) -> Self {
        let errno = match error {
            DriveError::NotFound | DriveError::Remote(RemoteError::NotFound) => System::NOENT,
            DriveError::Stale | DriveError::Remote(RemoteError::Replaced) => System::STALE,
            DriveError::Exists | DriveError::Remote(RemoteError::Exists) => System::EXIST,
            DriveError::NotADirectory | DriveError::Remote(RemoteError::NotADirectory) => System::NOTDIR,
            DriveError::IsADirectory | DriveError::Remote(RemoteError::IsADirectory) => System::ISDIR,
            DriveError::NotEmpty | DriveError::Remote(RemoteError::NotEmpty) => System::NOTEMPTY,
            DriveError::ReadOnly | DriveError::Remote(RemoteError::ReadOnly) => System::ROFS,
            DriveError::OtherVault | DriveError::Remote(RemoteError::OtherFileSystem) => System::XDEV,
            DriveError::NameTooLong | DriveError::Remote(RemoteError::NameTooLong) => System::NAMETOOLONG,
            DriveError::Invalid => System::INVAL,
            DriveError::LeadsOutOfMount | DriveError::LeadsOutOfVault | DriveError::NotPermitted => {
                System::PERM
            }
            DriveError::NotSupported | DriveError::Remote(RemoteError::Unsupported(_)) => System::OPNOTSUPP,
            DriveError::NoSpace | DriveError::Remote(RemoteError::NoSpace) => System::NOSPC,
            DriveError::TooLarge => System::FBIG,
            DriveError::Bound | DriveError::NamedTwice => System::BUSY,
            DriveError::Remote(RemoteError::PermissionDenied) => System::ACCESS,
            DriveError::Remote(RemoteError::TooManyNames) => System::NOMEM,
            // A failure to read or write something whole is an I/O error; the reason is in the status and the log.
            DriveError::Damaged(_)
            | DriveError::Displaced(_)
            | DriveError::Locked
            | DriveError::Random(_)
            | DriveError::Remote(
                RemoteError::Timeout(_)
                | RemoteError::Disconnected(_)
                | RemoteError::TooLong { .. }
                | RemoteError::Protocol(_)
                | RemoteError::Failure(_),
            ) => System::IO,
        };
        Self(errno.raw_os_error())
    }
}

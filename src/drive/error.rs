//! Why the drive could not do as asked, and the one table from there to `errno(3)`.

use rustix::io::Errno as System;
use scaup_fuse::filesystem::Errno;

use super::bindings::Displacement;
use crate::remote::RemoteError;

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
    #[error("not in the same vault")]
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
    /// What the vault format or the mount cannot represent: owners, hard links.
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
    /// What the server holds does not authenticate or is malformed.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The server shows something else where a vault is expected: nothing is done there.
    #[error("a vault is expected here: {0}")]
    Displaced(#[source] Displacement),
    /// A vault is unlocked here, or was: its directory, and those above it, can't be removed or replaced.
    #[error("a vault is expected here; it can't be removed or replaced while it is mounted")]
    Bound,
    /// The vault around this place was locked.
    #[error("the vault is locked")]
    Locked,
    /// The system gave no randomness.
    #[error("no random numbers: {0}")]
    Random(String),
}

impl DriveError {
    /// Something on the server that does not authenticate or is malformed.
    pub(super) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged(what.to_string())
    }

    /// What the kernel is told. For the log, which must not quote a server: its words may hold names.
    pub(super) fn errno(&self) -> i32 {
        Errno::from(self.clone()).0
    }

    /// Whether no answer came: the server says nothing about what was asked.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Remote(error) if error.is_unanswered())
    }

    /// Whether this says that a name is taken.
    pub(super) fn is_exists(&self) -> bool {
        matches!(self, Self::Exists | Self::Remote(RemoteError::Exists))
    }

    /// Whether this says that a name does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound | Self::Remote(RemoteError::NotFound))
    }
}

impl From<DriveError> for Errno {
    fn from(error: DriveError) -> Self {
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
            DriveError::Bound => System::BUSY,
            DriveError::Remote(RemoteError::PermissionDenied) => System::ACCESS,
            DriveError::Remote(RemoteError::TooManyNames) => System::NOMEM,
            // What cannot be read or written whole is an I/O error; the reason stands in the status and the log.
            DriveError::Damaged(_)
            | DriveError::Displaced(_)
            | DriveError::Locked
            | DriveError::Random(_)
            | DriveError::Remote(
                RemoteError::Timeout(_)
                | RemoteError::Disconnected(_)
                | RemoteError::Protocol(_)
                | RemoteError::Failure(_),
            ) => System::IO,
        };
        Self(errno.raw_os_error())
    }
}

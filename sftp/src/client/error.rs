//! How requests fail.

use std::time::Duration;

use super::names::NoRoom;

/// What a server says of a request (`SSH_FX_…`, section 7 of the draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// Done.
    Ok,
    /// The end of a file or directory.
    Eof,
    /// No such name.
    NoSuchFile,
    /// Permission denied.
    PermissionDenied,
    /// OpenSSH says this for everything that has no code of its own.
    Failure,
    /// OpenSSH says this for arguments that its system refuses, such as a name that is too long.
    BadMessage,
    /// The server can't do it.
    OpUnsupported,
    /// A code of another version of the protocol.
    Other(u32),
}

impl From<u32> for StatusCode {
    fn from(code: u32) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Eof,
            2 => Self::NoSuchFile,
            3 => Self::PermissionDenied,
            4 => Self::Failure,
            5 => Self::BadMessage,
            8 => Self::OpUnsupported,
            other => Self::Other(other),
        }
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SftpError {
    /// The server refused.
    #[error("the server said {code:?}: {message}")]
    Status {
        /// Its code.
        code: StatusCode,
        /// Its words.
        message: String,
    },
    /// The server did not announce this extension.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// The server has no SFTP, or not for this user.
    #[error("the server has no SFTP subsystem for this user")]
    NoSftp,
    /// No answer came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// A path, or the target of a link, is longer than one can be here.
    #[error("the server named a path that is too long")]
    PathTooLong,
    /// A directory has more names than were wanted.
    #[error("the directory has more than {0} names")]
    TooManyNames(usize),
    /// A directory has more names than there is memory for.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The channel is gone, and why.
    #[error("connection lost: {0}")]
    Disconnected(String),
    /// The server answered against the protocol; the channel is given up.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

impl SftpError {
    /// The server's code, if it refused.
    #[must_use]
    pub fn code(&self) -> Option<StatusCode> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }
}

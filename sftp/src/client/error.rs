//! Why SFTP requests fail.

use std::time::Duration;

use super::names::NoRoom;
use crate::text::Line;

/// A status code of a server's reply (`SSH_FX_…`, section 7 of the draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// Success.
    Ok,
    /// The end of a file or directory.
    Eof,
    /// No such name.
    NoSuchFile,
    /// OpenSSH sends this for every failure that has no code of its own.
    PermissionDenied,
    /// OpenSSH sends this for arguments that its system refuses, such as a name that is too long.
    Failure,
    /// The server does not support the operation.
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
    /// The server refused the request.
    #[error("the server said {code:?}: {message}")]
    Status {
        /// The status code.
        code: StatusCode,
        /// The server's message.
        message: String,
    },
    /// The server did not announce this extension.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// The server has no SFTP, or not for this user.
    #[error("the server has no SFTP subsystem for this user")]
    NoSftp,
    /// What came is no SFTP, but text, as a shell's start-up files print it: its beginning.
    #[error(
        "the server sends text before SFTP starts: \"{0}\"; a login shell prints it: see its start-up files there"
    )]
    Text(Line),
    /// No reply came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// A path, or the target of a link, is longer than the limit.
    #[error("the server sent a path that is too long")]
    PathTooLong,
    /// A directory has more names than the caller allowed.
    #[error("the directory has more than {0} names")]
    TooManyNames(usize),
    /// A directory has more names than there is memory for.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The channel is gone, with the reason.
    #[error("connection lost: {0}")]
    Disconnected(String),
    /// The server's reply violated the protocol; the channel is closed.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

impl SftpError {
    /// Returns the kind of the error without its text, which may quote the server.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Status { code, .. } => match code {
                StatusCode::Ok => "Ok",
                StatusCode::Eof => "Eof",
                StatusCode::NoSuchFile => "NoSuchFile",
                StatusCode::PermissionDenied => "PermissionDenied",
                StatusCode::Failure => "Failure",
                StatusCode::BadMessage => "BadMessage",
                StatusCode::OpUnsupported => "OpUnsupported",
                StatusCode::Other(_) => "OtherStatus",
            },
            Self::NotOffered(_) => "NotOffered",
            Self::NoSftp => "NoSftp",
            Self::Text(_) => "Text",
            Self::Timeout(_) => "Timeout",
            Self::PathTooLong => "PathTooLong",
            Self::TooManyNames(_) => "TooManyNames",
            Self::NoRoom(_) => "NoRoom",
            Self::Disconnected(_) => "Disconnected",
            Self::Protocol(_) => "Protocol",
        }
    }

    /// Returns the server's status code, if it refused.
    #[must_use]
    pub fn code(&self) -> Option<StatusCode> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }
}

//! Converts errors and attributes of SFTP, version 3, to those of a [`Remote`](crate::Remote), and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scaup_sftp::client::{SftpAttributes, SftpError, SftpSetAttributes, StatusCode};

use crate::{RemoteAttributes, RemoteError, RemoteKind, RemoteSetAttributes};

/// Converts the error without further requests.
pub(super) fn plain(error: SftpError) -> RemoteError {
    match error {
        SftpError::Status { code, message } => match code {
            StatusCode::NoSuchFile => RemoteError::NotFound,
            StatusCode::PermissionDenied => RemoteError::PermissionDenied,
            StatusCode::OpUnsupported => RemoteError::Unsupported("it refused the request as unknown"),
            // OpenSSH's code for ENAMETOOLONG and EINVAL.
            StatusCode::BadMessage => RemoteError::NameTooLong,
            _ => hinted(&message).unwrap_or(RemoteError::Failure(message)),
        },
        error @ (SftpError::NoSftp | SftpError::Text(_)) => RemoteError::Failure(format!("SFTP: {error}")),
        SftpError::NotOffered(extension) => RemoteError::Unsupported(extension),
        SftpError::Timeout(timeout) => RemoteError::Timeout(timeout),
        SftpError::Disconnected(why) => RemoteError::Disconnected(why),
        SftpError::Protocol(why) => RemoteError::Protocol(why),
        SftpError::PathTooLong => RemoteError::NameTooLong,
        SftpError::TooManyNames(_) | SftpError::NoRoom(_) => RemoteError::TooManyNames,
    }
}

/// Returns the reason in a server's message: some servers say more there than by their codes.
fn hinted(message: &str) -> Option<RemoteError> {
    let message = message.to_lowercase();
    let hints = [
        ("no space", RemoteError::NoSpace),
        // proftpd
        ("out of disk space", RemoteError::NoSpace),
        ("permission denied", RemoteError::PermissionDenied),
        ("quota", RemoteError::NoSpace),
        ("read-only", RemoteError::ReadOnly),
        ("not empty", RemoteError::NotEmpty),
        ("not a directory", RemoteError::NotADirectory),
        ("is a directory", RemoteError::IsADirectory),
    ];
    hints.into_iter().find_map(|(words, error)| message.contains(words).then_some(error))
}

/// Returns the kind of a node, by the type bits of its mode (`S_IFMT`). A server that leaves them out means files.
pub(super) fn kind(attributes: &SftpAttributes) -> RemoteKind {
    match attributes.permissions.unwrap_or(0) & 0o170_000 {
        0o040_000 => RemoteKind::Directory,
        0o120_000 => RemoteKind::Symlink,
        0o010_000 => RemoteKind::Fifo,
        0o140_000 => RemoteKind::Socket,
        0o020_000 => RemoteKind::CharDevice,
        0o060_000 => RemoteKind::BlockDevice,
        _ => RemoteKind::File,
    }
}

pub(super) fn from_wire(attributes: &SftpAttributes) -> RemoteAttributes {
    let (uid, gid) = attributes.owner.unwrap_or_default();
    let (accessed, modified) = attributes.times.unwrap_or_default();
    RemoteAttributes {
        kind: kind(attributes),
        size: attributes.size.unwrap_or(0),
        mode: u16::try_from(attributes.permissions.unwrap_or(0) & 0o7777).unwrap_or(0),
        uid,
        gid,
        accessed: UNIX_EPOCH + Duration::from_secs(u64::from(accessed)),
        modified: UNIX_EPOCH + Duration::from_secs(u64::from(modified)),
    }
}

/// Version 3 counts seconds from 1970 to 2106; a time outside becomes the nearest that it can express.
fn seconds(time: SystemTime) -> u32 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => u32::try_from(since.as_secs()).unwrap_or(u32::MAX),
        Err(_) => 0,
    }
}

pub(super) fn to_wire(set: &RemoteSetAttributes) -> SftpSetAttributes {
    SftpSetAttributes {
        size: set.size,
        owner: set.owner,
        permissions: set.mode.map(u32::from),
        times: set.times.map(|(accessed, modified)| (seconds(accessed), seconds(modified))),
    }
}

pub(super) fn with_mode(mode: u16) -> SftpSetAttributes {
    SftpSetAttributes { permissions: Some(u32::from(mode)), ..SftpSetAttributes::default() }
}

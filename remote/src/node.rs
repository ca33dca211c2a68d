//! Nodes on the server: their kinds and attributes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::path::RemoteName;

/// What a node on the server is, from the file type bits of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Attributes of a node on the server. Times have the server's granularity: whole seconds over SFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteAttributes {
    /// What it is.
    pub kind: RemoteKind,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits (`07777`).
    pub mode: u16,
    /// Owner, as the server numbers users.
    pub uid: u32,
    /// Group, as the server numbers groups.
    pub gid: u32,
    /// Last access.
    pub accessed: SystemTime,
    /// Last change of content.
    pub modified: SystemTime,
}

impl RemoteAttributes {
    /// Attributes of a plain file of no length: a starting point for tests and implementations.
    #[must_use]
    pub fn new(kind: RemoteKind, mode: u16) -> Self {
        Self { kind, size: 0, mode, uid: 0, gid: 0, accessed: UNIX_EPOCH, modified: UNIX_EPOCH }
    }
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoteSetAttributes {
    /// Cuts or extends a file, bytes.
    pub size: Option<u64>,
    /// Owner and group, as the server numbers them (the protocol sets both at once).
    pub owner: Option<(u32, u32)>,
    /// Permission bits (`07777`).
    pub mode: Option<u16>,
    /// Last access and last change (the protocol sets both at once).
    pub times: Option<(SystemTime, SystemTime)>,
}

/// One name in a directory on the server, with its attributes (links not followed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteEntry {
    /// Its name.
    pub name: RemoteName,
    /// Its attributes.
    pub attributes: RemoteAttributes,
}

/// What a new directory inherits from the one around it, so that the group of what is made in it is the same.
pub(crate) const SET_GID: u16 = 0o2000;

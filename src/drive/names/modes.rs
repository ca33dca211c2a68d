//! The permission bits that programs are shown, and those that they may change.
//!
//! The kernel decides access by the shown bits (`default_permissions`), and the server may change the bits that it
//! keeps at any time. If the mount is its user's alone, that can only take away access. If other users of this machine
//! are let in (`allow_other`), their access to vaults is the mounting user's decision: none, or what `umask=` leaves.

use crate::drive::Drive;
use crate::remote::RemoteKind;

/// The owner's bits.
const OWNER: u16 = 0o700;
/// Everybody's bits.
const ALL: u16 = 0o777;
/// Only owners may remove from the directory.
const STICKY: u16 = 0o1000;
/// Permission to execute a file, or search a directory.
const EXECUTE: u16 = 0o111;

/// Returns the mode of a new node: bits that are never shown are not set, either.
pub(super) fn of_new(mode: u16) -> u16 {
    mode & (ALL | STICKY)
}

impl Drive {
    /// Returns the bits of the server's mode that programs see and change. The server never decides whose rights a
    /// program runs with (set-uid, set-gid).
    fn bits_of_server(&self, is_in_vault: bool) -> u16 {
        match (is_in_vault, self.options.others_in_vaults) {
            (false, _) => ALL | STICKY,
            (true, None) => ALL,
            (true, Some(_)) => OWNER,
        }
    }

    /// Returns the mode that programs are shown for a mode that the server keeps.
    pub(super) fn shown_mode(&self, is_in_vault: bool, kind: RemoteKind, kept: u16) -> u16 {
        let others = match self.options.others_in_vaults {
            Some(others) if is_in_vault && kind == RemoteKind::Directory => others,
            // The server decides which files are executable, and only for the owner.
            Some(others) if is_in_vault => others & !EXECUTE,
            _ => 0,
        };
        (kept & self.bits_of_server(is_in_vault) | others) & !self.options.umask
    }

    /// Returns the mode for the server to keep after a program has set another one: bits that the program does not see
    /// stay unchanged.
    pub(in crate::drive) fn mode_to_keep(&self, is_in_vault: bool, kept: u16, set: u16) -> u16 {
        let bits = self.bits_of_server(is_in_vault);
        set & bits | kept & !bits
    }
}

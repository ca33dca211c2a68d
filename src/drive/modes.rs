//! Which permission bits programs are shown, and which of them they change.
//!
//! The kernel decides by what is shown (`default_permissions`) who may do what, and the server may change what it keeps at any
//! time. Where the mount is its user's alone, that can only take away. Where other users of this machine are let in
//! (`allow_other`), what they may do in vaults is the mounting user's decision: nothing, or what `umask=` leaves.

use super::Drive;
use crate::remote::RemoteKind;

/// What the owner may do.
const OWNER: u16 = 0o700;
/// What anybody may do.
const ALL: u16 = 0o777;
/// Only owners may remove from the directory.
const STICKY: u16 = 0o1000;
/// To execute a file, or search a directory.
const EXECUTE: u16 = 0o111;

/// The mode of what is made here: what is never shown is not made, either.
pub(super) fn of_new(mode: u16) -> u16 {
    mode & (ALL | STICKY)
}

impl Drive {
    /// The bits of the server's that programs see and change. Whose rights a program runs with (set-uid, set-gid) is never the
    /// server's to say.
    fn bits_of_server(&self, is_in_vault: bool) -> u16 {
        match (is_in_vault, self.options.others_in_vaults) {
            (false, _) => ALL | STICKY,
            (true, None) => ALL,
            (true, Some(_)) => OWNER,
        }
    }

    /// The mode that programs are shown for one that the server keeps.
    pub(super) fn shown_mode(&self, is_in_vault: bool, kind: RemoteKind, kept: u16) -> u16 {
        let others = match self.options.others_in_vaults {
            Some(others) if is_in_vault && kind == RemoteKind::Directory => others,
            // Which files are programs is the server's to say, to the owner.
            Some(others) if is_in_vault => others & !EXECUTE,
            _ => 0,
        };
        (kept & self.bits_of_server(is_in_vault) | others) & !self.options.umask
    }

    /// The mode for the server to keep after a program has set another one: bits that the program does not see stay as they are.
    pub(super) fn mode_to_keep(&self, is_in_vault: bool, kept: u16, set: u16) -> u16 {
        let bits = self.bits_of_server(is_in_vault);
        set & bits | kept & !bits
    }
}

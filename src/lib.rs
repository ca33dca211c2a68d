//! Scaup mounts encrypted vaults that live on an SSH server as an ordinary folder.

pub mod drive;
pub mod remote;

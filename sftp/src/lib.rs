//! The server's side of Scaup: SSH login, and SFTP with many requests in flight.
//!
//! `ssh` logs in and opens channels; `client` speaks SFTP version 3 over one of them, with OpenSSH's extensions.
//! Neither knows of vaults or of the kernel. `text` makes a server's messages fit to be shown.

pub mod client;
pub mod pace;
pub mod ssh;
mod tcp_info;
pub mod text;

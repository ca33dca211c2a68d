//! The server's side of Scaup: SSH login, and SFTP with many requests in flight.
//!
//! `ssh` logs in and opens channels; `client` speaks SFTP version 3 over one of them, with OpenSSH's extensions. Neither knows
//! of vaults or of the kernel. `text` makes what a server says fit to be shown.

pub mod client;
pub mod pace;
pub mod ssh;
pub mod text;

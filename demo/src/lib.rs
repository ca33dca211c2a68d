//! An SSH server inside the process, which demands a key and a one-time code, and what `scaup demo` puts on it.
//!
//! A connection comes in through `server`, which asks for what [`Credentials`] hold; its SFTP channels are answered by
//! `sftp` from any [`Remote`](scaup_remote::Remote): the demo takes a directory.

pub mod content;
mod credentials;
mod picture;
mod server;
mod sftp;

pub use credentials::{Credentials, random_password};
pub use server::Server;

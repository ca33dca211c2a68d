//! A client for the part of Nextcloud that speaks WebDAV (RFC 4918) and OCS, its own interface over HTTP. It knows
//! nothing of shares.
//!
//! [`ServerAddress`] is where the server is, and [`Client`] sends requests there and nowhere else: it follows no
//! redirect. A refused login ends all traffic, since a server that counts wrong logins soon refuses the right ones,
//! too. What is busy is asked again for a while.

mod address;
mod cancel;
mod client;
mod content_body;
mod error;
mod files;
mod multistatus;
mod ocs;
mod server;
mod sessions;
mod status;
mod upload;

pub use address::{AddressError, ServerAddress};
pub use cancel::Cancel;
pub use client::{Client, Login, Visit};
pub use error::DavError;
pub use files::{Depth, Entry, FilePath, Home};
pub use multistatus::MultistatusError;
pub use ocs::Ocs;
pub use server::{Capabilities, ForbiddenNames, Links, PasswordPolicy, User};
pub use status::ServerStatus;
pub use upload::{Progress, Source, Stored, Upload};

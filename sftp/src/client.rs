//! An SFTP client (draft-ietf-secsh-filexfer-02, version 3, with the extensions of OpenSSH's PROTOCOL file).
//!
//! `packet` holds the bytes of requests and replies, `lane` sends and receives them over one channel, `requests` gives each its
//! typed method. Everything that a server says is bounded and checked; names and handles are bytes.

mod error;
mod lane;
mod packet;
mod requests;

pub use error::{SftpError, StatusCode};
pub use lane::{Lane, LaneCounters};
pub use packet::{Attributes, NameEntry, SetAttributes};
pub use requests::{FileHandle, OpenFlags, Statistics};

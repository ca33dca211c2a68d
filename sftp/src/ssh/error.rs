//! Why a login failed.

use std::path::PathBuf;

use crate::text::{Line, visible};

/// What is wrong with a server's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyProblem {
    /// Another key is on record.
    #[error(
        "the key has changed ({fingerprint}; on record at {}:{line}). Somebody may be listening in, or the server was set up anew. \
         Ask its owner; if it is right, remove that line",
        .file.display()
    )]
    Changed {
        /// The fingerprint of the key that was shown.
        fingerprint: String,
        /// The file that holds the other key.
        file: PathBuf,
        /// Its line.
        line: usize,
    },
    /// Nobody can tell which keys are revoked.
    #[error("it can't be told whether the key is revoked (RevokedHostKeys {}): {reason}", .file.display())]
    RevocationsUnreadable {
        /// The file that would say so.
        file: PathBuf,
        /// Why it can't be read.
        reason: String,
    },
    /// An RSA key that is too short.
    #[error("the RSA key has {bits} bits only, and RequiredRSASize is {bits_min}")]
    ShortRsaKey {
        /// Its length.
        bits: u32,
        /// What is required.
        bits_min: u32,
    },
    /// The key is marked as revoked.
    #[error("the key is revoked ({}:{line})", .file.display())]
    Revoked {
        /// The file that says so.
        file: PathBuf,
        /// Its line.
        line: usize,
    },
    /// No key is on record, and unknown ones are refused.
    #[error(
        "the key {fingerprint} is not known, and StrictHostKeyChecking is yes; compare it and add it to known_hosts"
    )]
    Unknown {
        /// The fingerprint of the key that was shown.
        fingerprint: String,
    },
    /// The user did not confirm it.
    #[error("the key {fingerprint} is not known, and was not confirmed: {reason}")]
    NotConfirmed {
        /// The fingerprint of the key that was shown.
        fingerprint: String,
        /// Why not.
        reason: String,
    },
    /// The host's certificate is not valid for it.
    #[error("the host's certificate is not valid: {}", Line::of(.0))]
    Certificate(String),
    /// The key can't be recorded.
    #[error("the key can't be recorded in {}: {reason}", .file.display())]
    NotRecorded {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers at the address.
    #[error("{}:{port} can't be reached: {}", Line::of(.host), Line::of(.reason))]
    Unreachable {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said.
        reason: String,
    },
    /// The server may not be the right one.
    #[error("host {}: {problem}", Line::of(.host))]
    HostKey {
        /// The host.
        host: String,
        /// What is wrong.
        problem: HostKeyProblem,
    },
    /// The server does not let the user in.
    #[error("{destination}: {}", visible(.reason))]
    Refused {
        /// `user@host`.
        destination: String,
        /// What was tried, and what to try.
        reason: String,
    },
    /// The connection broke off during the login, after somebody was asked something for it: they may have been too slow, or the road is gone.
    #[error("{destination}: {}", Line::of(.reason))]
    CutOff {
        /// `user@host`.
        destination: String,
        /// What happened.
        reason: String,
    },
    /// Nobody answered a question.
    #[error("{destination}: no answer to \"{}\": {}", visible(.question.trim()), visible(.reason))]
    Cancelled {
        /// `user@host`.
        destination: String,
        /// The question.
        question: String,
        /// Why not.
        reason: String,
    },
    /// The connection broke, or the server speaks otherwise.
    #[error("{destination}: {}", Line::of(.reason))]
    Protocol {
        /// `user@host`.
        destination: String,
        /// What happened.
        reason: String,
    },
}

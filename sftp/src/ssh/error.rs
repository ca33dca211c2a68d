//! Why a login failed.

use std::path::PathBuf;

use crate::text::{Line, visible};

/// A problem with a server's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyProblem {
    /// Another key is on record.
    #[error(
        "the key has changed ({fingerprint}; on record at {}:{line}). Somebody may be listening in, or the server was reinstalled. \
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
    /// The list of revoked keys can't be read.
    #[error("Scaup can't check whether the key is revoked (RevokedHostKeys {}): {reason}", .file.display())]
    RevocationsUnreadable {
        /// The file of the list.
        file: PathBuf,
        /// Why it can't be read.
        reason: String,
    },
    /// The key is an RSA key that is too short.
    #[error("the RSA key has {bits} bits only, and RequiredRSASize is {bits_min}")]
    ShortRsaKey {
        /// Its length.
        bits: u32,
        /// The required length.
        bits_min: u32,
    },
    /// The key is marked as revoked.
    #[error("the key is revoked ({}:{line})", .file.display())]
    Revoked {
        /// The file with the mark.
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
    /// The user did not confirm the key.
    #[error("the key {fingerprint} is not known, and was not confirmed: {reason}")]
    NotConfirmed {
        /// The fingerprint of the key that was shown.
        fingerprint: String,
        /// The reason.
        reason: String,
    },
    /// The host's certificate is not valid for the host.
    #[error("the host's certificate is not valid: {}", Line::of(.0))]
    Certificate(String),
    /// The key can't be recorded.
    #[error("the key can't be recorded in {}: {reason}", .file.display())]
    NotRecorded {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No server replies at the address.
    #[error("{}:{port} can't be reached: {}", Line::of(.host), Line::of(.reason))]
    Unreachable {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// The system's error.
        reason: String,
    },
    /// The server may not be the right one.
    #[error("host {}: {problem}", Line::of(.host))]
    HostKey {
        /// The host.
        host: String,
        /// The problem.
        problem: HostKeyProblem,
    },
    /// The server does not let the user log in.
    #[error("{destination}: {}", visible(.reason))]
    Refused {
        /// `user@host`.
        destination: String,
        /// What was tried, and a remedy to try.
        reason: String,
    },
    /// The connection broke off during the login, after a person was asked for something: the person may have been too
    /// slow, or the road is gone.
    #[error("{destination}: {}", Line::of(.reason))]
    CutOff {
        /// `user@host`.
        destination: String,
        /// The cause.
        reason: String,
    },
    /// A question was not answered.
    #[error("{destination}: no answer to \"{}\": {}", visible(.question.trim()), visible(.reason))]
    Cancelled {
        /// `user@host`.
        destination: String,
        /// The question.
        question: String,
        /// The reason.
        reason: String,
    },
    /// The connection broke, or the server violated the protocol.
    #[error("{destination}: {}", Line::of(.reason))]
    Protocol {
        /// `user@host`.
        destination: String,
        /// The cause.
        reason: String,
    },
}

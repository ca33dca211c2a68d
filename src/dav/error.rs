//! Why a request to the server failed.

use std::error::Error;

use scaup_sftp::text::Line;

use super::multistatus::MultistatusError;

/// Why a request to the server failed.
#[derive(Debug, thiserror::Error)]
pub enum DavError {
    /// The file with certificates can't be used.
    #[error("the certificates in {file} can't be used: {reason}")]
    Certificates {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// The server can't be reached, or the connection was lost.
    #[error("{host} can't be reached: {}", causes(.source))]
    Unreachable {
        /// Its host.
        host: String,
        /// What failed.
        source: reqwest::Error,
    },
    /// The server's certificate can't be verified.
    #[error(
        "the certificate of {host} can't be verified ({}); if it was issued by your company's own authority, give its certificate with --ca FILE",
        causes(.source)
    )]
    NotTrusted {
        /// Its host.
        host: String,
        /// What failed.
        source: reqwest::Error,
    },
    /// The server refuses the login.
    #[error(
        "{host} refuses the login: the app password was revoked there, or is wrong; remove the account with `scaup account remove NAME`, and add it again with `scaup account add URL`"
    )]
    LoginRefused {
        /// Its host.
        host: String,
    },
    /// The server has counted too many attempts.
    #[error(
        "{host} accepts no more requests for now (too many of this kind, or too many wrong logins from this network){}",
        .seconds.map_or_else(String::new, |seconds| format!("; try again in {seconds} s"))
    )]
    TooMany {
        /// Its host.
        host: String,
        /// How long to wait, if it says so, seconds.
        seconds: Option<u64>,
    },
    /// The server is in maintenance.
    #[error("{host} is in maintenance: try again later")]
    Maintenance {
        /// Its host.
        host: String,
    },
    /// The server sends the request elsewhere.
    #[error(
        "{host} sends requests on to {to}: nothing is sent there; if that is the server's address, use it"
    )]
    LedElsewhere {
        /// Its host.
        host: String,
        /// Where to.
        to: Line,
    },
    /// There is no room for the content.
    #[error(
        "there is no room for it on {host}: free some of the quota, ask for more, or use another account"
    )]
    NoRoom {
        /// Its host.
        host: String,
    },
    /// The server, or what is before it, takes no request with so much content.
    #[error(
        "{host}, or a proxy before it, takes no request as long as {}: tell its administrator (such as client_max_body_size of nginx)",
        .len.map_or_else(|| "this one".to_owned(), |len| format!("{} MiB", len.div_ceil(1 << 20)))
    )]
    TooLong {
        /// Its host.
        host: String,
        /// How much was sent, bytes, if it was a file's content.
        len: Option<u64>,
    },
    /// The server refused for another reason.
    #[error(
        "{host} refused ({what}: {status}{}){}",
        .message.as_ref().map_or_else(String::new, |message| format!(", {message}")),
        way_out(*.status)
    )]
    Refused {
        /// Its host.
        host: String,
        /// What was asked for.
        what: &'static str,
        /// The HTTP status (RFC 9110).
        status: u16,
        /// The server's own words.
        message: Option<Line>,
    },
    /// The reply is not what a Nextcloud server says.
    #[error("{host} did not reply as a Nextcloud server does ({what})")]
    NotUnderstood {
        /// Its host.
        host: String,
        /// What was asked for.
        what: &'static str,
    },
    /// A list of files is not what it should be.
    #[error("the list of files that {host} sent can't be used: {source}")]
    List {
        /// Its host.
        host: String,
        /// Why.
        source: MultistatusError,
    },
    /// The content can't be read, on this side.
    #[error("the file can't be read: {0}")]
    Source(#[source] std::io::Error),
    /// The content changed while it was read.
    #[error("the file changed while it was sent: save it, close it, and try again")]
    Changed,
    /// The server stored something else than what was sent.
    #[error(
        "what {host} stored is not what was sent: its copy is damaged; try again, and tell its administrator if it happens again"
    )]
    StoredDiffers {
        /// Its host.
        host: String,
    },
    /// The work was cancelled.
    #[error("it was cancelled")]
    Cancelled,
}

impl DavError {
    /// Returns the HTTP status with which the server refused, if there is one that is not explained otherwise.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns whether the server said that there is no such thing.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// Returns whether somebody on the way did not wait for the server, which may still work on what was asked.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self.status(), Some(502 | 504))
    }

    /// Returns whether the server may have done what was asked, though its reply is missing.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NotUnderstood { .. })
            || self.status().is_some_and(|status| status >= 500)
    }
}

/// Returns what to do about a status that is not explained otherwise.
fn way_out(status: u16) -> &'static str {
    match status {
        403 => "; its administrator may have forbidden this",
        405 | 501 => "; a proxy before it may not let such requests through: tell its administrator",
        500.. => "; try again later, or tell its administrator, whose log says why",
        _ => "",
    }
}

/// Returns an error's chain of causes, without the address, which says nothing new.
fn causes(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if error.is_timeout() {
        "it does not reply".to_owned()
    } else {
        Line::of(&innermost.to_string()).to_string()
    }
}

//! The failures of commands.

use crate::config::bookmark::BookmarkError;
use crate::config::records::RecordError;
use crate::daemon::protocol::{Failure, FailureKind};

/// A command's failure: what failed, the object, and a remedy to try.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) kind: FailureKind,
    pub(super) message: String,
}

impl CliError {
    pub(super) fn new(kind: FailureKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    pub(super) fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    pub(super) fn other(message: impl std::fmt::Display) -> Self {
        Self::new(FailureKind::Other, message)
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self { kind: failure.kind, message: failure.message }
    }
}

impl From<RecordError> for CliError {
    fn from(error: RecordError) -> Self {
        Self::other(error)
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::other(error)
    }
}

impl From<BookmarkError> for CliError {
    fn from(error: BookmarkError) -> Self {
        let kind = match error {
            BookmarkError::Name(_) => FailureKind::Usage,
            _ => FailureKind::Other,
        };
        Self::new(kind, error)
    }
}

//! The kinds of credentials that a login asks for.

use std::fmt;

/// The kind of credential that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A key.
    Key,
    /// The passphrase of a key file.
    Passphrase,
    /// The user's password.
    Password,
    /// A PIN.
    Pin,
    /// A one-time code.
    Code,
    /// Anything else that a server asks for.
    Answer,
}

impl fmt::Display for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Key => "key",
            Self::Passphrase => "passphrase",
            Self::Password => "password",
            Self::Pin => "PIN",
            Self::Code => "code",
            Self::Answer => "answer",
        })
    }
}

/// Lists several credentials in words.
pub(super) fn listed(credentials: &[Credential], conjunction: &str) -> String {
    credentials.iter().map(Credential::to_string).collect::<Vec<_>>().join(conjunction)
}

//! The questions and messages of a login for a person.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::credential::{Credential, listed};
use super::wanted::wanted;
use crate::text::Line;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The passphrase of a key file.
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// A prompt of the server's (keyboard-interactive, RFC 4256).
    Prompt {
        /// `user@host`.
        destination: String,
        /// The prompt, word for word on one line.
        prompt: Line,
        /// Whether the typed text may be shown.
        echo: bool,
        /// Whether it asks for a code that may come without a person, from a command that makes codes.
        unattended: bool,
    },
    /// The user's password.
    Password {
        /// `user@host`.
        destination: String,
    },
    /// Whether an unknown server is the right one; the answer is `yes` or anything else.
    UnknownHost {
        /// The host, as it would be recorded.
        host: String,
        /// The type of its key.
        key_type: String,
        /// The key's fingerprint, `SHA256:…`.
        fingerprint: String,
    },
}

impl Question {
    /// Returns the kind of credential asked for. For the server's own prompts it follows from their words.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        match self {
            Self::Passphrase { .. } => Some(Credential::Passphrase),
            Self::Prompt { prompt, .. } => Some(wanted(prompt.as_str())),
            Self::Password { .. } => Some(Credential::Password),
            Self::UnknownHost { .. } => None,
        }
    }

    /// Returns the question as it is shown. A server's own begins with its mark, `(user@host) `, and no other question
    /// does; it has no second line that could look like another question.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Passphrase { path } => {
                format!("Passphrase for key {}: ", Line::of(&path.to_string_lossy()))
            }
            Self::Prompt { destination, prompt, .. } => format!("({destination}) {prompt}"),
            Self::Password { destination } => format!("({destination}) Password: "),
            Self::UnknownHost { host, key_type, fingerprint } => format!(
                "The authenticity of host {host} can't be established.\n{key_type} key fingerprint is {fingerprint}.\n\
                 Compare it with what the server's owner gives. Connect (yes/no)? "
            ),
        }
    }
}

/// A step on the way to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Connecting to a server.
    Connecting(String),
    /// The server's key was not known, and is now on record.
    HostKeyRecorded {
        /// The host, as it is recorded.
        host: String,
        /// The file, if it is kept at all.
        file: Option<PathBuf>,
    },
    /// The server accepted this credential, or all of these.
    Accepted(Vec<Credential>),
    /// The credential was wrong, or one of these was; it will be asked for again.
    Wrong(Vec<Credential>),
    /// A line of text from the server: from its banner, or above its prompts.
    Said {
        /// `user@host`.
        destination: String,
        /// The line.
        line: Line,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting(to) => write!(formatter, "connecting to {to}"),
            Self::HostKeyRecorded { host, file: Some(file) } => {
                write!(formatter, "the key of {host} is now on record in {}", file.display())
            }
            Self::HostKeyRecorded { host, file: None } => {
                write!(formatter, "the key of {host} is accepted, and not recorded")
            }
            Self::Accepted(credentials) => write!(formatter, "{} accepted", listed(credentials, " and ")),
            Self::Wrong(credentials) => write!(formatter, "wrong {}", listed(credentials, " or ")),
            Self::Said { destination, line } => write!(formatter, "({destination}) {line}"),
        }
    }
}

/// There is no answer, or the person declined; with the reason, in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled(pub String);

/// The interface that answers questions.
#[async_trait]
pub trait Interaction: Send + Sync {
    /// Asks, for as long as the answer takes: it counts against no time-out of the login.
    async fn ask(&self, question: Question) -> Result<Zeroizing<String>, Cancelled>;
    /// Reports progress.
    fn progress(&self, progress: Progress);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_servers_question_begins_with_a_mark_and_it_is_one_line() {
        let destination = || "alice@hq".to_owned();
        for prompt in ["\nPassword for vault Vault: ", "\r\u{1b}[2KPassphrase for key x: ", "\u{202e}\0"] {
            let text = Question::Prompt {
                destination: destination(),
                prompt: Line::of(prompt),
                echo: false,
                unattended: false,
            }
            .text();
            assert!(text.starts_with("(alice@hq) ") && text.chars().all(crate::text::is_visible), "{text:?}");
        }
        let text = Question::Passphrase { path: "key: \n(alice@hq) Password: ".into() }.text();
        assert_eq!(text, "Passphrase for key key:  (alice@hq) Password: : ");
    }
}

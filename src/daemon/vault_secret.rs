//! Asking for what opens a vault: its password, or its recovery key in place of that.

use futures::future::BoxFuture;
use scaup_crypto::RecoveryKeyError;
use zeroize::Zeroizing;

use super::protocol::{PromptKind, UserQuestion, password_question, recovery_key_question};
use crate::config::settings::SecretCommand;
use crate::vault::VaultSecret;

/// The answer to the question for a password that asks for the recovery key. No password is that short.
pub const RECOVERY_KEY_INSTEAD: &str = "r";

/// Told after a wrong password.
pub const RECOVERY_KEY_HINT: &str = "enter r to open the vault with its recovery key instead";

/// Why there is nothing that could open a vault.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    /// Nothing was given, for this reason.
    #[error("{0}")]
    NotGiven(String),
    /// What was given as a recovery key is none.
    #[error("the recovery key has a mistake: {0}")]
    NotAKey(#[from] RecoveryKeyError),
}

/// What opens a vault, as far as is known before it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedBy {
    /// Its password, or its recovery key.
    Password,
    /// Its recovery key only.
    RecoveryKey,
}

impl OpenedBy {
    /// Returns what a command prints, and the command.
    #[must_use]
    pub fn of(command: &SecretCommand) -> (Self, &str) {
        match command {
            SecretCommand::Password(command) => (Self::Password, command),
            SecretCommand::RecoveryKey(command) => (Self::RecoveryKey, command),
        }
    }

    /// Returns the question.
    #[must_use]
    pub fn question(self, vault: &str) -> String {
        match self {
            Self::Password => password_question(vault),
            Self::RecoveryKey => recovery_key_question(vault),
        }
    }

    /// Takes an answer to the question.
    ///
    /// # Errors
    ///
    /// If it is empty, or a recovery key is asked for and it is none.
    pub fn secret_of(self, answer: &str) -> Result<VaultSecret, NoSecret> {
        if answer.is_empty() {
            return Err(NoSecret::NotGiven("the answer was empty".to_owned()));
        }
        match self {
            Self::Password => Ok(VaultSecret::password_or_recovery_key(answer)),
            Self::RecoveryKey => Ok(VaultSecret::recovery_key(answer)?),
        }
    }

    fn kind(self) -> PromptKind {
        match self {
            Self::Password => PromptKind::VaultPassword,
            Self::RecoveryKey => PromptKind::RecoveryKey,
        }
    }
}

/// Shows a person a question and returns the answer.
pub type AskPerson<'a> =
    dyn Fn(UserQuestion) -> BoxFuture<'a, Result<Zeroizing<String>, String>> + Send + Sync + 'a;

/// Asks a person, the `attempt`th time, what opens a vault.
///
/// # Errors
///
/// If the person gives nothing, or a recovery key with a mistake.
pub async fn ask_person(
    opened_by: OpenedBy,
    vault: &str,
    attempt: u32,
    person: &AskPerson<'_>,
) -> Result<VaultSecret, NoSecret> {
    let ask = async |opened_by: OpenedBy| {
        let (kind, destination, text) = (opened_by.kind(), vault.to_owned(), opened_by.question(vault));
        let question = UserQuestion { kind, destination, attempt, text, echo: false };
        person(question).await.map_err(NoSecret::NotGiven)
    };
    let answer = ask(opened_by).await?;
    if opened_by == OpenedBy::Password && *answer == RECOVERY_KEY_INSTEAD {
        return OpenedBy::RecoveryKey.secret_of(&ask(OpenedBy::RecoveryKey).await?);
    }
    opened_by.secret_of(&answer)
}

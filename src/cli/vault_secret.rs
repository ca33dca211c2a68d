//! The password of a vault, from a command.

use zeroize::Zeroizing;

use super::error::CliError;
use crate::daemon::answer_programs::AnswerCommand;
use crate::daemon::protocol::{FailureKind, password_question};

/// Returns a vault's password: the first line that a command prints.
pub(super) fn password_from(command: &str, path: &str) -> Result<Zeroizing<String>, CliError> {
    let (directory, prompt) = (std::env::current_dir()?, password_question(path));
    let command = AnswerCommand { command, directory: &directory, prompt: &prompt, vault: Some(path) };
    command
        .run_at_terminal()
        .map_err(|reason| CliError::new(FailureKind::Vault, format!("no password was given: {reason}")))
}

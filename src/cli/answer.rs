//! The answer of a user's command to a question about a vault.

use zeroize::Zeroizing;

use super::error::CliError;
use crate::daemon::answer_programs::AnswerCommand;
use crate::daemon::protocol::FailureKind;

/// Returns the first line that a command prints.
pub(super) fn answer_of(command: &str, prompt: &str, vault: &str) -> Result<Zeroizing<String>, CliError> {
    let directory = std::env::current_dir()?;
    let command = AnswerCommand { command, directory: &directory, prompt, vault: Some(vault) };
    command.run_at_terminal().map_err(not_given)
}

/// Returns the failure for a password that was not given.
pub(super) fn not_given(reason: String) -> CliError {
    CliError::new(FailureKind::Vault, format!("no password was given: {reason}"))
}

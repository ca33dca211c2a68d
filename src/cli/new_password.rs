//! A new password for a vault.

use scaup_sftp::text::Line;
use zeroize::Zeroizing;
use zxcvbn::{Score, zxcvbn};

use super::answer::{answer_of, not_given};
use super::error::CliError;
use super::prompt;
use super::screen;
use crate::daemon::protocol::{FailureKind, new_password_question};

/// Shortest new password, in characters: Cryptomator's rule.
const PASSWORD_LEN_MIN: usize = 8;

/// Asks for a new password twice, and says how strong it is; or takes a command's. `undone` says at the end of an error
/// what did not happen.
pub(super) fn new_password(
    path: &str,
    command: Option<&str>,
    undone: &str,
) -> Result<Zeroizing<String>, CliError> {
    let question = new_password_question(path);
    let password = match command {
        Some(command) => answer_of(command, &question, path)?,
        None => {
            let first = prompt::ask(&question, false).map_err(not_given)?;
            let second = prompt::ask("The same again: ", false).map_err(not_given)?;
            if first != second {
                return Err(CliError::new(FailureKind::Vault, format!("the two passwords differ; {undone}")));
            }
            first
        }
    };
    if password.chars().count() < PASSWORD_LEN_MIN {
        let text = format!("the password must have at least {PASSWORD_LEN_MIN} characters; {undone}");
        return Err(CliError::new(FailureKind::Vault, text));
    }
    if command.is_none() {
        screen::tell(&strength_of(&password));
    }
    Ok(password)
}

/// Returns in a sentence how well a password withstands somebody who has the vault's files and guesses.
fn strength_of(password: &str) -> String {
    let estimate = zxcvbn(password, &[]);
    let judged = match estimate.score() {
        Score::Zero | Score::One => "This password is weak: whoever has the vault's files soon guesses it.",
        Score::Two => "This password is fair: whoever has the vault's files and much patience guesses it.",
        Score::Three => "This password is good: guessing it takes many machines and years.",
        _ => "This password is strong: guessing it takes longer than anybody has.",
    };
    match estimate.feedback().and_then(|feedback| feedback.warning()) {
        Some(warning) => format!("{judged} {}", Line::of(&warning.to_string())),
        None => judged.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_tells_how_strong_a_password_is() {
        for (password, word) in [
            ("password", "weak"),
            ("Charlotte1", "weak"),
            ("correct horse battery staple", "strong"),
            ("q8#Vz!r2Lw", "good"),
        ] {
            let told = strength_of(password);
            assert!(told.contains(word), "{password}: {told}");
        }
    }
}

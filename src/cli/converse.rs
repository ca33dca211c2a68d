//! Talking with a daemon until it has done what was asked, or failed.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::exit::CliError;
use super::progress::Progress;
use super::prompt;
use super::vault::password_from;
use crate::daemon::client::{self, Conversation};
use crate::daemon::protocol::{Event, FailureKind, MountStatus, Prompt, Request, Secret};

/// What a daemon answered.
pub(super) enum Answer {
    /// It did what was asked.
    Done,
    /// The mount point answers.
    Mounted { name: String, mountpoint: PathBuf },
    /// How things are.
    Status(Box<MountStatus>),
}

/// Asks, answers the questions that come back, shows progress unless `quiet`, and waits for the outcome.
pub(super) fn ask(
    conversation: &mut Conversation,
    request: &Request,
    quiet: bool,
) -> Result<Answer, CliError> {
    ask_with(conversation, request, quiet, None)
}

/// The same with a command of the user's that prints the password of a vault. It is run here: what the daemon runs for one who may talk to
/// it, any program could have run that may do less than the daemon.
pub(super) fn ask_with(
    conversation: &mut Conversation,
    request: &Request,
    quiet: bool,
    password_command: Option<&str>,
) -> Result<Answer, CliError> {
    conversation.say(request)?;
    let mut progress = Progress::new(quiet);
    loop {
        match conversation.hear()? {
            Some(Event::Progress(text)) => progress.tell(&text),
            Some(Event::Saving(left)) => progress.saving(left),
            Some(Event::Prompt(question)) => {
                progress.end_line();
                match (password_command, &question.vault) {
                    (Some(command), Some(vault)) => {
                        reply(conversation, &question, Ok(password_from(command, vault)?))?;
                    }
                    _ => answer(conversation, &question)?,
                }
            }
            Some(Event::Done) => return Ok(Answer::Done),
            Some(Event::Mounted { name, mountpoint }) => return Ok(Answer::Mounted { name, mountpoint }),
            Some(Event::Status(status)) => return Ok(Answer::Status(status)),
            Some(Event::Failed(failure)) => return Err(failure.into()),
            None => {
                let log = crate::config::paths::state();
                let text = format!(
                    "the mount's process hung up: it ended unexpectedly, or too many programs talk to it; its log is in {}",
                    log.display()
                );
                return Err(CliError::other(text));
            }
        }
    }
}

/// Asks a person what a daemon wants to know.
fn answer(conversation: &mut Conversation, question: &Prompt) -> std::io::Result<()> {
    reply(conversation, question, prompt::ask(&question.text, question.echo))
}

fn reply(
    conversation: &mut Conversation,
    question: &Prompt,
    answer: Result<Zeroizing<String>, String>,
) -> std::io::Result<()> {
    match conversation.say(&Request::Answer { id: question.id, answer: answer.map(Secret) }) {
        // It did not wait for the answer: why is heard next.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}

/// Shows what a daemon has to say, and answers what it asks, until it ends.
pub(super) fn until_the_end(conversation: &mut Conversation) {
    let mut progress = Progress::new(false);
    while let Ok(Some(event)) = conversation.hear() {
        match event {
            Event::Progress(text) => progress.tell(&text),
            Event::Saving(left) => progress.saving(left),
            Event::Prompt(question) => {
                progress.end_line();
                if answer(conversation, &question).is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// The mount that is meant: by its name or mount point, or the only one.
pub(super) fn find(named: Option<&str>) -> Result<(Conversation, MountStatus), CliError> {
    let mut all = all()?;
    let Some(named) = named else {
        return match all.len() {
            1 => all.pop().ok_or_else(|| CliError::other("nothing is mounted")),
            0 => Err(CliError::other("nothing is mounted")),
            _ => {
                let names: Vec<String> = all.into_iter().map(|(_, status)| status.name).collect();
                Err(CliError::usage(format!("there are several mounts, name one of: {}", names.join(", "))))
            }
        };
    };
    let path = std::path::absolute(named).ok();
    let path = path.map(|path| path.components().collect::<PathBuf>());
    all.into_iter()
        .find(|(_, status)| status.name == named || path.as_ref() == Some(&status.mountpoint))
        .ok_or_else(|| CliError::other(format!("{named} is not mounted; `scaup status` shows what is")))
}

/// All mounts that answer.
pub(super) fn all() -> Result<Vec<(Conversation, MountStatus)>, CliError> {
    let mut mounts = Vec::new();
    for name in client::names()? {
        let Ok(mut conversation) = Conversation::with(&name) else { continue };
        match ask(&mut conversation, &Request::Status, true) {
            Ok(Answer::Status(status)) => mounts.push((conversation, *status)),
            Ok(_) => {
                return Err(CliError::new(FailureKind::Other, "a mount's process answered something else"));
            }
            // Ending, or still connecting.
            Err(_) => {}
        }
    }
    Ok(mounts)
}

//! Talks with a daemon until it has carried out a request, or failed.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::answer::answer_of;
use super::error::CliError;
use super::progress::DaemonProgress;
use super::prompt;
use crate::config::settings::SecretCommand;
use crate::daemon::client::{self, Conversation, ConversationError};
use crate::daemon::protocol::{Event, MountStatus, Prompt, PromptKind, Request, Secret, UserQuestion};
use crate::daemon::vault_secret::RECOVERY_KEY_INSTEAD;

/// The reply of a daemon.
pub(super) enum DaemonReply {
    /// The request is done.
    Done,
    /// The mount is ready.
    Mounted { name: String, mountpoint: PathBuf },
}

/// Sends a request, answers the daemon's questions, shows progress unless `quiet`, and waits for the outcome.
pub(super) fn ask(
    conversation: &mut Conversation,
    request: &Request,
    quiet: bool,
) -> Result<DaemonReply, CliError> {
    ask_with(conversation, request, quiet, None)
}

/// Does the same with a user's command that prints what opens a vault. The command runs in this process: if the
/// daemon ran commands for its clients, a program with fewer rights than the daemon could have any command run.
pub(super) fn ask_with(
    conversation: &mut Conversation,
    request: &Request,
    quiet: bool,
    secret_command: Option<&SecretCommand>,
) -> Result<DaemonReply, CliError> {
    conversation.say(request)?;
    let mut progress = DaemonProgress::new(quiet);
    loop {
        match conversation.hear()? {
            Some(Event::Progress(text)) => progress.tell(&text),
            Some(Event::Saving(left)) => progress.saving(left),
            Some(Event::Prompt(question)) => {
                progress.clear();
                let UserQuestion { kind, text, destination, .. } = &question.question;
                match (secret_command, kind) {
                    (Some(SecretCommand::Password(command)), PromptKind::VaultPassword)
                    | (Some(SecretCommand::RecoveryKey(command)), PromptKind::RecoveryKey) => {
                        let answer = answer_of(command, text, destination)?;
                        reply(conversation, &question, Ok(answer))?;
                    }
                    (Some(SecretCommand::RecoveryKey(_)), PromptKind::VaultPassword) => {
                        let instead = Zeroizing::new(RECOVERY_KEY_INSTEAD.to_owned());
                        reply(conversation, &question, Ok(instead))?;
                    }
                    (Some(SecretCommand::Password(_)), PromptKind::RecoveryKey) => {
                        let reason = "a command prints the password, and none the recovery key".to_owned();
                        reply(conversation, &question, Err(reason))?;
                    }
                    _ => answer(conversation, &question)?,
                }
            }
            Some(Event::Done) => return Ok(DaemonReply::Done),
            Some(Event::Mounted { name, mountpoint }) => {
                return Ok(DaemonReply::Mounted { name, mountpoint });
            }
            Some(Event::Failed(failure)) => return Err(failure.into()),
            // The versions were exchanged before, and nobody asked for the status.
            Some(Event::Hello(_) | Event::Status(_) | Event::Which(_)) => {}
            None => {
                let log = crate::config::paths::state();
                let text = format!(
                    "the mount's process closed the connection: it ended unexpectedly, or too many programs are connected to it; its log is in {}",
                    log.display()
                );
                return Err(CliError::other(text));
            }
        }
    }
}

/// Asks a person a daemon's question.
fn answer(conversation: &mut Conversation, prompt: &Prompt) -> std::io::Result<()> {
    reply(conversation, prompt, prompt::ask(&prompt.question.text, prompt.question.echo))
}

fn reply(
    conversation: &mut Conversation,
    question: &Prompt,
    answer: Result<Zeroizing<String>, String>,
) -> std::io::Result<()> {
    match conversation.say(&Request::Answer { id: question.id, answer: answer.map(Secret) }) {
        // The daemon did not wait for the answer: its next event says why.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}

/// Shows a daemon's messages, and answers its questions, until it ends.
pub(super) fn until_the_end(conversation: &mut Conversation) {
    let mut progress = DaemonProgress::new(false);
    while let Ok(Some(event)) = conversation.hear() {
        match event {
            Event::Progress(text) => progress.tell(&text),
            Event::Saving(left) => progress.saving(left),
            Event::Prompt(question) => {
                progress.clear();
                if answer(conversation, &question).is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// All mounts.
pub(super) struct Mounts {
    /// Those that reply.
    pub(super) replying: Vec<(Conversation, MountStatus)>,
    /// Those whose daemons speak another version: the name, and the error that says so.
    pub(super) of_other_versions: Vec<(String, CliError)>,
}

/// Returns the mount that is meant: by its name or mount point, or the only one.
pub(super) fn find(named: Option<&str>) -> Result<(Conversation, MountStatus), CliError> {
    let Mounts { mut replying, of_other_versions } = all()?;
    let Some(named) = named else {
        let mut others = of_other_versions.into_iter();
        return match (replying.len(), others.len()) {
            (0, 1) => {
                Err(others.next().map_or_else(|| CliError::other("nothing is mounted"), |(_, why)| why))
            }
            (0 | 1, 0) => replying.pop().ok_or_else(|| CliError::other("nothing is mounted")),
            _ => {
                let names = replying.into_iter().map(|(_, status)| status.name);
                let names: Vec<String> = names.chain(others.map(|(name, _)| name)).collect();
                Err(CliError::usage(format!("there are several mounts; name one of: {}", names.join(", "))))
            }
        };
    };
    if let Some((_, error)) = of_other_versions.into_iter().find(|(name, _)| name == named) {
        return Err(error);
    }
    let path = std::path::absolute(named).ok();
    let path = path.map(|path| path.components().collect::<PathBuf>());
    replying
        .into_iter()
        .find(|(_, status)| status.name == named || path.as_ref() == Some(&status.mountpoint))
        .ok_or_else(|| CliError::other(format!("{named} is not mounted; `scaup status` shows what is")))
}

/// Returns all mounts.
pub(super) fn all() -> Result<Mounts, CliError> {
    let mut mounts = Mounts { replying: Vec::new(), of_other_versions: Vec::new() };
    for name in client::names()? {
        let mut conversation = match Conversation::with(&name) {
            Ok(conversation) => conversation,
            Err(ConversationError::Io(_)) => continue,
            Err(error) => {
                let error = CliError::other(format!("{name}: {error}"));
                mounts.of_other_versions.push((name, error));
                continue;
            }
        };
        // Others are ending, or still connecting.
        if let Ok(Some(status)) = conversation.status() {
            mounts.replying.push((conversation, status));
        }
    }
    Ok(mounts)
}

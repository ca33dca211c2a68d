//! Who answers a question: a command that the user named, else the person at the front end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{Cancelled, Interaction, Progress, Question};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::code_steps;
use super::link::Link;
use super::protocol::{Event, MountRequest};
use super::status::Activity;

/// How long a command may take to answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// Answers questions for one mount.
pub(super) struct Prompts {
    /// The front end that is attached: the first, or one that came to log in again.
    link: Mutex<Link>,
    passphrase_command: Option<String>,
    otp_command: Option<String>,
    vault_password_command: Option<String>,
    directory: PathBuf,
    last_code: Mutex<Option<Zeroizing<String>>>,
    activity: Arc<Activity>,
}

impl Prompts {
    pub(super) fn new(link: Link, request: &MountRequest, activity: Arc<Activity>) -> Self {
        Self {
            link: Mutex::new(link),
            passphrase_command: request.passphrase_command.clone(),
            otp_command: request.otp_command.clone(),
            vault_password_command: request.vault_password_command.clone(),
            directory: request.directory.clone(),
            last_code: Mutex::default(),
            activity,
        }
    }

    /// For a front end that came later, with a command of its own if it named one.
    pub(super) fn for_front_end(&self, link: Link, vault_password_command: Option<String>) -> Self {
        Self {
            link: Mutex::new(link),
            passphrase_command: self.passphrase_command.clone(),
            otp_command: self.otp_command.clone(),
            vault_password_command: vault_password_command.or_else(|| self.vault_password_command.clone()),
            directory: self.directory.clone(),
            last_code: Mutex::default(),
            activity: Arc::clone(&self.activity),
        }
    }

    /// From now on this front end is asked.
    pub(super) fn attach(&self, link: Link) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    fn link(&self) -> Link {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for the password of a vault; an error says why nobody gives one.
    pub(super) async fn vault_password(&self, path: &str) -> Result<Zeroizing<String>, String> {
        let text = format!("Password for vault {path}: ");
        match &self.vault_password_command {
            Some(command) => run(command, &self.directory, &text, Some(path)).await,
            None => self.person(text, false).await,
        }
    }

    /// Whether a vault password can be had without a person.
    pub(super) fn has_vault_password(&self) -> bool {
        self.vault_password_command.is_some()
    }

    async fn person(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String> {
        let _waiting = self.activity.waits_for_answer();
        let link = self.link();
        link.ask(text, echo).await
    }

    /// A one-time code from the user's command: never one that was sent before, by this process or by one before it.
    async fn code(&self, command: &str, destination: &str, text: &str) -> Result<Zeroizing<String>, String> {
        let last = self.last_code.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if last.is_none() && code_steps::was_used(destination, now()) {
            self.next_step().await;
        }
        let mut made = now();
        let mut code = run(command, &self.directory, text, None).await?;
        if last.is_some_and(|last| last == code) {
            self.next_step().await;
            made = now();
            let next = run(command, &self.directory, text, None).await?;
            if next == code {
                return Err("the command gives the code that was sent already".to_owned());
            }
            code = next;
        }
        code_steps::mark_used(destination, made);
        *self.last_code.lock().unwrap_or_else(PoisonError::into_inner) = Some(code.clone());
        Ok(code)
    }

    async fn next_step(&self) {
        self.link().tell(Event::Progress(
            "this half minute's code was sent already; waiting for the next".to_owned(),
        ));
        // A second more, for clocks that differ a little.
        tokio::time::sleep(code_steps::until_next(now()) + Duration::from_secs(1)).await;
    }
}

/// The time since 1970.
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[async_trait]
impl Interaction for Prompts {
    async fn ask(&self, question: Question) -> Result<Zeroizing<String>, Cancelled> {
        let text = question.text();
        let answer = match (&question, &self.passphrase_command, &self.otp_command) {
            (Question::Passphrase { .. }, Some(command), _) => {
                run(command, &self.directory, &text, None).await
            }
            // A server that asks for a password this way wants a person, not a code.
            (Question::Prompt { destination, prompt, .. }, _, Some(command))
                if !prompt.to_lowercase().contains("password") =>
            {
                self.code(command, destination, &text).await
            }
            (Question::UnknownHost { .. } | Question::Prompt { echo: true, .. }, ..) => {
                self.person(text, true).await
            }
            _ => self.person(text, false).await,
        };
        answer.map_err(Cancelled)
    }

    fn progress(&self, progress: Progress) {
        self.link().tell(Event::Progress(progress.to_string()));
    }
}

/// Runs a command of the user's; the first line of its output is the answer. An error says what went wrong, with the command's own
/// words.
pub(super) async fn run(
    command: &str,
    directory: &Path,
    prompt: &str,
    vault: Option<&str>,
) -> Result<Zeroizing<String>, String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("SCAUP_PROMPT", prompt);
    // One that is gone by now is none to run in.
    if directory.is_dir() {
        shell.current_dir(directory);
    }
    if let Some(vault) = vault {
        shell.env("SCAUP_VAULT", vault);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(COMMAND_TIMEOUT, shell.output()).await {
        Ok(output) => output.map_err(|error| format!("the command for it can't be run: {error}"))?,
        Err(_) => return Err(format!("the command for it took more than {} s", COMMAND_TIMEOUT.as_secs())),
    };
    let answer = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().lines().last().unwrap_or_default();
        let colon = if words.is_empty() { "" } else { ": " };
        return Err(format!("the command for it ended with {}{colon}{words}", output.status));
    }
    let text =
        std::str::from_utf8(&answer).map_err(|_| "the command for it does not print text".to_owned())?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

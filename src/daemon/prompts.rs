//! Who answers a question: a command that the user named, else the person at the front end.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{Cancelled, Interaction, Progress, Question};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::link::Link;
use super::protocol::{Event, MountRequest};
use super::status::Activity;

/// A one-time code is good for this long, and must not be sent twice in it.
const CODE_STEP: Duration = Duration::from_secs(30);

/// How long a command may take to answer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// Answers questions for one mount.
pub(super) struct Prompts {
    link: Link,
    passphrase_command: Option<String>,
    otp_command: Option<String>,
    vault_password_command: Option<String>,
    last_code: Mutex<Option<Zeroizing<String>>>,
    activity: Arc<Activity>,
}

impl Prompts {
    pub(super) fn new(link: Link, request: &MountRequest, activity: Arc<Activity>) -> Self {
        Self {
            link,
            passphrase_command: request.passphrase_command.clone(),
            otp_command: request.otp_command.clone(),
            vault_password_command: request.vault_password_command.clone(),
            last_code: Mutex::default(),
            activity,
        }
    }

    /// For a front end that came later, with a command of its own if it named one.
    pub(super) fn for_front_end(&self, link: Link, vault_password_command: Option<String>) -> Self {
        Self {
            link,
            passphrase_command: self.passphrase_command.clone(),
            otp_command: self.otp_command.clone(),
            vault_password_command: vault_password_command.or_else(|| self.vault_password_command.clone()),
            last_code: Mutex::default(),
            activity: Arc::clone(&self.activity),
        }
    }

    /// Asks for the password of a vault. `None` if nobody gives one.
    pub(super) async fn vault_password(&self, path: &str) -> Option<Zeroizing<String>> {
        let text = format!("Password for vault {path}: ");
        match &self.vault_password_command {
            Some(command) => run(command, &text, Some(path)).await,
            None => self.person(text, false).await,
        }
    }

    /// Whether a vault password can be had without a person.
    pub(super) fn has_vault_password(&self) -> bool {
        self.vault_password_command.is_some()
    }

    async fn person(&self, text: String, echo: bool) -> Option<Zeroizing<String>> {
        let _waiting = self.activity.waits_for_answer();
        self.link.ask(text, echo).await
    }

    /// A one-time code from the user's command: a new one each time, waited for if need be.
    async fn code(&self, command: &str, text: &str) -> Option<Zeroizing<String>> {
        let mut code = run(command, text, None).await?;
        let used = self.last_code.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if used.is_some_and(|used| used == code) {
            self.link.tell(Event::Progress("the code was used already; waiting for the next one".to_owned()));
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let into_step = Duration::from_secs(now.as_secs() % CODE_STEP.as_secs());
            tokio::time::sleep(CODE_STEP.saturating_sub(into_step) + Duration::from_secs(1)).await;
            let next = run(command, text, None).await?;
            if next == code {
                return None;
            }
            code = next;
        }
        *self.last_code.lock().unwrap_or_else(PoisonError::into_inner) = Some(code.clone());
        Some(code)
    }
}

#[async_trait]
impl Interaction for Prompts {
    async fn ask(&self, question: Question) -> Result<Zeroizing<String>, Cancelled> {
        let text = question.text();
        let answer = match (&question, &self.passphrase_command, &self.otp_command) {
            (Question::Passphrase { .. }, Some(command), _) => run(command, &text, None).await,
            // A server that asks for a password this way wants a person, not a code.
            (Question::Prompt { prompt, .. }, _, Some(command))
                if !prompt.to_lowercase().contains("password") =>
            {
                self.code(command, &text).await
            }
            (Question::UnknownHost { .. } | Question::Prompt { echo: true, .. }, ..) => {
                self.person(text, true).await
            }
            _ => self.person(text, false).await,
        };
        answer.ok_or(Cancelled)
    }

    fn progress(&self, progress: Progress) {
        self.link.tell(Event::Progress(progress.to_string()));
    }
}

/// Runs a command of the user's; the first line of its output is the answer.
pub(super) async fn run(command: &str, prompt: &str, vault: Option<&str>) -> Option<Zeroizing<String>> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("SCAUP_PROMPT", prompt);
    if let Some(vault) = vault {
        shell.env("SCAUP_VAULT", vault);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(COMMAND_TIMEOUT, shell.output()).await {
        Ok(Ok(output)) if output.status.success() => Zeroizing::new(output.stdout),
        Ok(Ok(output)) => {
            tracing::warn!(status = %output.status, "a command for an answer failed");
            return None;
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "a command for an answer could not be run");
            return None;
        }
        Err(_) => {
            tracing::warn!("a command for an answer took too long");
            return None;
        }
    };
    let text = std::str::from_utf8(&output).ok()?;
    Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

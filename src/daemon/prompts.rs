//! How a daemon reaches who answers: commands that the user named, the person at the front end that is attached, and whoever sits before the
//! `SSH_ASKPASS` program of the session that the mount was made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::answers::{AnswerCommand, Askpass, BATCH_MODE};
use super::asking::People;
use super::link::Link;
use super::protocol::{Event, MountRequest};
use super::status::Activity;

/// How long a command may take while no front end is attached. While one is, a person may be typing, or can end the command.
const UNATTENDED: Duration = Duration::from_secs(120);

/// Answers questions for one mount.
pub(super) struct Prompts {
    /// The front end that is attached: the first, or one that came to log in again.
    link: watch::Sender<Link>,
    askpass: Option<Askpass>,
    /// No person is to be asked.
    batch_mode: bool,
    vault_password_command: Option<String>,
    directory: PathBuf,
    /// How long a command may take while no front end is attached.
    unattended: Duration,
    activity: Arc<Activity>,
}

impl Prompts {
    pub(super) fn new(link: Link, request: &MountRequest, batch_mode: bool, activity: Arc<Activity>) -> Self {
        Self {
            link: watch::Sender::new(link),
            askpass: Askpass::from_environment(),
            batch_mode,
            vault_password_command: request.vault_password_command.clone(),
            directory: request.directory.clone(),
            unattended: UNATTENDED,
            activity,
        }
    }

    /// For a front end that came later, with a command of its own if it named one.
    pub(super) fn for_front_end(&self, link: Link, vault_password_command: Option<String>) -> Self {
        Self {
            link: watch::Sender::new(link),
            askpass: self.askpass.clone(),
            batch_mode: self.batch_mode,
            vault_password_command: vault_password_command.or_else(|| self.vault_password_command.clone()),
            directory: self.directory.clone(),
            // What was asked for it alone ends with it.
            unattended: Duration::ZERO,
            activity: Arc::clone(&self.activity),
        }
    }

    /// For the logins of a mount: this front end's first one, and those that the daemon makes later.
    pub(super) fn for_logins(&self, link: Link) -> Self {
        Self { unattended: UNATTENDED, ..self.for_front_end(link, None) }
    }

    /// From now on this front end is asked.
    pub(super) fn attach(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Asks for the password of a vault; an error says why nobody gives one.
    pub(super) async fn vault_password(&self, path: &str) -> Result<Zeroizing<String>, String> {
        let text = format!("Password for vault {path}: ");
        match &self.vault_password_command {
            Some(command) => self.command(command, &text, Some(path)).await,
            None => self.person(text, false).await,
        }
    }

    /// Whether a vault password can be had without a person.
    pub(super) fn has_vault_password(&self) -> bool {
        self.vault_password_command.is_some()
    }

    /// An answer from a command, which may ask a person itself: it has all the time in the world while a front end is attached.
    async fn command(
        &self,
        command: &str,
        text: &str,
        vault: Option<&str>,
    ) -> Result<Zeroizing<String>, String> {
        let _waiting =
            self.activity.waits_for(format!("waiting for the command that answers: {}", text.trim_end()));
        let command = AnswerCommand { command, directory: &self.directory, prompt: text, vault };
        tokio::select! {
            answer = command.run() => answer,
            () = self.left_alone() => Err(format!(
                "the command for it took more than {} s, and nobody is there who waits for it",
                self.unattended.as_secs()
            )),
        }
    }

    /// Waits until no front end was attached for as long as a command may take then.
    async fn left_alone(&self) {
        let mut links = self.link.subscribe();
        loop {
            let link = links.borrow_and_update().clone();
            link.gone().await;
            tokio::select! {
                () = tokio::time::sleep(self.unattended) => return,
                // Another came.
                _ = links.changed() => {}
            }
        }
    }

    async fn person(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String> {
        if self.batch_mode {
            return Err(BATCH_MODE.to_owned());
        }
        let _waiting = self.activity.waits_for_answer(&text);
        let mut links = self.link.subscribe();
        loop {
            let link = links.borrow_and_update().clone();
            if !link.is_gone() {
                return link.ask(text, echo).await;
            }
            let Some(askpass) = &self.askpass else {
                return Err("nobody is there to be asked".to_owned());
            };
            tokio::select! {
                answer = askpass.ask(&text) => return answer,
                // A front end that comes takes the question over.
                _ = links.changed() => {}
            }
        }
    }
}

#[async_trait]
impl People for Prompts {
    async fn by_command(&self, command: &str, text: &str) -> Result<Zeroizing<String>, String> {
        self.command(command, text, None).await
    }

    async fn by_person(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String> {
        self.person(text, echo).await
    }

    fn tell(&self, text: String) {
        self.link.borrow().tell(Event::Progress(text));
    }

    async fn pause(&self, why: String, time: Duration) {
        let _shown = self.activity.waits_for(why);
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::UnixStream;

    use super::*;

    /// The answers of a daemon to whose front end `link` leads.
    fn prompts(link: Link) -> Prompts {
        Prompts {
            link: watch::Sender::new(link),
            askpass: None,
            batch_mode: false,
            vault_password_command: None,
            directory: PathBuf::from("/"),
            unattended: UNATTENDED,
            activity: Activity::new(),
        }
    }

    // The clock stands still, and jumps ahead to what is waited for as soon as nothing else is to be done: any limit is over at once.
    #[tokio::test(start_paused = true)]
    async fn a_command_is_given_up_only_if_no_front_end_is_attached() {
        let (front_end, stream) = UnixStream::pair().unwrap();
        let (link, _requests) = Link::start(stream);
        let prompts = prompts(link);
        let question = "Verification code: ";
        let answer = prompts.command("sleep 0.3; echo typed", question, None).await;
        assert_eq!(answer.unwrap().as_str(), "typed");

        drop(front_end);
        let reason = prompts.command("exec sleep 1000", question, None).await.unwrap_err();
        assert!(reason.contains("more than 120 s"), "{reason}");

        let (_front_end, stream) = UnixStream::pair().unwrap();
        let (link, _requests) = Link::start(stream);
        prompts.attach(link);
        let answer = prompts.command("sleep 0.3; echo typed", question, None).await;
        assert_eq!(answer.unwrap().as_str(), "typed");
    }
}

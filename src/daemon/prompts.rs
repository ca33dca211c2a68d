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
use super::protocol::{Event, LOGIN_HAS_ENDED, MountRequest, password_question};
use super::status::Activity;
use crate::config::target::Target;

/// How long a command may take while no front end is attached. While one is, a person may be typing, or can end the command.
const UNATTENDED: Duration = Duration::from_secs(120);

/// A front end that is asked as long as this lives, unless another is attached meanwhile.
#[must_use]
pub(super) struct Attached<'a> {
    prompts: &'a Prompts,
    link: Link,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let Prompts { link, first, .. } = self.prompts;
        link.send_if_modified(|attached| {
            let is_own = attached.is_same(&self.link);
            if is_own {
                attached.clone_from(first);
            }
            is_own
        });
    }
}

/// Answers questions for one mount.
pub(super) struct Prompts {
    /// The front end that is attached: the first, or one that came to log in again.
    link: watch::Sender<Link>,
    /// The front end that is asked while no other is attached.
    first: Link,
    askpass: Option<Askpass>,
    /// No person is to be asked.
    batch_mode: bool,
    vault_password_command: Option<String>,
    directory: PathBuf,
    /// Whether there is a server, which a question of Scaup's own must not be taken for.
    is_logged_in: bool,
    /// How long a command may take while no front end is attached.
    unattended: Duration,
    activity: Arc<Activity>,
}

impl Prompts {
    pub(super) fn new(link: Link, request: &MountRequest, batch_mode: bool, activity: Arc<Activity>) -> Self {
        Self {
            link: watch::Sender::new(link.clone()),
            first: link,
            askpass: Askpass::from_environment(),
            batch_mode,
            vault_password_command: request.vault_password_command.clone(),
            directory: request.directory.clone(),
            is_logged_in: matches!(request.target, Target::Server(_)),
            unattended: UNATTENDED,
            activity,
        }
    }

    /// For a vault that a front end which came later wants to be unlocked. It is asked itself if it wants to be, or the mount has no command
    /// for that.
    pub(super) fn for_front_end(&self, link: Link, is_asked: bool) -> Self {
        Self {
            link: watch::Sender::new(link.clone()),
            first: link,
            is_logged_in: self.is_logged_in,
            // What was asked for it alone ends with it.
            askpass: None,
            unattended: Duration::ZERO,
            batch_mode: self.batch_mode,
            vault_password_command: self.vault_password_command.clone().filter(|_| !is_asked),
            directory: self.directory.clone(),
            // The mount itself waits for nobody meanwhile.
            activity: Activity::new(),
        }
    }

    /// For the logins of a mount: this front end's first one, and those that the daemon makes later.
    pub(super) fn for_logins(&self, link: Link) -> Self {
        Self {
            askpass: self.askpass.clone(),
            unattended: UNATTENDED,
            activity: Arc::clone(&self.activity),
            ..self.for_front_end(link, false)
        }
    }

    /// From now on this front end is asked, and what another one did not answer yet, until the result is dropped.
    pub(super) fn attach(&self, link: Link) -> Attached<'_> {
        self.link.send_replace(link.clone());
        Attached { prompts: self, link }
    }

    /// Asks for the password of a vault; an error says why nobody gives one.
    pub(super) async fn vault_password(&self, path: &str) -> Result<Zeroizing<String>, String> {
        let text = password_question(path);
        match &self.vault_password_command {
            Some(command) => self.command(command, &text, Some(path)).await,
            None => {
                if self.is_logged_in {
                    self.tell(LOGIN_HAS_ENDED.to_owned());
                }
                self.person(text, false, Some(path)).await
            }
        }
    }

    /// Asks a person whether something is right.
    pub(super) async fn confirm(&self, text: String) -> Result<Zeroizing<String>, String> {
        self.person(text, true, None).await
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

    async fn person(
        &self,
        text: String,
        echo: bool,
        vault: Option<&str>,
    ) -> Result<Zeroizing<String>, String> {
        if self.batch_mode {
            return Err(BATCH_MODE.to_owned());
        }
        let _waiting = self.activity.waits_for_answer(&text);
        let mut links = self.link.subscribe();
        loop {
            let link = links.borrow_and_update().clone();
            if !link.is_gone() {
                tokio::select! {
                    answer = link.ask(text.clone(), echo, vault.map(str::to_owned)) => return answer,
                    // A front end that never answers must not keep the question from one that comes to answer it.
                    _ = links.changed() => continue,
                }
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
        self.person(text, echo, None).await
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
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixStream;

    use super::super::protocol::REQUEST_LEN_MAX;
    use super::*;

    /// The answers of a daemon to whose front end `link` leads.
    fn prompts(link: Link) -> Prompts {
        Prompts {
            link: watch::Sender::new(link.clone()),
            first: link,
            askpass: None,
            batch_mode: false,
            vault_password_command: None,
            directory: PathBuf::from("/"),
            is_logged_in: true,
            unattended: UNATTENDED,
            activity: Activity::new(),
        }
    }

    // The clock stands still, and jumps ahead to what is waited for as soon as nothing else is to be done: any limit is over at once.
    #[tokio::test(start_paused = true)]
    async fn a_command_is_given_up_only_if_no_front_end_is_attached() {
        let (front_end, stream) = UnixStream::pair().unwrap();
        let (link, _requests) = Link::start(stream, REQUEST_LEN_MAX);
        let prompts = prompts(link);
        let question = "Verification code: ";
        let answer = prompts.command("sleep 0.3; echo typed", question, None).await;
        assert_eq!(answer.unwrap().as_str(), "typed");

        drop(front_end);
        let reason = prompts.command("exec sleep 1000", question, None).await.unwrap_err();
        assert!(reason.contains("more than 120 s"), "{reason}");

        let (_front_end, stream) = UnixStream::pair().unwrap();
        let (link, _requests) = Link::start(stream, REQUEST_LEN_MAX);
        let _attached = prompts.attach(link);
        let answer = prompts.command("sleep 0.3; echo typed", question, None).await;
        assert_eq!(answer.unwrap().as_str(), "typed");
    }

    /// Waits until a front end is asked; the number of the question.
    async fn asked(front_end: &mut BufReader<UnixStream>) -> u64 {
        let mut line = String::new();
        let heard = tokio::time::timeout(Duration::from_secs(20), front_end.read_line(&mut line)).await;
        heard.expect("it is asked").unwrap();
        match serde_json::from_str(&line).unwrap() {
            Event::Prompt(prompt) => prompt.id,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_front_end_that_never_answers_holds_no_question_back() {
        let (first, stream) = UnixStream::pair().unwrap();
        let (link, _first_requests) = Link::start(stream, REQUEST_LEN_MAX);
        let prompts = Arc::new(prompts(link));
        let mut first = BufReader::new(first);
        let ask = || {
            let prompts = Arc::clone(&prompts);
            tokio::spawn(async move { prompts.person("Code: ".to_owned(), false, None).await })
        };
        let question = ask();
        asked(&mut first).await;

        // One that comes is asked instead, and as long as it is attached.
        let (later, stream) = UnixStream::pair().unwrap();
        let (link, _later_requests) = Link::start(stream, REQUEST_LEN_MAX);
        let attached = prompts.attach(link);
        let mut later = BufReader::new(later);
        let id = asked(&mut later).await;
        let answer = serde_json::json!({ "Answer": { "id": id, "answer": { "Ok": "typed" } } });
        later.get_mut().write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        assert_eq!(question.await.unwrap().unwrap().as_str(), "typed");
        let question = ask();
        asked(&mut later).await;

        // It stays, but what it came for is over.
        drop(attached);
        asked(&mut first).await;
        drop(first);
        question.await.unwrap().unwrap_err();
    }
}

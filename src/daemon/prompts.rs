//! How a daemon gets answers: from commands given by the user, from the person at the attached front end, and from the
//! person before the `SSH_ASKPASS` program of the session that the mount was made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::answer_programs::{AnswerCommand, Askpass, BATCH_MODE};
use super::front_end::FrontEnd;
use super::people::People;
use super::protocol::{Event, LOGIN_HAS_ENDED, MountRequest, PromptKind, UserQuestion};
use super::status::Activity;
use super::vault_secret::{NoSecret, OpenedBy, ask_person};
use crate::config::settings::SecretCommand;
use crate::config::target::Target;
use crate::vault::VaultSecret;

/// How long a command may take while no front end is attached. While one is attached, a person may be typing, or can
/// end the command.
const UNATTENDED: Duration = Duration::from_secs(120);

/// A front end that is asked as long as this value lives, unless another is attached meanwhile.
#[must_use]
pub(super) struct Attached<'a> {
    prompts: &'a Prompts,
    front_end: FrontEnd,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let Prompts { front_end, first, .. } = self.prompts;
        front_end.send_if_modified(|attached| {
            let is_own = attached.is_same(&self.front_end);
            if is_own {
                attached.clone_from(first);
            }
            is_own
        });
    }
}

/// Answers questions for one mount.
pub(super) struct Prompts {
    /// The attached front end: the first, or one that came to log in again.
    front_end: watch::Sender<FrontEnd>,
    /// The front end that is asked while no other is attached.
    first: FrontEnd,
    /// Whether a person waits at the first front end for what is being done. They do not any more when the mount is
    /// made: it may reconnect at night.
    is_first_attended: AtomicBool,
    askpass: Option<Askpass>,
    /// Whether no person may be asked.
    batch_mode: bool,
    /// The command that prints what opens a vault.
    secret_command: Option<SecretCommand>,
    directory: PathBuf,
    /// Whether there is a server: then Scaup's own questions must not look like the server's.
    is_logged_in: bool,
    /// How long a command may take while no front end is attached.
    unattended: Duration,
    activity: Arc<Activity>,
}

impl Prompts {
    pub(super) fn new(
        front_end: FrontEnd,
        request: &MountRequest,
        batch_mode: bool,
        activity: Arc<Activity>,
    ) -> Self {
        Self {
            front_end: watch::Sender::new(front_end.clone()),
            first: front_end,
            is_first_attended: AtomicBool::new(request.interactive),
            askpass: Askpass::from_environment(),
            batch_mode,
            secret_command: request.settings.secret_command(),
            directory: request.login.directory.clone(),
            is_logged_in: matches!(request.login.target, Target::Server(_)),
            unattended: UNATTENDED,
            activity,
        }
    }

    /// Returns the prompts for a later front end that wants a vault unlocked. That front end itself is asked if it
    /// wants to be, or the mount has no command for that.
    pub(super) fn for_front_end(&self, front_end: FrontEnd, is_asked: bool) -> Self {
        Self {
            front_end: watch::Sender::new(front_end.clone()),
            first: front_end,
            is_first_attended: AtomicBool::new(true),
            is_logged_in: self.is_logged_in,
            // A question for this front end alone ends with it.
            askpass: None,
            unattended: Duration::ZERO,
            batch_mode: self.batch_mode,
            secret_command: self.secret_command.clone().filter(|_| !is_asked),
            directory: self.directory.clone(),
            // The mount itself waits for nobody meanwhile.
            activity: Activity::new(),
        }
    }

    /// Returns the prompts for the logins of a mount: this front end's first one, and those that the daemon makes
    /// later.
    pub(super) fn for_logins(&self, front_end: FrontEnd) -> Self {
        Self {
            is_first_attended: AtomicBool::new(self.is_first_attended.load(Ordering::Relaxed)),
            askpass: self.askpass.clone(),
            unattended: UNATTENDED,
            activity: Arc::clone(&self.activity),
            ..self.for_front_end(front_end, false)
        }
    }

    /// Takes in that the mount is made: nobody waits at the first front end any more.
    pub(super) fn end_mounting(&self) {
        self.is_first_attended.store(false, Ordering::Relaxed);
    }

    /// Asks this front end from now on, also for answers that another one still owes, until the result is dropped.
    pub(super) fn attach(&self, front_end: FrontEnd) -> Attached<'_> {
        self.front_end.send_replace(front_end.clone());
        Attached { prompts: self, front_end }
    }

    /// Asks the command, or a person the `attempt`th time, what opens a vault.
    pub(super) async fn vault_secret(
        &self,
        path: &str,
        opened_by: OpenedBy,
        attempt: u32,
    ) -> Result<VaultSecret, NoSecret> {
        match &self.secret_command {
            Some(command) => {
                let (opened_by, command) = OpenedBy::of(command);
                let answer = self.command(command, &opened_by.question(path), Some(path)).await;
                opened_by.secret_of(&answer.map_err(NoSecret::NotGiven)?)
            }
            None => {
                if self.is_logged_in {
                    self.tell(LOGIN_HAS_ENDED.to_owned());
                }
                ask_person(opened_by, path, attempt, &|question| Box::pin(self.person(question))).await
            }
        }
    }

    /// Asks a person to confirm something about a vault.
    pub(super) async fn confirm(&self, path: &str, text: String) -> Result<Zeroizing<String>, String> {
        let (kind, destination) = (PromptKind::Other, path.to_owned());
        self.person(UserQuestion { kind, destination, attempt: 1, text, echo: true }).await
    }

    /// Returns whether what opens a vault is available without a person.
    pub(super) fn has_secret_command(&self) -> bool {
        self.secret_command.is_some()
    }

    /// Returns whether recovery keys of vaults are available without a person.
    pub(super) fn has_recovery_key(&self) -> bool {
        matches!(self.secret_command, Some(SecretCommand::RecoveryKey(_)))
    }

    /// Returns the answer of a command, which may ask a person itself: its time is unlimited while a front end is
    /// attached.
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
                "the command took more than {} s, and no program waits for it",
                self.unattended.as_secs()
            )),
        }
    }

    /// Waits until no front end has been attached for as long as a command may take then.
    async fn left_alone(&self) {
        let mut front_ends = self.front_end.subscribe();
        loop {
            let front_end = front_ends.borrow_and_update().clone();
            front_end.gone().await;
            tokio::select! {
                () = tokio::time::sleep(self.unattended) => return,
                // Another front end came.
                _ = front_ends.changed() => {}
            }
        }
    }

    async fn person(&self, question: UserQuestion) -> Result<Zeroizing<String>, String> {
        if self.batch_mode {
            return Err(BATCH_MODE.to_owned());
        }
        let _waiting = self.activity.waits_for_answer(&question.text);
        let mut front_ends = self.front_end.subscribe();
        loop {
            let front_end = front_ends.borrow_and_update().clone();
            if !front_end.is_gone() {
                tokio::select! {
                    answer = front_end.ask(question.clone()) => return answer,
                    // A front end that never answers must not keep the question from a later one that would answer it.
                    _ = front_ends.changed() => continue,
                }
            }
            let Some(askpass) = &self.askpass else {
                return Err("nobody can be asked".to_owned());
            };
            tokio::select! {
                answer = askpass.ask(&question.text) => return answer,
                // A front end that comes takes the question over.
                _ = front_ends.changed() => {}
            }
        }
    }
}

#[async_trait]
impl People for Prompts {
    async fn by_command(&self, command: &str, text: &str) -> Result<Zeroizing<String>, String> {
        self.command(command, text, None).await
    }

    async fn by_person(&self, question: UserQuestion) -> Result<Zeroizing<String>, String> {
        self.person(question).await
    }

    fn is_attended(&self) -> bool {
        let front_end = self.front_end.borrow();
        let is_waited_at = !front_end.is_same(&self.first) || self.is_first_attended.load(Ordering::Relaxed);
        !self.batch_mode && !front_end.is_gone() && is_waited_at
    }

    fn tell(&self, text: String) {
        self.front_end.borrow().tell(Event::Progress(text));
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

    use super::super::protocol::{REQUEST_LEN_MAX, Version};
    use super::*;

    /// Returns the prompts of a daemon with this front end.
    fn prompts(front_end: FrontEnd) -> Prompts {
        Prompts {
            front_end: watch::Sender::new(front_end.clone()),
            first: front_end,
            is_first_attended: AtomicBool::new(true),
            askpass: None,
            batch_mode: false,
            secret_command: None,
            directory: PathBuf::from("/"),
            is_logged_in: true,
            unattended: UNATTENDED,
            activity: Activity::new(),
        }
    }

    // The clock is paused, and jumps ahead to the next timer as soon as nothing else is to be done: any limit is over
    // at once.
    #[tokio::test(start_paused = true)]
    async fn a_command_is_given_up_only_if_no_front_end_is_attached() {
        let (program, stream) = UnixStream::pair().unwrap();
        let (front_end, _requests) = FrontEnd::start(stream, REQUEST_LEN_MAX);
        let prompts = prompts(front_end);
        let question = "Verification code: ";
        let answer = prompts.command("sleep 0.3; echo typed", question, None).await;
        assert_eq!(answer.unwrap().as_str(), "typed");

        drop(program);
        let reason = prompts.command("exec sleep 1000", question, None).await.unwrap_err();
        assert!(reason.contains("more than 120 s"), "{reason}");

        let (_program, stream) = UnixStream::pair().unwrap();
        let (front_end, _requests) = FrontEnd::start(stream, REQUEST_LEN_MAX);
        let _attached = prompts.attach(front_end);
        let answer = prompts.command("sleep 0.3; echo typed", question, None).await;
        assert_eq!(answer.unwrap().as_str(), "typed");
    }

    /// Waits until a front end is asked; returns the number of the question.
    async fn asked(front_end: &mut BufReader<UnixStream>) -> u64 {
        loop {
            let mut line = String::new();
            let heard = tokio::time::timeout(Duration::from_secs(20), front_end.read_line(&mut line)).await;
            heard.expect("it is asked").unwrap();
            match serde_json::from_str(&line).unwrap() {
                Event::Prompt(prompt) => return prompt.id,
                Event::Hello(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_front_end_that_never_answers_holds_no_question_back() {
        let (first, stream) = UnixStream::pair().unwrap();
        let (front_end, _first_requests) = FrontEnd::start(stream, REQUEST_LEN_MAX);
        let prompts = Arc::new(prompts(front_end));
        let mut first = BufReader::new(first);
        let ask = || {
            let prompts = Arc::clone(&prompts);
            let (destination, text) = ("alice@hq".to_owned(), "Code: ".to_owned());
            let question =
                UserQuestion { kind: PromptKind::Code, destination, attempt: 1, text, echo: false };
            tokio::spawn(async move { prompts.person(question).await })
        };
        let question = ask();
        asked(&mut first).await;

        // A later front end is asked instead, as long as it is attached.
        let (later, stream) = UnixStream::pair().unwrap();
        let (front_end, _later_requests) = FrontEnd::start(stream, REQUEST_LEN_MAX);
        let attached = prompts.attach(front_end);
        let mut later = BufReader::new(later);
        let hello = serde_json::json!({ "Hello": Version::OWN });
        later.get_mut().write_all(format!("{hello}\n").as_bytes()).await.unwrap();
        let id = asked(&mut later).await;
        let answer = serde_json::json!({ "Answer": { "id": id, "answer": { "Ok": "typed" } } });
        later.get_mut().write_all(format!("{answer}\n").as_bytes()).await.unwrap();
        assert_eq!(question.await.unwrap().unwrap().as_str(), "typed");
        let question = ask();
        asked(&mut later).await;

        // The front end stays, but the login it came for is over.
        drop(attached);
        asked(&mut first).await;
        drop(first);
        question.await.unwrap().unwrap_err();
    }
}

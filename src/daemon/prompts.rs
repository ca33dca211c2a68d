//! Who answers a question: a command that the user named, else the person at the front end that is attached, else whoever sits before the
//! `SSH_ASKPASS` program of the session that the mount was made from.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{Cancelled, Credential, Interaction, Progress, Question};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::answers::{AnswerCommand, Askpass, BATCH_MODE};
use super::code_steps;
use super::link::Link;
use super::protocol::{Event, LOGIN_HAS_ENDED, MountRequest, password_question};
use super::status::Activity;
use crate::config::target::Target;

/// How often the same code may be typed, before it is given up to ask.
const SAME_CODES_MAX: u32 = 3;

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
    passphrase_command: Option<String>,
    otp_command: Option<String>,
    vault_password_command: Option<String>,
    directory: PathBuf,
    /// Whether there is a server, which a question of Scaup's own must not be taken for.
    is_logged_in: bool,
    /// How long a command may take while no front end is attached.
    unattended: Duration,
    /// The last code that a command gave, which was sent.
    last_code: Mutex<Option<Zeroizing<String>>>,
    /// The last code that was typed, unless the server said that it is wrong.
    typed_code: Mutex<Option<Zeroizing<String>>>,
    activity: Arc<Activity>,
}

impl Prompts {
    pub(super) fn new(link: Link, request: &MountRequest, batch_mode: bool, activity: Arc<Activity>) -> Self {
        Self {
            link: watch::Sender::new(link.clone()),
            first: link,
            askpass: Askpass::from_environment(),
            batch_mode,
            passphrase_command: request.passphrase_command.clone(),
            otp_command: request.otp_command.clone(),
            vault_password_command: request.vault_password_command.clone(),
            directory: request.directory.clone(),
            is_logged_in: matches!(request.target, Target::Server(_)),
            unattended: UNATTENDED,
            last_code: Mutex::default(),
            typed_code: Mutex::default(),
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
            passphrase_command: None,
            otp_command: None,
            vault_password_command: self.vault_password_command.clone().filter(|_| !is_asked),
            directory: self.directory.clone(),
            last_code: Mutex::default(),
            typed_code: Mutex::default(),
            // The mount itself waits for nobody meanwhile.
            activity: Activity::new(),
        }
    }

    /// For the logins of a mount: this front end's first one, and those that the daemon makes later.
    pub(super) fn for_logins(&self, link: Link) -> Self {
        Self {
            askpass: self.askpass.clone(),
            unattended: UNATTENDED,
            passphrase_command: self.passphrase_command.clone(),
            otp_command: self.otp_command.clone(),
            activity: Arc::clone(&self.activity),
            ..self.for_front_end(link, false)
        }
    }

    /// From now on this front end is asked, and what another one did not answer yet, until the result is dropped.
    pub(super) fn attach(&self, link: Link) -> Attached<'_> {
        self.link.send_replace(link.clone());
        Attached { prompts: self, link }
    }

    fn tell(&self, progress: String) {
        self.link.borrow().tell(Event::Progress(progress));
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

    /// An answer to the server's own question, typed by a person. A code that was typed before is not sent once more.
    async fn typed(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String> {
        for _ in 0..SAME_CODES_MAX {
            let answer = self.person(text.clone(), echo, None).await?;
            if !looks_like_code(&answer) {
                return Ok(answer);
            }
            let is_same = self.typed_code().replace(answer.clone()).is_some_and(|last| last == answer);
            if !is_same {
                return Ok(answer);
            }
            self.next_step().await;
        }
        Err("the code that was sent already was typed again and again".to_owned())
    }

    fn typed_code(&self) -> std::sync::MutexGuard<'_, Option<Zeroizing<String>>> {
        self.typed_code.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A one-time code from the user's command: never one that was sent before, by this process or by one before it.
    async fn code(&self, command: &str, destination: &str, text: &str) -> Result<Zeroizing<String>, String> {
        let last = self.last_code.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if last.is_none() && code_steps::was_used(destination, now()) {
            self.next_step().await;
        }
        let mut made = now();
        let mut code = self.command(command, text, None).await?;
        if last.is_some_and(|last| last == code) {
            self.next_step().await;
            made = now();
            let next = self.command(command, text, None).await?;
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
        let shown = |left: Duration| {
            let seconds = left.as_secs_f64().ceil();
            format!(
                "this half minute's code was sent already; waiting for the next, which comes in {seconds} s"
            )
        };
        // A second more, for clocks that differ a little.
        let end = tokio::time::Instant::now() + code_steps::until_next(now()) + Duration::from_secs(1);
        let left = || end.saturating_duration_since(tokio::time::Instant::now());
        self.tell(shown(left()));
        while !left().is_zero() {
            let _shown = self.activity.waits_for(shown(left()));
            tokio::time::sleep(left().min(Duration::from_secs(1))).await;
        }
    }
}

/// Whether an answer is a one-time code (RFC 4226, section 5.3: six to eight digits), which a server takes only once.
fn looks_like_code(answer: &str) -> bool {
    (6..=8).contains(&answer.len()) && answer.bytes().all(|byte| byte.is_ascii_digit())
}

/// The time since 1970.
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[async_trait]
impl Interaction for Prompts {
    async fn ask(&self, question: Question) -> Result<Zeroizing<String>, Cancelled> {
        let text = question.text();
        let is_code = question.credential() == Some(Credential::Code);
        let answer = match (&question, &self.passphrase_command, &self.otp_command) {
            (Question::Passphrase { .. }, Some(command), _) => self.command(command, &text, None).await,
            (Question::Prompt { destination, echo, .. }, _, command) if is_code => match command {
                Some(command) => self.code(command, destination, &text).await,
                None => self.typed(text, *echo).await,
            },
            // A server that asks for a password this way wants a person, not a code.
            (Question::Prompt { echo, .. }, ..) => self.person(text, *echo, None).await,
            (Question::UnknownHost { .. }, ..) => self.person(text, true, None).await,
            _ => self.person(text, false, None).await,
        };
        answer.map_err(Cancelled)
    }

    fn progress(&self, progress: Progress) {
        if matches!(&progress, Progress::Wrong(what) if what.contains(&Credential::Code)) {
            *self.typed_code() = None;
        }
        self.tell(progress.to_string());
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
            passphrase_command: None,
            otp_command: None,
            vault_password_command: None,
            directory: PathBuf::from("/"),
            is_logged_in: true,
            unattended: UNATTENDED,
            last_code: Mutex::default(),
            typed_code: Mutex::default(),
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

//! Who answers the questions of a login: a command that the user named for what is asked, else a person. Whoever gives a one-time code, and
//! whichever command of Scaup logs in, it passes here, and is sent once.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{Cancelled, Credential, Interaction, Progress, Question};
use zeroize::Zeroizing;

use super::codes::{self, CodeLedger};
use super::protocol::MountRequest;
use crate::remote::sftp::Allowance;

/// How often a command may give a code that was sent already.
const BY_COMMAND_MAX: u32 = 2;

/// How often a person may: what they read a code from may go after another clock.
const BY_PERSON_MAX: u32 = 3;

/// The ways to reach those who answer.
#[async_trait]
pub(super) trait People: Send + Sync {
    /// The answer that a command of the user's gives.
    async fn by_command(&self, command: &str, text: &str) -> Result<Zeroizing<String>, String>;
    /// The answer that a person gives.
    async fn by_person(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String>;
    /// Tells.
    fn tell(&self, text: String);
    /// Waits, and shows why to whoever asks.
    async fn pause(&self, why: String, time: Duration);
}

/// What a server's prompt asks for, as far as codes go.
#[derive(Clone, Copy)]
enum Kind {
    /// A code.
    Code,
    /// Nothing that can be said, which may be a code all the same.
    Answer,
    /// A password or a PIN, which is the same each time. Some answer with a code whatever they are asked for: it is none to send again.
    Secret,
}

impl Kind {
    /// How many digits a code has among such answers. Some servers want a PIN before it, as one number.
    fn digits(self) -> RangeInclusive<usize> {
        match self {
            Self::Code => 6..=16,
            Self::Answer | Self::Secret => 6..=8,
        }
    }
}

/// Asks people on behalf of a login.
pub(super) struct Asker {
    people: Arc<dyn People>,
    passphrase_command: Option<String>,
    otp_command: Option<String>,
    ledger: CodeLedger,
    /// Whether a command gave a code for the login that goes on, or the last one.
    has_used_command: AtomicBool,
    /// Whether a person was asked for it.
    has_asked_person: AtomicBool,
}

impl Asker {
    pub(super) fn new(people: Arc<dyn People>, request: &MountRequest, ledger: CodeLedger) -> Self {
        Self {
            people,
            passphrase_command: request.passphrase_command.clone(),
            otp_command: request.otp_command.clone(),
            ledger,
            has_used_command: AtomicBool::new(false),
            has_asked_person: AtomicBool::new(false),
        }
    }

    /// What is asked from now on is asked for another login.
    pub(super) fn begin_login(&self) {
        self.has_used_command.store(false, Ordering::Relaxed);
        self.has_asked_person.store(false, Ordering::Relaxed);
    }

    /// What the login that goes on, or the last one, needed.
    pub(super) fn needed(&self) -> Allowance {
        if self.has_asked_person.load(Ordering::Relaxed) {
            Allowance::OfPerson
        } else if self.has_used_command.load(Ordering::Relaxed) {
            Allowance::OfCommand
        } else {
            Allowance::Unlimited
        }
    }

    async fn by_person(&self, text: String, echo: bool) -> Result<Zeroizing<String>, String> {
        self.has_asked_person.store(true, Ordering::Relaxed);
        self.people.by_person(text, echo).await
    }

    async fn answer(&self, question: Question) -> Result<Zeroizing<String>, String> {
        let (text, credential) = (question.text(), question.credential());
        match (question, credential) {
            (Question::Passphrase { .. }, _) => match &self.passphrase_command {
                Some(command) => self.people.by_command(command, &text).await,
                None => self.by_person(text, false).await,
            },
            (Question::Prompt { unattended, echo, .. }, Some(Credential::Code)) => {
                let command = self.otp_command.as_deref().filter(|_| unattended);
                self.unsent(command, text, echo, Kind::Code).await
            }
            (Question::Prompt { echo, .. }, Some(Credential::Answer)) => {
                self.unsent(None, text, echo, Kind::Answer).await
            }
            (Question::Prompt { echo, .. }, _) => self.unsent(None, text, echo, Kind::Secret).await,
            (Question::UnknownHost { .. }, _) => self.by_person(text, true).await,
            (Question::Password { .. }, _) => self.by_person(text, false).await,
        }
    }

    /// An answer that is no code, or one that was not sent before. Where the one that is given was sent, the next is waited for.
    async fn unsent(
        &self,
        command: Option<&str>,
        text: String,
        echo: bool,
        kind: Kind,
    ) -> Result<Zeroizing<String>, String> {
        let (times, who) = match command {
            Some(_) => (BY_COMMAND_MAX, "the command gives"),
            None => (BY_PERSON_MAX, "the answer is"),
        };
        for time in 1..=times {
            let answer = match command {
                Some(command) => {
                    self.has_used_command.store(true, Ordering::Relaxed);
                    self.people.by_command(command, &text).await?
                }
                None => self.by_person(text.clone(), echo).await?,
            };
            let Some(code) = as_code(&answer, &kind.digits()) else { return Ok(answer) };
            let is_new = match kind {
                Kind::Code | Kind::Answer => self.ledger.mark(code).await,
                Kind::Secret => self.ledger.was_sent(code).await.map(|was_sent| !was_sent),
            };
            if is_new.map_err(|error| format!("the code was not sent, since that can't be noted: {error}"))? {
                return Ok(answer);
            }
            if time < times {
                self.next_step().await;
            }
        }
        Err(format!("{who} a code that was sent already, again and again"))
    }

    async fn next_step(&self) {
        let shown = |left: Duration| {
            let seconds = left.as_secs_f64().ceil();
            format!("this code was sent already; waiting for the next, which comes in {seconds} s")
        };
        // A second more, for clocks that differ a little.
        let end = tokio::time::Instant::now() + codes::until_next() + Duration::from_secs(1);
        let left = || end.saturating_duration_since(tokio::time::Instant::now());
        self.people.tell(shown(left()));
        while !left().is_zero() {
            self.people.pause(shown(left()), left().min(Duration::from_secs(1))).await;
        }
    }
}

/// The code that an answer is, as a server reads it: of digits (RFC 4226, section 5.3), between which some leave spaces, or what a YubiKey
/// types in its own alphabet. Other answers, such as the `push` or `1` of some servers, are the same each time.
fn as_code(answer: &str, digits: &RangeInclusive<usize>) -> Option<Zeroizing<String>> {
    let code: String = answer.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let code = Zeroizing::new(code);
    let is_number = digits.contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit());
    let is_modhex = (32..=48).contains(&code.len()) && code.chars().all(|c| "cbdefghijklnrtuv".contains(c));
    (is_number || is_modhex).then_some(code)
}

#[async_trait]
impl Interaction for Asker {
    async fn ask(&self, question: Question) -> Result<Zeroizing<String>, Cancelled> {
        self.answer(question).await.map_err(Cancelled)
    }

    fn progress(&self, progress: Progress) {
        self.people.tell(progress.to_string());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::super::codes::tests::ledger;
    use super::*;

    /// People and a command who give these answers one after the other. It is noted whom each question went to, and what was waited for.
    #[derive(Default)]
    struct Given {
        answers: Mutex<VecDeque<&'static str>>,
        noted: Mutex<Vec<String>>,
    }

    impl Given {
        fn next(&self, who: &str, text: &str) -> Result<Zeroizing<String>, String> {
            self.noted.lock().unwrap().push(format!("{who}: {text}"));
            let answer = self.answers.lock().unwrap().pop_front();
            answer.map(|answer| Zeroizing::new(answer.to_owned())).ok_or_else(|| "nobody".to_owned())
        }

        fn noted(&self) -> Vec<String> {
            std::mem::take(&mut *self.noted.lock().unwrap())
        }
    }

    #[async_trait]
    impl People for Given {
        async fn by_command(&self, command: &str, text: &str) -> Result<Zeroizing<String>, String> {
            self.next(command, text)
        }

        async fn by_person(&self, text: String, _echo: bool) -> Result<Zeroizing<String>, String> {
            self.next("person", &text)
        }

        fn tell(&self, text: String) {
            let text = text.split(';').next().unwrap_or_default().to_owned();
            self.noted.lock().unwrap().push(text);
        }

        async fn pause(&self, _why: String, time: Duration) {
            tokio::time::sleep(time).await;
        }
    }

    /// A login with `--passphrase-command P --otp-command C`.
    fn asker(given: &Arc<Given>, ledger: CodeLedger) -> Asker {
        Asker {
            people: Arc::clone(given) as Arc<dyn People>,
            passphrase_command: Some("P".to_owned()),
            otp_command: Some("C".to_owned()),
            ledger,
            has_used_command: AtomicBool::new(false),
            has_asked_person: AtomicBool::new(false),
        }
    }

    fn prompt(prompt: &str, unattended: bool) -> Question {
        let destination = "alice@hq".to_owned();
        Question::Prompt { destination, prompt: scaup_sftp::text::Line::of(prompt), echo: false, unattended }
    }

    fn given(answers: &[&'static str]) -> Arc<Given> {
        Arc::new(Given { answers: Mutex::new(answers.iter().copied().collect()), ..Given::default() })
    }

    const SENT_ALREADY: &str = "this code was sent already";

    #[tokio::test]
    async fn the_command_for_codes_is_asked_for_nothing_else_and_never_where_it_may_not() {
        let directory = tempfile::tempdir().unwrap();
        let given = given(&["a", "b", "c", "d", "e", "f"]);
        let asker = asker(&given, ledger(directory.path()));
        asker.answer(prompt("Code: ", true)).await.unwrap();
        for question in [prompt("Code: ", false), prompt("Password: ", true), prompt("PIN: ", true)] {
            asker.answer(question).await.unwrap();
        }
        asker.answer(Question::Password { destination: "alice@hq".to_owned() }).await.unwrap();
        asker.answer(Question::Passphrase { path: "/key".into() }).await.unwrap();
        assert_eq!(
            given.noted(),
            [
                "C: (alice@hq) Code: ",
                "person: (alice@hq) Code: ",
                "person: (alice@hq) Password: ",
                "person: (alice@hq) PIN: ",
                "person: (alice@hq) Password: ",
                "P: Passphrase for key /key: ",
            ]
        );
    }

    // The clock stands still, and jumps ahead to what is waited for as soon as nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn a_code_is_sent_once_whoever_gives_it_in_whatever_form() {
        let directory = tempfile::tempdir().unwrap();
        let given = given(&["123456", "123 456", "234567", "23-45-67", "345678", "345678", "345678"]);
        let first = asker(&given, ledger(directory.path()));
        assert_eq!(first.answer(prompt("Code: ", true)).await.unwrap().as_str(), "123456");
        // Another login, in another process.
        let second = asker(&given, ledger(directory.path()));
        assert_eq!(second.answer(prompt("Code: ", false)).await.unwrap().as_str(), "234567");
        assert_eq!(first.answer(prompt("Colour: ", true)).await.unwrap().as_str(), "345678");
        let reason = second.answer(prompt("Code: ", true)).await.unwrap_err();
        assert_eq!(reason, "the command gives a code that was sent already, again and again");
        assert_eq!(
            given.noted(),
            [
                "C: (alice@hq) Code: ",
                "person: (alice@hq) Code: ",
                SENT_ALREADY,
                "person: (alice@hq) Code: ",
                "person: (alice@hq) Colour: ",
                SENT_ALREADY,
                "person: (alice@hq) Colour: ",
                "C: (alice@hq) Code: ",
                SENT_ALREADY,
                "C: (alice@hq) Code: ",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_code_may_be_the_same_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let given =
            given(&["push", "push", "123456", "123456", "blue", "blue", "1", "1", "123456", "123456", "0"]);
        let asker = asker(&given, ledger(directory.path()));
        for question in ["Code: ", "PIN: ", "Colour: ", "Passcode or option (1-2): "] {
            for _ in 0..2 {
                asker.answer(prompt(question, false)).await.unwrap();
            }
        }
        assert!(!given.noted().contains(&SENT_ALREADY.to_owned()));
        // A code that was sent as one is no PIN.
        assert_eq!(asker.answer(prompt("Code: ", false)).await.unwrap().as_str(), "123456");
        assert_eq!(asker.answer(prompt("PIN: ", false)).await.unwrap().as_str(), "0");
        assert!(given.noted().contains(&SENT_ALREADY.to_owned()));
    }

    #[tokio::test]
    async fn a_code_that_cant_be_noted_is_not_sent() {
        let directory = tempfile::tempdir().unwrap();
        let given = given(&["123456"]);
        // The place of the ledger is taken by what it is not written through.
        std::os::unix::fs::symlink("elsewhere", directory.path().join("codes-sent")).unwrap();
        let asker = asker(&given, ledger(directory.path()));
        let reason = asker.answer(prompt("Code: ", true)).await.unwrap_err();
        assert!(reason.contains("was not sent, since that can't be noted"), "{reason}");
    }

    #[test]
    fn codes_are_told_from_other_answers() {
        let code = |answer| as_code(answer, &(6..=8)).map(|code| code.to_string());
        assert_eq!(code("123456").as_deref(), Some("123456"));
        assert_eq!(code("123 456 ").as_deref(), Some("123456"));
        assert_eq!(code("1234-5678").as_deref(), Some("12345678"));
        let yubikey = "cccccckdvvulgjvtkdjtrljrvhjltckflhgtlijlrduk";
        assert_eq!(code(yubikey).as_deref(), Some(yubikey));
        for answer in ["", "1", "push", "12345", "123456789", "12345x", "s3cret!", "blue"] {
            assert_eq!(code(answer), None, "{answer}");
        }
    }
}

//! Chooses the source of an answer to a login's question: a command that the user gave for this kind of question, else
//! a person. All one-time codes pass through here, whatever their source and whichever command of Scaup logs in, and
//! each is sent once.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use scaup_sftp::ssh::{Cancelled, Credential, Interaction, Progress, Question};
use zeroize::Zeroizing;

use super::code_maker::CodeMaker;
use super::codes::{self, CodeLedger};
use super::kept_secrets::{self, KeptSecrets};
use super::people::People;
use super::protocol::{PromptKind, UserQuestion};
use super::secret_names::SecretName;
use crate::config::settings::LoginSettings;
use crate::remote::sftp::LoginAllowance;

/// How often a command may give a code that was already sent.
const BY_COMMAND_MAX: u32 = 2;

/// How often a person may: the device that shows the codes may run on another clock.
const BY_PERSON_MAX: u32 = 3;

/// What a server's prompt asks for, as far as codes are concerned.
#[derive(Clone, Copy)]
enum Kind {
    /// A code.
    Code,
    /// Something unknown, which may be a code.
    Answer,
    /// A password or a PIN, which is the same each time. Some users answer with a code whatever the prompt asks for:
    /// such a code must not be sent again.
    Secret,
}

impl Kind {
    /// Returns how many digits a code has among such answers. Some servers want a PIN before it, as one number.
    fn digits(self) -> RangeInclusive<usize> {
        match self {
            Self::Code => 6..=16,
            Self::Answer | Self::Secret => 6..=8,
        }
    }
}

/// The remembered secrets that one login uses.
#[derive(Default)]
struct Remembered {
    /// What was given, and whether it turned out wrong.
    given: HashMap<SecretName, bool>,
    /// What was given as the last answer of all.
    last: Option<SecretName>,
}

/// Where a code comes from.
enum CodeSource<'a> {
    Command(&'a str),
    /// What codes are made of, which the user wants remembered.
    Remembered(CodeMaker),
    Person,
}

/// Asks people on behalf of a login.
pub(super) struct Asker {
    people: Arc<dyn People>,
    passphrase_command: Option<String>,
    otp_command: Option<String>,
    kept: Arc<KeptSecrets>,
    ledger: CodeLedger,
    /// What was remembered and is used in the current login, or the last one.
    remembered: Mutex<Remembered>,
    /// Whether a command gave a code for the current login, or the last one.
    has_used_command: AtomicBool,
    /// Whether a person was asked for it.
    has_asked_person: AtomicBool,
    /// How many times a person was asked each question of this login.
    attempts: Mutex<HashMap<String, u32>>,
}

impl Asker {
    pub(super) fn new(
        people: Arc<dyn People>,
        settings: &LoginSettings,
        kept: Arc<KeptSecrets>,
        ledger: CodeLedger,
    ) -> Self {
        Self {
            people,
            kept,
            remembered: Mutex::default(),
            passphrase_command: settings.passphrase_command.clone(),
            otp_command: settings.otp_command.clone(),
            ledger,
            has_used_command: AtomicBool::new(false),
            has_asked_person: AtomicBool::new(false),
            attempts: Mutex::default(),
        }
    }

    /// Begins another login, to which later questions belong.
    pub(super) fn begin_login(&self) {
        self.has_used_command.store(false, Ordering::Relaxed);
        self.has_asked_person.store(false, Ordering::Relaxed);
        self.lock_attempts().clear();
        *self.lock_remembered() = Remembered::default();
        self.kept.discard_typed();
    }

    /// Takes in that the server refused the login: if the last answer was remembered, it is wrong.
    pub(super) async fn refused(&self) {
        let last = self.lock_remembered().last.take();
        if let Some(secret) = last {
            self.forget_refused(&secret).await;
        }
    }

    fn lock_attempts(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the current login, or the last one, needed.
    pub(super) fn needed(&self) -> LoginAllowance {
        if self.has_asked_person.load(Ordering::Relaxed) {
            LoginAllowance::OfPerson
        } else if self.has_used_command.load(Ordering::Relaxed) {
            LoginAllowance::OfCommand
        } else {
            LoginAllowance::Unlimited
        }
    }

    async fn by_command(&self, command: &str, text: &str) -> Result<Zeroizing<String>, String> {
        self.lock_remembered().last = None;
        self.people.by_command(command, text).await
    }

    async fn by_person(&self, mut question: UserQuestion) -> Result<Zeroizing<String>, String> {
        self.lock_remembered().last = None;
        self.has_asked_person.store(true, Ordering::Relaxed);
        question.attempt = {
            let mut attempts = self.lock_attempts();
            let attempt = attempts.entry(question.text.clone()).or_default();
            *attempt = attempt.saturating_add(1);
            *attempt
        };
        self.people.by_person(question).await
    }

    async fn answer(&self, question: Question) -> Result<Zeroizing<String>, String> {
        let (credential, for_person) = (question.credential(), for_person(&question));
        match (question, credential) {
            (Question::Passphrase { path }, _) => match &self.passphrase_command {
                Some(command) => self.by_command(command, &for_person.text).await,
                None => self.remembered_or(SecretName::key(&path), self.by_person(for_person)).await,
            },
            (Question::Prompt { unattended, destination, .. }, Some(Credential::Code)) => {
                let source = self.source_of_codes(unattended, &destination).await;
                self.unsent(source, for_person, Kind::Code).await
            }
            (Question::Prompt { .. }, Some(Credential::Answer)) => {
                self.unsent(CodeSource::Person, for_person, Kind::Answer).await
            }
            (Question::Prompt { destination, .. }, Some(Credential::Password)) => {
                let secret = SecretName::password(&destination, &for_person.text);
                self.remembered_or(secret, self.unsent(CodeSource::Person, for_person, Kind::Secret)).await
            }
            (Question::Prompt { .. }, _) => self.unsent(CodeSource::Person, for_person, Kind::Secret).await,
            (Question::Password { destination }, _) => {
                let secret = SecretName::password(&destination, &for_person.text);
                self.remembered_or(secret, self.by_person(for_person)).await
            }
            (Question::UnknownHost { .. }, _) => self.by_person(for_person).await,
        }
    }

    /// Returns a secret that is remembered; else what a person types, which may be remembered after the login.
    async fn remembered_or(
        &self,
        secret: SecretName,
        typed: impl Future<Output = Result<Zeroizing<String>, String>>,
    ) -> Result<Zeroizing<String>, String> {
        if let Some(found) = self.remembered(&secret).await {
            return Ok(found);
        }
        let answer = typed.await?;
        // Some users answer with a code whatever is asked.
        if self.people.is_attended() && as_code(&answer, &Kind::Secret.digits()).is_none() {
            self.kept.add_typed(secret, &answer);
        }
        Ok(answer)
    }

    /// Returns a secret that is remembered, once in a login: one that is asked for again was wrong.
    async fn remembered(&self, secret: &SecretName) -> Option<Zeroizing<String>> {
        let was_given = self.lock_remembered().given.contains_key(secret);
        if was_given {
            self.forget_refused(secret).await;
            return None;
        }
        let found = self.kept.find(secret, self.people.is_attended()).await?;
        let mut remembered = self.lock_remembered();
        remembered.given.insert(secret.clone(), false);
        remembered.last = Some(secret.clone());
        Some(found)
    }

    async fn forget_refused(&self, secret: &SecretName) {
        let was_known = self.lock_remembered().given.insert(secret.clone(), true) == Some(true);
        if !was_known && let Some(text) = kept_secrets::refuse(secret, self.people.is_attended()).await {
            self.people.tell(text);
        }
    }

    async fn source_of_codes(&self, unattended: bool, server: &str) -> CodeSource<'_> {
        match &self.otp_command {
            Some(command) if unattended => CodeSource::Command(command),
            None if unattended => {
                let secret = SecretName::codes(server);
                // A refused code says nothing about what it was made of: the clocks may differ.
                let is_first = self.lock_remembered().given.insert(secret.clone(), true).is_none();
                let found =
                    if is_first { self.kept.find(&secret, self.people.is_attended()).await } else { None };
                match found.map(|address| CodeMaker::parse(&address)) {
                    Some(Ok(maker)) => CodeSource::Remembered(maker),
                    Some(Err(error)) => {
                        self.people.tell(format!("{secret} are remembered, but can't be made: {error}"));
                        CodeSource::Person
                    }
                    None => CodeSource::Person,
                }
            }
            _ => CodeSource::Person,
        }
    }

    /// Returns an answer that is not a code, or a code that was not sent before. If the given code was sent already,
    /// waits for the next one.
    async fn unsent(
        &self,
        source: CodeSource<'_>,
        question: UserQuestion,
        kind: Kind,
    ) -> Result<Zeroizing<String>, String> {
        let (times, who) = match source {
            CodeSource::Command(_) => (BY_COMMAND_MAX, "the command gives"),
            CodeSource::Remembered(_) => (BY_COMMAND_MAX, "what makes codes gives"),
            CodeSource::Person => (BY_PERSON_MAX, "the answer is"),
        };
        for time in 1..=times {
            let answer = match &source {
                CodeSource::Command(command) => {
                    self.has_used_command.store(true, Ordering::Relaxed);
                    self.by_command(command, &question.text).await?
                }
                CodeSource::Remembered(maker) => {
                    self.has_used_command.store(true, Ordering::Relaxed);
                    maker.code().map_err(|error| error.to_string())?
                }
                CodeSource::Person => self.by_person(question.clone()).await?,
            };
            let Some(code) = as_code(&answer, &kind.digits()) else { return Ok(answer) };
            let is_new = match kind {
                Kind::Code | Kind::Answer => self.ledger.mark(code).await,
                Kind::Secret => self.ledger.was_sent(code).await.map(|was_sent| !was_sent),
            };
            if is_new.map_err(|error| {
                format!("the code was not sent, because it can't be recorded as used: {error}")
            })? {
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
        // One second is added for clocks that differ a little.
        let end = tokio::time::Instant::now() + codes::until_next() + Duration::from_secs(1);
        let left = || end.saturating_duration_since(tokio::time::Instant::now());
        self.people.tell(shown(left()));
        while !left().is_zero() {
            self.people.pause(shown(left()), left().min(Duration::from_secs(1))).await;
        }
    }
}

/// Returns a login's question as a person is asked it for the first time.
fn for_person(question: &Question) -> UserQuestion {
    let (kind, destination, echo) = match question {
        Question::Passphrase { path } => (PromptKind::Passphrase, path.to_string_lossy().into_owned(), false),
        Question::Prompt { destination, echo, .. } => {
            // A server chooses its words: they can't make its prompt a question of Scaup's own.
            let kind = match question.credential() {
                Some(Credential::Code) => PromptKind::Code,
                Some(Credential::Password) => PromptKind::Password,
                _ => PromptKind::Other,
            };
            (kind, destination.clone(), *echo)
        }
        Question::Password { destination } => (PromptKind::Password, destination.clone(), false),
        Question::UnknownHost { host, .. } => (PromptKind::HostKey, host.clone(), true),
    };
    UserQuestion { kind, destination, attempt: 1, text: question.text(), echo }
}

/// Returns the code in an answer, as a server reads it: digits (RFC 4226, section 5.3), with spaces between them or
/// not, or a YubiKey's output in its own alphabet. Other answers, such as the `push` or `1` of some servers, are the
/// same each time.
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

    use super::super::codes::tests::ledger;
    use super::*;

    /// People and a command that give these answers one after the other. It records where each question went, and each
    /// wait.
    #[derive(Default)]
    struct Given {
        answers: Mutex<VecDeque<&'static str>>,
        noted: Mutex<Vec<String>>,
        questions: Mutex<Vec<UserQuestion>>,
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

        async fn by_person(&self, question: UserQuestion) -> Result<Zeroizing<String>, String> {
            let answer = self.next("person", &question.text);
            self.questions.lock().unwrap().push(question);
            answer
        }

        fn is_attended(&self) -> bool {
            true
        }

        fn tell(&self, text: String) {
            let text = text.split(';').next().unwrap_or_default().to_owned();
            self.noted.lock().unwrap().push(text);
        }

        async fn pause(&self, _why: String, time: Duration) {
            tokio::time::sleep(time).await;
        }
    }

    /// A login with `--passphrase-command P --otp-command C`, where nothing is remembered.
    fn asker(given: &Arc<Given>, ledger: CodeLedger) -> Asker {
        Asker {
            people: Arc::clone(given) as Arc<dyn People>,
            passphrase_command: Some("P".to_owned()),
            otp_command: Some("C".to_owned()),
            kept: Arc::new(KeptSecrets::new(None)),
            remembered: Mutex::default(),
            ledger,
            has_used_command: AtomicBool::new(false),
            has_asked_person: AtomicBool::new(false),
            attempts: Mutex::default(),
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

    // The clock is paused, and jumps ahead to the next timer as soon as nothing else is to be done.
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
        // A code that was sent as a code is not accepted as a PIN.
        assert_eq!(asker.answer(prompt("Code: ", false)).await.unwrap().as_str(), "123456");
        assert_eq!(asker.answer(prompt("PIN: ", false)).await.unwrap().as_str(), "0");
        assert!(given.noted().contains(&SENT_ALREADY.to_owned()));
    }

    #[tokio::test]
    async fn a_question_says_what_it_asks_for_and_how_many_times_this_login_asked_it() {
        let directory = tempfile::tempdir().unwrap();
        let given = given(&["a", "b", "c", "d", "e", "f", "g"]);
        let asker = Asker { passphrase_command: None, ..asker(&given, ledger(directory.path())) };
        let destination = || "alice@hq".to_owned();
        for question in [
            Question::UnknownHost {
                host: "[hq]:2222".to_owned(),
                key_type: "ED25519".to_owned(),
                fingerprint: "SHA256:x".to_owned(),
            },
            Question::Passphrase { path: "/key".into() },
            Question::Passphrase { path: "/key".into() },
            Question::Password { destination: destination() },
            prompt("Verification code: ", false),
            prompt("Colour: ", false),
        ] {
            asker.answer(question).await.unwrap();
        }
        asker.begin_login();
        asker.answer(Question::Passphrase { path: "/key".into() }).await.unwrap();
        let questions = given.questions.lock().unwrap();
        let questions: Vec<_> =
            questions.iter().map(|asked| (asked.kind, asked.destination.as_str(), asked.attempt)).collect();
        assert_eq!(
            questions,
            [
                (PromptKind::HostKey, "[hq]:2222", 1),
                (PromptKind::Passphrase, "/key", 1),
                (PromptKind::Passphrase, "/key", 2),
                (PromptKind::Password, "alice@hq", 1),
                (PromptKind::Code, "alice@hq", 1),
                (PromptKind::Other, "alice@hq", 1),
                (PromptKind::Passphrase, "/key", 1),
            ]
        );
    }

    #[tokio::test]
    async fn a_code_that_cant_be_noted_is_not_sent() {
        let directory = tempfile::tempdir().unwrap();
        let given = given(&["123456"]);
        // A symlink, through which the ledger is not written, takes its place.
        std::os::unix::fs::symlink("elsewhere", directory.path().join("codes-sent")).unwrap();
        let asker = asker(&given, ledger(directory.path()));
        let reason = asker.answer(prompt("Code: ", true)).await.unwrap_err();
        assert!(reason.contains("was not sent, because it can't be recorded"), "{reason}");
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

//! Servers that ask whatever they like, as often as they like, and in Scaup's own words.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::server::{Auth, Config, Handler, Response};
use russh::{MethodKind, MethodSet};
use scaup_rig::{Answers, Key, KeyKind, Scaup};

use super::mountpoint;
use crate::support::scaup;
use crate::support::terminal::Terminal;

/// A prompt, whether the answer may be seen, and the right answer.
type Prompt = (&'static str, bool, &'static str);

/// What a server asks at a time: its name, its instructions, and prompts.
type Round = (&'static str, &'static str, &'static [Prompt]);

/// PAM asks one thing, RFC 4256 allows any number, and none.
const ROUNDS: &[Round] = &[
    (
        "Two factors",
        "Have your token at hand.",
        &[
            ("Number on your token> ", true, "123 456"),
            ("Its PIN: ", false, "secret"),
            ("Colour?\n> ", true, "blue"),
        ],
    ),
    ("", "One moment, please.", &[]),
    ("", "", &[]),
    ("", "", &[("Word of the day ", false, "word")]),
];

/// A server that lets a client in that gives every right answer, and has nothing to offer.
struct Asking {
    banner: Option<&'static str>,
    rounds: &'static [Round],
    /// Rounds that were answered.
    answered: usize,
}

impl Handler for Asking {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.banner.map(str::to_owned))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        if let Some(answers) = response {
            let right = self.rounds[self.answered].2.iter().map(|(_, _, answer)| answer.as_bytes().to_vec());
            if !answers.map(|answer| answer.to_vec()).eq(right) {
                return Ok(Auth::reject());
            }
            self.answered += 1;
        }
        Ok(self.rounds.get(self.answered).map_or(Auth::Accept, |(name, instructions, prompts)| {
            Auth::Partial {
                name: (*name).into(),
                instructions: (*instructions).into(),
                prompts: prompts.iter().map(|(prompt, echo, _)| ((*prompt).into(), *echo)).collect(),
            }
        }))
    }
}

/// Runs `mount` at a terminal of `columns`, of a server that says this and has nothing to offer; it serves until the
/// runtime is dropped.
fn mount_of_asking(
    scaup: &Scaup,
    banner: Option<&'static str>,
    rounds: &'static [Round],
    columns: u16,
) -> (Terminal, tokio::runtime::Runtime) {
    let (runtime, port, known) = serve(scaup, Asking { banner, rounds, answered: 0 });
    let terminal = Terminal::run(
        scaup,
        &format!(
            "stty cols {columns}; '{}' mount alice@127.0.0.1 '{}' -p {port} -o UserKnownHostsFile='{}'",
            env!("CARGO_BIN_EXE_scaup"),
            mountpoint(scaup).display(),
            known.display(),
        ),
    );
    (terminal, runtime)
}

#[test]
fn any_number_of_prompts_in_any_number_of_rounds() {
    let scaup = scaup();
    let (mut terminal, _server) = mount_of_asking(&scaup, None, ROUNDS, 0);
    let mut expected = String::new();
    for (name, instructions, prompts) in ROUNDS {
        for words in [name, instructions] {
            if !words.is_empty() {
                expected += &format!("(alice@127.0.0.1) {words}\r\n");
            }
        }
        for (prompt, echo, answer) in *prompts {
            let prompt = format!("(alice@127.0.0.1) {prompt}").replace('\n', " ");
            terminal.answer(&prompt, &format!("{answer}\n"));
            expected += &format!("{prompt}{}\r\n", if *echo { answer } else { "" });
        }
    }
    let (_, screen) = terminal.end();
    let expected = format!("{expected}code and PIN and answer accepted");
    assert!(screen.contains(&expected), "{screen}\nhas not:\n{expected}");
}

/// Serves one connection at a port of its own, until the runtime is dropped; the file of known hosts that has its key.
fn serve(
    scaup: &Scaup,
    handler: impl Handler<Error = russh::Error> + Send + 'static,
) -> (tokio::runtime::Runtime, u16, PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = Key::generate(&scaup.home().join(format!("host-{port}")), KeyKind::Ed25519, "");
    let config = Arc::new(Config {
        keys: vec![russh::keys::load_secret_key(key.path(), None).unwrap()],
        methods: MethodSet::from(&[MethodKind::KeyboardInteractive][..]),
        auth_rejection_time: Duration::ZERO,
        max_auth_attempts: usize::MAX,
        ..Config::default()
    });
    let known = scaup.home().join(format!("known-{port}"));
    fs::write(&known, format!("[127.0.0.1]:{port} {}\n", key.public_fields())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(async move {
        listener.set_nonblocking(true).unwrap();
        let (socket, _) = tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        russh::server::run_stream(config, socket, handler).await.unwrap().await
    });
    (runtime, port, known)
}

/// What a server wants that never has enough.
#[derive(Clone, Copy, Debug)]
enum Greed {
    /// These prompts in each request.
    Prompts(&'static [&'static str]),
    /// Patience for a long speech, each time.
    Speeches,
    /// Each answer to this is right, and one more is wanted.
    OneMore(&'static str),
    /// Nothing was asked, that is right, and more is wanted.
    OneMoreWithoutPrompts,
    /// Each answer is wrong, and the other method is the one to try.
    TheOtherMethod,
}

/// A server that never has enough. It notes the answers.
struct Greedy {
    greed: Greed,
    got: Arc<Mutex<Vec<String>>>,
}

impl Greedy {
    fn ask(&self) -> Auth {
        let prompts = match self.greed {
            Greed::Prompts(prompts) => prompts,
            Greed::OneMore(prompt) => &[prompt][..],
            Greed::TheOtherMethod => &["Code: "],
            Greed::Speeches | Greed::OneMoreWithoutPrompts => &[],
        };
        let words = if matches!(self.greed, Greed::Speeches) { "blah ".repeat(1600) } else { String::new() };
        let prompts = prompts.iter().map(|prompt| ((*prompt).to_owned().into(), false)).collect();
        Auth::Partial { name: "".into(), instructions: words.into(), prompts }
    }

    fn got(&self, answer: impl Into<String>) {
        self.got.lock().unwrap().push(answer.into());
    }
}

fn partly(partial_success: bool, method: MethodKind) -> Auth {
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[method][..])), partial_success }
}

impl Handler for Greedy {
    type Error = russh::Error;

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let Some(answers) = response else {
            if matches!(self.greed, Greed::OneMoreWithoutPrompts) {
                self.got("");
                return Ok(partly(true, MethodKind::KeyboardInteractive));
            }
            return Ok(self.ask());
        };
        let answers: Vec<String> =
            answers.map(|answer| String::from_utf8_lossy(&answer).into_owned()).collect();
        self.got(answers.join(" "));
        Ok(match self.greed {
            Greed::Prompts(_) | Greed::Speeches => self.ask(),
            Greed::OneMore(_) | Greed::OneMoreWithoutPrompts => partly(true, MethodKind::KeyboardInteractive),
            Greed::TheOtherMethod => partly(false, MethodKind::Password),
        })
    }

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.got(password);
        Ok(partly(false, MethodKind::KeyboardInteractive))
    }
}

/// Tries to log in to a greedy server; what is said, and the answers that the server got.
fn log_in_to(scaup: &Scaup, greed: Greed, askpass: &Path, arguments: &[&str]) -> (String, Vec<String>) {
    let got = Arc::default();
    let (_runtime, port, known) = serve(scaup, Greedy { greed, got: Arc::clone(&got) });
    let mount = scaup.mount("alice@127.0.0.1").args(["-p", &port.to_string(), "-F", "none"]);
    let mount = mount.args(["-o", &format!("UserKnownHostsFile={}", known.display())]);
    let output = mount.args(arguments).askpass(askpass).refused();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{greed:?}: {said}");
    let got = got.lock().unwrap().clone();
    (said, got)
}

#[test]
fn a_server_that_never_has_enough_is_given_up_however_it_counts() {
    let scaup = scaup();
    let new_each_time = scaup.command_giving_wrong_codes();
    let (askpass, _) = scaup.askpass(&Answers { otp_command: Some(new_each_time), ..Answers::default() });
    for (greed, most, reason) in [
        (Greed::Prompts(&["Colour: "]), 20, "without end"),
        (Greed::Prompts(&["Colour: "; 100]), 0, "without end"),
        (Greed::Prompts(&[]), 50, "without end"),
        (Greed::Speeches, 10, "without end"),
        (Greed::OneMore("PIN: "), 5, "without end"),
        (Greed::OneMoreWithoutPrompts, 5, "without end"),
        (Greed::TheOtherMethod, 3, "login refused: wrong"),
    ] {
        let (said, got) = log_in_to(&scaup, greed, &askpass, &[]);
        assert!(said.contains(reason), "{greed:?}: {said}");
        assert!(got.len() <= most, "{greed:?}: {got:?}");
    }
}

#[test]
fn the_command_for_codes_answers_one_question_for_a_code_at_a_time_and_nothing_else() {
    let scaup = scaup();
    let (askpass, asked) = scaup.askpass(&Answers::default());
    let noted = scaup.home().join("noted");
    let command = format!("echo \"$SCAUP_PROMPT\" >> '{}'; echo push", noted.display());
    let arguments = ["--otp-command", command.as_str()];
    for prompts in [
        &["Password for vault Vault: "][..],
        &["Passphrase for key /home/alice/.ssh/id_ed25519: "],
        &["PIN: "],
        &["Verification code and password: "],
        &["Colour: "],
        &["Verification code: ", "Next verification code: "],
    ] {
        let (said, got) = log_in_to(&scaup, Greed::Prompts(prompts), &askpass, &arguments);
        assert!(said.contains(prompts[0].trim()), "{prompts:?}: {said}");
        assert!(got.is_empty() && !noted.exists(), "{prompts:?}: {got:?}");
        let by_person = fs::read_to_string(&asked).unwrap();
        assert!(by_person.ends_with(&format!("(alice@127.0.0.1) {}\n", prompts[0])), "{by_person}");
    }
    // A code beside something else is one, and there are as many as there may be attempts.
    for (greed, codes) in [
        (Greed::Prompts(&["Verification code: "]), 3),
        (Greed::OneMore("One-time password (OATH) for `alice': "), 3),
        (Greed::Prompts(&["Second Factor: ", "First Factor: "]), 1),
    ] {
        let (said, got) = log_in_to(&scaup, greed, &askpass, &arguments);
        assert!(said.contains("no answer to"), "{greed:?}: {said}");
        let prompts = fs::read_to_string(&noted).unwrap();
        assert_eq!(prompts.lines().count(), codes, "{greed:?}: {prompts}");
        assert!(got.iter().all(|got| got == "push"), "{got:?}");
        fs::remove_file(&noted).unwrap();
    }
}

/// What a server says that wants to be taken for Scaup: in its banner, its name, its instructions, and prompts.
const FORGED: &[Round] = &[
    (
        "two\nlines of its name\u{85}Passphrase for key /home/alice/.ssh/id_ed25519: ",
        "key accepted\ncode accepted\rvault Vault found\u{2028}\u{202e}abc\u{2066} \u{1b}]0;t\u{7}",
        &[
            ("\nPassword for vault Vault: ", false, "1"),
            ("\u{8}\u{8}\u{1b}[2K\r\u{9b}2KPassword for vault Vault: ", true, "2"),
            ("\u{338}\u{489}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}? ", true, "3"),
            // On a terminal of 80 columns, a line of its own if nobody breaks it.
            (
                "........................................................... Password for vault Vault: ",
                false,
                "4",
            ),
        ],
    ),
    ("", "", &[("\0\u{200b}\u{e0050}p\u{2060}xyz: ", false, "5")]),
];

/// Whether a line of the screen is as a server's, or the rest of one.
fn is_marked(line: &str) -> bool {
    line.starts_with("(alice@127.0.0.1) ") || line.starts_with("  > ")
}

#[test]
fn whatever_a_server_says_is_marked_and_is_no_question_of_scaups() {
    let scaup = scaup();
    let banner =
        "b \u{202e}LTR\u{202c} \u{200b} \x1b[31mred \u{9b}31m \u{2028}Password for vault Vault: \ny\n";
    let (mut terminal, _server) = mount_of_asking(&scaup, Some(banner), FORGED, 80);
    for (ending, _, answer) in FORGED.iter().flat_map(|(_, _, prompts)| *prompts) {
        let ending = ending.get(ending.len() - 2..).unwrap();
        terminal.answer(ending, &format!("{answer}\n"));
    }
    let (_, screen) = terminal.end();
    let plays = |c: char| {
        c != '\n'
            && c != '\r'
            && (c.is_control() || matches!(c, '\u{200b}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}'))
    };
    assert!(!screen.contains(plays), "{screen:?}");
    let own = ["connecting to ", "password and answer accepted", "scaup: "];
    for line in screen.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        let is_own = own.iter().any(|own| line.starts_with(own));
        assert!(is_own || is_marked(line), "{line:?} in {screen}");
        assert!(line.chars().count() <= 80, "{line:?}");
    }
}

//! Secrets that a person wants remembered, in a real keyring.

use std::fs;
use std::path::Path;

use scaup_rig::{Fixture, Keyring, Scaup, Sshd};

use crate::support::scaup;
use crate::support::terminal::Terminal;

/// A server with key, code and a vault, and a keyring.
struct Desk {
    scaup: Scaup,
    sshd: Sshd,
    vault: Fixture,
    keyring: Keyring,
}

const QUESTION: &str = "? no / until I log out / on this computer [no]: ";

impl Desk {
    fn new() -> Self {
        let (scaup, sshd, vault) = (scaup(), Sshd::builder().start(), Fixture::unpack("gcm8"));
        vault.copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let directory = scaup.home().join("config/scaup/bookmarks");
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "target = \"{}@{}\"\nport = {}\nidentity = {:?}\nmountpoint = {:?}\noptions = [{:?}]\n",
            sshd.user(),
            sshd.host(),
            sshd.port(),
            sshd.key().path(),
            scaup.home().join("mnt/hq"),
            format!("UserKnownHostsFile={}", sshd.known_hosts_file().display()),
        );
        fs::write(directory.join("hq.toml"), text).unwrap();
        Self { scaup, sshd, vault, keyring: Keyring::start() }
    }

    fn passphrase(&self) -> String {
        format!("Passphrase for key {}: ", self.sshd.key().path().display())
    }

    fn run(&self, words: &str) -> Terminal {
        let program = env!("CARGO_BIN_EXE_scaup");
        let words = format!("DBUS_SESSION_BUS_ADDRESS='{}' '{program}' {words}", self.keyring.address());
        Terminal::run(&self.scaup, &words)
    }

    fn give_code(&self, terminal: &mut Terminal) {
        let prompt = format!("({}@{}) Verification code: ", self.sshd.user(), self.sshd.host());
        terminal.answer(&prompt, &format!("{}\n", self.sshd.totp()));
    }

    /// Mounts, types all secrets, and answers how long they are to be remembered.
    fn mount_and_remember(&self, answer: &str) {
        let mut terminal = self.typed_everything();
        terminal.answer(QUESTION, &format!("{answer}\n"));
        self.mounted(terminal);
    }

    /// Waits for the end of a mount that asked for all it wants, and unmounts; returns what was on the screen.
    fn mounted(&self, terminal: Terminal) -> String {
        let (status, screen) = terminal.end();
        assert!(status.success(), "{screen}");
        assert_eq!(self.scaup.status()["mounts"][0]["vaults"][0]["state"], "unlocked", "{screen}");
        let output = self.scaup.run(["unmount", "hq"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.scaup.forget_codes();
        screen
    }

    /// Mounts, and is asked for the code alone.
    fn mounts_by_a_code(&self) {
        let mut terminal = self.run("mount hq");
        self.give_code(&mut terminal);
        let screen = self.mounted(terminal);
        for prompt in ["Passphrase for key", "Password for vault", "Remember"] {
            assert!(!screen.contains(prompt), "{screen}");
        }
    }

    /// Begins to mount, and types all secrets.
    fn typed_everything(&self) -> Terminal {
        let mut terminal = self.run("mount hq");
        terminal.answer(&self.passphrase(), &format!("{}\n", Sshd::PASSPHRASE));
        self.give_code(&mut terminal);
        terminal.answer("Password for vault Vault: ", &format!("{}\n", self.vault.manifest.password));
        terminal
    }

    /// Mounts, and is asked for everything; remembers nothing.
    fn is_asked_for_everything(&self) {
        let mut terminal = self.typed_everything();
        terminal.answer(QUESTION, "\n");
        self.mounted(terminal);
    }

    /// Mounts, and is asked for everything, and not whether to remember it.
    fn is_asked_for_everything_and_nothing_else(&self) {
        let screen = self.mounted(self.typed_everything());
        assert!(!screen.contains("Remember"), "{screen}");
    }

    /// What `bookmark show` says is remembered.
    fn shown(&self) -> Vec<String> {
        let (_, screen) = self.run("bookmark show hq").end();
        screen.lines().filter_map(|line| Some(line.strip_prefix("# remembered: ")?.to_owned())).collect()
    }

    /// Neither Scaup's files nor the keyring's have a secret in clear, nor do the keyring's names have more than
    /// numbers.
    fn nothing_is_readable(&self) {
        let secrets = [Sshd::PASSPHRASE, &self.vault.manifest.password];
        for directory in [self.scaup.home().join("state"), self.keyring.files()] {
            for file in files(&directory) {
                let content = fs::read(&file).unwrap();
                let content = String::from_utf8_lossy(&content);
                assert!(!secrets.iter().any(|secret| content.contains(secret)), "{}", file.display());
            }
        }
        for file in files(&self.keyring.files()) {
            let content = fs::read(&file).unwrap();
            let content = String::from_utf8_lossy(&content);
            let names = [self.sshd.user(), "Vault", &self.sshd.key().path().display().to_string()];
            assert!(!names.iter().any(|name| content.contains(name)), "{content}");
        }
    }
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_is_remembered_on_this_computer_leaves_the_code_to_be_typed() {
    let mut desk = Desk::new();
    desk.mount_and_remember("on this computer");
    desk.mounts_by_a_code();
    desk.keyring.log_in_again();
    desk.mounts_by_a_code();
    desk.nothing_is_readable();
    let shown = desk.shown();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown.iter().all(|line| line.ends_with(", on this computer")), "{shown:?}");
    let described = desk.keyring.described();
    assert!(described.contains("Scaup: the password of vault"), "{described}");
    let (status, screen) = desk.run("forget hq").end();
    assert!(status.success(), "{screen}");
    assert_eq!(desk.keyring.described(), "", "{screen}");
    assert_eq!(desk.shown(), [""; 0]);
    desk.is_asked_for_everything();
}

#[test]
fn what_is_remembered_until_the_user_logs_out_is_gone_then_and_never_on_disk() {
    let mut desk = Desk::new();
    let before: Vec<_> = files(&desk.keyring.files()).iter().map(|file| fs::read(file).unwrap()).collect();
    desk.mount_and_remember("u");
    desk.mounts_by_a_code();
    let after: Vec<_> = files(&desk.keyring.files()).iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(before == after, "the session's secrets were written to the disk");
    desk.keyring.log_in_again();
    desk.is_asked_for_everything();
    assert_eq!(desk.shown(), [""; 0]);
}

#[test]
fn a_remembered_secret_that_is_wrong_is_forgotten_and_asked_for() {
    let desk = Desk::new();
    desk.mount_and_remember("o");
    desk.keyring.falsify();
    let mut terminal = desk.typed_everything();
    terminal.answer(QUESTION, "always\n");
    let screen = desk.mounted(terminal);
    assert_eq!(screen.matches("is wrong: it is forgotten").count(), 2, "{screen}");
    desk.mounts_by_a_code();
}

#[test]
fn a_locked_keyring_asks_for_its_password_only_where_a_person_waits() {
    let desk = Desk::new();
    desk.mount_and_remember("always");
    desk.keyring.lock();
    // Nobody waits: this is what a service does at a login.
    let program = env!("CARGO_BIN_EXE_scaup");
    let words = format!(
        "DBUS_SESSION_BUS_ADDRESS='{}' setsid -w '{program}' mount hq </dev/null",
        desk.keyring.address()
    );
    let (status, said) = Terminal::run(&desk.scaup, &words).end();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(!desk.keyring.asks(), "{said}");
    let mut terminal = desk.run("mount hq");
    desk.keyring.unlock();
    desk.give_code(&mut terminal);
    let said = desk.mounted(terminal);
    assert!(!said.contains("Passphrase") && !said.contains("Password"), "{said}");
}

#[test]
fn the_doctor_leaves_the_keyring_alone() {
    let desk = Desk::new();
    desk.mount_and_remember("always");
    let mut terminal = desk.run("doctor hq");
    terminal.answer(&desk.passphrase(), &format!("{}\n", Sshd::PASSPHRASE));
    desk.give_code(&mut terminal);
    let (_, said) = terminal.end();
    assert!(said.contains(": it works") && !said.contains("Remember"), "{said}");
    assert_eq!(desk.shown().len(), 2, "{said}");
}

#[test]
fn a_keyring_that_is_silent_or_dead_is_in_nobodys_way() {
    let mut desk = Desk::new();
    desk.mount_and_remember("always");
    desk.keyring.freeze();
    desk.is_asked_for_everything_and_nothing_else();
    desk.keyring.end();
    desk.is_asked_for_everything_and_nothing_else();
    assert_eq!(desk.shown().len(), 2, "what is remembered stays known");
}

#[test]
fn remembered_codes_need_nobody() {
    let desk = Desk::new();
    let mut terminal = desk.run("bookmark remember-codes hq");
    terminal.answer("otpauth:// address or secret (Enter to leave it): ", "nonsense 1!\n");
    assert_eq!(terminal.end().0.code(), Some(2));
    let mut terminal = desk.run("bookmark remember-codes hq");
    let address = format!("otpauth://totp/HQ:alice?secret={}&issuer=HQ", desk.sshd.totp_secret());
    terminal.answer("otpauth:// address or secret (Enter to leave it): ", &format!("{address}\n"));
    let (status, screen) = terminal.end();
    assert!(status.success() && screen.contains("second factor beside the first"), "{screen}");
    let mut terminal = desk.run("mount hq --remember always");
    terminal.answer(&desk.passphrase(), &format!("{}\n", Sshd::PASSPHRASE));
    terminal.answer("Password for vault Vault: ", &format!("{}\n", desk.vault.manifest.password));
    desk.mounted(terminal);
    let (status, screen) = desk.run("mount hq").end();
    assert!(status.success(), "{screen}");
    assert!(desk.scaup.run(["unmount", "hq"]).status.success());
    for file in files(&desk.scaup.home().join("state")) {
        let content = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains(desk.sshd.totp_secret()), "{}", file.display());
    }
}

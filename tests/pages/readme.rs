//! README's recorded session is what a session shows.

use std::fs;

use scaup_rig::{Answers, Fixture, Scaup, Sshd};

use crate::support::terminal::Terminal;
use crate::support::{PASSWORD, scaup};

const README: &str = include_str!("../../README.md");

/// The recording, line by line.
fn recording() -> Vec<&'static str> {
    let behind = README.split_once("```console\n").expect("README has a recording").1;
    behind.split_once("```").expect("it ends").0.lines().collect()
}

/// The words of a line, and of those that differ from one session to the next, fingerprints and times, only what they
/// are.
fn words(line: &str) -> Vec<&str> {
    let kind = |word: &str| match word {
        _ if word.starts_with("SHA256:") => Some("FINGERPRINT"),
        _ if word.starts_with("20") && word.ends_with('Z') => Some("TIME"),
        _ => None,
    };
    line.split_whitespace().map(|word| kind(word).unwrap_or(word)).collect()
}

/// A server that holds what the recording's does, and a home from which `hq.example` leads there.
fn headquarters() -> (Scaup, Sshd) {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    fs::create_dir(sshd.home().join("Photos")).unwrap();
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").answering(&Answers::login(&sshd).vault(PASSWORD)).start();
    fs::create_dir(mount.join("Vault/Contracts")).unwrap();
    fs::write(mount.join("Vault/Minutes.md"), "# Minutes\n\n- The files stay at headquarters.\n").unwrap();
    mount.unmount(&scaup);
    scaup.forget_codes();
    let ssh = scaup.home().join(".ssh");
    fs::create_dir(&ssh).unwrap();
    fs::copy(sshd.key().path(), ssh.join("id_ed25519")).unwrap();
    let config = format!("Host hq.example\nHostName {}\nPort {}\n", sshd.host(), sshd.port());
    fs::write(ssh.join("config"), config).unwrap();
    (scaup, sshd)
}

#[test]
fn the_recorded_session_is_what_a_session_shows() {
    let (scaup, sshd) = headquarters();
    // The recording's names, and those that stand for them here.
    let home = scaup.home().to_str().unwrap().to_owned();
    let served = sshd.home().to_str().unwrap().to_owned();
    let host = format!("[{}]:{}", sshd.host(), sshd.port());
    let names = [
        ("/srv/nextcloud", served.as_str()),
        ("/home/alice", &home),
        ("alice", sshd.user()),
        ("hq.example", &host),
        ("hq.example", sshd.host()),
    ];

    let mut script = format!("scaup() {{ '{}' \"$@\"; }}\n", env!("CARGO_BIN_EXE_scaup"));
    for command in recording().iter().filter_map(|line| line.strip_prefix("$ ")) {
        let here = command.replace("/srv/nextcloud", &served).replace("alice@", &format!("{}@", sshd.user()));
        script.push_str(&format!("printf '$ %s\\n' '{}'\n{here}\n", here.replace('\'', "'\\''")));
    }
    let file = scaup.home().join("session");
    fs::write(&file, script).unwrap();
    let mut terminal = Terminal::run(&scaup, &format!("sh '{}'", file.display()));
    terminal.answer("(yes/no)? ", "yes\n");
    terminal
        .answer(&format!("Passphrase for key {home}/.ssh/id_ed25519: "), &format!("{}\n", Sshd::PASSPHRASE));
    terminal.answer("Verification code: ", &format!("{}\n", sshd.totp()));
    terminal.answer("Password for vault Vault: ", &format!("{PASSWORD}\n"));
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");

    let mut shown = screen.replace("\r\n", "\n");
    for (name, here) in names {
        shown = shown.replace(here, name);
    }
    // How long saving takes is not what is shown.
    let is_saving = |line: &str| line.contains("\u{1b}[K") || line.contains("not on the server yet");
    let session: Vec<_> = shown.lines().filter(|line| !is_saving(line)).map(words).collect();
    let recorded: Vec<_> = recording().into_iter().filter(|line| *line != "$").map(words).collect();
    assert_eq!(recorded, session, "a session shows now:\n{shown}");
}

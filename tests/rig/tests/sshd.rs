//! The server as OpenSSH's own programs meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::{Command, Output, Stdio};

use scaup_rig::{Answers, KeyKind, KeyboardInteractive, Scaup, Sshd};

/// Runs OpenSSH's `sftp` with `script` as its commands, answering prompts by `answers`.
fn sftp(sshd: &Sshd, answers: &Answers, script: &str) -> Output {
    let scaup = Scaup::new("/nonexistent");
    let (askpass, _) = scaup.askpass(answers);
    let batch = scaup.home().join("batch");
    fs::write(&batch, script).unwrap();
    // `sftp -b` forbids prompts; commands on standard input do not.
    Command::new("sftp")
        .args(["-q", "-F", "none", "-P", &sshd.port().to_string(), "-i"])
        .arg(sshd.key().path())
        .args(["-o", "IdentitiesOnly=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", sshd.known_hosts_file().display()))
        .arg(format!("{}@{}", sshd.user(), sshd.host()))
        .env("SSH_ASKPASS", askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env_remove("SSH_AUTH_SOCK")
        .stdin(fs::File::open(batch).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

/// Answers for OpenSSH, whose prompts are all its own: the passphrase first, then whatever the server asks.
fn answers(first: &str, otp_command: Option<String>) -> Answers {
    Answers {
        passphrase: None,
        otp_command: Some(otp_command.unwrap_or_else(|| format!("echo '{first}'"))),
        vault_password: None,
    }
}

/// For a key with a passphrase: OpenSSH words its prompt `Enter passphrase for key 'PATH': `.
fn answers_with_passphrase(passphrase: &str, otp_command: &str) -> Answers {
    let command =
        format!("case \"$1\" in 'Enter passphrase'*) echo '{passphrase}' ;; *) {otp_command} ;; esac");
    answers("", Some(command))
}

#[test]
fn a_key_alone_lets_in_where_that_is_asked_for() {
    let sshd = Sshd::key_only().start();
    fs::write(sshd.files().join("hello"), "x").unwrap();
    let output = sftp(&sshd, &Answers::default(), "ls\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains("hello"), "{output:?}");
}

#[test]
fn key_and_code_let_in_and_a_wrong_code_does_not() {
    let sshd = Sshd::builder().start();
    fs::write(sshd.files().join("hello"), "x").unwrap();
    let right = answers_with_passphrase(Sshd::PASSPHRASE, &sshd.totp_command());
    let output = sftp(&sshd, &right, "ls\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains("hello"), "{output:?}");
    // Codes may be used again unless told otherwise, so that tests need not wait.
    assert!(sftp(&sshd, &right, "ls\n").status.success());

    let wrong = answers_with_passphrase(Sshd::PASSPHRASE, "echo 000000");
    let output = sftp(&sshd, &wrong, "ls\n");
    assert!(!output.status.success() && sshd.log().contains("Failed keyboard-interactive/pam"), "{output:?}");
}

#[test]
fn a_code_is_accepted_once_where_that_is_asked_for() {
    let sshd = Sshd::builder().codes_only_once().start();
    let code = format!("echo {}", sshd.totp());
    assert!(sftp(&sshd, &answers_with_passphrase(Sshd::PASSPHRASE, &code), "ls\n").status.success());
    let output = sftp(&sshd, &answers_with_passphrase(Sshd::PASSPHRASE, &code), "ls\n");
    assert!(!output.status.success() && sshd.log().contains("Failed keyboard-interactive/pam"), "{output:?}");
}

#[test]
fn password_and_code_in_each_order_and_method() {
    let asked = |sshd: &Sshd| {
        let command = format!("case \"$1\" in *assword*) echo secret ;; *) {} ;; esac", sshd.totp_command());
        answers("", Some(command))
    };
    for methods in ["password,keyboard-interactive", "keyboard-interactive,password"] {
        let sshd = Sshd::key_only().password("secret").authentication_methods(methods).start();
        assert!(sftp(&sshd, &asked(&sshd), "ls\n").status.success(), "{methods}\n{}", sshd.log());
    }
    let sshd = Sshd::key_only()
        .password("secret")
        .authentication_methods("keyboard-interactive")
        .keyboard_interactive(KeyboardInteractive::PasswordAndCode)
        .start();
    assert!(sftp(&sshd, &asked(&sshd), "ls\n").status.success(), "{}", sshd.log());
    let wrong = answers("nonsense", None);
    assert!(!sftp(&sshd, &wrong, "ls\n").status.success());
}

#[test]
fn chroot_external_server_and_several_host_keys() {
    let sshd = Sshd::key_only()
        .chroot()
        .host_keys(&[KeyKind::Ed25519, KeyKind::EcdsaP256, KeyKind::Rsa2048])
        .start();
    fs::write(sshd.files().join("inside"), "x").unwrap();
    let output = sftp(&sshd, &Answers::default(), "ls /files\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains("inside"), "{output:?}");

    let sshd = Sshd::key_only().subsystem("/usr/lib/openssh/sftp-server -R").start();
    let output = sftp(&sshd, &Answers::default(), "mkdir new\n");
    assert!(!sshd.files().join("new").exists(), "a read-only server must not write: {output:?}");
}

#[test]
fn servers_run_side_by_side_and_can_be_stopped_cut_and_started() {
    let mut first = Sshd::key_only().start();
    let second = Sshd::key_only().start();
    assert_ne!(first.user(), second.user());
    assert_ne!(first.port(), second.port());
    let port = first.port();
    first.stop();
    assert!(!sftp(&first, &Answers::default(), "ls\n").status.success());
    assert!(sftp(&second, &Answers::default(), "ls\n").status.success());
    first.start();
    assert_eq!(first.port(), port);
    assert!(sftp(&first, &Answers::default(), "ls\n").status.success());

    let connection = std::net::TcpStream::connect((first.host(), first.port())).unwrap();
    scaup_rig::eventually("the connection has a process", std::time::Duration::from_secs(10), || {
        !first.connections().is_empty()
    });
    first.cut_connections();
    scaup_rig::eventually("the connection is cut", std::time::Duration::from_secs(10), || {
        first.connections().is_empty()
    });
    drop(connection);
    assert!(sftp(&first, &Answers::default(), "ls\n").status.success());
}

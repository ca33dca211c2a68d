//! How questions reach a person: at the terminal, through `SSH_ASKPASS`, and by the user's own commands.

mod made_up_servers;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scaup_rig::{Answers, Fixture, Scaup, Sshd, eventually};

use crate::support::scaup;
use crate::support::terminal::{PATIENCE, Terminal};

/// A shell's words for mounting the server at `mnt` in the home.
fn mount_words(scaup: &Scaup, sshd: &Sshd, more: &str) -> String {
    format!(
        "'{}' mount {}@{} '{}' -p {} -i '{}' -o 'UserKnownHostsFile={}' {more}",
        env!("CARGO_BIN_EXE_scaup"),
        sshd.user(),
        sshd.host(),
        mountpoint(scaup).display(),
        sshd.port(),
        sshd.key().path().display(),
        sshd.known_hosts_file().display()
    )
}

fn mountpoint(scaup: &Scaup) -> std::path::PathBuf {
    scaup.home().join("mnt/terminal")
}

fn unmount(scaup: &Scaup) {
    let output = scaup.run([OsStr::new("unmount"), mountpoint(scaup).as_os_str()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A command that waits for somebody who never types, with more than one process; and where it notes the one that
/// waits.
fn waiting_command(scaup: &Scaup) -> (String, PathBuf) {
    let waits = scaup.home().join("waits");
    let command =
        format!("(sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000') | cat", waits.display());
    let script = scaup.home().join("waiting-command");
    fs::write(&script, command).unwrap();
    (format!("sh '{}'", script.display()), waits)
}

/// Waits until the command of [`waiting_command`] waits; the directory of its process.
fn waiting(noted: &Path) -> PathBuf {
    eventually("the command waits", PATIENCE, || noted.exists());
    Path::new("/proc").join(fs::read_to_string(noted).unwrap().trim())
}

/// Nothing of an attempt is left: no mount, no socket, no process that still waits.
fn nothing_is_left(scaup: &Scaup) {
    let sockets = || {
        fs::read_dir(scaup.home().join("run/scaup"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension() == Some(OsStr::new("sock")))
            .count()
    };
    eventually("the daemon is gone", Duration::from_secs(10), || sockets() == 0);
    assert!(!mountpoint(scaup).exists());
    assert_eq!(scaup.status()["mounts"].as_array().unwrap().len(), 0);
}

#[test]
fn at_a_terminal_everything_is_asked_for_and_no_secret_is_shown() {
    let scaup = scaup();
    let sshd = Sshd::builder().start();
    let vault = Fixture::unpack("gcm8");
    vault.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mut terminal = Terminal::run(&scaup, &mount_words(&scaup, &sshd, ""));
    terminal.answer(&format!("Passphrase for key {}: ", sshd.key().path().display()), "wrong\n");
    terminal.answer(
        &format!("Passphrase for key {}: ", sshd.key().path().display()),
        &format!("{}\n", Sshd::PASSPHRASE),
    );
    let code = sshd.totp();
    terminal.answer(&format!("({}@{}) Verification code: ", sshd.user(), sshd.host()), &format!("{code}\n"));
    terminal.answer("Password for vault Vault: ", &format!("{}\n", vault.manifest.password));
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    for secret in [Sshd::PASSPHRASE, &code, &vault.manifest.password] {
        assert!(!screen.contains(secret), "{secret} was shown: {screen}");
    }
    let place = |words: &str| screen.find(words).unwrap_or_else(|| panic!("{words}: {screen}"));
    assert!(place("code accepted") < place("the login has ended"), "{screen}");
    assert!(place("the login has ended") < place("Password for vault Vault: "), "{screen}");
    for said in
        ["wrong passphrase", "key accepted", "code accepted", "vault Vault found", "vault Vault unlocked"]
    {
        assert!(screen.contains(said), "{said}: {screen}");
    }
    assert_eq!(scaup.status()["mounts"][0]["vaults"][0]["state"], "unlocked");
    secrets_are_nowhere(&scaup, &[Sshd::PASSPHRASE, &code, &vault.manifest.password]);
    unmount(&scaup);
}

/// No process of this user shows a secret in its arguments or environment, and no log holds one.
fn secrets_are_nowhere(scaup: &Scaup, secrets: &[&str]) {
    let holds = |path: &Path| {
        let content = fs::read(path).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        secrets.iter().any(|secret| content.contains(secret))
    };
    let pid = scaup.status()["mounts"][0]["pid"].as_u64().unwrap();
    for file in ["cmdline", "environ"] {
        assert!(!holds(Path::new(&format!("/proc/{pid}/{file}"))), "{file}");
    }
    for directory in ["state/scaup", "run/scaup"] {
        for entry in fs::read_dir(scaup.home().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            assert!(!holds(&path), "{}", path.display());
        }
    }
}

#[test]
fn an_empty_vault_password_leaves_the_vault_locked() {
    let scaup = scaup();
    let sshd = Sshd::key_only().start();
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mut terminal = Terminal::run(&scaup, &mount_words(&scaup, &sshd, ""));
    terminal.answer("Password for vault Vault: ", "\n");
    let (status, screen) = terminal.end();
    assert!(status.success() && screen.contains("stays locked"), "{screen}");
    assert_eq!(scaup.status()["mounts"][0]["vaults"][0]["state"], "locked");

    let unlock = format!("'{}' unlock", env!("CARGO_BIN_EXE_scaup"));
    let mut terminal = Terminal::run(&scaup, &unlock);
    terminal.answer("Password for vault Vault: ", "not it\n");
    terminal.answer("Password for vault Vault: ", "\u{3}");
    let (status, screen) = terminal.end();
    assert_eq!(status.code(), Some(5), "{screen}");
    unmount(&scaup);
}

#[test]
fn ctrl_c_at_a_prompt_leaves_nothing_behind_and_the_terminal_as_it_was() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let command = format!("stty -a; {}; echo ended with $?; stty -a", mount_words(&scaup, &sshd, ""));
    let mut terminal = Terminal::run(&scaup, &command);
    terminal.answer(": ", "half a passphrase\u{3}");
    let (_, screen) = terminal.end();
    assert!(screen.contains("ended with 3") && screen.contains("cancelled"), "{screen}");
    assert!(!screen.contains("half a"), "{screen}");
    let settings =
        |text: &str| text.lines().filter(|line| line.contains("echo")).map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = screen.split_once("ended with").unwrap();
    let before: Vec<String> = settings(before).into_iter().filter(|line| line.contains("isig")).collect();
    let after: Vec<String> = settings(after).into_iter().filter(|line| line.contains("isig")).collect();
    assert!(!before.is_empty());
    assert_eq!(before, after);
    nothing_is_left(&scaup);
}

#[test]
fn ctrl_c_ends_a_command_that_waits_and_all_that_it_started() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let (command, noted) = waiting_command(&scaup);
    let passphrase = scaup.command_answering(Sshd::PASSPHRASE);
    let more = format!("--passphrase-command \"{passphrase}\" --otp-command \"{command}\"");
    let mut terminal = Terminal::run(&scaup, &mount_words(&scaup, &sshd, &more));
    let process = waiting(&noted);
    let reason = scaup.status()["mounts"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("waiting for the command") && reason.contains("Verification code:"), "{reason}");
    terminal.answer("key accepted\r\n", "\u{3}");
    let (status, screen) = terminal.end();
    assert!(!status.success(), "{screen}");
    eventually("the command ends", PATIENCE, || !process.exists());
    nothing_is_left(&scaup);
}

#[test]
fn ctrl_c_ends_the_command_that_unlocks() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let vault = Fixture::unpack("empty-gcm");
    vault.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").start();
    let (command, noted) = waiting_command(&scaup);
    let unlock = format!("'{}' unlock --vault-password-command \"{command}\"", env!("CARGO_BIN_EXE_scaup"));
    let mut terminal = Terminal::run(&scaup, &unlock);
    let process = waiting(&noted);
    terminal.answer("", "\u{3}");
    terminal.end();
    eventually("the command ends", PATIENCE, || !process.exists());
    // The mount is none the worse.
    let command = scaup.command_answering(&vault.manifest.password);
    let output = scaup.run(["unlock", "--vault-password-command", &command]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    mount.unmount(&scaup);
}

#[test]
fn closing_the_terminal_at_a_prompt_leaves_nothing_behind() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let mut terminal = Terminal::run(&scaup, &mount_words(&scaup, &sshd, ""));
    terminal.answer(&format!("Passphrase for key {}: ", sshd.key().path().display()), "");
    drop(terminal);
    nothing_is_left(&scaup);
}

#[test]
fn while_somebody_is_asked_status_says_so_and_unmount_gives_up() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let mut terminal = Terminal::run(&scaup, &mount_words(&scaup, &sshd, ""));
    terminal.answer(&format!("Passphrase for key {}: ", sshd.key().path().display()), "");
    let status = scaup.status();
    assert_eq!(status["mounts"][0]["state"], "waiting_for_answer", "{status}");
    unmount(&scaup);
    nothing_is_left(&scaup);
}

#[test]
fn an_unknown_host_is_asked_about_at_the_terminal() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let known = scaup.home().join("known");
    let words = mount_words(&scaup, &sshd, "").replace(
        &format!("UserKnownHostsFile={}", sshd.known_hosts_file().display()),
        &format!("UserKnownHostsFile={}", known.display()),
    );
    let mut terminal = Terminal::run(&scaup, &words);
    terminal.answer("(yes/no)? ", "yes\n");
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    assert!(screen.contains(&sshd.host_keys()[0].fingerprint()), "{screen}");
    assert!(screen.contains("(yes/no)? yes"), "what is no secret is shown: {screen}");
    unmount(&scaup);
}

#[test]
fn a_server_gets_nothing_that_was_typed_for_a_vault() {
    let scaup = scaup();
    let sshd = Sshd::key_only().authentication_methods("keyboard-interactive").start();
    let vault = Fixture::unpack("empty-gcm");
    vault.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let place = format!("{}@{}:Vault", sshd.user(), sshd.host());
    let words = format!(
        "'{}' vault check {place} -p {} -o 'UserKnownHostsFile={}'",
        env!("CARGO_BIN_EXE_scaup"),
        sshd.port(),
        sshd.known_hosts_file().display()
    );
    let mut terminal = Terminal::run(&scaup, &words);
    let code = format!("({}@{}) Verification code: ", sshd.user(), sshd.host());
    let password = format!("Password for vault {place}: ");
    terminal.answer(&code, &format!("{}\n", sshd.totp()));
    terminal.answer(&password, "");
    // The server wants a login at this very moment, and would ask for its code.
    let before = sshd.connections();
    sshd.cut_connections();
    let is_new = |connection: &u32| !before.contains(connection);
    eventually("it is connected anew", PATIENCE, || sshd.connections().iter().any(is_new));
    eventually("the server asks", PATIENCE, || {
        sshd.log().matches("Postponed keyboard-interactive").count() >= 2
    });
    let screen = terminal.screen();
    assert!(screen.ends_with(&password), "one question at a time: {screen}");
    let ended = screen.find("the login has ended").expect("it says so");
    assert!(screen.find(&code).unwrap() < ended && ended < screen.find(&password).unwrap(), "{screen}");
    // Who types now answers the question that stands there.
    terminal.answer("", &format!("{}\n", vault.manifest.password));
    terminal.answer(&code, "");
    let screen = terminal.screen();
    assert!(!screen.contains(&vault.manifest.password), "{screen}");
}

/// Has the server's PAM show what is typed, and ask in other words.
fn ask_with_echo(sshd: &Sshd, prompt: &str) {
    let service = Path::new("/etc/pam.d").join(sshd.user());
    let text = fs::read_to_string(&service).unwrap();
    let changed = text.replace(
        "pam_google_authenticator.so",
        &format!("pam_google_authenticator.so echo_verification_code [authtok_prompt={prompt}]"),
    );
    assert_ne!(text, changed);
    fs::write(&service, changed).unwrap();
}

#[test]
fn the_servers_own_words_and_its_wish_for_echo() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().authentication_methods("keyboard-interactive").start());
    ask_with_echo(&sshd, "Number on your token, please> ");
    let mut terminal = Terminal::run(&scaup, &mount_words(&scaup, &sshd, ""));
    let prompt = format!("({}@{}) Number on your token, please> ", sshd.user(), sshd.host());
    let code = sshd.totp();
    terminal.answer(&prompt, &format!("{code}\n"));
    let (status, screen) = terminal.end();
    assert!(status.success(), "{screen}");
    assert!(screen.contains(&format!("{prompt}{code}")), "the server wants it shown: {screen}");
    unmount(&scaup);
}

#[test]
fn a_new_vaults_password_is_asked_for_twice() {
    let (scaup, password) = (scaup(), "a new password");
    let vault = |name: &str| scaup.home().join(name);
    let first = |name: &str| format!("New password for vault {}: ", vault(name).display());
    for (again, code) in [("another password", 5), (password, 0)] {
        let words = format!("'{}' vault create '{}'", env!("CARGO_BIN_EXE_scaup"), vault("typed").display());
        let mut terminal = Terminal::run(&scaup, &words);
        terminal.answer(&first("typed"), &format!("{password}\n"));
        terminal.answer("The same again: ", &format!("{again}\n"));
        let (status, screen) = terminal.end();
        assert_eq!(status.code(), Some(code), "{screen}");
        assert_eq!(
            screen.contains("the two passwords differ; no vault was created"),
            again != password,
            "{screen}"
        );
        assert!(!screen.contains(password) && !screen.contains(again), "{screen}");
        assert_eq!(vault("typed").exists(), again == password);
    }
    for (again, code) in [("exit 1", 5), ("echo 'another password'", 5), ("echo 'a new password'", 0)] {
        let command = format!("case \"$1\" in 'New password '*) echo '{password}' ;; *) {again} ;; esac");
        let (program, noted) = scaup.askpass(&Answers { otp_command: Some(command), ..Answers::default() });
        let mut create = scaup.command();
        create.env("SSH_ASKPASS", program).args(["vault", "create"]).arg(vault("asked"));
        assert_eq!(create.status().unwrap().code(), Some(code), "{again}");
        assert_eq!(fs::read_to_string(noted).unwrap(), format!("{}\nThe same again: \n", first("asked")));
        assert_eq!(vault("asked").exists(), code == 0);
    }
    for name in ["typed", "asked"] {
        let mount =
            scaup.mount(vault(name)).answering(&Answers::default().vault(password)).args(["--vault", "."]);
        mount.start().unmount(&scaup);
    }
}

#[test]
fn a_program_instead_of_the_terminal_where_the_user_wants_that() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let (program, noted) = scaup.askpass(&Answers::login(&sshd));
    for require in ["force", "prefer"] {
        let words = mount_words(&scaup, &sshd, "");
        let command = format!("SSH_ASKPASS='{}' SSH_ASKPASS_REQUIRE={require} {words}", program.display());
        let (status, screen) = Terminal::run(&scaup, &command).end();
        assert!(status.success(), "{screen}");
        assert!(!screen.contains("Passphrase"), "{screen}");
        unmount(&scaup);
        scaup.forget_codes();
    }
    let asked = fs::read_to_string(&noted).unwrap();
    // With a terminal, the program is not asked unless that is wished for.
    for require in ["never", ""] {
        let words = mount_words(&scaup, &sshd, "");
        let command = format!("SSH_ASKPASS='{}' SSH_ASKPASS_REQUIRE={require} {words}", program.display());
        let mut terminal = Terminal::run(&scaup, &command);
        terminal.answer(&format!("Passphrase for key {}: ", sshd.key().path().display()), "\u{4}");
        let (status, screen) = terminal.end();
        assert_eq!(status.code(), Some(3), "{screen}");
    }
    assert_eq!(fs::read_to_string(&noted).unwrap(), asked);
}

#[test]
fn without_a_terminal_the_program_is_asked_unless_that_is_forbidden() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let (program, _) = scaup.askpass(&Answers::login(&sshd));
    let mount = scaup.mount_on(&sshd, "").env("SSH_ASKPASS", &program).start();
    mount.unmount(&scaup);
    let mount = scaup.mount_on(&sshd, "").env("SSH_ASKPASS", &program).env("SSH_ASKPASS_REQUIRE", "never");
    let output = mount.refused();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
}

#[test]
fn with_nobody_to_ask_the_error_says_so_at_once() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let output = scaup.mount_on(&sshd, "").refused();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("no terminal") && said.contains("SSH_ASKPASS"), "{said}");

    let output = scaup.mount_on(&sshd, "").env("SSH_ASKPASS", "/nonexistent/program").refused();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/nonexistent/program"), "{said}");
}

#[test]
fn commands_are_told_what_they_are_asked_for() {
    let scaup = scaup();
    let sshd = Sshd::builder().start();
    let vault = Fixture::unpack("empty-gcm");
    vault.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let noted = scaup.home().join("noted");
    let noting = |command: &str| {
        format!(
            "printf '%s|%s\\n' \"$SCAUP_PROMPT\" \"${{SCAUP_VAULT-}}\" >> '{}'; {command}",
            noted.display()
        )
    };
    let mount = scaup
        .mount_on(&sshd, "")
        .args(["--passphrase-command", &noting(&scaup.command_answering(Sshd::PASSPHRASE))])
        .args(["--otp-command", &noting(&sshd.totp_command())])
        .args(["--vault-password-command", &noting(&scaup.command_answering(&vault.manifest.password))])
        .start();
    let expected = format!(
        "Passphrase for key {}: |\n({}@{}) Verification code: |\nPassword for vault Vault: |Vault\n",
        sshd.key().path().display(),
        sshd.user(),
        sshd.host()
    );
    assert_eq!(fs::read_to_string(&noted).unwrap(), expected);
    // So is the command of a front end that comes later, which is run where that is.
    let later = format!(
        "pwd >> '{}'; {}",
        noted.display(),
        noting(&scaup.command_answering(&vault.manifest.password))
    );
    assert!(scaup.run(["lock"]).status.success());
    fs::write(&noted, "").unwrap();
    let mut unlock = scaup.command();
    unlock.args(["unlock", "--vault-password-command", &later]).current_dir(scaup.home().join("answers"));
    assert!(unlock.status().unwrap().success());
    let expected = format!("{}\nPassword for vault Vault: |Vault\n", scaup.home().join("answers").display());
    assert_eq!(fs::read_to_string(&noted).unwrap(), expected);
    // One that fails is not run again, and opens nothing.
    assert!(scaup.run(["lock"]).status.success());
    let failing = format!("echo once >> '{}'; exit 3", noted.display());
    fs::write(&noted, "").unwrap();
    let output = scaup.run(["unlock", "--vault-password-command", &failing]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("no password was given") && said.contains('3'), "{said}");
    assert_eq!(fs::read_to_string(&noted).unwrap(), "once\n");
    // Without one of its own, that of the mount does.
    let output = scaup.run(["unlock"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    secrets_are_nowhere(&scaup, &[Sshd::PASSPHRASE, &vault.manifest.password]);
    mount.unmount(&scaup);
}

#[test]
fn a_password_is_not_taken_from_the_command_for_codes() {
    let scaup = scaup();
    let sshd = Sshd::key_only()
        .password("s3cret!")
        .authentication_methods("keyboard-interactive")
        .keyboard_interactive(scaup_rig::KeyboardInteractive::PasswordAndCode)
        .start();
    let (program, noted) =
        scaup.askpass(&Answers { otp_command: Some("echo 's3cret!'".to_owned()), ..Answers::default() });
    let mount =
        scaup.mount_on(&sshd, "").askpass(&program).args(["--otp-command", &sshd.totp_command()]).start();
    assert_eq!(
        fs::read_to_string(&noted).unwrap(),
        format!("({}@{}) Password: \n", sshd.user(), sshd.host())
    );
    mount.unmount(&scaup);
    scaup.forget_codes();
    // Nor where no daemon stands between.
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mut info = scaup.command();
    info.args(["vault", "info", &format!("{}@{}:Vault", sshd.user(), sshd.host())])
        .args(["-p", &sshd.port().to_string(), "--otp-command", &sshd.totp_command()])
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts_file().display())])
        .env("SSH_ASKPASS", &program)
        .env("SSH_ASKPASS_REQUIRE", "force");
    let output = scaup_rig::within(PATIENCE, move || info.output().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_wrong_vault_password_is_asked_for_three_times() {
    let scaup = scaup();
    let sshd = Sshd::key_only().start();
    let vault = Fixture::unpack("empty-gcm");
    vault.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let (program, noted) = scaup.askpass(&Answers::default().vault(&vault.manifest.wrong_password));
    let output = scaup.mount_on(&sshd, "").askpass(&program).args(["--vault", "Vault"]).refused();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("wrong password for vault Vault"), "{said}");
    assert_eq!(fs::read_to_string(&noted).unwrap(), "Password for vault Vault: \n".repeat(3));

    let (program, _) = scaup.askpass(&Answers::default());
    let output = scaup.mount_on(&sshd, "").askpass(&program).args(["--vault", "Vault"]).refused();
    assert_eq!(output.status.code(), Some(5), "a cancelled password");
}

//! Logging in to a real OpenSSH server: keys of every kind, agents, certificates, codes and passwords in every order.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use scaup_rig::{
    Answers, Fixture, Key, KeyKind, KeyboardInteractive, MountCommand, Scaup, Sshd, SshdBuilder, eventually,
    run,
};

use crate::support::scaup;

/// Prepares to mount with `key` instead of the server's own first key.
fn mount_with<'a>(scaup: &'a Scaup, sshd: &Sshd, key: &Path) -> MountCommand<'a> {
    mount_without_key(scaup, sshd).args(["-i".as_ref(), key.as_os_str()])
}

/// Prepares to mount with whatever identities the program finds by itself.
fn mount_without_key<'a>(scaup: &'a Scaup, sshd: &Sshd) -> MountCommand<'a> {
    scaup.mount(format!("{}@{}", sshd.user(), sshd.host())).args([
        "-p".to_owned(),
        sshd.port().to_string(),
        "-o".to_owned(),
        format!("UserKnownHostsFile={}", sshd.known_hosts_file().display()),
    ])
}

/// Mounts, sees what the server holds, and unmounts; returns what was said while mounting.
fn comes_in(scaup: &Scaup, sshd: &Sshd, mount: MountCommand<'_>) -> String {
    fs::write(sshd.home().join("greeting"), "come in").unwrap();
    let mount = mount.start();
    assert_eq!(fs::read_to_string(mount.join("greeting")).unwrap(), "come in");
    let said = mount.said().to_owned();
    mount.unmount(scaup);
    said
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// The prompts that an askpass program was given.
fn prompts(noted: &Path) -> Vec<String> {
    fs::read_to_string(noted).unwrap().lines().map(str::to_owned).collect()
}

/// An `ssh-agent` that ends with the test.
struct Agent {
    socket: PathBuf,
    process: Child,
}

impl Agent {
    fn start(scaup: &Scaup, keys: &[&Path]) -> Self {
        let socket = scaup.home().join("agent");
        let process =
            Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self { socket, process };
        eventually("the agent listens", Duration::from_secs(10), || agent.socket.exists());
        for key in keys {
            run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.socket));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One key of each kind, in each format that `ssh-keygen` writes for it, with and without a passphrase: with one, not
/// in the old PEM format.
fn keys_of_every_kind(directory: &Path) -> Vec<Key> {
    let mut keys = Vec::new();
    for kind in KeyKind::ALL {
        for passphrase in ["", "correct horse"] {
            let path = |format: &str| directory.join(format!("{kind:?}-{format}-{}", passphrase.len()));
            keys.push(Key::generate(&path("openssh"), kind, passphrase));
            // OpenSSH writes Ed25519 in its own format only.
            if kind != KeyKind::Ed25519 {
                keys.push(Key::generate_pem(&path("pkcs8"), kind, passphrase, "PKCS8"));
                if passphrase.is_empty() {
                    keys.push(Key::generate_pem(&path("pem"), kind, passphrase, "PEM"));
                }
            }
        }
    }
    keys
}

fn each_key_comes_in(of: impl Fn(&Key) -> bool) {
    let scaup = scaup();
    let keys: Vec<Key> = keys_of_every_kind(scaup.home()).into_iter().filter(of).collect();
    assert!(!keys.is_empty());
    let sshd = keys.iter().fold(Sshd::key_only(), |sshd, key| sshd.authorize(&key.public_line())).start();
    for key in &keys {
        let answers = Answers {
            passphrase: (!key.passphrase().is_empty()).then(|| key.passphrase().to_owned()),
            ..Answers::default()
        };
        let said = comes_in(&scaup, &sshd, mount_with(&scaup, &sshd, key.path()).answering(&answers));
        assert!(said.contains("key accepted"), "{}: {said}", key.path().display());
    }
}

#[test]
fn keys_without_a_passphrase_of_every_kind_and_format() {
    each_key_comes_in(|key| key.passphrase().is_empty());
}

#[test]
fn keys_with_a_passphrase_of_every_kind_and_format() {
    each_key_comes_in(|key| !key.passphrase().is_empty());
}

#[test]
fn key_and_code_and_what_is_said_on_the_way() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let (askpass, noted) = scaup.askpass(&Answers::login(&sshd));
    let said = comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").askpass(&askpass));
    assert_eq!(
        prompts(&noted),
        [
            format!("Passphrase for key {}: ", sshd.key().path().display()),
            format!("({}@{}) Verification code: ", sshd.user(), sshd.host()),
        ]
    );
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text} is not in {said}"));
    assert!(at("key accepted") < at("code accepted") && at("code accepted") < at("is mounted at"), "{said}");
}

#[test]
fn one_login_is_enough_for_all_channels() {
    let (scaup, sshd) = (scaup(), Sshd::builder().config("MaxSessions 1").start());
    comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").answering(&Answers::login(&sshd)));
    assert_eq!(sshd.log().matches("Accepted keyboard-interactive/pam").count(), 1);
}

/// `scaup vault info` of the vault in the login directory, with the server's key and this command for codes.
fn vault_info(scaup: &Scaup, sshd: &Sshd, otp_command: &str) -> Command {
    let mut info = scaup.command();
    info.args(["vault", "info", &format!("{}@{}:Vault", sshd.user(), sshd.host())])
        .args(["-p", &sshd.port().to_string(), "-i"])
        .arg(sshd.key().path())
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts_file().display())])
        .args(["--passphrase-command", &scaup.command_answering(Sshd::PASSPHRASE)])
        .args(["--otp-command", otp_command]);
    info
}

/// Runs a command until it waits for the next code, and ends it then.
fn waits_for_the_next_code(scaup: &Scaup, mut command: Command) {
    let words = scaup.home().join("words");
    let mut process = command.stderr(fs::File::create(&words).unwrap()).spawn().unwrap();
    eventually("it waits for the next code", Duration::from_secs(20), || {
        fs::read_to_string(&words).unwrap().contains("waiting for the next, which comes in")
    });
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_code_is_never_sent_twice() {
    let (scaup, sshd) = (scaup(), Sshd::builder().codes_only_once().start());
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let answers = Answers::login(&sshd);
    // The code is another one when the command ends than when it began, and the next login has most of a step for
    // itself.
    let slowly = format!("sleep {}; {}", sshd.totp_remaining().as_secs() + 1, sshd.totp_command());
    let slow = Answers { otp_command: Some(slowly), ..answers.clone() };
    comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").answering(&slow).args(["--no-vaults"]));

    let mut info = vault_info(&scaup, &sshd, &sshd.totp_command());
    let info = scaup_rig::within(Duration::from_secs(60), move || info.output().unwrap());
    assert!(info.status.success() && said(&info).contains("waiting for the next"), "{}", said(&info));

    let mut mount = scaup.command();
    mount
        .args(["mount", &format!("{}@{}", sshd.user(), sshd.host())])
        .arg(scaup.home().join("mnt/again"))
        .args(["-p", &sshd.port().to_string(), "-i"])
        .arg(sshd.key().path())
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts_file().display())])
        .args(["--passphrase-command", &scaup.command_answering(Sshd::PASSPHRASE)])
        .args(["--otp-command", &sshd.totp_command()]);
    waits_for_the_next_code(&scaup, mount);
    let log = sshd.log();
    assert!(!log.contains("Failed keyboard-interactive"), "a used code was sent: {log}");
    assert_eq!(log.matches("Accepted keyboard-interactive").count(), 2, "{log}");
}

#[test]
fn a_refused_code_is_not_sent_again_whoever_gives_it() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let (askpass, noted) =
        scaup.askpass(&Answers { otp_command: Some("echo 000000".to_owned()), ..Answers::login(&sshd) });
    let mut mount = scaup.command();
    mount
        .args(["mount", &format!("{}@{}", sshd.user(), sshd.host())])
        .arg(scaup.home().join("mnt/refused"))
        .args(["-p", &sshd.port().to_string(), "-i"])
        .arg(sshd.key().path())
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts_file().display())])
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force");
    waits_for_the_next_code(&scaup, mount);
    assert_eq!(prompts(&noted).len(), 3, "passphrase and two codes: {:?}", prompts(&noted));
    // Nor by a command, in a login without a daemon.
    waits_for_the_next_code(&scaup, vault_info(&scaup, &sshd, "echo 000000"));
    assert_eq!(sshd.log().matches("Failed keyboard-interactive").count(), 1, "{}", sshd.log());
}

#[test]
fn a_wrong_code_is_asked_for_three_times() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let answers = Answers { otp_command: Some(scaup.command_giving_wrong_codes()), ..Answers::login(&sshd) };
    let (askpass, noted) = scaup.askpass(&answers);
    let output = scaup.mount_on(&sshd, "").askpass(&askpass).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(said(&output).contains("wrong code"), "{}", said(&output));
    assert_eq!(prompts(&noted).len(), 4, "{:?}", prompts(&noted));
}

#[test]
fn the_second_code_may_be_right() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let once = scaup.home().join("once");
    let command = format!(
        "if [ -e '{0}' ]; then {1}; else touch '{0}'; echo 000000; fi",
        once.display(),
        sshd.totp_command()
    );
    let answers = Answers { otp_command: Some(command), ..Answers::login(&sshd) };
    let (askpass, _) = scaup.askpass(&answers);
    let said = comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").askpass(&askpass));
    assert!(said.contains("wrong code"), "{said}");
}

#[test]
fn a_wrong_passphrase_is_asked_for_three_times_and_the_server_hears_nothing_of_it() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let answers = Answers { passphrase: Some("wrong".to_owned()), ..Answers::login(&sshd) };
    let (askpass, noted) = scaup.askpass(&answers);
    let output = scaup.mount_on(&sshd, "").askpass(&askpass).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    let key = sshd.key().path().display().to_string();
    assert!(said(&output).contains("wrong passphrase") && said(&output).contains(&key), "{}", said(&output));
    assert_eq!(prompts(&noted).len(), 3);
    assert!(!sshd.log().contains("Failed publickey"));
}

#[test]
fn a_wrong_password_is_asked_for_three_times() {
    let scaup = scaup();
    let sshd = Sshd::key_only().authentication_methods("password").password("right one").start();
    let (askpass, noted) =
        scaup.askpass(&Answers { otp_command: Some("echo 'wrong one'".to_owned()), ..Answers::default() });
    let output = mount_without_key(&scaup, &sshd).askpass(&askpass).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(said(&output).contains("wrong password"), "{}", said(&output));
    assert_eq!(prompts(&noted), vec![format!("({}@{}) Password: ", sshd.user(), sshd.host()); 3]);
}

#[test]
fn a_password_that_the_server_asks_for_by_a_prompt_is_called_one() {
    use KeyboardInteractive::{Password, PasswordAndCode};
    let server = |asks| {
        Sshd::key_only()
            .authentication_methods("keyboard-interactive")
            .keyboard_interactive(asks)
            .password("right one")
            .start()
    };
    for (asks, accepted) in [(Password, "password accepted"), (PasswordAndCode, "password and code accepted")]
    {
        let (scaup, sshd) = (scaup(), server(asks));
        let (askpass, _) = password_or_code(&scaup, &sshd, "right one");
        let words = comes_in(&scaup, &sshd, mount_without_key(&scaup, &sshd).askpass(&askpass));
        assert!(words.lines().any(|line| line == accepted), "{words}");

        let (askpass, noted) = password_or_code(&scaup, &sshd, "wrong one");
        let output = mount_without_key(&scaup, &sshd).askpass(&askpass).refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
        assert!(said(&output).contains("login refused: wrong password, 3 times"), "{}", said(&output));
        assert!(!said(&output).contains("wrong code"), "{}", said(&output));
        assert_eq!(prompts(&noted), vec![format!("({}@{}) Password: ", sshd.user(), sshd.host()); 3]);
    }
    // Which of the two it was, the server does not say.
    let (scaup, sshd) = (scaup(), server(PasswordAndCode));
    let wrong = scaup.command_giving_wrong_codes();
    let command = format!("case \"$1\" in *assword*) echo 'right one' ;; *) {wrong} ;; esac");
    let (askpass, _) = scaup.askpass(&Answers { otp_command: Some(command), ..Answers::default() });
    let output = mount_without_key(&scaup, &sshd).askpass(&askpass).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(said(&output).contains("wrong password or code, 3 times"), "{}", said(&output));
}

#[test]
fn a_cancelled_prompt_ends_the_login() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    for (answers, question) in [
        (Answers::default(), "Passphrase for key"),
        (Answers { otp_command: None, ..Answers::login(&sshd) }, "Verification code"),
    ] {
        let (askpass, _) = scaup.askpass(&answers);
        let output = scaup.mount_on(&sshd, "").askpass(&askpass).refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
        assert!(said(&output).contains(question), "{}", said(&output));
    }
}

#[test]
fn a_command_that_fails_is_named() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let answers =
        Answers { otp_command: Some("echo no token >&2; exit 3".to_owned()), ..Answers::login(&sshd) };
    let output = scaup.mount_on(&sshd, "").answering(&answers).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("no token") && said(&output).contains("exit status: 3"),
        "{}",
        said(&output)
    );
}

/// Answers the account's password, or the code, by what the server asks.
fn password_or_code(scaup: &Scaup, sshd: &Sshd, password: &str) -> (PathBuf, PathBuf) {
    let command =
        format!("case \"$1\" in *assword*) echo '{password}' ;; *) {} ;; esac", sshd.totp_command());
    scaup.askpass(&Answers { otp_command: Some(command), ..Answers::login(sshd) })
}

#[test]
fn methods_in_every_order_the_server_wants() {
    use KeyboardInteractive::{Code, Password, PasswordAndCode};
    for (methods, asks, expected) in [
        ("password,keyboard-interactive", Code, vec!["Password: ", "Verification code: "]),
        ("keyboard-interactive,password", Code, vec!["Verification code: ", "Password: "]),
        ("keyboard-interactive", PasswordAndCode, vec!["Password: ", "Verification code: "]),
        ("keyboard-interactive", Password, vec!["Password: "]),
        ("publickey,password", Code, vec!["Password: "]),
        ("publickey,password,keyboard-interactive", Code, vec!["Password: ", "Verification code: "]),
        ("keyboard-interactive,publickey", Code, vec!["Verification code: "]),
        ("publickey,keyboard-interactive", PasswordAndCode, vec!["Password: ", "Verification code: "]),
        ("hostbased publickey,keyboard-interactive", Code, vec!["Verification code: "]),
    ] {
        let scaup = scaup();
        let server =
            |builder: SshdBuilder| builder.authentication_methods(methods).keyboard_interactive(asks);
        let sshd = server(Sshd::key_only().password("s3cret!")).start();
        let (askpass, noted) = password_or_code(&scaup, &sshd, "s3cret!");
        comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").askpass(&askpass));
        let word_for_word: Vec<String> =
            expected.iter().map(|prompt| format!("({}@{}) {prompt}", sshd.user(), sshd.host())).collect();
        assert_eq!(prompts(&noted), word_for_word, "{methods}");
    }
}

#[test]
fn the_method_that_the_user_prefers() {
    let scaup = scaup();
    let sshd = Sshd::key_only().password("s3cret!").authentication_methods("any").start();
    let (askpass, noted) = password_or_code(&scaup, &sshd, "s3cret!");
    let option = ["-o", "PreferredAuthentications=password"];
    comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").askpass(&askpass).args(option));
    assert_eq!(prompts(&noted), [format!("({}@{}) Password: ", sshd.user(), sshd.host())]);
    let option = ["-o", "PreferredAuthentications=gssapi-with-mic"];
    let output = scaup.mount_on(&sshd, "").askpass(&askpass).args(option).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
}

#[test]
fn methods_that_the_user_rules_out() {
    let sshd = Sshd::key_only().password("s3cret!").authentication_methods("any").start();
    let scaup = scaup();
    let (askpass, noted) = password_or_code(&scaup, &sshd, "s3cret!");
    let password = format!("({}@{}) Password: ", sshd.user(), sshd.host());
    let without = |options: &str| scaup.mount_on(&sshd, "").askpass(&askpass).args(["-o", options]);
    comes_in(&scaup, &sshd, without("PubkeyAuthentication=no,KbdInteractiveAuthentication=no"));
    assert_eq!(prompts(&noted), [password.as_str()]);
    let code_comes_first = "PubkeyAuthentication=no,PasswordAuthentication=no";
    comes_in(&scaup, &sshd, without(code_comes_first));
    assert_eq!(prompts(&noted).len(), 2);
    assert!(prompts(&noted)[1].contains("Verification code"), "{:?}", prompts(&noted));
    let all = "PubkeyAuthentication=no,PasswordAuthentication=no,ChallengeResponseAuthentication=no";
    let output = without(all).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(said(&output).contains("no method that may be tried"), "{}", said(&output));
    // A configuration may say the same.
    let config = scaup.home().join("ssh_config");
    fs::write(&config, all.replace(['=', ','], " ").replace("no ", "no\n")).unwrap();
    let output = scaup.mount_on(&sshd, "").askpass(&askpass).args(["-F".as_ref(), config.as_os_str()]);
    assert_eq!(code(&output.refused()), Some(3));
    assert_eq!(prompts(&noted).len(), 2);
}

#[test]
fn in_batch_mode_nobody_is_asked() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let (askpass, noted) = scaup.askpass(&Answers::login(&sshd).vault("whatever"));
    for options in ["BatchMode=yes", "NumberOfPasswordPrompts=0"] {
        let output = scaup.mount_on(&sshd, "").askpass(&askpass).args(["-o", options]).refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
        assert!(said(&output).contains("BatchMode"), "{}", said(&output));
    }
    // Commands still answer, and a vault that nobody is asked about stays locked.
    let mount = scaup.mount_on(&sshd, "").askpass(&askpass).args(["-o", "BatchMode=yes"]);
    comes_in(&scaup, &sshd, mount.answering(&Answers::login(&sshd)));
    // A host that is not known is not asked about either.
    let nowhere = scaup.home().join("known");
    let config = scaup.home().join("ssh_config");
    fs::write(&config, format!("BatchMode yes\nUserKnownHostsFile {}\n", nowhere.display())).unwrap();
    let mount = scaup.mount(format!("{}@{}", sshd.user(), sshd.host())).askpass(&askpass);
    let mount = mount.args(["-p", &sshd.port().to_string()]).args(["-F".as_ref(), config.as_os_str()]);
    let output = mount.refused();
    assert_eq!(code(&output), Some(4), "{}", said(&output));
    assert!(prompts(&noted).is_empty(), "{:?}", prompts(&noted));
    // Nor does a command without a daemon ask.
    let mut info = scaup.command();
    info.args(["vault", "info", &format!("{}@{}:Vault", sshd.user(), sshd.host())])
        .args(["-p", &sshd.port().to_string(), "-i"])
        .arg(sshd.key().path())
        .args(["-o", &format!("BatchMode=yes,UserKnownHostsFile={}", sshd.known_hosts_file().display())])
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force");
    assert_eq!(code(&info.output().unwrap()), Some(3));
    assert!(prompts(&noted).is_empty(), "{:?}", prompts(&noted));
}

#[test]
fn as_many_attempts_as_the_user_wants() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    for (wrong, what) in [
        (Answers { otp_command: Some("echo 000000".to_owned()), ..Answers::login(&sshd) }, "wrong code"),
        (Answers { passphrase: Some("wrong".to_owned()), ..Answers::login(&sshd) }, "wrong passphrase"),
    ] {
        let (askpass, noted) = scaup.askpass(&wrong);
        let mount = scaup.mount_on(&sshd, "").askpass(&askpass).args(["-o", "NumberOfPasswordPrompts=1"]);
        let output = mount.refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
        assert!(said(&output).contains(what) && !said(&output).contains("times"), "{}", said(&output));
        assert_eq!(prompts(&noted).len(), if what == "wrong code" { 2 } else { 1 }, "{:?}", prompts(&noted));
    }
}

#[test]
fn options_that_other_programs_give_to_ssh() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let options = "reconnect,LogLevel=ERROR,Compression=yes,ServerAliveInterval=15,NumberOfPasswordPrompts=2,\
        PreferredAuthentications=publickey,password,Ciphers=aes128-ctr,aes256-ctr,BatchMode=yes,ForwardX11=no,\
        ClearAllForwardings=yes,ControlMaster=no,ControlPath=none,TCPKeepAlive=yes,idmap=user";
    comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").args(["-o", options]));
    let log = sshd.log();
    assert!(log.contains("kex: client->server cipher: aes128-ctr"), "{log}");
    for (option, why) in [
        ("MAC=hmac-sha2-512", "BatchMode"),
        ("ControlMaster=auto", "ControlMaster"),
        ("Ciphers=none", "none"),
        ("Host=y", "files"),
    ] {
        let output = scaup.mount_on(&sshd, "").args(["-o", option]).refused();
        assert_eq!(code(&output), Some(2), "{}", said(&output));
        assert!(said(&output).contains(option) || said(&output).contains("Ciphers"), "{}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
}

#[test]
fn two_keys_where_the_server_wants_two() {
    let scaup = scaup();
    let second = Key::generate(&scaup.home().join("second"), KeyKind::EcdsaP256, "");
    let sshd = Sshd::key_only()
        .authentication_methods("publickey,publickey")
        .authorize(&second.public_line())
        .start();
    let option = format!("IdentityFile={}", second.path().display());
    comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").args(["-o", &option]));
}

#[test]
fn a_key_that_the_server_does_not_know_is_refused_with_what_it_would_accept() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let stranger = Key::generate(&scaup.home().join("stranger"), KeyKind::Ed25519, "");
    let output = mount_with(&scaup, &sshd, stranger.path()).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(said(&output).contains("publickey"), "{}", said(&output));
}

#[test]
fn a_passphrase_is_asked_for_only_if_the_server_wants_the_key() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let stranger = Key::generate(&scaup.home().join("stranger"), KeyKind::Rsa2048, "a passphrase");
    let (askpass, noted) = scaup.askpass(&Answers::default());
    let option = format!("IdentityFile={}", sshd.key().path().display());
    comes_in(
        &scaup,
        &sshd,
        mount_with(&scaup, &sshd, stranger.path()).args(["-o", &option]).askpass(&askpass),
    );
    assert!(prompts(&noted).is_empty(), "{:?}", prompts(&noted));
}

#[test]
fn an_identity_file_that_is_missing_or_no_key_is_named() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let garbage = scaup.home().join("garbage");
    fs::write(&garbage, "this is no key\n").unwrap();
    for path in [scaup.home().join("nowhere"), garbage] {
        let output = mount_with(&scaup, &sshd, &path).refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
        assert!(said(&output).contains(path.to_str().unwrap()), "{}", said(&output));
    }
}

#[test]
fn the_default_identity_files_are_found() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    fs::create_dir(scaup.home().join(".ssh")).unwrap();
    fs::copy(sshd.key().path(), scaup.home().join(".ssh/id_ed25519")).unwrap();
    comes_in(&scaup, &sshd, mount_without_key(&scaup, &sshd));
}

#[test]
fn the_agent_signs_with_keys_of_every_kind() {
    for kind in KeyKind::ALL {
        let (scaup, sshd) = (scaup(), Sshd::key_only().key(kind).start());
        let agent = Agent::start(&scaup, &[sshd.key().path()]);
        let mount = mount_without_key(&scaup, &sshd).env("SSH_AUTH_SOCK", &agent.socket);
        comes_in(&scaup, &sshd, mount);
    }
}

#[test]
fn a_key_named_by_its_public_half_is_taken_from_the_agent_alone() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().config("MaxAuthTries 2").start());
    let others: Vec<Key> = (0..5)
        .map(|n| Key::generate(&scaup.home().join(format!("other{n}")), KeyKind::Ed25519, ""))
        .collect();
    let mut held: Vec<&Path> = others.iter().map(Key::path).collect();
    held.push(sshd.key().path());
    let agent = Agent::start(&scaup, &held);
    let public = scaup.home().join("public.pub");
    fs::copy(sshd.key().public_path(), &public).unwrap();
    let mount = mount_with(&scaup, &sshd, &public).env("SSH_AUTH_SOCK", &agent.socket);
    comes_in(&scaup, &sshd, mount);
}

#[test]
fn an_encrypted_key_that_the_agent_holds_needs_no_passphrase() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().passphrase("long and secret").start());
    let copy = scaup.home().join("unencrypted");
    fs::copy(sshd.key().path(), &copy).unwrap();
    run(Command::new("ssh-keygen").args(["-q", "-p", "-P", "long and secret", "-N", "", "-f"]).arg(&copy));
    let agent = Agent::start(&scaup, &[&copy]);
    let mount = scaup.mount_on(&sshd, "").env("SSH_AUTH_SOCK", &agent.socket);
    comes_in(&scaup, &sshd, mount);
}

#[test]
fn identity_agent_and_identities_only() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let agent = Agent::start(&scaup, &[sshd.key().path()]);
    let socket = format!("IdentityAgent={}", agent.socket.display());
    comes_in(&scaup, &sshd, mount_without_key(&scaup, &sshd).args(["-o", &socket]));

    // An agent that is not to be asked, and keys that nobody named, are left alone.
    for option in ["IdentityAgent=none", "IdentitiesOnly=yes"] {
        let mount = mount_without_key(&scaup, &sshd).env("SSH_AUTH_SOCK", &agent.socket);
        let output = mount.args(["-o", option]).refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
    }
}

#[test]
fn an_agent_full_of_other_keys_that_use_up_the_tries_is_named_with_the_way_out() {
    let scaup = scaup();
    let others: Vec<Key> = (0..8)
        .map(|number| Key::generate(&scaup.home().join(format!("other{number}")), KeyKind::Ed25519, ""))
        .collect();
    let paths: Vec<&Path> = others.iter().map(Key::path).collect();
    let agent = Agent::start(&scaup, &paths);
    for tries in [2, 6] {
        let sshd = Sshd::key_only().config(&format!("MaxAuthTries {tries}")).start();
        // The right key is where `ssh` looks by itself.
        let default = scaup.home().join(".ssh");
        fs::create_dir_all(&default).unwrap();
        fs::copy(sshd.key().path(), default.join("id_ed25519")).unwrap();
        let mount = || mount_without_key(&scaup, &sshd).env("SSH_AUTH_SOCK", &agent.socket);
        let output = mount().refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
        let words = said(&output);
        assert!(words.contains("keys were offered") && words.contains("IdentitiesOnly yes"), "{words}");
        comes_in(&scaup, &sshd, mount().args(["-o", "IdentitiesOnly=yes"]));
    }
}

#[test]
fn an_agent_that_is_gone_does_no_harm() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    comes_in(&scaup, &sshd, scaup.mount_on(&sshd, "").env("SSH_AUTH_SOCK", "/nonexistent/agent"));
}

/// A server that trusts an authority's certificates and no key of its own list, and a key certified for its user.
fn certified(scaup: &Scaup) -> (Sshd, Key) {
    let authority = Key::generate(&scaup.home().join("authority"), KeyKind::Ed25519, "");
    let sshd =
        Sshd::key_only().config(&format!("TrustedUserCAKeys {}", authority.public_path().display())).start();
    let key = Key::generate(&scaup.home().join("certified"), KeyKind::Ed25519, "");
    let certificate = authority.certify(&key, &["-n", sshd.user()]);
    assert!(certificate.exists());
    (sshd, key)
}

#[test]
fn a_certificate_beside_the_key_is_used() {
    let scaup = scaup();
    let (sshd, key) = certified(&scaup);
    comes_in(&scaup, &sshd, mount_with(&scaup, &sshd, key.path()));
    assert!(sshd.log().contains("ED25519-CERT"), "{}", sshd.log());
}

#[test]
fn a_certificate_elsewhere_or_in_the_agent_is_used() {
    let scaup = scaup();
    let (sshd, key) = certified(&scaup);
    let agent = Agent::start(&scaup, &[key.path()]);
    comes_in(&scaup, &sshd, mount_without_key(&scaup, &sshd).env("SSH_AUTH_SOCK", &agent.socket));

    let elsewhere = scaup.home().join("elsewhere.pub");
    fs::rename(scaup.home().join("certified-cert.pub"), &elsewhere).unwrap();
    let option = format!("CertificateFile={}", elsewhere.display());
    comes_in(&scaup, &sshd, mount_with(&scaup, &sshd, key.path()).args(["-o", &option]));
}

#[test]
fn the_time_a_person_takes_is_no_time_out() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let right = Answers::login(&sshd);
    let slow = format!("sleep 4; {}", right.otp_command.clone().unwrap());
    let (askpass, _) = scaup.askpass(&Answers { otp_command: Some(slow), ..right });
    let mount = scaup.mount_on(&sshd, "").askpass(&askpass);
    comes_in(&scaup, &sshd, mount.args(["-o", "ConnectTimeout=1,ServerAliveInterval=1", "--timeout", "1"]));
}

#[test]
fn a_server_that_loses_patience_is_named() {
    let (scaup, sshd) = (scaup(), Sshd::builder().config("LoginGraceTime 2").start());
    let right = Answers::login(&sshd);
    let slow = format!("sleep 5; {}", right.otp_command.clone().unwrap());
    let (askpass, _) = scaup.askpass(&Answers { otp_command: Some(slow), ..right });
    let output = scaup.mount_on(&sshd, "").askpass(&askpass).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(said(&output).contains("closed the connection during the login"), "{}", said(&output));
}

#[test]
fn a_banner_is_shown() {
    let scaup = scaup();
    let banner = scaup.home().join("banner");
    fs::write(&banner, "Authorised people only.\n").unwrap();
    let sshd = Sshd::key_only().config(&format!("Banner {}", banner.display())).start();
    let said = comes_in(&scaup, &sshd, scaup.mount_on(&sshd, ""));
    assert!(said.contains("Authorised people only."), "{said}");
}

#[test]
fn a_key_that_is_encrypted_in_the_old_pem_format_is_named_with_the_way_out_of_it() {
    let scaup = scaup();
    let file = scaup.home().join("key");
    let key = Key::generate_pem(&file, KeyKind::Rsa2048, "correct horse", "PEM");
    let sshd = Sshd::key_only().authorize(&key.public_line()).start();
    let output = mount_with(&scaup, &sshd, &file).refused();
    assert_eq!(code(&output), Some(3), "{}", said(&output));
    assert!(said(&output).contains(&format!("ssh-keygen -p -f {}", file.display())), "{}", said(&output));
    run(Command::new("ssh-keygen")
        .args(["-p", "-P", "correct horse", "-N", "correct horse", "-f"])
        .arg(&file));
    let answers = Answers { passphrase: Some("correct horse".to_owned()), ..Answers::default() };
    comes_in(&scaup, &sshd, mount_with(&scaup, &sshd, &file).answering(&answers));
}

#[test]
fn a_key_file_that_others_may_read_or_change_is_not_used() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let file = scaup.home().join("key");
    fs::copy(sshd.key().path(), &file).unwrap();
    fs::copy(sshd.key().public_path(), scaup.home().join("key.pub")).unwrap();
    let open_to = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o644, 0o640, 0o620, 0o601] {
        open_to(mode);
        let output = mount_with(&scaup, &sshd, &file).refused();
        assert_eq!(code(&output), Some(3), "{}", said(&output));
        assert!(said(&output).contains(&format!("chmod 600 {}", file.display())), "{}", said(&output));
    }
    // A certificate does not make the key of another kind.
    fs::write(scaup.home().join("key-cert.pub"), "").unwrap();
    assert_eq!(code(&mount_with(&scaup, &sshd, &file).refused()), Some(3));
    // What an agent holds does not come from the file.
    open_to(0o600);
    let agent = Agent::start(&scaup, &[&file]);
    open_to(0o644);
    comes_in(&scaup, &sshd, mount_with(&scaup, &sshd, &file).env("SSH_AUTH_SOCK", &agent.socket));
    for mode in [0o600, 0o400] {
        open_to(mode);
        comes_in(&scaup, &sshd, mount_with(&scaup, &sshd, &file));
    }
    // As for ssh, a user may share it with a group.
    open_to(0o640);
    chown(&file, Some(65534), None).unwrap();
    comes_in(&scaup, &sshd, mount_with(&scaup, &sshd, &file));
}

#[test]
fn keys_of_kinds_and_lengths_that_are_not_wanted_are_not_offered() {
    let scaup = scaup();
    let sshd = Sshd::key_only().key(KeyKind::Rsa2048).passphrase("secret").start();
    let key = sshd.key();
    let agent = scaup.home().join("open");
    fs::copy(key.path(), &agent).unwrap();
    run(Command::new("ssh-keygen").args(["-q", "-p", "-P", "secret", "-N", "", "-f"]).arg(&agent));
    let agent = Agent::start(&scaup, &[&agent]);
    let (askpass, noted) = scaup.askpass(&Answers::login(&sshd));
    for (option, reason) in [
        (
            "PubkeyAcceptedAlgorithms=ssh-ed25519,rsa-sha2-512-cert-v01@openssh.com",
            "PubkeyAcceptedAlgorithms",
        ),
        ("RequiredRSASize=3072", "RequiredRSASize"),
    ] {
        for held in [Some(&agent.socket), None] {
            let mount = mount_with(&scaup, &sshd, key.path()).args(["-o", option]).askpass(&askpass);
            let mount = held.into_iter().fold(mount, |mount, socket| mount.env("SSH_AUTH_SOCK", socket));
            let output = mount.refused();
            assert_eq!(code(&output), Some(3), "{}", said(&output));
            assert!(said(&output).contains(reason), "{}", said(&output));
        }
    }
    assert!(prompts(&noted).is_empty(), "nobody types a passphrase in vain");
    let offered = |list: &str| {
        let mount = mount_with(&scaup, &sshd, key.path()).env("SSH_AUTH_SOCK", &agent.socket);
        comes_in(&scaup, &sshd, mount.args(["-o", &format!("PubkeyAcceptedAlgorithms={list}")]));
    };
    offered("rsa-sha2-256");
    offered("-ssh-ed25519");
}

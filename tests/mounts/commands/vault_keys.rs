//! A vault's password is changed, its recovery key shown, and used in place of the password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use scaup_crypto::{Masterkey, MasterkeyFile};
use scaup_rig::{Answers, Fixture, Open, Sshd, python_with};

use crate::reader::{Node, Reader, Tree};
use crate::support::terminal::Terminal;
use crate::support::{PASSWORD, ends_with, names_in, said, scaup};

const NEW: &str = "a quite new pässword";

/// The keys of a vault with a masterkey file.
pub(crate) fn masterkey(vault: &Path) -> Masterkey {
    let file = fs::read(vault.join("masterkey.cryptomator")).unwrap();
    MasterkeyFile::parse(&file).unwrap().unlock(PASSWORD).unwrap()
}

/// The key of another vault.
pub(crate) fn foreign_key() -> String {
    Masterkey::generate().unwrap().recovery_key().to_string()
}

fn masterkey_files(vault: &Path) -> Vec<String> {
    names_in(vault).into_iter().filter(|name| name.contains("key")).collect()
}

#[test]
fn each_vault_opens_by_the_new_password_and_not_by_the_old() {
    let scaup = scaup();
    // A reader keeps the vaults that it has opened.
    let read_with = |vault: &Path, password: &str| Reader::start().read(vault, password);
    let (old, new) = (scaup.command_answering(PASSWORD), scaup.command_answering(NEW));
    let mut read = 0;
    for name in Fixture::names() {
        let fixture = Fixture::unpack(&name);
        if fixture.manifest.open == Open::Refuse {
            continue;
        }
        let vault = fixture.vault();
        let path = vault.to_str().unwrap();
        let files = names_in(&vault);
        let own = |name: &&String| *name == "masterkey.cryptomator";
        let file = files.iter().find(own).or(files.iter().find(|name| name.contains("key"))).unwrap();
        fs::set_permissions(vault.join(file), fs::Permissions::from_mode(0o640)).unwrap();
        let before = read_with(&vault, PASSWORD);
        let words = ["vault", "passwd", path, "--vault-password-command"];
        let wrong = scaup.command_answering("wrong password");
        ends_with(&scaup, 5, [&words[..], &[&wrong, "--new-password-command", &new]].concat());
        assert_eq!(names_in(&vault), files, "{name}");
        let said = ends_with(&scaup, 0, [&words[..], &[&old, "--new-password-command", &new]].concat());
        let backup = said.split_once(" is kept as ").unwrap().1.split_once(';').unwrap().0;
        assert!(names_in(&vault).iter().any(|name| name == backup), "{name}: {backup}");
        let mode = fs::metadata(vault.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
        ends_with(&scaup, 5, ["vault", "conflicts", path, "--vault-password-command", &old]);
        ends_with(&scaup, 0, ["vault", "conflicts", path, "--vault-password-command", &new]);
        if before.is_ok() {
            read += 1;
            assert_eq!(read_with(&vault, NEW), before, "{name}");
            assert!(read_with(&vault, PASSWORD).is_err(), "{name}");
        }
        // Back again, and nothing that the password between opened is left. The first backup is one of it now.
        let back = ["vault", "passwd", path, "--forget-old", "--vault-password-command", &new];
        let said = ends_with(&scaup, 0, [&back[..], &["--new-password-command", &old]].concat());
        assert!(said.contains("removed"), "{name}: {said}");
        let mut left = files.clone();
        left.push(backup.to_owned());
        left.sort();
        left.dedup();
        assert_eq!(names_in(&vault), left, "{name}");
    }
    assert!(read >= 10, "pycryptomator reads {read} of the vaults");
}

#[test]
fn a_password_is_changed_over_ssh_while_the_vault_is_mounted() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    fixture.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let (old, new) = (scaup.command_answering(PASSWORD), scaup.command_answering(NEW));
    let mount = scaup
        .mount_on(&sshd, "")
        .args(["--vault", "Vault", "--no-backup", "--vault-password-command", &old])
        .start();
    let names = names_in(&mount.join("Vault"));

    let (port, there) = (sshd.port().to_string(), format!("{}@{}:Vault", sshd.user(), sshd.host()));
    let known = format!("UserKnownHostsFile={}", sshd.known_hosts_file().display());
    let login = ["-p", &port, "-i", sshd.key().path().to_str().unwrap(), "-o", &known];
    let words = ["vault", "passwd", &there, "--vault-password-command", &old, "--new-password-command"];
    for (refused, why) in [("short", "8"), (PASSWORD, "already")] {
        let refused = scaup.command_answering(refused);
        let said = ends_with(&scaup, 5, [&words[..], &[&refused], &login].concat());
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(masterkey_files(&sshd.home().join("Vault")), ["masterkey.cryptomator"]);
    ends_with(&scaup, 0, [&words[..], &[&new, "--forget-old"], &login].concat());
    assert_eq!(masterkey_files(&sshd.home().join("Vault")), ["masterkey.cryptomator"]);

    fs::write(mount.join("Vault/written since"), "content").unwrap();
    assert_eq!(fs::read(mount.join("Vault/written since")).unwrap(), b"content");
    // Time to notice that the file is another one.
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(names_in(&mount.join("Vault")).len(), names.len() + 1);
    let status = scaup.status();
    assert_eq!(status["mounts"][0]["errors"].as_array().unwrap().len(), 0, "{status}");
    ends_with(&scaup, 0, ["lock"]);
    ends_with(&scaup, 5, ["unlock", "--vault-password-command", &old]);
    ends_with(&scaup, 0, ["unlock", "--vault-password-command", &new]);
    assert!(mount.join("Vault/written since").exists());
    mount.unmount(&scaup);
}

#[test]
fn the_recovery_key_is_shown_at_a_terminal_as_another_program_reads_it() {
    let scaup = scaup();
    let fixture = Fixture::unpack("gcm8");
    let vault = fixture.vault();
    let key = masterkey(&vault).recovery_key();
    let password = scaup.command_answering(PASSWORD);
    let words = ["vault", "recovery-key", vault.to_str().unwrap(), "--vault-password-command", &password];
    let output = scaup.run(words);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("terminal") && !said(&output).contains("pathway"), "{}", said(&output));

    let command =
        format!("stty cols 80; '{}' vault recovery-key '{}'", env!("CARGO_BIN_EXE_scaup"), vault.display());
    for columns in [false, true] {
        let option = if columns { " --columns" } else { "" };
        let mut terminal = Terminal::run(&scaup, &format!("{command}{option}"));
        let prompt = format!("Password for vault {}: ", vault.display());
        terminal.answer(&prompt, "wrong\n");
        terminal.answer(&prompt, &format!("{PASSWORD}\n"));
        let (status, screen) = terminal.end();
        assert!(status.success(), "{screen}");
        let told = screen.contains("enter r to open the vault with its recovery key instead");
        assert!(told && !screen.contains(PASSWORD), "{screen}");
        if columns {
            let behind = screen.rsplit(&prompt).next().unwrap();
            let lines: Vec<&str> = behind
                .lines()
                .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))
                .collect();
            assert!(lines.len() > 4 && lines.iter().all(|line| line.trim_end().len() <= 80), "{screen}");
            let shown = Masterkey::from_recovery_key(&lines.join("\n")).unwrap();
            assert_eq!(*shown.recovery_key(), *key);
        } else {
            assert!(screen.lines().any(|line| line.trim_end() == *key), "{screen}");
        }
    }

    let python = python_with("pycryptomator", "1.15", "pycryptomator.cryptomator");
    let script = "import sys, os, pycryptomator\n\
        from pycryptomator.wordscodec import Wordscodec\n\
        from pycryptomator.cryptomator import Vault\n\
        words = Wordscodec(os.path.join(os.path.dirname(pycryptomator.__file__), '4096words_en.txt'))\n\
        read = words.words2bytes(sys.argv[1].split())\n\
        words.validate(read)\n\
        vault = Vault(sys.argv[2], sys.argv[3])\n\
        assert read[:64] == vault.pk + vault.hk\n\
        print(' '.join(words.bytes2words(words.blob(vault.pk, vault.hk))))\n";
    let output = Command::new(python).args(["-c", script, &key]).arg(&vault).arg(PASSWORD).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), *key);
}

#[test]
fn a_recovery_key_opens_what_a_password_does_and_more() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let places = ["gcm8", "format7", "jwt-kid-hub", "lost", "torn"];
    let mut keys = Vec::new();
    for place in places {
        let name = if matches!(place, "lost" | "torn") { "gcm8" } else { place };
        let there = sshd.home().join(place);
        Fixture::unpack(name).copy_vault_to(&there);
        keys.push(masterkey(&there).recovery_key().to_string());
        match place {
            "lost" => fs::remove_file(there.join("masterkey.cryptomator")).unwrap(),
            "torn" => fs::write(there.join("masterkey.cryptomator"), "{").unwrap(),
            _ => {}
        }
    }
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").start();
    let foreign = scaup.command_answering(&foreign_key());
    for (place, key) in places.iter().zip(&keys) {
        let misspelt = scaup.command_answering(&key.replacen(' ', " xyzzy ", 1));
        let swapped = {
            let mut words: Vec<&str> = key.split(' ').collect();
            words.swap(0, 1);
            scaup.command_answering(&words.join(" "))
        };
        let here = sshd.home().join(place);
        let check = ["vault", "conflicts", here.to_str().unwrap(), "--recovery-key-command"];
        let unlock = ["unlock", "127.0.0.1", place, "--recovery-key-command"];
        for words in [&check[..], &unlock] {
            for (wrong, why) in [
                (&foreign, "that of another vault"),
                (&misspelt, "word 2 is not one of a recovery key's"),
                (&swapped, "two are swapped"),
            ] {
                let said = ends_with(&scaup, 5, [words, &[wrong]].concat());
                assert!(said.contains(place) && said.contains(why), "{place}: {said}");
            }
            // As people copy it from paper.
            let numbered: Vec<String> =
                (1..).zip(key.split(' ')).map(|(n, word)| format!("{n}.{}", word.to_uppercase())).collect();
            ends_with(&scaup, 0, [words, &[&scaup.command_answering(&numbered.join("  "))]].concat());
        }
        let readable = names_in(&mount.join(place));
        assert!(
            readable != names_in(&here) && !readable.iter().any(|name| name == "d"),
            "{place}: {readable:?}"
        );
        fs::write(mount.join(place).join("made here"), "content").unwrap();
        ends_with(&scaup, 0, ["lock", "127.0.0.1", place]);
        // Where there is no usable masterkey file, no password is asked for.
        if !matches!(*place, "gcm8" | "format7") {
            let password = scaup.command_answering(PASSWORD);
            ends_with(&scaup, 5, ["unlock", "127.0.0.1", place, "--vault-password-command", &password]);
        }
    }
    mount.unmount(&scaup);
}

#[test]
fn a_person_enters_r_for_the_recovery_key_and_sets_a_new_password_with_it() {
    let scaup = scaup();
    let fixture = Fixture::unpack("gcm8");
    let vault = fixture.vault();
    let key = masterkey(&vault).recovery_key();
    let question = |what: &str| format!("{what} for vault {}: ", vault.display());
    let run = |words: &str| {
        Terminal::run(
            &scaup,
            &format!("'{}' vault {words} '{}'", env!("CARGO_BIN_EXE_scaup"), vault.display()),
        )
    };
    let mut terminal = run("conflicts");
    terminal.answer(&question("Password"), "r\n");
    terminal.answer(&question("Recovery key"), &format!("{}\n", key.replacen("a", "q", 1)));
    terminal.answer(&question("Password"), &format!("{}\n", key.to_uppercase()));
    let (status, screen) = terminal.end();
    assert!(status.success() && screen.contains("the recovery key has a mistake"), "{screen}");
    let first = key.split(' ').next().unwrap();
    assert!(!screen.contains(&format!("{first} ")), "what is typed is not shown: {screen}");

    let mut terminal = run("passwd");
    terminal.answer(&question("Password"), "r\n");
    terminal.answer(&question("Recovery key"), &format!("{}\n", *key));
    terminal.answer(&question("New password"), "password1\n");
    terminal.answer("The same again: ", "password1\n");
    let (status, screen) = terminal.end();
    assert!(status.success() && screen.contains("This password is weak"), "{screen}");
    let mut reader = Reader::start();
    let read: Tree = reader.read(&vault, "password1").unwrap();
    assert!(read.values().any(|node| matches!(node, Node::File { .. })));

    // Without the old password its backups can't be told.
    let words =
        ["vault", "passwd", "--forget-old", "--recovery-key-command", "true", vault.to_str().unwrap()];
    ends_with(&scaup, 2, words);
}

#[test]
fn a_mount_asks_for_the_recovery_key_where_nothing_else_opens_a_vault() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let vault = sshd.home().join("Vault");
    Fixture::unpack("jwt-kid-hub").copy_vault_to(&vault);
    let key = masterkey(&vault).recovery_key();
    fs::remove_file(vault.join("masterkey.cryptomator")).unwrap();
    sshd.give(&sshd.home());
    let answers = Answers { otp_command: Some(format!("echo '{}'", *key)), ..Answers::default() };
    let (program, asked) = scaup.askpass(&answers);
    let mount = scaup.mount_on(&sshd, "").askpass(&program).args(["--vault", "Vault"]).start();
    assert_eq!(fs::read_to_string(&asked).unwrap(), "Recovery key for vault Vault: \n");
    assert_eq!(scaup.status()["mounts"][0]["vaults"][0]["state"], "unlocked");
    assert!(names_in(&mount.join("Vault")).iter().all(|name| name != "d"));
    mount.unmount(&scaup);
    // Found, and not named: whoever has a command for the key has it for this vault.
    let command = scaup.command_answering(&key);
    let mount = scaup.mount_on(&sshd, "").args(["--recovery-key-command", &command]).start();
    assert_eq!(scaup.status()["mounts"][0]["vaults"][0]["state"], "unlocked");
    mount.unmount(&scaup);
    let mount = scaup.mount_on(&sshd, "").start();
    let status = scaup.status();
    let vault = &status["mounts"][0]["vaults"][0];
    assert_eq!((&vault["state"], &vault["format"]), (&"unsupported".into(), &8.into()), "{status}");
    assert!(vault["reason"].as_str().unwrap().contains("recovery key"), "{status}");
    mount.unmount(&scaup);
}

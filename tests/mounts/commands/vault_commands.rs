//! Vaults by commands: found, named, unlocked, locked, made and inspected.

use std::fs;
use std::path::Path;

use scaup_crypto::MasterkeyFile;
use scaup_rig::{Answers, EntryKind, Fixture, Sshd};

use crate::reader::{Reader, Tree, local};
use crate::support::{ends_with, fill, names_in, said, scaup};

/// The names that must be seen in a fixture's root.
fn cleartext_names(fixture: &Fixture) -> Vec<String> {
    let entries = fixture.manifest.entries.iter();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            entry.path.strip_prefix('/').filter(|path| !path.contains('/')).map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

fn answering(fixture: &Fixture) -> Answers {
    Answers::default().vault(&fixture.manifest.password)
}

#[test]
fn named_vaults_and_no_others_are_unlocked_wherever_they_lie() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    fs::create_dir_all(sshd.home().join("a/b/c")).unwrap();
    for place in ["One", "a/b/c/Deep", "Other"] {
        fixture.copy_vault_to(&sshd.home().join(place));
    }
    sshd.give(&sshd.home());
    let mount = scaup
        .mount_on(&sshd, "")
        .answering(&answering(&fixture))
        .args(["--vault", "One", "--vault", "a/b/c/Deep"])
        .start();
    for place in ["One", "a/b/c/Deep"] {
        assert_eq!(names_in(&mount.join(place)), cleartext_names(&fixture), "{place}");
    }
    assert!(names_in(&mount.join("Other")).contains(&"vault.cryptomator".to_owned()));
    mount.unmount(&scaup);

    let vault_itself = scaup.mount_on(&sshd, "a/b/c/Deep").answering(&answering(&fixture));
    let mount = vault_itself.args(["--vault", "."]).start();
    assert_eq!(names_in(mount.path()), cleartext_names(&fixture));
    assert_eq!(scaup.status()["mounts"][0]["vaults"][0]["path"], ".");
    mount.unmount(&scaup);
}

#[test]
fn without_a_name_vaults_directly_in_the_directory_are_unlocked() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("ctrmac8");
    fixture.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").answering(&answering(&fixture)).start();
    assert!(mount.said().contains("vault Vault found"), "{}", mount.said());
    assert_eq!(names_in(&mount.join("Vault")), cleartext_names(&fixture));
    mount.unmount(&scaup);
}

#[test]
fn a_vault_is_found_among_thousands_of_siblings() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    for number in 0..5000 {
        let name = sshd.home().join(format!("sibling {number}"));
        if number % 10 == 0 { fs::create_dir(&name).unwrap() } else { fs::write(&name, "").unwrap() }
    }
    fixture.copy_vault_to(&sshd.home().join("The vault"));
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").answering(&answering(&fixture)).start();
    assert_eq!(names_in(&mount.join("The vault")), cleartext_names(&fixture));
    assert_eq!(names_in(mount.path()).len(), 5001);
    mount.unmount(&scaup);
}

#[test]
fn a_vault_is_found_whatever_else_lies_in_it_and_wherever_somebody_walks() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    fs::create_dir_all(sshd.home().join("deep/down")).unwrap();
    for place in ["Vault", "deep/down/Vault"] {
        fixture.copy_vault_to(&sshd.home().join(place));
        for number in 0..5000 {
            fs::write(sshd.home().join(place).join(format!("stray {number}")), "").unwrap();
        }
    }
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").answering(&answering(&fixture)).start();
    assert_eq!(names_in(&mount.join("Vault")), cleartext_names(&fixture));
    // Nobody named this one: it is met.
    let met = mount.join("deep/down/Vault");
    assert_eq!(names_in(&met), names_in(&sshd.home().join("deep/down/Vault")));
    let error = fs::write(met.join("new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
    let status = scaup.status();
    let vaults = status["mounts"][0]["vaults"].as_array().unwrap();
    let known = vaults.iter().find(|vault| vault["path"] == "deep/down/Vault").unwrap();
    assert_eq!(known["state"], "locked");
    let password = scaup.command_answering(&fixture.manifest.password);
    ends_with(&scaup, 0, ["unlock", "127.0.0.1", "deep/down/Vault", "--vault-password-command", &password]);
    assert_eq!(names_in(&met), cleartext_names(&fixture));
    mount.unmount(&scaup);
}

#[test]
fn no_vaults_means_no_vaults() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    fixture.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").answering(&answering(&fixture)).args(["--no-vaults"]).start();
    assert!(names_in(&mount.join("Vault")).contains(&"vault.cryptomator".to_owned()));
    assert_eq!(scaup.status()["mounts"][0]["vaults"].as_array().unwrap().len(), 0);
    fs::write(mount.join("Vault/note"), "an ordinary directory").unwrap();
    mount.unmount(&scaup);
}

#[test]
fn a_locked_vault_shows_its_encrypted_content_read_only_until_it_is_unlocked() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    fixture.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").args(["--no-backup"]).start();
    let vault = mount.join("Vault");
    let encrypted = names_in(&vault);
    assert!(encrypted.contains(&"masterkey.cryptomator".to_owned()), "{encrypted:?}");
    assert_eq!(
        fs::read(vault.join("vault.cryptomator")).unwrap(),
        fs::read(fixture.vault().join("vault.cryptomator")).unwrap()
    );
    for error in [
        fs::write(vault.join("new"), "").unwrap_err(),
        fs::write(vault.join("vault.cryptomator"), "").unwrap_err(),
        fs::remove_file(vault.join("masterkey.cryptomator")).unwrap_err(),
        fs::create_dir(vault.join("d/new")).unwrap_err(),
        fs::rename(vault.join("d"), mount.join("d")).unwrap_err(),
    ] {
        assert!(
            matches!(
                error.kind(),
                std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied
            ),
            "{error}"
        );
    }
    let right = scaup.command_answering(&fixture.manifest.password);
    let wrong = scaup.command_answering("wrong");
    assert!(ends_with(&scaup, 5, ["unlock", "--vault-password-command", &wrong]).contains("wrong password"));
    assert!(
        ends_with(&scaup, 5, ["unlock", "127.0.0.1", "Nowhere", "--vault-password-command", &right])
            .contains("Nowhere")
    );
    ends_with(&scaup, 0, ["unlock", "127.0.0.1", "Vault", "--vault-password-command", &right]);
    assert_eq!(names_in(&vault), cleartext_names(&fixture));
    fs::write(vault.join("new"), "secret words").unwrap();

    // What is open belongs to the user: locking waits for no one, but says what became of it.
    ends_with(&scaup, 0, ["lock"]);
    assert_eq!(names_in(&vault), encrypted);
    assert!(fs::read(vault.join("new")).is_err());
    assert!(ends_with(&scaup, 5, ["lock"]).contains("no unlocked vault"));
    ends_with(&scaup, 0, ["unlock", "--vault-password-command", &right]);
    assert_eq!(fs::read_to_string(vault.join("new")).unwrap(), "secret words");
    mount.unmount(&scaup);
}

#[test]
fn a_vault_that_somebody_made_just_now_is_unlocked() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    for directory in ["plain", "other"] {
        fs::create_dir(sshd.home().join(directory)).unwrap();
    }
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").args(["--attr-timeout", "600"]).start();
    assert_eq!(names_in(mount.path()), ["other", "plain"]);
    for directory in ["plain", "other"] {
        assert_eq!(names_in(&mount.join(directory)), Vec::<String>::new());
    }
    let fixture = Fixture::unpack("gcm8");
    let password = scaup.command_answering(&fixture.manifest.password);
    for place in ["New", "plain/New", "other"] {
        // One was an ordinary directory before.
        let there = sshd.home().join(place);
        fs::remove_dir(&there).ok();
        fixture.copy_vault_to(&there);
        sshd.give(&sshd.home());
        ends_with(&scaup, 0, ["unlock", "127.0.0.1", place, "--vault-password-command", &password]);
        assert_eq!(names_in(&mount.join(place)), cleartext_names(&fixture), "{place}");
        ends_with(&scaup, 0, ["lock", "127.0.0.1", place]);
    }
    mount.unmount(&scaup);
}

#[test]
fn nobody_is_asked_for_the_password_of_a_vault_that_can_not_be_made() {
    let scaup = scaup();
    let asked = scaup.home().join("asked");
    let command = format!("touch '{}'; echo 'correct horse battery'", asked.display());
    fs::create_dir(scaup.home().join("full")).unwrap();
    fs::write(scaup.home().join("full/file"), "").unwrap();
    for (place, code) in [("missing/New", 1), ("full", 5)] {
        let place = scaup.home().join(place);
        let words = ["vault", "create", place.to_str().unwrap(), "--vault-password-command", &command];
        ends_with(&scaup, code, words);
        assert!(!asked.exists(), "{}", place.display());
    }
}

#[test]
fn vaults_that_must_be_refused_end_with_5_if_they_are_named() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    for name in ["format5-refuse", "jwt-bad-signature", "jwt-kid-hub", "masterkey-missing"] {
        let fixture = Fixture::unpack(name);
        fixture.copy_vault_to(&sshd.home().join(name));
        sshd.give(&sshd.home());
        let output =
            scaup.mount_on(&sshd, "").answering(&answering(&fixture)).args(["--vault", name]).refused();
        assert_eq!(output.status.code(), Some(5), "{name}: {}", said(&output));
        assert!(said(&output).contains(name), "{}", said(&output));
        // A person is asked only where the answer may open it.
        let (program, asked) = scaup.askpass(&answering(&fixture));
        let output = scaup.mount_on(&sshd, "").askpass(&program).args(["--vault", name]).refused();
        assert_eq!(output.status.code(), Some(5), "{name}: {}", said(&output));
        let asked = fs::read_to_string(asked).unwrap();
        let expected = match name {
            "jwt-bad-signature" => "Password for vault",
            "jwt-kid-hub" | "masterkey-missing" => "Recovery key for vault",
            _ => "",
        };
        assert_eq!(asked.split(" jwt").next().unwrap().split(" master").next().unwrap(), expected, "{asked}");
    }
    let output = scaup.mount_on(&sshd, "").args(["--vault", "missing"]).refused();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let output = scaup.mount_on(&sshd, "").args(["--vault", "../x"]).refused();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
}

#[test]
fn a_vault_is_made_and_inspected_here_and_over_ssh() {
    let (scaup, sshd) = (scaup(), Sshd::builder().start());
    let password = "correct horse battery";
    let command = scaup.command_answering(password);
    let here = scaup.home().join("New vault");
    let here = here.to_str().unwrap();
    ends_with(&scaup, 0, ["vault", "create", here, "--vault-password-command", &command]);
    let info = ends_with(&scaup, 0, ["vault", "info", here]);
    assert!(info.contains('8') && info.contains("SIV_GCM"), "{info}");
    ends_with(&scaup, 5, ["vault", "create", here, "--vault-password-command", &command]);
    let short = scaup.command_answering("short");
    let other = format!("{here}2");
    assert!(
        ends_with(&scaup, 5, ["vault", "create", &other, "--vault-password-command", &short]).contains("8")
    );
    assert!(!Path::new(&other).exists());
    ends_with(&scaup, 5, ["vault", "info", scaup.home().to_str().unwrap()]);

    let (port, key) = (sshd.port().to_string(), sshd.key().path().to_str().unwrap().to_owned());
    let known = format!("UserKnownHostsFile={}", sshd.known_hosts_file().display());
    let passphrase = scaup.command_answering(Sshd::PASSPHRASE);
    let (program, noted) = scaup.askpass(&Answers::login(&sshd));
    let there = format!("{}@{}:Vault", sshd.user(), sshd.host());
    let run = |words: &[&str]| {
        let output = scaup
            .command()
            .env("SSH_ASKPASS", &program)
            .args(words)
            .args([&there, "-p", &port, "-i", &key, "-o", &known, "--passphrase-command", &passphrase])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    run(&["vault", "create", "--cipher-combo", "SIV_CTRMAC", "--vault-password-command", &command]);
    let info = run(&["vault", "info"]);
    assert!(info.contains("SIV_CTRMAC"), "{info}");
    assert!(fs::read_to_string(noted).unwrap().contains("Verification code"), "codes are asked for");
    let mount = scaup
        .mount_on(&sshd, "")
        .answering(&Answers::login(&sshd).vault(password))
        .args(["--vault", "Vault"])
        .start();
    fs::write(mount.join("Vault/file"), "content").unwrap();
    assert_eq!(fs::read_to_string(mount.join("Vault/file")).unwrap(), "content");
    mount.unmount(&scaup);
}

#[test]
fn a_command_for_a_vault_that_is_named_as_a_mount_shows_it_says_where_it_lies() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    fixture.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let mount = scaup.mount_on(&sshd, "").answering(&answering(&fixture)).args(["--vault", "Vault"]).start();
    let password = scaup.command_answering(&fixture.manifest.password);
    for below in ["Vault", "Vault/some/where"] {
        let shown = mount.join(below);
        let shown = shown.to_str().unwrap();
        let output = scaup.run(["vault", "conflicts", shown, "--vault-password-command", &password]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(":Vault"), "{}", said(&output));
    }
    mount.unmount(&scaup);
}

#[test]
fn what_is_written_into_a_vault_made_here_is_read_by_another_reader() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let (password, port) = ("correct horse battery", sshd.port().to_string());
    let command = scaup.command_answering(password);
    let known = format!("UserKnownHostsFile={}", sshd.known_hosts_file().display());
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let mut reader = Reader::start();
    for (combo, threshold) in [("SIV_GCM", "220"), ("SIV_CTRMAC", "36")] {
        let there = format!("{}@{}:{combo}", sshd.user(), sshd.host());
        let login = ["-p", &port, "-i", sshd.key().path().to_str().unwrap(), "-o", &known];
        let vault = ["--cipher-combo", combo, "--shortening-threshold", threshold];
        let words = ["vault", "create", &there, "--vault-password-command", &command];
        ends_with(&scaup, 0, [&words[..], &login, &vault].concat());
        let on_server = sshd.home().join(combo);
        assert_eq!(reader.read(&on_server, password), Ok(Tree::new()));
        let mount = scaup.mount_on(&sshd, "").answering(&Answers::default().vault(password));
        let mount = mount.args(["--vault", combo]).start();
        fill(&mount.join(combo));
        mount.unmount(&scaup);
        assert_eq!(reader.read(&on_server, password), Ok(local(source.path())), "{combo}");
    }
}

#[test]
fn local_directories() {
    let scaup = scaup();
    let fixture = Fixture::unpack("gcm8");
    let mount = scaup
        .mount(fixture.directory())
        .answering(&Answers::default().vault(&fixture.manifest.password))
        .start();
    assert_eq!(names_in(&mount.join("vault")), cleartext_names(&fixture));
    let file = fixture.manifest.entries.iter().find(|entry| entry.kind == EntryKind::File).unwrap();
    assert_eq!(fs::read(mount.join(format!("vault{}", file.path))).unwrap().len() as u64, file.size.unwrap());
    mount.unmount(&scaup);
    for target in ["./here", "../here/here/there/.."] {
        let directory = scaup.home().join("here");
        fs::create_dir_all(directory.join("here/there")).unwrap();
        let mountpoint = scaup.home().join("mnt/relative");
        let output = scaup
            .command()
            .current_dir(if target.starts_with("./") { scaup.home() } else { &directory })
            .args(["mount", target])
            .arg(&mountpoint)
            .output()
            .unwrap();
        assert!(output.status.success(), "{target}: {}", said(&output));
        ends_with(&scaup, 0, ["unmount".as_ref(), mountpoint.as_os_str()]);
    }
}

#[test]
fn a_password_that_was_changed_on_one_machine_is_told_from_a_wrong_one() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let fixture = Fixture::unpack("gcm8");
    let vault = sshd.home().join("Vault");
    fixture.copy_vault_to(&vault);
    let own = vault.join("masterkey.cryptomator");
    let key =
        MasterkeyFile::parse(&fs::read(&own).unwrap()).unwrap().unlock(&fixture.manifest.password).unwrap();
    let copy = "masterkey.sync-conflict-20260102-123456-ABCDEFG.cryptomator";
    fs::write(vault.join(copy), MasterkeyFile::create(&key, "changed there", 999).unwrap()).unwrap();
    sshd.give(&sshd.home());

    let changed = ["--vault-password-command", &scaup.command_answering("changed there")];
    let wrong = ["--vault-password-command", &scaup.command_answering("wrong")];
    let mount = scaup.mount_on(&sshd, "").start();
    let here = vault.to_str().unwrap();
    for words in [vec!["unlock", "127.0.0.1", "Vault"], vec!["vault", "check", here]] {
        let said = ends_with(&scaup, 5, [&words[..], &changed].concat());
        assert!(
            said.contains("wrong password") && said.contains(&format!("The password fits `{copy}`")),
            "{said}"
        );
        let said = ends_with(&scaup, 5, [&words[..], &wrong].concat());
        assert!(said.contains(&format!("lies `{copy}`; the password fits none of these")), "{said}");
    }
    // The vault itself is as it was.
    let right = scaup.command_answering(&fixture.manifest.password);
    ends_with(&scaup, 0, ["unlock", "127.0.0.1", "Vault", "--vault-password-command", &right]);
    assert_eq!(names_in(&mount.join("Vault")), cleartext_names(&fixture));
    mount.unmount(&scaup);
    fs::remove_file(&own).unwrap();
    let said = ends_with(&scaup, 5, ["vault", "info", here]);
    assert!(
        said.contains("masterkey.cryptomator is missing") && said.contains(&format!("lies `{copy}`")),
        "{said}"
    );
    // What is no damage is no reason to try copies.
    let newer = Fixture::unpack("jwt-format9");
    fs::copy(newer.vault().join("masterkey.cryptomator"), newer.vault().join(copy)).unwrap();
    let right = ["--vault-password-command", &scaup.command_answering(&newer.manifest.password)];
    let said =
        ends_with(&scaup, 5, [&["vault", "check", newer.vault().to_str().unwrap()][..], &right].concat());
    assert!(said.contains("update") && !said.contains(copy), "{said}");
}

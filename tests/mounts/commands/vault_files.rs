//! A vault's two files are upgraded, and brought back where they are lost or damaged.

use std::fs;
use std::path::Path;

use data_encoding::{BASE64URL_NOPAD, HEXUPPER};
use scaup_rig::{Fixture, Open, Sshd};
use sha2::{Digest, Sha256};

use super::vault_keys::{foreign_key, masterkey};
use crate::reader::Reader;
use crate::support::{PASSWORD, ends_with, names_in, scaup};

const NEW: &str = "a quite new pässword";
const CONFIG: &str = "vault.cryptomator";
const MASTERKEY: &str = "masterkey.cryptomator";

/// What a vault's config says: its ciphers and its shortening threshold.
fn claims(vault: &Path) -> (String, u64) {
    let token = fs::read_to_string(vault.join(CONFIG)).unwrap();
    let payload = BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    (claims["cipherCombo"].as_str().unwrap().to_owned(), claims["shorteningThreshold"].as_u64().unwrap())
}

/// The names and content of what lies beside a vault's data.
fn files(vault: &Path) -> Vec<(String, Vec<u8>)> {
    let names = names_in(vault).into_iter().filter(|name| vault.join(name).is_file());
    names.map(|name| (name.clone(), fs::read(vault.join(&name)).unwrap())).collect()
}

#[test]
fn each_vault_of_format_7_is_upgraded_and_opens_by_its_password() {
    let scaup = scaup();
    let mut upgraded = 0;
    for name in Fixture::names() {
        let fixture = Fixture::unpack(&name);
        let vault = fixture.vault();
        let path = vault.to_str().unwrap();
        let before = files(&vault);
        let command = scaup.command_answering(PASSWORD);
        let words = ["vault", "upgrade", path, "--yes", "--vault-password-command", &command];
        match fixture.manifest.format {
            Some(7) => {}
            Some(8) => {
                let said = ends_with(&scaup, 0, words);
                assert!(said.contains("format 8 already"), "{name}: {said}");
                assert_eq!(files(&vault), before, "{name}");
                continue;
            }
            Some(_) => {
                let said = ends_with(&scaup, 5, words);
                assert!(said.contains("Cryptomator"), "{name}: {said}");
                assert_eq!(files(&vault), before, "{name}");
                continue;
            }
            None => continue,
        }
        upgraded += 1;
        let read = Reader::start().read(&vault, PASSWORD).unwrap();
        let wrong = scaup.command_answering("wrong password");
        ends_with(&scaup, 5, ["vault", "upgrade", path, "--yes", "--vault-password-command", &wrong]);
        // Nobody was asked.
        ends_with(&scaup, 1, ["vault", "upgrade", path, "--vault-password-command", &command]);
        assert_eq!(files(&vault), before, "{name}");
        let said = ends_with(&scaup, 0, words);
        let backup = said.split_once("is kept as ").unwrap().1.split_once(".bkup").unwrap().0;
        let old = &before.iter().find(|(name, _)| name == MASTERKEY).unwrap().1;
        assert_eq!(&fs::read(vault.join(format!("{backup}.bkup"))).unwrap(), old, "{name}");
        assert_eq!(claims(&vault), ("SIV_CTRMAC".to_owned(), 220), "{name}");
        assert_eq!(Reader::start().read(&vault, PASSWORD).unwrap(), read, "{name}");
        assert!(ends_with(&scaup, 0, ["vault", "info", path]).contains("format:       8"), "{name}");
        ends_with(&scaup, 0, ["vault", "check", path, "--vault-password-command", &command]);
        assert!(ends_with(&scaup, 0, words).contains("format 8 already"), "{name}");
    }
    assert!(upgraded > 0);
}

#[test]
fn lost_files_are_made_anew_from_the_recovery_key() {
    let scaup = scaup();
    let new = scaup.command_answering(NEW);
    let foreign = scaup.command_answering(&foreign_key());
    for name in
        ["gcm8", "ctrmac8", "short36-gcm", "short36-ctrmac", "short60-gcm", "empty-gcm", "in-use-files"]
    {
        for lost in [&[MASTERKEY][..], &[CONFIG], &[MASTERKEY, CONFIG]] {
            for torn in [false, true] {
                let what = format!("{name}, {lost:?}, {}", if torn { "torn" } else { "missing" });
                let fixture = Fixture::unpack(name);
                let vault = fixture.vault();
                let path = vault.to_str().unwrap();
                let read = Reader::start().read(&vault, PASSWORD);
                let said_before = claims(&vault);
                let key = scaup.command_answering(&masterkey(&vault).recovery_key());
                for file in lost {
                    let content = fs::read(vault.join(file)).unwrap();
                    match torn {
                        true => fs::write(vault.join(file), &content[..content.len() / 3]).unwrap(),
                        false => fs::remove_file(vault.join(file)).unwrap(),
                    }
                }
                let before = files(&vault);
                let words = ["vault", "restore", path, "--yes", "--new-password-command", &new];
                ends_with(&scaup, 5, [&words[..], &["--recovery-key-command", &foreign]].concat());
                assert_eq!(files(&vault), before, "{what}");
                let said = ends_with(&scaup, 0, [&words[..], &["--recovery-key-command", &key]].concat());
                assert_eq!(claims(&vault), said_before, "{what}: {said}");
                let after = files(&vault);
                for (file, content) in &before {
                    let kept = after.iter().any(|(other, now)| other.starts_with(file) && now == content);
                    assert!(kept, "{what}: {file}");
                }
                let password = if lost.contains(&MASTERKEY) { NEW } else { PASSWORD };
                assert_eq!(Reader::start().read(&vault, password), read, "{what}");
                let again = scaup.command_answering(password);
                let check =
                    ends_with(&scaup, 0, ["vault", "check", path, "--vault-password-command", &again]);
                assert!(!check.contains("critical"), "{what}: {check}");
                let again = ends_with(&scaup, 0, [&words[..], &["--recovery-key-command", &key]].concat());
                assert!(again.contains("nothing is to be done"), "{what}: {again}");
                assert_eq!(files(&vault), after, "{what}");
            }
        }
    }
}

#[test]
fn every_config_that_is_damaged_is_restored_by_the_password() {
    let scaup = scaup();
    let command = scaup.command_answering(PASSWORD);
    for name in [
        "config-missing",
        "jwt-trailing-newline",
        "jwt-bad-signature",
        "jwt-tampered-threshold",
        "jwt-tampered-combo",
        "jwt-alg-none",
        "jwt-alg-rs256",
        "jwt-garbage",
        "jwt-empty",
        "jwt-wrong-key",
    ] {
        let fixture = Fixture::unpack(name);
        assert_eq!(fixture.manifest.open, Open::Refuse);
        let vault = fixture.vault();
        let words =
            ["vault", "restore", vault.to_str().unwrap(), "--yes", "--vault-password-command", &command];
        let said = ends_with(&scaup, 0, words);
        assert_eq!(claims(&vault), ("SIV_GCM".to_owned(), 220), "{name}: {said}");
        Reader::start().read(&vault, PASSWORD).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // What a newer program wrote, or another key, is no damage.
    for name in ["jwt-format9", "jwt-unknown-combo", "jwt-kid-traversal", "format6-refuse", "d-missing"] {
        let fixture = Fixture::unpack(name);
        let vault = fixture.vault();
        let before = files(&vault);
        let words =
            ["vault", "restore", vault.to_str().unwrap(), "--yes", "--vault-password-command", &command];
        ends_with(&scaup, 5, words);
        assert_eq!(files(&vault), before, "{name}");
    }
}

#[test]
fn a_backup_that_verifies_is_taken_and_not_the_newest() {
    let scaup = scaup();
    let fixture = Fixture::unpack("short60-gcm");
    let vault = fixture.vault();
    let path = vault.to_str().unwrap();
    let other = Fixture::unpack("gcm8");
    let other = other.vault();
    let [command, wrong] = [PASSWORD, "wrong password"].map(|password| scaup.command_answering(password));
    let whole: Vec<(&str, Vec<u8>)> =
        [MASTERKEY, CONFIG].map(|file| (file, fs::read(vault.join(file)).unwrap())).into();
    for (file, content) in &whole {
        fs::write(vault.join(format!("{file}.00000001.bkup")), content).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(vault.join(format!("{file}.00000002.bkup")), &content[..content.len() / 2]).unwrap();
        // Of another vault with the same password.
        fs::copy(other.join(file), vault.join(format!("{file}.00000003.bkup"))).unwrap();
    }
    let words = ["vault", "restore", path, "--yes", "--vault-password-command"];
    for lost in [&[MASTERKEY][..], &[CONFIG], &[MASTERKEY, CONFIG]] {
        lost.iter().for_each(|file| fs::remove_file(vault.join(file)).unwrap());
        let before = files(&vault);
        ends_with(&scaup, 5, [&words[..], &[&wrong]].concat());
        assert_eq!(files(&vault), before);
        let said = ends_with(&scaup, 0, [&words[..], &[&command]].concat());
        assert!(said.contains("00000001.bkup, which verifies"), "{said}");
        for (file, content) in &whole {
            assert_eq!(&fs::read(vault.join(file)).unwrap(), content, "{said}");
        }
    }
    // In place of the vault's own.
    fs::copy(other.join(MASTERKEY), vault.join(MASTERKEY)).unwrap();
    let said = ends_with(&scaup, 0, [&words[..], &[&command]].concat());
    assert!(said.contains("the keys of another vault"), "{said}");
    assert_eq!(fs::read(vault.join(MASTERKEY)).unwrap(), whole[0].1);
}

#[test]
fn a_vault_of_a_hub_gets_a_password() {
    let scaup = scaup();
    let fixture = Fixture::unpack("jwt-kid-hub");
    let vault = fixture.vault();
    let key = scaup.command_answering(&masterkey(&vault).recovery_key());
    fs::remove_file(vault.join(MASTERKEY)).unwrap();
    let hub = fs::read(vault.join(CONFIG)).unwrap();
    let said = claims(&vault);
    let new = scaup.command_answering(NEW);
    let words = ["vault", "restore", vault.to_str().unwrap(), "--yes", "--new-password-command", &new];
    ends_with(&scaup, 0, [&words[..], &["--recovery-key-command", &key]].concat());
    assert_eq!(claims(&vault), said);
    let is_its_backup = |(name, content): &(String, Vec<u8>)| name.ends_with(".bkup") && *content == hub;
    assert!(files(&vault).iter().any(is_its_backup));
    Reader::start().read(&vault, NEW).unwrap();
}

#[test]
fn nothing_is_restored_where_nothing_is_missing_or_nobody_agrees() {
    let scaup = scaup();
    let command = scaup.command_answering(PASSWORD);
    for name in ["gcm8", "format7"] {
        let fixture = Fixture::unpack(name);
        let vault = fixture.vault();
        let before = files(&vault);
        let key = scaup.command_answering(&masterkey(&vault).recovery_key());
        let words = ["vault", "restore", vault.to_str().unwrap()];
        for more in [&[][..], &["--vault-password-command", &command], &["--recovery-key-command", &key]] {
            let said = ends_with(&scaup, 0, [&words[..], more].concat());
            assert!(said.contains("nothing is to be done"), "{name}: {said}");
        }
        assert_eq!(files(&vault), before, "{name}");
    }
    let fixture = Fixture::unpack("config-missing");
    let before = files(&fixture.vault());
    let path = fixture.vault();
    let words = ["vault", "restore", path.to_str().unwrap(), "--vault-password-command", &command];
    let said = ends_with(&scaup, 1, words);
    assert!(said.contains("--yes"), "{said}");
    assert_eq!(files(&fixture.vault()), before);
}

#[test]
fn unlocking_makes_backups_once() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let vault = sshd.home().join("Vault");
    Fixture::unpack("gcm8").copy_vault_to(&vault);
    sshd.give(&sshd.home());
    let before = files(&vault);
    let command = scaup.command_answering(PASSWORD);
    let args = ["--vault", "Vault", "--vault-password-command", &command];
    for without in ["--no-backup", "--read-only"] {
        let mount = scaup.mount_on(&sshd, "").args(args).args([without]).start();
        mount.unmount(&scaup);
        assert_eq!(files(&vault), before, "{without}");
    }
    let mut made = Vec::new();
    for _ in 0..2 {
        let mount = scaup.mount_on(&sshd, "").args(args).start();
        let readable = names_in(&mount.join("Vault"));
        assert!(!readable.iter().any(|name| name.ends_with(".bkup")), "{readable:?}");
        mount.unmount(&scaup);
        let now = files(&vault);
        assert_eq!(now.len(), 2 * before.len());
        for (name, content) in &before {
            let hash = &HEXUPPER.encode(&Sha256::digest(content))[..8];
            assert!(now.contains(&(format!("{name}.{hash}.bkup"), content.clone())), "{name}");
        }
        assert!(made.is_empty() || made == now);
        made = now;
    }
    let info = ends_with(&scaup, 0, ["vault", "info", vault.to_str().unwrap()]);
    for (name, _) in made.iter().filter(|(name, _)| name.ends_with(".bkup")) {
        let line = info.lines().find(|line| line.contains(name.as_str())).unwrap();
        assert!(line.contains(": the same as"), "{info}");
    }
}

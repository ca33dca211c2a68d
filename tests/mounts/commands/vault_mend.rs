//! `scaup vault check --fix`: what it does to the vaults that are damaged in every way, as a mount shows it, and when
//! it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use scaup_rig::{Answers, Fixture, Scaup};
use serde_json::Value;

use crate::support::{Drive, PASSWORD, said, scaup, sha256, shell, tree};

fn fix(scaup: &Scaup, vault: &Path, arguments: &[&str]) -> Output {
    let password = scaup.command_answering(PASSWORD);
    let first = ["vault", "check", vault.to_str().unwrap(), "--vault-password-command", &password];
    scaup.run(first.iter().chain(arguments))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// Nobody has changed anything in it for an hour.
fn leave_alone(vault: &Path) {
    shell(vault, "find . -exec touch -h -d '1 hour ago' {} +");
}

/// What a mount shows of a vault in a local directory, and can be read: files by the hash of their content, and links.
fn readable(scaup: &Scaup, vault: &Path) -> BTreeMap<PathBuf, String> {
    let mount = scaup.mount(vault).answering(&Answers::default().vault(PASSWORD));
    let mount = mount.args(["--vault", ".", "--read-only"]).start();
    let mut found = BTreeMap::new();
    let mut waiting = vec![(mount.path().to_path_buf(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        // One may hold itself, and one may have no content.
        let entries = if depth < 8 { fs::read_dir(&directory).ok() } else { None };
        for entry in entries.into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let content = if kind.is_dir() {
                waiting.push((path.clone(), depth + 1));
                continue;
            } else if kind.is_symlink() {
                fs::read_link(&path).ok().map(|target| sha256(target.as_os_str().as_bytes()))
            } else {
                fs::read(&path).ok().map(|content| sha256(&content))
            };
            let path = path.strip_prefix(mount.path()).unwrap().to_path_buf();
            found.extend(content.map(|content| (path, content)));
        }
    }
    mount.unmount(scaup);
    found
}

/// What became so: kinds, and places on the server.
fn became(report: &Value, state: &str) -> BTreeSet<(String, String)> {
    let findings = report["findings"].as_array().unwrap().iter();
    let of_state = findings.filter(|finding| finding["fix"]["state"] == state);
    of_state
        .map(|finding| {
            assert!(!finding["fix"]["what"].as_str().unwrap().is_empty(), "{finding}");
            let of = |key: &str| finding[key].as_str().unwrap().to_owned();
            (of("kind"), of("path"))
        })
        .collect()
}

#[test]
fn every_damaged_vault_is_mended_and_what_could_be_read_still_can() {
    let scaup = scaup();
    for name in
        ["damage-structure", "damage-content-gcm", "damage-content-ctrmac", "conflicts", "hostile-names"]
    {
        let fixture = Fixture::unpack(name);
        let vault = fixture.vault();
        leave_alone(&vault);
        let before = readable(&scaup, &vault);
        let planned = json(&fix(&scaup, &vault, &["--json", "--dry-run"]));
        let wanted = became(&planned, "planned");
        let mended = fix(&scaup, &vault, &["--json", "--fix", "--yes"]);
        if wanted.is_empty() {
            continue;
        }
        let report = json(&mended);
        assert_eq!(became(&report, "mended"), wanted, "{name}: {report:#}");
        assert_eq!(became(&report, "failed"), BTreeSet::new(), "{name}: {report:#}");
        // What needs a choice is left, and is still wrong.
        assert_eq!(mended.status.code(), Some(5), "{name}: {}", said(&mended));
        let after = readable(&scaup, &vault);
        for (path, content) in &before {
            let is_kept = after.get(path) == Some(content) || after.values().any(|now| now == content);
            assert!(is_kept, "{name}: {} could be read before: {after:#?}", path.display());
        }
        leave_alone(&vault);
        let there = tree(&vault);
        let again = json(&fix(&scaup, &vault, &["--json", "--fix", "--yes"]));
        assert_eq!(became(&again, "mended"), BTreeSet::new(), "{name}: {again:#}");
        let left = became(&again, "left");
        assert!(left.is_disjoint(&wanted), "{name}: {left:?} of {wanted:?}");
        assert_eq!(tree(&vault), there, "{name}: a second run changes nothing");
        if name == "damage-structure" {
            let kinds: BTreeSet<&String> = wanted.iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds.len(), 11, "{kinds:?}");
            let found: Vec<_> = after.keys().filter(|path| path.starts_with("LOST+FOUND")).collect();
            assert_eq!(found.len(), 7, "what was in the orphans: {found:?}");
        }
    }
}

#[test]
fn where_all_that_is_wrong_is_mended_the_exit_code_says_so_and_nothing_is_removed() {
    let scaup = scaup();
    let fixture = Fixture::unpack("gcm8");
    let vault = fixture.vault();
    let orphan = vault.join("d/ZZ/ABCDEFGHIJKLMNOPQRSTUVWXYZ2345");
    fs::create_dir_all(&orphan).unwrap();
    let node = shell(&vault, "find d -name dir.c9r | sort | head -1");
    let node = vault.join(node.trim()).parent().unwrap().to_path_buf();
    fs::remove_dir_all(&node).unwrap();
    leave_alone(&vault);
    assert_eq!(fix(&scaup, &vault, &[]).status.code(), Some(5));
    let before = tree(&vault);
    let planned = fix(&scaup, &vault, &["--fix", "--dry-run"]);
    assert_eq!(planned.status.code(), Some(5), "{}", said(&planned));
    assert!(said(&planned).contains("make one node in /LOST+FOUND"), "{}", said(&planned));
    assert_eq!(tree(&vault), before, "nothing was done");
    // Nobody can be asked.
    let asked = fix(&scaup, &vault, &["--fix"]);
    assert_eq!(asked.status.code(), Some(1), "{}", said(&asked));
    assert!(said(&asked).contains("use --yes"), "{}", said(&asked));
    assert_eq!(tree(&vault), before, "nothing was done");
    // Only what was asked for.
    let one = fix(&scaup, &vault, &["--fix=empty_orphan", "--yes"]);
    assert_eq!(one.status.code(), Some(5), "{}", said(&one));
    assert!(!orphan.exists());
    let aside = shell(&vault, "ls -d .scaup-repair-*/d/ZZ/ABCDEFGHIJKLMNOPQRSTUVWXYZ2345");
    assert_eq!(aside.lines().count(), 1, "{aside}");
    leave_alone(&vault);
    let all = fix(&scaup, &vault, &["--fix", "--yes"]);
    assert_eq!(all.status.code(), Some(0), "{}", said(&all));
    assert!(said(&all).contains("it is /LOST+FOUND/"), "{}", said(&all));
    let unknown = fix(&scaup, &vault, &["--fix=damaged_content"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    assert!(said(&unknown).contains("only these kinds can be mended: missing_directory_id_backup"));
}

#[test]
fn a_vault_that_is_in_use_is_not_mended() {
    let drive = Drive::mounted();
    let vault = drive.on_server("Vault");
    shell(&vault, "mkdir -p d/ZZ/ABCDEFGHIJKLMNOPQRSTUVWXYZ2345");
    leave_alone(&vault);
    let refused = fix(&drive.scaup, &vault, &["--fix", "--yes"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("unmount it first"), "{}", said(&refused));
    let Drive { mount, scaup, sshd } = drive;
    mount.unmount(&scaup);
    let vault = sshd.home().join("Vault");
    // Somebody else is at work.
    shell(&vault, "touch d/ZZ/ABCDEFGHIJKLMNOPQRSTUVWXYZ2345");
    let refused = fix(&scaup, &vault, &["--fix", "--yes"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("may be at work"), "{}", said(&refused));
    leave_alone(&vault);
    let mended = fix(&scaup, &vault, &["--fix", "--yes"]);
    assert_eq!(mended.status.code(), Some(0), "{}", said(&mended));
}

//! `scaup doctor`: what it finds, in which form, and that it leaves everything as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use scaup_rig::{KeyKind, Scaup, Sshd};
use serde_json::Value;

use crate::support::{ends_with, names_in, noise, said, scaup, server_with_vault, signal};

/// Returns the checks of a report, which has to end with the code that they call for.
fn checks(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)));
    let checks = report["checks"].as_array().unwrap().clone();
    let has = |state: &str| checks.iter().any(|check| check["state"] == state);
    let code = if has("failed") { 2 } else { i32::from(has("warning")) };
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    checks
}

/// Returns the checks of this name.
fn named(checks: &[Value], name: &str) -> Vec<Value> {
    let found: Vec<Value> = checks.iter().filter(|check| check["check"] == name).cloned().collect();
    assert!(!found.is_empty(), "{name}: {checks:#?}");
    found
}

fn text<'a>(check: &'a Value, key: &str) -> &'a str {
    check[key].as_str().unwrap_or_else(|| panic!("{key}: {check}"))
}

/// Returns all files below a directory, with their times and sizes.
fn files(at: &Path) -> BTreeMap<String, (i64, i64, u64)> {
    let mut found = BTreeMap::new();
    for name in names_in(at) {
        let path = at.join(&name);
        let metadata = path.symlink_metadata().unwrap();
        found.insert(name.clone(), (metadata.mtime(), metadata.mtime_nsec(), metadata.size()));
        if metadata.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, it)| (format!("{name}/{below}"), it)));
        }
    }
    found
}

/// Prepares to examine the login directory of a server.
fn doctor(scaup: &Scaup, sshd: &Sshd, arguments: &[&str]) -> Command {
    let mut command = scaup.command();
    let known_hosts = format!("UserKnownHostsFile={}", sshd.known_hosts_file().display());
    command.args(["doctor", "--json", "-p", &sshd.port().to_string(), "-o", &known_hosts, "-i"]);
    command.arg(sshd.key().path()).args(arguments);
    command
}

#[test]
fn without_a_target_nothing_is_connected_to_asked_or_changed() {
    let scaup = scaup();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let asked = scaup.home().join("asked");
    let askpass = scaup.home().join("askpass");
    fs::write(&askpass, format!("#!/bin/sh\necho asked >> {}\n", asked.display())).unwrap();
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o755)).unwrap();
    let command = format!("otp_command=echo asked >> {}", asked.display());
    let port = format!("port={}", listener.local_addr().unwrap().port());
    ends_with(&scaup, 0, ["bookmark", "add", "hq", "alice@127.0.0.1", &port, &command]);
    let before = files(scaup.home());
    let output = scaup
        .command()
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let checks = checks(&output);
    for check in &checks {
        let mut keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["advice", "check", "found", "group", "state"]);
        assert!(["machine", "login", "traces"].contains(&text(check, "group")), "{check}");
        assert!(["ok", "warning", "failed"].contains(&text(check, "state")), "{check}");
        assert_eq!(check["advice"].is_null(), check["state"] == "ok", "{check}");
    }
    assert_eq!(named(&checks, "otp_command")[0]["state"], "ok");
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it connected");
    assert!(!asked.exists());
    assert_eq!(files(scaup.home()), before);
}

#[test]
fn a_missing_fusermount3_is_a_problem() {
    let scaup = scaup();
    let programs = scaup.home().join("programs");
    fs::create_dir(&programs).unwrap();
    symlink("/usr/bin/setsid", programs.join("setsid")).unwrap();
    let output = scaup.command().env("PATH", &programs).args(["doctor", "--json"]).output().unwrap();
    let found = named(&checks(&output), "fusermount3");
    assert_eq!(found[0]["state"], "failed");
    assert!(text(&found[0], "advice").contains("apt install fuse3"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_key_that_others_may_read_is_named_at_once_and_by_the_doctor() {
    let scaup = scaup();
    let key = scaup_rig::Key::generate(&scaup.home().join("key"), KeyKind::Ed25519, "");
    fs::set_permissions(key.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let identity = format!("identity={}", key.path().display());
    let cure = format!("chmod 600 {}", key.path().display());
    let words = ends_with(
        &scaup,
        0,
        ["bookmark", "add", "hq", "alice@hq.example", &identity, "otp_command=no-such-program x"],
    );
    assert!(words.contains(&cure) && words.contains("no-such-program"), "{words}");
    assert!(ends_with(&scaup, 0, ["bookmark", "list"]).contains("hq"), "it is added");
    let words = ends_with(&scaup, 2, ["doctor"]);
    // Mounts that other tests leave behind are the machine's, and are named before.
    let (_, login) = words.split_once("\nlogin\n").unwrap_or_else(|| panic!("{words}"));
    let (login, _) = login.split_once("\n\n").unwrap_or_else(|| panic!("{words}"));
    let (_, after) = login.split_once("✗ key file: hq: ").unwrap_or_else(|| panic!("{words}"));
    assert!(after.lines().nth(1).unwrap().ends_with(&format!("      {cure}")), "{words}");
    assert_eq!(login.matches("✗ ").count(), 2, "the key file and the program of otp_command: {words}");
    assert!(words.trim_end().lines().last().unwrap().contains(" problems, "), "{words}");

    fs::set_permissions(key.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let words = ends_with(&scaup, 0, ["bookmark", "add", "other", "alice@hq.example", &identity]);
    assert!(words.is_empty(), "{words}");
}

#[test]
fn a_bookmark_that_can_not_be_read_is_named() {
    let scaup = scaup();
    ends_with(&scaup, 0, ["bookmark", "add", "good", "host"]);
    let directory = scaup.home().join("config/scaup/bookmarks");
    fs::write(directory.join("bad.toml"), "target = \"host\"\ncolour = \"red\"\n").unwrap();
    fs::create_dir(directory.join("directory.toml")).unwrap();
    let found = named(&checks(&scaup.run(["doctor", "--json"])), "bookmark");
    let found: Vec<&str> = found.iter().map(|check| text(check, "found")).collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].contains("bad.toml") && found[0].contains("colour"), "{found:?}");
    assert!(found[1].contains("directory.toml"), "{found:?}");
}

#[test]
fn a_mount_whose_daemon_was_killed_is_found_and_the_cure_works() {
    let scaup = scaup();
    let directory = scaup.home().join("directory");
    fs::create_dir(&directory).unwrap();
    let mount = scaup.mount(&directory).start();
    let of_mount = |checks: &[Value]| -> Vec<Value> {
        let place = mount.path().to_str().unwrap();
        named(checks, "mounts").into_iter().filter(|it| text(it, "found").contains(place)).collect()
    };
    assert!(of_mount(&checks(&scaup.run(["doctor", "--json"]))).is_empty());
    let pid = mount.daemon();
    signal(pid, Signal::KILL);
    scaup_rig::eventually("the daemon is dead", std::time::Duration::from_secs(15), || {
        fs::read_dir(mount.path()).is_err()
    });
    let found = checks(&scaup.run(["doctor", "--json"]));
    let stale = of_mount(&found);
    assert_eq!(stale[0]["state"], "failed", "{found:#?}");
    assert!(text(&named(&found, "sockets")[0], "found").contains("left by daemons"), "{found:#?}");
    let cure = text(&stale[0], "advice");
    assert!(cure.starts_with("fusermount3 -uz "));
    assert!(Command::new("sh").args(["-c", cure]).status().unwrap().success());
    ends_with(&scaup, 0, ["status"]);
    let found = checks(&scaup.run(["doctor", "--json"]));
    assert!(of_mount(&found).is_empty());
    assert_eq!(named(&found, "sockets")[0]["state"], "ok");
}

#[test]
fn a_server_and_its_vaults_are_examined_and_nothing_is_changed_there() {
    let (scaup, sshd) = (scaup(), server_with_vault());
    fs::write(sshd.files().join("large"), noise(1, 9 << 20)).unwrap();
    sshd.give(&sshd.files());
    let target = format!("{}@{}:{}", sshd.user(), sshd.host(), sshd.files().display());
    let before = files(&sshd.home());
    let output = doctor(&scaup, &sshd, &[&target]).output().unwrap();
    let found = checks(&output);
    assert_eq!(files(&sshd.home()), before);
    for (name, words) in [
        ("address", "127.0.0.1"),
        ("connection", "accepts"),
        ("login", "works"),
        ("encryption", "ssh-ed25519"),
        ("round trip", "ms"),
        ("posix-rename@openssh.com", "offered"),
        ("fsync@openssh.com", "offered"),
        ("space", "free"),
        ("vault", "Vault: format 8, SIV_GCM"),
    ] {
        let check = &named(&found, name)[0];
        assert_ne!(check["state"], "failed", "{check}");
        assert!(text(check, "found").contains(words), "{check}");
        assert_eq!(check["group"], if name == "vault" { "vaults" } else { "server" });
    }
    let keys = named(&found, "key file");
    assert!(text(&keys[0], "found").contains(sshd.key().path().to_str().unwrap()));

    let output = doctor(&scaup, &sshd, &[&target, "--speed"]).output().unwrap();
    let found = checks(&output);
    for name in ["speed down", "speed up"] {
        assert!(text(&named(&found, name)[0], "found").contains("MB/s over 8"), "{found:#?}");
    }
    assert_eq!(named(&found, "server's clock")[0]["state"], "ok");
    assert_eq!(files(&sshd.home()).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[test]
fn a_server_that_refuses_or_does_not_listen_is_a_problem() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let stranger = format!("stranger@{}", sshd.host());
    let found = checks(&doctor(&scaup, &sshd, &[&stranger, "-o", "BatchMode=yes"]).output().unwrap());
    let login = named(&found, "login");
    assert_eq!(login[0]["state"], "failed", "{login:?}");
    assert!(found.iter().all(|check| check["group"] != "vaults"));

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let found = checks(&scaup.run(["doctor", "--json", "-p", &closed, "alice@127.0.0.1"]));
    assert_eq!(named(&found, "connection")[0]["state"], "failed");
    assert!(found.iter().all(|check| check["check"] != "login"));
    // What is no target is wrong use.
    assert!(ends_with(&scaup, 2, ["doctor", "a b:"]).contains("host name"));
}

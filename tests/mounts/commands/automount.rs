//! Mounting by an automount, as `x-systemd.automount` in fstab(5) has it done: autofs keeps everybody waiting who goes
//! to the mount point, and the program that is to mount there must not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use scaup_rig::eventually;

use crate::support::{ends_with, scaup};

/// Whether this machine lets automounts be made.
fn has_autofs() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    rustix::process::geteuid().is_root() && known.lines().any(|line| line.ends_with("\tautofs"))
}

#[test]
fn an_automount_is_served_whenever_somebody_goes_there() {
    if !has_autofs() {
        eprintln!("not tried: autofs can't be mounted here");
        return;
    }
    let scaup = scaup();
    let (shared, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(shared.path().join("file"), "content").unwrap();
    let program = scaup.command();
    let mut owner = Command::new("python3");
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            owner.env(name, value);
        }
    }
    owner.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/automount/autofs.py")).arg(place.path());
    owner.args(["20", env!("CARGO_BIN_EXE_scaup"), "mount", "-q"]).arg(shared.path()).arg(place.path());
    let mut owner = owner.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut go = owner.stdin.take().unwrap();
    let mut said = BufReader::new(owner.stdout.take().unwrap()).lines();
    let name = shared.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    let is_mounted = || scaup.run(["status", &name]).status.success();
    for by_umount in [false, true, false] {
        writeln!(go).unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "ended 0, seen file");
        assert!(is_mounted());
        assert_eq!(fs::read_to_string(place.path().join("file")).unwrap(), "content");
        if by_umount {
            // As systemd does when nobody has been there for a while.
            assert!(Command::new("umount").arg(place.path()).status().unwrap().success());
        } else {
            ends_with(&scaup, 0, ["unmount", &name]);
        }
        eventually("the mount's process has ended", Duration::from_secs(10), || !is_mounted());
    }
    drop(go);
    assert!(owner.wait().unwrap().success());
}

//! Whole suites of others on a mount: `pjdfstest` for what POSIX asks of names, modes and times, `fsx` for content.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use scaup_rig::within;

use crate::support::{Drive, PATIENCE, fsx, said, tool};

/// How many of `pjdfstest`'s 398 cases pass on sshfs 3.7.3.
const SSHFS_PASSES: usize = 127;

/// Runs `pjdfstest` in `directory`; every case but those in the list of `tests/pjdfstest` must pass, and those must
/// fail.
fn pjdfstest(directory: &Path, configuration: &str, passes: usize) {
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pjdfstest").join(configuration);
    // The cases change to other users, who need a way in.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(tool("pjdfstest"));
    command.arg("--configuration-file").arg(configuration).arg("--path").arg(directory);
    // A way in from the root directory on: the suite gives the path as it was told.
    command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    let output = within(PATIENCE, move || command.output().unwrap());
    let said = said(&output);
    let mut passed = 0;
    let mut unexpected = BTreeSet::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, "ok"] if name.contains("::") => passed += 1,
            [name, "FAILED"] => {
                unexpected.insert(format!("{name} failed"));
            }
            [name, "PASSED", "UNEXPECTEDLY"] => {
                unexpected.insert(format!("{name} passed, but is listed as failing"));
            }
            _ => {}
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}\n{passed} passed\n{said}");
    assert!(output.status.success(), "{said}");
    assert!(passed >= passes, "only {passed} passed: {said}");
    assert!(passes > SSHFS_PASSES);
}

/// The way to the mount point has to be open to other users.
fn open_to_others(drive: &Drive) {
    fs::set_permissions(drive.scaup.home(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(drive.scaup.home().join("mnt"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn pjdfstest_finds_no_unexpected_failure_in_a_vault() {
    let drive = Drive::mounted_with(&["-o", "allow_other,default_permissions"]);
    open_to_others(&drive);
    pjdfstest(&drive.vault(), "vault.toml", 181);
    drive.unmount();
}

#[test]
fn pjdfstest_finds_no_unexpected_failure_in_a_plain_folder() {
    let drive = Drive::mounted_with(&["-o", "allow_other,default_permissions"]);
    open_to_others(&drive);
    pjdfstest(&drive.plain(), "plain.toml", 195);
    drive.unmount();
}

#[test]
fn fsx_finds_nothing_lost_or_wrong_in_a_vault() {
    let drive = Drive::mounted();
    fsx(&drive.vault(), 20_000);
    drive.unmount();
}

#[test]
fn fsx_finds_nothing_lost_or_wrong_in_a_plain_folder() {
    let drive = Drive::mounted();
    fsx(&drive.plain(), 20_000);
    drive.unmount();
}

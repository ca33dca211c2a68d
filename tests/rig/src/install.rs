//! Tools the tests need from the system.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the rig keeps what outlives one test: locks, and the accounts' homes. Owned by root and closed to others, as
/// sshd demands of a `ChrootDirectory`.
pub(crate) const STATE: &str = "/var/lib/scaup-test";

/// Panics unless the test runs as root, which own accounts, PAM services and mounts need.
pub fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it makes accounts, PAM services and mounts of its own"
    );
}

/// Takes a lock by this name that all test processes of the machine share, until the answer is dropped.
pub(crate) fn lock(name: &str) -> File {
    fs::create_dir_all(STATE).expect("the rig's state directory can be made");
    let file = File::create(Path::new(STATE).join(name)).expect("the lock file can be made");
    file.lock().expect("the lock can be taken");
    file
}

/// Copies a program of the rig into a directory that a server's user may enter. Returns the copy's path.
pub(crate) fn copy_of_program(name: &str, directory: &Path) -> PathBuf {
    // Tests run from `target/PROFILE/deps`, the programs lie one further up.
    let test = std::env::current_exe().expect("a program knows where it lies");
    let built = test.ancestors().nth(2).expect("tests lie in deps").join(name);
    let copy = directory.join(name);
    fs::copy(&built, &copy)
        .unwrap_or_else(|error| panic!("{}: {error}; please run: cargo build --workspace", built.display()));
    copy
}

/// Makes sure that each program or file exists, given with the Debian package it comes from: installs what is missing
/// when root, else panics with what to install.
pub fn need(tools: &[(&str, &str)]) {
    let missing = || -> Vec<&str> {
        tools.iter().filter(|(tool, _)| !exists(tool)).map(|(_, package)| *package).collect()
    };
    if missing().is_empty() {
        return;
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "missing tools; please run: apt-get install {}",
        missing().join(" ")
    );
    let _one_at_a_time = lock("apt.lock");
    let packages = missing();
    if packages.is_empty() {
        return;
    }
    if !install(&packages) {
        // A fresh machine has no package lists yet, an old one has stale ones.
        let _ = apt(&["update", "-qq"]);
        assert!(install(&packages), "apt-get install {} failed", packages.join(" "));
    }
    assert!(
        missing().is_empty(),
        "still missing after installing {}: {}",
        packages.join(" "),
        missing().join(" ")
    );
}

fn install(packages: &[&str]) -> bool {
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

fn apt(arguments: &[&str]) -> bool {
    Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether `tool`, an absolute path or a program's name, is there.
fn exists(tool: &str) -> bool {
    if tool.starts_with('/') {
        return Path::new(tool).exists();
    }
    // Daemons live in sbin, which an ordinary PATH may lack.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|directory| directory.join(tool).exists())
}

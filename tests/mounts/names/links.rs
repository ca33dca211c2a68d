//! Where symbolic links lead.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use scaup_rig::eventually;

use crate::support::{Drive, errno};

#[test]
fn links_in_plain_folders_lead_nowhere_outside_the_mount() {
    let drive = Drive::mounted();
    let plain = drive.plain();
    fs::write(plain.join("file"), "content").unwrap();
    fs::create_dir(plain.join("dir")).unwrap();
    // What a user makes inside the mount works, whether relative or not.
    for (target, name) in
        [(PathBuf::from("file"), "near"), (PathBuf::from("../file"), "dir/up"), (plain.join("file"), "far")]
    {
        symlink(&target, plain.join(name)).unwrap();
        assert_eq!(fs::read_link(plain.join(name)).unwrap(), target);
        assert_eq!(fs::read_to_string(plain.join(name)).unwrap(), "content", "{name}");
    }
    drive.unmount();
}

#[test]
fn links_of_the_server_that_lead_outside_the_mount_are_not_followed() {
    let drive = Drive::mounted();
    let plain = drive.plain();
    fs::create_dir(drive.on_server("plain/dir")).unwrap();
    // What leads out can neither be made here, nor followed if the server has it.
    let beyond = drive.mount.path().join("../escape");
    // Behind a name `..` may climb from anywhere, wherever it leads now.
    let out = ["/etc/passwd", "../../etc/passwd", "dir/../../../x", "dir/../file", beyond.to_str().unwrap()];
    for (number, target) in out.iter().enumerate() {
        symlink(target, drive.on_server("plain").join(number.to_string())).unwrap();
    }
    for (number, target) in out.iter().enumerate() {
        let theirs = plain.join(number.to_string());
        assert!(fs::symlink_metadata(&theirs).unwrap().is_symlink());
        assert_eq!(errno(fs::read_link(&theirs)), Errno::PERM, "{target}");
        assert_eq!(errno(File::open(&theirs)), Errno::PERM, "{target}");
        fs::remove_file(&theirs).unwrap();
        assert_eq!(errno(symlink(target, plain.join("out"))), Errno::PERM, "{target}");
    }
    drive.unmount();
}

#[test]
fn a_link_that_was_moved_may_lead_outside_from_where_it_is_now() {
    let drive = Drive::mounted_with(&["--attr-timeout", "60"]);
    let (deep, shallow) = (drive.plain().join("directory/link"), drive.plain().join("link"));
    fs::create_dir(drive.plain().join("directory")).unwrap();
    symlink("../../inside", &deep).unwrap();
    assert_eq!(fs::read_link(&deep).unwrap(), Path::new("../../inside"));
    fs::rename(&deep, &shallow).unwrap();
    assert_eq!(errno(fs::read_link(&shallow)), Errno::PERM);
    fs::rename(&shallow, &deep).unwrap();
    assert_eq!(fs::read_link(&deep).unwrap(), Path::new("../../inside"));
    drive.unmount();
}

#[test]
fn a_link_that_others_made_anew_leads_there_after_the_attribute_timeout() {
    let drive = Drive::mounted_with(&["--attr-timeout", "1"]);
    let other = drive.mounted_again(&["--attr-timeout", "0"]);
    for (here, there) in [(drive.plain(), other.join("plain")), (drive.vault(), other.join("Vault"))] {
        let (here, there) = (here.join("link"), there.join("link"));
        symlink("one", &there).unwrap();
        for target in ["two", "three, which is longer"] {
            eventually("the link", Duration::from_secs(5), || fs::read_link(&here).is_ok());
            fs::remove_file(&there).unwrap();
            symlink(target, &there).unwrap();
            eventually("their target", Duration::from_secs(5), || {
                fs::read_link(&here).is_ok_and(|read| read == Path::new(target))
            });
        }
    }
    other.unmount(&drive.scaup);
    drive.unmount();
}

#[test]
fn links_in_vaults_are_kept_byte_for_byte() {
    let drive = Drive::mounted_with(&["--follow-outside"]);
    let long = "m/".repeat(1500);
    let targets = ["/etc/passwd", "../../up", "a//b/", "Gr\u{fc}\u{df}e", "e\u{301}", long.as_str()];
    for (number, target) in targets.iter().enumerate() {
        symlink(target, drive.vault().join(number.to_string())).unwrap();
    }
    let drive = drive.remounted_with(&["--follow-outside"]);
    for (number, target) in targets.iter().enumerate() {
        let path = drive.vault().join(number.to_string());
        assert_eq!(fs::read_link(&path).unwrap().to_str(), Some(*target));
        assert_eq!(fs::symlink_metadata(&path).unwrap().len(), target.len() as u64);
    }
    let followed = fs::read(drive.vault().join("0")).unwrap();
    assert!(followed == fs::read("/etc/passwd").unwrap(), "it leads anywhere");
    drive.unmount();
}

#[test]
fn links_in_vaults_lead_nowhere_outside_their_vault() {
    let drive = Drive::mounted();
    let vault = drive.vault();
    fs::create_dir_all(vault.join("a/b")).unwrap();
    for place in [vault.join("file"), drive.plain().join("file")] {
        fs::write(place, "content").unwrap();
    }
    let inside = [
        (PathBuf::from("file"), "near"),
        (PathBuf::from("./../.././file"), "a/b/up"),
        (PathBuf::from("a/b"), "directory"),
        (PathBuf::from("directory/up"), "by way of a link"),
        (vault.join("file"), "a/far"),
    ];
    for (target, name) in &inside {
        symlink(target, vault.join(name)).unwrap();
        assert_eq!(&fs::read_link(vault.join(name)).unwrap(), target);
        assert!(fs::metadata(vault.join(name)).is_ok(), "{name}");
    }
    assert_eq!(fs::read_to_string(vault.join("by way of a link")).unwrap(), "content");
    let outside = [
        PathBuf::from("/etc/passwd"),
        PathBuf::from("../plain/file"),
        PathBuf::from(".././/../x"),
        // It comes back, but not by a way that is the vault's alone.
        PathBuf::from("../Vault/file"),
        // What is behind a link is not where it seems to be.
        PathBuf::from("directory/../../plain/file"),
        PathBuf::from("file/.."),
        drive.plain().join("file"),
        vault.join("../plain/file"),
        vault.join("directory/../../../plain/file"),
        drive.mount.path().join("Vault2"),
    ];
    for target in &outside {
        assert_eq!(errno(symlink(target, vault.join("out"))), Errno::PERM, "{}", target.display());
    }
    // A directory that moves up takes with it what may climb no more.
    let up = vault.join("b/up");
    fs::rename(vault.join("a/b"), vault.join("b")).unwrap();
    assert_eq!(errno(fs::read_link(&up)), Errno::PERM);
    assert_eq!(errno(fs::read_to_string(&up)), Errno::PERM);
    let said = drive.scaup.status()["mounts"][0]["errors"].to_string();
    assert!(said.contains("Vault/b/up") && said.contains("--follow-outside"), "{said}");
    fs::remove_file(&up).unwrap();
    drive.unmount();
}

//! The kinds of servers that a mount meets: SFTP built in or as a program, chroots, few sessions, homes that nobody may
//! list.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use scaup_rig::{Answers, Fixture, Mount, Sshd, run};

use crate::support::{PASSWORD, said, scaup, shell, shell_output};

/// Writes, reads, renames and lists.
fn works(mount: &Mount, below: &str) {
    let directory = mount.join(below);
    fs::write(directory.join("one"), vec![42; 300_000]).unwrap();
    fs::rename(directory.join("one"), directory.join("two")).unwrap();
    assert_eq!(fs::read(directory.join("two")).unwrap(), vec![42; 300_000]);
    fs::create_dir(directory.join("made")).unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}

#[test]
fn one_session_is_enough() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().config("MaxSessions 1").start());
    let mount = scaup.mount_on(&sshd, "").start();
    works(&mount, "");
    mount.unmount(&scaup);
}

#[test]
fn sftp_as_a_program_and_built_in() {
    for command in ["internal-sftp", "/usr/lib/openssh/sftp-server"] {
        let (scaup, sshd) = (scaup(), Sshd::key_only().subsystem(command).start());
        let mount = scaup.mount_on(&sshd, "").start();
        works(&mount, "");
        mount.unmount(&scaup);
    }
}

#[test]
fn a_server_that_only_reads_says_so() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().subsystem("internal-sftp -R").start());
    fs::write(sshd.home().join("file"), "content").unwrap();
    let mount = scaup.mount_on(&sshd, "").start();
    assert_eq!(fs::read_to_string(mount.join("file")).unwrap(), "content");
    fs::write(mount.join("new"), "").unwrap_err();
    fs::create_dir(mount.join("new")).unwrap_err();
    mount.unmount(&scaup);
}

#[test]
fn a_chroot() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().chroot().start());
    let mount = scaup.mount_on(&sshd, "/").start();
    works(&mount, "files");
    fs::write(mount.join("not-mine"), "").unwrap_err();
    mount.unmount(&scaup);
    let mount = scaup.mount_on(&sshd, "/files").start();
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 2);
    mount.unmount(&scaup);
}

#[test]
fn a_home_that_is_not_listable_can_be_passed_through() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    fs::create_dir(sshd.home().join("files")).unwrap();
    sshd.give(&sshd.home());
    // The user may enter it, but neither list nor own it.
    std::os::unix::fs::chown(sshd.home(), Some(0), Some(0)).unwrap();
    fs::set_permissions(sshd.home(), Permissions::from_mode(0o711)).unwrap();
    let mount = scaup.mount_on(&sshd, "").start();
    works(&mount, "files");
    assert_eq!(fs::read_dir(mount.path()).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    mount.unmount(&scaup);
    let mount = scaup.mount_on(&sshd, "files").start();
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 2);
    mount.unmount(&scaup);
}

#[test]
fn three_hundred_files_open_at_once_each_keep_their_content() {
    for command in ["internal-sftp", "/usr/lib/openssh/sftp-server"] {
        let (scaup, sshd) = (scaup(), Sshd::key_only().subsystem(command).start());
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let mount = scaup.mount_on(&sshd, "").answering(&Answers::default().vault(PASSWORD)).start();
        let content = |number: usize| format!("{number} ").repeat(2_000);
        for place in ["", "Vault"] {
            let path = |number: usize| mount.join(place).join(number.to_string());
            let mut open: Vec<File> = (0..300)
                .map(|number| {
                    let mut file = File::create_new(path(number)).unwrap();
                    file.write_all(content(number).as_bytes()).unwrap();
                    file
                })
                .collect();
            open.iter().for_each(|file| file.sync_all().unwrap());
            drop(open.drain(..));
            let mut open: Vec<File> = (0..300).map(|number| File::open(path(number)).unwrap()).collect();
            for (number, file) in open.iter_mut().enumerate().rev() {
                let mut found = String::new();
                file.read_to_string(&mut found).unwrap();
                assert_eq!(found, content(number));
                if place.is_empty() {
                    assert_eq!(fs::read_to_string(sshd.home().join(number.to_string())).unwrap(), found);
                }
            }
        }
        mount.unmount(&scaup);
    }
}

/// Everything below a directory of the server that a member of its group could not change, or whose group would not be
/// inherited.
fn kept_from_the_group(directory: &Path) -> Vec<String> {
    let (mut waiting, mut found) = (vec![directory.to_path_buf()], Vec::new());
    while let Some(at) = waiting.pop() {
        let metadata = fs::symlink_metadata(&at).unwrap();
        let needed = match metadata.file_type() {
            kind if kind.is_dir() => {
                waiting.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
                0o2070
            }
            kind if kind.is_symlink() => 0,
            _ => 0o060,
        };
        let mode = metadata.permissions().mode();
        if mode & needed != needed {
            found.push(format!("{}: {:o}", at.display(), mode & 0o7777));
        }
    }
    found
}

#[test]
fn what_is_made_where_a_group_works_is_the_groups_in_a_vault_too() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().subsystem("internal-sftp -u 0002").start());
    let home = sshd.home();
    Fixture::unpack("empty-gcm").copy_vault_to(&home.join("Vault"));
    fs::create_dir(home.join("plain")).unwrap();
    sshd.give(&home);
    run(Command::new("sh")
        .args(["-c", "chmod -R g+rwX . && find . -type d -exec chmod g+s {} +"])
        .current_dir(&home));
    assert_eq!(kept_from_the_group(&home.join("Vault")), [""; 0]);
    let password = Answers::default().vault(PASSWORD);
    let mount = scaup.mount_on(&sshd, "").answering(&password).args(["--vault", "Vault"]).start();
    let long = "long ".repeat(45);
    for place in ["plain", "Vault"] {
        let work = format!(
            "umask 002; mkdir -p a/b private 'long {long}'; echo 1 > a/file; echo 2 > '{long}'; ln -s file a/link; mv a/b 'moved {long}'; \
             mv a/file 'moved file {long}'; chmod 2775 private; chmod 775 a; cp -r a copy"
        );
        shell(&mount.join(place), &work);
    }
    mount.unmount(&scaup);
    for place in ["plain", "Vault"] {
        assert_eq!(kept_from_the_group(&home.join(place)), [""; 0], "{place}");
    }
    // Here, too, what a program keeps to itself stays so.
    let mount = scaup.mount_on(&sshd, "").answering(&password).args(["--vault", "Vault"]).start();
    shell(
        &mount.join("Vault"),
        "umask 077; mkdir mine; umask 022; mkdir of-all; umask 002; mkdir -m 700 kept",
    );
    let modes = shell_output(&mount.join("Vault"), "stat -c %a mine of-all kept");
    assert_eq!(said(&modes), "700\n755\n700\n");
    mount.unmount(&scaup);
    // The server of a local directory is this machine: what it makes inherits the same.
    let mount = scaup.mount(home.join("plain")).args(["--no-vaults"]).start();
    shell(mount.path(), "umask 002; mkdir -p local/inner");
    mount.unmount(&scaup);
    assert_eq!(kept_from_the_group(&home.join("plain")), [""; 0]);
}

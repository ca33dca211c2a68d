//! What the server refuses: a full disk, permissions, a read-only place, servers that can do less. What can't be
//! written is told of at `write`, `fsync` or `close`, or, if it was closed already, is kept, named in `status`, holds
//! `unmount`, and is saved by itself once the cause is gone (design, data rule 6).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use scaup_rig::{Answers, Fixture, Gate, Held, Mount, Proxy, Scaup, Sshd, SshdBuilder, eventually, run};

use crate::support::{PASSWORD, ends_with, errno, noise, scaup};

/// What OpenSSH's server can do beyond version 3 of the protocol.
const EXTENSIONS: &str = "posix-rename,statvfs,fstatvfs,hardlink,fsync,lsetstat,limits,expand-path,copy-data,home-directory,users-groups-by-id";

/// A file system of its own on the server, gone with the value.
struct Disk(PathBuf);

impl Disk {
    /// In memory, of `size`.
    fn small(path: &Path, size: &str) -> Self {
        fs::create_dir(path).unwrap();
        let options = format!("size={size},mode=755");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path));
        Self(path.to_path_buf())
    }

    fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0));
    }

    /// Writes to it until nothing more goes in; returns with what.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = File::create(&path).unwrap();
        for length in [1 << 20, 4096] {
            while ballast.write_all(&vec![7; length]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may still stand in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A vault and a plain directory on a server, in `disk`, both mounted.
struct Place {
    mount: Mount,
    scaup: Scaup,
    disk: Option<Disk>,
    sshd: Sshd,
}

impl Place {
    /// On a disk of its own.
    fn on_a_disk_of(size: &str) -> Self {
        Self::on(Sshd::key_only(), |path| Some(Disk::small(path, size)))
    }

    /// On a server like this.
    fn on_a_server(builder: SshdBuilder) -> Self {
        Self::on(builder, |path| {
            fs::create_dir(path).unwrap();
            None
        })
    }

    fn on(builder: SshdBuilder, disk: impl FnOnce(&Path) -> Option<Disk>) -> Self {
        let sshd = builder.start();
        let at = sshd.files().join("disk");
        let disk = disk(&at);
        Fixture::unpack("empty-gcm").copy_vault_to(&at.join("Vault"));
        fs::create_dir(at.join("plain")).unwrap();
        sshd.give(&at);
        let scaup = scaup();
        let mount = mounted(&scaup, &sshd);
        Self { mount, scaup, disk, sshd }
    }

    /// A directory in the vault, and the plain one.
    fn directories(&self) -> [PathBuf; 2] {
        [self.mount.join("disk/Vault"), self.mount.join("disk/plain")]
    }

    fn on_server(&self) -> PathBuf {
        self.sshd.files().join("disk")
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    fn unsaved(&self) -> u64 {
        self.scaup.status().pointer("/mounts/0/unsaved/files").unwrap().as_u64().unwrap()
    }

    /// Something can't be saved: `status` says how much and why, and `unmount` refuses and names it.
    fn holds_unmount(&self, names: &[&str]) {
        eventually("it could not be saved", Duration::from_secs(20), || {
            let status = self.scaup.status();
            let errors = status.pointer("/mounts/0/errors").unwrap().as_array().unwrap();
            let told = |name: &&&str| {
                errors.iter().any(|error| {
                    error["kind"] == "unsaved" && error["message"].as_str().unwrap().contains(**name)
                })
            };
            names.iter().filter(told).count() == names.len()
        });
        assert_eq!(self.unsaved(), names.len() as u64);
        let said = ends_with(&self.scaup, 8, ["unmount".as_ref(), self.mount.path().as_os_str()]);
        assert!(names.iter().all(|name| said.contains(name)), "{said}");
        // The vault can be locked all the same: what is unsaved in it is encrypted, and not lost.
        assert!(ends_with(&self.scaup, 0, ["lock"]).contains("not on the server yet"));
        assert_eq!(self.scaup.status()["mounts"][0]["vaults"][0]["state"], "locked");
        assert_eq!(self.unsaved(), names.len() as u64);
    }

    /// The cause is gone: everything is saved by itself, and is there on a new mount.
    fn saves_by_itself(self, check: impl Fn(&Path)) {
        eventually("everything is saved by itself", Duration::from_secs(30), || self.unsaved() == 0);
        let Self { mount, scaup, disk, sshd } = self;
        mount.unmount(&scaup);
        let mount = mounted(&scaup, &sshd);
        for directory in ["disk/Vault", "disk/plain"] {
            check(&mount.join(directory));
        }
        mount.unmount(&scaup);
        let debris = crate::support::shell(&sshd.files(), "find . -name '.scaup-*'");
        assert_eq!(debris, "", "temporary files are left behind");
        drop(disk);
    }
}

fn mounted(scaup: &Scaup, sshd: &Sshd) -> Mount {
    let root = if sshd.files() == sshd.home() { "" } else { "/files" };
    scaup
        .mount_on(sshd, root)
        .answering(&Answers::default().vault(PASSWORD))
        .args(["--vault", "disk/Vault"])
        .start()
}

/// Saves in every way, renames, removes, and reads all of it back.
fn works(directory: &Path) {
    let content = noise(3, 1_000_000);
    fs::write(directory.join("large"), &content).unwrap();
    let mut synced = File::create(directory.join("synced")).unwrap();
    synced.write_all(&content).unwrap();
    synced.sync_all().unwrap();
    let file = OpenOptions::new().write(true).open(directory.join("large")).unwrap();
    file.write_all_at(b"in place", 500_000).unwrap();
    file.set_len(900_000).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let mut changed = content.clone();
    changed[500_000..500_008].copy_from_slice(b"in place");
    changed.truncate(900_000);
    assert!(fs::read(directory.join("large")).unwrap() == changed);
    // An editor's save, and content that replaces all of a file.
    for (name, version) in [("letter", "one"), ("letter", "two"), ("letter", "three")] {
        fs::write(directory.join("temporary"), version).unwrap();
        fs::rename(directory.join("temporary"), directory.join(name)).unwrap();
        assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), version);
        let written = format!("{version} again");
        fs::write(directory.join(name), &written).unwrap();
        assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), written);
    }
    let long = "long name ".repeat(20);
    fs::write(directory.join(&long), "one").unwrap();
    fs::write(directory.join(&long), "two").unwrap();
    assert_eq!(fs::read_to_string(directory.join(&long)).unwrap(), "two");
    fs::create_dir(directory.join("dir")).unwrap();
    fs::rename(directory.join(&long), directory.join("dir/short")).unwrap();
    fs::rename(directory.join("dir"), directory.join("moved")).unwrap();
    fs::create_dir(directory.join("empty")).unwrap();
    fs::rename(directory.join("moved"), directory.join("empty")).unwrap();
    assert_eq!(fs::read_to_string(directory.join("empty/short")).unwrap(), "two");
    fs::remove_file(directory.join("synced")).unwrap();
    fs::create_dir(directory.join("gone")).unwrap();
    fs::remove_dir(directory.join("gone")).unwrap();
    is_as_it_was_left(directory);
}

/// What [`works`] leaves.
fn is_as_it_was_left(directory: &Path) {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["empty", "large", "letter"]);
    assert_eq!(fs::read_to_string(directory.join("letter")).unwrap(), "three again");
    assert_eq!(fs::read_to_string(directory.join("empty/short")).unwrap(), "two");
    assert_eq!(fs::metadata(directory.join("large")).unwrap().len(), 900_000);
}

/// Everything works, and is there on a new mount.
fn works_on(place: Place) {
    place.directories().iter().for_each(|directory| works(directory));
    place.saves_by_itself(is_as_it_was_left);
}

#[test]
fn a_full_disk_is_told_of_and_what_was_closed_is_saved_when_there_is_room() {
    let place = Place::on_a_disk_of("24m");
    for directory in place.directories() {
        fs::write(directory.join("kept"), noise(1, 100_000)).unwrap();
        File::open(directory.join("kept")).unwrap().sync_all().unwrap();
    }
    // Of the encrypted files, too, the old ones have to be left.
    let files = |place: &Place| {
        let mut files = crate::support::tree(&place.on_server());
        files.retain(|path, _| place.on_server().join(path).is_file());
        files
    };
    let before = files(&place);
    let ballast = place.disk().fill();
    for directory in place.directories() {
        // While it is written, at `fsync`, or at `close`.
        let mut large = File::create(directory.join("large")).unwrap();
        let written = (0..40).try_for_each(|_| large.write_all(&noise(2, 1 << 20)));
        assert_eq!(errno(written.and_then(|()| large.sync_all())), Errno::NOSPC);
        drop(large);
        fs::remove_file(directory.join("large")).unwrap();
        let mut small = File::create(directory.join("at fsync")).unwrap();
        small.write_all(&noise(3, 50_000)).unwrap();
        assert_eq!(errno(small.sync_all()), Errno::NOSPC);
        drop(small);
        fs::remove_file(directory.join("at fsync")).unwrap();
        // Content that replaces: the old stays.
        let mut replacing =
            OpenOptions::new().write(true).truncate(true).open(directory.join("kept")).unwrap();
        replacing.write_all(&noise(4, 300_000)).unwrap();
        assert_eq!(errno(replacing.sync_all()), Errno::NOSPC);
        drop(replacing);
        // Behind `close`.
        fs::write(directory.join("behind"), noise(5, 60_000)).unwrap();
        assert!(
            fs::read(directory.join("behind")).unwrap() == noise(5, 60_000),
            "it reads as it was written"
        );
    }
    place.holds_unmount(&["Vault/kept", "Vault/behind", "plain/kept", "plain/behind"]);
    assert!(fs::read(place.on_server().join("plain/kept")).unwrap() == noise(1, 100_000), "the old is left");
    let after = files(&place);
    for (path, state) in before {
        assert_eq!(after.get(&path), Some(&state), "{} is left as it was", path.display());
    }
    fs::remove_file(ballast).unwrap();
    place.saves_by_itself(|directory| {
        assert!(fs::read(directory.join("kept")).unwrap() == noise(4, 300_000));
        assert!(fs::read(directory.join("behind")).unwrap() == noise(5, 60_000));
        assert_eq!(fs::read_dir(directory).unwrap().count(), 2);
    });
}

#[test]
fn names_that_a_full_disk_has_no_room_for_are_refused_and_nothing_is_half_made() {
    let place = Place::on_a_disk_of("24m");
    for directory in place.directories() {
        fs::create_dir(directory.join("dir")).unwrap();
        fs::write(directory.join("file"), "content").unwrap();
        File::open(directory.join("file")).unwrap().sync_all().unwrap();
    }
    // Not one inode more.
    let used = rustix::fs::statvfs(&place.disk().0).unwrap();
    place.disk().remount(&format!("nr_inodes={}", used.f_files - used.f_ffree));
    let before = crate::support::tree(&place.on_server());
    for directory in place.directories() {
        for made in
            [fs::create_dir(directory.join("new")), std::os::unix::fs::symlink("x", directory.join("new"))]
        {
            let errno = errno(made);
            assert!(matches!(errno, Errno::NOSPC | Errno::IO), "{errno:?} in {}", directory.display());
        }
        assert!(!directory.join("new").exists());
        // What takes no room goes on.
        fs::rename(directory.join("file"), directory.join("dir/file")).unwrap();
        fs::rename(directory.join("dir/file"), directory.join("file")).unwrap();
    }
    let names = |tree: std::collections::BTreeMap<PathBuf, String>| tree.into_keys().collect::<Vec<_>>();
    assert_eq!(names(crate::support::tree(&place.on_server())), names(before));
    place.disk().remount("nr_inodes=0");
    for directory in place.directories() {
        fs::create_dir(directory.join("new")).unwrap();
    }
    place.saves_by_itself(|directory| {
        assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "content");
        assert!(directory.join("new").is_dir() && directory.join("dir").is_dir());
    });
}

#[test]
fn a_place_that_becomes_read_only_refuses_and_what_was_closed_is_saved_when_it_is_not() {
    let place = Place::on_a_disk_of("24m");
    for directory in place.directories() {
        fs::write(directory.join("kept"), "old content").unwrap();
        File::open(directory.join("kept")).unwrap().sync_all().unwrap();
        // What was made here a moment ago says that more can be.
        fs::write(directory.join("behind"), "ours").unwrap();
        eventually("it is saved", Duration::from_secs(20), || place.unsaved() == 0);
    }
    place.disk().remount("ro");
    for directory in place.directories() {
        assert_eq!(errno(fs::create_dir(directory.join("new"))), Errno::ROFS);
        assert_eq!(errno(fs::rename(directory.join("kept"), directory.join("moved"))), Errno::ROFS);
        let opened = OpenOptions::new().write(true).open(directory.join("kept"));
        let written = opened.and_then(|file| {
            file.write_all_at(b"new", 0)?;
            file.sync_all()
        });
        assert_eq!(errno(written), Errno::ROFS);
        assert_eq!(fs::read_to_string(directory.join("kept")).unwrap(), "old content");
        fs::write(directory.join("late"), "kept until it can be saved").unwrap();
    }
    place.holds_unmount(&["Vault/late", "plain/late"]);
    place.disk().remount("rw");
    place.saves_by_itself(|directory| {
        assert_eq!(fs::read_to_string(directory.join("kept")).unwrap(), "old content");
        assert_eq!(fs::read_to_string(directory.join("late")).unwrap(), "kept until it can be saved");
    });
}

#[test]
fn a_directory_that_becomes_read_only_refuses_and_what_was_closed_is_saved_when_it_is_not() {
    let place = Place::on_a_server(Sshd::key_only());
    for directory in place.directories() {
        fs::write(directory.join("kept"), "old content").unwrap();
        File::open(directory.join("kept")).unwrap().sync_all().unwrap();
    }
    let all = crate::support::shell(&place.on_server(), "find . -type d");
    let set = |mode| {
        for directory in all.lines() {
            fs::set_permissions(place.on_server().join(directory), Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o555);
    for directory in place.directories() {
        assert_eq!(errno(fs::create_dir(directory.join("new"))), Errno::ACCESS);
        assert_eq!(errno(fs::rename(directory.join("kept"), directory.join("moved"))), Errno::ACCESS);
        // Removing is answered when it is done here, and told of if the server refuses.
        fs::write(directory.join("late"), "kept until it can be saved").unwrap();
        // What may be written in place is.
        let file = OpenOptions::new().write(true).open(directory.join("kept")).unwrap();
        file.write_all_at(b"new", 0).unwrap();
        file.sync_all().unwrap();
    }
    place.holds_unmount(&["Vault/late", "plain/late"]);
    set(0o755);
    place.saves_by_itself(|directory| {
        assert_eq!(fs::read_to_string(directory.join("kept")).unwrap(), "new content");
        assert_eq!(fs::read_to_string(directory.join("late")).unwrap(), "kept until it can be saved");
    });
}

#[test]
fn one_session_is_enough_for_a_vault() {
    works_on(Place::on_a_server(Sshd::key_only().config("MaxSessions 1")));
}

#[test]
fn a_server_of_plain_version_3_replaces_in_the_safe_order() {
    let server = format!("/usr/lib/openssh/sftp-server -P {EXTENSIONS}");
    works_on(Place::on_a_server(Sshd::key_only().subsystem(&server)));
}

/// New content replaces a file again and again, and the connection is cut behind one message more each time.
#[test]
fn a_cut_while_a_server_of_plain_version_3_replaces_leaves_the_old_content_beside() {
    let gate = Gate::new();
    let sshd = Sshd::key_only().subsystem(&format!("{} -P {EXTENSIONS}", gate.subsystem())).start();
    let scaup = scaup();
    let mount = scaup.mount_on(&sshd, "").args(["--no-vaults"]).start();
    let (here, there) = (mount.join("letter"), sshd.home().join("letter"));
    let aside = sshd.home().join("letter.scaup-aside.~0");
    let save = |content: &str| {
        let mut file = File::create(&here)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    // Saves `new`, cut behind so many messages. Returns whether it was cut, and what the server has then under the name
    // and beside it.
    let cut_behind = |messages: u64, new: &str| {
        gate.close_after(messages, Held::Answers);
        std::thread::scope(|scope| {
            let saving = scope.spawn(|| save(new));
            eventually("the last message is done", Duration::from_secs(20), || {
                gate.is_closed() || saving.is_finished()
            });
            let was_cut = !saving.is_finished();
            if was_cut {
                sshd.cut_connections();
            }
            let [seen, beside] = [&there, &aside].map(|path| fs::read_to_string(path).ok());
            gate.open();
            saving.join().unwrap().unwrap();
            (was_cut, seen, beside)
        })
    };
    let mut old = "before".to_owned();
    save(&old).unwrap();
    // How many messages come before the moves is not always the same, so one round may miss the moment between them.
    let mut was_out_of_sight = false;
    for round in 0..5 {
        for messages in 1.. {
            let new = format!("{round}, {messages} messages");
            let (was_cut, seen, beside) = cut_behind(messages, &new);
            match (&seen, &beside) {
                (None, Some(beside)) if *beside == old => was_out_of_sight = true,
                (Some(seen), None) if *seen == old || *seen == new => {}
                (Some(seen), Some(beside)) if *seen == new && *beside == old => {}
                _ => panic!("{old:?}, then {new:?}: {seen:?}, beside it {beside:?}"),
            }
            assert_eq!(fs::read_to_string(&there).unwrap(), new);
            assert!(!aside.exists(), "{new}: what was finished leaves nothing beside");
            old = new;
            if !was_cut {
                break;
            }
        }
        if was_out_of_sight {
            break;
        }
    }
    assert!(was_out_of_sight, "it was never put aside");
    mount.unmount(&scaup);
}

#[test]
fn each_extension_may_be_missing_alone() {
    for extension in ["posix-rename", "fsync", "limits", "lsetstat", "statvfs"] {
        let server = format!("/usr/lib/openssh/sftp-server -P {extension}");
        works_on(Place::on_a_server(Sshd::key_only().subsystem(&server)));
    }
}

#[test]
fn a_vault_in_a_chroot() {
    works_on(Place::on_a_server(Sshd::key_only().chroot()));
}

#[test]
fn a_server_that_takes_a_third_of_a_second_for_each_answer() {
    let sshd = Sshd::key_only().start();
    let at = sshd.home().join("disk");
    fs::create_dir(&at).unwrap();
    Fixture::unpack("empty-gcm").copy_vault_to(&at.join("Vault"));
    fs::create_dir(at.join("plain")).unwrap();
    sshd.give(&at);
    let proxy = Proxy::start(sshd.host(), sshd.port());
    proxy.delay(Duration::from_millis(150));
    let scaup = scaup();
    let mount = scaup
        .mount_through(&proxy, &sshd, "")
        .answering(&Answers::default().vault(PASSWORD))
        .args(["--vault", "disk/Vault"])
        .start();
    for directory in [mount.join("disk/Vault"), mount.join("disk/plain")] {
        let content = noise(3, 1_000_000);
        fs::write(directory.join("temporary"), &content).unwrap();
        fs::rename(directory.join("temporary"), directory.join("file")).unwrap();
        assert!(fs::read(directory.join("file")).unwrap() == content);
        fs::create_dir(directory.join("dir")).unwrap();
        fs::write(directory.join("dir/small"), "small").unwrap();
        fs::remove_file(directory.join("file")).unwrap();
        assert_eq!(fs::read_to_string(directory.join("dir/small")).unwrap(), "small");
    }
    mount.unmount(&scaup);
}

#[test]
fn a_vault_on_a_server_that_only_reads_is_read_and_says_so() {
    let sshd = Sshd::key_only().config("ForceCommand internal-sftp -R").start();
    let fixture = Fixture::unpack("gcm8");
    fixture.copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let before = crate::support::tree(&sshd.home());
    let scaup = scaup();
    let mount = scaup
        .mount_on(&sshd, "")
        .answering(&Answers::default().vault(&fixture.manifest.password))
        .args(["--vault", "Vault"])
        .start();
    let vault = mount.join("Vault");
    let file = fixture.manifest.entries.iter().find(|entry| entry.sha256.is_some()).unwrap();
    let path = vault.join(file.path.trim_start_matches('/'));
    assert_eq!(Some(crate::support::sha256(&fs::read(&path).unwrap())), file.sha256);
    for directory in [vault, mount.path().to_path_buf()] {
        assert_eq!(errno(File::create(directory.join("new"))), Errno::ACCESS);
        assert_eq!(errno(fs::create_dir(directory.join("new"))), Errno::ACCESS);
    }
    assert_eq!(errno(fs::rename(&path, path.with_extension("moved"))), Errno::ACCESS);
    assert_eq!(errno(OpenOptions::new().write(true).open(&path)), Errno::ACCESS);
    assert_eq!(errno(OpenOptions::new().write(true).truncate(true).open(&path)), Errno::ACCESS);
    mount.unmount(&scaup);
    assert_eq!(crate::support::tree(&sshd.home()), before);
}

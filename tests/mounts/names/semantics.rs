//! What `docs/semantics.md` promises and no other test shows.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, fchown, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use scaup_rig::{Sshd, eventually};

use crate::support::{Drive, errno, noise, scaup, shell, shell_output, tree};

/// All names in a directory.
fn names_in(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_closed_file_is_whole_on_the_server() {
    let drive = Drive::mounted();
    let content = noise(1, 3_000_000);
    fs::write(drive.plain().join("file"), &content).unwrap();
    assert_eq!(fs::read(drive.on_server("plain/file")).unwrap(), content);
    let file = OpenOptions::new().write(true).open(drive.plain().join("file")).unwrap();
    file.write_all_at(b"changed", 1_000_000).unwrap();
    drop(file);
    assert_eq!(&fs::read(drive.on_server("plain/file")).unwrap()[1_000_000..1_000_007], b"changed");
    drive.unmount();
}

#[test]
fn a_small_new_file_is_saved_soon_after_close_and_for_certain_by_fsync() {
    let drive = Drive::mounted();
    fs::write(drive.plain().join("soon"), "small").unwrap();
    eventually("it is on the server", Duration::from_secs(10), || {
        fs::read_to_string(drive.on_server("plain/soon")).is_ok_and(|content| content == "small")
    });
    let mut file = File::create(drive.plain().join("now")).unwrap();
    file.write_all(b"small").unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs::read_to_string(drive.on_server("plain/now")).unwrap(), "small");
    drop(file);
    drive.unmount();
    let drive = Drive::mounted_with(&["--sync-on-close"]);
    fs::write(drive.plain().join("file"), "small").unwrap();
    assert_eq!(fs::read_to_string(drive.on_server("plain/file")).unwrap(), "small");
    drive.unmount();
}

#[test]
fn nobody_sees_half_a_new_file() {
    let drive = Drive::mounted();
    fs::write(drive.plain().join("replaced"), "old").unwrap();
    for name in ["new", "replaced"] {
        let mut file = File::create(drive.plain().join(name)).unwrap();
        file.write_all(&noise(2, 4_000_000)).unwrap();
        // Other content that waits is saved by then.
        std::thread::sleep(Duration::from_secs(7));
        file.write_all(&noise(2, 1_000_000)).unwrap();
        let there = fs::read(drive.on_server("plain").join(name));
        match name {
            "new" => assert!(there.is_err(), "a new file has no name before it is closed"),
            _ => assert_eq!(there.unwrap(), b"old", "the old content stays until the new is whole"),
        }
        // What is under way lies under names that the mount does not show.
        let shown = names_in(&drive.plain());
        assert!(shown.contains(name) && shown.iter().all(|name| !name.starts_with('.')), "{shown:?}");
        drop(file);
        assert_eq!(fs::metadata(drive.on_server("plain").join(name)).unwrap().len(), 5_000_000);
    }
    assert_eq!(
        names_in(&drive.on_server("plain")),
        BTreeSet::from(["new".to_owned(), "replaced".to_owned()])
    );
    drive.unmount();
}

#[test]
fn what_a_program_keeps_open_and_does_not_write_any_more_is_saved() {
    let drive = Drive::mounted();
    let mut files = Vec::new();
    let saved = |name: &str| names_in(&drive.on_server("plain")).contains(name);
    for path in [drive.plain().join("new"), drive.vault().join("new")] {
        let mut file = File::create(&path).unwrap();
        file.write_all(b"a line\n").unwrap();
        files.push(file);
    }
    let written = Instant::now();
    assert!(!saved("new"));
    eventually("it is saved", Duration::from_secs(40), || {
        saved("new") && drive.scaup.status()["mounts"][0]["unsaved"]["files"] == 0
    });
    let waited = written.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(39)).contains(&waited), "after {waited:?}");
    drop(files);
    // A child that ends closes its descriptor, while its parent goes on.
    let mut inherited = File::create(drive.plain().join("inherited")).unwrap();
    inherited.write_all(b"a line\n").unwrap();
    assert!(!saved("inherited"));
    let child = Command::new("true").stdin(inherited.try_clone().unwrap()).status();
    assert!(child.unwrap().success());
    eventually("what a child closed is saved", Duration::from_secs(10), || saved("inherited"));
    drop(inherited);
    drive.unmount();
}

#[test]
fn what_one_program_wrote_every_other_on_this_machine_reads() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let mut writer = File::create(directory.join("file")).unwrap();
        let mut reader = File::open(directory.join("file")).unwrap();
        for number in 0..50 {
            let line = format!("line {number}\n");
            writer.write_all(line.as_bytes()).unwrap();
            let mut read = String::new();
            reader.read_to_string(&mut read).unwrap();
            assert_eq!(read, line);
        }
    }
    drive.unmount();
}

/// A little more than an `--attr-timeout` of one second.
const BELIEVED: Duration = Duration::from_millis(1050);

#[test]
fn what_others_change_is_seen_after_the_attribute_timeout() {
    let drive = Drive::mounted_with(&["--attr-timeout", "1"]);
    let (here, there) = (drive.plain().join("file"), drive.on_server("plain/file"));
    fs::write(&here, "ours").unwrap();
    assert_eq!(fs::read_to_string(&here).unwrap(), "ours");
    // Reading it back does not wait for that.
    eventually("ours is saved", Duration::from_secs(5), || {
        fs::read_to_string(&there).is_ok_and(|saved| saved == "ours")
    });
    fs::write(&there, "theirs, and longer").unwrap();
    // Opening looks at the server, whatever the kernel remembers.
    eventually("their content", Duration::from_secs(5), || {
        fs::read_to_string(&here).unwrap() == "theirs, and longer"
    });
    // What a program has just looked at is believed for a second, and no longer.
    let another = drive.plain().join("another");
    assert!(!fs::exists(&another).unwrap());
    fs::write(drive.on_server("plain/another"), "x").unwrap();
    std::thread::sleep(BELIEVED);
    assert_eq!(fs::metadata(&another).unwrap().len(), 1, "their new name");
    fs::write(drive.on_server("plain/another"), "longer").unwrap();
    std::thread::sleep(BELIEVED);
    assert_eq!(fs::metadata(&another).unwrap().len(), 6, "its new length");
    assert!(names_in(&drive.plain()).contains("another"));
    fs::remove_file(drive.on_server("plain/another")).unwrap();
    std::thread::sleep(BELIEVED);
    assert!(!names_in(&drive.plain()).contains("another"), "their removal");
    assert!(!fs::exists(&another).unwrap(), "their removal");
    drive.unmount();
}

#[test]
fn opening_shows_all_that_others_added_however_fresh_the_kernels_memory_is() {
    let drive = Drive::mounted_with(&["--attr-timeout", "60"]);
    let (here, there) = (drive.plain().join("log"), drive.on_server("plain/log"));
    fs::write(&there, "one line\n").unwrap();
    assert_eq!(fs::metadata(&here).unwrap().len(), 9);
    fs::write(&there, "one line\nanother line\n").unwrap();
    assert_eq!(fs::read_to_string(&here).unwrap(), "one line\nanother line\n");
    drive.unmount();
}

#[test]
fn opening_shows_all_that_others_added_also_when_a_listing_told_only_the_drive_of_it() {
    let drive = Drive::mounted_with(&["--attr-timeout", "60", "-o", "without=list-ahead"]);
    let (here, there) = (drive.plain().join("log"), drive.on_server("plain/log"));
    fs::write(&there, "one line\n").unwrap();
    assert_eq!(fs::metadata(&here).unwrap().len(), 9);
    fs::write(&there, "one line\nanother line\n").unwrap();
    // The names are fetched with this; the kernel is handed none of them.
    fs::File::open(drive.plain()).unwrap();
    assert_eq!(fs::read_to_string(&here).unwrap(), "one line\nanother line\n");
    drive.unmount();
}

#[test]
fn what_is_opened_ahead_is_at_most_a_second_old_and_shows_what_was_changed_here() {
    let drive = Drive::mounted();
    for directory in [drive.plain(), drive.vault()] {
        for number in 10..50 {
            fs::write(directory.join(number.to_string()), format!("old {number}")).unwrap();
        }
    }
    let drive = drive.remounted();
    for directory in [drive.plain(), drive.vault()] {
        let read = |number: u32| fs::read_to_string(directory.join(number.to_string())).unwrap();
        assert!(names_in(&directory).len() >= 40);
        for number in 10..20 {
            assert_eq!(read(number), format!("old {number}"));
        }
        fs::rename(directory.join("49"), directory.join("20")).unwrap();
        fs::write(directory.join("21"), "written").unwrap();
        fs::remove_file(directory.join("22")).unwrap();
        fs::write(directory.join("22"), "made anew").unwrap();
        assert_eq!((read(20), read(21), read(22)), ("old 49".into(), "written".into(), "made anew".into()));
        assert_eq!(read(23), "old 23");
    }
    for number in 10..20 {
        fs::read_to_string(drive.plain().join(number.to_string())).unwrap();
    }
    fs::write(drive.on_server("plain/24"), "theirs, and longer").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(fs::read_to_string(drive.plain().join("24")).unwrap(), "theirs, and longer");
    drive.unmount();
}

#[test]
fn a_file_that_others_changed_meanwhile_is_kept_beside_ours() {
    let drive = Drive::mounted();
    let here = drive.plain().join("letter.txt");
    fs::write(&here, "first version").unwrap();
    let ours = OpenOptions::new().write(true).open(&here).unwrap();
    fs::write(drive.on_server("plain/letter.txt"), "their version, longer").unwrap();
    ours.write_all_at(b"OURS!", 0).unwrap();
    drop(ours);
    let names = names_in(&drive.on_server("plain"));
    let copy = names
        .iter()
        .find(|name| name.starts_with("letter (conflicted copy "))
        .unwrap_or_else(|| panic!("{names:?}"));
    assert_eq!(fs::read_to_string(drive.on_server("plain/letter.txt")).unwrap(), "their version, longer");
    assert_eq!(fs::read_to_string(drive.on_server("plain").join(copy)).unwrap(), "OURS! version");
    // The date, the time, and a mark of this machine, before the extension.
    let stamp = copy.strip_prefix("letter (conflicted copy ").and_then(|rest| rest.strip_suffix(").txt"));
    let words: Vec<&str> = stamp.unwrap_or_else(|| panic!("{copy}")).split(' ').collect();
    assert_eq!(words.iter().map(|word| word.len()).collect::<Vec<_>>(), ["2026-11-25".len(), 6, 4], "{copy}");
    let status = drive.scaup.status();
    let error = status.pointer("/mounts/0/errors/0").unwrap();
    assert_eq!(error["kind"], "conflict");
    assert!(error["message"].as_str().unwrap().contains(copy.as_str()), "{error}");
    drive.unmount();
}

#[test]
fn an_unlinked_file_is_used_on_while_it_is_open() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        for saved in [false, true] {
            let path = directory.join("scratch");
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
            if saved {
                file.write_all(b"saved before ").unwrap();
                file.sync_all().unwrap();
            }
            fs::remove_file(&path).unwrap();
            file.write_all(b"Hello").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut read = String::new();
            file.read_to_string(&mut read).unwrap();
            assert_eq!(read, if saved { "saved before Hello" } else { "Hello" });
            assert_eq!(file.metadata().unwrap().len(), read.len() as u64);
            assert_eq!(file.metadata().unwrap().nlink(), 0);
            drop(file);
            assert!(!fs::exists(&path).unwrap());
        }
        assert_eq!(names_in(&directory), BTreeSet::new());
    }
    drive.unmount();
}

#[test]
fn a_removed_file_lets_go_of_its_place_on_the_server() {
    let drive = Drive::mounted();
    // One open handle each, far more than the server would let one session hold.
    for number in 0..50 {
        let path = drive.vault().join(format!("f{number}"));
        fs::write(&path, noise(number, 100_000)).unwrap();
        fs::remove_file(&path).unwrap();
    }
    eventually("no file is held open", Duration::from_secs(10), || {
        let held = drive.sshd.connections().into_iter().flat_map(|pid| {
            fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        });
        held.filter(|path| {
            path.to_string_lossy().contains("(deleted)") && path.starts_with(drive.sshd.home())
        })
        .count()
            == 0
    });
    drive.unmount();
}

#[test]
fn a_rename_over_a_name_shows_the_old_or_the_new_and_nothing_else() {
    let drive = Drive::mounted();
    let shortened = "shortened ".repeat(20);
    for (directory, name, is_link) in [drive.vault(), drive.plain()].into_iter().flat_map(|at| {
        [("target", false), (&*shortened, false), ("link", true)].map(|(name, is)| (at.clone(), name, is))
    }) {
        let target = directory.join(name);
        let make = |at: &Path, number: u32| match is_link {
            true => symlink(number.to_string(), at),
            false => fs::write(at, number.to_string()),
        };
        let read = |at: &Path| match is_link {
            true => fs::read_link(at).map(|read| read.into_os_string().into_string().unwrap()),
            false => fs::read_to_string(at),
        };
        make(&target, 0).unwrap();
        File::open(&directory).unwrap().sync_all().unwrap();
        // Others on the server see it so, too: there is no moment in which the name is free.
        let seen_at = match directory == drive.plain() {
            true => vec![target.clone(), drive.on_server("plain").join(name)],
            false => vec![target.clone()],
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..40 {
                    make(&directory.join("next"), number).unwrap();
                    fs::rename(directory.join("next"), &target).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            for at in seen_at {
                let (done, read) = (&done, &read);
                scope.spawn(move || {
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let seen: u32 = read(&at)
                            .unwrap_or_else(|error| panic!("{}: {error}", at.display()))
                            .parse()
                            .unwrap();
                        assert!(seen >= last, "{seen} after {last} at {}", at.display());
                        last = seen;
                    }
                });
            }
        });
        assert_eq!(read(&target).unwrap(), "39");
    }
    drive.unmount();
}

#[test]
fn modes_are_kept_and_owners_are_mapped_to_the_user() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let path = directory.join("file");
        fs::write(&path, "x").unwrap();
        for mode in [0o600, 0o755, 0o444, 0o640] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        }
        fs::create_dir(directory.join("dir")).unwrap();
        fs::set_permissions(directory.join("dir"), fs::Permissions::from_mode(0o711)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "the server's user is shown as the mount's");
        assert_eq!(errno(chown(&path, Some(1), None)), Errno::PERM);
        assert_eq!(errno(chown(&path, None, Some(1))), Errno::PERM);
    }
    assert_eq!(fs::metadata(drive.on_server("plain/file")).unwrap().mode() & 0o7777, 0o640);
    let drive = drive.remounted();
    for directory in [drive.vault(), drive.plain()] {
        assert_eq!(fs::metadata(directory.join("file")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(directory.join("dir")).unwrap().mode() & 0o7777, 0o711);
    }
    drive.unmount();
}

/// Another user than any that a test mounts or logs in as.
const NOBODY: u32 = 65534;

fn owners(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn with_idmap_none_plain_places_have_the_servers_owners() {
    let drive = Drive::mounted_with(&["-o", "idmap=none"]);
    let theirs = owners(&drive.on_server("plain"));
    assert_ne!(theirs, (0, 0));
    fs::write(drive.on_server("plain/nobodys"), "x").unwrap();
    chown(drive.on_server("plain/nobodys"), Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(owners(&drive.plain().join("nobodys")), (NOBODY, NOBODY));
    let file = File::create(drive.plain().join("file")).unwrap();
    assert_eq!(owners(&drive.plain().join("file")), theirs, "before it is saved");
    drop(file);
    fs::create_dir(drive.plain().join("dir")).unwrap();
    for name in ["file", "dir"] {
        assert_eq!(owners(&drive.plain().join(name)), theirs, "{name}");
        // The server does not let its users give files away.
        assert_eq!(errno(chown(drive.plain().join(name), Some(NOBODY), None)), Errno::ACCESS);
    }
    fs::write(drive.vault().join("file"), "x").unwrap();
    assert_eq!(owners(&drive.vault().join("file")), (0, 0), "vaults keep no owners");
    assert_eq!(errno(chown(drive.vault().join("file"), Some(NOBODY), None)), Errno::PERM);
    drive.unmount();
}

#[test]
fn with_idmap_none_the_servers_root_gives_files_away() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().config("PermitRootLogin yes").start());
    let mount = scaup
        .mount(format!("root@{}:{}", sshd.host(), sshd.home().display()))
        .args(["-o", "idmap=none", "-p", &sshd.port().to_string(), "-i"])
        .args([sshd.key().path()])
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts_file().display())])
        .start();
    shell(mount.path(), "mkdir dir; echo x > file; ln -s nowhere link");
    let open = File::create(mount.join("open")).unwrap();
    fchown(&open, Some(NOBODY), Some(NOBODY)).unwrap();
    open.sync_all().unwrap();
    drop(open);
    for name in ["dir", "file", "link"] {
        lchown(mount.join(name), Some(NOBODY), None).unwrap();
        assert_eq!(owners(&mount.join(name)), (NOBODY, 0), "{name}");
        lchown(mount.join(name), None, Some(NOBODY)).unwrap();
    }
    for name in ["dir", "file", "link", "open"] {
        assert_eq!(owners(&mount.join(name)), (NOBODY, NOBODY), "{name}");
        assert_eq!(owners(&sshd.home().join(name)), (NOBODY, NOBODY), "{name} on the server");
    }
    mount.unmount(&scaup);
}

#[test]
fn changes_inside_a_file_have_the_time_of_the_server() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let path = directory.join("file");
        fs::write(&path, noise(6, 1_000_000)).unwrap();
        let stored = if directory == drive.vault() { drive.stored() } else { drive.on_server("plain/file") };
        let theirs = || fs::metadata(&stored).unwrap();
        // What is set from here has whole seconds, the server's clock has not.
        assert_eq!(theirs().mtime_nsec(), 0);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"changed", 500_000).unwrap();
        drop(file);
        assert_ne!(theirs().mtime_nsec(), 0);
        assert_eq!(fs::metadata(&path).unwrap().mtime(), theirs().mtime());
    }
    drive.unmount();
}

#[test]
fn times_are_kept_in_whole_seconds() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        shell(
            &directory,
            "mkdir dir; echo x > file; ln -s file link; touch -h -d 2001-02-03T04:05:06.7Z dir file link",
        );
        // A name that is not there has the directory listed: what is remembered of it then must not outlive a change.
        assert!(!fs::exists(directory.join("no such name")).unwrap());
        shell(&directory, "touch -h -d 2011-02-03T04:05:06.7Z dir file link");
    }
    let drive = drive.remounted();
    for directory in [drive.vault(), drive.plain()] {
        for name in ["dir", "file", "link"] {
            let metadata = fs::symlink_metadata(directory.join(name)).unwrap();
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_296_705_906, 0), "{name}");
            assert_eq!(metadata.atime(), 1_296_705_906, "{name}");
        }
    }
    drive.unmount();
}

#[test]
fn times_of_a_directory_outlast_the_saving_of_what_is_in_it() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        fs::create_dir(directory.join("d")).unwrap();
        for number in 0..20 {
            fs::write(directory.join("d").join(number.to_string()), "small").unwrap();
        }
        shell(&directory, "touch -d 2001-02-03T04:05:06Z d");
    }
    let drive = drive.remounted();
    for directory in [drive.vault(), drive.plain()] {
        assert_eq!(
            fs::metadata(directory.join("d")).unwrap().mtime(),
            981_173_106,
            "{}",
            directory.display()
        );
    }
    drive.unmount();
}

#[test]
fn the_time_of_a_new_file_is_the_same_before_and_after_it_is_saved() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        for (name, length) in [("small", 10), ("large", 1_000_000)] {
            let mut file = File::create(directory.join(name)).unwrap();
            file.write_all(&noise(3, length)).unwrap();
            // What git notes of a file that it checks out.
            let open = file.metadata().unwrap();
            std::thread::sleep(Duration::from_millis(1100));
            file.sync_all().unwrap();
            let saved = file.metadata().unwrap();
            drop(file);
            let closed = fs::metadata(directory.join(name)).unwrap();
            for later in [saved, closed] {
                assert_eq!((later.mtime(), later.mtime_nsec()), (open.mtime(), open.mtime_nsec()), "{name}");
            }
        }
    }
    drive.unmount();
}

#[test]
fn times_set_again_are_shown_at_once() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        shell(&directory, "mkdir d; ls -la . d > /dev/null; test ! -e d/none; mkdir d/e; test ! -e d/none");
        for year in [2001, 2011, 2021] {
            let shown = shell(
                &directory,
                &format!("touch -d {year}-02-03T04:05:06Z d/e; mv d/e d/f; mv d/f d/e; date -u -r d/e +%Y"),
            );
            assert_eq!(shown.trim(), year.to_string());
        }
    }
    drive.unmount();
}

#[test]
fn hard_links_work_in_plain_folders_and_not_in_vaults() {
    let drive = Drive::mounted();
    fs::write(drive.plain().join("one"), "content").unwrap();
    fs::hard_link(drive.plain().join("one"), drive.plain().join("two")).unwrap();
    assert_eq!(fs::read_to_string(drive.plain().join("two")).unwrap(), "content");
    assert_eq!(fs::metadata(drive.on_server("plain/one")).unwrap().nlink(), 2);
    let [one, two] = ["one", "two"].map(|name| fs::metadata(drive.plain().join(name)).unwrap());
    assert_eq!((one.nlink(), two.nlink()), (1, 1));
    assert_ne!(one.ino(), two.ino());
    fs::remove_file(drive.plain().join("one")).unwrap();
    assert_eq!(fs::read_to_string(drive.plain().join("two")).unwrap(), "content");
    fs::write(drive.vault().join("one"), "content").unwrap();
    assert_eq!(errno(fs::hard_link(drive.vault().join("one"), drive.vault().join("two"))), Errno::PERM);
    drive.unmount();
}

#[test]
fn names_may_be_255_bytes_and_either_unicode_form_finds_a_vaults_file() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let longest = "n".repeat(255);
        fs::write(directory.join(&longest), "x").unwrap();
        assert!(names_in(&directory).contains(&longest));
        assert_eq!(errno(fs::write(directory.join("n".repeat(256)), "x")), Errno::NAMETOOLONG);
        for name in
            [" leading", "trailing ", "back\\slash", "new\nline", "dot.", ".hidden", "*?<>|:\"", "-rf"]
        {
            fs::write(directory.join(name), name).unwrap();
            assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), name);
        }
    }
    fs::write(drive.vault().join("e\u{301}.txt"), "decomposed").unwrap();
    assert_eq!(fs::read_to_string(drive.vault().join("\u{e9}.txt")).unwrap(), "decomposed");
    assert!(names_in(&drive.vault()).contains("\u{e9}.txt"));
    // Outside vaults names are bytes, and these are two.
    fs::write(drive.plain().join("e\u{301}.txt"), "decomposed").unwrap();
    assert!(!fs::exists(drive.plain().join("\u{e9}.txt")).unwrap());
    let no_text = OsStr::from_bytes(b"no text \xff\xfe");
    fs::create_dir(drive.plain().join(no_text)).unwrap();
    assert!(drive.on_server("plain").join(no_text).is_dir());
    let listed = fs::read_dir(drive.plain()).unwrap();
    assert!(listed.map(|entry| entry.unwrap().file_name()).any(|name| name == no_text));
    assert_eq!(errno(fs::create_dir(drive.vault().join(no_text))), Errno::INVAL);
    drive.unmount();
}

#[test]
fn a_file_made_without_writing_is_there_after_close() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let made = rustix::fs::open(
            directory.join("made"),
            rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::from_raw_mode(0o644),
        );
        drop(made.unwrap());
        let touched = directory.join("touched");
        shell(&directory, "touch touched");
        assert_eq!(fs::metadata(touched).unwrap().len(), 0);
    }
    let drive = drive.remounted();
    assert!(drive.vault().join("made").is_file() && drive.vault().join("touched").is_file());
    drive.unmount();
}

#[test]
fn reserving_and_extending_give_zeros() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        fs::write(directory.join("file"), "start").unwrap();
        shell(&directory, "fallocate -l 100000 file; truncate -s 300000 file");
        let content = fs::read(directory.join("file")).unwrap();
        assert_eq!((content.len(), &content[..5]), (300_000, b"start".as_slice()));
        assert!(content[5..].iter().all(|&byte| byte == 0));
        assert!(
            !shell_output(&directory, "fallocate -p -o 0 -l 4096 file").status.success(),
            "no holes are punched"
        );
        File::open(directory.join("file")).unwrap().sync_all().unwrap();
    }
    // Both are a hole in a plain file, and stored in a vault.
    let plain = fs::metadata(drive.on_server("plain/file")).unwrap();
    assert!(plain.len() == 300_000 && plain.blocks() * 512 < 100_000, "{}", plain.blocks());
    let stored = fs::metadata(drive.stored()).unwrap();
    assert!(stored.len() > 300_000 && stored.blocks() * 512 >= stored.len(), "{}", stored.blocks());
    drive.unmount();
}

#[test]
fn a_server_can_cut_put_back_and_remove_a_vaults_files_unnoticed() {
    const CHUNK: usize = 32_768;
    let drive = Drive::mounted_with(&["--attr-timeout", "1"]);
    let path = drive.vault().join("file");
    let (old, new) = (noise(8, 3 * CHUNK), noise(9, 3 * CHUNK));
    let save = |content: &[u8]| {
        let mut file = File::create(&path).unwrap();
        file.write_all(content).unwrap();
        file.sync_all().unwrap();
    };
    save(&old);
    let stored = drive.stored();
    let old_stored = fs::read(&stored).unwrap();
    save(&new);
    assert_eq!(fs::read(&path).unwrap(), new);
    fs::write(&stored, old_stored).unwrap();
    // With a time of its own, as a backup has it: length and time (whole seconds) tell that a file was changed.
    File::open(&stored).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    eventually("the old version", Duration::from_secs(10), || fs::read(&path).unwrap() == old);
    File::options().write(true).open(&stored).unwrap().set_len(68 + 2 * (CHUNK as u64 + 28)).unwrap();
    eventually("two chunks", Duration::from_secs(10), || fs::read(&path).unwrap() == old[..2 * CHUNK]);
    fs::remove_file(&stored).unwrap();
    eventually("nothing", Duration::from_secs(10), || !fs::exists(&path).unwrap());
    assert_eq!(drive.scaup.status()["mounts"][0]["errors"].as_array().unwrap().len(), 0);
    drive.unmount();
}

#[test]
fn pipes_sockets_and_extended_attributes_are_refused() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        for kind in [FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice] {
            let made = mknodat(CWD, directory.join("node"), kind, Mode::from_raw_mode(0o600), 0x103);
            assert_eq!(made, Err(Errno::PERM), "{kind:?}");
        }
        assert!(std::os::unix::net::UnixListener::bind(directory.join("socket")).is_err());
        fs::write(directory.join("file"), "x").unwrap();
        let set =
            rustix::fs::setxattr(directory.join("file"), "user.note", b"x", rustix::fs::XattrFlags::empty());
        assert_eq!(set.unwrap_err(), Errno::OPNOTSUPP);
        assert_eq!(names_in(&directory), BTreeSet::from(["file".to_owned()]));
    }
    drive.unmount();
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        shell(&directory, "mkdir dir empty; echo content > file; echo content > dir/file; ln -s file link");
    }
    let drive = drive.remounted_with(&["--read-only"]);
    let before = tree(&drive.on_server(""));
    for directory in [drive.vault(), drive.plain()] {
        let at = |name: &str| directory.join(name);
        let open = |options: &mut OpenOptions| options.open(at("file")).map(drop);
        let read = File::open(at("file")).unwrap();
        let mode = || fs::Permissions::from_mode(0o600);
        let past = SystemTime::UNIX_EPOCH;
        let refused = [
            ("make a file", fs::write(at("new"), "x")),
            ("make a directory", fs::create_dir(at("new"))),
            ("make a link", symlink("file", at("new"))),
            ("make a hard link", fs::hard_link(at("file"), at("new"))),
            ("write", open(OpenOptions::new().write(true))),
            ("append", open(OpenOptions::new().append(true))),
            ("empty", open(OpenOptions::new().write(true).truncate(true))),
            ("remove a file", fs::remove_file(at("file"))),
            ("remove a link", fs::remove_file(at("link"))),
            ("remove a directory", fs::remove_dir(at("empty"))),
            ("rename", fs::rename(at("file"), at("new"))),
            ("replace", fs::rename(at("dir/file"), at("file"))),
            ("move a directory", fs::rename(at("dir"), at("empty"))),
            ("set the mode of a file", fs::set_permissions(at("file"), mode())),
            ("set the mode of a directory", fs::set_permissions(at("dir"), mode())),
            ("set the mode of what is open", read.set_permissions(mode())),
            ("set the time of what is open", read.set_modified(past)),
        ];
        for (what, refused) in refused {
            assert_eq!(errno(refused), Errno::ROFS, "{what} in {}", directory.display());
        }
        assert!(!shell_output(&directory, "touch -h -d 2001-02-03 link").status.success());
        shell(
            &directory,
            "cat file dir/file > /dev/null; ls -lR > /dev/null; test \"$(readlink link)\" = file",
        );
    }
    let on_server = drive.on_server("");
    drive.unmount_but(|| assert_eq!(tree(&on_server), before));
}

#[test]
fn appending_is_turned_on_and_off_while_a_file_is_open() {
    use rustix::fs::{OFlags, fcntl_setfl};
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let path = directory.join("file");
        let mut file = File::options().create_new(true).read(true).append(true).open(&path).unwrap();
        file.write_all(b"0123456789").unwrap();
        fcntl_setfl(&file, OFlags::empty()).unwrap();
        file.write_all_at(b"AB", 2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "01AB456789");
        fcntl_setfl(&file, OFlags::APPEND).unwrap();
        file.rewind().unwrap();
        file.write_all(b"END").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "01AB456789END");
    }
    drive.unmount();
}

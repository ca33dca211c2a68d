//! The drive works with each of the parts left out that make it fast, and with little memory: content, programs, and
//! what a second client changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};
use scaup::config::parts::OptionalPart;
use scaup_rig::need;

use crate::support::{Drive, fsx, noise, sha256, shell, tree};

/// How long the mounts here believe names and attributes, seconds.
const ATTR_TIMEOUT: u64 = 1;

fn works(arguments: &[&str]) {
    let timeout = ATTR_TIMEOUT.to_string();
    let drive = Drive::mounted_with(&[&["--attr-timeout", &timeout], arguments].concat());
    let second = drive.mounted_again(&["--sync-on-close"]);
    for place in ["Vault", "plain"] {
        what_a_second_client_changes_is_seen(&drive.mount.join(place), &second.join(place));
    }
    second.unmount(&drive.scaup);
    fsx(&drive.vault(), 2_500);
    let written = what_programs_leave(&drive.vault());
    let drive = drive.remounted();
    assert_eq!(left_in(&drive.vault()), written, "a mount with everything sees something else");
    drive.unmount();
}

/// Lets programs work, and returns what they see of it themselves.
fn what_programs_leave(vault: &Path) -> BTreeMap<PathBuf, String> {
    need(&[("git", "git"), ("sqlite3", "sqlite3")]);
    shell(
        vault,
        "mkdir work && cd work
        git init -q -b main --template= repository && cd repository
        for file in one two three; do mkdir $file; seq 10000 > $file/numbers; done
        git add -A && git -c user.name=T -c user.email=t@example.org commit -qm one
        cd .. && git clone -q --template= repository clone && test -z \"$(git -C clone status --porcelain)\"
        sqlite3 data.sqlite 'CREATE TABLE t(x); BEGIN; INSERT INTO t VALUES(1),(2); COMMIT'
        test $(sqlite3 data.sqlite 'SELECT sum(x) FROM t') = 3
        cp -a clone copy && diff -r clone copy && rm -r copy/one && mv copy/two copy/moved
        for number in 1 2 3; do echo $number > .letter~ && sync .letter~ && mv .letter~ letter; done
        test $(cat letter) = 3",
    );
    let large = noise(9, 12_000_000);
    fs::write(vault.join("work/large"), &large).unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let path = vault.join("work/large");
            thread::spawn(move || sha256(&fs::read(path).unwrap()))
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), sha256(&large));
    }
    left_in(vault)
}

/// What lies in `work`, without the times of directories: until the server is asked again, they are those of this
/// machine's clock.
fn left_in(vault: &Path) -> BTreeMap<PathBuf, String> {
    let mut left = tree(&vault.join("work"));
    for of_directory in left.values_mut().filter(|place| place.starts_with("40")) {
        of_directory.truncate("40755".len());
    }
    left
}

fn what_a_second_client_changes_is_seen(here: &Path, there: &Path) {
    for name in ["rewritten", "extended", "replaced", "removed"] {
        durably(&there.join(name), b"as it was");
    }
    fs::create_dir_all(there.join("directory/in it")).unwrap();
    // What was known before is forgotten, and all of it looked at, so that all of it may be believed.
    thread::sleep(Duration::from_secs(ATTR_TIMEOUT) + Duration::from_millis(100));
    for name in ["rewritten", "extended", "replaced", "removed"] {
        assert_eq!(fs::read(here.join(name)).unwrap(), b"as it was", "{name}");
    }
    assert_eq!(names_in(&here.join("directory")), names(&["in it"]));
    assert_eq!(fs::metadata(here.join("new")).unwrap_err().kind(), ErrorKind::NotFound);

    durably(&there.join("rewritten"), b"changed");
    OpenOptions::new().append(true).open(there.join("extended")).unwrap().write_all(b", and more").unwrap();
    durably(&there.join("beside"), b"another one");
    fs::rename(there.join("beside"), there.join("replaced")).unwrap();
    fs::remove_file(there.join("removed")).unwrap();
    durably(&there.join("new"), b"new");
    fs::rename(there.join("directory/in it"), there.join("directory/renamed")).unwrap();

    let changed: [(&str, &[u8]); 3] =
        [("rewritten", b"changed"), ("extended", b"as it was, and more"), ("replaced", b"another one")];
    for (name, content) in changed {
        assert_eq!(fs::read(here.join(name)).unwrap(), content, "{name}, opened anew at once");
    }
    thread::sleep(Duration::from_secs(ATTR_TIMEOUT) + Duration::from_millis(100));
    for (name, content) in changed {
        assert_eq!(fs::metadata(here.join(name)).unwrap().len(), content.len() as u64, "length of {name}");
    }
    assert_eq!(fs::read(here.join("new")).unwrap(), b"new");
    assert_eq!(fs::metadata(here.join("removed")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(names_in(&here.join("directory")), names(&["renamed"]));
    assert_eq!(names_in(here), names(&["rewritten", "extended", "replaced", "new", "directory"]));
}

/// Writes a file; it is on the server when this returns.
fn durably(path: &Path, content: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(content).unwrap();
    file.sync_all().unwrap();
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

macro_rules! works_with {
    ($($name:ident: $arguments:expr;)*) => {
        $(
            #[test]
            fn $name() {
                works(&$arguments);
            }
        )*

        #[test]
        fn every_part_is_left_out_once() {
            let tried = [$($arguments.join(" ")),*];
            for part in OptionalPart::ALL {
                assert!(tried.iter().any(|arguments| *arguments == format!("-o without={part}")), "{part}");
            }
        }
    };
}

works_with! {
    works_with_everything: [""; 0];
    works_with_little_memory: ["--memory", "8M"];
    works_without_read_ahead: ["-o", "without=read-ahead"];
    works_without_list_ahead: ["-o", "without=list-ahead"];
    works_without_chunk_cache: ["-o", "without=chunk-cache"];
    works_without_attribute_cache: ["-o", "without=attribute-cache"];
    works_without_kernel_cache: ["-o", "without=kernel-cache"];
    works_without_priorities: ["-o", "without=priorities"];
    works_without_write_behind: ["-o", "without=write-behind"];
    works_without_save_behind: ["-o", "without=save-behind"];
    works_without_open_ahead: ["-o", "without=open-ahead"];
    works_without_keep_open: ["-o", "without=keep-open"];
    works_without_remove_behind: ["-o", "without=remove-behind"];
}

/// A mount without a part, which believes attributes for longer than a test takes.
fn mounted_without(part: OptionalPart) -> Drive {
    Drive::mounted_with(&["--attr-timeout", "600", "-o", &format!("without={part}")])
}

/// What a counter of `status` gains by some work, and by what that has set going.
fn gained(drive: &Drive, counter: &str, work: impl FnOnce()) -> u64 {
    let count = || {
        let status = drive.scaup.status();
        status.pointer(&format!("/mounts/0/counters/{counter}")).unwrap().as_u64().unwrap()
    };
    let before = count();
    work();
    thread::sleep(Duration::from_millis(300));
    count() - before
}

#[test]
fn without_read_ahead_hardly_more_is_fetched_than_is_read() {
    let drive = mounted_without(OptionalPart::ReadAhead);
    fs::write(drive.on_server("plain/large"), noise(1, 8_000_000)).unwrap();
    let file = File::open(drive.plain().join("large")).unwrap();
    let received = gained(&drive, "bytes_received", || {
        for number in 0..16 {
            file.read_exact_at(&mut [0; 65_536], number * 65_536).unwrap();
        }
    });
    // The kernel's own reading ahead is 128 KiB, in two requests.
    assert!((1 << 20..(1 << 20) + (300 << 10)).contains(&received), "{received} bytes for 1 MiB");
    drop(file);
    drive.unmount();
}

#[test]
fn without_list_ahead_a_directory_is_listed_when_it_is_asked_for() {
    let drive = mounted_without(OptionalPart::ListAhead);
    fs::create_dir_all(drive.on_server("plain/above/below")).unwrap();
    gained(&drive, "sftp_requests", || assert_eq!(names_in(&drive.plain().join("above")), names(&["below"])));
    let requests = gained(&drive, "sftp_requests", || {
        assert_eq!(names_in(&drive.plain().join("above/below")), names(&[]));
    });
    assert!(requests > 0);
    drive.unmount();
}

#[test]
fn without_chunk_cache_what_the_kernel_forgot_is_decrypted_again() {
    let drive = mounted_without(OptionalPart::ChunkCache);
    durably(&drive.vault().join("file"), &noise(1, 100_000));
    let file = File::open(drive.vault().join("file")).unwrap();
    for _ in 0..2 {
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let decrypted =
            gained(&drive, "chunks_decrypted", || file.read_exact_at(&mut [0; 100_000], 0).unwrap());
        assert!(decrypted >= 4, "{decrypted}");
    }
    drop(file);
    drive.unmount();
}

#[test]
fn without_attribute_cache_each_look_asks_the_server() {
    let drive = mounted_without(OptionalPart::AttributeCache);
    fs::write(drive.on_server("plain/file"), "content").unwrap();
    for name in ["file", "missing"] {
        for _ in 0..2 {
            let look = || assert_eq!(fs::exists(drive.plain().join(name)).unwrap(), name == "file");
            assert!(gained(&drive, "sftp_requests", look) > 0, "{name}");
        }
    }
    drive.unmount();
}

#[test]
fn without_kernel_cache_each_opening_reads_from_the_drive() {
    let drive = mounted_without(OptionalPart::KernelCache);
    durably(&drive.vault().join("file"), b"content");
    for _ in 0..2 {
        let read = || assert_eq!(fs::read(drive.vault().join("file")).unwrap(), b"content");
        assert!(gained(&drive, "cache_hits", read) > 0);
    }
    drive.unmount();
}

#[test]
fn without_write_behind_what_is_written_is_with_the_server() {
    let drive = mounted_without(OptionalPart::WriteBehind);
    let mut file = File::create(drive.vault().join("file")).unwrap();
    let encrypted = gained(&drive, "chunks_encrypted", || file.write_all(&[1; 40_000]).unwrap());
    assert!(encrypted > 0);
    drop(file);
    drive.unmount();
}

#[test]
fn without_save_behind_a_closed_file_is_on_the_server() {
    let drive = mounted_without(OptionalPart::SaveBehind);
    for number in 0..20 {
        let name = format!("plain/{number}");
        fs::write(drive.mount.join(&name), "small").unwrap();
        assert_eq!(fs::read_to_string(drive.on_server(&name)).unwrap(), "small");
    }
    drive.unmount();
}

#[test]
fn without_remove_behind_what_is_removed_is_gone_from_the_server() {
    let drive = mounted_without(OptionalPart::RemoveBehind);
    let files: Vec<String> = (0..20).map(|number| format!("plain/{number}")).collect();
    for file in &files {
        fs::write(drive.on_server(file), "small").unwrap();
    }
    for file in &files {
        fs::remove_file(drive.mount.join(file)).unwrap();
        assert!(!fs::exists(drive.on_server(file)).unwrap(), "{file}");
    }
    drive.unmount();
}

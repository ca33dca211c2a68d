//! Real programs on a real mount, and what the vault then holds, read back by a reader that shares no code with us.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use scaup_rig::{Answers, Fixture, Sshd, eventually, need, run};

use crate::reader::{Reader, local};
use crate::support::{Drive, PASSWORD, ends_with, fill, noise, said, scaup, shell, shell_output};

/// Unmounts. What the vault then holds is what the mount showed.
fn read_back(drive: Drive) {
    let (shown, on_server) = (local(&drive.vault()), drive.on_server("Vault"));
    assert!(!shown.is_empty());
    drive.unmount_but(|| assert_eq!(Reader::start().read(&on_server, PASSWORD), Ok(shown)));
}

/// Changes in place, a shrink, an extension, a replacement, removals, and names that move in and out of their shortened
/// form.
fn change(directory: &Path) {
    let file = OpenOptions::new().write(true).open(directory.join("1000000 bytes")).unwrap();
    file.write_all_at(b"changed in the middle", 500_000).unwrap();
    file.set_len(700_001).unwrap();
    drop(file);
    OpenOptions::new().write(true).open(directory.join("65536 bytes")).unwrap().set_len(200_000).unwrap();
    fs::write(directory.join("32768 bytes"), "replaced").unwrap();
    fs::rename(directory.join("1 bytes"), directory.join("short to long ".repeat(15))).unwrap();
    fs::rename(directory.join("a/b").join("long ".repeat(40)), directory.join("long to short")).unwrap();
    fs::rename(directory.join("d".repeat(200)), directory.join("a/moved")).unwrap();
    fs::rename(directory.join("dangling"), directory.join("l".repeat(180))).unwrap();
    fs::remove_file(directory.join("32769 bytes")).unwrap();
    fs::remove_file(directory.join("a/link")).unwrap();
    fs::remove_dir(directory.join("empty")).unwrap();
    fs::create_dir(directory.join("e".repeat(200))).unwrap();
}

/// Copies and changes beside what Cryptomator put into a vault; all of it is then there, on the mount and for the
/// reader.
fn is_read_back_after_work(fixture: &str) {
    // Some of Cryptomator's vaults have links that lead out of them.
    let outside = ["--follow-outside"];
    let drive = Drive::holding(fixture, &outside);
    let on_server = drive.on_server("Vault");
    let mut reader = Reader::start();
    let mut expected = reader.read(&on_server, PASSWORD).unwrap();
    assert_eq!(expected.len(), Fixture::unpack(fixture).manifest.entries.len());
    let source = tempfile::tempdir().unwrap();
    let work = source.path().join("work");
    fill(&work);
    shell(source.path(), &format!("cp -a work '{}'", drive.vault().display()));
    for directory in [&work, &drive.vault().join("work")] {
        change(directory);
    }
    expected.extend(local(source.path()));
    let drive = drive.remounted_with(&outside);
    assert_eq!(local(&drive.vault()), expected);
    drive.unmount_but(|| assert_eq!(reader.read(&on_server, PASSWORD), Ok(expected)));
}

#[test]
fn what_programs_write_is_read_back_by_pycryptomator() {
    is_read_back_after_work("empty-gcm");
}

#[test]
fn the_older_cipher_and_format_are_written_as_they_were() {
    for fixture in ["ctrmac8", "format7"] {
        is_read_back_after_work(fixture);
    }
}

#[test]
fn git_clones_and_finds_its_work_tree_clean() {
    need(&[("git", "git")]);
    let drive = Drive::mounted();
    let origin = tempfile::tempdir().unwrap();
    fill(origin.path());
    shell(
        origin.path(),
        "git init -q -b main .; git add -A; git -c user.name=T -c user.email=t@example.org commit -qm one",
    );
    let clone = drive.vault().join("clone");
    shell(&drive.vault(), &format!("git clone -q --no-hardlinks '{}' clone", origin.path().display()));
    assert_eq!(shell(&clone, "git status --porcelain"), "");
    assert_eq!(shell(&clone, "./run.sh"), "it runs\n");
    shell(&clone, "git fsck --strict 2>/dev/null; echo more >> run.sh; chmod -x run.sh");
    assert!(shell(&clone, "git diff").contains("old mode 100755"));
    shell(&clone, "git checkout -q . && git -c gc.auto=0 gc -q && git switch -qc other");
    let drive = drive.remounted();
    let clone = drive.vault().join("clone");
    assert_eq!(shell(&clone, "git status --porcelain"), "");
    assert_eq!(fs::metadata(clone.join("run.sh")).unwrap().mode() & 0o111, 0o111);
    read_back(drive);
}

#[test]
fn vim_saves_and_leaves_nothing_beside() {
    need(&[("vim", "vim-tiny")]);
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        fs::write(directory.join("letter.txt"), "Dear Alice,\n").unwrap();
        fs::set_permissions(directory.join("letter.txt"), fs::Permissions::from_mode(0o640)).unwrap();
        for settings in
            ["set nobackup writebackup backupcopy=auto", "set backup backupcopy=no", "set backupcopy=yes"]
        {
            // Under -es, vim returns the state of its last message: what counts is what is in the file.
            shell_output(
                &directory,
                &format!("vim -u NONE -es -c '{settings}' -c 'normal Gohello' -c 'wq' letter.txt </dev/null"),
            );
        }
        let saved = fs::read_to_string(directory.join("letter.txt")).unwrap();
        assert_eq!(saved, "Dear Alice,\nhello\nhello\nhello\n");
        assert_eq!(fs::metadata(directory.join("letter.txt")).unwrap().mode() & 0o777, 0o640);
        let beside: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(beside.iter().all(|name| name == "letter.txt" || name == "letter.txt~"), "{beside:?}");
    }
    read_back(drive);
}

#[test]
fn rsync_transfers_nothing_the_second_time() {
    need(&[("rsync", "rsync")]);
    let drive = Drive::mounted();
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    let rsync = format!("rsync -a --itemize-changes '{}/' .", source.path().display());
    for directory in [drive.vault(), drive.plain()] {
        assert!(shell(&directory, &rsync).contains("1000000 bytes"));
        assert_eq!(shell(&directory, &rsync), "", "in {}", directory.display());
        shell(&directory, &format!("diff -r --no-dereference '{}' .", source.path().display()));
    }
    let drive = drive.remounted();
    for directory in [drive.vault(), drive.plain()] {
        assert_eq!(shell(&directory, &format!("{rsync} --checksum")), "", "in {}", directory.display());
    }
    read_back(drive);
}

#[test]
fn rsync_says_that_owners_and_groups_are_not_kept() {
    need(&[("rsync", "rsync"), ("setpriv", "util-linux")]);
    let source = tempfile::tempdir().unwrap();
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o755)).unwrap();
    shell(source.path(), "echo content > file; chown 1:100 file; chmod 751 file; touch -d 2001-02-03 file");
    let drive = Drive::mounted_with(&["-o", "allow_other,uid=65534,gid=65534"]);
    for directory in [drive.scaup.home().to_owned(), drive.scaup.home().join("mnt")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let kept = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        // With allow_other a vault shows what its owner may do, and nothing of others.
        (metadata.mode() & 0o700, metadata.mtime())
    };
    let file = source.path().join("file");
    for directory in [drive.vault(), drive.plain()] {
        // Root would give files away; others would give them to a group that they are in.
        for user in ["", "setpriv --reuid 65534 --regid 65534 --groups 100 "] {
            let rsync = |options: &str| {
                let words = format!("{user}rsync -a --itemize-changes {options} '{}' .", file.display());
                shell_output(&directory, &words)
            };
            let copy = directory.join("file");
            let refused = rsync("");
            assert_eq!(refused.status.code(), Some(23), "{}", said(&refused));
            assert!(said(&refused).contains("Operation not permitted"), "{}", said(&refused));
            assert_eq!(fs::read(&copy).unwrap(), b"content\n");
            assert_ne!(kept(&copy), kept(&file), "rsync goes no further than the owner");
            let copied = rsync("--no-owner --no-group");
            assert!(copied.status.success(), "{}", said(&copied));
            assert_eq!(kept(&copy), kept(&file));
            // Of the group's and others' bits, which a vault does not show here, rsync would say so each time.
            let shown = if directory == drive.vault() { "--no-perms" } else { "" };
            assert_eq!(said(&rsync(&format!("--no-owner --no-group {shown}"))), "");
            fs::remove_file(copy).unwrap();
        }
    }
    drive.unmount();
}

#[test]
fn cp_and_tar_keep_content_modes_and_times() {
    let drive = Drive::mounted();
    let source = tempfile::tempdir().unwrap();
    fill(source.path());
    shell(source.path(), "touch -d 2001-02-03T04:05:06Z run.sh 'a/Grüße aus Köln.txt' a/b");
    for directory in [drive.vault(), drive.plain()] {
        shell(source.path(), &format!("cp -a . '{}'; tar -cf '{0}/all.tar' .", directory.display()));
        shell(&directory, "mkdir out; tar -xf all.tar -C out");
        for copy in [directory.clone(), directory.join("out")] {
            shell(
                &copy,
                &format!("diff -r --no-dereference -x out -x all.tar '{}' .", source.path().display()),
            );
            for name in ["run.sh", "a/Grüße aus Köln.txt", "a/b"] {
                let metadata = fs::metadata(copy.join(name)).unwrap();
                let original = fs::metadata(source.path().join(name)).unwrap();
                assert_eq!(metadata.mtime(), original.mtime(), "time of {name} in {}", copy.display());
                assert_eq!(metadata.mode(), original.mode(), "mode of {name} in {}", copy.display());
            }
        }
    }
    read_back(drive);
}

#[test]
fn sqlite_commits_and_rolls_back() {
    need(&[("sqlite3", "sqlite3")]);
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let sql = |sql: &str| shell(&directory, &format!("sqlite3 data.db \"{sql}\""));
        sql(
            "create table t(n integer, s text); begin; insert into t select value, hex(randomblob(200)) from generate_series(1, 2000); commit;",
        );
        sql("begin; delete from t; rollback; begin; update t set s = 'x' where n % 2; commit;");
        assert_eq!(sql("pragma integrity_check; select count(*), sum(s = 'x') from t;"), "ok\n2000|1000\n");
        sql("pragma journal_mode = truncate; vacuum;");
    }
    let drive = drive.remounted();
    let answer = shell(&drive.vault(), "sqlite3 data.db 'pragma integrity_check; select count(*) from t'");
    assert_eq!(answer, "ok\n2000\n");
    read_back(drive);
}

/// The smallest PDF with one line of text.
fn pdf(text: &str) -> Vec<u8> {
    let content = format!("BT /F1 24 Tf 72 700 Td ({text}) Tj ET");
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>"
            .to_owned(),
        format!("<</Length {}>>stream\n{content}\nendstream", content.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned(),
    ];
    let mut pdf = b"%PDF-1.4\n".to_vec();
    let mut table = String::from("0000000000 65535 f \n");
    for (number, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", pdf.len()));
        pdf.extend_from_slice(format!("{} 0 obj{object}endobj\n", number + 1).as_bytes());
    }
    let at = pdf.len();
    pdf.extend_from_slice(
        format!("xref\n0 6\n{table}trailer<</Size 6/Root 1 0 R>>\nstartxref\n{at}\n%%EOF\n").as_bytes(),
    );
    pdf
}

#[test]
fn a_pdf_opens() {
    need(&[("pdftotext", "poppler-utils")]);
    let drive = Drive::mounted();
    fs::write(drive.vault().join("letter.pdf"), pdf("Dear Alice")).unwrap();
    let drive = drive.remounted();
    assert_eq!(shell(&drive.vault(), "pdftotext letter.pdf -").trim(), "Dear Alice");
    read_back(drive);
}

#[test]
fn mv_between_vaults_and_plain_folders_copies() {
    let drive = Drive::mounted();
    // Of other keys: what was only moved on the server could not be read there.
    Fixture::unpack("ctrmac8").copy_vault_to(&drive.on_server("Other"));
    drive.sshd.give(&drive.on_server("Other"));
    let drive = drive.remounted();
    let (mountpoint, password) =
        (drive.mount.path().to_str().unwrap(), drive.scaup.command_answering(PASSWORD));
    let unlock = ["unlock", mountpoint, "Other", "--vault-password-command", &password];
    ends_with(&drive.scaup, 0, unlock);
    let content = noise(7, 200_000);
    fs::create_dir(drive.vault().join("d")).unwrap();
    fs::write(drive.vault().join("d/file"), &content).unwrap();
    for (from, to) in [("Vault", "plain"), ("plain", "Other"), ("Other", "Vault"), ("Vault", "Other")] {
        for name in ["d", "d/file"] {
            let error = fs::rename(drive.mount.join(from).join(name), drive.mount.join(to).join("new"));
            let error = error.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()), "{from} to {to}: {error}");
        }
        shell(drive.mount.path(), &format!("mv {from}/d {to}; test ! -e {from}/d"));
        assert_eq!(fs::read(drive.mount.join(to).join("d/file")).unwrap(), content, "{from} to {to}");
        if to == "plain" {
            assert_eq!(
                fs::read(drive.on_server("plain/d/file")).unwrap(),
                content,
                "it is plain on the server"
            );
        }
    }
    drive.unmount();
}

#[test]
fn a_file_beyond_4_gib_is_read_and_written_at_its_end() {
    const FOUR_GIB: u64 = 4 << 30;
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        File::create(directory.join("big")).unwrap().set_len(FOUR_GIB + 10).unwrap();
        let file = OpenOptions::new().write(true).open(directory.join("big")).unwrap();
        file.write_all_at(b"beyond", FOUR_GIB + 1).unwrap();
    }
    let end_is_right = |drive: &Drive| {
        for directory in [drive.vault(), drive.plain()] {
            let mut file = File::open(directory.join("big")).unwrap();
            assert_eq!(file.metadata().unwrap().len(), FOUR_GIB + 10);
            file.seek(SeekFrom::Start(FOUR_GIB - 2)).unwrap();
            let mut end = Vec::new();
            file.read_to_end(&mut end).unwrap();
            assert_eq!(end, b"\0\0\0beyond\0\0\0");
        }
    };
    end_is_right(&drive);
    let drive = drive.remounted();
    end_is_right(&drive);
    // The plain file's hole stays one on the server; a vault stores it: each chunk with 28 bytes more, behind 68 bytes
    // of header.
    let plain = fs::metadata(drive.on_server("plain/big")).unwrap();
    assert!(plain.len() == FOUR_GIB + 10 && plain.blocks() * 512 < 1 << 20);
    let stored = fs::metadata(drive.stored()).unwrap();
    assert_eq!(stored.len(), 68 + FOUR_GIB / 32_768 * (32_768 + 28) + 28 + 10);
    assert!(stored.blocks() * 512 >= stored.len());
    fs::remove_file(drive.vault().join("big")).unwrap();
    drive.unmount();
}

#[test]
fn a_mapped_file_is_written_through() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        fs::write(directory.join("mapped"), vec![b'.'; 100_000]).unwrap();
        shell(
            &directory,
            "python3 -c \"
import mmap
f = open('mapped', 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[40000:40005] = b'hello'
m[99999:] = b'!'
m.flush()
assert m[40000:40005] == b'hello'
m.close()
f.close()
\"",
        );
    }
    let drive = drive.remounted();
    for directory in [drive.vault(), drive.plain()] {
        let content = fs::read(directory.join("mapped")).unwrap();
        assert_eq!(content.len(), 100_000);
        assert_eq!(&content[39_999..40_006], b".hello.");
        assert_eq!(content[99_999], b'!');
    }
    drive.unmount();
}

#[test]
fn two_processes_append_without_losing_a_line() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let writer =
            |word: &str| format!("i=0; while [ $i -lt 200 ]; do echo {word} $i >> log; i=$((i+1)); done");
        let output = shell_output(&directory, &format!("({}) & ({}); wait", writer("one"), writer("two")));
        assert!(output.status.success(), "{}{:#}", said(&output), drive.scaup.status());
        let log = fs::read_to_string(directory.join("log")).unwrap();
        for word in ["one", "two"] {
            let lines: Vec<_> = log.lines().filter(|line| line.starts_with(word)).collect();
            let expected: Vec<String> = (0..200).map(|number| format!("{word} {number}")).collect();
            assert_eq!(lines, expected, "{word} in {}", directory.display());
        }
        assert_eq!(log.lines().count(), 400);
    }
    drive.unmount();
}

#[test]
fn locks_exclude_other_processes_of_this_machine() {
    let drive = Drive::mounted();
    for directory in [drive.vault(), drive.plain()] {
        let output = shell(
            &directory,
            "touch lock
            flock lock -c 'flock --nonblock lock -c \"echo broken\" || echo held'
            flock --nonblock lock -c 'echo free'",
        );
        assert_eq!(output, "held\nfree\n");
        let output = shell(
            &directory,
            "python3 -c \"
import fcntl, os
f = open('lock', 'r+b')
fcntl.lockf(f, fcntl.LOCK_EX, 10, 0)
if os.fork() == 0:
    g = open('lock', 'r+b')
    fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
    try:
        fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
    except OSError:
        os._exit(0)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
\"",
        );
        assert_eq!(output, "0\n", "a range is held against another process, its neighbour is free");
    }
    drive.unmount();
}

/// A small file system at `path`, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: &Path, size: &str) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "tmpfs"])
            .arg(path));
        Self(path.to_path_buf())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still stand in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_extension_the_server_has_no_room_for_fails_at_once() {
    let sshd = Sshd::key_only().start();
    let disk = sshd.home().join("disk");
    fs::create_dir(&disk).unwrap();
    let _disk = SmallDisk::at(&disk, "64m");
    Fixture::unpack("empty-gcm").copy_vault_to(&disk.join("Vault"));
    sshd.give(&disk);
    let scaup = scaup();
    let mount = scaup
        .mount_on(&sshd, "")
        .answering(&scaup_rig::Answers::default().vault(PASSWORD))
        .args(["--vault", "disk/Vault"])
        .start();
    let vault = mount.join("disk/Vault");
    let size = rustix::fs::statvfs(&vault).unwrap();
    assert_eq!(size.f_blocks * size.f_frsize, 64 << 20, "statfs tells of the disk that the vault lies on");

    fs::write(vault.join("file"), "content").unwrap();
    let file = OpenOptions::new().write(true).open(vault.join("file")).unwrap();
    let no_space = Some(Errno::NOSPC.raw_os_error());
    let started = Instant::now();
    assert_eq!(file.set_len(10 << 30).unwrap_err().raw_os_error(), no_space);
    assert_eq!(file.write_at(b"x", 10 << 30).unwrap_err().raw_os_error(), no_space);
    assert!(started.elapsed() < Duration::from_secs(20), "not after writing until the disk was full");
    drop(file);
    assert_eq!(fs::read_to_string(vault.join("file")).unwrap(), "content");
    // What fills the disk is told of too, at the latest when the file is closed.
    let filled = File::create(vault.join("big")).and_then(|mut file| {
        let block = noise(1, 1 << 20);
        for _ in 0..100 {
            file.write_all(&block)?;
        }
        file.sync_all()
    });
    assert_eq!(filled.unwrap_err().raw_os_error(), no_space);
    // With room again (the server frees it when the last handle is closed, soon after), nothing is stuck.
    fs::remove_file(vault.join("big")).unwrap();
    fs::write(vault.join("after"), "there is room again").unwrap();
    eventually("what could not be saved is saved", Duration::from_secs(20), || {
        File::open(vault.join("after")).unwrap().sync_all().is_ok()
    });
    mount.unmount(&scaup);
}

/// All names that are made, renamed or removed below `directory` on this machine during `deed`.
fn names_that_appear_in(directory: &Path, deed: impl FnOnce()) -> Vec<String> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    for place in shell(directory, "find \"$PWD\" -type d").lines() {
        let changes = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        inotify::add_watch(&watch, place, changes).unwrap();
    }
    deed();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    let mut names = Vec::new();
    loop {
        match events.next() {
            Ok(event) => names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(Errno::AGAIN) => return names,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn deleting_in_a_file_manager_tells_the_server_no_name() {
    need(&[("gio", "libglib2.0-bin")]);
    let trash = |path: &Path| {
        let mut gio = Command::new("gio");
        gio.arg("trash").arg(path).env("LC_ALL", "C.UTF-8").output().unwrap()
    };
    let drive = Drive::mounted_with(&["--attr-timeout", "0"]);
    let file = drive.vault().join("Merger with ACME.txt");
    fs::write(&file, "x").unwrap();
    File::open(&file).unwrap().sync_all().unwrap();
    // One that is there already is as bad; nobody sees it while the mount holds a vault.
    for there in [false, true] {
        if there {
            let script =
                "mkdir -p .Trash-0/info .Trash-0/files; mkdir -m 1777 .Trash; echo x > .Trash-0/info/old";
            shell(&drive.on_server(""), script);
            drive.sshd.give(&drive.on_server(".Trash-0"));
        }
        let seen = names_that_appear_in(&drive.on_server(""), || {
            let refused = trash(&file);
            assert!(!refused.status.success(), "{}", said(&refused));
        });
        assert_eq!(seen, Vec::<String>::new(), "on the server, there: {there}");
        assert!(file.exists(), "it is still there, to be deleted for good");
    }
    let top = drive.mount.path();
    let shown: Vec<_> = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!shown.iter().any(|name| name.to_string_lossy().starts_with(".Trash")), "{shown:?}");
    for name in [".Trash", ".Trash-0", ".Trash-0/info", ".Trash-0/info/old"] {
        assert!(!fs::exists(top.join(name)).unwrap(), "{name}");
    }
    // Under no kind of name, and by no way.
    let refused = |deed: std::io::Result<()>| {
        assert_eq!(deed.unwrap_err().raw_os_error(), Some(Errno::PERM.raw_os_error()));
    };
    fs::create_dir(drive.plain().join("directory")).unwrap();
    fs::write(drive.plain().join("file"), "x").unwrap();
    for name in [".Trash", ".Trash-1", ".Trash-0"] {
        refused(fs::create_dir(top.join(name)));
        refused(fs::write(top.join(name), "x"));
        refused(std::os::unix::fs::symlink("plain", top.join(name)));
        refused(fs::rename(drive.plain().join("directory"), top.join(name)));
        refused(fs::hard_link(drive.plain().join("file"), top.join(name)));
    }
    // Where nothing that lies deeper can be meant, names are free; so they are in a vault.
    fs::create_dir(drive.plain().join(".Trash-0")).unwrap();
    fs::create_dir(drive.vault().join(".Trash-0")).unwrap();
    drive.unmount();
}

#[test]
fn deleting_in_a_file_manager_keeps_what_was_in_a_vault_in_it_where_that_is_the_mount() {
    need(&[("gio", "libglib2.0-bin")]);
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
    sshd.give(&sshd.home());
    let answers = Answers::default().vault(PASSWORD);
    let mount = scaup.mount_on(&sshd, "Vault").answering(&answers).args(["--vault", "."]).start();
    fs::write(mount.join("Merger with ACME.txt"), "x").unwrap();
    let mut gio = Command::new("gio");
    let trashed = gio.arg("trash").arg(mount.join("Merger with ACME.txt")).output().unwrap();
    assert!(trashed.status.success(), "{}", said(&trashed));
    assert_eq!(fs::read_to_string(mount.join(".Trash-0/files/Merger with ACME.txt")).unwrap(), "x");
    mount.unmount(&scaup);
}

#[test]
fn mv_between_file_systems_of_the_server_copies() {
    let sshd = Sshd::key_only().start();
    let disk = sshd.files().join("disk");
    fs::create_dir(&disk).unwrap();
    let _disk = SmallDisk::at(&disk, "4m");
    sshd.give(&sshd.files());
    sshd.give(&disk);
    let again = sshd.files().join("again");
    fs::create_dir(&again).unwrap();
    run(Command::new("mount").arg("--bind").arg(&disk).arg(&again));
    let _again = SmallDisk(again);
    let scaup = scaup();
    let (by_sftp, local) = (scaup.mount_on(&sshd, ""), scaup.mount(sshd.files()).args(["--no-vaults"]));
    for (mount, name) in [(by_sftp.start(), "sftp"), (local.start(), "local")] {
        let (file, directory) = (format!("f-{name}"), format!("d-{name}"));
        fs::write(mount.join(&file), "file").unwrap();
        fs::create_dir(mount.join(&directory)).unwrap();
        fs::write(mount.join(&directory).join("inner"), "inner").unwrap();
        for from in [&file, &directory] {
            let error = fs::rename(mount.join(from), mount.join("disk/new")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()), "{name}: {error}");
        }
        let error = fs::hard_link(mount.join(&file), mount.join("disk/new")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()), "{name}: {error}");
        shell(
            mount.path(),
            &format!("mv {file} {directory} disk && test ! -e {file} && test ! -e {directory}"),
        );
        assert_eq!(fs::read_to_string(disk.join(&file)).unwrap(), "file");
        assert_eq!(fs::read_to_string(disk.join(directory).join("inner")).unwrap(), "inner");
        // One file system that is mounted twice: that the server does not tell.
        if name == "sftp" {
            let error = fs::rename(mount.join("disk").join(&file), mount.join("again/new")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{error}");
        }
        mount.unmount(&scaup);
    }
}

//! Where secrets, names and content of a vault do not go: what `docs/threat-model.md` promises.
//!
//! The tests plant canaries, work as a user does, and then search for them wherever they could have been left. Each
//! search also finds something that is there, so that one that is blind fails.

mod control_socket;
mod search;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;
use scaup_rig::{
    Answers, Bus, Fixture, KeyKind, Logind, Mount, MountCommand, Proxy, Scaup, Sshd, eventually, run,
};
use search::{addresses_of, files_with, found, in_memory, is_locked, numbers_of, raw_keys};

use crate::support::front_end::socket;
use crate::support::{Drive, PASSWORD, ends_with, said, scaup};

/// Any step of a story; the next code is up to half a minute away.
const SOON: Duration = Duration::from_secs(90);

const WRITTEN: &str = "canary-written-5d0c7e92b1f84a36";
const SAVED: &str = "canary-saved-c41e6f08a9d37b25";
const READ: &str = "canary-read-8b2f91d7064ce3a5";
const NAME: &str = "canary-name-1f6a3c80e5d94b27";
const PASSPHRASE: &str = "canary-passphrase-e7402b9d6c1f85a3";

/// Another user than the one who mounts.
const NOBODY: u32 = 65534;

/// A word again and again, as long as several chunks.
fn filled_with(canary: &str) -> String {
    format!("{canary}\n").repeat(200_000 / canary.len())
}

/// A mount behind a key with a passphrase and a code, with a vault in `Vault`; everything is typed at an `SSH_ASKPASS`
/// program.
struct Session {
    mount: Mount,
    scaup: Scaup,
    proxy: Proxy,
    sshd: Sshd,
}

impl Session {
    fn begin() -> Self {
        Self::begin_with(&[])
    }

    fn begin_with(arguments: &[&str]) -> Self {
        Self::begin_as(arguments, |mount| mount)
    }

    fn begin_as(arguments: &[&str], as_wanted: impl FnOnce(MountCommand<'_>) -> MountCommand<'_>) -> Self {
        let sshd = Sshd::builder().passphrase(PASSPHRASE).start();
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let scaup = scaup();
        fs::create_dir(scaup.home().join("tmp")).unwrap();
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let (askpass, _) = scaup.askpass(&Answers::login(&sshd).vault(PASSWORD));
        let mount = scaup
            .mount_through(&proxy, &sshd, "")
            .args(["--vault", "Vault", "--timeout", "120"])
            .args(arguments)
            .askpass(&askpass)
            .env("TMPDIR", scaup.home().join("tmp"));
        let mount = as_wanted(mount).start();
        Self { mount, scaup, proxy, sshd }
    }

    fn vault(&self) -> PathBuf {
        self.mount.join("Vault")
    }

    /// Writes, saves again as editors do, renames, reads.
    fn work(&self) {
        let folder = self.vault().join(format!("{NAME} folder"));
        fs::create_dir(&folder).unwrap();
        let (document, new) = (folder.join(format!("{NAME}.txt")), folder.join(format!("{NAME}.new")));
        fs::write(&document, filled_with(WRITTEN)).unwrap();
        fs::write(&new, filled_with(SAVED)).unwrap();
        fs::rename(&new, &document).unwrap();
        File::open(&document).unwrap().sync_all().unwrap();
        assert_eq!(fs::read_to_string(&document).unwrap(), filled_with(SAVED));
        fs::write(folder.join("read"), filled_with(READ)).unwrap();
        File::open(folder.join("read")).unwrap().sync_all().unwrap();
    }

    /// The connection is lost in the middle of work, and restored.
    fn lose_the_connection(&self) {
        let mut file = File::create(self.vault().join(format!("{NAME}.lost"))).unwrap();
        file.write_all(filled_with(WRITTEN).as_bytes()).unwrap();
        self.proxy.cut();
        file.write_all(filled_with(WRITTEN).as_bytes()).unwrap();
        eventually("it is connected again", SOON, || {
            let status = self.scaup.status();
            status["mounts"][0]["state"] == "connected" && status["mounts"][0]["counters"]["reconnects"] == 1
        });
        file.sync_all().unwrap();
    }

    /// A file is damaged on the server, and `status` says so.
    fn damage(&self) {
        let file = self.vault().join(format!("{NAME}.damaged"));
        fs::write(&file, filled_with(WRITTEN)).unwrap();
        File::open(&file).unwrap().sync_all().unwrap();
        let content = self.sshd.home().join("Vault/d");
        let newest = crate::support::tree(&content)
            .into_keys()
            .map(|path| content.join(path))
            .filter(|path| path.is_file())
            .max_by_key(|path| {
                fs::metadata(path).unwrap().ctime_nsec() + fs::metadata(path).unwrap().ctime() * 1_000_000_000
            })
            .unwrap();
        let stored = File::options().write(true).open(newest).unwrap();
        stored.write_all_at(&[0; 4096], 50_000).unwrap();
        stored.set_modified(std::time::SystemTime::now() + Duration::from_secs(10)).unwrap();
        eventually("the damage is met", SOON, || fs::read(&file).is_err());
        assert!(
            self.scaup.status()["mounts"][0]["errors"].to_string().contains(NAME),
            "the user is told its name"
        );
    }
}

/// The only log of a home directory.
fn log_in(home: &Path) -> PathBuf {
    let paths = fs::read_dir(home.join("state/scaup")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let log = logs.next().unwrap();
    assert_eq!(logs.next(), None);
    log
}

#[test]
fn a_session_leaves_nothing_readable_on_either_disk_and_nothing_in_what_processes_show() {
    let session = Session::begin();
    session.work();
    session.lose_the_connection();
    session.damage();
    let (home, pid) = (session.scaup.home(), session.mount.daemon());
    let totp_secret = fs::read(session.sshd.home().join("../totp_secret")).unwrap();
    let keys = raw_keys(&session.sshd.home().join("Vault"));
    let secrets: [(&str, &[u8]); 6] = [
        ("password", PASSWORD.as_bytes()),
        ("passphrase", PASSPHRASE.as_bytes()),
        ("TOTP secret", totp_secret.trim_ascii()),
        ("encryption key", &keys.master[..32]),
        ("MAC key", &keys.master[32..]),
        ("wrapping key", &keys.wrapping),
    ];
    let clear: [(&str, &[u8]); 4] = [
        ("name", NAME.as_bytes()),
        ("written", WRITTEN.as_bytes()),
        ("saved", SAVED.as_bytes()),
        ("read", READ.as_bytes()),
    ];
    let all = [&secrets[..], &clear].concat();

    for file in ["cmdline", "environ"] {
        let shown = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!shown.is_empty());
        assert_eq!(found(&shown, &all), [""; 0], "{file}");
    }
    let status = ends_with(&session.scaup, 0, ["status", "--json"]);
    assert_eq!(found(status.as_bytes(), &secrets), [""; 0], "{status}");
    let said = session.mount.said().as_bytes();
    assert_eq!(found(said, &all), [""; 0], "what mount said");

    // The answers are where this test keeps them for the program that types them.
    assert!(!files_with(&home.join("answers"), &secrets).is_empty(), "the search is blind");
    for directory in ["config", "state", "run", "tmp", ".ssh", "Scaup"].map(|name| home.join(name)) {
        if directory.exists() {
            assert_eq!(files_with(&directory, &all), [""; 0], "on this machine");
        }
    }
    let log = log_in(home);
    assert!(!fs::read(log).unwrap().is_empty(), "there is no log to be searched");
    assert_eq!(files_with(&session.sshd.home(), &all), [""; 0], "on the server");
    session.mount.unmount(&session.scaup);
    assert_eq!(files_with(&home.join("state"), &all), [""; 0], "in the log, at the end");
}

#[test]
fn with_log_names_the_log_says_what_had_trouble() {
    let session = Session::begin_with(&["--log-names"]);
    session.damage();
    let logged = files_with(&session.scaup.home().join("state"), &[("name", NAME.as_bytes())]);
    assert_eq!(logged.len(), 1, "{logged:?}");
    session.mount.unmount(&session.scaup);
}

/// What is in a process's memory for good: what is on its way there is given some time to go.
fn left_in_memory(pid: u32, canaries: &[(&str, &[u8])]) -> std::collections::BTreeMap<String, Vec<String>> {
    let mut left = in_memory(pid, canaries);
    for _ in 0..50 {
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        left = in_memory(pid, canaries);
    }
    left
}

#[test]
fn after_lock_the_daemons_memory_holds_no_key_password_name_or_content() {
    let session = Session::begin();
    session.work();
    let pid = session.mount.daemon();
    let keys = raw_keys(&session.sshd.home().join("Vault"));
    let canaries: [(&str, &[u8]); 9] = [
        ("encryption key", &keys.master[..32]),
        ("MAC key", &keys.master[32..]),
        ("wrapping key", &keys.wrapping),
        ("password", PASSWORD.as_bytes()),
        ("passphrase", PASSPHRASE.as_bytes()),
        ("name", NAME.as_bytes()),
        ("written", WRITTEN.as_bytes()),
        ("saved", SAVED.as_bytes()),
        ("read", READ.as_bytes()),
    ];
    let before = in_memory(pid, &canaries);
    for name in ["encryption key", "MAC key", "read", "name"] {
        assert!(before.contains_key(name), "the search is blind: {before:#?}");
    }
    ends_with(&session.scaup, 0, ["lock"]);
    // The library's one buffer for requests holds the last write until the next one of that size.
    fs::write(session.mount.join("plain"), vec![b'.'; 4 << 20]).unwrap();
    let left = left_in_memory(pid, &canaries);
    assert!(left.is_empty(), "{left:#?}");
    session.mount.unmount(&session.scaup);
}

#[test]
fn while_the_machine_sleeps_the_daemons_memory_holds_no_key_of_a_vault_whatever_the_road_does() {
    for road in ["works", "cut", "silent", "slow"] {
        let bus = Bus::start();
        let logind = Logind::on(&bus);
        let session = Session::begin_as(&[], |mount| mount.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address()));
        session.work();
        eventually("the next sleep is delayed", SOON, || logind.delays() == 1);
        match road {
            "works" => {}
            "cut" => {
                session.proxy.refuse();
                session.proxy.cut();
            }
            "silent" => session.proxy.freeze(),
            _ => session.proxy.delay(Duration::from_secs(3)),
        }
        let pid = session.mount.daemon();
        let keys = raw_keys(&session.sshd.home().join("Vault"));
        let canaries: [(&str, &[u8]); 5] = [
            ("encryption key", &keys.master[..32]),
            ("MAC key", &keys.master[32..]),
            ("wrapping key", &keys.wrapping),
            ("password", PASSWORD.as_bytes()),
            ("name", NAME.as_bytes()),
        ];
        let before = in_memory(pid, &canaries);
        assert!(before.contains_key("encryption key"), "the search is blind: {before:#?}");
        let began = Instant::now();
        logind.sleep();
        // At this moment the machine stops.
        let left = in_memory(pid, &canaries);
        assert!(began.elapsed() < Duration::from_secs(6), "{road}: {:?}", began.elapsed());
        assert!(left.is_empty(), "{road}: {left:#?}");
        session.proxy.accept();
        session.proxy.thaw();
        session.proxy.delay(Duration::ZERO);
        session.mount.unmount(&session.scaup);
    }
}

#[test]
fn at_any_level_the_log_holds_no_name_without_log_names_and_never_a_secret() {
    const PLAIN: &str = "canary-plain-93b0e5d7c1a64f28";
    for log_names in [false, true] {
        let session = Session::begin_as(if log_names { &["--log-names"] } else { &[] }, |mount| {
            mount.env("SCAUP_LOG", "trace").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full")
        });
        session.work();
        symlink(NAME, session.vault().join("link")).unwrap();
        fs::write(session.mount.join(PLAIN), READ).unwrap();
        session.damage();
        ends_with(&session.scaup, 0, ["lock"]);
        let state = session.scaup.home().join("state");
        session.mount.unmount(&session.scaup);
        // Libraries log bytes as lists of numbers.
        let numbers = |text: &str| format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_owned();
        let secrets = [PASSWORD, PASSPHRASE, WRITTEN, SAVED, READ];
        let names = [NAME, PLAIN];
        let both = |texts: &[&str]| -> Vec<String> {
            texts.iter().flat_map(|text| [(*text).to_owned(), numbers(text)]).collect()
        };
        let found_of = |texts: &[&str]| {
            let texts = both(texts);
            let canaries: Vec<(&str, &[u8])> = texts.iter().map(|text| (&**text, text.as_bytes())).collect();
            files_with(&state, &canaries)
        };
        assert_eq!(found_of(&secrets), [""; 0], "{log_names}");
        assert_eq!(found_of(&names).is_empty(), !log_names, "{:?}", found_of(&names));
        assert!(!files_with(&state, &[("a line", b" INFO scaup"), ("a line", b"DEBUG scaup")]).is_empty());
    }
}

#[test]
fn after_lock_nothing_is_left_of_what_programs_still_have_open() {
    let session = Session::begin();
    let (vault, pid) = (session.vault(), session.mount.daemon());
    let canary = |what: &str| format!("canary-{what}-6d1f0b93e8a7c254");
    let [folder, listed, below, target, removed, kept, busy] =
        ["folder", "listed", "below", "target", "removed", "kept", "busy"].map(canary);
    let [stored, unsent, changed] = ["stored", "unsent", "changed"].map(canary);
    let at = vault.join(&folder);
    fs::create_dir_all(at.join(&below)).unwrap();
    for n in 0..5 {
        fs::write(at.join(format!("{listed}{n}")), &kept).unwrap();
        fs::write(at.join(&below).join(format!("{below}{n}")), &kept).unwrap();
        fs::write(at.join(format!("{removed}{n}")), &kept).unwrap();
    }
    symlink(&target, at.join("link")).unwrap();
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new(&target));
    session.damage();
    // Open directories, one in the other, each read in part; a program that works in one.
    let open = [File::open(&at).unwrap(), File::open(at.join(&below)).unwrap()];
    let goes_on = |directory: &File| {
        // As the kernel hands names out: too few bytes for all of them.
        let mut space = [MaybeUninit::uninit(); 256];
        RawDir::new(directory, &mut space).next().unwrap().map(drop)
    };
    assert!(open.iter().all(|directory| goes_on(directory).is_ok()));
    let mut program = Command::new("sleep").arg("300").current_dir(at.join(&below)).spawn().unwrap();
    // Files that are open: one with its name, and those that have lost theirs, with content that is stored, changed, or
    // nowhere else.
    let new = || File::options().read(true).write(true).create(true).truncate(true).to_owned();
    let named = new().open(at.join(&busy)).unwrap();
    named.write_all_at(stored.as_bytes(), 0).unwrap();
    named.sync_all().unwrap();
    let nameless: Vec<File> =
        [(&stored, true, None), (&stored, true, Some(&changed)), (&unsent, false, None)]
            .into_iter()
            .map(|(content, is_stored, change)| {
                let file = new().open(at.join(&removed)).unwrap();
                file.write_all_at(filled_with(content).as_bytes(), 0).unwrap();
                if is_stored {
                    file.sync_all().unwrap();
                }
                fs::remove_file(at.join(&removed)).unwrap();
                if let Some(change) = change {
                    file.write_all_at(filled_with(change).as_bytes(), 0).unwrap();
                }
                file
            })
            .collect();
    for n in 0..5 {
        assert_eq!(fs::read_to_string(at.join(format!("{listed}{n}"))).unwrap(), kept);
    }
    for n in 0..5 {
        fs::remove_file(at.join(format!("{removed}{n}"))).unwrap();
    }

    let all = [&folder, &listed, &below, &target, &removed, &kept, &busy, &stored, &unsent, &changed];
    let mut canaries: Vec<(&str, &[u8])> = all.iter().map(|text| (&***text, text.as_bytes())).collect();
    canaries.push(("what status tells", NAME.as_bytes()));
    let before = in_memory(pid, &canaries);
    assert_eq!(before.len(), canaries.len(), "the search is blind: {:?}", before.keys());
    ends_with(&session.scaup, 0, ["lock"]);

    for (directory, name) in open.iter().zip([&listed, &below]) {
        assert_eq!(goes_on(directory), Err(Errno::IO));
        let name = format!("{name}0");
        assert!(openat(directory, &name, OFlags::RDONLY, Mode::empty()).is_err(), "{name}");
        assert!(statat(directory, &name, AtFlags::empty()).is_err(), "{name}");
    }
    for file in nameless.iter().chain([&named]) {
        assert_eq!(file.read_at(&mut [0; 64], 0).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(file.write_at(b"more", 0).unwrap_err().raw_os_error(), Some(5));
    }
    let status = session.scaup.status()["mounts"][0].to_string();
    assert!(!status.contains(NAME) && !status.contains("canary"), "{status}");
    // The library's one buffer for requests holds the last write until the next one of that size.
    fs::write(session.mount.join("plain"), vec![b'.'; 4 << 20]).unwrap();
    let left = left_in_memory(pid, &canaries);
    assert!(left.is_empty(), "{left:#?}");
    program.kill().unwrap();
    program.wait().unwrap();
    drop((open, named, nameless));
    session.mount.unmount(&session.scaup);
}

#[test]
fn ssh_keys_are_in_one_piece_of_locked_memory_and_with_forget_key_nowhere() {
    for kind in [KeyKind::Ed25519, KeyKind::Rsa2048, KeyKind::EcdsaP256] {
        let sshd = Sshd::key_only().key(kind).passphrase(PASSPHRASE).start();
        let scaup = scaup();
        let open = scaup.home().join("open");
        fs::copy(sshd.key().path(), &open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o600)).unwrap();
        run(Command::new("ssh-keygen").args(["-q", "-p", "-P", PASSPHRASE, "-N", "", "-f"]).arg(&open));
        let numbers = numbers_of(&open);
        let names: Vec<String> = (0..numbers.len()).map(|n| format!("{kind:?}, part {n}")).collect();
        let mut canaries: Vec<(&str, &[u8])> =
            names.iter().zip(&numbers).map(|(name, number)| (&**name, &**number)).collect();
        canaries.push(("passphrase", PASSPHRASE.as_bytes()));
        for forgets in [true, false] {
            let arguments: &[&str] = if forgets { &["--forget-key"] } else { &[] };
            let mount = scaup
                .mount_on(&sshd, "")
                .args(["--no-vaults"])
                .args(arguments)
                .answering(&Answers::login(&sshd))
                .start();
            fs::read_dir(mount.path()).unwrap().for_each(drop);
            if forgets {
                let left = left_in_memory(mount.daemon(), &canaries);
                assert!(left.is_empty(), "{left:#?}");
            } else {
                // Other copies may be on their way out.
                eventually("it is in one piece of memory, and that is locked", SOON, || {
                    let at = addresses_of(mount.daemon(), &numbers[0]);
                    let elsewhere = in_memory(mount.daemon(), &canaries).len() > numbers.len();
                    at.len() == 1 && is_locked(mount.daemon(), at[0]) && !elsewhere
                });
            }
            mount.unmount(&scaup);
        }
    }
}

#[test]
fn keys_are_in_locked_memory_while_a_vault_is_open() {
    let drive = Drive::mounted();
    let keys = raw_keys(&drive.on_server("Vault")).master;
    let pid = drive.mount.daemon();
    // Both keys in a row are only where they are kept.
    let places = addresses_of(pid, &keys);
    assert_eq!(places.len(), 1, "{places:x?}");
    assert!(is_locked(pid, places[0]), "not locked");
    drive.unmount();
}

/// The program, run by [`NOBODY`], who is asked for a vault's password.
struct OthersMount {
    _scaup: Scaup,
    front_end: std::process::Child,
    answer: PathBuf,
    daemon: u32,
    _program: tempfile::TempDir,
}

impl OthersMount {
    fn begin() -> Self {
        let program = tempfile::tempdir().unwrap();
        let copy = program.path().join("scaup");
        fs::copy(env!("CARGO_BIN_EXE_scaup"), &copy).unwrap();
        fs::set_permissions(program.path(), Permissions::from_mode(0o755)).unwrap();
        let scaup = Scaup::new(&copy);
        let home = scaup.home();
        Fixture::unpack("empty-gcm").copy_vault_to(&home.join("Vault"));
        let answer = home.join("answer");
        run(Command::new("mkfifo").arg(&answer));
        let askpass = home.join("askpass");
        fs::write(&askpass, format!("#!/bin/sh\nexec cat '{}'\n", answer.display())).unwrap();
        fs::set_permissions(&askpass, Permissions::from_mode(0o755)).unwrap();
        run(Command::new("chown").args(["-hR", &format!("{NOBODY}:{NOBODY}")]).arg(home));
        let mut command = scaup.command();
        command.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").args(["mount"]).arg(home);
        command.args(["--vault", "Vault"]).uid(NOBODY).gid(NOBODY).current_dir(home);
        let front_end = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut daemon = None;
        eventually("somebody is asked", SOON, || {
            let mut status = scaup.command();
            let output = status.args(["status", "--json"]).uid(NOBODY).gid(NOBODY).output().unwrap();
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            daemon = status["mounts"][0]["pid"].as_u64();
            status["mounts"][0]["state"] == "waiting_for_answer"
        });
        let daemon = u32::try_from(daemon.unwrap()).unwrap();
        Self { _scaup: scaup, front_end, answer, daemon, _program: program }
    }

    /// Both processes that hear secrets.
    fn processes(&self) -> [u32; 2] {
        [self.daemon, self.front_end.id()]
    }
}

impl Drop for OthersMount {
    fn drop(&mut self) {
        // Without its front end the daemon gives up; the program that asks ends when nobody is left who could answer.
        self.front_end.kill().unwrap();
        self.front_end.wait().unwrap();
        drop(File::options().read(true).write(true).open(&self.answer).unwrap());
        let daemon = PathBuf::from(format!("/proc/{}", self.daemon));
        eventually("the daemon ends", SOON, || !daemon.exists());
    }
}

fn reads(user: u32, path: &str) -> bool {
    let mut head = Command::new("head");
    head.args(["-c", "1", path]).uid(user).gid(user).stdout(Stdio::null()).stderr(Stdio::null());
    head.status().unwrap().success()
}

#[test]
fn no_other_program_of_the_user_looks_into_the_processes_and_they_dump_no_core() {
    let own = OthersMount::begin();
    let mut other = Command::new("sleep").arg("60").uid(NOBODY).gid(NOBODY).spawn().unwrap();
    for pid in own.processes() {
        for file in ["environ", "maps"] {
            let path = |pid: u32| format!("/proc/{pid}/{file}");
            assert!(reads(NOBODY, &path(other.id())), "the user may look into other processes");
            assert!(!reads(NOBODY, &path(pid)), "{} of {pid}", path(pid));
        }
        let mut open = Command::new("sh");
        open.args(["-c", &format!("exec 3< /proc/{pid}/mem")]).uid(NOBODY).gid(NOBODY).stderr(Stdio::null());
        assert!(!open.status().unwrap().success(), "memory of {pid}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Opens the way to a directory to everybody.
fn open_the_way_to(home: &Path, directory: &str) {
    for path in [home.to_path_buf(), home.join(directory)] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn other_users_get_neither_into_the_mount_nor_to_the_daemon() {
    let drive = Drive::mounted();
    let home = drive.scaup.home();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let socket = socket(&drive.scaup);
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&home.join("run/scaup")), 0o700);
    assert_eq!(mode(&home.join("state/scaup")), 0o700);
    let log = log_in(home);
    assert_eq!(mode(&log), 0o600);

    fs::write(drive.plain().join("open"), "x").unwrap();
    fs::set_permissions(drive.plain().join("open"), Permissions::from_mode(0o644)).unwrap();
    open_the_way_to(home, "mnt");
    assert!(reads(0, drive.plain().join("open").to_str().unwrap()));
    assert!(!reads(NOBODY, drive.plain().join("open").to_str().unwrap()));

    // Even with every door on the way open, the daemon looks at who it is.
    open_the_way_to(home, "run");
    fs::set_permissions(home.join("run/scaup"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let ask = |user: u32| {
        let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                      s.sendall(b'{\"Hello\":{\"major\":1,\"minor\":0}}\\n\"Status\"\\n')\n\
                      replies=s.makefile()\nreplies.readline()\nsys.stdout.write(replies.readline()[:99])";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(&socket).uid(user).gid(user).output().unwrap()
    };
    assert!(said(&ask(0)).contains("Status"));
    assert!(!said(&ask(NOBODY)).contains("Status"), "{}", said(&ask(NOBODY)));
    drive.unmount();
}

#[test]
fn a_file_that_the_server_makes_a_link_leads_nowhere_outside_its_vault() {
    let drive = Drive::mounted_with(&["--attr-timeout", "0"]);
    let secret = drive.scaup.home().join("secret");
    fs::write(&secret, "of this machine").unwrap();
    fs::create_dir(drive.vault().join("deep")).unwrap();
    let targets = [
        (secret.clone(), "invoice"),
        (PathBuf::from("../plain/inbox"), "minutes"),
        (drive.plain().join("inbox"), "plan"),
        (PathBuf::from("../../plain/inbox"), "deep/notes"),
    ];
    for (number, (target, name)) in targets.iter().enumerate() {
        let file = drive.store(name, b"written here");
        let mail = drive.store(&format!("mail {number}"), target.as_os_str().as_bytes());
        drive.make_link_of(&file, &mail);
        let here = drive.vault().join(name);
        assert!(fs::symlink_metadata(&here).unwrap().is_symlink(), "{name} is a link");
        let refused = [
            fs::read_link(&here).map(drop),
            fs::read_to_string(&here).map(drop),
            fs::write(&here, WRITTEN),
            File::options().append(true).open(&here).map(drop),
        ];
        for result in refused {
            let errno = result.unwrap_err().raw_os_error();
            assert_eq!(errno, Some(rustix::io::Errno::PERM.raw_os_error()), "{name}");
        }
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "of this machine");
    assert_eq!(fs::read_dir(drive.on_server("plain")).unwrap().count(), 0, "nothing is written in clear");
    drive.unmount();
}

/// What a server may do to a vault's modes, and to its owners: everything.
fn open_on_the_server(drive: &Drive) {
    let script = "chown 65534:65534 Vault; find Vault -type d -exec chmod 1777 {} +; find Vault -type f -exec chmod 6777 {} +";
    crate::support::shell(&drive.sshd.home(), script);
}

/// A file system call of a user; returns whether it succeeded.
fn does(user: u32, script: &str, path: &Path) -> bool {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(path)
        .uid(user)
        .gid(user)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell.status().unwrap().success()
}

#[test]
fn what_others_may_do_in_a_vault_is_not_the_servers_to_say() {
    let actions = [
        "ls \"$1\"",
        "cat \"$1/dir/file\"",
        "echo x >> \"$1/dir/file\"",
        "stat \"$1/dir\"",
        "echo x > \"$1/new\"",
        "rm -f \"$1/dir/file\" && test ! -e \"$1/dir/file\"",
        "\"$1/dir/file\"",
    ];
    let may = |drive: &Drive| actions.map(|action| does(NOBODY, action, &drive.vault()));
    for (options, others, rights) in [
        ("allow_other", 0, [false; 7]),
        ("allow_other,idmap=none", 0, [false; 7]),
        ("allow_other,umask=022", 0o055, [true, true, false, true, false, false, false]),
    ] {
        let drive = Drive::mounted_with(&["-o", options, "--attr-timeout", "0"]);
        open_the_way_to(drive.scaup.home(), "mnt");
        fs::create_dir(drive.vault().join("dir")).unwrap();
        fs::write(drive.vault().join("dir/file"), "#!/bin/sh\n").unwrap();
        File::open(drive.vault().join("dir/file")).unwrap().sync_all().unwrap();
        // In plain places the server decides.
        let plain = drive.plain().join("file");
        fs::write(&plain, "x").unwrap();
        for (mode, is_shown) in [(0o644, true), (0o600, false)] {
            File::open(&plain).unwrap().sync_all().unwrap();
            fs::set_permissions(drive.on_server("plain/file"), Permissions::from_mode(mode)).unwrap();
            let is_read = does(NOBODY, "cat \"$1\"", &plain);
            assert_eq!(is_read, is_shown, "{options}: {mode:o}");
        }
        let modes = || {
            ["", "dir", "dir/file"]
                .map(|name| fs::metadata(drive.vault().join(name)).unwrap().mode() & 0o7077)
        };
        let directory = others;
        let shown = [directory, directory, others & 0o066];
        assert_eq!(modes(), shown, "{options}");
        assert_eq!(may(&drive), rights, "{options}");
        open_on_the_server(&drive);
        assert_eq!(modes(), shown, "{options}: whatever the server shows");
        assert_eq!(may(&drive), rights, "{options}: whatever the server shows");
        // The owner's rights are kept, and the server's other bits left as they are.
        let script = drive.vault().join("dir/file");
        fs::set_permissions(&script, Permissions::from_mode(0o500)).unwrap();
        assert_eq!(fs::metadata(&script).unwrap().mode() & 0o700, 0o500);
        let stored = crate::support::shell(
            &drive.on_server("Vault"),
            "find d -type f ! -name 'dir*.c9r' -printf '%m\\n'",
        );
        assert!(stored.lines().all(|mode| mode == "6577"), "{stored}");
        drive.unmount();
    }
}

#[test]
fn whose_rights_a_program_runs_with_is_not_the_servers_to_say() {
    let drive = Drive::mounted_with(&["--attr-timeout", "0"]);
    for directory in [drive.vault(), drive.plain()] {
        fs::write(directory.join("program"), "x").unwrap();
        File::open(directory.join("program")).unwrap().sync_all().unwrap();
        fs::create_dir(directory.join("shared")).unwrap();
    }
    crate::support::shell(&drive.sshd.home(), "find Vault plain -exec chmod 6775 {} +");
    for directory in [drive.vault(), drive.plain()] {
        for name in ["program", "shared"] {
            assert_eq!(fs::metadata(directory.join(name)).unwrap().mode() & 0o7777, 0o775, "{name}");
        }
    }
    // Who changes what is shown leaves alone what is not.
    fs::set_permissions(drive.plain().join("shared"), Permissions::from_mode(0o1770)).unwrap();
    assert_eq!(fs::metadata(drive.on_server("plain/shared")).unwrap().mode() & 0o7777, 0o7770);
    drive.unmount();
}

#[test]
fn a_directory_for_sockets_or_logs_that_others_planted_is_not_used() {
    let scaup = scaup();
    let home = scaup.home();
    let elsewhere = home.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for (planted, arguments) in
        [("run/scaup", &["status"][..]), ("state/scaup", &["mount", elsewhere.to_str().unwrap()])]
    {
        let planted = home.join(planted);
        let refused = |why: &str| {
            let said = ends_with(&scaup, 1, arguments);
            assert!(said.contains("does not belong to you alone"), "{why}: {said}");
            assert!(fs::read_dir(&elsewhere).unwrap().next().is_none(), "{why}");
        };
        symlink(&elsewhere, &planted).unwrap();
        refused("a link");
        fs::remove_file(&planted).unwrap();
        fs::create_dir(&planted).unwrap();
        chown(&planted, Some(NOBODY), Some(NOBODY)).unwrap();
        refused("somebody else's");
        chown(&planted, Some(0), Some(0)).unwrap();
        fs::set_permissions(&planted, Permissions::from_mode(0o777)).unwrap();
        refused("open to everybody");
        fs::remove_dir(&planted).unwrap();
    }
}

#[test]
fn a_runtime_directory_that_is_not_the_users_alone_is_refused() {
    let scaup = scaup();
    let run = scaup.home().join("run");
    let refused = |why: &str| {
        for arguments in [&["status"][..], &["mount", scaup.home().to_str().unwrap()]] {
            let said = ends_with(&scaup, 1, arguments);
            assert!(
                said.contains("XDG_RUNTIME_DIR") && said.contains(run.to_str().unwrap()),
                "{why}: {said}"
            );
        }
        assert!(fs::read_dir(&run).unwrap().next().is_none(), "{why}");
    };
    chown(&run, Some(NOBODY), Some(NOBODY)).unwrap();
    refused("somebody else's");
    chown(&run, Some(0), Some(0)).unwrap();
    for mode in [0o777, 0o1777, 0o770] {
        fs::set_permissions(&run, Permissions::from_mode(mode)).unwrap();
        refused("others can write to it");
    }
    fs::remove_dir(&run).unwrap();
    fs::DirBuilder::new().mode(0o700).create(scaup.home().join("elsewhere")).unwrap();
    symlink(scaup.home().join("elsewhere"), &run).unwrap();
    refused("a link");
    fs::remove_file(&run).unwrap();
    fs::create_dir(&run).unwrap();
    ends_with(&scaup, 0, ["status"]);
}

#[test]
fn a_link_in_a_logs_place_is_not_written_through() {
    let scaup = scaup();
    let target = scaup.home().join("target");
    let logs = scaup.home().join("state/scaup");
    fs::write(&target, "as it was").unwrap();
    fs::DirBuilder::new().mode(0o700).create(&logs).unwrap();
    let served = scaup.home().join("served");
    fs::create_dir(&served).unwrap();
    symlink(&target, logs.join("served.log")).unwrap();
    let said = ends_with(&scaup, 1, ["mount", served.to_str().unwrap()]);
    assert!(said.contains("served.log"), "{said}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "as it was");
}

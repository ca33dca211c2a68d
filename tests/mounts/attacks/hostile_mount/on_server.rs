//! The same adversary on a real server, below the kernel's mount.
//!
//! `ADVERSARY_SEED` and `ADVERSARY_MOUNT_STEPS` ask for other games, or longer ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use scaup::remote::Remote;
use scaup::remote::local::LocalRemote;
use scaup_rig::{Answers, Fixture, Mount, Scaup, Sshd, eventually};

use super::adversary::Trace;
use super::attacker::{Aim, Attacker, ends};
use super::programs::{CANARY, DIRECTORIES, SPARED, content, directory, name};
use crate::support::{PASSWORD, said, scaup, write_synced};
use scaup_rig::dice::{Dice, from_environment};

/// Longer than between two looks at a displaced vault, and than names and attributes are believed here.
const A_WHILE: Duration = Duration::from_millis(1100);

/// How long it may take until a vault that is back is shown again.
const SOON: Duration = Duration::from_secs(20);

/// What the server's log is called.
const LOG: &str = "log";

fn has_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

/// Everything at or below a directory of the server that has the canary in its name or content.
fn in_clear(at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![at.to_path_buf()];
    while let Some(at) = waiting.pop() {
        let kind = fs::symlink_metadata(&at).unwrap().file_type();
        let content = if kind.is_dir() {
            waiting.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if kind.is_symlink() {
            fs::read_link(&at).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            fs::read(&at).unwrap()
        };
        if has_canary(at.as_os_str().as_bytes()) || has_canary(&content) {
            found.push(at);
        }
    }
    found
}

/// How a program goes about it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the path of a file, to its content or to be rid of it.
    Content,
    /// By a path, to what has names.
    Names,
    /// By what it has open, or to have it open.
    Held,
}

/// What a program did.
struct Worked {
    what: String,
    way: Way,
    done: io::Result<()>,
}

struct Game {
    dice: Dice,
    trace: Trace,
    runtime: tokio::runtime::Runtime,
    server: Sshd,
    /// Where the server notes each path that it is asked for, even if nothing is there: the file `log` in a directory
    /// of its own, since no user may append to another's file in `/tmp` itself (`fs.protected_regular`).
    heard: tempfile::TempDir,
    attacker: Attacker,
    scaup: Scaup,
    mount: Option<Mount>,
    attr_timeout: u64,
    vault: String,
    is_unlocked: bool,
    files: Vec<File>,
    directories: Vec<File>,
    spared: Vec<u8>,
    /// How often a program had what it asked for by a path in the vault, and was told that the vault is not in its
    /// place.
    done: u64,
    closed: u64,
    /// Old states of the server.
    copies: tempfile::TempDir,
    other: tempfile::TempDir,
}

impl Game {
    fn start(seed: u64, aim: Aim, vault: &str, attr_timeout: u64) -> Self {
        let mut dice = Dice::new(seed);
        let heard = tempfile::tempdir().unwrap();
        let log = heard.path().join(LOG);
        File::create(&log).unwrap();
        fs::set_permissions(heard.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
        let verbose = format!("/usr/lib/openssh/sftp-server -e -l VERBOSE 2>>{}", log.display());
        let server = Sshd::key_only().subsystem(&verbose).start();
        let home = server.home();
        let at = home.join(vault);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        Fixture::unpack("empty-gcm").copy_vault_to(&at);
        fs::create_dir(home.join("plain")).unwrap();
        let other = tempfile::tempdir().unwrap();
        Fixture::unpack("ctrmac8").copy_vault_to(&other.path().join("Vault"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let open = |at: &Path| -> Arc<dyn Remote> { Arc::new(LocalRemote::open(at).unwrap()) };
        let attacker = runtime.block_on(Attacker::new(open(&home), open(other.path()), aim, vault));
        server.give(&home);
        let head =
            format!("on a server: ADVERSARY_SEED={seed}: {aim:?}, {vault}, --attr-timeout {attr_timeout}");
        let spared = content(seed, &mut dice);
        let mut game = Self {
            dice,
            trace: Trace::new(head),
            runtime,
            server,
            heard,
            attacker,
            scaup: scaup(),
            mount: None,
            attr_timeout,
            vault: vault.to_owned(),
            is_unlocked: false,
            files: Vec::new(),
            directories: Vec::new(),
            spared,
            done: 0,
            closed: 0,
            copies: tempfile::tempdir().unwrap(),
            other,
        };
        game.mount_anew();
        write_synced(&game.in_vault(SPARED), &game.spared);
        game.runtime.block_on(game.attacker.spare(&game.vault));
        for directory in DIRECTORIES {
            fs::create_dir(game.in_vault(directory)).unwrap();
        }
        game.remember(0);
        game
    }

    fn mounted(&self) -> &Mount {
        self.mount.as_ref().unwrap()
    }

    fn in_vault(&self, name: &str) -> PathBuf {
        self.mounted().join(&self.vault).join(name)
    }

    fn mount_anew(&mut self) {
        self.files.clear();
        self.directories.clear();
        // What can't be saved any more is given up.
        if let Some(mount) = self.mount.take() {
            let ended = self.scaup.run(["unmount", "--force", mount.path().to_str().unwrap()]);
            assert!(ended.status.success(), "{}", said(&ended));
        }
        let mount = self
            .scaup
            .mount_on(&self.server, "")
            .answering(&Answers::default().vault(PASSWORD))
            .args(["--vault", &self.vault, "--attr-timeout", &self.attr_timeout.to_string()]);
        self.mount = Some(mount.start());
        self.is_unlocked = true;
    }

    fn remember(&mut self, number: u64) {
        let copy = self.copies.path().join(number.to_string());
        // What is not finished may be gone meanwhile.
        let _ = Command::new("cp").arg("-a").arg(self.server.home()).arg(&copy).output().unwrap();
        self.attacker.remember(Arc::new(LocalRemote::open(&copy).unwrap()));
    }

    fn attack(&mut self, number: u64) {
        let deed = self.runtime.block_on(self.attacker.act(&mut self.dice, &self.vault));
        self.server.give(&self.server.home());
        self.trace.add(format!("{number}: the attacker {deed}"));
        // The server is then another one for good, and nothing can be expected of the mount in the end.
        assert!(self.attacker.not_put_back().is_empty(), "{:?}", self.attacker.not_put_back());
    }

    fn step(&mut self, number: u64) {
        if self.dice.one_in(if self.attacker.has_taken() { 3 } else { 8 }) {
            self.attack(number);
            // What is back is noticed, and what is believed for a while is asked for again; but not always before
            // something else happens.
            let is_back = !self.attacker.has_taken();
            if (is_back || self.attr_timeout > 0) && self.dice.one_in(2) {
                std::thread::sleep(A_WHILE);
            }
        }
        match self.dice.below(50) {
            0 => self.lock(number),
            1..16 if !self.is_unlocked => self.unlock(number),
            1 => {
                self.runtime.block_on(self.attacker.put_all_back());
                self.mount_anew();
                self.trace.add(format!("{number}: mounts anew"));
            }
            2 => self.rename_above(number),
            3 => self.remember(number),
            4..7 => {
                let note = format!("plain/note {}", self.dice.below(3));
                let note = self.mounted().join(note);
                let done = fs::write(note, "clear");
                self.trace.add(format!("{number}: works in a plain place: {done:?}"));
            }
            _ => self.work(number),
        }
        self.check(number);
    }

    fn work(&mut self, number: u64) {
        let is_closed = self.runtime.block_on(self.attacker.is_closed(&self.vault));
        let is_judged = is_closed && self.attr_timeout == 0 && self.is_unlocked;
        let has_unsaved = is_judged && self.has_unsaved();
        let Worked { what, way, done } = self.everyday(number);
        self.trace.add(format!("{number}: a program {what}: {done:?}"));
        if way == Way::Held {
            return;
        }
        self.done += u64::from(done.is_ok());
        self.closed += u64::from(is_closed && done.is_err());
        if is_judged {
            match done {
                // What is not saved yet is in memory: programs may go on with it, and the server learns nothing of
                // that.
                Ok(()) => assert!(
                    way == Way::Content && has_unsaved,
                    "nothing works in a vault that is not in its place: {what}"
                ),
                Err(error) => {
                    assert_ne!(
                        error.kind(),
                        io::ErrorKind::NotFound,
                        "it is not taken for an empty one: {what}"
                    );
                }
            }
        }
    }

    fn has_unsaved(&self) -> bool {
        let unsaved = self.scaup.status().pointer("/mounts/0/unsaved/files").and_then(|files| files.as_u64());
        unsaved.expect("the status tells of unsaved files") > 0
    }

    fn everyday(&mut self, number: u64) -> Worked {
        let dice = &mut self.dice;
        let mount = self.mount.as_ref().unwrap();
        let at = format!("{}{}", self.vault, directory(dice));
        let file = format!("{at}/{}", name(dice));
        let there = mount.join(&file);
        let text = content(number, dice);
        let (what, way, done) = match dice.below(20) {
            0..4 => (format!("saves {file}"), Way::Content, fs::write(there, text)),
            4 => {
                let opened = OpenOptions::new().append(true).open(there);
                (
                    format!("appends to {file}"),
                    Way::Content,
                    opened.and_then(|mut file| file.write_all(&text)),
                )
            }
            5 => {
                let opened = OpenOptions::new().write(true).open(there);
                (format!("truncates {file}"), Way::Content, opened.and_then(|file| file.set_len(3)))
            }
            6 | 7 => (format!("reads {file}"), Way::Content, fs::read(there).map(drop)),
            8 | 9 => {
                let to = format!("{}{}/{}", self.vault, directory(dice), name(dice));
                // Nobody asks a file system to rename a file to itself.
                let way = if to == file { Way::Content } else { Way::Names };
                (format!("renames {file} to {to}"), way, fs::rename(there, mount.join(to)))
            }
            10 => {
                let made = format!("{at}/~Qx7~D");
                (format!("makes {made}"), Way::Names, fs::create_dir(mount.join(&made)))
            }
            11 => {
                let gone = format!("{at}/~Qx7~D");
                (format!("removes {gone}"), Way::Names, fs::remove_dir(mount.join(&gone)))
            }
            12 => (format!("removes {file}"), Way::Content, fs::remove_file(there)),
            13 => (format!("links {file}"), Way::Names, symlink("~Qx7~t", there)),
            14 | 15 => {
                let listed = fs::read_dir(mount.join(&at))
                    .and_then(|names| names.collect::<io::Result<Vec<_>>>().map(drop));
                (format!("lists {at}"), Way::Names, listed)
            }
            16 => {
                let opened =
                    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(there);
                let held = opened.map(|file| self.files.push(file));
                ("opens a file".to_owned(), Way::Held, held)
            }
            17 => {
                let opened = File::open(mount.join(&at)).map(|directory| self.directories.push(directory));
                ("opens a directory".to_owned(), Way::Held, opened)
            }
            18 if !self.directories.is_empty() => {
                let index = dice.below(self.directories.len());
                let opened = &self.directories[index];
                // As `openat` would.
                let below = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string());
                let done = fs::write(below.join(name(dice)), text);
                if dice.one_in(2) {
                    self.directories.remove(index);
                }
                ("creates by an open directory".to_owned(), Way::Held, done)
            }
            _ if !self.files.is_empty() => {
                let index = dice.below(self.files.len());
                let mut file = self.files.remove(index);
                let done = if dice.one_in(2) { file.write_all(&text) } else { file.sync_all() };
                if dice.one_in(2) {
                    self.files.push(file);
                }
                ("works on an open file".to_owned(), Way::Held, done)
            }
            _ => ("nothing".to_owned(), Way::Held, Ok(())),
        };
        Worked { what, way, done }
    }

    /// This mount renames the vault or a directory above it, while that is in its place.
    fn rename_above(&mut self, number: u64) {
        let end = self.dice.pick(&ends(&self.vault));
        let from = self.vault[..end].to_owned();
        let to = format!("{from}'");
        if self.attacker.has_taken() || from.ends_with("''") {
            return;
        }
        let done = fs::rename(self.mounted().join(&from), self.mounted().join(&to));
        self.trace.add(format!("{number}: a program renames {from} to {to}: {done:?}"));
        if done.is_ok() {
            self.vault = format!("{to}{}", &self.vault[end..]);
        }
    }

    fn command(&self, command: &str, more: &[&str]) -> std::process::Output {
        let arguments = [command, self.mounted().path().to_str().unwrap(), self.vault.as_str()];
        self.scaup.run(arguments.iter().chain(more))
    }

    fn unlock(&mut self, number: u64) {
        let password = self.scaup.command_answering(PASSWORD);
        let output = self.command("unlock", &["--vault-password-command", &password]);
        self.trace.add(format!("{number}: unlocks {}: {}", self.vault, said(&output)));
        self.is_unlocked |= output.status.success();
    }

    fn lock(&mut self, number: u64) {
        /// `scaup` could not save everything.
        const UNSAVED: i32 = 8;
        let output = self.command("lock", &[]);
        self.trace.add(format!("{number}: locks {}: {}", self.vault, said(&output)));
        if !output.status.success() {
            let unsaved = output.status.code() == Some(UNSAVED);
            assert!(unsaved || !self.is_unlocked, "an unlocked vault can't be locked: {}", said(&output));
            return;
        }
        self.is_unlocked = false;
        for mut file in self.files.drain(..) {
            let mut read = Vec::new();
            // It may fail, and has to.
            let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut read));
            assert!(!has_canary(&read), "an open file is readable after lock");
        }
        let names = |at: &Path| -> Vec<u8> {
            let listed = fs::read_dir(at).into_iter().flatten().flatten();
            listed.flat_map(|entry| entry.file_name().as_bytes().to_vec()).collect()
        };
        for directory in self.directories.drain(..) {
            let at = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
            assert!(!has_canary(&names(&at)), "an open directory is readable after lock");
        }
        assert!(!has_canary(&names(&self.in_vault(""))), "names are readable after lock");
        assert!(fs::read(self.in_vault(SPARED)).is_err(), "a file is readable after lock");
    }

    fn check(&self, number: u64) {
        let heard = fs::read(self.heard.path().join(LOG)).unwrap();
        assert!(!heard.is_empty(), "the server notes what it is asked for");
        if has_canary(&heard) {
            let lines = String::from_utf8_lossy(&heard);
            let lines: Vec<&str> = lines.lines().filter(|line| line.contains(CANARY)).collect();
            panic!("in clear to the server: {lines:#?}");
        }
        if number.is_multiple_of(10) {
            let found = in_clear(&self.server.home());
            assert!(found.is_empty(), "in clear on the server: {found:?}");
            let status = self.scaup.status();
            let vaults = status.pointer("/mounts/0/vaults").unwrap().as_array().unwrap();
            let is_listed =
                vaults.iter().any(|vault| vault["path"] == self.vault && vault["state"] == "unlocked");
            assert_eq!(is_listed, self.is_unlocked, "{vaults:?}");
        }
    }

    fn end(mut self) {
        self.runtime.block_on(self.attacker.put_all_back());
        assert!(self.attacker.not_put_back().is_empty(), "{:?}", self.attacker.not_put_back());
        if !self.is_unlocked {
            eventually("the vault is back", SOON, || {
                self.unlock(u64::MAX);
                self.is_unlocked
            });
        }
        let mut last = None;
        eventually("the vault is read again", SOON, || {
            let read = fs::read(self.in_vault(SPARED)).map(|read| read == self.spared);
            let is_right = matches!(read, Ok(true));
            let read = format!("{read:?}");
            if last.as_ref() != Some(&read) {
                self.trace.add(format!("in the end {SPARED} is read, right or not: {read}"));
                last = Some(read);
            }
            is_right
        });
        eventually("the vault is written again", SOON, || fs::write(self.in_vault("~Qx7~z"), CANARY).is_ok());
        self.mount_anew();
        assert_eq!(fs::read(self.in_vault(SPARED)).unwrap(), self.spared);
        assert_eq!(fs::read(self.in_vault("~Qx7~z")).unwrap(), CANARY.as_bytes());
        self.check(0);
        let Self { mount, scaup, server, other, .. } = self;
        mount.unwrap().unmount(&scaup);
        drop((server, other));
    }
}

fn play(aim: Aim, vault: &str, attr_timeout: u64) {
    let seed = from_environment("ADVERSARY_SEED", 1) + attr_timeout;
    let mut game = Game::start(seed, aim, vault, attr_timeout);
    let steps = from_environment("ADVERSARY_MOUNT_STEPS", 150);
    for number in 0..steps {
        game.step(number);
    }
    // Where nothing works nothing leaks, either.
    assert!(game.done > steps / 20 && game.closed > steps / 20, "{} done, {} closed", game.done, game.closed);
    game.end();
}

#[test]
fn an_adversary_on_the_server_gets_nothing_in_clear() {
    play(Aim::Copies, "A/Vault", 0);
}

#[test]
fn an_adversary_on_the_server_gets_nothing_in_clear_from_what_is_believed_for_a_second() {
    play(Aim::Everything, "Vault", 1);
}

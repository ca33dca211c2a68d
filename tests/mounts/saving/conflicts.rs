//! Somebody else changes the vault meanwhile, as the Nextcloud client does: by renaming over encrypted files, making
//! conflicting copies of them, removing them, making something else of them. Both versions are kept, and the user is
//! told (design, data rule 4).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use scaup_rig::{Answers, Direction, Fixture, Mount, Proxy, Scaup, Sshd, eventually};

use crate::support::{Drive, PASSWORD, ends_with, noise, scaup};

const OURS: &str = "ours, as it is saved";
const THEIRS: &str = "their version, which is longer than ours";

/// A file of the mount and what the server has of it.
struct Letter {
    here: PathBuf,
    there: PathBuf,
    /// What the server gets to hold when somebody else saves theirs.
    theirs: Vec<u8>,
}

impl Letter {
    /// A letter whose first version is on the server, in the vault or in a plain directory.
    fn in_both(drive: &Drive) -> [Self; 2] {
        let plain = drive.plain().join("letter.txt");
        fs::write(&plain, "first version").unwrap();
        let plain = Self {
            here: plain,
            there: drive.on_server("plain/letter.txt"),
            theirs: THEIRS.as_bytes().to_vec(),
        };
        eventually("it is saved", Duration::from_secs(20), || plain.there.exists());
        [Self::in_vault(&drive.vault(), &drive.on_server("Vault")), plain]
    }

    /// A letter in a vault. Another machine's version of it is what this one saved once.
    fn in_vault(here: &Path, vault: &Path) -> Self {
        let here = here.join("letter.txt");
        let save = |content: &str| {
            let mut file = File::create(&here).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            file.sync_all().unwrap();
        };
        let before = encrypted(vault);
        save(THEIRS);
        let there = encrypted(vault).difference(&before).next().expect("it is on the server").clone();
        let theirs = fs::read(&there).unwrap();
        save("first version");
        Self { here, there, theirs }
    }

    /// The client in the container has fetched their version: it writes it beside, and renames it over.
    fn is_replaced_by_theirs(&self) {
        let temporary = self.there.with_file_name(".letter.~1a2b3c");
        fs::write(&temporary, &self.theirs).unwrap();
        give_as(&temporary, self.there.parent().unwrap());
        fs::rename(temporary, &self.there).unwrap();
    }

    /// Theirs has the name, and ours lies beside it.
    fn both_are_kept(&self, ours: &str, how: &str) {
        let directory = self.here.parent().unwrap();
        eventually("theirs is shown under the name", Duration::from_secs(20), || {
            fs::read_to_string(&self.here).is_ok_and(|content| content == THEIRS)
        });
        let copies = copies_in(directory);
        assert_eq!(copies.len(), 1, "{how}: {copies:?}");
        assert_eq!(fs::read_to_string(&copies[0]).unwrap(), ours, "{how}");
        fs::remove_file(&copies[0]).unwrap();
    }
}

/// The encrypted files of a vault.
fn encrypted(vault: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![vault.join("d")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".c9r") && name != "dirid.c9r" {
                found.insert(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    found
}

/// The one file that is there and was not `before`.
fn new_in(vault: &Path, before: &BTreeSet<PathBuf>) -> PathBuf {
    let now = encrypted(vault);
    let mut new = now.difference(before);
    let one = new.next().expect("something is new").clone();
    assert!(new.next().is_none());
    one
}

/// Gives `path` the owner of `like`.
fn give_as(path: &Path, like: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(like).unwrap();
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

fn copies_in(directory: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.to_string_lossy().contains("(conflicted copy ")).collect()
}

fn errors(scaup: &Scaup, kind: &str) -> Vec<String> {
    let status = scaup.status();
    let errors = status.pointer("/mounts/0/errors").unwrap().as_array().unwrap();
    let of_kind = errors.iter().filter(|error| error["kind"] == kind);
    of_kind.map(|error| error["message"].as_str().unwrap().to_owned()).collect()
}

/// Each way in which programs save, with what it does before somebody else comes in between.
#[derive(Debug, Clone, Copy)]
enum Saving {
    Truncating,
    /// Of what it has open already.
    Emptying,
    Cutting,
    InPlace,
    InPlaceAfterFsync,
    Appending,
    RenamingOver,
}

impl Saving {
    const ALL: [Self; 7] = [
        Self::Truncating,
        Self::Emptying,
        Self::Cutting,
        Self::InPlace,
        Self::InPlaceAfterFsync,
        Self::Appending,
        Self::RenamingOver,
    ];

    /// Saves, while `meanwhile` happens at the worst moment; returns what was saved.
    fn save(self, path: &Path, meanwhile: impl FnOnce()) -> String {
        match self {
            Self::Truncating => {
                let mut file = File::create(path).unwrap();
                file.write_all(OURS.as_bytes()).unwrap();
                meanwhile();
                file.sync_all().unwrap();
                OURS.to_owned()
            }
            Self::Emptying | Self::Cutting => {
                let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
                file.read_to_string(&mut String::new()).unwrap();
                meanwhile();
                if matches!(self, Self::Emptying) {
                    file.set_len(0).unwrap();
                    file.write_all_at(OURS.as_bytes(), 0).unwrap();
                } else {
                    file.set_len(5).unwrap();
                }
                file.sync_all().unwrap();
                if matches!(self, Self::Emptying) { OURS } else { "first" }.to_owned()
            }
            Self::InPlace | Self::InPlaceAfterFsync => {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                if matches!(self, Self::InPlaceAfterFsync) {
                    file.write_all_at(b"saved", 0).unwrap();
                    file.sync_all().unwrap();
                }
                meanwhile();
                file.write_all_at(b"OURS!", 6).unwrap();
                file.sync_all().unwrap();
                if matches!(self, Self::InPlace) { "first OURS!on" } else { "saved OURS!on" }.to_owned()
            }
            Self::Appending => {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                meanwhile();
                file.write_all(b", and more").unwrap();
                file.sync_all().unwrap();
                "first version, and more".to_owned()
            }
            Self::RenamingOver => {
                // An editor has it open, writes everything to a new file, and renames that.
                let mut open = File::open(path).unwrap();
                open.read_to_string(&mut String::new()).unwrap();
                let temporary = path.with_extension("new");
                let mut file = File::create(&temporary).unwrap();
                file.write_all(OURS.as_bytes()).unwrap();
                file.sync_all().unwrap();
                drop(file);
                meanwhile();
                fs::rename(&temporary, path).unwrap();
                assert!(!fs::exists(&temporary).unwrap());
                OURS.to_owned()
            }
        }
    }
}

#[test]
fn however_a_file_is_saved_both_versions_are_kept() {
    for how in Saving::ALL {
        let drive = Drive::mounted();
        for letter in Letter::in_both(&drive) {
            let ours = how.save(&letter.here, || letter.is_replaced_by_theirs());
            letter.both_are_kept(&ours, &format!("{how:?} {}", letter.here.display()));
        }
        assert_eq!(errors(&drive.scaup, "conflict").len(), 2, "{how:?}: {:#}", drive.scaup.status());
        drive.unmount();
    }
}

#[test]
fn however_a_file_is_saved_it_is_saved_when_nobody_else_did() {
    for how in Saving::ALL {
        let drive = Drive::mounted();
        for letter in Letter::in_both(&drive) {
            // What this machine does to the file itself is no conflict.
            fs::read(&letter.here).unwrap();
            File::options()
                .write(true)
                .open(&letter.here)
                .unwrap()
                .set_modified(std::time::UNIX_EPOCH)
                .unwrap();
            let ours = how.save(&letter.here, || ());
            assert_eq!(fs::read_to_string(&letter.here).unwrap(), ours, "{how:?}");
            assert_eq!(copies_in(letter.here.parent().unwrap()), Vec::<PathBuf>::new(), "{how:?}");
        }
        assert_eq!(errors(&drive.scaup, "conflict"), Vec::<String>::new());
        drive.unmount();
    }
}

#[test]
fn a_small_new_file_does_not_replace_one_that_somebody_made_meanwhile() {
    let drive = Drive::mounted();
    for letter in Letter::in_both(&drive) {
        fs::remove_file(&letter.here).unwrap();
        eventually("it is gone", Duration::from_secs(20), || !letter.there.exists());
        assert!(!letter.here.exists());
        let mut file = File::create(&letter.here).unwrap();
        file.write_all(OURS.as_bytes()).unwrap();
        letter.is_replaced_by_theirs();
        // It is saved behind the close.
        drop(file);
        eventually("ours is saved", Duration::from_secs(20), || {
            copies_in(letter.here.parent().unwrap()).len() == 1
        });
        letter.both_are_kept(OURS, "new");
    }
    drive.unmount();
}

#[test]
fn what_somebody_removed_meanwhile_is_there_again_as_it_is_saved_here() {
    for how in Saving::ALL {
        let drive = Drive::mounted();
        for letter in Letter::in_both(&drive) {
            let ours = how.save(&letter.here, || fs::remove_file(&letter.there).unwrap());
            let directory = letter.here.parent().unwrap();
            let saved: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(saved.len(), 1, "{how:?}: {saved:?}");
            assert_eq!(fs::read_to_string(&saved[0]).unwrap(), ours, "{how:?}");
            fs::remove_file(&saved[0]).unwrap();
        }
        drive.unmount();
    }
}

#[test]
fn what_somebody_removed_is_there_again_though_programs_here_saw_that_it_was_gone() {
    for how in Saving::ALL {
        // The kernel remembers what there is, and what there is not, for longer than this takes.
        let drive = Drive::mounted_with(&["--attr-timeout", "3600"]);
        for letter in Letter::in_both(&drive) {
            let ours = how.save(&letter.here, || {
                fs::remove_file(&letter.there).unwrap();
                // What waits to be saved is shown.
                if !matches!(how, Saving::Truncating) {
                    assert_eq!(File::open(&letter.here).unwrap_err().kind(), ErrorKind::NotFound, "{how:?}");
                    assert!(!letter.here.exists(), "{how:?}");
                }
                fs::read_dir(letter.here.parent().unwrap()).unwrap().for_each(drop);
            });
            eventually("it is there again", Duration::from_secs(20), || {
                fs::read_to_string(&letter.here).is_ok_and(|content| content == ours)
            });
        }
        drive.unmount();
    }
}

#[test]
fn what_somebody_made_a_directory_meanwhile_stays_one_beside_ours() {
    for how in Saving::ALL {
        let drive = Drive::mounted();
        for letter in Letter::in_both(&drive) {
            let directory = letter.here.parent().unwrap().to_path_buf();
            let ours = how.save(&letter.here, || {
                fs::remove_file(&letter.there).unwrap();
                fs::create_dir(&letter.there).unwrap();
                give_as(&letter.there, letter.there.parent().unwrap());
                fs::write(letter.there.join("in it"), "x").unwrap();
            });
            assert!(letter.there.join("in it").exists(), "{how:?}: what they made is left alone");
            let copies = copies_in(&directory);
            assert_eq!(copies.len(), 1, "{how:?}");
            assert_eq!(fs::read_to_string(&copies[0]).unwrap(), ours, "{how:?}");
        }
        drive.unmount();
    }
}

#[test]
fn what_is_saved_while_the_connection_is_lost_meets_theirs_afterwards() {
    for how in [Saving::Truncating, Saving::InPlace, Saving::Appending] {
        let (scaup, sshd) = (scaup(), Sshd::key_only().start());
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let mount = scaup
            .mount_through(&proxy, &sshd, "")
            .answering(&Answers::default().vault(PASSWORD))
            .args(["--vault", "Vault"])
            .start();
        let letter = Letter::in_vault(&mount.join("Vault"), &sshd.home().join("Vault"));
        let ours = how.save(&letter.here, || {
            proxy.cut();
            letter.is_replaced_by_theirs();
        });
        letter.both_are_kept(&ours, &format!("{how:?}"));
        mount.unmount(&scaup);
    }
}

/// A mount through a road that can be cut, with a large file in its vault and one beside it, and what each is on the
/// server.
fn with_large_files() -> (Scaup, Sshd, Proxy, Mount, [(PathBuf, PathBuf); 2]) {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let vault = sshd.home().join("Vault");
    Fixture::unpack("empty-gcm").copy_vault_to(&vault);
    fs::create_dir(sshd.home().join("plain")).unwrap();
    sshd.give(&sshd.home());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup
        .mount_through(&proxy, &sshd, "")
        .answering(&Answers::default().vault(PASSWORD))
        .args(["--vault", "Vault", "-o", "without=chunk-cache:kernel-cache"])
        .start();
    let before = encrypted(&vault);
    let [in_vault, plain] = [mount.join("Vault/large"), mount.join("plain/large")];
    for path in [&in_vault, &plain] {
        let mut file = File::create(path).unwrap();
        file.write_all(&noise(1, LARGE)).unwrap();
        file.sync_all().unwrap();
    }
    let there = encrypted(&vault).difference(&before).next().unwrap().clone();
    let plain_there = sshd.home().join("plain/large");
    (scaup, sshd, proxy, mount, [(in_vault, there), (plain, plain_there)])
}

const LARGE: usize = 3_000_000;

/// Another version takes the name of what is `there`: it begins in the same way, and is as long.
fn put_another_in_place_of(there: &Path) -> Vec<u8> {
    let mut theirs = fs::read(there).unwrap();
    for byte in theirs.iter_mut().skip(100) {
        *byte = byte.wrapping_add(1);
    }
    let temporary = there.with_file_name(".large.~1a2b3c");
    fs::write(&temporary, &theirs).unwrap();
    File::options().write(true).open(&temporary).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    give_as(&temporary, there.parent().unwrap());
    fs::rename(temporary, there).unwrap();
    theirs
}

#[test]
fn what_takes_the_name_while_changes_are_cut_off_is_not_written_into() {
    for unsent in [false, true] {
        let (scaup, _sshd, proxy, mount, files) = with_large_files();
        for (here, there) in &files {
            let file = OpenOptions::new().read(true).write(true).open(here).unwrap();
            // Some of it arrives and some not, or nothing does.
            if unsent {
                proxy.freeze()
            } else {
                proxy.rate(Direction::ToServer, Some(400_000))
            }
            let (written, theirs) = std::thread::scope(|scope| {
                let writer = scope.spawn(|| file.write_all_at(&noise(2, 40 * 32_768), 0));
                std::thread::sleep(Duration::from_millis(1500));
                proxy.cut();
                let theirs = put_another_in_place_of(there);
                if unsent {
                    proxy.thaw()
                } else {
                    proxy.rate(Direction::ToServer, None)
                }
                (writer.join().unwrap(), theirs)
            });
            let saved = file.sync_all();
            drop(file);
            eventually("it is known what became of it", Duration::from_secs(20), || {
                fs::metadata(here).is_ok_and(|metadata| metadata.len() == LARGE as u64)
            });
            assert!(
                fs::read(there).unwrap() == theirs,
                "{}, unsent {unsent}: theirs was changed; {written:?}, {saved:?}",
                here.display()
            );
        }
        // What was overwritten meanwhile is nowhere any more, so ours can't be put together: that is told, and left to
        // the user.
        assert_eq!(scaup.status()["mounts"][0]["unsaved"]["files"], 2, "{:#}", scaup.status());
        eventually("it is told of both", Duration::from_secs(20), || errors(&scaup, "unsaved").len() == 2);
        let told = errors(&scaup, "unsaved");
        assert!(told.iter().all(|error| error.contains("was replaced on the server")), "{told:?}");
        ends_with(&scaup, 0, ["unmount", "--force", mount.path().to_str().unwrap()]);
    }
}

#[test]
fn what_others_made_while_a_rename_waited_for_a_lost_server_is_kept() {
    let (scaup, sshd) = (scaup(), Sshd::key_only().start());
    let proxy = Proxy::start(sshd.host(), sshd.port());
    let mount = scaup.mount_through(&proxy, &sshd, "").start();
    let (from, to) = (mount.join("from"), mount.join("to"));
    let mut file = File::create(&from).unwrap();
    file.write_all(OURS.as_bytes()).unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert!(!fs::exists(&to).unwrap());
    proxy.refuse();
    proxy.cut();
    eventually("it is lost", Duration::from_secs(20), || {
        scaup.status()["mounts"][0]["state"] == "reconnecting"
    });
    std::thread::scope(|scope| {
        let renaming = scope.spawn(|| fs::rename(&from, &to));
        std::thread::sleep(Duration::from_secs(1));
        fs::write(sshd.home().join("to"), THEIRS).unwrap();
        proxy.accept();
        renaming.join().unwrap().unwrap();
    });
    assert_eq!(fs::read_to_string(sshd.home().join("to")).unwrap(), THEIRS);
    let copies = copies_in(&sshd.home());
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(fs::read_to_string(&copies[0]).unwrap(), OURS);
    mount.unmount(&scaup);
}

#[test]
fn what_takes_the_name_of_an_open_file_is_not_read_for_it_after_a_reconnection() {
    let (scaup, _sshd, proxy, mount, files) = with_large_files();
    for (here, there) in &files {
        let ours = noise(2, LARGE);
        let file = OpenOptions::new().read(true).write(true).open(here).unwrap();
        file.write_all_at(&ours, 0).unwrap();
        file.sync_all().unwrap();
        proxy.cut();
        put_another_in_place_of(there);
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let mut read = vec![0; 1000];
        let error = file.read_exact_at(&mut read, 1_000_000).expect_err("it is not there any more");
        assert_eq!(Errno::from_io_error(&error), Some(Errno::STALE), "{}", here.display());
    }
    mount.unmount(&scaup);
}

#[test]
fn a_copy_that_the_client_makes_is_shown_beside_and_ours_goes_on() {
    let drive = Drive::mounted_with(&["--attr-timeout", "1"]);
    let letter = Letter::in_vault(&drive.vault(), &drive.on_server("Vault"));
    let file = OpenOptions::new().read(true).write(true).open(&letter.here).unwrap();
    // As the client does it: what is there gets the copy's name, theirs comes under the old one.
    let stem = letter.there.to_str().unwrap().strip_suffix(".c9r").unwrap();
    fs::rename(&letter.there, format!("{stem} (conflicted copy 2026-11-25 101010).c9r")).unwrap();
    letter.is_replaced_by_theirs();
    let copy = drive.vault().join("letter (conflicted copy 2026-11-25 101010).txt");
    eventually("both are shown", Duration::from_secs(20), || {
        fs::read_to_string(&copy).is_ok_and(|content| content == "first version")
            && fs::read_to_string(&letter.here).is_ok_and(|content| content == THEIRS)
    });
    drop(file);
    // Alone, it keeps its name: nobody who removes the other once more takes it for that.
    fs::remove_file(&letter.there).unwrap();
    eventually("theirs is gone", Duration::from_secs(20), || !letter.here.exists());
    assert_eq!(fs::read_to_string(&copy).unwrap(), "first version");
    drive.unmount();
}

#[test]
fn a_directory_made_twice_shows_the_files_of_both() {
    let drive = Drive::mounted_with(&["--attr-timeout", "1"]);
    let vault = drive.on_server("Vault");
    let mut nodes = Vec::new();
    for name in ["project", "theirs"] {
        let before = encrypted(&vault);
        fs::create_dir(drive.vault().join(name)).unwrap();
        nodes.push(new_in(&vault, &before));
        let mut note = File::create(drive.vault().join(name).join("note")).unwrap();
        note.write_all(name.as_bytes()).unwrap();
        note.sync_all().unwrap();
    }
    // Two machines made `project`; the client keeps this one's node as a copy.
    let stem = nodes[0].to_str().unwrap().strip_suffix(".c9r").unwrap();
    let copy = PathBuf::from(format!("{stem} (conflicted copy 2026-11-25 101010).c9r"));
    fs::rename(&nodes[0], &copy).unwrap();
    fs::rename(&nodes[1], &nodes[0]).unwrap();
    let copy = drive.vault().join("project (conflicted copy 2026-11-25 101010)");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    eventually("both are shown", Duration::from_secs(20), || {
        read(copy.join("note")) == "project" && read(drive.vault().join("project/note")) == "theirs"
    });
    // Both are whole directories.
    for (path, content) in [(&copy, "project"), (&drive.vault().join("project"), "theirs")] {
        fs::write(path.join("more"), "more").unwrap();
        fs::rename(path.join("note"), path.join("renamed")).unwrap();
        assert_eq!(read(path.join("renamed")), content);
    }
    drive.unmount();
}

#[test]
fn what_vanishes_between_listing_and_opening_is_gone_and_nothing_else() {
    let drive = Drive::mounted();
    let vault = drive.on_server("Vault");
    let mut stored = Vec::new();
    for number in 0..20 {
        let before = encrypted(&vault);
        let mut file = File::create(drive.vault().join(format!("file {number}"))).unwrap();
        file.write_all(format!("content {number}").as_bytes()).unwrap();
        file.sync_all().unwrap();
        stored.push(new_in(&vault, &before));
        fs::create_dir(drive.vault().join(format!("dir {number}"))).unwrap();
    }
    let drive = drive.remounted();
    let listed: Vec<_> = fs::read_dir(drive.vault()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(listed.len(), 40);
    for path in stored.iter().step_by(2) {
        fs::remove_file(path).unwrap();
    }
    for number in 0..20 {
        let read = fs::read_to_string(drive.vault().join(format!("file {number}")));
        match number % 2 {
            0 => assert_eq!(read.unwrap_err().raw_os_error(), Some(Errno::NOENT.raw_os_error())),
            _ => assert_eq!(read.unwrap(), format!("content {number}")),
        }
    }
    // What is behind a directory may go as well.
    let nodes = encrypted(&vault);
    for node in nodes.iter().filter(|node| node.is_dir()) {
        fs::remove_dir_all(node).unwrap();
    }
    eventually("the directories are gone", Duration::from_secs(20), || {
        fs::read_dir(drive.vault()).is_ok_and(|entries| entries.count() == 10)
    });
    drive.unmount();
}

/// A mount with a vault that is unlocked and holds a file.
fn with_a_file() -> (Drive, Mount) {
    let drive = Drive::mounted_with(&["--attr-timeout", "1"]);
    let mut file = File::create(drive.vault().join("file")).unwrap();
    file.write_all(&noise(1, 200_000)).unwrap();
    file.sync_all().unwrap();
    let other = drive.mounted_again(&["--attr-timeout", "1"]);
    (drive, other)
}

/// An unlocked vault has its keys: what becomes of the files that held them shows in `status`, and in what the next
/// mount says.
#[test]
fn an_unlocked_vault_goes_on_whatever_becomes_of_its_config() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("its config is removed", |vault| fs::remove_file(vault.join("vault.cryptomator")).unwrap()),
        ("its masterkey is removed", |vault| fs::remove_file(vault.join("masterkey.cryptomator")).unwrap()),
        ("its config is garbage", |vault| fs::write(vault.join("vault.cryptomator"), "garbage").unwrap()),
        ("its masterkey is garbage", |vault| fs::write(vault.join("masterkey.cryptomator"), "{}").unwrap()),
        ("both are another vault's", |vault| {
            let other = Fixture::unpack("short36-gcm");
            for name in ["vault.cryptomator", "masterkey.cryptomator"] {
                fs::copy(other.vault().join(name), vault.join(name)).unwrap();
            }
        }),
    ];
    for (what, change) in changes {
        let (drive, other) = with_a_file();
        other.unmount(&drive.scaup);
        change(&drive.on_server("Vault"));
        std::thread::sleep(Duration::from_millis(1500));
        // Reading and writing go on with the keys that were unlocked.
        assert!(fs::read(drive.vault().join("file")).unwrap() == noise(1, 200_000), "{what}");
        fs::create_dir(drive.vault().join("dir")).unwrap();
        let mut new = File::create(drive.vault().join("dir/new")).unwrap();
        new.write_all(b"new").unwrap();
        new.sync_all().unwrap();
        drop(new);
        assert_eq!(fs::read_dir(drive.vault()).unwrap().count(), 2, "{what}");
        fs::read_dir(drive.mount.path()).unwrap().for_each(drop);
        eventually(what, Duration::from_secs(20), || {
            errors(&drive.scaup, "vault").iter().any(|error| error.contains("Vault"))
        });
        // Locked, it says why it does not open again.
        let name = drive.scaup.status()["mounts"][0]["name"].as_str().unwrap().to_owned();
        ends_with(&drive.scaup, 0, ["lock", &name, "Vault"]);
        assert!(!drive.vault().join("file").exists(), "{what}");
        let state = drive.scaup.status()["mounts"][0]["vaults"][0]["state"].clone();
        assert_eq!(state, "unsupported", "{what}");
        drive.unmount();
    }
}

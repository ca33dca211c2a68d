//! What OpenSSH is asked to put on its disk, and when: it notes each `fsync` that it is asked for.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use scaup_rig::{Answers, Fixture, Mount, Scaup, Sshd, eventually};

use crate::support::{PASSWORD, noise, scaup};

/// What the program that serves SFTP writes its log to. It runs as another user.
struct Log(tempfile::TempDir);

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("log")
    }

    /// The paths of which an `fsync` was asked for.
    fn synced(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path()).unwrap();
        let paths = log.lines().filter_map(|line| line.split_once("fsync \""));
        paths.map(|(_, path)| path.trim_end_matches('"').to_owned()).collect()
    }
}

/// A server that notes what it is asked for, with a file and a vault.
struct House {
    scaup: Scaup,
    sshd: Sshd,
    log: Log,
}

const PLACES: [&str; 2] = ["plain", "Vault"];

impl House {
    fn new() -> Self {
        let log = Log::new();
        let program = format!("/usr/lib/openssh/sftp-server -e -l VERBOSE 2>>{}", log.path().display());
        let sshd = Sshd::key_only().subsystem(&program).start();
        fs::create_dir(sshd.home().join("plain")).unwrap();
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let house = Self { scaup: scaup(), sshd, log };
        let mount = house.mount(&[]);
        PLACES
            .iter()
            .for_each(|place| fs::write(mount.join(place).join("letter"), noise(1, 300_000)).unwrap());
        mount.unmount(&house.scaup);
        house
    }

    fn mount(&self, options: &[&str]) -> Mount {
        let answers = Answers::default().vault(PASSWORD);
        let mount = self.scaup.mount_on(&self.sshd, "").answering(&answers).args(["--vault", "Vault"]);
        mount.args(options).start()
    }

    /// The file of the server that has the letter.
    fn stored(&self, place: &str) -> String {
        fn files(at: &Path) -> Vec<PathBuf> {
            let entries = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path());
            entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
        }
        let large = |path: &PathBuf| fs::metadata(path).unwrap().len() > 200_000;
        files(&self.sshd.home().join(place)).into_iter().find(large).unwrap().display().to_string()
    }

    /// Which of the letters were put on the disk since.
    fn synced_since(&self, before: usize) -> Vec<&'static str> {
        let synced = self.log.synced().split_off(before);
        PLACES.into_iter().filter(|place| synced.contains(&self.stored(place))).collect()
    }
}

/// Changes 100 bytes of each letter, as a database does; the files are open still.
fn change(mount: &Mount) -> Vec<File> {
    let letters = PLACES.iter().map(|place| {
        let letter = OpenOptions::new().write(true).open(mount.join(place).join("letter")).unwrap();
        letter.write_all_at(&noise(2, 100), 70_000).unwrap();
        letter
    });
    letters.collect()
}

#[test]
fn what_was_changed_inside_a_file_and_closed_is_put_on_the_disk_before_unmount_returns() {
    let house = House::new();
    let mount = house.mount(&[]);
    let before = house.log.synced().len();
    drop(change(&mount));
    mount.unmount(&house.scaup);
    assert_eq!(house.synced_since(before), PLACES);
}

#[test]
fn with_sync_on_close_it_is_put_on_the_disk_before_close_returns() {
    let house = House::new();
    let mount = house.mount(&["--sync-on-close"]);
    let before = house.log.synced().len();
    drop(change(&mount));
    assert_eq!(house.synced_since(before), PLACES);
    mount.unmount(&house.scaup);
}

#[test]
fn fsync_puts_a_file_and_its_name_on_the_disk_and_asks_once() {
    let house = House::new();
    let mount = house.mount(&[]);
    let before = house.log.synced().len();
    let letters = change(&mount);
    for letter in &letters {
        letter.sync_all().unwrap();
        letter.sync_all().unwrap();
    }
    assert_eq!(house.synced_since(before), PLACES);
    assert_eq!(house.log.synced().len(), before + 2, "{:?}", house.log.synced());
    drop(letters);
    let new = File::create(mount.join("plain/new")).unwrap();
    new.sync_all().unwrap();
    let directory = house.sshd.home().join("plain").display().to_string();
    drop(new);
    assert_eq!(house.log.synced().last(), Some(&directory));
    fs::create_dir(mount.join("plain/made")).unwrap();
    let before = house.log.synced().len();
    File::open(mount.join("plain")).unwrap().sync_all().unwrap();
    assert_eq!(house.log.synced().split_off(before), [directory]);
    mount.unmount(&house.scaup);
}

#[test]
fn what_was_closed_is_put_on_the_disk_soon() {
    let house = House::new();
    let mount = house.mount(&[]);
    let before = house.log.synced().len();
    drop(change(&mount));
    eventually("both are on the disk", Duration::from_secs(20), || house.synced_since(before) == PLACES);
    mount.unmount(&house.scaup);
}

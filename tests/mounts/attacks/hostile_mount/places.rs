//! A server that shows something else where a vault was unlocked, in this mount or in one before it: nothing of what
//! programs save there lies on it in clear.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use scaup_rig::{Answers, Fixture, Mount, MountCommand, Scaup, Sshd, eventually};
use serde_json::Value;

use crate::support::terminal::{PATIENCE, Terminal};
use crate::support::{PASSWORD, ends_with, said, scaup, status, write_synced};

const SCAUP: &str = env!("CARGO_BIN_EXE_scaup");

const VAULTS: [&str; 2] = ["Vault", "above/Vault"];

/// What no byte on the server may show.
const CANARY: &str = "canary-in-clear";

/// What a server can put in the place of a directory, which is kept aside: its name, and how it is put there.
type Exchange = (&'static str, fn(&Path, &Path));

const EXCHANGES: [Exchange; 6] = [
    ("nothing", |_, _| {}),
    ("a file", |place, _| fs::write(place, "").unwrap()),
    ("a plain directory", |place, _| fs::create_dir_all(place.join("Vault")).unwrap()),
    ("a link to a plain directory", |place, _| symlink(place.with_file_name("plain"), place).unwrap()),
    ("a link to where it is now", |place, aside| symlink(aside, place).unwrap()),
    ("a vault with other keys", |place, _| Fixture::unpack("short36-ctrmac").copy_vault_to(place)),
];

struct Server {
    sshd: Sshd,
    scaup: Scaup,
}

impl Server {
    fn start() -> Self {
        let sshd = Sshd::key_only().start();
        fs::create_dir_all(sshd.home().join("above")).unwrap();
        for vault in VAULTS {
            Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join(vault));
        }
        for plain in ["plain/Vault", "above/plain/Vault"] {
            fs::create_dir_all(sshd.home().join(plain)).unwrap();
        }
        sshd.give(&sshd.home());
        Self { sshd, scaup: scaup() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.sshd.home().join(path)
    }

    fn give(&self) {
        self.sshd.give(&self.sshd.home());
    }

    fn mount(&self) -> MountCommand<'_> {
        self.scaup.mount_on(&self.sshd, "").args(["--attr-timeout", "0"])
    }

    /// A mount with both vaults unlocked.
    fn unlocked(&self) -> Mount {
        let vaults = VAULTS.iter().flat_map(|vault| ["--vault", vault]);
        self.mount().answering(&Answers::default().vault(PASSWORD)).args(vaults).start()
    }

    /// Moves a directory of the server aside and puts something else in its place.
    fn exchange(&self, place: &str, with: fn(&Path, &Path)) {
        let (place, aside) = (self.path(place), self.aside(place));
        fs::rename(&place, &aside).unwrap();
        with(&place, &aside);
        self.give();
    }

    fn put_back(&self, place: &str) {
        let (path, aside) = (self.path(place), self.aside(place));
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&path).unwrap(),
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        fs::rename(aside, path).unwrap();
    }

    fn aside(&self, place: &str) -> PathBuf {
        self.path(place).with_file_name(".aside")
    }

    fn assert_nothing_in_clear(&self, what: &str) {
        let search = format!("grep -rl {CANARY} . ; find . -name '*{CANARY}*'");
        let mut command = Command::new("sh");
        command.args(["-c", &search]).current_dir(self.sshd.home());
        let found = command.output().unwrap();
        assert_eq!(said(&found), "", "{what}");
    }
}

/// Everything that programs do in a directory, of which nothing may succeed.
fn everything_fails(directory: &Path, what: &str) {
    let file = directory.join(CANARY);
    let tried: [(&str, std::io::Result<()>); 6] = [
        ("list", fs::read_dir(directory).map(drop)),
        ("write", fs::write(&file, CANARY)),
        ("read", fs::read(directory.join("before")).map(drop)),
        ("append", fs::OpenOptions::new().append(true).open(directory.join("before")).map(drop)),
        ("mkdir", fs::create_dir(&file)),
        ("link", symlink(CANARY, &file)),
    ];
    for (deed, result) in tried {
        let error = result.err().unwrap_or_else(|| panic!("{what}: {deed} succeeded"));
        assert_eq!(error.raw_os_error(), Some(5), "{what}: {deed}: {error}");
    }
    // Nor is the place itself free for something else.
    for made in [fs::create_dir(directory), symlink("plain", directory), fs::remove_dir(directory)] {
        assert!(made.is_err(), "{what}");
    }
}

fn vault_of<'a>(status: &'a Value, path: &str) -> &'a Value {
    let vaults = status.as_array().unwrap();
    vaults.iter().find(|vault| vault["path"] == path).unwrap_or_else(|| panic!("{path}: {vaults:?}"))
}

#[test]
fn an_unlocked_vault_stays_one_whatever_is_put_in_its_place() {
    let server = Server::start();
    let mount = server.unlocked();
    for vault in VAULTS {
        write_synced(&mount.join(vault).join("before"), CANARY);
    }
    for (place, vault) in [("Vault", "Vault"), ("above", "above/Vault")] {
        for (shown, with) in EXCHANGES {
            let what = format!("{shown} for {place}");
            server.exchange(place, with);
            everything_fails(&mount.join(vault), &what);
            server.assert_nothing_in_clear(&what);
            let vaults = status(&server.scaup, "/vaults");
            assert_eq!(vault_of(&vaults, vault)["state"], "unlocked", "{what}");
            let reason = vault_of(&vaults, vault)["reason"].as_str().unwrap_or_default().to_owned();
            assert!(reason.contains("the server"), "{what}: {reason}");
            server.put_back(place);
            eventually(&format!("{what}: it is back"), PATIENCE, || {
                fs::read(mount.join(vault).join("before")).is_ok_and(|read| read == CANARY.as_bytes())
            });
        }
    }
    mount.unmount(&server.scaup);
    server.assert_nothing_in_clear("after unmounting");
}

#[test]
fn what_is_open_in_a_vault_does_not_follow_what_is_put_in_its_place() {
    let server = Server::start();
    let mount = server.unlocked();
    let directory = fs::File::open(mount.join("above/Vault")).unwrap();
    server.exchange("above", |place, _| symlink(place.with_file_name("plain"), place).unwrap());
    let held = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory)));
    let error = fs::write(held.join(CANARY), CANARY).unwrap_err();
    assert!(error.kind() != ErrorKind::PermissionDenied, "{error}");
    drop(directory);
    server.assert_nothing_in_clear("through a directory that is open");
    server.put_back("above");
    eventually("the vault is back", PATIENCE, || fs::read_dir(mount.join("above/Vault")).is_ok());
    mount.unmount(&server.scaup);
}

#[test]
fn the_keys_of_a_vault_that_is_not_in_its_place_are_found_and_locked() {
    let server = Server::start();
    let mount = server.unlocked();
    server.exchange("Vault", |place, _| symlink("plain", place).unwrap());
    everything_fails(&mount.join("Vault"), "before locking");
    let name = status(&server.scaup, "/name");
    ends_with(&server.scaup, 0, ["lock", name.as_str().unwrap(), "Vault"]);
    let vaults = status(&server.scaup, "/vaults");
    assert_eq!(vault_of(&vaults, "Vault")["state"], "locked");
    // What the server shows there is not shown after locking, either: a program that goes on saving would save in
    // clear.
    everything_fails(&mount.join("Vault"), "after locking");
    server.put_back("Vault");
    eventually("the locked vault is back", PATIENCE, || fs::read_dir(mount.join("Vault")).is_ok());
    assert!(fs::write(mount.join("Vault").join(CANARY), CANARY).is_err(), "a locked vault is read-only");
    mount.unmount(&server.scaup);
    server.assert_nothing_in_clear("after locking");
}

#[test]
fn a_vault_that_was_unlocked_before_is_not_shown_as_a_plain_directory() {
    let server = Server::start();
    server.unlocked().unmount(&server.scaup);
    let markers: [Exchange; 2] = [
        ("a directory without marker files", |place, _| {
            fs::create_dir_all(place.join("d")).unwrap();
            fs::write(place.join("masterkey.cryptomator.bkup"), "").unwrap();
        }),
        ("another vault, with another id", |place, _| Fixture::unpack("short36-ctrmac").copy_vault_to(place)),
    ];
    for (shown, with) in EXCHANGES.into_iter().take(4).chain(markers) {
        for place in ["Vault", "above"] {
            let vault = if place == "above" { "above/Vault" } else { place };
            let what = format!("{shown} for {place}");
            server.exchange(place, with);
            let mount = server.mount().start();
            everything_fails(&mount.join(vault), &what);
            let vaults = status(&server.scaup, "/vaults");
            assert!(vault_of(&vaults, vault)["reason"].as_str().is_some(), "{what}: {vaults}");
            assert!(mount.said().contains("scaup forget"), "{what}: {}", mount.said());
            // It comes back without another mount.
            server.put_back(place);
            eventually(&format!("{what}: it is back"), PATIENCE, || fs::read_dir(mount.join(vault)).is_ok());
            mount.unmount(&server.scaup);
            server.assert_nothing_in_clear(&what);
        }
    }
}

#[test]
fn whoever_does_not_expect_a_vault_any_more_says_so() {
    let server = Server::start();
    server.unlocked().unmount(&server.scaup);
    server.exchange("Vault", |place, _| fs::create_dir(place).unwrap());
    let is_open = |mount: &Mount| fs::write(mount.join("Vault/plain"), "x").is_ok();

    let without_vaults = server.mount().args(["--no-vaults"]).start();
    assert!(is_open(&without_vaults));
    without_vaults.unmount(&server.scaup);

    let mount = server.mount().start();
    assert!(!is_open(&mount), "one mount without vaults has forgotten nothing");
    mount.unmount(&server.scaup);

    let forgotten = ends_with(&server.scaup, 0, ["forget", "--all"]);
    assert!(forgotten.contains("Vault of "), "{forgotten}");
    let mount = server.mount().start();
    assert!(is_open(&mount));
    mount.unmount(&server.scaup);
}

#[test]
fn a_person_at_a_terminal_is_asked_about_a_vault_that_is_missing() {
    let scaup = scaup();
    let directory = tempfile::tempdir().unwrap();
    let (target, mountpoint) = (directory.path().join("synced"), directory.path().join("mount"));
    fs::create_dir(&target).unwrap();
    Fixture::unpack("empty-gcm").copy_vault_to(&target.join("Vault"));
    let line = format!("{SCAUP} mount {} {}", target.display(), mountpoint.display());
    let unmount = || ends_with(&scaup, 0, [Path::new("unmount"), &mountpoint]);
    let mut terminal = Terminal::run(&scaup, &line);
    terminal.answer("Password for vault Vault: ", &format!("{PASSWORD}\n"));
    assert!(terminal.end().0.success());
    unmount();

    fs::rename(target.join("Vault"), directory.path().join("aside")).unwrap();
    fs::create_dir(target.join("Vault")).unwrap();
    for (answer, is_open) in [("", false), ("y", false), ("yes", true)] {
        let mut terminal = Terminal::run(&scaup, &line);
        terminal.answer("keep its path blocked: ", &format!("{answer}\n"));
        let (ended, screen) = terminal.end();
        assert!(ended.success(), "{screen}");
        assert_eq!(fs::write(mountpoint.join("Vault/plain"), "x").is_ok(), is_open, "{answer:?}: {screen}");
        unmount();
    }
    // The answer counts for good.
    let (ended, screen) = Terminal::run(&scaup, &line).end();
    assert!(ended.success(), "{screen}");
    assert!(fs::write(mountpoint.join("Vault/plain"), "x").is_ok());
    unmount();
}

#[test]
fn a_vault_that_this_mount_renamed_is_expected_under_its_new_name() {
    let server = Server::start();
    let mount = server.unlocked();
    fs::rename(mount.join("above"), mount.join("beyond")).unwrap();
    fs::write(mount.join("beyond/Vault").join(CANARY), CANARY).unwrap();
    server.assert_nothing_in_clear("after renaming");
    mount.unmount(&server.scaup);

    // Neither is the old name closed, nor the new one open.
    fs::create_dir(server.path("above")).unwrap();
    server.exchange("beyond/Vault", |place, _| fs::create_dir(place).unwrap());
    let mount = server.mount().start();
    fs::write(mount.join("above/plain"), "x").unwrap();
    everything_fails(&mount.join("beyond/Vault"), "the new name");
    mount.unmount(&server.scaup);
    server.assert_nothing_in_clear("after mounting again");
}

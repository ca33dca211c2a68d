//! Removals that are answered before the server has done them: hidden at once, done in order, shown again if they fail.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use scaup_rig::{Answers, Fixture, Mount, Proxy, Scaup, Sshd, eventually};

use crate::support::{PASSWORD, names_in, scaup};

/// A vault and a plain directory, each with files `0` to `4` and an empty directory `empty`, on a server whose answers
/// can be held back.
struct Held {
    scaup: Scaup,
    mount: Mount,
    proxy: Proxy,
    sshd: Sshd,
}

impl Held {
    fn mounted(arguments: &[&str]) -> Self {
        let sshd = Sshd::key_only().start();
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        fs::create_dir(sshd.home().join("plain")).unwrap();
        sshd.give(&sshd.home());
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let scaup = scaup();
        let answers = Answers::login(&sshd).vault(PASSWORD);
        let mount = scaup
            .mount_through(&proxy, &sshd, "")
            .answering(&answers)
            // What is known stays known for as long as a busy machine takes.
            .args(["--vault", "Vault", "--attr-timeout", "60"])
            .args(arguments)
            .start();
        for directory in [mount.join("Vault"), mount.join("plain")] {
            for number in 0..5 {
                fs::write(directory.join(number.to_string()), "old").unwrap();
            }
            fs::create_dir(directory.join("empty")).unwrap();
        }
        let held = Self { scaup, mount, proxy, sshd };
        held.is_done();
        held
    }

    fn directories(&self) -> [std::path::PathBuf; 2] {
        [self.mount.join("Vault"), self.mount.join("plain")]
    }

    fn under_way(&self) -> u64 {
        self.unsaved("removals")
    }

    fn unsaved(&self, member: &str) -> u64 {
        self.scaup.status()["mounts"][0]["unsaved"][member].as_u64().unwrap_or(0)
    }

    /// Waits until everything is on the server.
    fn is_done(&self) {
        eventually("everything is on the server", Duration::from_secs(30), || {
            self.unsaved("removals") + self.unsaved("files") == 0
        });
    }

    /// The errors that `status` tells, newest first, as `KIND: MESSAGE`.
    fn errors(&self) -> Vec<String> {
        let status = self.scaup.status();
        let errors = status["mounts"][0]["errors"].as_array().unwrap();
        errors.iter().map(|error| format!("{}: {}", error["kind"], error["message"])).collect()
    }

    /// The files and directories that hold the encrypted root of the vault on the server.
    fn root_content(&self) -> std::path::PathBuf {
        let fan_out = fs::read_dir(self.sshd.home().join("Vault/d")).unwrap();
        let contents = fan_out.flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
        let mut contents: Vec<_> = contents.map(|entry| entry.unwrap().path()).collect();
        contents.sort_by_key(|path| std::cmp::Reverse(fs::read_dir(path).unwrap().count()));
        contents.swap_remove(0)
    }

    /// Lets the server go on while `work` waits for it.
    fn while_it_goes_on(&self, work: impl FnOnce()) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(500));
                self.proxy.thaw();
            });
            work();
        });
    }

    fn unmount(self) {
        self.mount.unmount(&self.scaup);
    }
}

#[test]
fn a_name_is_gone_at_once_and_stays_gone_however_it_is_asked_for() {
    let held = Held::mounted(&[]);
    for directory in held.directories() {
        fs::remove_file(directory.join("0")).unwrap();
        held.proxy.freeze();
        fs::remove_file(directory.join("1")).unwrap();
        fs::remove_file(directory.join("2")).unwrap();
        fs::remove_dir(directory.join("empty")).unwrap();
        assert_eq!(held.under_way(), 3);
        assert_eq!(names_in(&directory), ["3", "4"]);
        assert_eq!(fs::metadata(directory.join("1")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::remove_file(directory.join("2")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(
            fs::rename(directory.join("2"), directory.join("x")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        held.proxy.thaw();
        held.is_done();
        assert_eq!(names_in(&directory), ["3", "4"]);
    }
    assert_eq!(held.errors(), [""; 0]);
    held.unmount();
}

#[test]
fn a_name_can_be_used_again_at_once() {
    let held = Held::mounted(&[]);
    held.proxy.delay(Duration::from_millis(100));
    for directory in held.directories() {
        for number in 0..5 {
            fs::remove_file(directory.join(number.to_string())).unwrap();
        }
        fs::remove_dir(directory.join("empty")).unwrap();
        fs::write(directory.join("4"), "new").unwrap();
        fs::create_dir(directory.join("3")).unwrap();
        std::os::unix::fs::symlink("4", directory.join("empty")).unwrap();
        fs::write(directory.join("other"), "moved").unwrap();
        fs::rename(directory.join("other"), directory.join("2")).unwrap();
        held.is_done();
        assert_eq!(names_in(&directory), ["2", "3", "4", "empty"]);
    }
    assert_eq!(held.errors(), [""; 0]);
    let Held { scaup, mount, proxy, sshd } = held;
    proxy.delay(Duration::ZERO);
    mount.unmount(&scaup);
    let mount = scaup
        .mount_on(&sshd, "")
        .answering(&Answers::default().vault(PASSWORD))
        .args(["--vault", "Vault"])
        .start();
    for directory in [mount.join("Vault"), mount.join("plain")] {
        assert_eq!(names_in(&directory), ["2", "3", "4", "empty"]);
        assert_eq!(fs::read(directory.join("empty")).unwrap(), b"new");
        assert_eq!(fs::read(directory.join("2")).unwrap(), b"moved");
        assert!(fs::metadata(directory.join("3")).unwrap().is_dir());
    }
    mount.unmount(&scaup);
}

#[test]
fn what_the_server_refuses_to_remove_is_shown_again_and_named() {
    let held = Held::mounted(&[]);
    let on_server = [held.root_content(), held.sshd.home().join("plain")];
    for (directory, on_server) in held.directories().into_iter().zip(on_server) {
        fs::remove_file(directory.join("0")).unwrap();
        fs::set_permissions(&on_server, Permissions::from_mode(0o555)).unwrap();
        held.proxy.freeze();
        fs::remove_file(directory.join("1")).unwrap();
        assert_eq!(names_in(&directory), ["2", "3", "4", "empty"]);
        held.proxy.thaw();
        held.is_done();
        assert_eq!(names_in(&directory), ["1", "2", "3", "4", "empty"]);
        assert_eq!(fs::read(directory.join("1")).unwrap(), b"old");
        let shown = directory.strip_prefix(held.mount.path()).unwrap().join("1");
        let newest = held.errors().swap_remove(0);
        assert!(newest.contains("not_removed") && newest.contains(&*shown.to_string_lossy()), "{newest}");
        // The next one is asked for before it is answered.
        assert_eq!(fs::remove_file(directory.join("2")).unwrap_err().kind(), ErrorKind::PermissionDenied);
        fs::set_permissions(&on_server, Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(directory.join("2")).unwrap();
    }
    held.unmount();
}

#[test]
fn a_directory_that_somebody_else_put_something_in_comes_back() {
    let held = Held::mounted(&[]);
    let plain = held.mount.join("plain");
    assert_eq!(names_in(&plain.join("empty")), [""; 0]);
    fs::remove_file(plain.join("0")).unwrap();
    fs::write(held.sshd.home().join("plain/empty/theirs"), "theirs").unwrap();
    fs::remove_dir(plain.join("empty")).unwrap();
    held.is_done();
    assert_eq!(fs::read(plain.join("empty/theirs")).unwrap(), b"theirs");
    assert!(held.errors()[0].contains("plain/empty"), "{:?}", held.errors());
    held.unmount();
}

#[test]
fn what_must_wait_for_them_does() {
    let held = Held::mounted(&[]);
    for directory in held.directories() {
        fs::remove_file(directory.join("0")).unwrap();
        let remove = |name: &str| {
            held.proxy.freeze();
            fs::remove_file(directory.join(name)).unwrap();
            assert_eq!(held.under_way(), 1);
        };
        remove("1");
        held.while_it_goes_on(|| fs::File::open(&directory).unwrap().sync_all().unwrap());
        assert_eq!(held.under_way(), 0, "fsync of the directory did not wait");
        remove("2");
        // What is removed later would change the time again.
        let past = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000));
        held.while_it_goes_on(|| fs::File::open(&directory).unwrap().set_times(past).unwrap());
        assert_eq!(held.under_way(), 0, "a change of the directory's time did not wait");
    }
    fs::remove_file(held.mount.join("plain/3")).unwrap();
    fs::rename(held.mount.join("plain"), held.mount.join("moved")).unwrap();
    assert_eq!(names_in(&held.sshd.home().join("moved")), ["4", "empty"]);
    let Held { scaup, mount, proxy: _proxy, sshd } = held;
    let moved = mount.join("moved");
    fs::remove_file(moved.join("4")).unwrap();
    fs::remove_dir(moved.join("empty")).unwrap();
    mount.unmount(&scaup);
    assert_eq!(names_in(&sshd.home().join("moved")), [""; 0]);
}

#[test]
fn a_cut_connection_delays_them() {
    let held = Held::mounted(&[]);
    for directory in held.directories() {
        fs::remove_file(directory.join("0")).unwrap();
        held.proxy.freeze();
        fs::remove_file(directory.join("1")).unwrap();
        fs::remove_file(directory.join("2")).unwrap();
        assert_eq!(held.under_way(), 2);
        held.proxy.cut();
        held.proxy.thaw();
        held.is_done();
        assert_eq!(names_in(&directory), ["3", "4", "empty"]);
    }
    assert_eq!(held.errors(), [""; 0]);
    assert_eq!(names_in(&held.sshd.home().join("plain")), ["3", "4", "empty"]);
    held.unmount();
}

#[test]
fn with_sync_on_close_removing_waits_too() {
    let held = Held::mounted(&["--sync-on-close"]);
    for directory in held.directories() {
        for number in 0..2 {
            fs::remove_file(directory.join(number.to_string())).unwrap();
            assert_eq!(held.under_way(), 0);
        }
    }
    held.unmount();
}

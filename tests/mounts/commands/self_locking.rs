//! Vaults that are locked without a request: before a sleep, with the screen, after a time without use.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise, statvfs};
use scaup_rig::{
    Answers, Bus, Fixture, Logind, Mount, Notifications, Proxy, Scaup, ScreenSaver, Sshd, eventually,
};
use serde_json::Value;

use crate::support::{PASSWORD, ends_with, scaup};

/// Any step of a story.
const SOON: Duration = Duration::from_secs(30);

/// A time in which something that should not happen would have: longer than any idle time here.
const WHILE: Duration = Duration::from_secs(8);

/// A mount with a vault in `Vault`, open, on a machine and a desktop of its own.
struct Own {
    mount: Mount,
    scaup: Scaup,
    proxy: Proxy,
    _sshd: Sshd,
    logind: Logind,
    notifications: Notifications,
    desktop: Bus,
    _machine: Bus,
}

impl Own {
    fn begin(lock_on: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::begin_on(lock_on, environment, |_| ())
    }

    /// The same, on a machine that is prepared.
    fn begin_on(lock_on: &[&str], environment: &[(&str, &str)], prepare: impl FnOnce(&Logind)) -> Self {
        let (machine, desktop) = (Bus::start(), Bus::start());
        let (logind, notifications) = (Logind::on(&machine), Notifications::on(&desktop));
        prepare(&logind);
        let sshd = Sshd::key_only().start();
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let scaup = scaup();
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let mut mount = scaup
            .mount_through(&proxy, &sshd, "")
            .answering(&Answers::default().vault(PASSWORD))
            .args(["--vault", "Vault"])
            .args(lock_on)
            .env("DBUS_SYSTEM_BUS_ADDRESS", machine.address())
            .env("DBUS_SESSION_BUS_ADDRESS", desktop.address());
        for (name, value) in environment {
            mount = mount.env(name, value);
        }
        let mount = mount.start();
        eventually("the next sleep is delayed", SOON, || logind.delays() == 1);
        Self { mount, scaup, proxy, _sshd: sshd, logind, notifications, desktop, _machine: machine }
    }

    fn in_vault(&self, name: &str) -> PathBuf {
        self.mount.join("Vault").join(name)
    }

    fn vault(&self) -> Value {
        self.scaup.status()["mounts"][0]["vaults"][0].take()
    }

    fn is_locked(&self) -> bool {
        self.vault()["state"] == "locked"
    }

    /// Waits until the vault is locked for this reason, of which the user is told once; opens it again.
    fn is_locked_as(&self, reason: &str) {
        eventually(&format!("it is {reason}"), SOON, || self.vault()["reason"] == reason);
        eventually("the user is told", SOON, || !self.notifications.shown().is_empty());
        self.unlock();
        let [told] = <[_; 1]>::try_from(self.notifications.shown()).unwrap();
        assert!(told.text.contains(reason) && !told.text.contains("Vault"), "{told:?}");
        self.notifications.clear();
    }

    fn unlock(&self) {
        assert!(self.is_locked());
        ends_with(&self.scaup, 0, ["unlock"]);
        assert_eq!(self.vault()["state"], "unlocked");
        assert_eq!(self.vault()["reason"], Value::Null);
    }

    /// Begins to use a vault that the mounting may have left without use for long.
    fn begin_use(&self) {
        if self.is_locked() {
            self.unlock();
        }
        fs::write(self.in_vault("first use"), "").unwrap();
        self.notifications.clear();
    }

    fn connect_again(&self) {
        self.proxy.accept();
        ends_with(&self.scaup, 0, ["login"]);
    }

    fn stays_unlocked(&self) {
        let ends = Instant::now() + WHILE;
        while Instant::now() < ends {
            assert_eq!(self.vault()["state"], "unlocked");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn end(self) {
        self.mount.unmount(&self.scaup);
    }
}

#[test]
fn vaults_are_locked_before_the_machine_sleeps_and_plain_places_go_on() {
    let own = Own::begin(&[], &[]);
    fs::write(own.mount.join("plain"), "plain").unwrap();
    for night in 1..=2 {
        let mut file = File::create(own.in_vault("file")).unwrap();
        write!(file, "written before night {night}").unwrap();
        own.logind.sleep();
        assert_eq!(own.vault()["reason"], "locked when the machine went to sleep");
        let words = ends_with(&own.scaup, 0, ["status"]);
        assert!(words.contains("locked when the machine went to sleep"), "{words}");
        assert!(file.read(&mut [0]).is_err(), "nothing of it can be read");
        drop(file);
        own.logind.wake();
        thread::sleep(Duration::from_millis(500));
        assert_eq!(fs::read_to_string(own.mount.join("plain")).unwrap(), "plain");
        own.is_locked_as("locked when the machine went to sleep");
        let saved = fs::read_to_string(own.in_vault("file")).unwrap();
        assert_eq!(saved, format!("written before night {night}"));
        eventually("the next sleep is delayed", SOON, || own.logind.delays() == 1);
    }
    // What is locked by a request is not locked by itself.
    ends_with(&own.scaup, 0, ["lock"]);
    assert_eq!(own.vault()["reason"], Value::Null);
    own.end();
}

#[test]
fn vaults_are_locked_in_time_whatever_the_road_does() {
    for road in ["cut", "silent", "slow"] {
        let own = Own::begin(&[], &[]);
        let mut file = File::create(own.in_vault("file")).unwrap();
        file.write_all(b"saved").unwrap();
        file.sync_all().unwrap();
        match road {
            "cut" => {
                own.proxy.refuse();
                own.proxy.cut();
            }
            "silent" => own.proxy.freeze(),
            _ => own.proxy.delay(Duration::from_secs(3)),
        }
        let began = Instant::now();
        own.logind.sleep();
        assert!(began.elapsed() < Duration::from_secs(5), "{road}: {:?}", began.elapsed());
        assert!(own.is_locked(), "{road}");
        own.proxy.accept();
        own.proxy.thaw();
        own.proxy.delay(Duration::ZERO);
        own.logind.wake();
        drop(file);
        let connected = || own.scaup.status()["mounts"][0]["state"] == "connected";
        eventually("it is connected", SOON, connected);
        own.is_locked_as("locked when the machine went to sleep");
        assert_eq!(fs::read_to_string(own.in_vault("file")).unwrap(), "saved", "{road}");
        own.end();
    }
}

#[test]
fn unsaved_content_on_a_road_that_is_cut_is_encrypted_before_a_sleep_and_saved_after_it() {
    let own = Own::begin(&[], &[]);
    let mut file = File::create(own.in_vault("file")).unwrap();
    own.proxy.refuse();
    own.proxy.cut();
    file.write_all(b"not saved yet").unwrap();
    let began = Instant::now();
    own.logind.sleep();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(own.is_locked());
    assert!(own.scaup.status()["mounts"][0]["unsaved"]["files"] == 1);
    own.connect_again();
    own.logind.wake();
    file.write_all(b"more").unwrap_err();
    drop(file);
    eventually("it is saved", SOON, || own.scaup.status()["mounts"][0]["unsaved"]["files"] == 0);
    own.unlock();
    assert_eq!(fs::read_to_string(own.in_vault("file")).unwrap(), "not saved yet");
    own.end();
}

#[test]
fn with_never_neither_a_sleep_nor_a_locked_screen_locks_a_vault() {
    let own = Own::begin_on(&["--lock-on", "never"], &[], |logind| logind.begin_session("c2"));
    own.logind.sleep();
    own.logind.wake();
    own.logind.lock_session("c2");
    own.stays_unlocked();
    own.end();
}

#[test]
fn vaults_are_locked_with_the_screen_of_the_users_session_and_when_it_ends() {
    let own = Own::begin_on(&["--lock-on", "screen"], &[], |logind| {
        logind.begin_session("c1");
        logind.begin_session("c2");
    });
    own.logind.lock_session("c2");
    own.is_locked_as("locked when the screen was locked");
    own.logind.hint_locked("c2", true);
    own.is_locked_as("locked when the screen was locked");
    // Nor does a sleep, nor another session.
    own.logind.hint_locked("c2", false);
    own.logind.lock_session("c1");
    own.logind.sleep();
    own.logind.wake();
    own.stays_unlocked();
    own.logind.end_session("c2");
    own.is_locked_as("locked when the session ended");
    // The graphical session is another one now.
    own.logind.lock_session("c1");
    own.is_locked_as("locked when the screen was locked");
    own.logind.begin_session("c3");
    own.logind.lock_session("c3");
    own.is_locked_as("locked when the screen was locked");
    own.end();
}

#[test]
fn a_mount_that_was_made_in_a_session_follows_that_one() {
    let environment = [("XDG_SESSION_ID", "c1")];
    let own = Own::begin_on(&["--lock-on", "screen,sleep"], &environment, |logind| {
        logind.begin_session("c1");
        logind.begin_session("c2");
    });
    own.logind.lock_session("c2");
    own.stays_unlocked();
    own.logind.lock_session("c1");
    own.is_locked_as("locked when the screen was locked");
    own.logind.end_session("c1");
    own.is_locked_as("locked when the session ended");
    own.logind.lock_session("c2");
    own.is_locked_as("locked when the screen was locked");
    own.end();
}

#[test]
fn vaults_are_locked_when_a_screen_saver_says_so() {
    let own = Own::begin(&["--lock-on", "screen"], &[]);
    let saver = ScreenSaver::on(&own.desktop);
    let known = [
        ("org.freedesktop.ScreenSaver", "/ScreenSaver"),
        ("org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver"),
        ("org.gnome.ScreenSaver", "/org/gnome/ScreenSaver"),
        ("org.cinnamon.ScreenSaver", "/org/cinnamon/ScreenSaver"),
        ("org.mate.ScreenSaver", "/org/mate/ScreenSaver"),
        ("org.xfce.ScreenSaver", "/org/xfce/ScreenSaver"),
    ];
    for (interface, path) in known {
        saver.tell(interface, path, true);
        own.is_locked_as("locked when the screen was locked");
        saver.tell(interface, path, false);
    }
    saver.tell("org.example.Radio", "/org/example/Radio", true);
    own.stays_unlocked();
    own.end();
}

#[test]
fn a_vault_without_use_is_locked_and_looking_around_in_it_is_no_use() {
    let own = Own::begin(&["--lock-on", "idle=4s"], &[]);
    own.begin_use();
    fs::write(own.in_vault("file"), "content").unwrap();
    let open = File::open(own.in_vault("file")).unwrap();
    let began = Instant::now();
    // What a file manager does that shows the vault.
    while !own.is_locked() {
        let _ = fs::read_dir(own.mount.join("Vault")).map(Iterator::count);
        let _ = fs::metadata(own.in_vault("file"));
        let _ = fs::metadata(own.in_vault(&format!("missing {:?}", began.elapsed())));
        let _ = statvfs(own.mount.join("Vault"));
        assert!(began.elapsed() < SOON, "looking around is use");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    own.is_locked_as("locked after 4s without use");
    drop(open);
    own.end();
}

#[test]
fn a_film_that_plays_and_work_keep_a_vault_open() {
    let own = Own::begin(&["--lock-on", "idle=4s"], &[]);
    own.begin_use();
    fs::write(own.in_vault("film"), vec![7; 1 << 20]).unwrap();
    let film = File::open(own.in_vault("film")).unwrap();
    // Each of these fails in a locked vault.
    for scene in 0..40 {
        thread::sleep(Duration::from_millis(200));
        // It is not read from the kernel's memory.
        fadvise(&film, 0, None, Advice::DontNeed).unwrap();
        film.read_exact_at(&mut [0; 4096], scene * 4096).unwrap();
    }
    for number in 0..8 {
        thread::sleep(Duration::from_millis(800));
        fs::create_dir(own.in_vault(&number.to_string())).unwrap();
    }
    for number in 0..8 {
        thread::sleep(Duration::from_millis(800));
        fs::remove_dir(own.in_vault(&number.to_string())).unwrap();
    }
    drop(film);
    own.is_locked_as("locked after 4s without use");
    own.end();
}

#[test]
fn unsaved_content_does_not_keep_a_vault_without_use_open() {
    let own = Own::begin(&["--lock-on", "idle=4s"], &[]);
    own.begin_use();
    let mut file = File::create(own.in_vault("file")).unwrap();
    own.proxy.refuse();
    own.proxy.cut();
    file.write_all(b"content").unwrap();
    eventually("it is locked", SOON, || own.is_locked());
    file.write_all(b"more").unwrap_err();
    // By now the daemon tries to save it, and waits for the server.
    thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    file.sync_all().unwrap_err();
    drop(file.try_clone().unwrap());
    assert!(began.elapsed() < Duration::from_secs(5), "no program waits for it: {:?}", began.elapsed());
    own.connect_again();
    eventually("it is saved", SOON, || own.scaup.status()["mounts"][0]["unsaved"]["files"] == 0);
    own.unlock();
    assert_eq!(fs::read_to_string(own.in_vault("file")).unwrap(), "content");
    drop(file);
    own.end();
}

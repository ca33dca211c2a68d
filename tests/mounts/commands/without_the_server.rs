//! Vaults that were open in this mount, unlocked while the server can't be reached or is silent.

use std::fs;
use std::time::{Duration, Instant};

use scaup_rig::{Answers, Fixture, Mount, Proxy, Scaup, Sshd, eventually};

use crate::support::{PASSWORD, ends_with, scaup};

const SOON: Duration = Duration::from_secs(30);

/// How long an unlock may take on a busy machine: less than a server is waited for.
const WITHOUT: Duration = Duration::from_secs(12);

/// A mount with a locked vault in `Vault`, which was open before and has a file.
struct Locked {
    mount: Mount,
    scaup: Scaup,
    proxy: Proxy,
    sshd: Sshd,
}

impl Locked {
    fn begin() -> Self {
        let (scaup, sshd) = (scaup(), Sshd::key_only().start());
        Fixture::unpack("empty-gcm").copy_vault_to(&sshd.home().join("Vault"));
        sshd.give(&sshd.home());
        let proxy = Proxy::start(sshd.host(), sshd.port());
        let answers = Answers::default().vault(PASSWORD);
        let mount = scaup.mount_through(&proxy, &sshd, "").answering(&answers).args(["--vault", "Vault"]);
        let own = Self { mount: mount.start(), scaup, proxy, sshd };
        fs::write(own.mount.join("Vault/file"), "content").unwrap();
        own.lock();
        own
    }

    fn lock(&self) {
        ends_with(&self.scaup, 0, ["lock"]);
        assert_eq!(self.state(), "locked");
    }

    fn state(&self) -> String {
        self.scaup.status()["mounts"][0]["vaults"][0]["state"].as_str().unwrap().to_owned()
    }

    /// Unlocks the only locked vault with this password.
    fn unlock(&self, code: i32, password: &str) -> String {
        self.unlock_with(code, &["unlock"], password)
    }

    fn unlock_named(&self, code: i32, password: &str) -> String {
        let name = self.scaup.status()["mounts"][0]["name"].as_str().unwrap().to_owned();
        self.unlock_with(code, &["unlock", &name, "Vault"], password)
    }

    fn unlock_with(&self, code: i32, words: &[&str], password: &str) -> String {
        let command = self.scaup.command_answering(password);
        let began = Instant::now();
        let said = ends_with(&self.scaup, code, [words, &["--vault-password-command", &command]].concat());
        assert!(began.elapsed() < WITHOUT, "{words:?}: {:?}: {said}", began.elapsed());
        said
    }

    fn cut(&self) {
        self.proxy.refuse();
        self.proxy.cut();
        eventually("the loss is noticed", SOON, || !self.is_connected());
    }

    fn is_connected(&self) -> bool {
        self.scaup.status()["mounts"][0]["state"] == "connected"
    }

    fn connect_again(&self) {
        self.proxy.accept();
        self.proxy.thaw();
        ends_with(&self.scaup, 0, ["login"]);
        eventually("it is connected", SOON, || self.is_connected());
    }

    /// Whether the files on the server are compared with those that opened the vault: that is when it is listed.
    fn tells(&self, words: &str) -> bool {
        let _ = fs::read_dir(self.mount.join("Vault")).map(Iterator::count);
        ends_with(&self.scaup, 0, ["status"]).contains(words)
    }
}

#[test]
fn a_vault_that_was_open_before_is_unlocked_whatever_the_road_does() {
    for road in ["cut", "silent"] {
        let own = Locked::begin();
        match road {
            "cut" => own.cut(),
            _ => own.proxy.freeze(),
        }
        let said = own.unlock(5, "another password");
        assert!(said.contains("wrong password"), "{road}: {said}");
        assert_eq!(own.state(), "locked");
        own.unlock(0, PASSWORD);
        assert_eq!(own.state(), "unlocked");
        own.lock();
        own.unlock_named(0, PASSWORD);
        assert_eq!(own.state(), "unlocked");
        own.connect_again();
        assert_eq!(fs::read_to_string(own.mount.join("Vault/file")).unwrap(), "content", "{road}");
        fs::write(own.mount.join("Vault/second"), "written since").unwrap();
        own.mount.unmount(&own.scaup);
    }
}

#[test]
fn what_opened_a_vault_without_the_server_is_compared_with_what_the_server_has() {
    let own = Locked::begin();
    let config = own.sshd.home().join("Vault/vault.cryptomator");
    let sound = fs::read(&config).unwrap();
    own.cut();
    fs::write(&config, "damaged").unwrap();
    own.unlock(0, PASSWORD);
    own.connect_again();
    eventually("it is told", SOON, || own.tells("stays unlocked, but can't be unlocked again"));
    assert_eq!(fs::read_to_string(own.mount.join("Vault/file")).unwrap(), "content");
    // A server that is there decides.
    ends_with(&own.scaup, 0, ["lock"]);
    let said = own.unlock_named(5, PASSWORD);
    assert!(said.contains("vault.cryptomator"), "{said}");
    fs::write(&config, sound).unwrap();
    own.unlock_named(0, PASSWORD);
    own.mount.unmount(&own.scaup);
}

#[test]
fn a_password_that_was_changed_while_the_vault_was_open_is_the_one_that_opens_it() {
    let own = Locked::begin();
    own.unlock(0, PASSWORD);
    let vault = own.sshd.home().join("Vault");
    let (old, new) = (own.scaup.command_answering(PASSWORD), own.scaup.command_answering("new password"));
    let words = ["vault", "passwd", vault.to_str().unwrap(), "--vault-password-command", &old];
    ends_with(&own.scaup, 0, [&words[..], &["--new-password-command", &new]].concat());
    // The mount has to see the new file before it can remember it.
    let later = Instant::now() + Duration::from_secs(12);
    while Instant::now() < later {
        own.tells("");
        std::thread::sleep(Duration::from_millis(500));
    }
    own.lock();
    own.cut();
    own.unlock(5, PASSWORD);
    own.unlock(0, "new password");
    own.connect_again();
    own.mount.unmount(&own.scaup);
}

//! GNOME's keyring on a bus of a test's own: a person's keyring without a desktop.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use secret_service::{EncryptionType, SecretService};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zbus::connection::Builder;

use crate::bus::Bus;
use crate::install::need;
use crate::process::run;
use crate::within::eventually;

const PATIENCE: Duration = Duration::from_secs(20);
const SERVICE: &str = "/org/freedesktop/secrets";
/// Every collection that is kept on disk.
const LOGIN: &str = "/org/freedesktop/secrets/collection/login";

/// A keyring. It ends when this is dropped.
pub struct Keyring {
    bus: Bus,
    daemon: Child,
    home: TempDir,
}

impl Keyring {
    /// Starts one on a bus of its own, as if its user had just logged in for the first time.
    #[must_use]
    pub fn start() -> Self {
        need(&[("gnome-keyring-daemon", "gnome-keyring"), ("gdbus", "libglib2.0-bin")]);
        let home =
            tempfile::Builder::new().prefix("scaup-keyring").tempdir().expect("a directory can be made");
        let bus = Bus::start();
        let daemon = daemon(&bus, home.path());
        Self { bus, daemon, home }
    }

    /// The address of its bus, for `DBUS_SESSION_BUS_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.bus.address()
    }

    /// Where it keeps what is to outlive its user's session.
    #[must_use]
    pub fn files(&self) -> std::path::PathBuf {
        self.home.path().join(".local/share/keyrings")
    }

    /// Locks what it keeps on disk. Nobody can unlock that: there is no screen for its question.
    pub fn lock(&self) {
        self.call("org.freedesktop.Secret.Service.Lock", &format!("[objectpath '{LOGIN}']"));
    }

    /// Its user logs out, and in again.
    pub fn log_in_again(&mut self) {
        self.end();
        self.daemon = daemon(&self.bus, self.home.path());
    }

    /// Its process ends, and nobody starts another.
    pub fn end(&mut self) {
        self.daemon.kill().expect("the keyring can be ended");
        self.daemon.wait().expect("the keyring has ended");
    }

    /// Puts something else in the place of every secret of Scaup's.
    pub fn falsify(&self) {
        let runtime = Runtime::new().expect("a runtime can be made");
        let falsified = async {
            let bus = Builder::address(self.address())?.build().await?;
            let service = SecretService::connect_with_existing(EncryptionType::Dh, bus).await?;
            for item in service.search_items(HashMap::from([("application", "scaup")])).await?.unlocked {
                item.set_secret(b"something else", "text/plain").await?;
            }
            Ok::<_, secret_service::Error>(())
        };
        runtime.block_on(falsified).expect("the keyring is unlocked");
    }

    /// All items' attributes and labels, in any form.
    #[must_use]
    pub fn described(&self) -> String {
        let all = self.call("org.freedesktop.Secret.Service.SearchItems", "{'application': 'scaup'}");
        let paths = all.split('\'').filter(|part| part.starts_with(SERVICE)).map(str::to_owned);
        let get_all = "org.freedesktop.DBus.Properties.GetAll";
        let item = "'org.freedesktop.Secret.Item'";
        paths.map(|path| self.call_at(&path, get_all, item)).collect()
    }

    fn call(&self, method: &str, argument: &str) -> String {
        self.call_at(SERVICE, method, argument)
    }

    fn call_at(&self, path: &str, method: &str, argument: &str) -> String {
        let mut call = Command::new("gdbus");
        call.args(["call", "--address", self.address(), "--dest", "org.freedesktop.secrets"]);
        call.args(["--object-path", path, "--method", method, argument]);
        String::from_utf8_lossy(&run(&mut call).stdout).into_owned()
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Starts the daemon, unlocked by its user's password as at a login.
fn daemon(bus: &Bus, home: &Path) -> Child {
    let mut daemon = Command::new("gnome-keyring-daemon")
        .args(["--foreground", "--unlock", "--components=secrets"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("DBUS_SESSION_BUS_ADDRESS", bus.address())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("gnome-keyring-daemon runs");
    let mut password = daemon.stdin.take().expect("its standard input is a pipe");
    password.write_all(b"of the keyring").expect("the password can be written");
    drop(password);
    eventually("the keyring is on the bus", PATIENCE, || {
        let mut ask = Command::new("gdbus");
        ask.args([
            "call",
            "--address",
            bus.address(),
            "--dest",
            "org.freedesktop.secrets",
            "--object-path",
            LOGIN,
        ]);
        ask.args(["--method", "org.freedesktop.DBus.Peer.Ping"]).stdout(Stdio::null()).stderr(Stdio::null());
        ask.status().is_ok_and(|status| status.success())
    });
    daemon
}

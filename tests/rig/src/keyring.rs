//! GNOME's keyring on a bus and a screen of a test's own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use secret_service::{EncryptionType, SecretService};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zbus::connection::Builder;

use crate::bus::Bus;
use crate::install::need;
use crate::process::run;
use crate::within::eventually;

const PATIENCE: Duration = Duration::from_secs(20);
/// Its password.
const PASSWORD: &str = "of the keyring";
/// What shows its questions.
const PROMPTER: &str = "/usr/libexec/gcr-prompter";
const SERVICE: &str = "/org/freedesktop/secrets";
/// Every collection that is kept on disk.
const LOGIN: &str = "/org/freedesktop/secrets/collection/login";

/// A keyring. It ends when this is dropped.
pub struct Keyring {
    daemon: Child,
    bus: Bus,
    home: TempDir,
    screen: Screen,
}

impl Keyring {
    /// Starts one on a bus of its own, as if its user had just logged in for the first time.
    #[must_use]
    pub fn start() -> Self {
        need(&[("gnome-keyring-daemon", "gnome-keyring"), ("gdbus", "libglib2.0-bin")]);
        let home =
            tempfile::Builder::new().prefix("scaup-keyring").tempdir().expect("a directory can be made");
        let screen = Screen::start();
        let bus = Bus::with_program("org.gnome.keyring.SystemPrompter", PROMPTER, &screen.display);
        let daemon = daemon(&bus, home.path());
        Self { daemon, bus, home, screen }
    }

    /// Whether it asks for its password on its screen.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.screen.has_window()
    }

    /// Waits for it to ask for its password, and types that.
    pub fn unlock(&self) {
        eventually("the keyring asks", PATIENCE, || self.asks());
        // The window takes the keyboard for itself a moment later.
        std::thread::sleep(Duration::from_secs(1));
        self.screen.run(&["type", "--delay", "20", PASSWORD]);
        self.screen.run(&["key", "Return"]);
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

    /// Locks what it keeps on disk.
    pub fn lock(&self) {
        self.call("org.freedesktop.Secret.Service.Lock", &format!("[objectpath '{LOGIN}']"));
    }

    /// Its user logs out, and in again.
    pub fn log_in_again(&mut self) {
        self.end();
        self.daemon = daemon(&self.bus, self.home.path());
    }

    /// It replies to nothing any more.
    pub fn freeze(&self) {
        let pid = Pid::from_child(&self.daemon);
        kill_process(pid, Signal::STOP).expect("the keyring can be stopped");
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

/// A screen on which a keyring asks for its password. It is gone when this is dropped.
struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    fn start() -> Self {
        need(&[("Xvfb", "xvfb"), ("xdotool", "xdotool"), (PROMPTER, "gcr")]);
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb runs");
        let mut number = String::new();
        let said = server.stdout.take().expect("its standard output is a pipe");
        BufReader::new(said).read_line(&mut number).expect("it says its number");
        Self { server, display: format!(":{}", number.trim()) }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut tool = Command::new("xdotool");
        tool.args(arguments).env("DISPLAY", &self.display).stdin(Stdio::null());
        tool.output().expect("xdotool runs")
    }

    fn has_window(&self) -> bool {
        !self.run(&["search", "--onlyvisible", "--name", "."]).stdout.is_empty()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
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
    password.write_all(PASSWORD.as_bytes()).expect("the password can be written");
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

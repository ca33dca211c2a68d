//! A D-Bus of a test's own, with nobody on it but who the test puts there.

use std::future::Future;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::object_server::Interface;

use crate::install::need;
use crate::within::eventually;

/// How long any answer on it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bus. It ends when this is dropped.
pub struct Bus {
    daemon: Child,
    address: String,
    services: Option<TempDir>,
    // Dropped after the daemon is gone.
    _directory: TempDir,
}

impl Bus {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        Self::with("", Command::new("dbus-daemon"))
    }

    /// Starts one that starts this program for whom the name is asked for, on this screen.
    pub(crate) fn with_program(name: &str, program: &str, display: &str) -> Self {
        let services =
            tempfile::Builder::new().prefix("scaup-services").tempdir().expect("a directory can be made");
        let text = format!("[D-BUS Service]\nName={name}\nExec={program}\n");
        std::fs::write(services.path().join(format!("{name}.service")), text).expect("a file can be written");
        let mut daemon = Command::new("dbus-daemon");
        daemon.env("DISPLAY", display).env("GDK_BACKEND", "x11");
        let mut bus = Self::with(&format!("<servicedir>{}</servicedir>", services.path().display()), daemon);
        bus.services = Some(services);
        bus
    }

    fn with(services: &str, mut daemon: Command) -> Self {
        need(&[("dbus-daemon", "dbus-daemon")]);
        let directory =
            tempfile::Builder::new().prefix("scaup-bus").tempdir().expect("a directory can be made");
        let socket = directory.path().join("bus");
        let address = format!("unix:path={}", socket.display());
        let config = directory.path().join("config");
        // No service is started by asking for it: a desktop's own must not answer.
        let text = format!(
            "<busconfig><listen>{address}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy>{services}</busconfig>"
        );
        std::fs::write(&config, text).expect("the configuration can be written");
        let daemon = daemon
            // What it starts has to find it.
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .args(["--nofork", "--config-file"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("dbus-daemon runs");
        eventually("the bus listens", PATIENCE, || is_socket(&socket));
        Self { daemon, address, services: None, _directory: directory }
    }

    /// Its address, for `DBUS_SYSTEM_BUS_ADDRESS` or `DBUS_SESSION_BUS_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts a service on it.
    pub(crate) fn serve(&self, name: &'static str, path: &'static str, service: impl Interface) -> Service {
        self.join(|builder| builder.name(name)?.serve_at(path, service))
    }

    /// Puts somebody on it, as the builder of the connection says.
    pub(crate) fn join(
        &self,
        who: impl FnOnce(Builder<'static>) -> zbus::Result<Builder<'static>>,
    ) -> Service {
        let runtime = Runtime::new().expect("a runtime can be made");
        let joining = async {
            let builder = Builder::address(self.address.as_str())?.method_timeout(PATIENCE);
            who(builder)?.build().await
        };
        let connection = runtime.block_on(joining).expect("the service can be put on the bus");
        Service { connection, runtime }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A service on a bus, until it is dropped.
pub(crate) struct Service {
    pub(crate) connection: Connection,
    runtime: Runtime,
}

impl Service {
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

fn is_socket(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

//! The system's and the desktop's D-Bus, and logind on the first.

use std::time::Duration;

use zbus::Connection;
use zbus::connection::Builder;
use zbus::zvariant::{OwnedFd, OwnedObjectPath};

/// How long any reply from a bus may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// logind's name on the system bus.
pub(super) const LOGIND: &str = "org.freedesktop.login1";

/// Connects to the bus of the machine.
pub(super) async fn system_bus() -> zbus::Result<Connection> {
    Builder::system()?.method_timeout(PATIENCE).build().await
}

/// Connects to the bus of the user's desktop.
pub(super) async fn session_bus() -> zbus::Result<Connection> {
    Builder::session()?.method_timeout(PATIENCE).build().await
}

/// logind (org.freedesktop.login1(5)).
#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
pub(super) trait Logind {
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;

    fn get_session(&self, id: &str) -> zbus::Result<OwnedObjectPath>;

    fn get_user(&self, user: u32) -> zbus::Result<OwnedObjectPath>;

    #[zbus(property(emits_changed_signal = "false"), name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> zbus::Result<u64>;

    #[zbus(signal)]
    fn prepare_for_sleep(&self, start: bool) -> zbus::Result<()>;

    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;

    #[zbus(signal)]
    fn session_new(&self, id: String, path: OwnedObjectPath) -> zbus::Result<()>;

    #[zbus(signal)]
    fn session_removed(&self, id: String, path: OwnedObjectPath) -> zbus::Result<()>;
}

//! What the two buses of D-Bus tell without asking anybody: who is there, and two properties.

use std::time::Duration;

use zbus::Connection;
use zbus::connection::Builder;
use zbus::fdo::DBusProxy;

/// How long any reply from the bus may take.
const BUS_PATIENCE: Duration = Duration::from_secs(3);

/// logind (org.freedesktop.login1(5)).
#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    #[zbus(property(emits_changed_signal = "false"), name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> zbus::Result<u64>;
}

/// The clock (org.freedesktop.timedate1(5)).
#[zbus::proxy(
    interface = "org.freedesktop.timedate1",
    default_service = "org.freedesktop.timedate1",
    default_path = "/org/freedesktop/timedate1"
)]
trait Clock {
    #[zbus(property(emits_changed_signal = "false"), name = "NTPSynchronized")]
    fn ntp_synchronized(&self) -> zbus::Result<bool>;
}

/// Connects to the bus of the user's session.
pub(super) async fn session() -> zbus::Result<Connection> {
    within(async { Builder::session()?.method_timeout(BUS_PATIENCE).build().await }).await
}

async fn system() -> zbus::Result<Connection> {
    within(async { Builder::system()?.method_timeout(BUS_PATIENCE).build().await }).await
}

/// A socket that accepts connections may still be silent.
async fn within<T>(reply: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    let silent = |_| zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(BUS_PATIENCE, reply).await.map_err(silent)?
}

/// Returns whether a program owns a name, or would be started for it. Nothing is started for the question.
pub(super) async fn is_there(bus: &Connection, name: &str) -> zbus::Result<bool> {
    let names = DBusProxy::new(bus).await?;
    if names.name_has_owner(name.try_into()?).await? {
        return Ok(true);
    }
    Ok(names.list_activatable_names().await?.iter().any(|activatable| activatable.as_str() == name))
}

/// Returns how long logind lets a program delay the machine's sleep.
pub(super) async fn sleep_delay() -> zbus::Result<Duration> {
    let manager = ManagerProxy::new(&system().await?).await?;
    Ok(Duration::from_micros(manager.inhibit_delay_max_usec().await?))
}

/// Returns whether the clock is set by a time server.
pub(super) async fn is_clock_synchronized() -> zbus::Result<bool> {
    ClockProxy::new(&system().await?).await?.ntp_synchronized().await
}

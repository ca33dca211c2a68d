//! Telling systemd how a mount in the foreground is, where it runs as a service of `Type=notify`.
//!
//! The protocol is that of `sd_notify(3)`: lines in a datagram to the socket that `NOTIFY_SOCKET` names.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::Duration;

use super::status;
use crate::daemon::client::Conversation;
use crate::daemon::protocol::{Event, MountState, Request};

/// By how much the time that systemd gives a stop is extended whenever something was saved, microseconds.
const SAVES_FOR: u64 = 90_000_000;

/// After how long a lost conversation with the mount's process is begun again: only so many programs can watch it, and
/// the next one takes the place of the first.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The socket of the service manager.
pub(super) struct ServiceManager(UnixDatagram);

impl ServiceManager {
    /// Connects to the service manager; `None` if this process is not a service of it.
    pub(super) fn connect() -> io::Result<Option<Self>> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(Some(Self(socket)))
    }

    /// Tells that the mount can be used, and from then on what `scaup status` shows of it, until this process ends.
    pub(super) fn follow(self, mount: String) {
        self.tell("READY=1");
        thread::spawn(move || {
            loop {
                self.tell_changes(&mount);
                thread::sleep(AGAIN_AFTER);
            }
        });
    }

    fn tell_changes(&self, mount: &str) {
        let Ok(mut watching) = Conversation::with(mount) else { return };
        if watching.say(&Request::Watch).is_err() {
            return;
        }
        while let Ok(Some(Event::Status(status))) = watching.hear() {
            let line = status::in_one_line(&status);
            let saves = status.state == MountState::Unmounting;
            let more_time = if saves { format!("EXTEND_TIMEOUT_USEC={SAVES_FOR}\n") } else { String::new() };
            self.tell(&format!("{more_time}STATUS={line}"));
        }
    }

    /// Nothing depends on what systemd shows: an error is not worth ending a mount.
    fn tell(&self, lines: &str) {
        let _ = self.0.send(lines.as_bytes());
    }
}

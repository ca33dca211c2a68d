//! The part of logind that lets programs delay a sleep (org.freedesktop.login1(5)), without a machine that would sleep.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zbus::object_server::SignalEmitter;

use crate::bus::{Bus, Service};
use crate::within::eventually;

const PATH: &str = "/org/freedesktop/login1";

/// Our ends of the locks that were given out.
type Locks = Arc<Mutex<Vec<OwnedFd>>>;

/// logind on a bus.
pub struct Logind {
    service: Service,
    locks: Locks,
}

struct Manager {
    locks: Locks,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn inhibit(
        &self,
        what: &str,
        _who: &str,
        _why: &str,
        mode: &str,
    ) -> zbus::fdo::Result<zbus::zvariant::OwnedFd> {
        if mode != "delay" || !what.split(':').any(|what| what == "sleep") {
            return Err(zbus::fdo::Error::NotSupported(format!("{what} {mode}")));
        }
        let (ours, theirs) = rustix::pipe::pipe().expect("a pipe can be made");
        self.locks.lock().unwrap().push(ours);
        Ok(theirs.into())
    }

    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> u64 {
        5_000_000
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, start: bool) -> zbus::Result<()>;
}

impl Logind {
    /// Puts it on `bus`.
    #[must_use]
    pub fn on(bus: &Bus) -> Self {
        let locks = Locks::default();
        let manager = Manager { locks: Arc::clone(&locks) };
        Self { service: bus.serve("org.freedesktop.login1", PATH, manager), locks }
    }

    /// How many programs delay the next sleep.
    #[must_use]
    pub fn delays(&self) -> usize {
        let mut locks = self.locks.lock().unwrap();
        locks.retain(|lock| {
            let mut asked = [PollFd::new(lock, PollFlags::empty())];
            poll(&mut asked, Some(&Timespec::default())).expect("a pipe can be asked");
            !asked.iter().any(|asked| asked.revents().contains(PollFlags::HUP))
        });
        locks.len()
    }

    /// Announces a sleep, and waits until nobody delays it any more.
    pub fn sleep(&self) {
        self.announce(true);
        eventually("nobody delays the sleep", Duration::from_secs(60), || self.delays() == 0);
    }

    /// Tells that the sleep is over.
    pub fn wake(&self) {
        self.announce(false);
    }

    fn announce(&self, start: bool) {
        let emitter = SignalEmitter::new(&self.service.connection, PATH).expect("the path is one");
        self.service.run(Manager::prepare_for_sleep(&emitter, start)).expect("the signal can be sent");
    }
}

//! The part of logind that lets programs delay a sleep, and the part that tells of the sessions of a user
//! (org.freedesktop.login1(5)), without a machine that would sleep or a session.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedObjectPath;

use crate::bus::{Bus, Service};
use crate::within::eventually;

const PATH: &str = "/org/freedesktop/login1";

const USER: &str = "/org/freedesktop/login1/user/self";

/// Our ends of the locks that were given out.
type Locks = Arc<Mutex<Vec<OwnedFd>>>;

/// The ids of the sessions there are. The last of them is the user's graphical one.
type Ids = Arc<Mutex<Vec<String>>>;

fn path_of(id: Option<&str>) -> OwnedObjectPath {
    let path = id.map_or_else(|| "/".to_owned(), |id| format!("{PATH}/session/{id}"));
    path.try_into().expect("an id is part of a path")
}

/// logind on a bus.
pub struct Logind {
    service: Service,
    locks: Locks,
    ids: Ids,
}

struct Manager {
    locks: Locks,
    ids: Ids,
}

struct User {
    ids: Ids,
}

#[zbus::interface(name = "org.freedesktop.login1.User")]
impl User {
    #[zbus(property)]
    fn display(&self) -> (String, OwnedObjectPath) {
        let id = self.ids.lock().unwrap().last().cloned();
        (id.clone().unwrap_or_default(), path_of(id.as_deref()))
    }
}

struct Session {
    locked: bool,
}

#[zbus::interface(name = "org.freedesktop.login1.Session")]
impl Session {
    #[zbus(property)]
    fn locked_hint(&self) -> bool {
        self.locked
    }

    #[zbus(signal)]
    async fn lock(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
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

    fn get_session(&self, id: &str) -> zbus::fdo::Result<OwnedObjectPath> {
        if self.ids.lock().unwrap().iter().any(|known| known == id) {
            return Ok(path_of(Some(id)));
        }
        Err(zbus::fdo::Error::Failed(format!("no session {id}")))
    }

    #[allow(clippy::unused_self)]
    fn get_user(&self, _user: u32) -> OwnedObjectPath {
        USER.try_into().expect("the path is one")
    }

    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> u64 {
        5_000_000
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, start: bool) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn session_new(emitter: &SignalEmitter<'_>, id: &str, path: OwnedObjectPath) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn session_removed(
        emitter: &SignalEmitter<'_>,
        id: &str,
        path: OwnedObjectPath,
    ) -> zbus::Result<()>;
}

impl Logind {
    /// Puts it on `bus`.
    #[must_use]
    pub fn on(bus: &Bus) -> Self {
        let (locks, ids) = (Locks::default(), Ids::default());
        let manager = Manager { locks: Arc::clone(&locks), ids: Arc::clone(&ids) };
        let user = User { ids: Arc::clone(&ids) };
        let service = bus.join(|builder| {
            builder.name("org.freedesktop.login1")?.serve_at(PATH, manager)?.serve_at(USER, user)
        });
        Self { service, locks, ids }
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
        let sent = self.service.run(Manager::prepare_for_sleep(&self.emitter(PATH), start));
        sent.expect("the signal can be sent");
    }

    fn emitter(&self, path: &str) -> SignalEmitter<'static> {
        SignalEmitter::new(&self.service.connection, path.to_owned()).expect("the path is one")
    }

    /// A session begins; it is the user's graphical one from now on.
    pub fn begin_session(&self, id: &str) {
        let path = path_of(Some(id));
        let adding = async {
            self.service.connection.object_server().at(&path, Session { locked: false }).await?;
            self.ids.lock().unwrap().push(id.to_owned());
            Manager::session_new(&self.emitter(PATH), id, path.clone()).await
        };
        self.service.run(adding).expect("a session can begin");
    }

    /// A session ends.
    pub fn end_session(&self, id: &str) {
        let path = path_of(Some(id));
        let removing = async {
            self.service.connection.object_server().remove::<Session, _>(&path).await?;
            self.ids.lock().unwrap().retain(|known| known != id);
            Manager::session_removed(&self.emitter(PATH), id, path.clone()).await
        };
        self.service.run(removing).expect("a session can end");
    }

    /// A session is asked to lock its screen, as by `loginctl lock-session`.
    pub fn lock_session(&self, id: &str) {
        let sent = self.service.run(Session::lock(&self.emitter(path_of(Some(id)).as_str())));
        sent.expect("the signal can be sent");
    }

    /// A session's desktop tells whether the screen is locked.
    pub fn hint_locked(&self, id: &str, locked: bool) {
        let hinting = async {
            let server = self.service.connection.object_server();
            let session = server.interface::<_, Session>(path_of(Some(id))).await?;
            session.get_mut().await.locked = locked;
            session.get().await.locked_hint_changed(session.signal_emitter()).await
        };
        self.service.run(hinting).expect("the property can change");
    }
}

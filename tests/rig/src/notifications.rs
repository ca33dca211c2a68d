//! A desktop's notifications (freedesktop.org's Desktop Notifications Specification), without a desktop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use zbus::object_server::SignalEmitter;

use crate::bus::{Bus, Service};

const PATH: &str = "/org/freedesktop/Notifications";

/// A notification that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its number.
    pub id: u32,
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Its actions: keys, each followed by its label.
    pub actions: Vec<String>,
}

#[derive(Default)]
struct Shown {
    last: u32,
    now: Vec<Notification>,
}

/// A notification server on a bus.
pub struct Notifications {
    service: Service,
    shown: Arc<Mutex<Shown>>,
}

struct Server(Arc<Mutex<Shown>>);

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Server {
    #[allow(clippy::too_many_arguments)]
    fn notify(
        &self,
        _program: String,
        _replaces: u32,
        _icon: String,
        title: String,
        text: String,
        actions: Vec<String>,
        _hints: HashMap<String, zbus::zvariant::OwnedValue>,
        _expires: i32,
    ) -> u32 {
        let mut shown = self.0.lock().unwrap();
        shown.last += 1;
        let id = shown.last;
        shown.now.push(Notification { id, title, text, actions });
        id
    }

    fn close_notification(&self, id: u32) {
        self.0.lock().unwrap().now.retain(|shown| shown.id != id);
    }

    #[zbus(signal)]
    async fn action_invoked(emitter: &SignalEmitter<'_>, id: u32, key: &str) -> zbus::Result<()>;
}

impl Notifications {
    /// Puts it on `bus`.
    #[must_use]
    pub fn on(bus: &Bus) -> Self {
        let shown = Arc::<Mutex<Shown>>::default();
        Self { service: bus.serve("org.freedesktop.Notifications", PATH, Server(Arc::clone(&shown))), shown }
    }

    /// What is shown at the moment.
    #[must_use]
    pub fn shown(&self) -> Vec<Notification> {
        self.shown.lock().unwrap().now.clone()
    }

    /// Somebody puts away all that are shown.
    pub fn clear(&self) {
        self.shown.lock().unwrap().now.clear();
    }

    /// Somebody chooses an action of a notification.
    pub fn choose(&self, id: u32, key: &str) {
        let emitter = SignalEmitter::new(&self.service.connection, PATH).expect("the path is one");
        self.service.run(Server::action_invoked(&emitter, id, key)).expect("the signal can be sent");
    }
}

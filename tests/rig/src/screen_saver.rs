//! Screen savers of desktops, as far as they tell on the session bus that the screen is locked.

use crate::bus::{Bus, Service};

/// Somebody on a bus who sends the signals of screen savers.
pub struct ScreenSaver {
    service: Service,
}

impl ScreenSaver {
    /// Puts it on `bus`.
    #[must_use]
    pub fn on(bus: &Bus) -> Self {
        Self { service: bus.join(Ok) }
    }

    /// Tells, as the screen saver with this interface does, whether the screen is locked.
    pub fn tell(&self, interface: &str, path: &str, active: bool) {
        let connection = &self.service.connection;
        let telling = connection.emit_signal(None::<&str>, path, interface, "ActiveChanged", &active);
        self.service.run(telling).expect("the signal can be sent");
    }
}

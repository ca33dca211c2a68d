//! The signals that request the end of a daemon.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Signals that come within this time count as one.
const ONE_WISH: Duration = Duration::from_millis(500);

/// SIGTERM, SIGINT and SIGHUP: each requests the end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// When the first SIGTERM or SIGINT came.
    asked: Option<Instant>,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            asked: None,
        })
    }

    /// Waits until a signal requests the end.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => self.asked = Some(Instant::now()),
            _ = self.interrupt.recv() => self.asked = Some(Instant::now()),
            _ = self.hangup.recv() => {}
        }
    }

    /// Waits until the user insists on the end, whatever is lost: by a second SIGTERM or SIGINT. A terminal or session
    /// that is gone does not count, and signals that come together count as one: systemd ends a session with SIGTERM
    /// and SIGHUP to all of it at once, and the front end passes its own on.
    pub(super) async fn insisted(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if self.asked.get_or_insert_with(Instant::now).elapsed() >= ONE_WISH {
                return;
            }
        }
    }
}

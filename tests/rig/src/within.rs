//! Watchdogs: a test on a mount must fail when it hangs, not hang with it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Runs `work` on a thread of its own and returns its result, or panics once `limit` has passed.
///
/// The thread itself cannot be ended; it comes free when what it waits for does (a [`crate::Mount`] is detached when
/// dropped).
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || {
        // The receiver is gone only when the time is over; then nobody wants the answer.
        let _ = sender.send(work());
    });
    match receiver.recv_timeout(limit) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still not done after {limit:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("the worker ended without an answer"),
        },
    }
}

/// Asks `holds` every 20 ms until it is true; panics with `what` once `limit` has passed.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

//! When the last one-time code was sent to each server, so that the next mount does not send the same one: a server takes a code
//! once (RFC 6238, section 5.2), and counts a second time as a failed login.
//!
//! Only the time is kept, never the code.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::paths;

/// How long a code stays the same (RFC 6238's default), seconds.
const STEP: u64 = 30;

/// Whether a code was sent to `destination` in the step that `now` (since 1970) lies in.
pub(super) fn was_used(destination: &str, now: Duration) -> bool {
    let sent =
        file(destination).and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    sent.is_some_and(|sent| sent / STEP == now.as_secs() / STEP)
}

/// Notes that a code made at `made` (since 1970) is about to be sent to `destination`.
pub(super) fn mark_used(destination: &str, made: Duration) {
    let Some(file) = file(destination) else { return };
    if let Err(error) = std::fs::write(file, made.as_secs().to_string()) {
        tracing::warn!(%error, "could not note when a code was sent");
    }
}

/// How long until the code changes.
pub(super) fn until_next(now: Duration) -> Duration {
    Duration::from_secs(STEP - now.as_secs() % STEP)
}

fn file(destination: &str) -> Option<PathBuf> {
    let name = destination.replace('/', "_");
    Some(paths::runtime().ok()?.join(format!("{name}.code-sent")))
}

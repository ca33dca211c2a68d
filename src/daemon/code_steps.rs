//! When the last one-time code was sent to each server, so that the next mount does not send the same one: a server takes a code
//! once (RFC 6238, section 5.2), and counts a second time as a failed login.
//!
//! Only the time is kept, never the code.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::config::paths;

/// How long a code stays the same (RFC 6238's default), seconds.
const STEP: u64 = 30;

/// As many digits as a number of seconds has, bytes.
const LEN_MAX: u64 = 32;

/// Whether a code was sent to `destination` in the step that `now` (since 1970) lies in.
pub(super) fn was_used(destination: &str, now: Duration) -> bool {
    let read = || {
        let mut sent = String::new();
        file(destination, OFlags::RDONLY)?.take(LEN_MAX).read_to_string(&mut sent)?;
        Ok::<_, io::Error>(sent)
    };
    let sent = read().ok().and_then(|sent| sent.trim().parse::<u64>().ok());
    sent.is_some_and(|sent| sent / STEP == now.as_secs() / STEP)
}

/// Notes that a code made at `made` (since 1970) is about to be sent to `destination`.
pub(super) fn mark_used(destination: &str, made: Duration) {
    let write = || {
        let mut file = file(destination, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        file.write_all(made.as_secs().to_string().as_bytes())
    };
    if let Err(error) = write() {
        tracing::warn!(%error, "could not note when a code was sent");
    }
}

/// How long until the code changes.
pub(super) fn until_next(now: Duration) -> Duration {
    Duration::from_secs(STEP - now.as_secs() % STEP)
}

fn file(destination: &str, flags: OFlags) -> io::Result<File> {
    paths::runtime()?.open(&format!("{}.code-sent", destination.replace('/', "_")), flags)
}

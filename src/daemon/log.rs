//! Limits what may be written into the daemon's log.
//!
//! `SCAUP_LOG` says what a user wants to read. It can't have everything: libraries log names, and on their lower levels
//! the packets that they send and receive, including secrets. So behind the user's filter there is another one that
//! only `--log-names` changes.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, dynamic_filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::log_file::{self, LogFile};
use super::log_lines::LogLines;
use crate::config::paths;

/// The filter unless `SCAUP_LOG` says otherwise.
const DEFAULT: &str = "scaup=info";

/// The crates that take care of names in their log lines: those of this project.
const OWN: [&str; 5] = ["scaup", "scaup_crypto", "scaup_fuse", "scaup_remote", "scaup_sftp"];

/// Whether clear names may be logged (`--log-names`).
static NAMES: AtomicBool = AtomicBool::new(false);

/// Begins to log to standard error, without names. `scaup=LEVEL` in `SCAUP_LOG` is the level of all crates of this
/// project: a directive applies to all targets that begin with its own.
pub fn begin() {
    let wanted = EnvFilter::try_from_env("SCAUP_LOG").unwrap_or_else(|_| DEFAULT.into());
    let allowed = dynamic_filter_fn(|line, _| is_allowed(line, NAMES.load(Ordering::Relaxed)));
    let lines = tracing_subscriber::fmt::layer().with_writer(|| LogLines(LogFile)).with_ansi(false);
    tracing_subscriber::registry().with(lines.with_filter(wanted.and(allowed))).init();
    std::panic::set_hook(Box::new(log_panic));
}

/// Limits the log of this `mount` to its bound from now on.
pub(super) fn keep_within_bound(mount: &str) {
    if let Err(error) = paths::logs().and_then(|directory| log_file::keep(directory, mount)) {
        tracing::warn!(%error, "the size of the log is not limited");
    }
}

/// Sets whether clear names may be logged from now on.
pub(super) fn set_names(allowed: bool) {
    NAMES.store(allowed, Ordering::Relaxed);
}

/// Returns whether a line may be written whatever its text. Below `INFO`, russh logs packets, which contain answers to
/// prompts; fuser logs requests with names, but never content.
fn is_allowed(line: &Metadata<'_>, names: bool) -> bool {
    let of = line.target().split("::").next().unwrap_or_default();
    match of {
        _ if OWN.contains(&of) => true,
        "fuser" => names && *line.level() <= Level::DEBUG,
        _ => names && *line.level() <= Level::INFO,
    }
}

/// Logs a panic's location only: its message may quote names, the location does not.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = if NAMES.load(Ordering::Relaxed) {
        text_of(panic.payload())
    } else {
        "not logged without --log-names"
    };
    let trace = Backtrace::capture();
    let trace = if trace.status() == BacktraceStatus::Captured { trace.to_string() } else { String::new() };
    tracing::error!(location, message, trace, "bug: a task panicked");
}

fn text_of(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panics_message_is_logged_only_where_names_are() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let lines = tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).finish();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let mut logged = Vec::new();
        tracing::subscriber::with_default(lines, || {
            for names in [false, true] {
                set_names(names);
                std::panic::catch_unwind(|| panic!("a {}", "name")).unwrap_err();
                logged.push(std::fs::read_to_string(log.path()).unwrap());
            }
        });
        std::panic::set_hook(before);
        assert!(logged.iter().all(|line| line.contains("log.rs")), "{logged:?}");
        assert!(!logged[0].contains("a name") && logged[1].contains("a name"), "{logged:?}");
    }
}

//! The status that a daemon reports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use scaup_fuse::requests::{InFlight, Latencies, Operation, Requests};
use scaup_sftp::ssh::large_packets_vanish_since;
use scaup_sftp::text::Line;

use super::lock_causes::LockCauses;
use super::protocol::{
    CounterEntry, ErrorEntry, InFlightEntry, LatencyEntry, MountRequest, MountState, MountStatus,
    UnsavedEntry, VaultEntry, VaultEntryState,
};
use crate::drive::{Drive, DriveCounters, Unsaved, VaultState, VaultStatus};
use crate::remote::{RemotePath, Weakness};

/// The daemon's activity, and since when.
pub(super) struct Activity {
    state: Mutex<Layers>,
}

/// The displayed state: the newest temporary one, else the state of the server.
struct Layers {
    server: Now,
    meanwhile: Vec<(u64, Now)>,
    next: u64,
}

impl Layers {
    fn current(&self) -> &Now {
        self.meanwhile.last().map_or(&self.server, |(_, now)| now)
    }
}

#[derive(Clone)]
struct Now {
    state: MountState,
    since: Timestamp,
    reason: Option<String>,
}

/// A temporary state that is shown, while this value lives, instead of the server's.
pub(super) struct Meanwhile<'a> {
    activity: &'a Activity,
    number: u64,
}

impl Drop for Meanwhile<'_> {
    fn drop(&mut self) {
        self.activity.lock().meanwhile.retain(|(number, _)| *number != self.number);
    }
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let server = Now { state: MountState::Connecting, since: Timestamp::now(), reason: None };
        Arc::new(Self { state: Mutex::new(Layers { server, meanwhile: Vec::new(), next: 0 }) })
    }

    fn lock(&self) -> MutexGuard<'_, Layers> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state of the server, with the reason if there is one.
    pub(super) fn set(&self, state: MountState, reason: Option<String>) {
        let server = &mut self.lock().server;
        if server.state != state {
            server.since = Timestamp::now();
        }
        server.state = state;
        server.reason = reason;
    }

    fn meanwhile(&self, state: MountState, reason: Option<String>) -> Meanwhile<'_> {
        let mut layers = self.lock();
        let number = layers.next;
        layers.next += 1;
        let shown = layers.current();
        let since = if shown.state == state { shown.since } else { Timestamp::now() };
        layers.meanwhile.push((number, Now { state, since, reason }));
        Meanwhile { activity: self, number }
    }

    /// Shows that the mount is ending.
    pub(super) fn unmounts(&self) -> Meanwhile<'_> {
        self.meanwhile(MountState::Unmounting, None)
    }

    /// Shows that the daemon waits for a person's answer to this question.
    pub(super) fn waits_for_answer(&self, question: &str) -> Meanwhile<'_> {
        self.meanwhile(MountState::WaitingForAnswer, Some(format!("asked: {}", question.trim_end())))
    }

    /// Shows that the current activity is delayed for this reason.
    pub(super) fn waits_for(&self, reason: String) -> Meanwhile<'_> {
        let state = self.lock().current().state;
        self.meanwhile(state, Some(reason))
    }

    /// Returns the whole status.
    pub(super) fn status(
        &self,
        request: &MountRequest,
        drive: Option<&Drive>,
        lock_causes: &LockCauses,
        asked: Option<&Requests>,
    ) -> MountStatus {
        let Now { state, since, reason } = self.lock().current().clone();
        let DriveCounters { remote, chunks_decrypted, chunks_encrypted, cache_hits } =
            drive.map(Drive::counters).unwrap_or_default();
        MountStatus {
            name: request.name.clone(),
            target: request.login.target.to_string(),
            mountpoint: request.mountpoint.clone(),
            pid: std::process::id(),
            state,
            since: shown_time(since),
            reason,
            weaknesses: drive.map(Drive::weaknesses).into_iter().flatten().map(sentence).collect(),
            lock_on: request.settings.lock_on(),
            vaults: {
                let vaults = drive.map(Drive::vaults).unwrap_or_default().into_iter();
                vaults.map(|vault| vault_entry(vault, lock_causes)).collect()
            },
            unsaved: drive.map(Drive::unsaved).unwrap_or_default().into(),
            errors: errors(drive),
            latencies: asked.map(Requests::latencies).into_iter().flatten().map(latency_entry).collect(),
            in_flight: asked.map(Requests::in_flight).into_iter().flatten().map(in_flight_entry).collect(),
            counters: CounterEntry {
                sftp_requests: remote.requests,
                bytes_received: remote.bytes_received,
                bytes_sent: remote.bytes_sent,
                chunks_decrypted,
                chunks_encrypted,
                cache_hits,
                reconnects: remote.reconnects,
            },
        }
    }
}

/// Returns the errors of the files, and of the road to them.
fn errors(drive: Option<&Drive>) -> Vec<ErrorEntry> {
    let errors = drive.map(Drive::errors).unwrap_or_default().into_iter();
    let errors = errors.map(|error| (error.time, error.kind, error.message));
    let road = large_packets_vanish_since().map(|since| {
        let message = "large packets do not get through to the server; smaller ones are used";
        (since, "large-packets", message.to_owned())
    });
    let mut errors: Vec<_> = errors.chain(road).collect();
    errors.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
    let entries = errors.into_iter().map(|(time, kind, message)| ErrorEntry {
        time: shown_time(Timestamp::try_from(time).unwrap_or_default()),
        kind: kind.into(),
        message,
    });
    entries.collect()
}

impl From<Unsaved> for UnsavedEntry {
    fn from(unsaved: Unsaved) -> Self {
        let Unsaved { files, bytes, removals, off_disk: _ } = unsaved;
        Self { files, bytes, removals }
    }
}

fn sentence(weakness: Weakness) -> String {
    weakness.sentence().to_owned()
}

/// Formats a time in whole seconds, RFC 3339.
fn shown_time(time: Timestamp) -> String {
    format!("{time:.0}")
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn latency_entry((operation, times): (Operation, Latencies)) -> (String, LatencyEntry) {
    let Latencies { count, median, p95 } = times;
    let entry = LatencyEntry { count, median_us: microseconds(median), p95_us: microseconds(p95) };
    (operation.name().to_owned(), entry)
}

fn in_flight_entry(request: InFlight) -> InFlightEntry {
    let since = Timestamp::try_from(request.since).unwrap_or_default();
    InFlightEntry { operation: request.operation.name().to_owned(), since: format!("{since:.3}") }
}

/// Returns a vault's path for programs: exactly as it is.
pub(super) fn exact(path: &RemotePath) -> String {
    if path.is_root() { ".".to_owned() } else { String::from_utf8_lossy(path.as_bytes()).into_owned() }
}

/// Returns a vault's path for people to read.
pub(super) fn legible(path: &RemotePath) -> Line {
    Line::of(&exact(path))
}

fn vault_entry(vault: VaultStatus, lock_causes: &LockCauses) -> VaultEntry {
    let (state, reason) = match vault.state {
        VaultState::Unlocked => (VaultEntryState::Unlocked, None),
        VaultState::Locked => {
            (VaultEntryState::Locked, lock_causes.of(&vault.path).map(|cause| cause.to_string()))
        }
        VaultState::Unsupported(reason) => (VaultEntryState::Unsupported, Some(reason)),
    };
    let displaced =
        vault.displaced.map(|shown| format!("{shown}; reads and writes there fail until the vault is back"));
    VaultEntry {
        path: exact(&vault.path),
        state,
        reason: displaced.or(reason),
        id: vault.id,
        format: vault.format,
        cipher_combo: vault.cipher_combo,
    }
}

//! What a daemon says of itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use scaup_sftp::text::Line;

use super::protocol::{
    CounterEntry, ErrorEntry, MountRequest, MountState, MountStatus, UnsavedEntry, VaultEntry,
};
use crate::drive::{Drive, DriveCounters, Unsaved, VaultState, VaultStatus};
use crate::remote::RemotePath;

/// What the daemon is doing, and since when.
pub(super) struct Activity {
    state: Mutex<Layers>,
}

/// What is shown: the newest of what goes on meanwhile, else how things are with the server.
struct Layers {
    server: Now,
    meanwhile: Vec<(u64, Now)>,
    next: u64,
}

impl Layers {
    fn shown(&self) -> &Now {
        self.meanwhile.last().map_or(&self.server, |(_, now)| now)
    }
}

#[derive(Clone)]
struct Now {
    state: MountState,
    since: Timestamp,
    reason: Option<String>,
}

/// While it lives, something else is shown than how things are with the server.
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

    /// How things are with the server, and why, if there is something to say about that.
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
        let shown = layers.shown();
        let since = if shown.state == state { shown.since } else { Timestamp::now() };
        layers.meanwhile.push((number, Now { state, since, reason }));
        Meanwhile { activity: self, number }
    }

    /// It is ending.
    pub(super) fn unmounts(&self) -> Meanwhile<'_> {
        self.meanwhile(MountState::Unmounting, None)
    }

    /// A person is being waited for, to answer this question.
    pub(super) fn waits_for_answer(&self, question: &str) -> Meanwhile<'_> {
        self.meanwhile(MountState::WaitingForAnswer, Some(format!("asked: {}", question.trim_end())))
    }

    /// It goes on, but for this reason not at once.
    pub(super) fn waits_for(&self, reason: String) -> Meanwhile<'_> {
        let state = self.lock().shown().state;
        self.meanwhile(state, Some(reason))
    }

    /// All of it.
    pub(super) fn status(&self, request: &MountRequest, drive: Option<&Drive>) -> MountStatus {
        let Now { state, since, reason } = self.lock().shown().clone();
        let DriveCounters { remote, chunks_decrypted, chunks_encrypted, cache_hits } =
            drive.map(Drive::counters).unwrap_or_default();
        MountStatus {
            name: request.name.clone(),
            target: request.target.to_string(),
            mountpoint: request.mountpoint.clone(),
            pid: std::process::id(),
            state,
            since: shown_time(since),
            reason,
            vaults: drive.map(Drive::vaults).unwrap_or_default().into_iter().map(vault_entry).collect(),
            unsaved: drive.map(Drive::unsaved).unwrap_or_default().into(),
            errors: drive
                .map(Drive::errors)
                .unwrap_or_default()
                .into_iter()
                .map(|error| ErrorEntry {
                    time: shown_time(Timestamp::try_from(error.time).unwrap_or_default()),
                    kind: error.kind.to_owned(),
                    message: error.message,
                })
                .collect(),
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

impl From<Unsaved> for UnsavedEntry {
    fn from(unsaved: Unsaved) -> Self {
        let Unsaved { files, bytes, removals, off_disk: _ } = unsaved;
        Self { files, bytes, removals }
    }
}

/// A time in whole seconds, RFC 3339.
fn shown_time(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// A vault's path as programs take it: exactly what it is.
pub(super) fn exact(path: &RemotePath) -> String {
    if path.is_root() { ".".to_owned() } else { String::from_utf8_lossy(path.as_bytes()).into_owned() }
}

/// A vault's path for people to read.
pub(super) fn shown(path: &RemotePath) -> Line {
    Line::of(&exact(path))
}

fn vault_entry(vault: VaultStatus) -> VaultEntry {
    let (state, reason) = match vault.state {
        VaultState::Unlocked => ("unlocked", None),
        VaultState::Locked => ("locked", None),
        VaultState::Unsupported(reason) => ("unsupported", Some(reason)),
    };
    let displaced =
        vault.displaced.map(|shown| format!("{shown}; nothing is read or written there until it is back"));
    VaultEntry {
        path: exact(&vault.path),
        state: state.to_owned(),
        reason: displaced.or(reason),
        format: vault.format,
        cipher_combo: vault.cipher_combo,
    }
}

//! What a daemon says of itself.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::protocol::{
    CounterEntry, ErrorEntry, MountRequest, MountState, MountStatus, UnsavedEntry, VaultEntry,
};
use crate::drive::{Drive, DriveCounters, Unsaved, VaultState, VaultStatus};
use crate::remote::RemotePath;

/// What the daemon is doing, and since when.
pub(super) struct Activity {
    now: Mutex<(MountState, Timestamp)>,
}

/// While it lives, a person is being waited for.
pub(super) struct WaitsForAnswer<'a> {
    activity: &'a Activity,
    before: MountState,
}

impl Drop for WaitsForAnswer<'_> {
    fn drop(&mut self) {
        self.activity.set(self.before);
    }
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { now: Mutex::new((MountState::Connecting, Timestamp::now())) })
    }

    pub(super) fn set(&self, state: MountState) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0 != state {
            *now = (state, Timestamp::now());
        }
    }

    pub(super) fn waits_for_answer(&self) -> WaitsForAnswer<'_> {
        let before = self.get().0;
        self.set(MountState::WaitingForAnswer);
        WaitsForAnswer { activity: self, before }
    }

    fn get(&self) -> (MountState, Timestamp) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it.
    pub(super) fn status(&self, request: &MountRequest, drive: Option<&Drive>) -> MountStatus {
        let (state, since) = self.get();
        let DriveCounters { remote, chunks_decrypted, chunks_encrypted, cache_hits } =
            drive.map(Drive::counters).unwrap_or_default();
        let Unsaved { files, bytes, removals } = drive.map(Drive::unsaved).unwrap_or_default();
        MountStatus {
            name: request.name.clone(),
            target: request.target.to_string(),
            mountpoint: request.mountpoint.clone(),
            pid: std::process::id(),
            state,
            since: shown_time(since),
            vaults: drive.map(Drive::vaults).unwrap_or_default().into_iter().map(vault_entry).collect(),
            unsaved: UnsavedEntry { files, bytes, removals },
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

/// A time in whole seconds, RFC 3339.
fn shown_time(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// A vault's path as people write it.
pub(super) fn shown(path: &RemotePath) -> String {
    if path.is_root() { ".".to_owned() } else { String::from_utf8_lossy(path.as_bytes()).into_owned() }
}

fn vault_entry(vault: VaultStatus) -> VaultEntry {
    let (state, reason) = match vault.state {
        VaultState::Unlocked => ("unlocked", None),
        VaultState::Locked => ("locked", None),
        VaultState::Unsupported(reason) => ("unsupported", Some(reason)),
    };
    VaultEntry {
        path: shown(&vault.path),
        state: state.to_owned(),
        reason,
        format: vault.format,
        cipher_combo: vault.cipher_combo,
    }
}

/// Who uses a mount, as far as the system shows: ` by NAME (PID), …`, or nothing.
pub(super) fn users_of(mountpoint: &Path) -> String {
    let Ok(processes) = std::fs::read_dir("/proc") else { return String::new() };
    let mut users = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let links = ["cwd", "root", "exe"].map(|name| process.path().join(name));
        let open =
            std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
        // Only the links are read: looking at what they name would ask the mount.
        let uses = links
            .into_iter()
            .chain(open)
            .any(|link| std::fs::read_link(link).is_ok_and(|target| target.starts_with(mountpoint)));
        if uses {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            users.push(format!("{} ({pid})", name.trim()));
        }
    }
    if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) }
}

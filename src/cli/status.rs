//! `scaup status`.

use clap::Args;
use scaup_sftp::text::Line;

use super::converse::{self, Mounts};
use super::error::CliError;
use super::screen;
use crate::config::lock_on::LockOn;
use crate::config::size;
use crate::daemon::protocol::{CounterEntry, InFlightEntry, LatencyEntry, MountStatus, UnsavedEntry};

/// Show what is mounted, what waits to be saved, and what went wrong.
#[derive(Args)]
#[command(
    after_help = "With --debug, a table shows for each mount how many requests of programs (`lookup`, `read`, `readdir` …) were answered, and the time \
    within which half of them and 95 of 100 were done. Below it are the counters of the traffic, and the requests in progress, oldest first: \
    a request that hangs is among them. The log says more if the mount was made with SCAUP_LOG=scaup=debug."
)]
pub(super) struct StatusArguments {
    /// The mount's name or mount point [default: all]
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also show how long requests took, which are in progress, and the counters
    #[arg(long)]
    debug: bool,
}

pub(super) fn run(arguments: &StatusArguments) -> Result<(), CliError> {
    let Some(named) = &arguments.mount else {
        let Mounts { replying, of_other_versions } = converse::all()?;
        let mounts: Vec<MountStatus> = replying.into_iter().map(|(_, status)| status).collect();
        if !mounts.is_empty() || of_other_versions.is_empty() || arguments.json {
            show_all(&mounts, arguments)?;
        }
        let mut errors = of_other_versions.into_iter().map(|(_, error)| error);
        let last = errors.next_back();
        errors.for_each(|error| screen::fail(&error.message));
        return last.map_or(Ok(()), Err);
    };
    show_all(&[converse::find(Some(named))?.1], arguments)
}

fn show_all(mounts: &[MountStatus], arguments: &StatusArguments) -> Result<(), CliError> {
    if arguments.json {
        return screen::out_json(&serde_json::json!({ "mounts": mounts }));
    }
    if mounts.is_empty() {
        screen::out("nothing is mounted");
    }
    for mount in mounts {
        show(mount);
        if arguments.debug {
            show_details(mount);
        }
    }
    Ok(())
}

fn show(mount: &MountStatus) {
    screen::out(&format!("{}: {} at {}", mount.name, mount.target, mount.mountpoint.display()));
    screen::out(&format!("  {}", state_of(mount)));
    for weakness in &mount.weaknesses {
        screen::out(&format!("  {weakness}"));
    }
    if !mount.vaults.is_empty() {
        screen::out(&format!("  {}", lock_on(mount.lock_on)));
    }
    for vault in &mount.vaults {
        let kind = match (vault.format, &vault.cipher_combo) {
            (Some(format), Some(combo)) => format!(" (format {format}, {combo})"),
            _ => String::new(),
        };
        let reason = vault.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        screen::out(&format!("  vault {}: {}{kind}{reason}", Line::of(&vault.path), vault.state));
    }
    if mount.unsaved.files > 0 {
        let UnsavedEntry { files, bytes, .. } = mount.unsaved;
        screen::out(&format!("  not on the server yet: {files} files, {}", size::show(bytes)));
    }
    if mount.unsaved.removals > 0 {
        screen::out(&format!("  being removed from the server: {}", mount.unsaved.removals));
    }
    for error in mount.errors.iter().take(10) {
        screen::out(&format!("  {} {}: {}", error.time, error.kind, error.message));
    }
}

/// Returns what is most important of a mount, without names of files: others may read it.
pub(super) fn in_one_line(mount: &MountStatus) -> String {
    let mut line = state_of(mount);
    let UnsavedEntry { files, bytes, .. } = mount.unsaved;
    if files > 0 {
        line.push_str(&format!("; not on the server yet: {files} files, {}", size::show(bytes)));
    }
    if !mount.errors.is_empty() {
        line.push_str(&format!("; `scaup status {}` shows what went wrong", mount.name));
    }
    Line::of(&line).to_string()
}

/// Returns the state of a mount, since when it is so, and why.
fn state_of(mount: &MountStatus) -> String {
    let state = serde_json::to_value(mount.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default().replace('_', " ");
    let reason = mount.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{state} since {}{reason}", mount.since)
}

/// Says what locks the vaults by itself.
fn lock_on(lock_on: LockOn) -> String {
    match lock_on {
        LockOn::NEVER => "never locks its vaults by itself".to_owned(),
        _ => format!("locks its vaults by itself on {lock_on}"),
    }
}

/// Shows latencies, counters, and requests under way.
fn show_details(mount: &MountStatus) {
    screen::out(&format!("  {:<12} {:>10} {:>10} {:>10}", "requests", "answered", "median", "95 %"));
    for (operation, LatencyEntry { count, median_us, p95_us }) in &mount.latencies {
        let (median, p95) = (duration(*median_us), duration(*p95_us));
        screen::out(&format!("    {operation:<10} {count:>10} {median:>10} {p95:>10}"));
    }
    let CounterEntry {
        sftp_requests,
        bytes_received,
        bytes_sent,
        chunks_decrypted,
        chunks_encrypted,
        cache_hits,
        reconnects,
    } = mount.counters;
    screen::out("  counters");
    for (name, value) in [
        ("SFTP requests", sftp_requests.to_string()),
        ("received", size::show(bytes_received)),
        ("sent", size::show(bytes_sent)),
        ("chunks decrypted", chunks_decrypted.to_string()),
        ("chunks encrypted", chunks_encrypted.to_string()),
        ("chunks from memory", cache_hits.to_string()),
        ("reconnects", reconnects.to_string()),
    ] {
        screen::out(&format!("    {name:<20} {value:>12}"));
    }
    screen::out(&format!("  under way: {}", mount.in_flight.len()));
    for InFlightEntry { operation, since } in &mount.in_flight {
        screen::out(&format!("    {operation:<10} since {since}"));
    }
}

/// Formats a time for people, from microseconds.
#[allow(clippy::cast_precision_loss)] // Three digits are shown.
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

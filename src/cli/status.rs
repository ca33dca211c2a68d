//! `scaup status`.

use clap::Args;
use scaup_sftp::text::Line;

use super::converse;
use super::exit::CliError;
use super::screen;
use crate::config::size;
use crate::daemon::protocol::{MountStatus, UnsavedEntry};

/// Show what is mounted, what waits to be saved, and what went wrong.
#[derive(Args)]
pub(super) struct Arguments {
    /// The mount's name or mount point [default: all]
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CliError> {
    let mounts: Vec<MountStatus> = match &arguments.mount {
        Some(mount) => vec![converse::find(Some(mount))?.1],
        None => converse::all()?.into_iter().map(|(_, status)| status).collect(),
    };
    if arguments.json {
        return screen::out_json(&serde_json::json!({ "mounts": mounts }));
    }
    if mounts.is_empty() {
        screen::out("nothing is mounted");
    }
    mounts.iter().for_each(show);
    Ok(())
}

fn show(mount: &MountStatus) {
    let state = serde_json::to_value(mount.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default().replace('_', " ");
    screen::out(&format!("{}: {} at {}", mount.name, mount.target, mount.mountpoint.display()));
    let reason = mount.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    screen::out(&format!("  {state} since {}{reason}", mount.since));
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

//! `scaup status`.

use clap::Args;

use super::converse;
use super::exit::CliError;
use super::prompt;
use crate::config::size;
use crate::daemon::protocol::MountStatus;

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
        let all = serde_json::json!({ "mounts": mounts });
        println!("{}", serde_json::to_string_pretty(&all).map_err(CliError::other)?);
        return Ok(());
    }
    if mounts.is_empty() {
        println!("nothing is mounted");
    }
    mounts.iter().for_each(show);
    Ok(())
}

fn show(mount: &MountStatus) {
    let state = serde_json::to_value(mount.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default().replace('_', " ");
    println!("{}: {} at {}", mount.name, mount.target, mount.mountpoint.display());
    let reason =
        mount.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", prompt::shown(reason)));
    println!("  {state} since {}{reason}", mount.since);
    for vault in &mount.vaults {
        let kind = match (vault.format, &vault.cipher_combo) {
            (Some(format), Some(combo)) => format!(" (format {format}, {combo})"),
            _ => String::new(),
        };
        let reason = vault.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        println!("  vault {}: {}{kind}{}", prompt::shown(&vault.path), vault.state, prompt::shown(&reason));
    }
    if mount.unsaved.files > 0 {
        println!(
            "  not on the server yet: {} files, {}",
            mount.unsaved.files,
            size::show(mount.unsaved.bytes)
        );
    }
    if mount.unsaved.removals > 0 {
        println!("  being removed from the server: {}", mount.unsaved.removals);
    }
    for error in mount.errors.iter().take(10) {
        println!("  {} {}: {}", error.time, error.kind, prompt::shown(&error.message));
    }
}

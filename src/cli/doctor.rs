//! `scaup doctor`.

mod traces;

use std::path::PathBuf;

use clap::Args;

use super::error::CliError;

/// Find out what may be wrong, and what other programs keep of vaults.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 all is well, 1 there are warnings, or traces are left, 2 something will not work."
)]
pub(super) struct DoctorArguments {
    /// Find what other programs keep of files below PATH: previews, lists of recent files, trash, swap files, histories
    /// [default: all mounts, and ~/Scaup]
    #[arg(long, value_name = "PATH", num_args = 0..=1, required = true)]
    traces: Option<Option<PathBuf>>,
    /// Remove these traces, after a question for each kind
    #[arg(long, requires = "traces", conflicts_with = "json")]
    remove: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &DoctorArguments) -> Result<(), CliError> {
    traces::run(arguments.traces.as_ref().and_then(Option::as_deref), arguments.remove, arguments.json)
}

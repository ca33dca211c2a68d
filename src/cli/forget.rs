//! `scaup forget`.

use clap::Args;

use super::error::CliError;
use super::mount::looked_up;
use super::screen;
use crate::config::mount_options::Options;
use crate::config::settings::LoginSettings;
use crate::daemon::protocol::FailureKind;
use crate::daemon::remembered::{RememberedError, forget_all};
use crate::daemon::remembered_vaults_of;

/// Forget which vaults were unlocked.
#[derive(Args)]
#[command(
    after_help = "Scaup remembers the path and the id of each vault that was unlocked, and nothing else. If a mount finds something else at that \
    path, it blocks the path: what programs save there would be readable on the server. If you moved or removed a vault on purpose, \
    forget it here and mount again. Other vaults are remembered again when they are unlocked.\n\n\
    Examples:\n  \
    scaup forget hq                                a bookmark\n  \
    scaup forget alice@hq.example:/srv/nextcloud   a directory on a server, and all below it\n  \
    scaup forget --all"
)]
pub(super) struct ForgetArguments {
    /// A bookmark, or a target as `scaup mount` takes it
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
    target: Option<String>,
    /// Every vault of every server
    #[arg(long)]
    all: bool,
    /// The server's port
    #[arg(short)]
    port: Option<u16>,
    /// Read this file instead of ~/.ssh/config (`none`: no file)
    #[arg(short = 'F', value_name = "FILE")]
    ssh_config: Option<std::path::PathBuf>,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(arguments: ForgetArguments) -> Result<(), CliError> {
    let failed = |error: RememberedError| CliError::new(FailureKind::Other, error);
    let ForgetArguments { target, all: _, port, ssh_config, options } = arguments;
    let forgotten = match target {
        Some(target) => {
            let settings = LoginSettings { port, ssh_config, options, ..LoginSettings::default() };
            let (login, _) = looked_up(&target, settings)?;
            remembered_vaults_of(&login)?.forget_below().map_err(failed)?
        }
        None => forget_all().map_err(failed)?,
    };
    if forgotten.is_empty() {
        screen::out("no vault is remembered for that target");
    }
    for vault in forgotten {
        screen::out(&format!("forgot vault {vault}"));
    }
    Ok(())
}

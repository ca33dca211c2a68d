//! `scaup forget`.

use clap::Args;

use super::error::CliError;
use super::mount::looked_up;
use super::screen;
use crate::config::mount_options::Options;
use crate::config::settings::LoginSettings;
use crate::daemon::kept_secrets::{self, Whose};
use crate::daemon::remembered::forget_all;
use crate::daemon::{remembered_vaults_of, whose_secrets};

/// Forget the passphrases and passwords that are remembered, and which vaults were unlocked.
#[derive(Args)]
#[command(
    after_help = "Scaup removes from the desktop's keyring what it has put there for a bookmark or target: passphrases of its keys, passwords \
    of the server and of vaults, and what makes codes (`scaup bookmark remember-codes`). The keyring may ask for its own password. Programs \
    that show keyrings (Seahorse, KWalletManager) can remove the same items; their names begin with \"Scaup\".\n\n\
    Scaup also remembers the path and the id of each vault that was unlocked. If a mount finds something else at that \
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
    /// Everything of every server
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
    let ForgetArguments { target, all: _, port, ssh_config, options } = arguments;
    let (whose, vaults) = match target {
        Some(target) => {
            let settings = LoginSettings { port, ssh_config, options, ..LoginSettings::default() };
            let (login, _) = looked_up(&target, settings)?;
            let vaults = remembered_vaults_of(&login)?.forget_below()?;
            (whose_secrets(&login)?, vaults)
        }
        None => (Whose::All, forget_all()?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let secrets = runtime.block_on(kept_secrets::forget_those(&whose)).map_err(CliError::other);
    let forgotten = vaults.into_iter().map(|vault| format!("vault {vault}"));
    let forgotten: Vec<String> = forgotten.chain(secrets.as_ref().into_iter().flatten().cloned()).collect();
    if forgotten.is_empty() && secrets.is_ok() {
        screen::out("nothing is remembered for that target");
    }
    for what in forgotten {
        screen::out(&format!("forgot {what}"));
    }
    secrets.map(drop)
}

//! `scaup vault upgrade`.

use clap::Args;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::{self, SecretArguments, Sources};
use super::vault_work::{agree, change_failed, shown, until_interrupted};
use crate::daemon::protocol::FailureKind;
use crate::vault::{is_before_format_8, upgrade_vault};

/// Upgrade a vault of format 7 to format 8.
///
/// The vault gets a config file, and its masterkey file is written anew; its content and its password stay. The
/// masterkey file as it was is kept beside it as a backup. Format 8 needs Cryptomator 1.6 or newer, on every device
/// that opens the vault. Older formats are upgraded by Cryptomator's desktop program only: unlock the vault once there.
#[derive(Args)]
pub(super) struct UpgradeArguments {
    #[command(flatten)]
    location: VaultLocation,
    #[command(flatten)]
    secret: SecretArguments,
    /// Do not ask whether to go on
    #[arg(long)]
    yes: bool,
}

/// How a vault is whose upgrade was ended.
const OPENS: &str = "the vault opens with its password as before: run this again to finish";

pub(super) fn run(runtime: &Runtime, arguments: &UpgradeArguments) -> Result<(), CliError> {
    until_interrupted(runtime, OPENS, upgrade(arguments))
}

async fn upgrade(arguments: &UpgradeArguments) -> Result<(), CliError> {
    let UpgradeArguments { location, secret, yes } = arguments;
    let path = &location.path;
    let (remote, vault) = location.open().await?;
    let is_before = is_before_format_8(remote.as_ref(), &vault).await;
    if !is_before.map_err(|error| CliError::new(FailureKind::Vault, error))? {
        screen::out(&format!("vault {path} has format 8 already; nothing is to be done"));
        return Ok(());
    }
    let command = secret.command();
    let opened = vault_secret::open(location, command.as_ref(), Sources::All, remote.as_ref(), &vault).await;
    let (_, secret) = opened?;
    let Some(password) = secret.as_password() else {
        let text = "an upgrade needs the vault's password, since it writes the masterkey file anew; with the recovery \
            key, set a new password first: scaup vault passwd";
        return Err(CliError::usage(text));
    };
    screen::out(&format!("vault {path} has format 7. It gets a config file, vault.cryptomator,"));
    screen::out("and its masterkey file is written anew, with the same password; a backup of it is kept.");
    screen::out("Cryptomator before 1.6 can't open it any more.");
    agree("Upgrade it", *yes)?;
    let backup = upgrade_vault(remote.as_ref(), &vault, password).await;
    let backup = shown(&backup.map_err(|error| change_failed(error, OPENS))?);
    screen::out(&format!("vault {path} has format 8. The masterkey file as it was is kept as {backup}."));
    Ok(())
}

//! `scaup vault upgrade`.

use clap::Args;
use scaup_sftp::text::Line;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::prompt;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::{self, SecretArguments, Sources};
use crate::daemon::protocol::FailureKind;
use crate::vault::{OpenError, is_before_format_8, upgrade_vault};

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

pub(super) fn run(runtime: &Runtime, arguments: &UpgradeArguments) -> Result<(), CliError> {
    runtime.block_on(async {
        tokio::select! {
            // Ctrl-C is listened for before anything else begins.
            biased;
            _ = tokio::signal::ctrl_c() => Err(CliError::other(
                "interrupted; the vault opens with its password as before: run this again to finish"
            )),
            done = upgrade(arguments) => done,
        }
    })
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
    if !yes && !prompt::confirm("Upgrade it").map_err(|reason| CliError::other(no_yes(&reason)))? {
        return Err(CliError::other("nothing was changed"));
    }
    let backup = upgrade_vault(remote.as_ref(), &vault, password).await.map_err(|error| match &error {
        OpenError::Remote { source, .. } if source.is_unanswered() => CliError::new(
            FailureKind::Unreachable,
            format!("{error}; the vault opens with its password as before: run this again to finish"),
        ),
        _ => CliError::new(FailureKind::Vault, error),
    })?;
    let backup = Line::of(&String::from_utf8_lossy(backup.as_bytes())).to_string();
    screen::out(&format!("vault {path} has format 8. The masterkey file as it was is kept as {backup}."));
    Ok(())
}

/// Returns the failure where nobody could be asked.
pub(super) fn no_yes(reason: &str) -> String {
    format!("nothing was changed, since nobody could be asked ({reason}); use --yes")
}

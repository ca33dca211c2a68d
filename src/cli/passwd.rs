//! `scaup vault passwd`.

use clap::Args;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::new_password::new_password;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::{self, SecretArguments, Sources};
use super::vault_work::{change_failed, shown, until_interrupted};
use crate::daemon::protocol::FailureKind;
use crate::daemon::{kept_secrets, remembered_vaults_of};
use crate::remote::RemoteError;
use crate::vault::{OldCopies, OpenError, change_password, forget_password};

/// Change the password of a vault.
///
/// The keys of the vault stay, so its content is not touched, and mounts in which it is unlocked go on. The masterkey
/// file as it was is kept beside it as a backup, which the old password opens; --forget-old removes it, and older ones.
/// With the recovery key in place of the old password (enter r for it), a new password is set without the old one.
#[derive(Args)]
#[command(
    after_help = "Whoever had the masterkey file and the old password before may have kept both, or the keys: for them the vault \
    stays open. Only a new vault, to which everything is moved, closes it."
)]
pub(super) struct PasswdArguments {
    #[command(flatten)]
    location: VaultLocation,
    #[command(flatten)]
    secret: SecretArguments,
    /// A command that prints the new password
    #[arg(long, value_name = "CMD")]
    new_password_command: Option<String>,
    /// Remove every backup of the masterkey file that the old password still opens
    #[arg(long, conflicts_with = "recovery_key_command")]
    forget_old: bool,
}

/// How a vault is whose change of password was ended.
const EITHER: &str = "the vault has the old or the new password: try again";

pub(super) fn run(runtime: &Runtime, arguments: &PasswdArguments) -> Result<(), CliError> {
    until_interrupted(runtime, EITHER, change(arguments))
}

async fn change(arguments: &PasswdArguments) -> Result<(), CliError> {
    let PasswdArguments { location, secret, new_password_command, forget_old } = arguments;
    let path = &location.path;
    let (remote, vault) = location.open().await?;
    let command = secret.command();
    let opened =
        vault_secret::open(location, command.as_ref(), Sources::Person, remote.as_ref(), &vault).await;
    let (cryptor, secret) = opened?;
    let old = secret.as_password();
    if *forget_old && old.is_none() {
        let text = "--forget-old needs the old password, to try it on the backups; nothing was changed";
        return Err(CliError::usage(text));
    }
    let new = new_password(path, new_password_command.as_deref(), "the vault keeps its password")?;
    if old == Some(new.as_str()) {
        return Err(CliError::new(
            FailureKind::Vault,
            "this is the vault's password already; nothing was changed",
        ));
    }
    let backup = change_password(remote.as_ref(), &vault, &secret, &new).await;
    let backup = backup.map_err(|error| change_failed(error, EITHER))?;
    screen::out(&format!("the password of vault {path} is changed"));
    let known = remembered_vaults_of(&location.request()?.0)?;
    if let Some(text) = kept_secrets::refuse_password_of(&known, &vault).await {
        screen::tell(&text);
    }
    match old {
        Some(old) if *forget_old => {
            let forgotten = forget_password(remote.as_ref(), &vault, &cryptor, old).await;
            show(&forgotten.map_err(|error| match error {
                OpenError::Remote {
                    source: source @ (RemoteError::Timeout(_) | RemoteError::Disconnected(_)),
                    ..
                } => {
                    let text = format!(
                        "{source}; the password is changed, but backups that the old one opens may be left"
                    );
                    CliError::new(FailureKind::Unreachable, text)
                }
                error => CliError::new(FailureKind::Vault, error),
            })?);
        }
        _ => screen::out(&format!(
            "The masterkey file as it was is kept as {}; the old password opens the vault through it.",
            shown(&backup)
        )),
    }
    screen::out(
        "Whoever had the masterkey file and the old password before, or the recovery key, can still open the vault.",
    );
    Ok(())
}

fn show(copies: &OldCopies) {
    for name in &copies.removed {
        screen::out(&format!("removed {}, which the old password opened", shown(name)));
    }
    for (name, reason) in &copies.left {
        screen::out(&format!("left {}: {reason}", shown(name)));
    }
}

//! `scaup vault restore`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;

use super::error::CliError;
use super::new_password::new_password;
use super::progress::ProgressLine;
use super::screen;
use super::vault_access::VaultLocation;
use super::vault_secret::{self, SecretArguments};
use super::vault_work::{agree, change_failed, shown, until_interrupted};
use crate::daemon::protocol::FailureKind;
use crate::daemon::vault_secret::OpenedBy;
use crate::remote::Remote;
use crate::vault::{FoundFiles, InferredConfig, OpenError, Restoration, Source, Step, VaultSecret, Why};

/// How often the progress is updated.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Bring a vault's lost or damaged masterkey.cryptomator or vault.cryptomator back.
///
/// A backup (.bkup) beside them is used if it verifies: the password opens the masterkey file, and its keys signed the
/// config. With the recovery key (enter r where the password is asked for) both files are made anew; the masterkey file
/// then gets a new password. What the config said is found out from the content of the vault. A vault of Cryptomator
/// Hub becomes one that a password opens.
#[derive(Args)]
#[command(
    after_help = "Nothing is replaced without a copy of it, named as Cryptomator names backups, and no content of the \
    vault is touched. Unmount the vault everywhere first: with a config that was made anew, it has a new id, and \
    mounts that know the old one take it for another vault (scaup forget makes them ask again)."
)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    location: VaultLocation,
    #[command(flatten)]
    secret: SecretArguments,
    /// A command that prints the new password, if one is needed
    #[arg(long, value_name = "CMD")]
    new_password_command: Option<String>,
    /// Do not ask whether to go on
    #[arg(long)]
    yes: bool,
}

/// How a vault is whose restoring was ended.
const ALL_THERE: &str = "what was there is there still, at least as a backup: run this again to finish";

pub(super) fn run(runtime: &Runtime, arguments: &RestoreArguments) -> Result<(), CliError> {
    until_interrupted(runtime, ALL_THERE, restore(arguments))
}

async fn restore(arguments: &RestoreArguments) -> Result<(), CliError> {
    let RestoreArguments { location, secret, new_password_command, yes } = arguments;
    let path = &location.path;
    let (remote, vault) = location.open().await?;
    let remote = remote.as_ref();
    let files = FoundFiles::read(remote, &vault).await;
    let files = files.map_err(|error| CliError::new(FailureKind::Vault, error))?;
    let command = secret.command();
    if files.seem_whole() && command.is_none() {
        screen::out(&format!(
            "vault {path}: both of its files are there and can be read; nothing is to be done"
        ));
        screen::out("If it does not open all the same, run this with --recovery-key-command.");
        return Ok(());
    }
    let plan = async |secret: &VaultSecret| plan(&files, remote, secret).await;
    let planned = match &command {
        Some(command) => vault_secret::by_command(path, command, plan).await,
        None => {
            let opened_by =
                if files.may_have_password() { OpenedBy::Password } else { OpenedBy::RecoveryKey };
            vault_secret::ask_until(path, opened_by, plan).await
        }
    };
    let (restoration, secret) = planned?;
    if restoration.steps().is_empty() {
        screen::out(&format!("vault {path}: its files are there and belong to it; nothing is to be done"));
        if secret.as_password().is_none() {
            screen::out(
                "If its password does not open it, set a new one: scaup vault passwd, with the recovery key.",
            );
        }
        return Ok(());
    }
    restoration.steps().iter().for_each(tell);
    agree("Restore it", *yes)?;
    let password = match restoration.needs_password() {
        true => Some(new_password(path, new_password_command.as_deref(), "nothing was changed")?),
        false => None,
    };
    let done = restoration.carry_out(remote, password.as_deref().map(String::as_str)).await;
    let backups = done.map_err(|error| change_failed(error, ALL_THERE))?;
    for backup in backups {
        screen::out(&format!("what was replaced is kept as {}", shown(&backup)));
    }
    screen::out(&format!("vault {path} is restored"));
    Ok(())
}

/// Decides what is done, and shows how far that is.
async fn plan(
    files: &FoundFiles,
    remote: &dyn Remote,
    secret: &VaultSecret,
) -> Result<Restoration, OpenError> {
    let (directories, line) = (AtomicU64::new(0), ProgressLine::new());
    let mut planning = std::pin::pin!(files.plan(remote, secret, &directories));
    let mut shown = tokio::time::interval(SHOW_EVERY);
    loop {
        tokio::select! {
            planned = &mut planning => return planned,
            _ = shown.tick() => match directories.load(Ordering::Relaxed) {
                0 => {}
                count => line.show(format!("finding out what the config said: {count} directories read")),
            }
        }
    }
}

/// Says what is done with one of the files.
fn tell(step: &Step) {
    let name = shown(&step.name);
    let state = match &step.why {
        Why::Missing => "is missing".to_owned(),
        Why::Damaged(reason) => format!("is of no use ({reason})"),
        Why::Hub => "says that a Cryptomator Hub keeps the keys".to_owned(),
    };
    screen::out(&format!("{name} {state}."));
    match &step.source {
        Source::Backup(backup, _) => {
            screen::out(&format!("  It is copied from {}, which verifies.", shown(backup)));
        }
        Source::NewPassword => {
            screen::out("  It is made anew, with the keys that the recovery key is and a new password.");
        }
        Source::SameConfig(config) => screen::out(&format!(
            "  It is written anew, for a password: ciphers {} and names shortened beyond {} characters as before.",
            config.cipher_combo, config.shortening_threshold
        )),
        Source::Inferred(inferred) => tell_inferred(inferred),
    }
}

fn tell_inferred(inferred: &InferredConfig) {
    let InferredConfig { config, authentic_files, shortest_shortened } = inferred;
    let (combo, threshold) = (config.cipher_combo, config.shortening_threshold);
    screen::out(&match authentic_files {
        0 => format!(
            "  It is written anew: ciphers {combo}, those of new vaults, since no file in the vault tells which."
        ),
        1 => format!("  It is written anew: ciphers {combo}, as a file in the vault tells."),
        files => format!("  It is written anew: ciphers {combo}, as {files} files in the vault tell."),
    });
    screen::out(&match shortest_shortened {
        None => {
            format!("  Names are shortened beyond {threshold} characters; no name in the vault is shortened.")
        }
        Some(shortest) => format!(
            "  Names are shortened beyond {threshold} characters; the shortest that is shortened has {shortest}."
        ),
    });
}

//! `scaup unlock`, `scaup lock`, and `scaup vault`.

use clap::{Args, Subcommand};
use scaup_crypto::CipherCombo;

use super::check;
use super::conflicts;
use super::converse;
use super::error::CliError;
use super::mend;
use super::new_password::new_password;
use super::passwd;
use super::recovery_key;
use super::restore;
use super::screen;
use super::upgrade;
use super::vault_access::VaultLocation;
use super::vault_secret::SecretArguments;
use super::vault_work::shown;
use crate::daemon::protocol::{FailureKind, Request};
use crate::vault::{FileBackups, backups, check_place_for_vault, create_vault, inspect_vault};

/// Unlock a vault of a mount.
#[derive(Args)]
pub(super) struct UnlockArguments {
    /// The mount's name or mount point [default: the only one]
    #[arg(value_name = "NAME")]
    mount: Option<String>,
    /// The vault's path below the mount [default: the only locked one]
    vault: Option<String>,
    #[command(flatten)]
    secret: SecretArguments,
}

/// Lock a vault of a mount, and remove its keys, names and content from memory.
///
/// Unsaved content is saved first, for up to 5 seconds. What is unsaved then is encrypted in memory, and sent when the
/// server can be reached; until then, the mount has to stay. Programs that still have files of the vault open get
/// errors from then on. The content of files that were removed, but that programs still have open, is lost.
#[derive(Args)]
pub(super) struct LockArguments {
    /// The mount's name or mount point [default: the only one]
    #[arg(value_name = "NAME")]
    mount: Option<String>,
    /// The vault's path below the mount [default: the only unlocked one]
    vault: Option<String>,
}

/// Create and inspect vaults and look after them, without mounting.
#[derive(Subcommand)]
pub(super) enum VaultCommand {
    /// Create a vault in a new or empty directory
    Create {
        #[command(flatten)]
        location: VaultLocation,
        /// The ciphers: SIV_GCM or SIV_CTRMAC
        #[arg(long, default_value = "SIV_GCM")]
        cipher_combo: CipherCombo,
        /// Encrypted names longer than this many characters are shortened
        #[arg(long, default_value_t = 220, value_parser = clap::value_parser!(u32).range(36..=220))]
        shortening_threshold: u32,
        /// A command that prints the new password
        #[arg(long, value_name = "CMD")]
        vault_password_command: Option<String>,
    },
    /// Show a vault's format and ciphers; its password is not needed
    Info {
        #[command(flatten)]
        location: VaultLocation,
    },
    Check(check::CheckArguments),
    Conflicts(conflicts::ConflictsArguments),
    Passwd(passwd::PasswdArguments),
    RecoveryKey(recovery_key::RecoveryKeyArguments),
    Restore(restore::RestoreArguments),
    Upgrade(upgrade::UpgradeArguments),
}

pub(super) fn unlock(arguments: UnlockArguments) -> Result<(), CliError> {
    let (mut conversation, _) = converse::find(arguments.mount.as_deref())?;
    let command = arguments.secret.command();
    let request = Request::Unlock { vault: arguments.vault, asks_front_end: command.is_some() };
    converse::ask_with(&mut conversation, &request, false, command.as_ref()).map(drop)
}

pub(super) fn lock(arguments: LockArguments) -> Result<(), CliError> {
    let (mut conversation, _) = converse::find(arguments.mount.as_deref())?;
    converse::ask(&mut conversation, &Request::Lock { vault: arguments.vault }, false).map(drop)
}

pub(super) fn run(command: VaultCommand) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        VaultCommand::Create { location, cipher_combo, shortening_threshold, vault_password_command } => {
            let failed = |error| CliError::new(FailureKind::Vault, error);
            let (remote, path) = runtime.block_on(location.open())?;
            // Nobody should think of a password for a vault that can't be created there.
            runtime.block_on(check_place_for_vault(remote.as_ref(), &path)).map_err(failed)?;
            let password =
                new_password(&location.path, vault_password_command.as_deref(), "no vault was created")?;
            let creating =
                create_vault(remote.as_ref(), &path, &password, cipher_combo, shortening_threshold);
            runtime.block_on(creating).map_err(failed)?;
            screen::out(&format!("created a {cipher_combo} vault at {}", location.path));
            screen::out("Keep the password in a safe place: without it, nothing in the vault can be read.");
            Ok(())
        }
        VaultCommand::Check(arguments) if arguments.fix.is_some() || arguments.dry_run => {
            mend::run(&runtime, &arguments)
        }
        VaultCommand::Check(arguments) => check::run(&runtime, &arguments),
        VaultCommand::Conflicts(arguments) => conflicts::run(&runtime, &arguments),
        VaultCommand::Passwd(arguments) => passwd::run(&runtime, &arguments),
        VaultCommand::RecoveryKey(arguments) => recovery_key::run(&runtime, &arguments),
        VaultCommand::Restore(arguments) => restore::run(&runtime, &arguments),
        VaultCommand::Upgrade(arguments) => upgrade::run(&runtime, &arguments),
        VaultCommand::Info { location } => {
            let (info, backups) = runtime.block_on(async {
                let (remote, path) = location.open().await?;
                let info = inspect_vault(remote.as_ref(), &path).await;
                let info = info.map_err(|error| CliError::new(FailureKind::Vault, error))?;
                Ok::<_, CliError>((info, backups(remote.as_ref(), &path).await))
            })?;
            screen::out(&format!("vault:        {}", location.path));
            if let Some(format) = info.format {
                screen::out(&format!("format:       {format}"));
            }
            if let Some(combo) = info.cipher_combo {
                screen::out(&format!("cipher combo: {combo}"));
            }
            backups.iter().for_each(show_backups);
            match info.unsupported {
                Some(reason) => {
                    Err(CliError::new(FailureKind::Vault, format!("{}: {reason}", location.path)))
                }
                None => Ok(()),
            }
        }
    }
}

fn show_backups(found: &FileBackups) {
    let FileBackups { file, backups } = found;
    if backups.is_empty() {
        screen::out(&format!("backup:       none of {file}"));
    }
    for (name, made, is_same) in backups {
        let same = if *is_same { "the same" } else { "not the same" };
        let name = shown(name);
        let made = jiff::Timestamp::try_from(*made).unwrap_or_default();
        screen::out(&format!("backup:       {name} of {made:.0}: {same} as {file} now"));
    }
}

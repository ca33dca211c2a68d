//! `scaup unlock`, `scaup lock`, and `scaup vault`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use scaup_crypto::CipherCombo;
use zeroize::Zeroizing;

use super::check;
use super::converse;
use super::exit::CliError;
use super::prompt;
use super::screen;
use crate::config::settings::LoginSettings;
use crate::config::target::{ServerTarget, Target};
use crate::daemon::answer_programs::AnswerCommand;
use crate::daemon::protocol::{FailureKind, LoginRequest, Request, new_password_question, password_question};
use crate::remote::{Remote, RemotePath};
use crate::vault::{check_place_for_vault, create_vault, inspect_vault};

/// Shortest password for a new vault, in characters: Cryptomator's rule.
const PASSWORD_LEN_MIN: usize = 8;

/// Unlock a vault of a mount.
#[derive(Args)]
pub(super) struct UnlockArguments {
    /// The mount's name or mount point [default: the only one]
    #[arg(value_name = "NAME")]
    mount: Option<String>,
    /// The vault's path below the mount [default: the only locked one]
    vault: Option<String>,
    /// A command that prints the password
    #[arg(long, value_name = "CMD")]
    vault_password_command: Option<String>,
}

/// Lock a vault of a mount, and remove its keys, names and content from memory.
///
/// Unsaved content is saved first; if that fails, the vault stays unlocked (exit code 8). Programs that still have
/// files of the vault open get errors from then on. The content of files that were removed, but that programs still
/// have open, is lost.
#[derive(Args)]
pub(super) struct LockArguments {
    /// The mount's name or mount point [default: the only one]
    #[arg(value_name = "NAME")]
    mount: Option<String>,
    /// The vault's path below the mount [default: the only unlocked one]
    vault: Option<String>,
}

/// Create, inspect and check vaults, without mounting.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a vault in a new or empty directory
    Create {
        #[command(flatten)]
        place: Place,
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
        place: Place,
    },
    Check(check::Arguments),
}

/// Where a vault is, and how to get there.
#[derive(Args)]
pub(super) struct Place {
    /// The vault's directory, written like a target of mount
    pub(super) path: String,
    #[command(flatten)]
    login: LoginSettings,
}

pub(super) fn unlock(arguments: UnlockArguments) -> Result<(), CliError> {
    let (mut conversation, _) = converse::find(arguments.mount.as_deref())?;
    let command = arguments.vault_password_command.as_deref();
    let request = Request::Unlock { vault: arguments.vault, asks_front_end: command.is_some() };
    converse::ask_with(&mut conversation, &request, false, command).map(drop)
}

pub(super) fn lock(arguments: LockArguments) -> Result<(), CliError> {
    let (mut conversation, _) = converse::find(arguments.mount.as_deref())?;
    converse::ask(&mut conversation, &Request::Lock { vault: arguments.vault }, false).map(drop)
}

pub(super) fn run(command: Command) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        Command::Create { place, cipher_combo, shortening_threshold, vault_password_command } => {
            let failed = |error| CliError::new(FailureKind::Vault, error);
            let (remote, path) = runtime.block_on(place.open())?;
            // Nobody should think of a password for a vault that can't be created there.
            runtime.block_on(check_place_for_vault(remote.as_ref(), &path)).map_err(failed)?;
            let password = new_password(&place.path, vault_password_command.as_deref())?;
            let creating =
                create_vault(remote.as_ref(), &path, &password, cipher_combo, shortening_threshold);
            runtime.block_on(creating).map_err(failed)?;
            screen::out(&format!("created a {cipher_combo} vault at {}", place.path));
            screen::out("Keep the password in a safe place: without it, nothing in the vault can be read.");
            Ok(())
        }
        Command::Check(arguments) => check::run(&runtime, &arguments),
        Command::Info { place } => {
            let info = runtime.block_on(async {
                let (remote, path) = place.open().await?;
                inspect_vault(remote.as_ref(), &path)
                    .await
                    .map_err(|error| CliError::new(FailureKind::Vault, error))
            })?;
            screen::out(&format!("vault:        {}", place.path));
            if let Some(format) = info.format {
                screen::out(&format!("format:       {format}"));
            }
            if let Some(combo) = info.cipher_combo {
                screen::out(&format!("cipher combo: {combo}"));
            }
            match info.unsupported {
                Some(reason) => Err(CliError::new(FailureKind::Vault, format!("{}: {reason}", place.path))),
                None => Ok(()),
            }
        }
    }
}

impl Place {
    /// Opens the directory around the vault; returns it with the vault's name in it.
    pub(super) async fn open(&self) -> Result<(Arc<dyn Remote>, RemotePath), CliError> {
        let mut target = Target::parse(&self.path).map_err(CliError::usage)?;
        let last = match &mut target {
            Target::Local(path) => {
                let last = path.file_name().map(|name| name.to_string_lossy().into_owned());
                path.pop();
                last
            }
            Target::Server(ServerTarget { directory, .. }) => {
                let trimmed = directory.trim_end_matches('/').to_owned();
                let (parent, last) = match trimmed.rsplit_once('/') {
                    Some(("", last)) => ("/".to_owned(), last.to_owned()),
                    Some((parent, last)) => (parent.to_owned(), last.to_owned()),
                    None => (String::new(), trimmed.clone()),
                };
                *directory = parent;
                Some(last).filter(|last| !last.is_empty())
            }
        };
        let last = last.ok_or_else(|| {
            CliError::usage(format!(
                "{}: name the vault's directory, as HOST:DIRECTORY or ./DIRECTORY",
                self.path
            ))
        })?;
        let path = RemotePath::parse(last.as_bytes())
            .ok_or_else(|| CliError::usage(format!("{last:?} can't be a vault's name")))?;
        let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let request = LoginRequest { target, directory, settings: self.login.clone() };
        let remote = crate::daemon::connect_here(&request, prompt::ask, prompt::tell).await?;
        Ok((remote, path))
    }
}

/// Returns a vault's password: the first line that a command prints.
pub(super) fn password_from(command: &str, path: &str) -> Result<Zeroizing<String>, CliError> {
    let (directory, prompt) = (std::env::current_dir()?, password_question(path));
    let command = AnswerCommand { command, directory: &directory, prompt: &prompt, vault: Some(path) };
    command
        .run_at_terminal()
        .map_err(|reason| CliError::new(FailureKind::Vault, format!("no password was given: {reason}")))
}

/// Asks for a new password twice, or takes a command's.
fn new_password(path: &str, command: Option<&str>) -> Result<Zeroizing<String>, CliError> {
    let none = |reason| CliError::new(FailureKind::Vault, format!("no password was given: {reason}"));
    let password = match command {
        Some(command) => password_from(command, path)?,
        None => {
            let first = prompt::ask(&new_password_question(path), false).map_err(none)?;
            let second = prompt::ask("The same again: ", false).map_err(none)?;
            if first != second {
                return Err(CliError::new(
                    FailureKind::Vault,
                    "the two passwords differ; no vault was created",
                ));
            }
            first
        }
    };
    if password.chars().count() < PASSWORD_LEN_MIN {
        let text =
            format!("the password must have at least {PASSWORD_LEN_MIN} characters; no vault was created");
        return Err(CliError::new(FailureKind::Vault, text));
    }
    Ok(password)
}

//! What opens a vault, for commands that work without a mount: from a command, the keyring, or a person.

use clap::Args;
use scaup_crypto::Cryptor;

use super::answer::{answer_of, not_given};
use super::error::CliError;
use super::prompt;
use super::screen;
use super::vault_access::VaultLocation;
use crate::config::settings::SecretCommand;
use crate::config::target::Target;
use crate::daemon::kept_secrets;
use crate::daemon::protocol::{FailureKind, LOGIN_HAS_ENDED};
use crate::daemon::remembered_vaults_of;
use crate::daemon::vault_secret::{AskPerson, NoSecret, OpenedBy, RECOVERY_KEY_HINT, ask_person};
use crate::remote::{Remote, RemotePath};
use crate::vault::{OpenError, VaultSecret, inspect_vault, open_vault};

/// How often a wrong password or recovery key may be given at the prompt.
const ATTEMPTS: u32 = 3;

/// The commands that print what opens a vault.
#[derive(Args)]
pub(super) struct SecretArguments {
    /// A command that prints the vault's password
    #[arg(long, value_name = "CMD")]
    vault_password_command: Option<String>,
    /// A command that prints the vault's recovery key, which opens it in place of its password
    #[arg(long, value_name = "CMD", conflicts_with = "vault_password_command")]
    recovery_key_command: Option<String>,
}

impl SecretArguments {
    /// Returns the command that was given.
    pub(super) fn command(&self) -> Option<SecretCommand> {
        SecretCommand::of(self.vault_password_command.clone(), self.recovery_key_command.clone())
    }
}

/// Where what opens a vault may come from, besides a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sources {
    /// The keyring, or a person.
    All,
    /// A person: for what not everybody at this desktop should be able to do.
    Person,
}

/// Opens a vault with what the command prints, or what is remembered, or asks until it is right. Returns its keys, and
/// what opened it.
pub(super) async fn open(
    location: &VaultLocation,
    command: Option<&SecretCommand>,
    sources: Sources,
    remote: &dyn Remote,
    vault: &RemotePath,
) -> Result<(Cryptor, VaultSecret), CliError> {
    let path = &location.path;
    let failed = |error: OpenError| CliError::new(FailureKind::Vault, error);
    let opening = async |secret: &VaultSecret| open_vault(remote, vault, secret).await;
    if let Some(command) = command {
        return by_command(path, command, opening).await;
    }
    let known = remembered_vaults_of(&location.request()?.0)?;
    let kept = match sources {
        Sources::All => kept_secrets::password_of(&known, vault).await,
        Sources::Person => None,
    };
    if let Some(password) = kept {
        let secret = VaultSecret::Password(password);
        match open_vault(remote, vault, &secret).await {
            Ok(cryptor) => return Ok((cryptor, secret)),
            Err(OpenError::WrongPassword { .. }) => {
                if let Some(text) = kept_secrets::refuse_password_of(&known, vault).await {
                    screen::tell(&text);
                }
            }
            Err(error) => return Err(failed(error)),
        }
    }
    // Nobody is asked in vain.
    let info = inspect_vault(remote, vault).await.map_err(failed)?;
    let opened_by = match info.unsupported {
        None => OpenedBy::Password,
        Some(reason) if info.by_recovery_key => {
            screen::tell(&format!("{path}: {reason}"));
            OpenedBy::RecoveryKey
        }
        Some(reason) => return Err(failed(OpenError::refused(vault, reason))),
    };
    ask_until(path, opened_by, opening).await
}

/// Tries what the command prints. Returns what that gives, and the secret.
pub(super) async fn by_command<T>(
    path: &str,
    command: &SecretCommand,
    tried: impl AsyncFn(&VaultSecret) -> Result<T, OpenError>,
) -> Result<(T, VaultSecret), CliError> {
    let (opened_by, command) = OpenedBy::of(command);
    let answer = answer_of(command, &opened_by.question(path), path)?;
    let secret = opened_by.secret_of(&answer).map_err(|error| mistaken(path, error))?;
    let done = tried(&secret).await.map_err(|error| CliError::new(FailureKind::Vault, error))?;
    Ok((done, secret))
}

/// Asks a person for what opens the vault until it is right, three times at most. Returns what that gives, and the
/// secret.
pub(super) async fn ask_until<T>(
    path: &str,
    opened_by: OpenedBy,
    tried: impl AsyncFn(&VaultSecret) -> Result<T, OpenError>,
) -> Result<(T, VaultSecret), CliError> {
    let failed = |error: OpenError| CliError::new(FailureKind::Vault, error);
    if matches!(Target::parse(path), Ok(Target::Server(_))) {
        screen::tell(LOGIN_HAS_ENDED);
    }
    let person: &AskPerson<'_> =
        &|question| Box::pin(async move { prompt::ask(&question.text, question.echo) });
    let mut attempt = 1;
    loop {
        let again = match ask_person(opened_by, path, attempt, person).await {
            Ok(secret) => match tried(&secret).await {
                Ok(done) => return Ok((done, secret)),
                Err(error) if error.is_wrong_secret() => failed(error),
                Err(error) => return Err(failed(error)),
            },
            Err(error @ NoSecret::NotAKey(_)) => mistaken(path, error),
            Err(error @ NoSecret::NotGiven(_)) => return Err(mistaken(path, error)),
        };
        if attempt == ATTEMPTS {
            return Err(again);
        }
        screen::tell(&again.message);
        if attempt == 1 && opened_by == OpenedBy::Password {
            screen::tell(RECOVERY_KEY_HINT);
        }
        attempt += 1;
    }
}

fn mistaken(path: &str, error: NoSecret) -> CliError {
    match error {
        NoSecret::NotGiven(reason) => not_given(reason),
        error @ NoSecret::NotAKey(_) => CliError::new(FailureKind::Vault, format!("{path}: {error}")),
    }
}

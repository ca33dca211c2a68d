//! Unlocks and locks the vaults of a mount: which password is asked for, and how often; and handles vaults that were
//! unlocked in an earlier mount.

use std::sync::Arc;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::task::JoinError;

use super::front_end::FrontEnd;
use super::kept_secrets::{self, KeptSecrets};
use super::notification;
use super::people::People;
use super::prompts::Prompts;
use super::protocol::{Event, Failure, FailureKind, MountRequest};
use super::remembered::{Expected, RememberedVaults};
use super::status::{exact, legible};
use super::vault_secret::{NoSecret, OpenedBy, RECOVERY_KEY_HINT};
use crate::config::records::RecordError;
use crate::config::target::Target;
use crate::drive::{Drive, VaultError, VaultEvent, VaultState};
use crate::remote::{RemoteError, RemotePath};
use crate::vault::{OpenError, VaultSecret};

/// How often a password may be wrong.
const ATTEMPTS: u32 = 3;

/// Vaults are unlocked one after the other, however many front ends request it: each needs as much memory as its
/// masterkey file says.
static UNLOCKING: Semaphore = Semaphore::const_new(1);

/// The outcome of unlocking a vault.
enum Outcome {
    Unlocked,
    /// Neither a password nor a recovery key was given, for this reason.
    NotGiven(String),
}

/// What may open a vault, or the reason why there is nothing.
type Answer = Result<VaultSecret, NoSecret>;

/// What unlocks the vaults of a mount on behalf of one front end.
pub(super) struct Unlocking<'a> {
    pub(super) drive: &'a Arc<Drive>,
    /// The vaults that were unlocked before.
    pub(super) remembered: &'a RememberedVaults,
    /// Their passwords, if the user wants them remembered.
    pub(super) kept: &'a KeptSecrets,
    pub(super) prompts: &'a Prompts,
    pub(super) front_end: &'a FrontEnd,
}

/// Returns what opens the first named vault, if a command prints it: no person is asked for it, so it need not wait for
/// the server.
pub(super) async fn first_secret(request: &MountRequest, prompts: &Prompts) -> Option<Answer> {
    let first = request.settings.vaults.first().and_then(|named| parse(named).ok());
    let path = first.filter(|_| !request.settings.no_vaults && prompts.has_secret_command())?;
    Some(prompts.vault_secret(&exact(&path), OpenedBy::Password, 1).await)
}

fn not_remembered(error: RecordError) -> Failure {
    let text = format!("Scaup can't tell whether a vault is missing on the server: {error}");
    Failure::new(FailureKind::Vault, text)
}

/// Binds the vaults that earlier mounts unlocked to their paths, before any part of the mount is shown.
pub(super) fn expect(
    drive: &Drive,
    request: &MountRequest,
    remembered: &RememberedVaults,
) -> Result<Vec<Expected>, Failure> {
    if request.settings.no_vaults {
        return Ok(Vec::new());
    }
    let expected = remembered.expected().map_err(not_remembered)?;
    for vault in &expected {
        let bound = drive.expect_vault(&vault.path, vault.id.clone());
        bound.map_err(|error| {
            Failure::new(FailureKind::Vault, format!("vault {}: {error}", legible(&vault.path)))
        })?;
    }
    Ok(expected)
}

/// Looks for the vaults that earlier mounts unlocked. If the server shows something else, a person at a terminal may
/// accept that; else the path stays closed.
pub(super) async fn look_for_expected(
    drive: &Drive,
    request: &MountRequest,
    expected: &[Expected],
    remembered: &RememberedVaults,
    prompts: &Prompts,
    front_end: &FrontEnd,
) -> Result<(), Failure> {
    // Vaults unlocked just now were found.
    let met = drive.vaults();
    let is_unlocked =
        |path: &RemotePath| met.iter().any(|met| met.path == *path && met.state == VaultState::Unlocked);
    let looks = expected.iter().filter(|vault| !is_unlocked(&vault.path)).map(|vault| async move {
        Ok((vault, drive.look_for_expected(&vault.path).await.map_err(failure)?))
    });
    for (vault, displaced) in futures::future::try_join_all(looks).await? {
        let Some(displaced) = displaced else { continue };
        let path = legible(&vault.path);
        front_end.tell(Event::Progress(format!("vault {path}, which was unlocked here before: {displaced}")));
        let why = "without the vault, everything saved there can be read on the server";
        front_end.tell(Event::Progress(why.to_owned()));
        if request.terminal && is_given_up(&vault.path, prompts).await {
            remembered.forget(&vault.path).map_err(not_remembered)?;
            drive.stop_expecting(&vault.path);
        } else {
            front_end.tell(Event::Progress(stays_closed(&vault.path, &request.login.target)));
        }
    }
    Ok(())
}

/// Asks whether a missing vault is no longer expected there.
async fn is_given_up(path: &RemotePath, prompts: &Prompts) -> bool {
    let text = format!(
        "Continue without vault {}? Type yes, or press Enter to keep its path blocked: ",
        legible(path)
    );
    prompts.confirm(&exact(path), text).await.is_ok_and(|answer| answer.trim().eq_ignore_ascii_case("yes"))
}

fn stays_closed(path: &RemotePath, target: &Target) -> String {
    let path = legible(path);
    format!(
        "reads and writes at {path} fail until the vault is back; if it was removed on purpose, run `scaup forget {target}` and mount again"
    )
}

/// Keeps the remembered vaults up to date while the mount lives, and notifies the user when one of them is no longer in
/// its place.
pub(super) async fn follow(
    mut events: tokio::sync::mpsc::UnboundedReceiver<VaultEvent>,
    remembered: RememberedVaults,
    name: String,
) {
    while let Some(event) = events.recv().await {
        match event {
            VaultEvent::Displaced { path, .. } => {
                tokio::spawn(notification::vault_displaced(name.clone(), legible(&path).into()));
            }
            VaultEvent::Returned { .. } => {}
            VaultEvent::Moved { from, to, id } => {
                let moved = remembered.remember(&to, id).and_then(|()| remembered.forget(&from));
                if let Err(error) = moved {
                    tracing::warn!(%error, "the new place of a vault could not be remembered");
                }
            }
        }
    }
}

impl Unlocking<'_> {
    /// Unlocks, while mounting, the named vaults, or else those that are found.
    pub(super) async fn at_mount(
        &self,
        request: &MountRequest,
        mut first_secret: Option<Answer>,
    ) -> Result<(), Failure> {
        let Self { drive, prompts, front_end, .. } = self;
        if request.settings.no_vaults {
            return Ok(());
        }
        for named in &request.settings.vaults {
            let path = parse(named)?;
            // A person is not asked without need. A command need not wait for that.
            let opened_by = match prompts.has_secret_command() {
                true => OpenedBy::Password,
                false => self.opened_by(&path).await?,
            };
            if let Outcome::NotGiven(reason) = self.asking(&path, opened_by, first_secret.take()).await? {
                let text = format!("vault {named}: no password was given ({reason}), so nothing was mounted");
                return Err(Failure::new(FailureKind::Vault, text));
            }
        }
        if !request.settings.vaults.is_empty() {
            return Ok(());
        }
        let found = match drive.find_vaults().await {
            Ok(found) => found,
            // Such a directory can still be traversed, and its vaults named.
            Err(VaultError::Open(OpenError::Remote { source: RemoteError::PermissionDenied, .. })) => {
                let text =
                    "the directory can't be listed, so vaults in it are not found; name them with --vault";
                front_end.tell(Event::Progress(text.to_owned()));
                return Ok(());
            }
            Err(error) => return Err(failure(error)),
        };
        for vault in found {
            let path = legible(&vault.path);
            match vault.state {
                _ if vault.displaced.is_some() => {}
                VaultState::Locked => {
                    front_end.tell(Event::Progress(format!("vault {path} found")));
                    let is_known = || self.kept.may_know(&self.remembered.password_of(&vault.path));
                    if !request.interactive && !prompts.has_secret_command() && !is_known() {
                        continue;
                    }
                    let asking = self.asking(&vault.path, OpenedBy::Password, None);
                    if let Outcome::NotGiven(reason) = asking.await? {
                        front_end.tell(Event::Progress(format!("vault {path} stays locked ({reason})")));
                    }
                }
                VaultState::Unsupported(reason) => {
                    front_end.tell(Event::Progress(format!("vault {path}: {reason}")));
                    if prompts.has_recovery_key()
                        && drive.inspect(&vault.path).await.map_err(failure)?.by_recovery_key
                    {
                        self.asking(&vault.path, OpenedBy::RecoveryKey, None).await?;
                    }
                }
                VaultState::Unlocked => {}
            }
        }
        Ok(())
    }

    /// Unlocks on a front end's request.
    pub(super) async fn on_request(&self, vault: Option<&str>) -> Result<(), Failure> {
        let path = choose(self.drive, vault, &VaultState::Locked)?;
        let opened_by = match vault {
            // No person is asked, and no command run, for a path that a front end made up.
            Some(_) => self.opened_by(&path).await?,
            None => OpenedBy::Password,
        };
        match self.asking(&path, opened_by, None).await? {
            Outcome::Unlocked => {
                self.kept.offer(self.prompts).await;
                Ok(())
            }
            Outcome::NotGiven(reason) => {
                let text = format!("vault {}: no password was given ({reason})", legible(&path));
                Err(Failure::new(FailureKind::Vault, text))
            }
        }
    }

    /// Asks what opens a vault, unless there is a `known` answer, until it is right, three times at most. An empty
    /// answer leaves the vault locked.
    async fn asking(
        &self,
        path: &RemotePath,
        opened_by: OpenedBy,
        mut known: Option<Answer>,
    ) -> Result<Outcome, Failure> {
        let Self { drive, prompts, front_end, .. } = self;
        let name = self.remembered.password_of(path);
        let mut kept = None;
        if known.is_none() && !prompts.has_secret_command() && opened_by == OpenedBy::Password {
            kept = self.kept.find(&name, prompts.is_attended()).await;
        }
        let mut attempt = 1;
        loop {
            // A person may take as long as they like, and delays no other request. A command is run once at a time,
            // however many requests need it.
            let mut alone = None;
            if prompts.has_secret_command() {
                alone = Some(UNLOCKING.acquire().await.map_err(closed)?);
            }
            let is_kept = kept.is_some();
            let answer = match known.take().or(kept.take().map(|kept| Ok(VaultSecret::Password(kept)))) {
                Some(answer) => answer,
                None => prompts.vault_secret(&exact(path), opened_by, attempt).await,
            };
            let secret = match answer {
                Ok(secret) => secret,
                Err(NoSecret::NotGiven(reason)) => return Ok(Outcome::NotGiven(reason)),
                Err(error @ NoSecret::NotAKey(_)) => {
                    let text = format!("vault {}: {error}", legible(path));
                    if attempt == ATTEMPTS {
                        return Err(Failure::new(FailureKind::Vault, text));
                    }
                    front_end.tell(Event::Progress(text));
                    attempt += 1;
                    continue;
                }
            };
            let alone = match alone {
                Some(alone) => alone,
                None => UNLOCKING.acquire().await.map_err(closed)?,
            };
            match unlock_alone(drive, path, secret.clone(), alone).await {
                Ok(()) => {
                    if let VaultSecret::Password(password) = &secret
                        && !is_kept
                        && !prompts.has_secret_command()
                    {
                        self.kept.add_typed(name, password);
                    }
                    let id = drive
                        .vaults()
                        .into_iter()
                        .find(|vault| vault.path == *path)
                        .and_then(|vault| vault.id);
                    if let Err(error) = self.remembered.remember(path, id) {
                        let text = format!(
                            "vault {} can't be remembered for the next mount: {error}",
                            legible(path)
                        );
                        front_end.tell(Event::Progress(text));
                    }
                    front_end.tell(Event::Progress(format!("vault {} unlocked", legible(path))));
                    return Ok(Outcome::Unlocked);
                }
                Err(VaultError::Open(OpenError::WrongPassword { .. })) if is_kept => {
                    if let Some(text) = kept_secrets::refuse(&name, prompts.is_attended()).await {
                        front_end.tell(Event::Progress(text));
                    }
                }
                Err(VaultError::Open(error)) if error.is_wrong_secret() && attempt < ATTEMPTS => {
                    let is_password = matches!(error, OpenError::WrongPassword { .. });
                    front_end.tell(Event::Progress(refusal(error)));
                    if is_password && attempt == 1 && !prompts.has_secret_command() {
                        front_end.tell(Event::Progress(RECOVERY_KEY_HINT.to_owned()));
                    }
                    attempt += 1;
                }
                Err(error) => return Err(failure(error)),
            }
        }
    }

    /// Returns what could open the vault; fails if nothing could.
    async fn opened_by(&self, path: &RemotePath) -> Result<OpenedBy, Failure> {
        let info = self.drive.inspect(path).await.map_err(failure)?;
        match info.unsupported {
            None => Ok(OpenedBy::Password),
            Some(reason) if info.by_recovery_key => {
                self.front_end.tell(Event::Progress(format!("vault {}: {reason}", legible(path))));
                Ok(OpenedBy::RecoveryKey)
            }
            Some(reason) => Err(failure(OpenError::refused(path, reason).into())),
        }
    }
}

/// Returns in words that what was given does not open a vault.
fn refusal(error: OpenError) -> String {
    match error {
        OpenError::WrongPassword { path, beside } => {
            format!("wrong password for vault {}{beside}", legible(&path))
        }
        error => failure(error.into()).message,
    }
}

/// Unlocks to the end, even if the caller stops waiting: a half-unlocked vault is not a valid state, and its memory is
/// not free before.
async fn unlock_alone(
    drive: &Arc<Drive>,
    path: &RemotePath,
    secret: VaultSecret,
    alone: SemaphorePermit<'static>,
) -> Result<(), VaultError> {
    let (drive, at) = (Arc::clone(drive), path.clone());
    let unlocking = tokio::spawn(async move {
        let unlocked = drive.unlock(&at, &secret).await;
        drop(alone);
        unlocked
    });
    let failed = |error: JoinError| OpenError::refused(path, error);
    unlocking.await.map_err(failed)?
}

fn closed(error: AcquireError) -> Failure {
    Failure::new(FailureKind::Other, error)
}

/// Locks on a front end's request; returns which vault that was.
pub(super) async fn lock(drive: &Drive, vault: Option<&str>) -> Result<RemotePath, Failure> {
    let path = choose(drive, vault, &VaultState::Unlocked)?;
    drive.lock(&path).await.map_err(failure)?;
    Ok(path)
}

/// Returns the vault that is meant: the named one, or the only one in `state`.
pub(super) fn choose(drive: &Drive, named: Option<&str>, state: &VaultState) -> Result<RemotePath, Failure> {
    if let Some(named) = named {
        return parse(named);
    }
    let candidates: Vec<RemotePath> =
        drive.vaults().into_iter().filter(|vault| vault.state == *state).map(|vault| vault.path).collect();
    let word = if *state == VaultState::Locked { "locked" } else { "unlocked" };
    match <[RemotePath; 1]>::try_from(candidates) {
        Ok([only]) => Ok(only),
        Err(none) if none.is_empty() => Err(Failure::new(
            FailureKind::Vault,
            format!("there is no {word} vault; `scaup status` shows all vaults"),
        )),
        Err(several) => {
            let names: Vec<String> = several.iter().map(|path| legible(path).into()).collect();
            let text = format!("there are several {word} vaults; name one of: {}", names.join(", "));
            Err(Failure::new(FailureKind::Vault, text))
        }
    }
}

fn parse(named: &str) -> Result<RemotePath, Failure> {
    RemotePath::parse(named.as_bytes()).ok_or_else(|| {
        Failure::new(FailureKind::Vault, format!("{named:?} is not the path of a vault below the mount"))
    })
}

/// Converts a vault's failure for people: with paths as they write them.
pub(super) fn failure(error: VaultError) -> Failure {
    let (kind, text) = match error {
        VaultError::Open(OpenError::WrongPassword { path, beside }) => (
            FailureKind::Vault,
            format!(
                "wrong password for vault {}: check Caps Lock and the keyboard layout{beside}",
                legible(&path)
            ),
        ),
        VaultError::Open(OpenError::ForeignKey(path)) => (
            FailureKind::Vault,
            format!(
                "vault {}: the recovery key is that of another vault (or vault.cryptomator, which proves it, was changed)",
                legible(&path)
            ),
        ),
        VaultError::Open(OpenError::NotAVault(path)) => (
            FailureKind::Vault,
            format!(
                "no vault at {}: a vault is a directory with vault.cryptomator (or masterkey.cryptomator) and d in it",
                legible(&path)
            ),
        ),
        VaultError::Open(OpenError::Refused { path, reason, .. }) => {
            (FailureKind::Vault, format!("vault {}: {reason}", legible(&path)))
        }
        VaultError::Displaced { path, shown: displaced } => (
            FailureKind::Vault,
            format!(
                "vault {}: {displaced}. Reads and writes there fail until the vault is back; if it was removed on purpose, run \
                 `scaup forget` and mount again",
                legible(&path)
            ),
        ),
        VaultError::Open(OpenError::Remote { path, source }) => {
            (FailureKind::Other, format!("vault {}: {source}", legible(&path)))
        }
        VaultError::Unsaved(unsaved) => (
            FailureKind::Unsaved,
            format!("{} files are not saved on the server yet; `scaup status` says why", unsaved.files),
        ),
    };
    Failure::new(kind, text)
}

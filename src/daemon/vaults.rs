//! Unlocks and locks the vaults of a mount: which password is asked for, and how often; and handles vaults that were
//! unlocked in an earlier mount.

use std::sync::Arc;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::task::JoinError;
use zeroize::Zeroizing;

use super::front_end::FrontEnd;
use super::kept_secrets::{self, KeptSecrets};
use super::notification;
use super::people::People;
use super::prompts::Prompts;
use super::protocol::{Event, Failure, FailureKind, MountRequest};
use super::remembered::{Expected, RememberedVaults};
use super::status::{exact, legible};
use crate::config::records::RecordError;
use crate::config::target::Target;
use crate::drive::{Drive, VaultError, VaultEvent, VaultState};
use crate::remote::{RemoteError, RemotePath};
use crate::vault::OpenError;

/// How often a password may be wrong.
const ATTEMPTS: u32 = 3;

/// Vaults are unlocked one after the other, however many front ends request it: each needs as much memory as its
/// masterkey file says.
static UNLOCKING: Semaphore = Semaphore::const_new(1);

/// The outcome of unlocking a vault.
enum Outcome {
    Unlocked,
    /// No password was given, for this reason.
    NoPassword(String),
}

/// The password, or the reason why there is none.
type Answer = Result<Zeroizing<String>, String>;

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

/// Returns the password of the first named vault, if a command prints it: no person is asked for it, so it need not
/// wait for the server.
pub(super) async fn first_password(request: &MountRequest, prompts: &Prompts) -> Option<Answer> {
    let first = request.settings.vaults.first().and_then(|named| parse(named).ok());
    let path = first.filter(|_| !request.settings.no_vaults && prompts.has_vault_password())?;
    Some(prompts.vault_password(&exact(&path), 1).await)
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
        mut first_password: Option<Answer>,
    ) -> Result<(), Failure> {
        let Self { drive, prompts, front_end, .. } = self;
        if request.settings.no_vaults {
            return Ok(());
        }
        for named in &request.settings.vaults {
            let path = parse(named)?;
            // A person is not asked without need. A command that prints the password need not wait for that.
            if !prompts.has_vault_password() {
                check_openable(drive, &path).await?;
            }
            if let Outcome::NoPassword(reason) = self.asking(&path, first_password.take()).await? {
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
                    if !request.interactive && !prompts.has_vault_password() && !is_known() {
                        continue;
                    }
                    if let Outcome::NoPassword(reason) = self.asking(&vault.path, None).await? {
                        front_end.tell(Event::Progress(format!("vault {path} stays locked ({reason})")));
                    }
                }
                VaultState::Unsupported(reason) => {
                    front_end.tell(Event::Progress(format!("vault {path}: {reason}")))
                }
                VaultState::Unlocked => {}
            }
        }
        Ok(())
    }

    /// Unlocks on a front end's request.
    pub(super) async fn on_request(&self, vault: Option<&str>) -> Result<(), Failure> {
        let path = choose(self.drive, vault, &VaultState::Locked)?;
        if vault.is_some() {
            // No person is asked, and no command run, for a path that a front end made up.
            check_openable(self.drive, &path).await?;
        }
        match self.asking(&path, None).await? {
            Outcome::Unlocked => {
                self.kept.offer(self.prompts).await;
                Ok(())
            }
            Outcome::NoPassword(reason) => {
                let text = format!("vault {}: no password was given ({reason})", legible(&path));
                Err(Failure::new(FailureKind::Vault, text))
            }
        }
    }

    /// Asks for a vault's password, unless there is a `known` answer, until it is right, three times at most. An empty
    /// answer leaves the vault locked.
    async fn asking(&self, path: &RemotePath, mut known: Option<Answer>) -> Result<Outcome, Failure> {
        let Self { drive, prompts, front_end, .. } = self;
        let secret = self.remembered.password_of(path);
        let mut kept = None;
        if known.is_none() && !prompts.has_vault_password() {
            kept = self.kept.find(&secret, prompts.is_attended()).await;
        }
        let mut attempt = 1;
        loop {
            // A person may take as long as they like, and delays no other request. A command is run once at a time,
            // however many requests need it.
            let mut alone = None;
            if prompts.has_vault_password() {
                alone = Some(UNLOCKING.acquire().await.map_err(closed)?);
            }
            let is_kept = kept.is_some();
            let answer = match known.take().or(kept.take().map(Ok)) {
                Some(answer) => answer,
                None => prompts.vault_password(&exact(path), attempt).await,
            };
            let password = match answer {
                Ok(password) if password.is_empty() => {
                    return Ok(Outcome::NoPassword("the answer was empty".to_owned()));
                }
                Ok(password) => password,
                Err(reason) => return Ok(Outcome::NoPassword(reason)),
            };
            let alone = match alone {
                Some(alone) => alone,
                None => UNLOCKING.acquire().await.map_err(closed)?,
            };
            match unlock_alone(drive, path, password.clone(), alone).await {
                Ok(()) => {
                    if !is_kept && !prompts.has_vault_password() {
                        self.kept.add_typed(secret, &password);
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
                    if let Some(text) = kept_secrets::refuse(&secret, prompts.is_attended()).await {
                        front_end.tell(Event::Progress(text));
                    }
                }
                Err(VaultError::Open(OpenError::WrongPassword { beside, .. })) if attempt < ATTEMPTS => {
                    front_end
                        .tell(Event::Progress(format!("wrong password for vault {}{beside}", legible(path))));
                    attempt += 1;
                }
                Err(error) => return Err(failure(error)),
            }
        }
    }
}

/// Fails if there is no vault that a password could open.
async fn check_openable(drive: &Drive, path: &RemotePath) -> Result<(), Failure> {
    match drive.inspect(path).await.map_err(failure)?.unsupported {
        Some(reason) => Err(failure(OpenError::refused(path, reason).into())),
        None => Ok(()),
    }
}

/// Unlocks to the end, even if the caller stops waiting: a half-unlocked vault is not a valid state, and its memory is
/// not free before.
async fn unlock_alone(
    drive: &Arc<Drive>,
    path: &RemotePath,
    password: Zeroizing<String>,
    alone: SemaphorePermit<'static>,
) -> Result<(), VaultError> {
    let (drive, at) = (Arc::clone(drive), path.clone());
    let unlocking = tokio::spawn(async move {
        let unlocked = drive.unlock(&at, &password).await;
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
fn choose(drive: &Drive, named: Option<&str>, state: &VaultState) -> Result<RemotePath, Failure> {
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

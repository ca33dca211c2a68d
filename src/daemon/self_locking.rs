//! Locks the vaults of a mount without a request: when the screen is locked or the session ends, and when no program
//! uses them. (`sleep_and_roaming` does it before a sleep.)

use std::time::Duration;

use futures::StreamExt as _;

use super::life::{Daemon, Standing};
use super::lock_causes::LockCause;
use super::notification;
use super::sessions::{Sessions, screen_savers};
use crate::config::lock_on::IdleTime;
use crate::drive::VaultState;
use crate::remote::RemotePath;

/// How long saving and locking may take when the screen is locked: as long as before a sleep.
const SCREEN_LIMIT: Duration = Duration::from_secs(4);

/// How often the idle time of vaults is checked at least; short times are checked more often.
const CHECK_EVERY: Duration = Duration::from_secs(5);

impl Daemon {
    /// Saves what can be saved, and locks all vaults, within `limit`. Returns those that are locked now: what follows a
    /// lock is due for them ([`Self::after_self_locking`]).
    pub(super) async fn lock_all_within(
        &self,
        limit: Duration,
        standing: &Standing,
        cause: LockCause,
    ) -> Vec<RemotePath> {
        let outcome = standing.drive.lock_within(limit).await;
        for vault in &outcome.locked {
            self.lock_causes.record(vault, cause);
        }
        if !outcome.still_unlocked.is_empty() {
            tokio::spawn(notification::vaults_stay_unlocked(self.request.name.clone()));
        }
        outcome.locked
    }

    /// Removes the traces of vaults that were locked by themselves, and notifies the user.
    pub(super) async fn after_self_locking(&self, locked: Vec<RemotePath>, cause: LockCause) {
        if !locked.is_empty() {
            tracing::info!(vaults = locked.len(), "vaults were {cause}");
            tokio::spawn(notification::vaults_locked(self.request.name.clone(), cause));
            self.sweep(locked).await;
        }
    }

    /// Locks the vaults whenever the user's screen is locked or their session ends. Returns when neither can be noticed
    /// any more.
    pub(super) async fn lock_with_the_screen(&self, standing: &Standing) {
        let by_logind = async {
            let follow = async {
                let mut sessions = Sessions::find().await?;
                while let Some(cause) = sessions.next().await? {
                    self.lock_for_screen(standing, cause).await;
                }
                Ok::<_, zbus::Error>(())
            };
            if let Err(error) = follow.await {
                tracing::info!(%error, "no logind: it does not tell when the screen is locked");
            }
        };
        let by_screen_savers = async {
            match screen_savers().await {
                Ok(mut locked) => {
                    while locked.next().await.is_some() {
                        self.lock_for_screen(standing, LockCause::Screen).await;
                    }
                }
                Err(error) => {
                    tracing::info!(%error, "no session bus: no screen saver tells when the screen is locked");
                }
            }
        };
        tokio::join!(by_logind, by_screen_savers);
    }

    async fn lock_for_screen(&self, standing: &Standing, cause: LockCause) {
        let vaults = standing.drive.vaults();
        // More than one of those that tell may do so each time.
        if vaults.iter().any(|vault| vault.state == VaultState::Unlocked) {
            let locked = self.lock_all_within(SCREEN_LIMIT, standing, cause).await;
            self.after_self_locking(locked, cause).await;
        }
    }

    /// Locks each vault that no program has used for `limit`, again and again.
    pub(super) async fn lock_idle(&self, standing: &Standing, limit: IdleTime) {
        let cause = LockCause::Idle(limit);
        loop {
            tokio::time::sleep((limit.duration() / 8).min(CHECK_EVERY)).await;
            let mut locked = Vec::new();
            for (vault, unused) in standing.drive.unused() {
                if unused < limit.duration() {
                    continue;
                }
                match standing.drive.lock(&vault).await {
                    Ok(()) => {
                        self.lock_causes.record(&vault, cause);
                        locked.push(vault);
                    }
                    Err(error) => tracing::warn!(%error, "a vault without use could not be locked"),
                }
            }
            self.after_self_locking(locked, cause).await;
        }
    }
}

//! What a front end may request of a standing mount: its status, unlocking and locking vaults, a login, and the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scaup_fuse::UnmountError;

use super::front_end::FrontEnd;
use super::kept_secrets::KeptSecrets;
use super::last_saving;
use super::life::{Daemon, Standing};
use super::protocol::{Event, Failure, FailureKind, MountStatus, Request};
use super::users::users_of;
use super::vaults::{self, Unlocking};
use crate::drive::VaultState;
use crate::remote::Reachability;

impl Daemon {
    /// Returns the state of the mount.
    pub(super) fn status(&self) -> MountStatus {
        let standing = self.standing.get();
        let drive = standing.map(|standing| standing.drive.as_ref());
        let asked = standing.map(|standing| standing.requests.as_ref());
        self.activity.status(&self.request, drive, &self.lock_causes, asked)
    }

    /// Carries out a request.
    pub(super) async fn obey(&self, request: Request, front_end: &FrontEnd) -> Result<Event, Failure> {
        let standing = self.standing.get();
        let request = match (request, standing) {
            (Request::Status, _) => return Ok(Event::Status(Box::new(self.status()))),
            (Request::Unmount { .. }, None) => {
                self.given_up.notify_one();
                return Ok(Event::Done);
            }
            (request, _) => request,
        };
        let name = &self.request.name;
        let standing =
            standing.ok_or_else(|| Failure::new(FailureKind::Other, format!("{name} is not mounted yet")))?;
        match request {
            Request::Unlock { vault, asks_front_end } => {
                let prompts = self.prompts.for_front_end(front_end.clone(), asks_front_end);
                let opens_alone = vaults::choose(&standing.drive, vault.as_deref(), &VaultState::Locked)
                    .is_ok_and(|path| standing.drive.remembers(&path));
                if !prompts.has_secret_command() && !opens_alone {
                    standing.logged_in(self.request.login.settings.patience()).await?;
                }
                let unlocking = Unlocking {
                    drive: &standing.drive,
                    remembered: &self.target.remembered_vaults(),
                    kept: &KeptSecrets::new(Some(self.request.login.settings.remember())),
                    prompts: &prompts,
                    front_end,
                };
                unlocking.on_request(vault.as_deref()).await.map(|()| Event::Done)
            }
            Request::Lock { vault } => {
                let locked = vaults::lock(&standing.drive, vault.as_deref()).await?;
                self.lock_causes.forget(&locked);
                self.sweep([locked]).await;
                let sealed = standing.drive.sealed();
                if sealed.files > 0 {
                    let left = last_saving::count_and_size(sealed);
                    let text = format!(
                        "{left} are not on the server yet: encrypted, and sent when it takes them; until then, the mount has to stay"
                    );
                    front_end.tell(Event::Progress(text));
                }
                Ok(Event::Done)
            }
            Request::Unmount { force, wait } => {
                self.unmount(standing, force, wait, front_end).await.map(|()| Event::Done)
            }
            Request::Which { of, paths } => standing.which(&self.target, of, &paths).await.map(Event::Which),
            Request::Login => self.log_in(standing, front_end).await.map(|()| Event::Done),
            Request::Hello(_)
            | Request::Status
            | Request::Watch
            | Request::Mount(_)
            | Request::Answer { .. } => {
                Err(Failure::new(FailureKind::Usage, "this request is not valid once the mount is made"))
            }
        }
    }

    /// Saves and unmounts, or reports what prevents it and goes on.
    async fn unmount(
        &self,
        standing: &Standing,
        force: bool,
        wait: Option<u64>,
        front_end: &FrontEnd,
    ) -> Result<(), Failure> {
        let _unmounting = self.activity.unmounts();
        let unsaved = if force {
            last_saving::save_at_once(&standing.drive, front_end).await
        } else {
            let reachability = standing.connection.as_ref().map(|connection| connection.reachability());
            let told = last_saving::tell_what_is_missing(&standing.drive, reachability, front_end);
            let saving = async {
                let drive = Arc::clone(&standing.drive);
                match wait.map(Duration::from_secs) {
                    // A server that refuses does so at once, and is not asked again.
                    None => {
                        last_saving::save_within(self.request.login.settings.patience(), drive, front_end)
                            .await
                    }
                    Some(wait) => last_saving::save_again_within(wait, drive, front_end).await,
                }
            };
            tokio::select! {
                unsaved = saving => unsaved,
                never = told => match never {},
                // The front end no longer waits for the end. Saves under way go on.
                () = front_end.gone() => return Err(Failure::new(FailureKind::Unsaved, "cancelled; it stays mounted")),
            }
        };
        // Nothing is waited for any more: the server may stay silent for ever.
        standing.given_up.fetch_or(force, Ordering::AcqRel);
        if unsaved.files > 0 {
            let (lost, named) = (last_saving::count_and_size(unsaved), last_saving::named(&standing.drive));
            if !force {
                let text = format!("{lost} can't be saved on the server; --force discards them:{named}");
                return Err(Failure::new(FailureKind::Unsaved, text));
            }
            front_end.tell(Event::Progress(format!("lost: {lost}{named}")));
        } else if !force && unsaved.off_disk > 0 {
            let text = "the server has received everything, but did not confirm that it is on disk; try again, or use --force";
            return Err(Failure::new(FailureKind::Unsaved, text));
        }
        let mut mount = standing.mount.lock().await;
        match mount.unmount(force) {
            Ok(()) => {
                let ended = mount.ended();
                drop(mount);
                // With force, programs may keep files open: the daemon ends in any case.
                let _ = tokio::time::timeout(Duration::from_secs(10), ended.wait()).await;
                Ok(())
            }
            Err(UnmountError::Busy(path)) => {
                let users = users_of(&path);
                let text =
                    format!("{} is in use{users}; close it and try again, or use --force", path.display());
                Err(Failure::new(FailureKind::Other, text))
            }
            Err(error) => Err(Failure::new(FailureKind::Other, error)),
        }
    }

    /// Reconnects, asking this front end, and waits until the connection is ready or is refused.
    async fn log_in(&self, standing: &Standing, front_end: &FrontEnd) -> Result<(), Failure> {
        let Some(connection) = &standing.connection else { return Ok(()) };
        let mut reachability = connection.reachability();
        if *reachability.borrow_and_update() == Reachability::Connected {
            front_end.tell(Event::Progress("the connection is up".to_owned()));
            return Ok(());
        }
        let _attached = standing.login_prompts.attach(front_end.clone());
        connection.hurry();
        loop {
            if reachability.changed().await.is_err() {
                return Err(Failure::new(FailureKind::Other, "the mount is ending"));
            }
            let now = reachability.borrow_and_update().clone();
            match now {
                Reachability::Connected => {
                    self.kept.offer(&*standing.login_prompts).await;
                    return Ok(());
                }
                Reachability::Waiting(why) => return Err(Failure::new(FailureKind::Login, why)),
                Reachability::Reconnecting(why) => {
                    front_end.tell(Event::Progress(format!("trying again: {why}")))
                }
            }
        }
    }
}

impl Standing {
    /// Waits until no login is under way: a vault's password is not asked for while a server may ask, too. (A vault
    /// that opens without the server does not wait for it.)
    async fn logged_in(&self, patience: Duration) -> Result<(), Failure> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let mut reachability = connection.reachability();
        let settled = reachability.wait_for(|now| !matches!(now, Reachability::Reconnecting(_)));
        let lost =
            |kind, why: &str| Failure::new(kind, format!("the connection to the server is lost: {why}"));
        match tokio::time::timeout(patience, settled).await {
            Ok(Ok(now)) => match &*now {
                Reachability::Waiting(why) => Err(lost(FailureKind::Login, why)),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(Failure::new(FailureKind::Other, "the mount is ending")),
            Err(_) => Err(lost(FailureKind::Unreachable, "reconnecting has not succeeded yet")),
        }
    }
}

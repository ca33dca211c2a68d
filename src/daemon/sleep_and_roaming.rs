//! What the daemon does when the machine sleeps and when its network changes: before a sleep everything is saved and
//! the vaults are locked, and after it, or on another network, the server has to show at once that it is still there,
//! or Scaup reconnects.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::connection::ServerConnection;
use super::life::{Daemon, Standing};
use super::lock_causes::LockCause;
use super::network::NetworkChanges;
use super::sleep::{Delay, Logind, Sleep, follow_clocks, time_asleep};

/// How long the server may be silent after the network changed, until the connection counts as lost. Closing a
/// connection that would have gone on may cost its user a code.
const AFTER_CHANGE: Duration = Duration::from_secs(5);

/// The same after waking up: a wireless network takes a while to be back.
const AFTER_SLEEP: Duration = Duration::from_secs(10);

impl Daemon {
    /// Runs along with a mount, for ever.
    pub(super) async fn accompany(&self, standing: &Standing) -> Infallible {
        let connection = standing.connection.as_deref();
        let lock_on = self.request.settings.lock_on();
        let networks = async {
            if let Some(connection) = connection {
                through_networks(connection).await;
            }
        };
        let screen = async {
            if lock_on.screen {
                self.lock_with_the_screen(standing).await;
            }
        };
        let idle = async {
            if let Some(limit) = lock_on.idle {
                self.lock_idle(standing, limit).await;
            }
        };
        let clocks = follow_clocks(time_asleep, || woke(connection));
        tokio::join!(networks, self.through_sleeps(standing), screen, idle, clocks);
        std::future::pending().await
    }

    async fn through_sleeps(&self, standing: &Standing) {
        let follow = async {
            let mut logind = Logind::find().await?;
            while let Some(sleep) = logind.next().await? {
                match sleep {
                    Sleep::Soon(delay) => self.before_sleep(standing, delay).await,
                    Sleep::Over => woke(standing.connection.as_deref()),
                }
            }
            Ok::<_, zbus::Error>(())
        };
        match follow.await {
            Ok(()) => {
                tracing::info!("logind has ended: the daemon is no longer told before the machine sleeps")
            }
            Err(error) => {
                tracing::info!(%error, "no logind: the daemon is not told before the machine sleeps")
            }
        }
    }

    /// Saves what can be saved and locks the vaults, unless the user wants them unlocked, while the sleep is delayed.
    async fn before_sleep(&self, standing: &Standing, delay: Delay) {
        let (drive, ends) = (&standing.drive, Instant::now() + delay.limit);
        if self.request.settings.lock_on().sleep {
            let locked = self.lock_all_within(delay.limit, standing, LockCause::Sleep).await;
            let mut after = pin!(self.after_self_locking(locked, LockCause::Sleep));
            tracing::info!(unsaved = drive.unsaved().files, "the machine goes to sleep");
            if timeout_at(ends, &mut after).await.is_err() {
                drop(delay);
                after.await;
            }
        } else {
            let unsaved = timeout_at(ends, drive.save_before_sleep()).await;
            let unsaved = unsaved.unwrap_or_else(|_| drive.unsaved());
            tracing::info!(unsaved = unsaved.files, "the machine goes to sleep");
        }
    }
}

async fn through_networks(connection: &dyn ServerConnection) {
    let follow = async {
        let changes = NetworkChanges::listen()?;
        loop {
            changes.next().await?;
            tracing::debug!("the network changed");
            connection.doubt(AFTER_CHANGE);
        }
    };
    let Err::<Infallible, std::io::Error>(error) = follow.await;
    tracing::warn!(%error, "changes of the network are not noticed");
}

fn woke(connection: Option<&dyn ServerConnection>) {
    tracing::info!("the machine woke up");
    if let Some(connection) = connection {
        connection.doubt(AFTER_SLEEP);
    }
}

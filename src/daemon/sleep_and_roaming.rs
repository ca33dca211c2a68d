//! What the daemon does when the machine sleeps and when its network changes: before a sleep everything is saved, and
//! after it, or on another network, the server has to show at once that it is still there, or Scaup reconnects.

use std::time::Duration;

use super::connection::ServerConnection;
use super::network::NetworkChanges;
use super::sleep::{Logind, Sleep, follow_clocks, time_asleep};
use crate::drive::Drive;

/// How long the server may be silent after the network changed, until the connection counts as lost. Closing a
/// connection that would have gone on may cost its user a code.
const AFTER_CHANGE: Duration = Duration::from_secs(5);

/// The same after waking up: a wireless network takes a while to be back.
const AFTER_SLEEP: Duration = Duration::from_secs(10);

/// Runs along with a mount, for ever.
pub(super) async fn accompany(drive: &Drive, connection: &dyn ServerConnection) {
    let clocks = follow_clocks(time_asleep, || woke(connection));
    tokio::join!(through_networks(connection), through_sleeps(drive, connection), clocks);
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
    let Err::<std::convert::Infallible, std::io::Error>(error) = follow.await;
    tracing::warn!(%error, "changes of the network are not noticed");
}

async fn through_sleeps(drive: &Drive, connection: &dyn ServerConnection) {
    let follow = async {
        let mut logind = Logind::find().await?;
        while let Some(sleep) = logind.next().await? {
            match sleep {
                Sleep::Soon(delay) => {
                    let saved = tokio::time::timeout(delay.limit, drive.save_before_sleep()).await;
                    let unsaved = saved.unwrap_or_else(|_| drive.unsaved());
                    tracing::info!(unsaved = unsaved.files, "the machine goes to sleep");
                }
                Sleep::Over => woke(connection),
            }
        }
        Ok::<_, zbus::Error>(())
    };
    match follow.await {
        Ok(()) => tracing::info!("logind has ended: the daemon is no longer told before the machine sleeps"),
        Err(error) => tracing::info!(%error, "no logind: the daemon is not told before the machine sleeps"),
    }
}

fn woke(connection: &dyn ServerConnection) {
    tracing::info!("the machine woke up");
    connection.doubt(AFTER_SLEEP);
}

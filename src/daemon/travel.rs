//! What a laptop's travels mean for a mount: before it sleeps everything is saved, and when it wakes up, or the network is another, the
//! server has to show at once that it is still there, or is looked for anew.

use std::time::Duration;

use super::network::NetworkChanges;
use super::sleep::{Logind, Sleep, follow_clocks, time_asleep};
use crate::drive::Drive;
use crate::remote::sftp::SftpRemote;

/// How long the server may be silent after the network changed, until the connection counts as lost. Giving up one that would have gone on
/// may cost its user a code.
const AFTER_CHANGE: Duration = Duration::from_secs(5);

/// The same after waking up: a wireless network takes a while to be back.
const AFTER_SLEEP: Duration = Duration::from_secs(10);

/// Accompanies a mount, for ever.
pub(super) async fn accompany(drive: &Drive, server: &SftpRemote) {
    let clocks = follow_clocks(time_asleep, || woke(server));
    tokio::join!(through_networks(server), through_sleeps(drive, server), clocks);
}

async fn through_networks(server: &SftpRemote) {
    let follow = async {
        let changes = NetworkChanges::listen()?;
        loop {
            changes.next().await?;
            tracing::debug!("the network changed");
            server.doubt(AFTER_CHANGE);
        }
    };
    let Err::<std::convert::Infallible, std::io::Error>(error) = follow.await;
    tracing::warn!(%error, "changes of the network are not heard of");
}

async fn through_sleeps(drive: &Drive, server: &SftpRemote) {
    let follow = async {
        let mut logind = Logind::find().await?;
        while let Some(sleep) = logind.next().await? {
            match sleep {
                Sleep::Soon(delay) => {
                    let saved = tokio::time::timeout(delay.limit, drive.save_before_sleep()).await;
                    let unsaved = saved.unwrap_or_else(|_| drive.unsaved());
                    tracing::info!(unsaved = unsaved.files, "the machine goes to sleep");
                }
                Sleep::Over => woke(server),
            }
        }
        Ok::<_, zbus::Error>(())
    };
    match follow.await {
        Ok(()) => tracing::info!("logind is gone: sleep is not heard of beforehand any more"),
        Err(error) => tracing::info!(%error, "no logind: sleep is not heard of beforehand"),
    }
}

fn woke(server: &SftpRemote) {
    tracing::info!("the machine woke up");
    server.doubt(AFTER_SLEEP);
}

//! What the daemon needs of a connection to a server, whatever kind of server that is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::notification;
use super::protocol::MountState;
use super::status::Activity;
use crate::remote::{Reachability, RemoteError};

/// A connection that can be lost, and is then restored.
#[async_trait]
pub(super) trait ServerConnection: Send + Sync {
    /// Waits until the mounted directory is known to exist.
    async fn ready(&self) -> Result<(), RemoteError>;
    /// Returns whether the server is reachable, and every change of that.
    fn reachability(&self) -> watch::Receiver<Reachability>;
    /// Retries a lost connection now, even if the last attempt was refused.
    fn hurry(&self);
    /// Checks the connection after an event that may have cut it: it counts as lost unless the server shows a sign of
    /// life within `patience`. A lost connection is retried now, unless it waits for a person.
    fn doubt(&self, patience: Duration);
}

/// Shows in the status when the connection is lost, and when it is back; where the user has to act, notifies them on
/// the desktop, too.
pub(super) async fn follow(
    mut reachability: watch::Receiver<Reachability>,
    activity: Arc<Activity>,
    name: String,
) {
    while reachability.changed().await.is_ok() {
        let now = reachability.borrow_and_update().clone();
        let (state, reason) = match now {
            Reachability::Connected => (MountState::Connected, None),
            Reachability::Reconnecting(why) => (MountState::Reconnecting, Some(why)),
            Reachability::Waiting(why) => {
                tokio::spawn(notification::login_needed(name.clone(), reachability.clone()));
                let reason = format!("{why}; `scaup login {name}` asks again");
                (MountState::WaitingForAnswer, Some(reason))
            }
        };
        activity.set(state, reason);
    }
}

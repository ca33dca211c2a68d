//! Operations that outlive a connection.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use tokio::time::Instant;

use super::connection::Connection;
use super::link::Link;
use crate::remote::RemoteError;

/// How often an operation is begun at once. One that is cut every time may be what the server breaks off at: it is begun again more slowly,
/// and given up when it has taken as long as operations wait for a connection.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_secs(1);

/// Runs an operation on the connection of the present; if that is lost meanwhile, or answers nothing any more, once more on the next. The operation
/// is told whether it was begun before: then the server may have carried it out.
pub(super) async fn retry<'a, T>(
    link: &Link,
    operation: impl Fn(Arc<Connection>, bool) -> BoxFuture<'a, Result<T, RemoteError>> + Send + Sync,
) -> Result<T, RemoteError> {
    let began = Instant::now();
    let mut connection = link.connection().await?;
    let mut was_mute = false;
    for attempt in 1.. {
        match operation(Arc::clone(&connection), attempt > 1).await {
            Err(RemoteError::Disconnected(why)) if attempt < ATTEMPTS || began.elapsed() < link.timeout() => {
                if attempt >= ATTEMPTS {
                    tokio::time::sleep(PAUSE).await;
                }
                // A lane that only some files use may have been lost alone.
                connection.end(&why);
            }
            // Once: an operation that takes too long on another session, too, is to blame itself.
            Err(RemoteError::Timeout(_)) if !was_mute && connection.ends_if_mute().await => was_mute = true,
            done => return done,
        }
        connection = link.connection_after(connection.generation).await?;
    }
    Err(RemoteError::Disconnected("the connection is lost again and again".to_owned()))
}

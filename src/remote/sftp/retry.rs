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

/// Runs an operation on the connection of the present; if that is lost meanwhile, once more on the next. The operation
/// is told whether it was begun before: then the server may have carried it out.
pub(super) async fn retry<'a, T>(
    link: &Link,
    operation: impl Fn(Arc<Connection>, bool) -> BoxFuture<'a, Result<T, RemoteError>> + Send + Sync,
) -> Result<T, RemoteError> {
    let began = Instant::now();
    let mut connection = link.connection().await?;
    for attempt in 1.. {
        let generation = connection.generation;
        match operation(connection, attempt > 1).await {
            Err(RemoteError::Disconnected(_)) if attempt < ATTEMPTS || began.elapsed() < link.timeout() => {
                if attempt >= ATTEMPTS {
                    tokio::time::sleep(PAUSE).await;
                }
                connection = link.connection_after(generation).await?;
            }
            done => return done,
        }
    }
    Err(RemoteError::Disconnected("the connection is lost again and again".to_owned()))
}

//! Operations that outlive a connection.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::connection::Connection;
use super::link::Link;
use crate::remote::RemoteError;

/// How often one operation is begun. A server that breaks off at the same request every time must not keep it for ever.
const ATTEMPTS: u32 = 8;

/// Runs an operation on the connection of the present; if that is lost meanwhile, once more on the next. The operation
/// is told whether it was begun before: then the server may have carried it out.
pub(super) async fn retry<'a, T>(
    link: &Link,
    operation: impl Fn(Arc<Connection>, bool) -> BoxFuture<'a, Result<T, RemoteError>> + Send + Sync,
) -> Result<T, RemoteError> {
    let mut connection = link.connection().await?;
    for attempt in 1.. {
        let generation = connection.generation;
        match operation(connection, attempt > 1).await {
            Err(RemoteError::Disconnected(_)) if attempt < ATTEMPTS => {
                connection = link.connection_after(generation).await?;
            }
            done => return done,
        }
    }
    Err(RemoteError::Disconnected("the connection is lost again and again".to_owned()))
}

//! Operations that outlive a connection.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use tokio::time::Instant;
use tracing::{Instrument as _, Level, Span, enabled, info_span};

use super::connection::Connection;
use super::link::Link;
use crate::RemoteError;

/// How many attempts of an operation follow each other without a pause. If every one is cut, the server may break off
/// because of it: it is then retried more slowly, and given up when it has taken as long as operations wait for a
/// connection.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_secs(1);

/// Runs an operation as [`attempts`] does. Every request to a server passes here, so this logs the operation (`what`,
/// named as the method of [`Remote`](crate::Remote) or [`RemoteFile`](crate::RemoteFile)), how long it
/// took, and its outcome. The failing operation of a failed kernel request is among the lines of the request's span.
pub(super) async fn retry<'a, T>(
    link: &Link,
    what: &'static str,
    operation: impl Fn(Arc<Connection>, bool) -> BoxFuture<'a, Result<T, RemoteError>> + Send + Sync,
) -> Result<T, RemoteError> {
    let asked = async {
        let began = Instant::now();
        let result = link.refusals.until_refused(attempts(link, operation)).await;
        let result = result.unwrap_or_else(|| Err(RemoteError::given_up()));
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        match &result {
            // A prefetch limits the number of names: exceeding the limit is not a failure.
            Err(error) if error.is_failure() && *error != RemoteError::TooManyNames => {
                // This line is also read without the others, and then names the operation.
                let span = if enabled!(Level::DEBUG) { Span::current() } else { info_span!("remote", what) };
                span.in_scope(|| tracing::info!(took_us, result = error.kind(), "failed"));
            }
            Err(error) => tracing::debug!(took_us, result = error.kind(), "answered"),
            Ok(_) => tracing::debug!(took_us, result = "done", "answered"),
        }
        result
    };
    asked.instrument(tracing::debug_span!("remote", what)).await
}

/// Runs an operation on the current connection; if that is lost meanwhile, or no longer replies, runs it again on the
/// next. The operation is told whether it was begun before: then the server may have carried it out.
async fn attempts<'a, T>(
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
            // This is done once: an operation that also times out on another session is itself the cause.
            Err(RemoteError::Timeout(_)) if !was_mute && connection.ends_if_mute().await => was_mute = true,
            done => return done,
        }
        connection = link.connection_after(connection.generation).await?;
    }
    Err(RemoteError::Disconnected("the connection was lost again and again".to_owned()))
}

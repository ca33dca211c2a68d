//! The wish of a person to end work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::error::DavError;

/// Whether work shall end. Clones are one wish. Work that has begun something on a server undoes it before it ends.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    is_cancelled: Arc<AtomicBool>,
    cancelled: Arc<Notify>,
}

impl Cancel {
    /// Makes the work end.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        self.cancelled.notify_waiters();
    }

    /// Returns an error if the work shall end.
    ///
    /// # Errors
    ///
    /// [`DavError::Cancelled`].
    pub fn check(&self) -> Result<(), DavError> {
        if self.is_cancelled.load(Ordering::SeqCst) { Err(DavError::Cancelled) } else { Ok(()) }
    }

    /// Waits for the wish to end the work.
    pub async fn wished(&self) {
        // Nothing else ends it.
        let _ = self.or::<(), DavError>(std::future::pending()).await;
    }

    /// Waits for work that may be dropped at any time, or for the wish to end it.
    ///
    /// # Errors
    ///
    /// Those of the work, and [`DavError::Cancelled`].
    pub async fn or<T, E: From<DavError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let cancelled = self.cancelled.notified();
        self.check()?;
        tokio::select! {
            done = work => done,
            () = cancelled => Err(DavError::Cancelled.into()),
        }
    }

    /// Waits for this long.
    ///
    /// # Errors
    ///
    /// [`DavError::Cancelled`].
    pub async fn pause(&self, time: Duration) -> Result<(), DavError> {
        self.or(async {
            tokio::time::sleep(time).await;
            Ok(())
        })
        .await
    }
}

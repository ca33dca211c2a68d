//! The stream of chunks from one file to the server.
//!
//! Chunks go out in the order in which they were handed over, many in flight; the acknowledgements are collected when the
//! file's state is next worked on.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::remote::{RemoteError, RemoteFile};

/// Chunks in flight for one file: 8 MiB.
const IN_FLIGHT_MAX: usize = 256;

struct Job {
    number: u64,
    offset: u64,
    stored: Bytes,
}

/// The stream of one file.
pub(super) struct Uploader {
    jobs: mpsc::UnboundedSender<Job>,
    acknowledged: mpsc::UnboundedReceiver<(u64, Result<(), RemoteError>)>,
    waiting: usize,
}

impl Uploader {
    /// Starts the stream to `file`. It ends when the uploader is dropped.
    pub(super) fn start(file: Arc<dyn RemoteFile>) -> Self {
        let (jobs, mut incoming) = mpsc::unbounded_channel::<Job>();
        let (done, acknowledged) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut running = FuturesUnordered::new();
            loop {
                tokio::select! {
                    biased;
                    Some(result) = running.next() => {
                        if done.send(result).is_err() {
                            return;
                        }
                    }
                    job = incoming.recv(), if running.len() < IN_FLIGHT_MAX => {
                        let Some(Job { number, offset, stored }) = job else { break };
                        let file = Arc::clone(&file);
                        running.push(async move { (number, file.write_at(offset, stored).await) });
                    }
                }
            }
            while running.next().await.is_some() {}
        });
        Self { jobs, acknowledged, waiting: 0 }
    }

    /// Hands over what to store for chunk `number`.
    pub(super) fn send(&mut self, number: u64, offset: u64, stored: Bytes) {
        if self.jobs.send(Job { number, offset, stored }).is_ok() {
            self.waiting += 1;
        }
    }

    /// How many chunks are not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The next acknowledgement; `None` if none is outstanding or the stream broke.
    pub(super) async fn next(&mut self) -> Option<(u64, Result<(), RemoteError>)> {
        if self.waiting == 0 {
            return None;
        }
        let next = self.acknowledged.recv().await;
        self.waiting = if next.is_some() { self.waiting - 1 } else { 0 };
        next
    }

    /// The next acknowledgement that has arrived already.
    pub(super) fn try_next(&mut self) -> Option<(u64, Result<(), RemoteError>)> {
        let next = self.acknowledged.try_recv().ok()?;
        self.waiting -= 1;
        Some(next)
    }
}

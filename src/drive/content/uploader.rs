//! The stream of chunks from one file to the server.
//!
//! Chunks are sent in the order in which they were handed over, many in flight; the acknowledgements are collected when
//! the file's state is next worked on. The caller bounds how much is under way.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use scaup_crypto::{ChunkRange, CiphertextLen};
use tokio::sync::mpsc;

use crate::remote::{RemoteError, RemoteFile};

/// Adjacent chunks that go in one message.
struct Job {
    numbers: ChunkRange,
    offset: CiphertextLen,
    stored: Bytes,
}

/// The outcome of sending chunks in one message.
pub(super) type Acknowledgement = (ChunkRange, Result<(), RemoteError>);

/// The stream of one file.
pub(super) struct Uploader {
    jobs: mpsc::UnboundedSender<Job>,
    acknowledged: mpsc::UnboundedReceiver<Acknowledgement>,
    /// Chunks that are not acknowledged.
    waiting: u64,
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
                    job = incoming.recv() => {
                        let Some(Job { numbers, offset, stored }) = job else { break };
                        let file = Arc::clone(&file);
                        running.push(async move { (numbers, file.write_at(offset.0, stored).await) });
                    }
                }
            }
            while running.next().await.is_some() {}
        });
        Self { jobs, acknowledged, waiting: 0 }
    }

    /// Hands over the bytes to store, from `offset` on, for the chunks `numbers`.
    pub(super) fn send(&mut self, numbers: ChunkRange, offset: CiphertextLen, stored: Bytes) {
        if self.jobs.send(Job { numbers, offset, stored }).is_ok() {
            self.waiting += numbers.count();
        }
    }

    /// Returns how many chunks are not acknowledged.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Returns the next acknowledgement; `None` if none is outstanding or the stream broke.
    pub(super) async fn next(&mut self) -> Option<Acknowledgement> {
        if self.waiting == 0 {
            return None;
        }
        let next = self.acknowledged.recv().await;
        match &next {
            Some(next) => self.count(next),
            None => self.waiting = 0,
        }
        next
    }

    /// Returns the next acknowledgement that has arrived already.
    pub(super) fn try_next(&mut self) -> Option<Acknowledgement> {
        let next = self.acknowledged.try_recv().ok()?;
        self.count(&next);
        Some(next)
    }

    fn count(&mut self, (numbers, _): &Acknowledgement) {
        self.waiting -= numbers.count();
    }
}

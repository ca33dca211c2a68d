//! The body of a request that sends content.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How much is handed over at once, bytes: progress is seen in these steps.
const PIECE_LEN: usize = 64 << 10;

/// How much of a request's content was handed over, which is added to the sum of all of them.
#[derive(Clone)]
pub(super) struct Sent {
    here: Arc<AtomicU64>,
    of_all: Arc<AtomicU64>,
}

impl Sent {
    pub(super) fn of(of_all: &Arc<AtomicU64>) -> Self {
        Self { here: Arc::default(), of_all: of_all.clone() }
    }

    fn add(&self, len: usize) {
        self.here.fetch_add(len as u64, Ordering::Relaxed);
        self.of_all.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Takes back what was counted, since the content is sent again.
    pub(super) fn start_again(&self) {
        self.of_all.fetch_sub(self.here.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Content of known length, which counts what was handed over. A body of unknown length would become an empty file on
/// some servers.
pub(super) struct ContentBody {
    left: Bytes,
    sent: Sent,
}

impl ContentBody {
    pub(super) fn new(content: Bytes, sent: Sent) -> Self {
        Self { left: content, sent }
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.left.len().min(PIECE_LEN);
        let piece = self.left.split_to(len);
        self.sent.add(len);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

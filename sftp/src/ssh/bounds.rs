//! Bounds on a server before the user is logged in: time for each reply, and bytes in all.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use russh::keys::HashAlg;
use russh::keys::agent::AgentIdentity;
use russh::{AgentAuthError, Signer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::destination::Destination;
use super::error::ConnectError;
use crate::pace::Pace;

/// How long a server may take for a reply that needs no action by a person.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The same where the server may wait for a person who has to approve the login on another device.
pub(super) const APPROVAL_MAX: Duration = Duration::from_secs(60);

/// Bytes that a server may send until the user is logged in: a login takes a few KiB, and banners and prompts a few
/// more.
const BYTES_MAX: u64 = 1024 * 1024;

/// The error that no reply came in time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the server did not answer within {} s", .0.as_secs())]
pub(super) struct Silent(Duration);

/// Waits for a reply, at most for that long.
pub(super) async fn answered<T>(most: Duration, answer: impl Future<Output = T>) -> Result<T, Silent> {
    tokio::time::timeout(most, answer).await.map_err(|_| Silent(most))
}

/// Waits like [`answered`], without counting the time in which an agent [signs](Signing).
pub(super) async fn answered_unless<T>(
    signs: &AtomicBool,
    most: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, Silent> {
    let mut answer = pin!(answer);
    loop {
        match tokio::time::timeout(most, &mut answer).await {
            Ok(answer) => return Ok(answer),
            Err(_) if signs.load(Ordering::Relaxed) => {}
            Err(_) => return Err(Silent(most)),
        }
    }
}

/// A signer that tells while it signs.
pub(super) struct Signing<'a, S> {
    signer: &'a mut S,
    signs: &'a AtomicBool,
}

impl<'a, S> Signing<'a, S> {
    pub(super) fn new(signer: &'a mut S, signs: &'a AtomicBool) -> Self {
        Self { signer, signs }
    }
}

impl<S: Signer<Error = AgentAuthError> + Send> Signer for Signing<'_, S> {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        key: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        self.signs.store(true, Ordering::Relaxed);
        let signed = self.signer.auth_sign(key, hash, to_sign).await;
        self.signs.store(false, Ordering::Relaxed);
        signed
    }
}

/// The bytes that a server may still send before the user is logged in.
#[derive(Clone)]
pub(super) struct Allowance {
    left: Arc<AtomicU64>,
    /// Whether the reply was that of an HTTP server.
    is_web: Arc<AtomicBool>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: Arc::new(AtomicU64::new(BYTES_MAX)), is_web: Arc::default() }
    }
}

impl Allowance {
    /// Once the user is logged in, incoming bytes are not limited.
    const LIFTED: u64 = u64::MAX;

    /// Wraps a stream so that it breaks off when the server exceeds its allowance. It tells `pace` how much was
    /// written, if it is a socket itself.
    pub(super) fn bounds<S>(&self, stream: S, pace: Option<Arc<Pace>>) -> Bounded<S> {
        Bounded { stream, allowance: self.clone(), pace }
    }

    pub(super) fn lift(&self) {
        self.left.store(Self::LIFTED, Ordering::Relaxed);
    }

    /// Returns the error to report if the server exceeded its allowance, or speaks another protocol.
    pub(super) fn refused(&self, destination: &Destination) -> Option<ConnectError> {
        let reason = if self.is_web.load(Ordering::Relaxed) {
            "a web server answers there, not an SSH server; some networks require a login in a browser first"
        } else if self.left.load(Ordering::Relaxed) == 0 {
            "the server sends data without end before the login"
        } else {
            return None;
        };
        Some(ConnectError::Protocol { destination: destination.user_at_host(), reason: reason.to_owned() })
    }

    /// Counts received bytes. The first bytes show what kind of server it is. One that is not an SSH server may go on
    /// for as long as the key exchange may take.
    fn spend(&self, read: &[u8]) -> io::Result<()> {
        let bytes = read.len();
        if self.left.load(Ordering::Relaxed) == BYTES_MAX && read.starts_with(b"HTTP/") {
            self.is_web.store(true, Ordering::Relaxed);
            return Err(io::Error::other("an HTTP answer"));
        }
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
            Self::LIFTED => None,
            left => Some(left.saturating_sub(bytes as u64)),
        });
        match left {
            Ok(left) if left <= bytes as u64 => Err(io::Error::other("more bytes than a login takes")),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// A stream whose other side may not send without end.
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
    pace: Option<Arc<Pace>>,
}

impl<S> Drop for Bounded<S> {
    fn drop(&mut self) {
        if let Some(pace) = &self.pace {
            pace.end();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match read {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().get(before..).unwrap_or_default();
                Poll::Ready(self.allowance.spend(read))
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let (Poll::Ready(Ok(bytes)), Some(pace)) = (&written, &self.pace) {
            pace.record_written(*bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

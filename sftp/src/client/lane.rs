//! One SFTP channel: requests go out in order, replies are matched by id.
//!
//! One task writes and one reads, always, so that a slow caller never holds up the connection. A caller that goes away leaves its
//! id behind: the late reply is dropped, and a handle in it closed. When the channel breaks, everybody who waits hears why.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::error::{SftpError, StatusCode};
use super::packet::{self, Reply, Request, kind};

/// Content in flight, bytes: one bandwidth-delay product of 1 Gbit/s over 128 ms.
const CONTENT_IN_FLIGHT: usize = 16 * 1024 * 1024;

/// Requests without content in flight: OpenSSH answers bursts of this depth best.
const REQUESTS_IN_FLIGHT: usize = 128;

/// Longest READ and WRITE where the server does not say: what every server has to take (section 3 of the draft).
const LENGTH_UNKNOWN: u32 = 32 * 1024;

/// Longest READ and WRITE at all, whatever the server says.
const LENGTH_MAX: u32 = 255 * 1024;

type Outcome = Result<Reply, SftpError>;

struct Pending {
    waiting: HashMap<u32, oneshot::Sender<Outcome>>,
    next_id: u32,
    /// Why the channel is gone.
    dead: Option<SftpError>,
}

/// Counters of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneCounters {
    /// Requests sent.
    pub requests: u64,
    /// Bytes of packets received.
    pub bytes_received: u64,
    /// Bytes of packets sent.
    pub bytes_sent: u64,
}

/// One channel. Clones share it.
#[derive(Clone)]
pub struct Lane {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    outgoing: mpsc::UnboundedSender<Bytes>,
    pending: Mutex<Pending>,
    timeout: Duration,
    content: Semaphore,
    requests: Semaphore,
    extensions: HashSet<Bytes>,
    limits: Mutex<Limits>,
    count_requests: AtomicU64,
    bytes_received: Arc<AtomicU64>,
    bytes_sent: Arc<AtomicU64>,
}

/// What the server says it takes (`limits@openssh.com`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) read_len: u32,
    pub(super) write_len: u32,
    pub(super) open_handles: Option<u64>,
}

impl Lane {
    /// Greets the server on a stream that leads to its SFTP subsystem. Each request waits at most `timeout` for its answer.
    ///
    /// # Errors
    ///
    /// If the server is silent, or speaks something else.
    pub async fn open(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        timeout: Duration,
    ) -> Result<Self, SftpError> {
        let (read, mut write) = tokio::io::split(stream);
        let mut read = BufReader::with_capacity(256 * 1024, read);
        let lost = |error: std::io::Error| SftpError::Disconnected(error.to_string());
        let greet = async {
            write.write_all(&packet::init()).await.map_err(lost)?;
            write.flush().await.map_err(lost)?;
            packet::decode_version(receive(&mut read).await?)
        };
        let extensions =
            tokio::time::timeout(timeout, greet).await.map_err(|_| SftpError::Timeout(timeout))??;
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (bytes_received, bytes_sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let shared = Arc::new(Shared {
            outgoing,
            pending: Mutex::new(Pending { waiting: HashMap::new(), next_id: 0, dead: None }),
            timeout,
            content: Semaphore::new(CONTENT_IN_FLIGHT),
            requests: Semaphore::new(REQUESTS_IN_FLIGHT),
            extensions: extensions.into_iter().collect(),
            limits: Mutex::new(Limits {
                read_len: LENGTH_UNKNOWN,
                write_len: LENGTH_UNKNOWN,
                open_handles: None,
            }),
            count_requests: AtomicU64::new(0),
            bytes_received: Arc::clone(&bytes_received),
            bytes_sent: Arc::clone(&bytes_sent),
        });
        tokio::spawn(write_all(write, queue, bytes_sent, Arc::downgrade(&shared)));
        tokio::spawn(read_all(read, bytes_received, Arc::downgrade(&shared)));
        let lane = Self { shared };
        lane.ask_limits().await?;
        Ok(lane)
    }

    async fn ask_limits(&self) -> Result<(), SftpError> {
        if !self.offers(b"limits@openssh.com") {
            return Ok(());
        }
        let reply = self.request(kind::EXTENDED, |request| request.string(b"limits@openssh.com")).await?;
        let Reply::Extended(numbers) = reply else { return Ok(()) };
        let [_packet, read, write, handles] = packet::decode_numbers(numbers)?;
        let known = |length: u64| match u32::try_from(length) {
            Ok(0) => LENGTH_UNKNOWN,
            Ok(length) => length.clamp(1024, LENGTH_MAX),
            Err(_) => LENGTH_MAX,
        };
        let limits = Limits {
            read_len: known(read),
            write_len: known(write),
            open_handles: Some(handles).filter(|&h| h > 0),
        };
        *self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        Ok(())
    }

    /// Whether the server announced an extension.
    #[must_use]
    pub fn offers(&self, extension: &[u8]) -> bool {
        self.shared.extensions.contains(extension)
    }

    /// How many handles the server lets be open at a time, if it says.
    #[must_use]
    pub fn open_handles_max(&self) -> Option<u64> {
        self.limits().open_handles
    }

    pub(super) fn limits(&self) -> Limits {
        *self.shared.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went over it so far.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        LaneCounters {
            requests: self.shared.count_requests.load(Ordering::Relaxed),
            bytes_received: self.shared.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.shared.bytes_sent.load(Ordering::Relaxed),
        }
    }

    /// Sends a request that carries no content, and waits for its reply. A refusal comes as an error.
    pub(super) async fn request(
        &self,
        kind: u8,
        build: impl FnOnce(Request) -> Request,
    ) -> Result<Reply, SftpError> {
        let _permit = self.shared.requests.acquire().await;
        self.exchange(kind, build).await
    }

    /// Sends a request that carries or asks for `length` bytes of content, and waits for its reply.
    pub(super) async fn content_request(
        &self,
        kind: u8,
        length: usize,
        build: impl FnOnce(Request) -> Request,
    ) -> Result<Reply, SftpError> {
        let weight = u32::try_from(length.clamp(1, CONTENT_IN_FLIGHT)).unwrap_or(1);
        let _permit = self.shared.content.acquire_many(weight).await;
        self.exchange(kind, build).await
    }

    async fn exchange(&self, kind: u8, build: impl FnOnce(Request) -> Request) -> Result<Reply, SftpError> {
        let answer = self.shared.send(kind, build)?;
        let timeout = self.shared.timeout;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(Ok(Reply::Status { code, message }))) if code != StatusCode::Ok => {
                Err(SftpError::Status { code, message })
            }
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(self.shared.why_dead()),
            Err(_) => Err(SftpError::Timeout(timeout)),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request; its reply comes out of the receiver. Dropping that is allowed.
    pub(super) fn send(
        &self,
        kind: u8,
        build: impl FnOnce(Request) -> Request,
    ) -> Result<oneshot::Receiver<Outcome>, SftpError> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.lock();
        if let Some(dead) = &pending.dead {
            return Err(dead.clone());
        }
        // An id that a silent server still owes a reply for is not given again.
        let mut id = pending.next_id;
        while pending.waiting.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        pending.next_id = id.wrapping_add(1);
        pending.waiting.insert(id, sender);
        // Handed over under the lock: requests leave in the order of the calls.
        let packet = build(Request::new(kind, id)).finish();
        self.count_requests.fetch_add(1, Ordering::Relaxed);
        if self.outgoing.send(packet).is_err() {
            pending.waiting.remove(&id);
            return Err(SftpError::Disconnected("the channel is closed".to_owned()));
        }
        Ok(receiver)
    }

    fn why_dead(&self) -> SftpError {
        let unknown = || SftpError::Disconnected("the channel is closed".to_owned());
        self.lock().dead.clone().unwrap_or_else(unknown)
    }

    fn die(&self, why: SftpError) {
        let mut pending = self.lock();
        let why = pending.dead.get_or_insert(why).clone();
        for (_, waiting) in pending.waiting.drain() {
            let _ = waiting.send(Err(why.clone()));
        }
    }

    /// Hands a reply to the one who waits for it.
    fn deliver(&self, id: u32, reply: Reply) -> Result<(), SftpError> {
        let waiting = self.lock().waiting.remove(&id);
        let Some(waiting) = waiting else {
            return Err(SftpError::Protocol(format!("a reply to request {id}, which was not made")));
        };
        if let Err(Ok(Reply::Handle(handle))) = waiting.send(Ok(reply)) {
            self.close(&handle);
        }
        Ok(())
    }

    /// Closes a handle without waiting.
    pub(super) fn close(&self, handle: &Bytes) {
        let _ = self.send(kind::CLOSE, |request| request.string(handle));
    }
}

async fn write_all(
    mut write: impl AsyncWrite + Unpin,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    sent: Arc<AtomicU64>,
    shared: std::sync::Weak<Shared>,
) {
    while let Some(packet) = queue.recv().await {
        let written = async {
            write.write_all(&packet).await?;
            // What is queued behind goes along.
            if queue.is_empty() { write.flush().await } else { Ok(()) }
        };
        sent.fetch_add(packet.len() as u64, Ordering::Relaxed);
        if let Err(error) = written.await {
            if let Some(shared) = shared.upgrade() {
                shared.die(SftpError::Disconnected(error.to_string()));
            }
            return;
        }
    }
    let _ = write.shutdown().await;
}

async fn read_all(
    mut read: impl AsyncRead + Unpin,
    received: Arc<AtomicU64>,
    shared: std::sync::Weak<Shared>,
) {
    loop {
        let packet = receive(&mut read).await;
        let Some(shared) = shared.upgrade() else { return };
        let delivered = packet.and_then(|packet| {
            received.fetch_add(packet.len() as u64 + 4, Ordering::Relaxed);
            let (id, reply) = packet::decode(packet)?;
            shared.deliver(id, reply)
        });
        if let Err(error) = delivered {
            shared.die(error);
            return;
        }
    }
}

/// Receives one packet, without its length.
async fn receive(read: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, SftpError> {
    let lost = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            SftpError::Disconnected("the server closed the channel".to_owned())
        }
        _ => SftpError::Disconnected(error.to_string()),
    };
    let length = read.read_u32().await.map_err(lost)? as usize;
    if length == 0 || length > packet::PACKET_MAX {
        return Err(SftpError::Protocol(format!("a packet of {length} bytes")));
    }
    let mut packet = BytesMut::with_capacity(length);
    while packet.len() < length {
        let mut rest = (&mut *read).take((length - packet.len()) as u64);
        if rest.read_buf(&mut packet).await.map_err(lost)? == 0 {
            return Err(SftpError::Disconnected("the server closed the channel inside a packet".to_owned()));
        }
    }
    Ok(packet.freeze())
}

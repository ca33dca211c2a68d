//! One SFTP channel: requests go out in order, replies are matched by id.
//!
//! One task always writes and one always reads, so that a slow caller never holds up the connection. If a caller goes
//! away before its reply comes, the late reply is dropped, and a handle in it is closed. When the channel breaks, every
//! waiting caller gets the reason.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::Channel;
use russh::client::Msg;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, SetOnce, mpsc, oneshot, watch};

use super::error::{SftpError, StatusCode};
use super::names::NamesBudget;
use super::packet::{self, Reply, RequestPacket, kind};
use super::road::{Budget, Priority, ReservedRoom, Road};
use super::wire::{self, Heard, Outgoing, Packets};
use crate::pace::SHORT;

/// Requests without content in flight: OpenSSH performs best with bursts of this depth.
const REQUESTS_IN_FLIGHT: usize = 128;

/// Longest READ and WRITE where the server names no limit: every server has to accept this much (section 3 of the
/// draft).
const LENGTH_UNKNOWN: u32 = 32 * 1024;

/// Longest READ and WRITE in any case, whatever the server says.
const LENGTH_MAX: u32 = 255 * 1024;

/// How many times the deadline a request may take while content is still being sent.
const PATIENCE_ON_SLOW_LINES: u32 = 10;

/// Content is stuck if none was sent for this long.
const LEAVING: Duration = Duration::from_secs(5);

/// The extension by which a server tells its limits.
const LIMITS: &[u8] = b"limits@openssh.com";

type Outcome = Result<Reply, SftpError>;

/// Numbers lanes for the log.
static LANES: AtomicU64 = AtomicU64::new(0);

/// A request that was sent.
pub(super) struct Sent {
    id: u32,
    kind: u8,
    /// Bytes of its packet.
    length: usize,
    at: Instant,
    answer: oneshot::Receiver<ReplyOnItsWay>,
}

/// A reply on its way to the caller. If the caller goes away before or after the reply was handed over, a handle in it
/// is closed.
pub(super) struct ReplyOnItsWay {
    outcome: Option<Outcome>,
    /// Bytes of its packet.
    length: usize,
    lane: Weak<Shared>,
}

impl ReplyOnItsWay {
    fn take(mut self) -> Outcome {
        self.outcome.take().unwrap_or_else(|| Err(closed()))
    }
}

impl Drop for ReplyOnItsWay {
    fn drop(&mut self) {
        if let (Some(Ok(Reply::Handle(handle))), Some(lane)) = (&self.outcome, self.lane.upgrade()) {
            lane.close(handle);
        }
    }
}

struct Pending {
    waiting: HashMap<u32, Waiting>,
    next_id: u32,
}

/// A caller that waits for a reply, or waited.
struct Waiting {
    since: Instant,
    answer: oneshot::Sender<ReplyOnItsWay>,
}

fn closed() -> SftpError {
    SftpError::Disconnected("the channel is closed".to_owned())
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
    /// Its number in the log.
    number: u64,
    outgoing: mpsc::UnboundedSender<Bytes>,
    pending: Mutex<Pending>,
    /// The reason why the channel is gone.
    dead: watch::Sender<Option<SftpError>>,
    timeout: Duration,
    road: Arc<Road>,
    requests: Semaphore,
    /// The extensions that the server announced in its greeting, once that came.
    extensions: SetOnce<HashSet<Bytes>>,
    limits: SetOnce<Limits>,
    /// Bytes of content that were sent and are not acknowledged.
    unacknowledged: AtomicU64,
    traffic: Arc<Traffic>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Traffic {
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// The server's limits (`limits@openssh.com`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) read_len: u32,
    pub(super) write_len: u32,
    pub(super) open_handles: Option<u64>,
}

impl Limits {
    const UNKNOWN: Self = Self { read_len: LENGTH_UNKNOWN, write_len: LENGTH_UNKNOWN, open_handles: None };

    fn from_reply(reply: Reply) -> Result<Self, SftpError> {
        let Reply::Extended(numbers) = reply else { return Ok(Self::UNKNOWN) };
        let [_packet, read, write, handles] = packet::decode_numbers(numbers)?;
        let known = |length: u64| match u32::try_from(length) {
            Ok(0) => LENGTH_UNKNOWN,
            Ok(length) => length.clamp(1024, LENGTH_MAX),
            Err(_) => LENGTH_MAX,
        };
        Ok(Self {
            read_len: known(read),
            write_len: known(write),
            open_handles: Some(handles).filter(|&handles| handles > 0),
        })
    }
}

impl Lane {
    /// Greets the server on a stream that leads to its SFTP subsystem. Each request waits at most `timeout` for its
    /// reply.
    ///
    /// # Errors
    ///
    /// If the server is silent, or does not speak the protocol.
    pub async fn open(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        timeout: Duration,
    ) -> Result<Self, SftpError> {
        let lane = Self::start(wire::of_stream(stream), Arc::default(), timeout);
        lane.greeted().await?;
        Ok(lane)
    }

    /// Greets the server on a channel of an SSH connection, whose lanes all share its `road`.
    ///
    /// The server replies in order, so requests may follow at once. Requests that depend on its extensions and limits
    /// wait until the server has [greeted](Self::greeted).
    #[must_use]
    pub fn on_channel(channel: Channel<Msg>, road: Arc<Road>, timeout: Duration) -> Self {
        Self::start(wire::of_channel(channel), road, timeout)
    }

    fn start((packets, outgoing): (Packets, Outgoing), road: Arc<Road>, timeout: Duration) -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        // The receiver is still held here, so sending can't fail.
        let _ = sender.send(packet::init());
        let traffic = Arc::<Traffic>::default();
        let shared = Arc::new(Shared {
            number: LANES.fetch_add(1, Ordering::Relaxed),
            outgoing: sender,
            pending: Mutex::new(Pending { waiting: HashMap::new(), next_id: 0 }),
            dead: watch::Sender::new(None),
            timeout,
            road,
            requests: Semaphore::new(REQUESTS_IN_FLIGHT),
            extensions: SetOnce::new(),
            limits: SetOnce::new(),
            unacknowledged: AtomicU64::new(0),
            traffic: Arc::clone(&traffic),
            heard: packets.heard(),
        });
        let road = Arc::clone(&shared.road);
        tokio::spawn(write_all(outgoing, queue, road, Arc::clone(&traffic), Arc::downgrade(&shared)));
        tokio::spawn(read_all(packets, traffic, Arc::downgrade(&shared)));
        shared.ask_limits();
        Self { shared }
    }

    /// Waits until the server has greeted and told its limits.
    ///
    /// # Errors
    ///
    /// If the server is silent, or does not speak the protocol.
    pub async fn greeted(&self) -> Result<(), SftpError> {
        let greeting = async {
            self.shared.extensions.wait().await;
            self.shared.limits.wait().await;
        };
        tokio::select! {
            greeted = tokio::time::timeout(self.shared.timeout, greeting) => {
                greeted.map_err(|_| SftpError::Timeout(self.shared.timeout))
            }
            why = self.ended() => Err(why),
        }
    }

    /// Returns whether the server announced an extension.
    #[must_use]
    pub fn offers(&self, extension: &[u8]) -> bool {
        self.shared.extensions.get().is_some_and(|offered| offered.contains(extension))
    }

    /// Returns how many bytes the server lets one request read, if it says.
    #[must_use]
    pub fn read_len_max(&self) -> Option<u32> {
        self.offers(LIMITS).then(|| self.limits().read_len)
    }

    /// Returns how many handles the server allows to be open at a time, if it says.
    #[must_use]
    pub fn open_handles_max(&self) -> Option<u64> {
        self.limits().open_handles
    }

    pub(super) fn limits(&self) -> Limits {
        self.shared.limits.get().copied().unwrap_or(Limits::UNKNOWN)
    }

    /// Returns the lane's counters.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        let Traffic { requests, received, sent } = self.shared.traffic.as_ref();
        LaneCounters {
            requests: requests.load(Ordering::Relaxed),
            bytes_received: received.load(Ordering::Relaxed),
            bytes_sent: sent.load(Ordering::Relaxed),
        }
    }

    /// Returns how many bytes of content were sent and are not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        self.shared.unacknowledged.load(Ordering::Relaxed)
    }

    /// Waits until the lane is gone, and returns the reason.
    pub async fn ended(&self) -> SftpError {
        let mut dead = self.shared.dead.subscribe();
        match dead.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_else(closed),
            Err(_) => closed(),
        }
    }

    /// Returns whether the lane is gone.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.dead.borrow().is_some()
    }

    /// Returns whether a reply has been missing for longer than a request may take, with nothing at all received
    /// meanwhile.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        let Shared { heard, timeout, .. } = self.shared.as_ref();
        let oldest = self.shared.lock().waiting.values().map(|waiting| waiting.since).min();
        oldest.is_some_and(|oldest| oldest.max(heard.last()).elapsed() >= *timeout)
            && !self.shared.is_on_its_way()
    }

    /// Closes the lane: every caller that waits on it gets the reason at once.
    pub fn give_up(&self, why: &str) {
        self.shared.die(SftpError::Disconnected(why.to_owned()));
    }

    /// Returns whether both are the same lane.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Sends a request that carries no content, and waits for its reply. A refusal is returned as an error.
    pub(super) async fn request(
        &self,
        kind: u8,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Reply, SftpError> {
        let _permit = self.in_time(async { Ok(self.shared.requests.acquire().await) }).await?;
        self.timed(kind, build).await
    }

    /// Returns how long a request waits for its reply.
    pub(super) fn deadline(&self) -> Duration {
        self.shared.timeout
    }

    /// Gives up work that takes longer than the deadline.
    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, SftpError>>,
    ) -> Result<T, SftpError> {
        match tokio::time::timeout(self.shared.timeout, self.while_open(work)).await {
            Ok(done) => done,
            Err(_) => Err(SftpError::Timeout(self.shared.timeout)),
        }
    }

    /// Gives up work that waits for its turn when the lane is gone: the caller ahead of it may be waiting on the next
    /// lane.
    async fn while_open<T>(&self, work: impl Future<Output = Result<T, SftpError>>) -> Result<T, SftpError> {
        tokio::select! {
            biased;
            done = work => done,
            why = self.ended() => Err(why),
        }
    }

    /// Closes the lane because the server broke the protocol: none of its further replies are trusted.
    pub(super) fn broken(&self, how: String) -> SftpError {
        let error = SftpError::Protocol(how);
        self.shared.die(error.clone());
        error
    }

    /// Waits for room on the road. On a slow road that may take long; if nothing arrives for a whole deadline, the wait
    /// is given up.
    async fn room(&self, budget: &Arc<Budget>, length: usize) -> Result<ReservedRoom, SftpError> {
        let room = self.while_open(async { Ok(budget.acquire(length as u64, Priority::Demand).await) });
        tokio::pin!(room);
        loop {
            let arrived = budget.arrived();
            match tokio::time::timeout(self.shared.timeout, &mut room).await {
                Ok(room) => return room,
                Err(_) if budget.arrived() == arrived => return Err(SftpError::Timeout(self.shared.timeout)),
                Err(_) => {}
            }
        }
    }

    /// Waits until the road has room for `length` bytes of read-ahead, and reserves it.
    ///
    /// # Errors
    ///
    /// The reason why the lane is gone.
    pub async fn room_ahead(&self, length: usize) -> Result<ReservedRoom, SftpError> {
        self.while_open(async { Ok(self.shared.road.down.acquire(length as u64, Priority::Ahead).await) })
            .await
    }

    /// Requests content that already has its room on the road. A refusal is returned as an error.
    pub(super) async fn request_ahead(
        &self,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Reply, SftpError> {
        self.timed(kind::READ, build).await
    }

    /// Requests `length` bytes of content. A refusal is returned as an error.
    pub(super) async fn request_content(
        &self,
        length: usize,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Reply, SftpError> {
        self.with_content(&self.shared.road.down, length, kind::READ, build).await
    }

    /// Sends `length` bytes of content, and waits for its acknowledgement. A refusal is returned as an error.
    pub(super) async fn send_content(
        &self,
        length: usize,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Reply, SftpError> {
        let _unacknowledged = Unacknowledged::count(&self.shared, length as u64);
        self.with_content(&self.shared.road.up, length, kind::WRITE, build).await
    }

    async fn with_content(
        &self,
        budget: &Arc<Budget>,
        length: usize,
        kind: u8,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Reply, SftpError> {
        let room = self.room(budget, length).await?;
        let reply = self.timed(kind, build).await;
        if is_answer(&reply) {
            room.arrived(length);
        }
        reply
    }

    /// Sends a request and records how long its reply took.
    async fn timed(
        &self,
        kind: u8,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Reply, SftpError> {
        let sent = Instant::now();
        let reply = self.shared.exchange(kind, build).await;
        if is_answer(&reply) {
            self.shared.road.record_round_trip(sent.elapsed());
        }
        reply
    }
}

/// Returns the name of a request's outcome, for the log.
fn reply_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(Reply::Status { .. }) => "Ok",
        Ok(Reply::Handle(_)) => "Handle",
        Ok(Reply::Data(_)) => "Data",
        Ok(Reply::Name(_)) => "Name",
        Ok(Reply::Attributes(_)) => "Attributes",
        Ok(Reply::Extended(_)) => "Extended",
        Err(error) => error.kind(),
    }
}

/// Returns whether the server replied, even with a refusal.
fn is_answer(reply: &Result<Reply, SftpError>) -> bool {
    matches!(reply, Ok(_) | Err(SftpError::Status { .. }))
}

/// Counts bytes as not acknowledged while the value lives.
struct Unacknowledged<'a> {
    shared: &'a Shared,
    bytes: u64,
}

impl<'a> Unacknowledged<'a> {
    fn count(shared: &'a Shared, bytes: u64) -> Self {
        shared.unacknowledged.fetch_add(bytes, Ordering::Relaxed);
        Self { shared, bytes }
    }
}

impl Drop for Unacknowledged<'_> {
    fn drop(&mut self) {
        self.shared.unacknowledged.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Requests that are sent back to back and carried out in that order: OpenSSH's server processes them one by one. Only
/// requests that may each fail independently belong together.
pub(super) struct Row<'a> {
    lane: &'a Lane,
    _unacknowledged: Unacknowledged<'a>,
    room: ReservedRoom,
    length: usize,
    sent: Instant,
    answers: Vec<Result<Sent, SftpError>>,
}

impl Lane {
    /// Begins a row that carries `length` bytes of content to the server, once the road has room for all of it.
    pub(super) async fn row(&self, length: usize) -> Result<Row<'_>, SftpError> {
        let _unacknowledged = Unacknowledged::count(&self.shared, length as u64);
        let room = self.room(&self.shared.road.up, length).await?;
        Ok(Row { lane: self, _unacknowledged, room, length, sent: Instant::now(), answers: Vec::new() })
    }
}

impl Row<'_> {
    /// Sends one more request.
    pub(super) fn send(&mut self, kind: u8, build: impl FnOnce(RequestPacket) -> RequestPacket) {
        self.answers.push(self.lane.shared.send(kind, build));
    }

    /// Waits for all replies, and returns them in the order of the requests.
    pub(super) async fn replies(self) -> Vec<Result<Reply, SftpError>> {
        // The replies are awaited together: all of them share one deadline.
        let lane = &self.lane.shared;
        let replies = self.answers.into_iter().map(|answer| async {
            match answer {
                Ok(answer) => lane.outcome(answer).await,
                Err(error) => Err(error),
            }
        });
        let replies = futures::future::join_all(replies).await;
        if replies.iter().all(Result::is_ok) {
            self.lane.shared.road.record_round_trip(self.sent.elapsed());
            self.room.arrived(self.length);
        }
        replies
    }
}

impl Shared {
    /// Asks for the server's limits, right behind the greeting: a server that does not know the extension says so.
    fn ask_limits(self: &Arc<Self>) {
        let answer = self.send(kind::EXTENDED, |request| request.string(LIMITS));
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            // Without a reply the lane is dead, and every waiting caller gets the reason.
            let Ok(answer) = answer else { return };
            let Ok(Ok(reply)) = answer.answer.await.map(ReplyOnItsWay::take) else { return };
            let Some(shared) = shared.upgrade().filter(|shared| !shared.limits.initialized()) else { return };
            match Limits::from_reply(reply) {
                Ok(limits) => {
                    let _ = shared.limits.set(limits);
                }
                Err(error) => shared.die(error),
            }
        });
    }

    async fn exchange(
        &self,
        kind: u8,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Reply, SftpError> {
        let answer = self.send(kind, build)?;
        self.outcome(answer).await
    }

    async fn outcome(&self, sent: Sent) -> Result<Reply, SftpError> {
        let Sent { id, kind, length, at, mut answer } = sent;
        let mut answered = tokio::time::timeout(self.timeout, &mut answer).await;
        // On a slow line the request itself may not have left yet.
        for _ in 1..PATIENCE_ON_SLOW_LINES {
            if answered.is_ok() || !self.is_on_its_way() {
                break;
            }
            answered = tokio::time::timeout(self.timeout, &mut answer).await;
        }
        let (received, outcome) = match answered {
            Ok(Ok(answer)) => (answer.length, answer.take()),
            Ok(Err(_)) => (0, Err(self.why_dead())),
            Err(_) => (0, Err(SftpError::Timeout(self.timeout))),
        };
        let outcome = match outcome {
            Ok(Reply::Status { code, message }) if code != StatusCode::Ok => {
                Err(SftpError::Status { code, message })
            }
            outcome => outcome,
        };
        // Only numbers and kinds are logged: neither the arguments nor the server's reply.
        tracing::debug!(
            lane = self.number,
            id,
            kind = packet::kind_name(kind),
            sent = length,
            received,
            took_us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX),
            reply = reply_name(&outcome),
            "SFTP"
        );
        outcome
    }

    /// Returns whether content was being sent just now: a request may have to wait behind it.
    fn is_on_its_way(&self) -> bool {
        self.road.pace.as_ref().is_some_and(|pace| pace.was_busy_within(LEAVING))
    }

    pub(super) fn names(&self) -> &NamesBudget {
        &self.road.names
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request; the receiver returns its reply. The receiver may be dropped.
    pub(super) fn send(
        &self,
        kind: u8,
        build: impl FnOnce(RequestPacket) -> RequestPacket,
    ) -> Result<Sent, SftpError> {
        let (answer, receiver) = oneshot::channel();
        let mut pending = self.lock();
        if let Some(why) = &*self.dead.borrow() {
            return Err(why.clone());
        }
        // An id is not reused while a silent server still owes its reply.
        let mut id = pending.next_id;
        while pending.waiting.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        pending.next_id = id.wrapping_add(1);
        let at = Instant::now();
        pending.waiting.insert(id, Waiting { since: at, answer });
        // The packet is handed over under the lock: requests leave in the order of the calls.
        let packet = build(RequestPacket::new(kind, id)).finish();
        let length = packet.len();
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        if self.outgoing.send(packet).is_err() {
            pending.waiting.remove(&id);
            return Err(closed());
        }
        drop(pending);
        tracing::trace!(
            lane = self.number,
            id,
            kind = packet::kind_name(kind),
            sent = length,
            "SFTP request"
        );
        Ok(Sent { id, kind, length, at, answer: receiver })
    }

    fn why_dead(&self) -> SftpError {
        self.dead.borrow().clone().unwrap_or_else(closed)
    }

    fn die(&self, why: SftpError) {
        let mut pending = self.lock();
        self.dead.send_if_modified(|dead| dead.is_none() && dead.replace(why).is_none());
        for (_, waiting) in pending.waiting.drain() {
            let _ = waiting.answer.send(ReplyOnItsWay {
                outcome: Some(Err(self.why_dead())),
                length: 0,
                lane: Weak::new(),
            });
        }
    }

    /// Handles a packet from the server: its greeting first, then replies.
    fn take(self: &Arc<Self>, packet: Bytes) -> Result<(), SftpError> {
        if !self.extensions.initialized() {
            let offered: HashSet<Bytes> = packet::decode_version(packet)?.into_iter().collect();
            // A server that does not offer this extension may not reply to it either.
            if !offered.contains(LIMITS) {
                let _ = self.limits.set(Limits::UNKNOWN);
            }
            let _ = self.extensions.set(offered);
            return Ok(());
        }
        let length = packet.len() + 4;
        let (id, reply) = packet::decode(packet)?;
        self.deliver(id, self.held(reply), length)
    }

    /// Returns the reply with memory reserved for its names; without room the names are dropped at once.
    fn held(&self, reply: Reply) -> Outcome {
        match reply {
            Reply::Name(names) => Ok(Reply::Name(names.held_in(&self.road.names)?)),
            other => Ok(other),
        }
    }

    /// Hands a reply to the caller that waits for it.
    fn deliver(self: &Arc<Self>, id: u32, outcome: Outcome, length: usize) -> Result<(), SftpError> {
        let waiting = self.lock().waiting.remove(&id);
        let Some(waiting) = waiting else {
            return Err(SftpError::Protocol(format!("a reply to request {id}, which was not sent")));
        };
        // The caller may have gone away; then the reply is dropped here.
        let _ =
            waiting.answer.send(ReplyOnItsWay { outcome: Some(outcome), length, lane: Arc::downgrade(self) });
        Ok(())
    }

    /// Closes a handle without waiting.
    pub(super) fn close(&self, handle: &Bytes) {
        let _ = self.send(kind::CLOSE, |request| request.string(handle));
    }
}

/// Sends a packet; a long one goes at the connection's pace.
async fn send(outgoing: &mut Outgoing, mut packet: Bytes, road: &Road) -> Result<(), SftpError> {
    let Some(pace) = &road.pace else { return outgoing.send(packet).await };
    while packet.len() > SHORT {
        let window = outgoing.window().await;
        if window < SHORT {
            // A lane that has to wait for the server's window keeps no other lane from sending meanwhile.
            outgoing.send(packet.split_to(SHORT)).await?;
        } else if pace.is_fast() {
            let began = Instant::now();
            outgoing.send(packet.split_to(packet.len().min(window))).await?;
            pace.record_whole(began.elapsed());
        } else {
            let turn = pace.turn(packet.len().min(window)).await;
            outgoing.send(packet.split_to(turn.length())).await?;
            turn.taken().await;
        }
    }
    if packet.is_empty() { Ok(()) } else { outgoing.send(packet).await }
}

async fn write_all(
    mut outgoing: Outgoing,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    road: Arc<Road>,
    traffic: Arc<Traffic>,
    shared: Weak<Shared>,
) {
    while let Some(packet) = queue.recv().await {
        traffic.sent.fetch_add(packet.len() as u64, Ordering::Relaxed);
        if let Err(error) = send(&mut outgoing, packet, &road).await {
            if let Some(shared) = shared.upgrade() {
                shared.die(error);
            }
            return;
        }
    }
    outgoing.end().await;
}

async fn read_all(mut packets: Packets, traffic: Arc<Traffic>, shared: Weak<Shared>) {
    loop {
        let packet = packets.next().await;
        let Some(shared) = shared.upgrade() else { return };
        let taken = packet.and_then(|packet| {
            traffic.received.fetch_add(packet.len() as u64 + 4, Ordering::Relaxed);
            shared.take(packet)
        });
        if let Err(error) = taken {
            shared.die(error);
            return;
        }
    }
}

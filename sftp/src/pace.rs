//! Paces the content that is handed to a connection: no faster than the line carries it away.
//!
//! Content that was handed over can't be overtaken any more: it lies in the SSH library's queue, in the system's
//! buffer, and in front of the line, and a lookup would wait until all of it has passed (64 KiB are two seconds at 256
//! kbit/s). So long packets go in pieces, one at a time over all lanes, each when the system has taken the one before
//! and little is under way. Short packets go between the pieces. On a fast line packets go whole, without a wait.
//!
//! How much may be under way follows from how long acknowledgement takes. A piece that is handed over while `n` bytes
//! are under way is acknowledged when all of these have passed, `t` later: then the line carries at least `n / t`. It
//! carries more if fewer bytes are under way than the road holds; the next, higher bound shows that. A bound rises in
//! steps: all pieces that one packet acknowledges are one step, and so is all that a buffer in front of the line takes
//! at once. Each of them shows more than the one before, and the line has carried none of them yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::ioctl::{Getter, ioctl};
use socket2::Socket;
use tokio::sync::watch;

use crate::tcp_info::TcpInfo;

/// Shorter packets go at once, bytes.
pub(crate) const SHORT: usize = 2 * 1024;
/// The longest piece, bytes: as long as the longest message of most servers.
const PIECE_MAX: usize = 32 * 1024;
/// The shortest piece, bytes: a sixth of a second at 32 kbit/s. A seventh of the bytes sent is headers then; with
/// shorter pieces, more.
const PIECE_MIN: usize = 600;
/// Pieces under way: while one is acknowledged, the others keep the line busy.
const PIECES: f64 = 4.0;
/// Overhead of SSH for a piece, bytes.
const AROUND: usize = 64;

/// Unsent bytes that the system may hold on a fast line.
const UNSENT_MAX: u32 = 1024 * 1024;

/// How long acknowledgement may take, or twice the round trip if that is more: the line stays busy, and the queue that
/// a lookup waits behind is a fraction of it. (With 500 ms, 1 Mbit/s and a router that holds 250 ms, a twentieth of
/// everything was lost.)
const PASSES_WITHIN: Duration = Duration::from_millis(300);
/// Acknowledgement may take longer than this only where the round trip alone does.
const UNDER_WAY_WITHIN: Duration = Duration::from_secs(1);
/// The least that may be under way, bytes: two pieces.
const UNDER_WAY_MIN: f64 = 1.5 * 1024.0;
/// The same before anything is measured, bytes: a second at 32 kbit/s.
const UNDER_WAY_FIRST: f64 = 4.0 * 1024.0;
/// How many times higher the rate can become in one step.
const RISES_BY: f64 = 4.0;
/// The least time between two steps: in less, a buffer of 64 KiB that takes content at once passes for a fast line.
const RISES_EVERY: Duration = Duration::from_millis(20);
/// A line faster than this has no noticeable queue, bytes a second.
const FAST: f64 = 2.0 * 1024.0 * 1024.0;
/// On a line slower than this a hundred small requests take a quarter of a second and more, bytes a second.
const SLOW: f64 = 64.0 * 1024.0;
/// A line that carried content within this time is full.
const FILLED_WITHIN: Duration = Duration::from_secs(2);
/// If the system takes longer than this to accept a packet, the line is not fast.
const FAST_TAKES_WITHIN: Duration = Duration::from_millis(150);

/// How long a measured rate is used when nothing more is handed over.
const BELIEVED: Duration = Duration::from_secs(30);

/// Pause between two looks at a queue, at first and at most.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The pace of one connection.
#[derive(Debug)]
pub struct Pace {
    /// Bytes that the system has taken; `u64::MAX` when the connection is over.
    written: watch::Sender<u64>,
    /// The connection's socket.
    socket: Option<Arc<Socket>>,
    measured: Mutex<Measured>,
    /// Held by the task that hands a piece over.
    turn: tokio::sync::Mutex<()>,
}

/// The end of a piece that is under way.
#[derive(Debug)]
struct Mark {
    /// When the piece began to be handed over.
    handed_over: Instant,
    /// Bytes that the system has taken with the piece, in all.
    position: u64,
    /// Bytes that were under way with the piece.
    under_way: u64,
}

#[derive(Debug, Default)]
struct Measured {
    /// Rate of the line, bytes a second.
    rate: Option<f64>,
    /// When the rate's last step began, and the rate then.
    step: Option<(Instant, f64)>,
    marks: VecDeque<Mark>,
    /// When the acknowledged bytes were last looked up.
    looked: Option<Instant>,
    /// When the last piece passed.
    passed: Option<Instant>,
    /// How many bytes were acknowledged, and when that number was last seen to grow.
    acknowledged: Option<(u64, Instant)>,
}

impl Measured {
    /// Takes in how many bytes are acknowledged in all.
    fn look(&mut self, now: Instant, acknowledged: u64) {
        let unwatched = self.looked.map_or(Duration::MAX, |looked| now.duration_since(looked));
        self.looked = Some(now);
        if self.acknowledged.is_none_or(|(before, _)| acknowledged > before) {
            self.acknowledged = Some((acknowledged, now));
        }
        while self.marks.front().is_some_and(|mark| mark.position <= acknowledged) {
            let Some(mark) = self.marks.pop_front() else { break };
            // The time of arrival is unknown if nobody looked meanwhile.
            if unwatched <= LOOK_EVERY + LOOK_FIRST * 5
                || unwatched * 4 <= now.duration_since(mark.handed_over)
            {
                self.record_passed(now, &mark);
            }
        }
    }

    /// Takes in what a piece shows that has passed. Smooths the rate: a lost packet makes one rate look low, and its
    /// late arrival the next one high.
    fn record_passed(&mut self, now: Instant, mark: &Mark) {
        let took = now.duration_since(mark.handed_over).max(LOOK_FIRST / 10);
        let rate = mark.under_way as f64 / took.as_secs_f64();
        let before = self.rate.unwrap_or(UNDER_WAY_FIRST / PASSES_WITHIN.as_secs_f64());
        if rate <= before {
            self.rate = Some(self.rate.map_or(rate, |before| before * 0.75 + rate * 0.25));
            return;
        }
        let (_, base) = *match &mut self.step {
            Some(step) if mark.handed_over < step.0 || now.duration_since(step.0) < RISES_EVERY => step,
            step => step.insert((now, before)),
        };
        self.rate = Some(before.max(rate.min(base * RISES_BY)));
    }

    /// Discards what was measured if it may be old.
    fn begin(&mut self, now: Instant) {
        if self.passed.is_none_or(|passed| now.duration_since(passed) > BELIEVED) {
            self.rate = None;
            self.step = None;
            self.marks.clear();
        }
    }

    /// Returns how many bytes may be under way on a road of this round trip.
    fn under_way_max(&self, round_trip: Duration) -> f64 {
        // As much as the road holds, and as much again.
        let within = PASSES_WITHIN.max(round_trip * 2).min(UNDER_WAY_WITHIN.max(round_trip * 5 / 4));
        self.rate.map_or(UNDER_WAY_FIRST, |rate| (rate * within.as_secs_f64()).max(UNDER_WAY_MIN))
    }

    fn is_fast(&self) -> bool {
        self.rate.is_some_and(|rate| rate >= FAST)
    }
}

/// Returns how long a piece is to be where so much may be under way, bytes.
fn piece(under_way_max: f64) -> usize {
    ((under_way_max / PIECES) as usize).saturating_sub(AROUND).clamp(PIECE_MIN, PIECE_MAX)
}

impl Pace {
    /// Creates the pace of a connection over this socket.
    pub(crate) fn new(socket: Option<Arc<Socket>>) -> Arc<Self> {
        if let Some(socket) = &socket {
            // A failure means only that the system takes more.
            let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
        }
        Arc::new(Self {
            written: watch::Sender::new(0),
            socket,
            measured: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the system took this many bytes.
    pub(crate) fn record_written(&self, bytes: usize) {
        self.written.send_modify(|written| *written = written.saturating_add(bytes as u64));
    }

    /// Returns how many bytes the system has taken, and every change of that.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Returns whether the connection is over.
    pub(crate) fn is_over(&self) -> bool {
        *self.written.borrow() == u64::MAX
    }

    /// Marks the connection as over: nothing is ever written again.
    pub(crate) fn end(&self) {
        self.written.send_replace(u64::MAX);
    }

    /// Returns whether content was on its way within that time: a request may be waiting behind it. Content counts as
    /// on its way as long as its bytes are acknowledged one after the other, however slowly.
    pub(crate) fn was_busy_within(&self, time: Duration) -> bool {
        let _ = self.look();
        let measured = self.measured();
        let is_within = |at: Instant| at.elapsed() < time;
        measured.passed.is_some_and(is_within)
            || (!measured.marks.is_empty() && measured.acknowledged.is_some_and(|(_, at)| is_within(at)))
    }

    /// Looks up the acknowledged bytes. Returns the bytes under way, and those that the system has taken in all; `None`
    /// if they can't be known, or the connection is over.
    fn look(&self) -> Option<(u64, u64)> {
        // The written bytes are read first: bytes written in between count as under way.
        let written = *self.written.borrow();
        let under_way = self.socket.as_deref().and_then(unacknowledged)?;
        if written == u64::MAX {
            return None;
        }
        self.measured().look(Instant::now(), written.saturating_sub(under_way));
        Some((under_way, written))
    }

    /// Waits until a piece of `most` bytes or less may be handed over.
    pub(crate) async fn turn(&self, most: usize) -> Turn<'_> {
        let turn = self.turn.lock().await;
        let (length, under_way) = self.wait_for_room(most).await;
        let written = *self.written.borrow();
        Turn { pace: self, _turn: turn, length, began: Instant::now(), written, under_way }
    }

    /// Returns whether packets may go whole.
    pub(crate) fn is_fast(&self) -> bool {
        let mut measured = self.measured();
        measured.begin(Instant::now());
        measured.is_fast()
    }

    /// Returns whether content is on its way that fills the line for long: read-ahead would only make programs wait.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        let measured = self.measured();
        measured.passed.is_some_and(|passed| passed.elapsed() < FILLED_WITHIN)
            && measured.rate.is_none_or(|rate| rate < SLOW)
    }

    /// Records that a whole packet was handed over, and how long that took.
    pub(crate) fn record_whole(&self, took: Duration) {
        let mut measured = self.measured();
        measured.passed = Some(Instant::now());
        if took > FAST_TAKES_WITHIN {
            measured.marks.clear();
            measured.rate = measured.rate.map(|rate| rate.min(FAST / 2.0));
        }
    }

    /// Waits until little is in the system and on the line. Returns how long the next piece is to be, and the bytes
    /// under way if they can be known.
    async fn wait_for_room(&self, most: usize) -> (usize, Option<u64>) {
        let round_trip = self.socket.as_deref().and_then(round_trip).unwrap_or_default();
        self.measured().begin(Instant::now());
        let mut pause = LOOK_FIRST;
        loop {
            let Some((under_way, _)) = self.look() else { return (most.min(PIECE_MAX), None) };
            let under_way_max = self.measured().under_way_max(round_trip);
            let length = piece(under_way_max).min(most);
            if under_way == 0 || under_way as f64 + (length + AROUND) as f64 <= under_way_max {
                return (length, Some(under_way));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_EVERY);
        }
    }
}

/// The right to hand one piece over.
pub(crate) struct Turn<'a> {
    pace: &'a Pace,
    _turn: tokio::sync::MutexGuard<'a, ()>,
    length: usize,
    began: Instant,
    /// Bytes that the system had taken before.
    written: u64,
    /// Bytes that were under way before, if that can be known.
    under_way: Option<u64>,
}

impl Turn<'_> {
    /// Returns how long the piece is to be, bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Waits until the system has taken the piece that was handed over, or the connection is over.
    pub(crate) async fn taken(self) {
        let wanted = self.written.saturating_add(self.length as u64);
        // The sender is in the pace itself.
        let _ = self.pace.written.subscribe().wait_for(|written| *written >= wanted).await;
        let position = *self.pace.written.borrow();
        let mut measured = self.pace.measured();
        measured.passed = Some(Instant::now());
        if let Some(under_way) = self.under_way.filter(|_| position < u64::MAX) {
            let under_way = under_way + position.saturating_sub(self.written);
            measured.marks.push_back(Mark { handed_over: self.began, position, under_way });
            drop(measured);
            // It may have passed already, which nobody would know later.
            self.pace.look();
        }
    }
}

/// Bytes that a socket holds because they are not sent, or not acknowledged (tcp(7), `SIOCOUTQ`).
#[allow(unsafe_code)]
fn unacknowledged(socket: &Socket) -> Option<u64> {
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: for this question the kernel writes one `int`, on any file or socket, or refuses.
    let waiting: i32 = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }.ok()?;
    u64::try_from(waiting).ok()
}

/// Returns the shortest recent round trip of a socket's segments.
fn round_trip(socket: &Socket) -> Option<Duration> {
    TcpInfo::of(socket)?.round_trip_min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Simulates a save of two minutes on a line. Returns the longest time, behind the first seconds, that content
    /// takes from being handed over to its arrival, and the used share of the line.
    fn save(rate: f64, round_trip: Duration) -> (Duration, f64) {
        const STEP: Duration = Duration::from_millis(5);
        let began = Instant::now();
        let mut measured = Measured::default();
        let (mut now, mut written, mut free_at) = (began, 0_u64, began);
        let mut arriving = VecDeque::<(Instant, u64)>::new();
        let (mut acknowledged, mut longest) = (0, Duration::ZERO);
        while now - began < Duration::from_secs(120) {
            while arriving.front().is_some_and(|(at, _)| *at <= now) {
                acknowledged = arriving.pop_front().unwrap().1;
            }
            measured.look(now, acknowledged);
            let most = measured.under_way_max(round_trip);
            let length = (piece(most) + AROUND) as u64;
            if written == acknowledged || (written - acknowledged + length) as f64 <= most {
                written += length;
                free_at = free_at.max(now) + Duration::from_secs_f64((length + 52) as f64 / rate);
                arriving.push_back((free_at + round_trip, written));
                measured.marks.push_back(Mark {
                    handed_over: now,
                    position: written,
                    under_way: written - acknowledged,
                });
                if now - began > Duration::from_secs(5) {
                    longest = longest.max(free_at - now);
                }
            }
            now += STEP;
        }
        (longest, acknowledged as f64 / rate / 120.0)
    }

    #[test]
    fn little_is_under_way_on_a_slow_line_and_it_never_runs_dry() {
        for (kbits, round_trip) in [(32, 100), (64, 100), (256, 20), (256, 200), (1000, 100), (8000, 40)] {
            let (queued, share) = save(f64::from(kbits) * 125.0, Duration::from_millis(round_trip));
            assert!(queued <= Duration::from_millis(550), "{kbits} kbit/s, {round_trip} ms: {queued:?}");
            assert!(share >= 0.75, "{kbits} kbit/s, {round_trip} ms: {share}");
        }
    }

    #[test]
    fn a_fast_line_is_found_to_be_one_within_few_round_trips() {
        let (mut measured, began) = (Measured::default(), Instant::now());
        let (round_trip, mut now, mut written) = (Duration::from_millis(80), began, 0_u64);
        while !measured.is_fast() {
            let acknowledged = written;
            let most = measured.under_way_max(round_trip) as u64;
            for _ in 0..4 {
                written += most / 4;
                measured.marks.push_back(Mark {
                    handed_over: now,
                    position: written,
                    under_way: written - acknowledged,
                });
            }
            now += round_trip;
            measured.looked = Some(now - LOOK_EVERY);
            measured.look(now, written);
            assert!(now - began < round_trip * 6, "{measured:?}");
        }
    }

    #[test]
    fn what_passes_at_once_is_one_step() {
        let (mut measured, began) = (Measured::default(), Instant::now());
        let first = UNDER_WAY_FIRST / PASSES_WITHIN.as_secs_f64();
        let (mut written, mut now) = (0, began);
        measured.look(began, 0);
        for step in 1..4 {
            for _ in 0..20 {
                written += 1000;
                measured.marks.push_back(Mark { handed_over: now, position: written, under_way: 1000 });
                measured.look(now, written);
                assert_eq!(measured.rate, Some(first * RISES_BY.powi(step)));
                now += LOOK_FIRST / 10;
            }
            now += RISES_EVERY;
        }
    }

    #[test]
    fn what_nobody_saw_arrive_says_nothing() {
        let (mut measured, began) = (Measured::default(), Instant::now());
        measured.marks.push_back(Mark { handed_over: began, position: 1000, under_way: 1000 });
        measured.look(began, 0);
        measured.look(began + Duration::from_secs(1), 1000);
        assert_eq!(measured.rate, None);
    }

    #[tokio::test]
    async fn who_waits_for_a_connection_that_is_over_is_let_go() {
        let pace = Pace::new(None);
        let mut waits = std::pin::pin!(pace.turn(10).await.taken());
        assert!(futures::poll!(&mut waits).is_pending());
        pace.end();
        waits.await;
    }
}

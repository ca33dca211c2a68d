//! How fast content is handed to a connection: no faster than the line carries it away.
//!
//! What was handed over can't be overtaken any more: it lies in the SSH library's queue, in the system's buffer, and in
//! front of the line, and a look-up would wait until all of it has passed (64 KiB are two seconds at 256 kbit/s). So
//! long packets go in pieces, one at a time over all lanes, each when the system has taken the one before and little
//! waits there. Short packets go between the pieces. On a fast line packets go whole, and nothing is waited for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::ioctl::{Getter, ioctl};
use socket2::Socket;
use tokio::sync::watch;

/// Shorter packets go at once, bytes.
pub(crate) const SHORT: usize = 2 * 1024;
/// The longest piece, bytes: as long as the longest message of most servers.
const PIECE_MAX: usize = 32 * 1024;
const PIECE_FIRST: usize = 16 * 1024;
/// A piece that passes in less time is followed by a longer one, and one that takes more by a shorter one.
const PIECE_IS_SHORT: Duration = Duration::from_millis(25);
const PIECE_IS_LONG: Duration = Duration::from_millis(150);
const PIECE_TAKES: Duration = Duration::from_millis(100);

/// How many of the longest pieces pass in no time on a fast line: more than the system holds on any.
const QUICK_MIN: usize = 16;

/// What the system may hold unsent on a fast line, bytes.
const UNSENT_MAX: usize = 1024 * 1024;

/// What may wait in the system and on the line: what the line carries in so long, or in two round trips.
const QUEUE: Duration = Duration::from_millis(500);
/// At the least, bytes: three full segments.
const QUEUE_MIN: f64 = 4.0 * 1024.0;
/// Before anything is known, bytes.
const QUEUE_FIRST: f64 = 64.0 * 1024.0;
/// A faster line has no queue that somebody would notice, bytes a second.
const FAST: f64 = 2.0 * 1024.0 * 1024.0;

/// How long the rate is measured, and believed.
const SAMPLE: Duration = Duration::from_millis(250);
const BELIEVED: Duration = Duration::from_secs(10);

/// The pace of one connection.
#[derive(Debug)]
pub struct Pace {
    /// Bytes that the system has taken; `u64::MAX` when the connection is over.
    written: watch::Sender<u64>,
    /// The connection's socket; `None` for one that goes through another.
    socket: Option<Arc<Socket>>,
    measured: Mutex<Measured>,
    /// Held by whoever hands a piece over.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Measured {
    piece: usize,
    /// How many of the longest pieces passed in no time, one after the other.
    quick: usize,
    /// When a sample began, and how many bytes were acknowledged then.
    sample: Option<(Instant, u64)>,
    rates: VecDeque<(Instant, f64)>,
    /// When the last piece passed.
    passed: Option<Instant>,
}

impl Measured {
    /// The highest rate of late.
    fn rate(&mut self) -> Option<f64> {
        while self.rates.front().is_some_and(|(at, _)| at.elapsed() > BELIEVED) {
            self.rates.pop_front();
        }
        self.rates.iter().map(|&(_, rate)| rate).reduce(f64::max)
    }

    /// So many bytes are acknowledged, and so many wait.
    fn note(&mut self, acknowledged: u64, waiting: u64) {
        // While nothing waits, the rate says what was handed over, and not what the line can carry.
        let Some((since, before)) = self.sample.filter(|_| waiting > 0) else {
            self.sample = (waiting > 0).then(|| (Instant::now(), acknowledged));
            return;
        };
        let took = since.elapsed();
        if took >= SAMPLE {
            let rate = acknowledged.saturating_sub(before) as f64 / took.as_secs_f64();
            self.rates.push_back((Instant::now(), rate));
            self.sample = Some((Instant::now(), acknowledged));
        }
    }

    fn note_piece(&mut self, length: usize, took: Duration) {
        self.passed = Some(Instant::now());
        if took > PIECE_IS_LONG {
            let fitting = length as f64 * PIECE_TAKES.as_secs_f64() / took.as_secs_f64();
            self.piece = (fitting as usize).clamp(SHORT, PIECE_MAX);
            self.quick = 0;
        } else if took < PIECE_IS_SHORT && length >= self.piece {
            self.quick = if self.piece == PIECE_MAX { self.quick.saturating_add(1) } else { 0 };
            self.piece = (self.piece * 2).min(PIECE_MAX);
        } else if took >= PIECE_IS_SHORT {
            self.quick = 0;
        }
    }

    /// What the system is to hold unsent, bytes.
    fn unsent_max(&self) -> usize {
        if self.is_fast() { UNSENT_MAX } else { self.piece.min(PIECE_FIRST) }
    }

    /// Whether more passed in no time than the system takes of itself.
    fn is_fast(&self) -> bool {
        self.quick >= QUICK_MIN
    }
}

impl Pace {
    /// The pace of a connection over this socket, or over another connection.
    pub(crate) fn new(socket: Option<Arc<Socket>>) -> Arc<Self> {
        let measured =
            Measured { piece: PIECE_FIRST, quick: 0, sample: None, rates: VecDeque::new(), passed: None };
        let pace = Self {
            written: watch::Sender::new(0),
            socket,
            measured: Mutex::new(measured),
            turn: tokio::sync::Mutex::default(),
        };
        pace.set_unsent_max(PIECE_FIRST);
        Arc::new(pace)
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The system takes no more than this before it has sent what it has. Failing means only that it takes more.
    fn set_unsent_max(&self, bytes: usize) {
        if let Some(socket) = &self.socket {
            let _ = socket.set_tcp_notsent_lowat(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// The system took so many bytes.
    pub(crate) fn note_written(&self, bytes: usize) {
        self.written.send_modify(|written| *written = written.saturating_add(bytes as u64));
    }

    /// Nothing is ever written again.
    pub(crate) fn end(&self) {
        self.written.send_replace(u64::MAX);
    }

    /// Whether long packets have been on their way within that time: what was asked for may be behind them.
    pub(crate) fn was_busy_within(&self, time: Duration) -> bool {
        self.measured().passed.is_some_and(|passed| passed.elapsed() < time)
    }

    /// Waits until a piece of `most` bytes or less may be handed over, on a road of this round trip.
    pub(crate) async fn turn(&self, round_trip: Option<Duration>, most: usize) -> Turn<'_> {
        let turn = self.turn.lock().await;
        self.wait_for_room(round_trip).await;
        let length = self.measured().piece.min(most);
        let written = *self.written.borrow();
        Turn { pace: self, _turn: turn, length, began: Instant::now(), written }
    }

    /// Whether packets may go whole.
    pub(crate) fn is_fast(&self) -> bool {
        self.measured().is_fast()
    }

    /// A packet that went whole was handed over. What the system does not take holds that up, too.
    pub(crate) fn note_whole(&self, length: usize, took: Duration) {
        // What is shorter than the queues on the way says nothing.
        if took > PIECE_IS_LONG {
            self.note_piece(length, took);
        }
    }

    fn note_piece(&self, length: usize, took: Duration) {
        let (before, after) = {
            let mut measured = self.measured();
            let before = measured.unsent_max();
            measured.note_piece(length, took);
            (before, measured.unsent_max())
        };
        if before != after {
            self.set_unsent_max(after);
        }
    }

    /// Waits until little is in the system and on the line.
    async fn wait_for_room(&self, round_trip: Option<Duration>) {
        /// How long a queue is left alone before it is looked at again.
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let queue = QUEUE.max(round_trip.unwrap_or_default() * 2).as_secs_f64();
        loop {
            let Some(waiting) = self.socket.as_deref().and_then(unacknowledged) else { return };
            let written = *self.written.borrow();
            if written == u64::MAX {
                return;
            }
            let rate = {
                let mut measured = self.measured();
                measured.note(written.saturating_sub(waiting), waiting);
                measured.rate()
            };
            let most = match rate {
                Some(rate) if rate >= FAST => return,
                Some(rate) => (rate * queue).max(QUEUE_MIN),
                None => QUEUE_FIRST,
            };
            if waiting as f64 <= most {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The right to hand one piece over.
pub(crate) struct Turn<'a> {
    pace: &'a Pace,
    _turn: tokio::sync::MutexGuard<'a, ()>,
    length: usize,
    began: Instant,
    /// What the system had taken before.
    written: u64,
}

impl Turn<'_> {
    /// How long the piece is to be, bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// It was handed over: waits until the system has taken it, or the connection is over.
    pub(crate) async fn taken(self) {
        let wanted = self.written.saturating_add(self.length as u64);
        // The sender is in the pace itself.
        let _ = self.pace.written.subscribe().wait_for(|written| *written >= wanted).await;
        self.pace.note_piece(self.length, self.began.elapsed());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_on_a_fast_line_and_shrink_on_a_slow_one() {
        let mut measured =
            Measured { piece: PIECE_FIRST, quick: 0, sample: None, rates: VecDeque::new(), passed: None };
        for _ in 0..2 * QUICK_MIN {
            measured.note_piece(measured.piece, Duration::from_millis(1));
        }
        assert!(measured.piece == PIECE_MAX && measured.is_fast());
        // 32 kbit/s.
        for _ in 0..10 {
            let takes = Duration::from_secs_f64(measured.piece as f64 / 4000.0);
            measured.note_piece(measured.piece, takes);
        }
        assert!(measured.piece == SHORT && !measured.is_fast());
        // A short rest says nothing of the line.
        measured.note_piece(10, Duration::ZERO);
        assert_eq!(measured.piece, SHORT);
    }

    #[tokio::test]
    async fn who_waits_for_a_connection_that_is_over_is_let_go() {
        let pace = Pace::new(None);
        let mut waits = std::pin::pin!(pace.turn(None, 10).await.taken());
        assert!(futures::poll!(&mut waits).is_pending());
        pace.end();
        waits.await;
    }
}

//! Detects roads on which large packets vanish silently (RFC 2923, section 2.1), and uses shorter segments, which get
//! through.
//!
//! If there is a tunnel on the way and its ICMP messages are filtered, a login passes, and the first full segment is
//! sent again and again until the system closes the connection; so does the next one, and each costs a code. Linux can
//! detect that (`tcp_mtu_probing`), but does so only where root has switched it on. Here a connection is observed while
//! sent bytes are not acknowledged. If a small packet gets to the same server and back meanwhile, and the segment still
//! does not, the connection is closed, and later ones use shorter segments, for as long as this process lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use socket2::Socket;
use tokio::net::TcpStream;

use super::destination::Destination;
use crate::pace::Pace;
use crate::tcp_info::TcpInfo;

/// The lengths that are tried, bytes: one that passes most tunnels, and one that every road has to carry (RFC 9293,
/// section 3.7.1).
const SHORTER: [u32; 2] = [1200, 536];

/// How often a connection with unacknowledged bytes is observed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Segments that were sent again this often are not a coincidence: then it is checked whether a small packet passes.
const SENT_AGAIN: u8 = 2;
/// A segment that was sent again this often after that, and for this long in all, does not get through.
const SENT_AGAIN_SINCE: u32 = 1;
const STALLED: Duration = Duration::from_secs(6);
/// How long a small packet may take there and back.
const SMALL_TAKES: Duration = Duration::from_secs(3);

/// A road on which large packets vanish.
#[derive(Debug, Clone, Copy)]
struct Vanishing {
    /// The segment length that is used instead.
    segment_max: u32,
    since: SystemTime,
}

static VANISHING: Mutex<BTreeMap<(String, u16), Vanishing>> = Mutex::new(BTreeMap::new());

fn vanishing() -> MutexGuard<'static, BTreeMap<(String, u16), Vanishing>> {
    VANISHING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(destination: &Destination) -> (String, u16) {
    (destination.host.clone(), destination.port)
}

/// Returns since when a server is reached with shorter segments, because large packets seem to vanish on the way to
/// one.
#[must_use]
pub fn large_packets_vanish_since() -> Option<SystemTime> {
    vanishing().values().map(|vanishing| vanishing.since).min()
}

/// Returns the longest segments that get to a server, if long ones do not.
pub(super) fn segment_max(destination: &Destination) -> Option<u32> {
    vanishing().get(&place(destination)).map(|vanishing| vanishing.segment_max)
}

/// Uses shorter packets from now on, as those of `segment` bytes seem to vanish on the way to a server. Returns their
/// length, if there is a shorter one.
fn shorten(destination: &Destination, segment: u32) -> Option<u32> {
    let segment_max = SHORTER.into_iter().find(|&shorter| shorter < segment)?;
    let mut vanishing = vanishing();
    let since = vanishing.get(&place(destination)).map_or_else(SystemTime::now, |found| found.since);
    vanishing.insert(place(destination), Vanishing { segment_max, since });
    tracing::warn!(segment_max, "large packets vanish on the way: shorter segments are used");
    Some(segment_max)
}

/// Uses still shorter packets after a failed key exchange: the server's own packets may still be too large.
pub(super) fn shorten_further(destination: &Destination) {
    if let Some(segment_max) = segment_max(destination) {
        shorten(destination, segment_max);
    }
}

/// A connection with unacknowledged bytes.
#[derive(Debug)]
struct Stall {
    began: Instant,
    acknowledged: u64,
    /// How many segments had been sent again when a small packet had passed.
    passed: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The stall may pass.
    Wait,
    /// It is to be checked whether a small packet passes.
    Try,
    /// Large packets vanish.
    Vanish,
}

impl Stall {
    fn judge(&mut self, now: Instant, info: &TcpInfo) -> Verdict {
        let acknowledged = info.bytes_acknowledged().unwrap_or_default();
        if acknowledged != self.acknowledged {
            *self = Self { began: now, acknowledged, passed: None };
        }
        match self.passed {
            None if info.sent_again_now() >= SENT_AGAIN => Verdict::Try,
            Some(passed)
                if info.sent_again().saturating_sub(passed) >= SENT_AGAIN_SINCE
                    && now.duration_since(self.began) >= STALLED =>
            {
                Verdict::Vanish
            }
            _ => Verdict::Wait,
        }
    }
}

/// Observes a connection until it is over.
pub(super) async fn watch(destination: Destination, peer: SocketAddr, socket: Weak<Socket>, pace: Arc<Pace>) {
    let mut written = pace.written();
    // Written bytes are acknowledged within a round trip. Only if they are not, the connection is observed further.
    while written.changed().await.is_ok() {
        let mut stall: Option<Stall> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if pace.is_over() {
                return;
            }
            let Some(info) = socket.upgrade().and_then(|socket| TcpInfo::of(&socket)) else { return };
            if info.under_way() == 0 {
                break;
            }
            let now = Instant::now();
            let acknowledged = info.bytes_acknowledged().unwrap_or_default();
            let stall = stall.get_or_insert(Stall { began: now, acknowledged, passed: None });
            match stall.judge(now, &info) {
                Verdict::Wait => {}
                Verdict::Try => {
                    let connected = tokio::time::timeout(SMALL_TAKES, TcpStream::connect(peer)).await;
                    stall.passed = matches!(connected, Ok(Ok(_))).then(|| info.sent_again());
                }
                Verdict::Vanish => {
                    let is_shorter = shorten(&destination, info.segment()).is_some();
                    if let Some(socket) = socket.upgrade().filter(|_| is_shorter) {
                        // It fails only for a connection that is broken already.
                        let _ = socket.shutdown(std::net::Shutdown::Both);
                    }
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(acknowledged: u64, sent_again_now: u8, sent_again: u32) -> TcpInfo {
        TcpInfo::of_stall(acknowledged, sent_again_now, sent_again)
    }

    #[test]
    fn large_packets_vanish_only_where_small_ones_pass_and_nothing_is_acknowledged() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let stall = || Stall { began, acknowledged: 1000, passed: None };
        // No packet passes: the road is dead.
        let mut dead = stall();
        assert_eq!(dead.judge(at(1), &info(1000, 1, 1)), Verdict::Wait);
        assert_eq!(dead.judge(at(2), &info(1000, 2, 2)), Verdict::Try);
        assert_eq!(dead.judge(at(9), &info(1000, 5, 5)), Verdict::Try);
        // A small packet passed, and the segment did not.
        let mut black_hole = Stall { passed: Some(2), ..stall() };
        assert_eq!(black_hole.judge(at(4), &info(1000, 4, 4)), Verdict::Wait);
        assert_eq!(black_hole.judge(at(7), &info(1000, 2, 2)), Verdict::Wait);
        assert_eq!(black_hole.judge(at(7), &info(1000, 4, 4)), Verdict::Vanish);
        // The road is slow and loses many packets.
        let mut lossy = Stall { passed: Some(2), ..stall() };
        assert_eq!(lossy.judge(at(6), &info(2448, 0, 9)), Verdict::Wait);
        assert_eq!(lossy.judge(at(12), &info(2448, 0, 9)), Verdict::Wait);
    }
}

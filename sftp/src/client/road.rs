//! Measures the road to the server, and limits how much may be under way on it.
//!
//! A road is full when one bandwidth-delay product is under way: less leaves the line idle, more only builds a queue in
//! which every lookup waits (on 100 Mbit/s, 16 MB in flight are a queue of 1.3 s). So each direction has a [`Budget`]
//! whose limit follows the measurements, as in BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control"): the
//! shortest recent round trip, times the highest recent rate, and a little more. All lanes of a connection share one
//! road.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::names::NamesBudget;
use crate::pace::Pace;

/// The limit before anything is measured, bytes.
const LIMIT_FIRST: u64 = 1024 * 1024;
/// The lowest limit, however slow the road: one read of the length that OpenSSH takes, and the next begun.
const LIMIT_MIN: u64 = 256 * 1024;
/// The highest limit, however long the road: 250 MB/s over 250 ms.
const LIMIT_MAX: u64 = 64 * 1024 * 1024;

/// Factors on the product: while the rate still rises, so that a faster road is found within a few round trips; and
/// afterwards, so that the line never runs dry.
const GAIN_RISING: f64 = 2.0;
const GAIN_STEADY: f64 = 1.25;
/// The rate rises if it grew by a quarter within three round trips.
const RISE: f64 = 1.25;
const RISE_WITHIN_ROUNDS: u32 = 3;

/// Time that a request may take beyond the round trip: at the server and at both ends, and to pass the line in whole (a
/// read of 229 KB takes 18 ms at 100 Mbit/s). On a road of no length, this times the rate keeps both ends busy.
const REQUEST_TIME: Duration = Duration::from_millis(15);

/// A shortest round trip and a highest rate are used for two of these.
const EPOCH: Duration = Duration::from_secs(5);

/// The urgency of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// A program waits for them.
    Demand,
    /// No program waits for them yet: read-ahead.
    Ahead,
}

/// One road, shared by all lanes of a connection.
#[derive(Debug, Default)]
pub struct Road {
    round_trip: Mutex<Recent<Duration>>,
    /// Content from the server.
    pub down: Arc<Budget>,
    /// Content to the server.
    pub up: Arc<Budget>,
    /// Memory budget for names from the server. It outlives the road.
    pub names: NamesBudget,
    /// How fast content is handed over; `None` where the transport is unknown.
    pub(super) pace: Option<Arc<Pace>>,
}

impl Road {
    /// Creates a road of which nothing is known yet.
    #[must_use]
    pub fn new(names: NamesBudget, pace: Arc<Pace>) -> Self {
        Self { names, pace: Some(pace), ..Self::default() }
    }
}

/// A figure of the current epoch and of the one before.
#[derive(Debug)]
struct Recent<T> {
    since: Option<Instant>,
    now: Option<T>,
    before: Option<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { since: None, now: None, before: None }
    }
}

impl<T: Copy> Recent<T> {
    /// Keeps the better of `value` and this epoch's value; returns whether a new epoch began.
    fn record(&mut self, at: Instant, value: T, better: fn(T, T) -> T) -> bool {
        let begins = self.since.is_none_or(|since| at.duration_since(since) > EPOCH);
        if begins {
            self.since = Some(at);
            self.before = self.now.take();
        }
        self.now = Some(self.now.map_or(value, |now| better(now, value)));
        begins
    }

    fn best(&self, better: fn(T, T) -> T) -> Option<T> {
        match (self.now, self.before) {
            (Some(now), Some(before)) => Some(better(now, before)),
            (now, before) => now.or(before),
        }
    }
}

impl Road {
    /// Returns the shortest recent round trip.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.lock().best(Duration::min)
    }

    /// Records a request's round trip.
    pub(super) fn record_round_trip(&self, took: Duration) {
        let (begins, shortest) = {
            let mut round_trip = self.lock();
            let begins = round_trip.record(Instant::now(), took, Duration::min);
            (begins, round_trip.best(Duration::min).unwrap_or(took))
        };
        self.down.record_round_trip(shortest, begins);
        self.up.record_round_trip(shortest, begins);
    }

    fn lock(&self) -> MutexGuard<'_, Recent<Duration>> {
        self.round_trip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limit on bytes under way in one direction.
#[derive(Debug, Default)]
pub struct Budget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: u64,
    in_flight: u64,
    /// Bytes that have arrived in all.
    arrived: u64,
    rate: Recent<f64>,
    round_trip: Duration,
    /// A queue of our own would look like a longer road. So at the start of each epoch the road is left to run empty
    /// once.
    draining: bool,
    /// The rate when it last rose, and when that was.
    risen: Option<(f64, Instant)>,
    demand: VecDeque<Waiter>,
    ahead: VecDeque<Waiter>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            limit: LIMIT_FIRST,
            in_flight: 0,
            arrived: 0,
            rate: Recent::default(),
            round_trip: Duration::ZERO,
            draining: false,
            risen: None,
            demand: VecDeque::new(),
            ahead: VecDeque::new(),
        }
    }
}

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    grant: oneshot::Sender<ReservedRoom>,
}

/// Reserved room for some bytes on the road. They count as under way until it is dropped.
#[derive(Debug)]
pub struct ReservedRoom {
    budget: Arc<Budget>,
    bytes: u64,
    sent: Instant,
    arrived_before: u64,
}

impl Budget {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` more may be under way. [`Priority::Demand`] goes first; dropping the future gives up its
    /// place in the queue.
    pub(super) async fn acquire(self: &Arc<Self>, bytes: u64, priority: Priority) -> ReservedRoom {
        let waits = {
            let mut state = self.lock();
            let ahead_of_it =
                !state.demand.is_empty() || (priority == Priority::Ahead && !state.ahead.is_empty());
            if !ahead_of_it && state.has_room() {
                return self.room(&mut state, bytes);
            }
            let (grant, waits) = oneshot::channel();
            let queue = match priority {
                Priority::Demand => &mut state.demand,
                Priority::Ahead => &mut state.ahead,
            };
            queue.push_back(Waiter { bytes, grant });
            waits
        };
        match waits.await {
            Ok(room) => room,
            // The queue is part of `self`, so it can't be dropped first. Going on is right in any case.
            Err(_) => self.room(&mut self.lock(), bytes),
        }
    }

    fn room(self: &Arc<Self>, state: &mut State, bytes: u64) -> ReservedRoom {
        state.in_flight += bytes;
        ReservedRoom { budget: Arc::clone(self), bytes, sent: Instant::now(), arrived_before: state.arrived }
    }

    /// Grants the room that has become free.
    fn serve(self: &Arc<Self>) {
        loop {
            let refused = {
                let mut state = self.lock();
                if !state.has_room() {
                    return;
                }
                let Some(next) = state.demand.pop_front().or_else(|| state.ahead.pop_front()) else { return };
                let room = self.room(&mut state, next.bytes);
                next.grant.send(room)
            };
            // The caller went away meanwhile: dropped outside the lock, the room gives its bytes back.
            drop(refused);
        }
    }

    fn record_round_trip(&self, shortest: Duration, begins: bool) {
        let mut state = self.lock();
        state.round_trip = shortest;
        state.draining |= begins && state.in_flight > state.limit / 2;
    }

    /// Returns how many bytes have arrived in all.
    pub(super) fn arrived(&self) -> u64 {
        self.lock().arrived
    }

    /// Returns how many bytes are under way now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.lock().in_flight
    }
}

impl State {
    /// The last request may exceed the limit: a road with room for two and a half requests is not full with two.
    fn has_room(&self) -> bool {
        !self.draining && self.in_flight < self.limit
    }

    /// Counts some bytes as no longer under way.
    fn give_back(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.draining &= self.in_flight > self.limit / 2;
    }

    /// Updates the rate with bytes that arrived.
    fn record_arrival(&mut self, room: &ReservedRoom, bytes: u64, now: Instant) {
        self.arrived += bytes;
        let took = now.duration_since(room.sent).max(Duration::from_micros(50)).as_secs_f64();
        let rate = (self.arrived - room.arrived_before) as f64 / took;
        // While the road is not full, the rate measures the demand, and not the capacity of the road.
        let is_full = !self.demand.is_empty() || !self.ahead.is_empty();
        let known = self.rate.best(f64::max);
        if is_full || known.is_none_or(|known| rate > known) {
            self.rate.record(now, rate, f64::max);
        }
        let Some(rate) = self.rate.best(f64::max) else { return };
        let rises = match self.risen {
            Some((before, since)) if rate < before * RISE => {
                now.duration_since(since) < (self.round_trip + REQUEST_TIME) * RISE_WITHIN_ROUNDS
            }
            _ => {
                self.risen = Some((rate, now));
                true
            }
        };
        let gain = if rises { GAIN_RISING } else { GAIN_STEADY };
        let wanted = rate * (gain * self.round_trip.as_secs_f64() + REQUEST_TIME.as_secs_f64());
        self.limit = (wanted as u64).clamp(LIMIT_MIN, LIMIT_MAX);
    }
}

impl ReservedRoom {
    /// Counts this many of the bytes as arrived.
    pub(super) fn arrived(&self, bytes: usize) {
        self.budget.lock().record_arrival(self, bytes as u64, Instant::now());
    }
}

impl Drop for ReservedRoom {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.give_back(self.bytes);
        drop(state);
        self.budget.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn budget() -> Arc<Budget> {
        Arc::default()
    }

    #[tokio::test]
    async fn who_waits_goes_before_read_ahead_and_all_comes_back() {
        let budget = budget();
        let full = budget.acquire(LIMIT_FIRST, Priority::Ahead).await;
        let mut ahead = Box::pin(budget.acquire(10, Priority::Ahead));
        let mut demand = Box::pin(budget.acquire(LIMIT_FIRST, Priority::Demand));
        assert!((&mut ahead).now_or_never().is_none() && (&mut demand).now_or_never().is_none());
        drop(full);
        let demand = demand.await;
        assert!((&mut ahead).now_or_never().is_none(), "the demand took all there was");
        drop(demand);
        drop(ahead.await);
        assert_eq!(budget.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_place_in_the_queue_is_given_up_by_dropping() {
        let budget = budget();
        let full = budget.acquire(LIMIT_FIRST, Priority::Demand).await;
        let mut gone = Box::pin(budget.acquire(LIMIT_FIRST, Priority::Demand));
        assert!((&mut gone).now_or_never().is_none());
        drop(gone);
        let mut next = Box::pin(budget.acquire(LIMIT_FIRST, Priority::Demand));
        assert!((&mut next).now_or_never().is_none());
        drop(full);
        drop(next.await);
        assert_eq!(budget.in_flight(), 0);
    }

    #[tokio::test]
    async fn one_request_larger_than_the_limit_is_let_through_alone() {
        let budget = budget();
        let large = budget.acquire(LIMIT_MAX * 2, Priority::Demand).await;
        assert!(budget.acquire(1, Priority::Demand).now_or_never().is_none());
        drop(large);
        assert_eq!(budget.in_flight(), 0);
    }

    /// Simulates a line of a rate and a round trip: each request's bytes pass one after the other, then take the road.
    fn limit_on(rate: f64, round_trip: Duration) -> u64 {
        let mut state = State { round_trip, ..State::default() };
        let budget = budget();
        let start = Instant::now();
        let mut line_free = 0.0_f64;
        let mut now = 0.0_f64;
        let mut under_way: VecDeque<(f64, ReservedRoom)> = VecDeque::new();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        // There is always more demand.
        let (grant, _wants) = oneshot::channel();
        state.ahead.push_back(Waiter { bytes: 1, grant });
        for _ in 0..4000 {
            while state.has_room() {
                let sent = at(now);
                state.in_flight += 229_572;
                line_free = line_free.max(now) + 229_572.0 / rate;
                let room = ReservedRoom {
                    budget: Arc::clone(&budget),
                    bytes: 229_572,
                    sent,
                    arrived_before: state.arrived,
                };
                under_way.push_back((line_free + round_trip.as_secs_f64(), room));
            }
            let Some((arrival, room)) = under_way.pop_front() else { break };
            now = arrival;
            state.give_back(room.bytes);
            state.record_arrival(&room, room.bytes, at(now));
            std::mem::forget(room);
        }
        state.limit
    }

    #[test]
    fn the_limit_comes_to_one_and_a_quarter_of_the_roads_product() {
        for (megabits, milliseconds) in [(100.0, 40), (1000.0, 80), (100.0, 20)] {
            let (rate, round_trip) = (megabits * 125_000.0, Duration::from_millis(milliseconds));
            let product = rate * round_trip.as_secs_f64();
            let limit = limit_on(rate, round_trip) as f64;
            assert!(
                limit >= product.max(LIMIT_MIN as f64),
                "{megabits} {milliseconds}: {limit} leaves the line idle"
            );
            let most = (product * 1.35 + rate * 0.016).max(LIMIT_MIN as f64 + 1.0);
            assert!(limit <= most, "{megabits} {milliseconds}: {limit} makes a queue, {most} would do");
        }
    }
}

//! The requests of the kernel: how long those of each kind took, and which are under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

macro_rules! operations {
    ($($operation:ident = $name:literal),+ $(,)?) => {
        /// A kind of request, named as the method of [`crate::Filesystem`] that carries it out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)] // The names say it.
        pub enum Operation {
            $($operation),+
        }

        impl Operation {
            /// All kinds.
            const ALL: &[Self] = &[$(Self::$operation),+];

            /// Returns its name in the log and in the status.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$operation => $name),+
                }
            }
        }
    };
}

operations! {
    Lookup = "lookup",
    Getattr = "getattr",
    Setattr = "setattr",
    Readlink = "readlink",
    Mknod = "mknod",
    Mkdir = "mkdir",
    Unlink = "unlink",
    Rmdir = "rmdir",
    Symlink = "symlink",
    Rename = "rename",
    Link = "link",
    Open = "open",
    Create = "create",
    Read = "read",
    Write = "write",
    Flush = "flush",
    Release = "release",
    Fsync = "fsync",
    Fallocate = "fallocate",
    Opendir = "opendir",
    Readdir = "readdir",
    Fsyncdir = "fsyncdir",
    Releasedir = "releasedir",
    Statfs = "statfs",
}

/// Microseconds below this have a bucket each.
const EXACT: u64 = 16;
/// Buckets for each power of two above that: each is an eighth as wide as its power of two, and stands for its
/// middle, so the relative error is below 7 %, and below 10 % after rounding to whole microseconds.
const BUCKETS_PER_POWER: usize = 8;
/// 2^27 µs is 134 s: a request that takes twice that or longer is counted as just below it.
const LAST_POWER: u32 = 27;
const FIRST_POWER: u32 = EXACT.ilog2();
const BUCKETS: usize = EXACT as usize + (LAST_POWER - FIRST_POWER + 1) as usize * BUCKETS_PER_POWER;

/// Counts of times by bucket: 832 bytes.
struct Histogram([AtomicU32; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

/// Returns the bucket of a time in microseconds.
fn bucket(time: u64) -> usize {
    let time = time.min((2 << LAST_POWER) - 1);
    let power = time.max(1).ilog2();
    if power < FIRST_POWER {
        return usize::try_from(time).unwrap_or(0);
    }
    // The three bits behind the highest.
    let eighth = usize::try_from((time >> (power - 3)) & 7).unwrap_or(0);
    EXACT as usize + (power - FIRST_POWER) as usize * BUCKETS_PER_POWER + eighth
}

/// Returns the time that a bucket stands for.
fn middle(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(EXACT as usize) else { return bucket as u64 };
    let (power, eighth) = (above / BUCKETS_PER_POWER, (above % BUCKETS_PER_POWER) as u64);
    let width = 1_u64 << (power as u32 + FIRST_POWER - 3);
    (8 + eighth) * width + width / 2
}

impl Histogram {
    fn count(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.0.get(bucket(time)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn latencies(&self) -> Latencies {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed).into()).collect();
        let count: u64 = counts.iter().sum();
        // Returns the time that this percentage did not exceed.
        let within = |percent: u64| {
            let rank = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let reaches = |&count: &u64| {
                seen += count;
                seen >= rank
            };
            Duration::from_micros(counts.iter().position(reaches).map_or(0, middle))
        };
        Latencies { count, median: within(50), p95: within(95) }
    }
}

/// Latencies of the requests of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latencies {
    /// How many there were.
    pub count: u64,
    /// The median, to 10 %.
    pub median: Duration,
    /// The 95th percentile, to 10 %.
    pub p95: Duration,
}

/// A request that has no reply yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Its kind.
    pub operation: Operation,
    /// When it came.
    pub since: SystemTime,
}

/// The requests of one mount. Times take 832 bytes for each kind of request that came, so 20 KiB at most; there are as
/// many requests under way as the kernel has.
#[derive(Default)]
pub struct Requests {
    times: [OnceLock<Box<Histogram>>; Operation::ALL.len()],
    next: AtomicU64,
    /// By number, so oldest first.
    in_flight: Mutex<BTreeMap<u64, InFlight>>,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, InFlight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the latencies of the requests that got a reply, by kind. Kinds that never came are left out.
    #[must_use]
    pub fn latencies(&self) -> Vec<(Operation, Latencies)> {
        let seen = Operation::ALL.iter().zip(&self.times);
        seen.filter_map(|(&operation, times)| Some((operation, times.get()?.latencies()))).collect()
    }

    /// Returns the requests that have no reply yet, the oldest first.
    #[must_use]
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.lock().values().copied().collect()
    }

    /// Begins a request.
    pub(crate) fn begin(self: &Arc<Self>, operation: Operation) -> UnderWay {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, InFlight { operation, since: SystemTime::now() });
        UnderWay { requests: Arc::clone(self), number, operation, began: Instant::now() }
    }
}

/// A request that is under way until this is dropped.
pub(crate) struct UnderWay {
    requests: Arc<Requests>,
    /// Its number among all requests of the mount.
    pub(crate) number: u64,
    pub(crate) operation: Operation,
    pub(crate) began: Instant,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.number);
        if let Some(times) = self.requests.times.get(self.operation as usize) {
            times.get_or_init(Box::default).count(self.began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_precision_loss)]
    use super::*;

    #[test]
    fn a_time_is_kept_to_a_tenth_over_all_times_that_count() {
        let mut time = 1_u64;
        while time < 2 << LAST_POWER {
            let histogram = Histogram::default();
            histogram.count(Duration::from_micros(time));
            let Latencies { count, median, p95 } = histogram.latencies();
            assert_eq!((count, median), (1, p95));
            let kept = median.as_micros() as f64;
            assert!((kept - time as f64).abs() <= 0.1 * time as f64, "{time} µs is kept as {kept} µs");
            time += 1 + time / 50;
        }
        // A longer time than the longest counts as that, and nothing is lost.
        let histogram = Histogram::default();
        [Duration::ZERO, Duration::MAX].into_iter().for_each(|time| histogram.count(time));
        let Latencies { count, median, p95 } = histogram.latencies();
        assert!(
            count == 2 && median.is_zero() && p95 > Duration::from_secs(240),
            "{count} {median:?} {p95:?}"
        );
    }

    #[test]
    fn the_median_and_the_95th_of_a_hundred_are_those() {
        let histogram = Histogram::default();
        (1..=100).for_each(|n| histogram.count(Duration::from_millis(n)));
        let Latencies { count, median, p95 } = histogram.latencies();
        assert_eq!(count, 100);
        let about = |kept: Duration, ms: u128| kept.as_micros().abs_diff(ms * 1000) <= ms * 100;
        assert!(about(median, 50) && about(p95, 95), "{median:?} {p95:?}");
    }

    #[test]
    fn what_is_under_way_is_shown_oldest_first_and_gone_when_it_ends() {
        let requests = Arc::<Requests>::default();
        let (first, second) = (requests.begin(Operation::Readdir), requests.begin(Operation::Read));
        let shown: Vec<Operation> = requests.in_flight().iter().map(|request| request.operation).collect();
        assert_eq!(shown, [Operation::Readdir, Operation::Read]);
        assert_eq!(requests.latencies(), []);
        drop((first, second));
        assert_eq!(requests.in_flight(), []);
        let seen: Vec<(&str, u64)> =
            requests.latencies().iter().map(|(operation, times)| (operation.name(), times.count)).collect();
        assert_eq!(seen, [("read", 1), ("readdir", 1)]);
    }
}

//! Notices when the machine goes to sleep or is switched off, and when it wakes up: from logind on the system bus, and,
//! where there is no bus, from the clocks.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use rustix::time::{ClockId, clock_gettime};

use super::buses::{LogindProxy, system_bus};

/// How often the clocks are compared, and by how much one must have gone ahead.
const CLOCKS_EVERY: Duration = Duration::from_secs(3);
const CLOCKS_JUMP: Duration = Duration::from_secs(1);

/// The machine goes to sleep or is switched off, or that is over.
pub(super) enum Sleep {
    /// The machine soon sleeps or is switched off.
    Soon(Delay),
    /// The machine woke up (or stays on after all).
    Over,
}

/// A lock that delays the machine's sleep until it is dropped, as long as the machine's own limit allows.
pub(super) struct Delay {
    /// How long it is safe to wait.
    pub(super) limit: Duration,
    /// `None` if the machine does not wait at all.
    _lock: Option<zbus::zvariant::OwnedFd>,
}

/// logind's signals about sleep, and its lock that delays the next one.
pub(super) struct Logind {
    logind: LogindProxy<'static>,
    starts: BoxStream<'static, zbus::Result<bool>>,
    lock: Option<zbus::zvariant::OwnedFd>,
}

impl Logind {
    /// Finds logind on the system bus.
    ///
    /// # Errors
    ///
    /// If there is no bus, or no logind on it.
    pub(super) async fn find() -> zbus::Result<Self> {
        let logind = LogindProxy::new(&system_bus().await?).await?;
        let sleeps = logind.receive_prepare_for_sleep().await?;
        let shutdowns = logind.receive_prepare_for_shutdown().await?;
        let starts = futures::stream::select(
            sleeps.map(|signal| Ok(signal.args()?.start)),
            shutdowns.map(|signal| Ok(signal.args()?.start)),
        );
        let lock = lock(&logind).await;
        Ok(Self { logind, starts: starts.boxed(), lock })
    }

    /// Waits for the next sleep, or its end; `None` if there is no bus any more.
    ///
    /// # Errors
    ///
    /// If logind does not reply as specified.
    pub(super) async fn next(&mut self) -> zbus::Result<Option<Sleep>> {
        let Some(start) = self.starts.next().await else { return Ok(None) };
        if start? {
            let longest = Duration::from_micros(self.logind.inhibit_delay_max_usec().await?);
            // Some of the time passes on the way here and back.
            Ok(Some(Sleep::Soon(Delay { limit: longest * 4 / 5, _lock: self.lock.take() })))
        } else {
            self.lock = lock(&self.logind).await;
            Ok(Some(Sleep::Over))
        }
    }
}

/// Takes logind's lock that delays the next sleep; `None` if it grants none.
async fn lock(logind: &LogindProxy<'_>) -> Option<zbus::zvariant::OwnedFd> {
    let why = "saving what is not on the server yet, and locking vaults";
    let asked = logind.inhibit("sleep:shutdown", "Scaup", why, "delay").await;
    asked
        .inspect_err(|error| tracing::info!(%error, "the machine will not wait for saving before it sleeps"))
        .ok()
}

/// Calls `woke` at every wake-up that the clocks show.
pub(super) async fn follow_clocks(asleep: impl Fn() -> Duration, woke: impl Fn()) {
    let mut before = asleep();
    loop {
        tokio::time::sleep(CLOCKS_EVERY).await;
        let now = asleep();
        if now.saturating_sub(before) >= CLOCKS_JUMP {
            woke();
        }
        before = now;
    }
}

/// Returns how long the machine has slept since it was started: one clock goes on meanwhile, the other does not
/// (clock_gettime(2)).
pub(super) fn time_asleep() -> Duration {
    let [with, without] = [ClockId::Boottime, ClockId::Monotonic]
        .map(|clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default());
    with.saturating_sub(without)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_shows_by_the_clocks() {
        let (asleep, woken) = (Cell::new(Duration::from_secs(100)), Cell::new(0));
        let follow = follow_clocks(|| asleep.get(), || woken.set(woken.get() + 1));
        let story = async {
            tokio::time::sleep(10 * CLOCKS_EVERY).await;
            assert_eq!(woken.get(), 0, "nobody slept");
            for night in 1..=3 {
                asleep.set(asleep.get() + Duration::from_secs(8 * 60 * 60));
                tokio::time::sleep(2 * CLOCKS_EVERY).await;
                assert_eq!(woken.get(), night);
            }
            // The two clocks are not read at the same moment.
            asleep.set(asleep.get() + Duration::from_millis(1));
            tokio::time::sleep(2 * CLOCKS_EVERY).await;
            assert_eq!(woken.get(), 3);
        };
        tokio::select! {
            () = follow => {}
            () = story => {}
        }
    }
}

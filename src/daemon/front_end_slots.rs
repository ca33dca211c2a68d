//! Slots for the front ends that talk to the daemon through its control socket. Any program of the user may connect and
//! stay silent, so every newcomer gets a slot: the front end that needs its slot least loses it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Front ends that are served at the same time.
const SLOTS: usize = 64;

/// Front ends among them that watch the mount: the others have to find slots, too.
const WATCHERS_MAX: usize = 16;

/// How long a front end may stay silent before it counts as idle: it may just have come.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// The work that is being done for a front end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing. A request may come, or never.
    Nothing,
    /// Work that ends with the front end: the daemon waits for it or for the person at it.
    Waiting,
    /// It is told of changes, for as long as it stays: it is not idle, although it asks for nothing.
    Watching,
    /// Work that goes on to its end without the front end.
    Working,
}

/// What is known of a front end that has a slot.
struct Holder {
    number: u64,
    process: Option<i32>,
    doing: Doing,
    since: Instant,
    /// Dropped with its slot.
    _stays: oneshot::Sender<Infallible>,
}

#[derive(Default)]
struct All {
    front_ends: Vec<Holder>,
    next: u64,
}

/// All slots.
#[derive(Default)]
pub(super) struct Slots {
    all: Mutex<All>,
    changed: Notify,
}

/// The slot of one front end, until it is dropped or taken away.
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

/// Ends when the front end has lost its slot.
pub(super) type SentAway = oneshot::Receiver<Infallible>;

impl Slots {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a slot for a front end of this process, taking another's if necessary.
    pub(super) async fn take(self: &Arc<Self>, process: Option<i32>) -> (Slot, SentAway) {
        loop {
            if let Some(taken) = self.try_take(process) {
                return taken;
            }
            self.changed.notified().await;
        }
    }

    /// Returns `None` if every other front end watches, or has work that goes on to its end.
    fn try_take(self: &Arc<Self>, process: Option<i32>) -> Option<(Slot, SentAway)> {
        let mut all = self.lock();
        if all.front_ends.len() >= SLOTS {
            let may_go = |holder: &Holder| !matches!(holder.doing, Doing::Working | Doing::Watching);
            let dispensable = all.dispensable(may_go)?;
            all.front_ends.swap_remove(dispensable);
        }
        let (stays, sent_away) = oneshot::channel();
        let number = all.next;
        all.next += 1;
        all.front_ends.push(Holder {
            number,
            process,
            doing: Doing::Nothing,
            since: Instant::now(),
            _stays: stays,
        });
        Some((Slot { slots: Arc::clone(self), number }, sent_away))
    }
}

impl All {
    /// Returns the front end that needs its slot least of those for which `may_go` holds: one of the process that has
    /// the most slots, so that no process crowds out the others; among those an idle one; and then the one that has
    /// been unchanged for longest.
    fn dispensable(&self, may_go: impl Fn(&Holder) -> bool) -> Option<usize> {
        let of_process = |process| self.front_ends.iter().filter(|other| other.process == process).count();
        let rank = |front_end: &Holder| {
            let silent = front_end.since.elapsed();
            let is_idle = front_end.doing == Doing::Nothing && silent >= IDLE_AFTER;
            (of_process(front_end.process), is_idle, silent)
        };
        let candidates = self.front_ends.iter().enumerate().filter(|(_, front_end)| may_go(front_end));
        candidates.max_by_key(|(_, front_end)| rank(front_end)).map(|(index, _)| index)
    }
}

impl Slot {
    /// Records the work that is done for the front end from now on; returns `false` if it lost its slot. One that
    /// begins to watch takes the place of another if too many watch.
    pub(super) fn set_doing(&self, doing: Doing) -> bool {
        let mut all = self.slots.lock();
        let others = |holder: &Holder| holder.doing == Doing::Watching && holder.number != self.number;
        if doing == Doing::Watching
            && all.front_ends.iter().filter(|holder| others(holder)).count() >= WATCHERS_MAX
            && let Some(watcher) = all.dispensable(others)
        {
            all.front_ends.swap_remove(watcher);
        }
        let Some(own) = all.front_ends.iter_mut().find(|front_end| front_end.number == self.number) else {
            return false;
        };
        (own.doing, own.since) = (doing, Instant::now());
        self.slots.changed.notify_one();
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().front_ends.retain(|front_end| front_end.number != self.number);
        self.slots.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Fills all slots, one front end a second: each of a process of its own, unless `process` says otherwise.
    async fn filled(process: impl Fn(usize) -> i32) -> (Arc<Slots>, Vec<(Slot, SentAway)>) {
        let (slots, mut taken) = (Arc::new(Slots::default()), Vec::new());
        for number in 0..SLOTS {
            taken.push(slots.take(Some(process(number))).await);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        (slots, taken)
    }

    fn own(number: usize) -> i32 {
        i32::try_from(number).unwrap() + 1000
    }

    fn sent_away(taken: &mut [(Slot, SentAway)]) -> Vec<usize> {
        let lost =
            |sent_away: &mut SentAway| sent_away.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        (0..taken.len()).filter(|&number| lost(&mut taken[number].1)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_lose_their_slots_before_those_who_wait_for_somebody() {
        let (slots, mut taken) = filled(own).await;
        assert!(taken[0].0.set_doing(Doing::Waiting) && taken[1].0.set_doing(Doing::Working));
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..3 {
            let (slot, _) = slots.take(Some(1)).await;
            slot.set_doing(Doing::Working);
            std::mem::forget(slot);
        }
        assert_eq!(sent_away(&mut taken), [2, 3, 4]);
        assert!(!taken[2].0.set_doing(Doing::Working), "it is too late");
        // A front end that lost its slot can't give it back.
        drop(taken.remove(2));
        assert_eq!(slots.lock().front_ends.len(), SLOTS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_crowds_out_none_but_itself() {
        let (slots, mut taken) = filled(|number| if number < 20 { own(number) } else { 7 }).await;
        for (slot, _) in &taken[20..] {
            slot.set_doing(Doing::Waiting);
        }
        for _ in 0..100 {
            taken.push(slots.take(Some(7)).await);
        }
        assert!(sent_away(&mut taken[..20]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn some_may_watch_for_ever_and_crowd_out_none_but_those_who_watch() {
        let (slots, mut taken) = filled(own).await;
        for (slot, _) in &taken[..WATCHERS_MAX] {
            assert!(slot.set_doing(Doing::Watching));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_secs(3600)).await;
        for _ in 0..SLOTS {
            taken.push(slots.take(Some(1)).await);
        }
        assert!(sent_away(&mut taken[..WATCHERS_MAX]).is_empty());
        let stay = taken.len();
        for _ in 0..3 {
            let (slot, sent_away) = slots.take(Some(1)).await;
            assert!(slot.set_doing(Doing::Watching));
            taken.push((slot, sent_away));
        }
        // Each newcomer takes the place of the one that watched longest, until its own process has the most.
        assert_eq!(sent_away(&mut taken[..WATCHERS_MAX]), [0]);
        assert_eq!(sent_away(&mut taken[stay..]), [0, 1]);
        let watching = slots.lock().front_ends.iter().filter(|one| one.doing == Doing::Watching).count();
        assert_eq!(watching, WATCHERS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_just_came_stays_although_all_others_wait_for_somebody() {
        let (slots, mut taken) = filled(own).await;
        taken.iter().for_each(|(slot, _)| assert!(slot.set_doing(Doing::Waiting)));
        tokio::time::advance(IDLE_AFTER / 2).await;
        let mut newcomer = slots.take(Some(1)).await;
        let _another = slots.take(Some(2)).await;
        assert!(sent_away(std::slice::from_mut(&mut newcomer)).is_empty());
        assert_eq!(sent_away(&mut taken).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_loses_its_slot_in_the_middle_of_work() {
        let (slots, mut taken) = filled(own).await;
        taken.iter().for_each(|(slot, _)| assert!(slot.set_doing(Doing::Working)));
        assert!(slots.try_take(Some(1)).is_none());
        let waiting = tokio::spawn(async move { slots.take(Some(1)).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished() && sent_away(&mut taken).is_empty());
        taken[5].0.set_doing(Doing::Nothing);
        waiting.await.unwrap();
        assert_eq!(sent_away(&mut taken), [5]);
    }
}

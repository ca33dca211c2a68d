//! Directory listings under way, and listings prefetched ahead of a walk through a tree.
//!
//! A directory is listed once however many tasks ask for it at a time. When a program lists a directory, the
//! directories in it are listed ahead: at first only those directly in it; when one of those listings is used, whole
//! levels more. So a walk of a tree takes a few round trips for each level, and a look at one directory costs little. A
//! program that looks up names goes down one path, not through the whole tree: in a vault, where each level takes four
//! round trips, two levels below that path are listed ahead.
//!
//! A prefetched listing is kept here, by the directory's path on the server, until it is used, too old, or invalidated
//! by a change of this mount.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::listed_names::Names;
use crate::remote::{Remote, RemoteError, RemoteName, RemotePath};
use crate::vault::Undecided;

/// Most unused listings that were prefetched for programs that walk a tree: the cost of wrong guesses.
const WALK_UNUSED_MAX: usize = 256;
/// Most unused listings that were prefetched for programs that look up names.
const LOOK_UP_UNUSED_MAX: usize = 128;
/// Most directories that a walk remembers to list ahead: the others are listed when somebody asks.
const BEYOND_MAX: usize = 16 * 1024;
/// Larger directories are not listed ahead.
const AHEAD_NAMES_MAX: usize = 1000;

/// Why a directory is listed, and so what is listed ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drive) enum Purpose {
    /// To know its own names.
    Names,
    /// A program looks names up in it, and may go on into any directory there.
    LookUp,
    /// A program lists it, and may walk the whole tree.
    Walk,
}

/// A directory's names as the server had them.
pub(in crate::drive) struct ListedDirectory {
    /// When it was asked for.
    pub(in crate::drive) asked: Moment,
    pub(in crate::drive) names: Names,
    /// Debris that a dead process of ours left in the directory.
    pub(in crate::drive) debris: Vec<RemoteName>,
    /// What waits for a person's decision in it.
    pub(in crate::drive) undecided: Undecided,
}

type Pending = Shared<BoxFuture<'static, Result<Arc<ListedDirectory>, DriveError>>>;
/// The directories in a directory, known before all of its names are.
type Below = Shared<oneshot::Receiver<Arc<Vec<Directory>>>>;

/// One walk through a tree: how far ahead it lists.
struct Walk {
    /// Levels below its first directory that are listed ahead.
    depth: AtomicUsize,
    /// Most listings that may wait to be used.
    unused_max: usize,
    /// Directories that are still too deep, or too many, with their levels.
    beyond: Mutex<Vec<(Directory, usize)>>,
}

/// Where in a walk a directory was listed.
#[derive(Clone)]
struct Step {
    walk: Arc<Walk>,
    level: usize,
}

impl Step {
    fn first(depth: usize, unused_max: usize) -> Self {
        let walk = Walk { depth: AtomicUsize::new(depth), unused_max, beyond: Mutex::default() };
        Self { walk: Arc::new(walk), level: 0 }
    }

    /// Creates the first step for a program that lists directories.
    fn of_walker() -> Self {
        Self::first(1, WALK_UNUSED_MAX)
    }

    /// Creates the first step for a program that looks up names, `depth` levels ahead.
    fn of_look_up(depth: usize) -> Self {
        Self::first(depth, LOOK_UP_UNUSED_MAX)
    }

    /// Returns how many levels below this one the walk lists ahead.
    fn reach(&self) -> usize {
        self.walk.depth.load(Ordering::Relaxed).saturating_sub(self.level)
    }
}

struct Known {
    pending: Pending,
    /// The task that carries the listing on even if nobody waits for it.
    task: JoinHandle<()>,
    below: Below,
    began: Moment,
    /// Whether the listing is given up if there are many names.
    is_bounded: bool,
    /// The walk that the directory was listed ahead for; `None` once somebody asked for it.
    ahead: Option<Step>,
}

impl Known {
    /// Begins to list a directory. The listing goes on even if the caller goes away: half a listing would keep its
    /// place on the lane.
    fn begin(remote: &Arc<dyn Remote>, directory: &Directory, ahead: Option<Step>) -> Self {
        let (remote, directory, asked) = (Arc::clone(remote), directory.clone(), Moment::now());
        let (tell, below) = oneshot::channel();
        let is_bounded = ahead.is_some();
        let most = if is_bounded { AHEAD_NAMES_MAX } else { usize::MAX };
        let pending = async move {
            // Perhaps nobody waits for the directories.
            let met = |directories| drop(tell.send(Arc::new(directories)));
            let all = remote.names_budget();
            let budget = if is_bounded { all.for_guesses() } else { all.clone() };
            let (names, debris, undecided) = directory.list(remote.as_ref(), (most, &budget), met).await?;
            Ok(Arc::new(ListedDirectory { asked, names, debris, undecided }))
        }
        .boxed()
        .shared();
        let task = tokio::spawn(pending.clone().map(drop).in_current_span());
        Self { pending, task, below: below.shared(), began: asked, is_bounded, ahead }
    }

    /// Whether the listing may still be used: a failed one is tried again.
    fn is_of_use(&self, believed: Duration) -> bool {
        self.began.elapsed() < believed && !matches!(self.pending.peek(), Some(Err(_)))
    }
}

/// All listings that are under way or wait to be used.
pub(in crate::drive) struct Listings {
    known: Mutex<HashMap<RemotePath, Known>>,
    /// How long a listing is believed.
    believed: Duration,
    /// Whether anything is listed before it is asked for.
    ahead: bool,
}

impl Listings {
    pub(in crate::drive) fn new(believed: Duration, ahead: bool) -> Self {
        Self { known: Mutex::default(), believed, ahead }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RemotePath, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the listings and drops those that are of no use any more.
    fn lock_swept(&self) -> MutexGuard<'_, HashMap<RemotePath, Known>> {
        let mut known = self.lock();
        known.retain(|_, known| known.is_of_use(self.believed) || known.pending.peek().is_none());
        known
    }

    /// Whether `directory` is being listed, or was listed and the listing waits to be used.
    pub(super) fn is_under_way(&self, directory: &RemotePath) -> bool {
        self.lock().get(directory).is_some_and(|known| known.is_of_use(self.believed))
    }

    /// Returns the finished listing of a directory that waits to be used.
    pub(super) fn waiting(&self, directory: &RemotePath) -> Option<Arc<ListedDirectory>> {
        let known = self.lock();
        let known = known.get(directory).filter(|known| known.is_of_use(self.believed))?;
        known.pending.peek()?.as_ref().ok().cloned()
    }

    /// Lists a directory, or waits for a listing of it that is under way.
    pub(in crate::drive) async fn list(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        directory: &Directory,
        purpose: Purpose,
    ) -> Result<Arc<ListedDirectory>, DriveError> {
        let mut has_stopped_others = false;
        loop {
            let (pending, is_bounded) = self.take_up(remote, directory, purpose)?;
            let listed = pending.clone().await;
            self.used(&directory.path(), &pending);
            match listed {
                // A listing that failed ahead is tried again when somebody asks.
                Err(_) if is_bounded => {}
                Err(DriveError::Remote(RemoteError::TooManyNames)) if !has_stopped_others => {
                    self.stop_guesses().await;
                    has_stopped_others = true;
                }
                listed => return listed,
            }
        }
    }

    /// Drops a listing that was waited for. If it was forgotten meanwhile, another listing may have its place: that one
    /// stays.
    fn used(&self, directory: &RemotePath, pending: &Pending) {
        let mut all = self.lock();
        if all.get(directory).is_some_and(|known| known.pending.ptr_eq(pending)) {
            all.remove(directory);
        }
    }

    /// Lists a directory in the background, if it is not being listed already: a task asks for its names.
    pub(in crate::drive) fn begin(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        directory: &Directory,
        purpose: Purpose,
    ) -> Result<(), DriveError> {
        if self.ahead {
            // It goes on by itself.
            drop(self.take_up(remote, directory, purpose)?);
        }
        Ok(())
    }

    /// Lists a directory in the background, before anybody asks for its names.
    pub(super) fn begin_ahead(self: &Arc<Self>, remote: &Arc<dyn Remote>, directory: &Directory) {
        self.go_to(remote, directory, Step::of_look_up(0));
    }

    /// Returns the listing of a directory, begun if necessary, and whether it is given up if there are many names.
    fn take_up(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        directory: &Directory,
        purpose: Purpose,
    ) -> Result<(Pending, bool), DriveError> {
        let mut all = self.lock_swept();
        if directory.is_locked() {
            return Err(DriveError::Locked);
        }
        let (known, is_new) = match all.entry(directory.path()) {
            Entry::Occupied(known) => (known.into_mut(), false),
            Entry::Vacant(place) => (place.insert(Known::begin(remote, directory, None)), true),
        };
        let (pending, below, ahead) = (known.pending.clone(), known.below.clone(), known.ahead.take());
        let is_bounded = known.is_bounded;
        drop(all);
        match (purpose, ahead) {
            (Purpose::Walk, Some(Step { walk, level })) => {
                // The guess was right: the walk may list further ahead.
                walk.depth.fetch_max(level * 2 + 1, Ordering::Relaxed);
                self.go_on(remote, &walk);
            }
            (Purpose::Walk, None) => self.follow(remote, below, Step::of_walker()),
            (Purpose::LookUp, ahead) if is_new || ahead.is_some() => {
                if matches!(directory, Directory::Vault(_)) {
                    self.follow(remote, below, Step::of_look_up(2));
                }
            }
            (Purpose::LookUp | Purpose::Names, _) => {}
        }
        Ok((pending, is_bounded))
    }

    /// Goes on from a directory once the directories in it are known.
    fn follow(self: &Arc<Self>, remote: &Arc<dyn Remote>, below: Below, step: Step) {
        if !self.ahead {
            return;
        }
        let (listings, remote) = (Arc::clone(self), Arc::clone(remote));
        tokio::spawn(async move {
            let Ok(below) = below.await else { return };
            let walk = &step.walk;
            let mut beyond = walk.beyond.lock().unwrap_or_else(PoisonError::into_inner);
            let room = BEYOND_MAX.saturating_sub(beyond.len());
            beyond.extend(below.iter().take(room).map(|child| (child.clone(), step.level + 1)));
            drop(beyond);
            listings.go_on(&remote, walk);
        });
    }

    /// Lists ahead the directories that a walk has met, down to its depth.
    fn go_on(self: &Arc<Self>, remote: &Arc<dyn Remote>, walk: &Arc<Walk>) {
        let depth = walk.depth.load(Ordering::Relaxed);
        let unused = self.lock_swept().values().filter(|known| known.ahead.is_some()).count();
        let ready: Vec<(Directory, usize)> = {
            let mut beyond = walk.beyond.lock().unwrap_or_else(PoisonError::into_inner);
            let (ready, mut rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut *beyond).into_iter().partition(|(_, level)| *level <= depth);
            let mut ready = ready.into_iter();
            let now = ready.by_ref().take(walk.unused_max.saturating_sub(unused)).collect();
            rest.extend(ready);
            *beyond = rest;
            now
        };
        for (directory, level) in ready {
            self.go_to(remote, &directory, Step { walk: Arc::clone(walk), level });
        }
    }

    fn go_to(self: &Arc<Self>, remote: &Arc<dyn Remote>, directory: &Directory, step: Step) {
        if !self.ahead || remote.is_filled() {
            return;
        }
        let below = {
            let mut all = self.lock_swept();
            // A walk through a vault ends when the vault is locked: its names have to be gone, and must not be found
            // when it is unlocked again.
            if directory.is_locked() {
                return;
            }
            match all.entry(directory.path()) {
                Entry::Vacant(place) => {
                    place.insert(Known::begin(remote, directory, Some(step.clone()))).below.clone()
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    // The listing is in use, or belongs to a walk that reaches as far.
                    if known.ahead.as_ref().is_none_or(|other| other.reach() >= step.reach()) {
                        return;
                    }
                    known.ahead = Some(step.clone());
                    known.below.clone()
                }
            }
        };
        self.follow(remote, below, step);
    }

    /// Forgets the listing of a directory: this mount changed something in it.
    pub(in crate::drive) fn forget(&self, directory: &RemotePath) {
        self.lock().remove(directory);
    }

    /// Cancels the listings that are under way ahead: half of a listing takes memory, too.
    async fn stop_guesses(&self) {
        let guesses: Vec<Known> =
            self.lock().extract_if(|_, known| known.ahead.is_some()).map(|(_, known)| known).collect();
        for Known { pending, task, .. } in guesses {
            drop(pending);
            task.abort();
            // The task was cancelled, or has ended.
            let _ = task.await;
        }
    }

    /// Drops prefetched listings that nobody asked for yet: names that somebody asks for need the memory.
    pub(in crate::drive) fn let_go(&self) {
        self.lock().retain(|_, known| known.ahead.is_none() || known.pending.peek().is_none());
    }

    /// Forgets everything: places were moved, or a vault was locked.
    pub(in crate::drive) fn clear(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use scaup_fakes::{Delay, MemoryRemote, MemoryServer, MessageKind};

    #[tokio::test(start_paused = true)]
    async fn whoever_waited_for_a_listing_that_was_forgotten_leaves_the_newer_one_alone() {
        let memory = MemoryRemote::connect(&MemoryServer::default());
        let round_trip = Duration::from_millis(80);
        memory.set_delay(Some(Delay { least: round_trip, most: round_trip, seed: 0 }));
        let remote: Arc<dyn Remote> = memory.clone();
        let listings = Arc::new(Listings::new(Duration::from_secs(3600), true));
        let root = Directory::Plain(RemotePath::root());
        let first = listings.list(&remote, &root, Purpose::Names);
        let meanwhile = async {
            tokio::time::sleep(round_trip / 2).await;
            // This mount makes a name, and somebody asks for all names.
            listings.forget(&root.path());
            listings.begin(&remote, &root, Purpose::Names).unwrap();
        };
        futures::join!(first, meanwhile).0.map(drop).unwrap();
        listings.list(&remote, &root, Purpose::Names).await.map(drop).unwrap();
        assert_eq!(memory.count(MessageKind::List), 2, "the newer listing is asked for again");
    }
}

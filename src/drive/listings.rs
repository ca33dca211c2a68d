//! Listings under way, and listings ahead of whoever goes through a tree.
//!
//! A directory is listed once however many ask for it at a time. When a program lists a directory, what lies in it is listed ahead: first
//! only the directories directly in it; when one of those is used, whole levels more. So a walk of a tree takes a few round trips for each
//! level, and a look at one directory costs little. Who looks names up goes one way down, not through all of the tree: in a vault, where each
//! level takes four round trips, two levels below that way are listed ahead.
//!
//! What was listed ahead is kept here, by the directory's place on the server, until it is used, too old, or changed by this
//! mount.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared};
use tokio::task::JoinHandle;

use super::error::DriveError;
use super::found::Directory;
use super::names::Names;
use crate::remote::{Remote, RemoteError, RemoteName, RemotePath};

/// Listings that were made ahead of who walks a tree and not used, at most: what wrong guesses cost.
const WALK_UNUSED_MAX: usize = 256;
/// The same ahead of who looks names up.
const LOOK_UP_UNUSED_MAX: usize = 128;
/// Directories that a walk keeps in mind to be listed ahead: the rest is listed when somebody asks.
const BEYOND_MAX: usize = 16 * 1024;
/// Larger directories are not listed ahead.
const AHEAD_NAMES_MAX: usize = 1000;

/// Why a directory is listed, and so what is listed ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Its own names.
    Names,
    /// A program looks names up in it, and may go on into any directory there.
    LookUp,
    /// A program lists it, and may walk the whole tree.
    Walk,
}

/// A directory's names as the server had them.
pub(super) struct Listed {
    /// When it was asked for.
    pub(super) asked: Instant,
    pub(super) names: Names,
    /// What a dead process of ours left there.
    pub(super) debris: Vec<RemoteName>,
}

type Pending = Shared<BoxFuture<'static, Result<Arc<Listed>, DriveError>>>;
/// The directories in a directory, known before all of its names are.
type Below = Shared<oneshot::Receiver<Arc<Vec<Directory>>>>;

/// One walk through a tree: how far ahead it goes.
struct Walk {
    /// Levels below its first directory that are listed ahead.
    depth: AtomicUsize,
    /// Listings that may wait to be used.
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

    /// Ahead of who lists directories.
    fn of_walker() -> Self {
        Self::first(1, WALK_UNUSED_MAX)
    }

    /// Ahead of who looks names up, by `depth` levels.
    fn of_look_up(depth: usize) -> Self {
        Self::first(depth, LOOK_UP_UNUSED_MAX)
    }

    /// Levels that the walk goes beyond here.
    fn reach(&self) -> usize {
        self.walk.depth.load(Ordering::Relaxed).saturating_sub(self.level)
    }
}

struct Known {
    pending: Pending,
    /// What carries it on though nobody waits for it.
    task: JoinHandle<()>,
    below: Below,
    began: Instant,
    /// Whether it is given up where there are many names.
    is_bounded: bool,
    /// The walk that it was listed ahead for; `None` once somebody asked for it.
    ahead: Option<Step>,
}

impl Known {
    /// Begins to list a directory. It goes on even if whoever asked goes away: half a listing would keep its place on the lane.
    fn begin(remote: &Arc<dyn Remote>, directory: &Directory, ahead: Option<Step>) -> Self {
        let (remote, directory, asked) = (Arc::clone(remote), directory.clone(), Instant::now());
        let (tell, below) = oneshot::channel();
        let is_bounded = ahead.is_some();
        let most = if is_bounded { AHEAD_NAMES_MAX } else { usize::MAX };
        let pending = async move {
            // Perhaps nobody goes on from here.
            let met = |directories| drop(tell.send(Arc::new(directories)));
            let all = remote.names_budget();
            let budget = if is_bounded { all.for_guesses() } else { all.clone() };
            let (names, debris) = directory.list(remote.as_ref(), (most, &budget), met).await?;
            Ok(Arc::new(Listed { asked, names, debris }))
        }
        .boxed()
        .shared();
        let task = tokio::spawn(pending.clone().map(drop));
        Self { pending, task, below: below.shared(), began: asked, is_bounded, ahead }
    }

    /// Whether it may still tell something: what failed is tried anew.
    fn is_of_use(&self, believed: Duration) -> bool {
        self.began.elapsed() < believed && !matches!(self.pending.peek(), Some(Err(_)))
    }
}

/// All listings that are under way or wait to be used.
pub(super) struct Listings {
    known: Mutex<HashMap<RemotePath, Known>>,
    /// How long a listing is believed.
    believed: Duration,
    /// Whether anything is listed before it is asked for.
    ahead: bool,
}

impl Listings {
    pub(super) fn new(believed: Duration, ahead: bool) -> Self {
        Self { known: Mutex::default(), believed, ahead }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RemotePath, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, without what is of no use any more.
    fn lock_swept(&self) -> MutexGuard<'_, HashMap<RemotePath, Known>> {
        let mut known = self.lock();
        known.retain(|_, known| known.is_of_use(self.believed) || known.pending.peek().is_none());
        known
    }

    /// Whether `directory` is being listed, or was and waits to be used.
    pub(super) fn is_under_way(&self, directory: &RemotePath) -> bool {
        self.lock().get(directory).is_some_and(|known| known.is_of_use(self.believed))
    }

    /// What was listed ahead of a directory and waits to be used.
    pub(super) fn waiting(&self, directory: &RemotePath) -> Option<Arc<Listed>> {
        let known = self.lock();
        let known = known.get(directory).filter(|known| known.is_of_use(self.believed))?;
        known.pending.peek()?.as_ref().ok().cloned()
    }

    /// Lists a directory, or waits for whoever does already.
    pub(super) async fn list(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        directory: &Directory,
        purpose: Purpose,
    ) -> Result<Arc<Listed>, DriveError> {
        let mut has_stopped_others = false;
        loop {
            let (pending, is_bounded) = self.take_up(remote, directory, purpose)?;
            let listed = pending.clone().await;
            self.used(&directory.path(), &pending);
            match listed {
                // What failed ahead is tried anew when somebody asks.
                Err(_) if is_bounded => {}
                Err(DriveError::Remote(RemoteError::TooManyNames)) if !has_stopped_others => {
                    self.stop_guesses().await;
                    has_stopped_others = true;
                }
                listed => return listed,
            }
        }
    }

    /// A listing was waited for, and is not kept. If it was forgotten meanwhile, another one may have its place: that
    /// stays.
    fn used(&self, directory: &RemotePath, pending: &Pending) {
        let mut all = self.lock();
        if all.get(directory).is_some_and(|known| known.pending.ptr_eq(pending)) {
            all.remove(directory);
        }
    }

    /// Lists a directory in the background, if that is not under way: somebody asks for its names.
    pub(super) fn begin(
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

    /// The listing of a directory, begun if it is not, and whether it is given up where there are many names.
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
                // It was guessed right: it may go further ahead.
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

    /// Goes on from a directory once it is known which ones lie in it.
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

    /// Lists ahead what a walk has met, as deep as it goes.
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
        if !self.ahead {
            return;
        }
        let below = {
            let mut all = self.lock_swept();
            // A walk through a vault ends when the vault is locked: its names are to be gone, and not to be found when it is unlocked again.
            if directory.is_locked() {
                return;
            }
            match all.entry(directory.path()) {
                Entry::Vacant(place) => {
                    place.insert(Known::begin(remote, directory, Some(step.clone()))).below.clone()
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    // It is in use, or a walk has come here before that goes as far.
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

    /// This mount changed something in a directory: what was listed ahead of that is not true any more.
    pub(super) fn forget(&self, directory: &RemotePath) {
        self.lock().remove(directory);
    }

    /// Ends what is being listed ahead: half of a listing takes memory, too.
    async fn stop_guesses(&self) {
        let guesses: Vec<Known> =
            self.lock().extract_if(|_, known| known.ahead.is_some()).map(|(_, known)| known).collect();
        for Known { pending, task, .. } in guesses {
            drop(pending);
            task.abort();
            // It was ended, or has ended.
            let _ = task.await;
        }
    }

    /// Lets go of what was listed ahead and is not asked for yet: the names that somebody asks for need the memory.
    pub(super) fn let_go(&self) {
        self.lock().retain(|_, known| known.ahead.is_none() || known.pending.peek().is_none());
    }

    /// Forgets everything: places were moved, or a vault was locked.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::remote::memory::{Delay, MemoryRemote, MemoryServer, MessageKind};

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

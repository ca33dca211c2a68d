//! Directory listings under way, and listings made ahead of programs that walk a tree.
//!
//! A directory is listed once however many tasks ask for it at a time. Which directories are listed ahead, each
//! [walk](super::walk) says; a listing ahead is kept here, by the directory's path on the server, until a program uses
//! it, until it is too old, or until this mount changes something in the directory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{BoxFuture, Shared};
use scaup_fuse::filesystem::Inode;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::walk::{Entered, Step};
use super::walks::Walks;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::listed_names::Names;
use crate::drive::tree::Tree;
use crate::remote::{Remote, RemoteError, RemoteName, RemotePath};
use crate::vault::Undecided;

/// Larger directories are not listed ahead.
const AHEAD_NAMES_MAX: usize = 1000;

/// Why a directory is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drive) enum Purpose {
    /// To know its names.
    Names,
    /// A program looks up names in it, and may go on into any directory there.
    LookUp,
    /// A program lists it, and may walk the whole tree.
    List,
}

/// A directory's names as the server had them.
pub(in crate::drive) struct ListedDirectory {
    /// When it was asked for.
    pub(in crate::drive) asked: Moment,
    /// When it was complete.
    complete: Moment,
    pub(in crate::drive) names: Names,
    /// Debris that a dead process of ours left in the directory.
    pub(in crate::drive) debris: Vec<RemoteName>,
    /// What waits for a person's decision in it.
    pub(in crate::drive) undecided: Undecided,
}

type Pending = Shared<BoxFuture<'static, Result<Arc<ListedDirectory>, DriveError>>>;
/// The directories in a directory, known before all of its names are.
type Below = Shared<oneshot::Receiver<Arc<Vec<(OsString, Directory)>>>>;

struct Known {
    pending: Pending,
    /// The task that carries the listing on even if nobody waits for it.
    task: JoinHandle<()>,
    below: Below,
    /// Whether it is that of a vault's directory. A walk through a vault as the server has it comes to the same paths.
    is_of_vault: bool,
    /// Whether the listing is given up if there are many names.
    is_bounded: bool,
    /// Whether nobody has asked for it yet.
    is_ahead: bool,
    /// Whether a walk goes on from it.
    is_followed: bool,
}

impl Known {
    /// Begins to list a directory. The listing goes on even if the caller goes away: half a listing would keep its
    /// place on the lane.
    fn begin(remote: &Arc<dyn Remote>, directory: &Directory, is_ahead: bool) -> Self {
        let is_of_vault = directory.is_in_vault();
        let (remote, directory, asked) = (Arc::clone(remote), directory.clone(), Moment::now());
        let (tell, below) = oneshot::channel();
        let most = if is_ahead { AHEAD_NAMES_MAX } else { usize::MAX };
        let pending = async move {
            // Perhaps nobody waits for the directories.
            let met = |directories| drop(tell.send(Arc::new(directories)));
            let all = remote.names_budget();
            let budget = if is_ahead { all.for_guesses() } else { all.clone() };
            let (names, debris, undecided) = directory.list(remote.as_ref(), (most, &budget), met).await?;
            Ok(Arc::new(ListedDirectory { asked, complete: Moment::now(), names, debris, undecided }))
        }
        .boxed()
        .shared();
        let task = tokio::spawn(pending.clone().map(drop).in_current_span());
        let below = below.shared();
        Self { pending, task, below, is_of_vault, is_bounded: is_ahead, is_ahead, is_followed: false }
    }

    /// Whether the listing may still be used, or waited for: a failed one is tried again.
    fn is_of_use(&self, believed: Duration) -> bool {
        match self.pending.peek() {
            None => true,
            Some(Ok(listed)) => listed.complete.elapsed() < believed,
            Some(Err(_)) => false,
        }
    }
}

#[derive(Default)]
struct Inner {
    known: HashMap<RemotePath, Known>,
    walks: Walks,
}

impl Inner {
    /// Returns the listing of a directory, begun if necessary.
    fn known_or_begin(
        &mut self,
        remote: &Arc<dyn Remote>,
        directory: &Directory,
        is_ahead: bool,
    ) -> &mut Known {
        match self.known.entry(directory.path()) {
            Entry::Occupied(known) if known.get().is_of_vault == directory.is_in_vault() => known.into_mut(),
            place => place.insert_entry(Known::begin(remote, directory, is_ahead)).into_mut(),
        }
    }

    /// Drops listings and walks that are of no use any more.
    fn sweep(&mut self, believed: Duration) {
        let old = self.known.extract_if(|_, known| !known.is_of_use(believed));
        let old = old.filter(|(_, known)| known.is_ahead).map(|(directory, _)| directory).collect();
        self.walks.lose(&old);
    }
}

/// All listings that are under way or wait to be used, and the walks that they are made for.
pub(in crate::drive) struct Listings {
    inner: Mutex<Inner>,
    /// Where vaults are unlocked.
    tree: Arc<Tree>,
    /// How long a listing is believed.
    believed: Duration,
    /// Whether anything is listed before it is asked for.
    ahead: bool,
}

impl Listings {
    pub(in crate::drive) fn new(tree: Arc<Tree>, believed: Duration, ahead: bool) -> Self {
        Self { inner: Mutex::default(), tree, believed, ahead }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `directory` is being listed, or was listed and the listing waits to be used.
    pub(super) fn is_under_way(&self, directory: &RemotePath) -> bool {
        self.lock().known.get(directory).is_some_and(|known| known.is_of_use(self.believed))
    }

    /// Returns the finished listing of a directory that waits to be used.
    pub(in crate::drive) fn waiting(&self, directory: &RemotePath) -> Option<Arc<ListedDirectory>> {
        let inner = self.lock();
        let known = inner.known.get(directory).filter(|known| known.is_of_use(self.believed))?;
        known.pending.peek()?.as_ref().ok().cloned()
    }

    /// Lists the directory `inode`, or waits for a listing of it that is under way.
    pub(in crate::drive) async fn list(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        (inode, directory): (Inode, &Directory),
        purpose: Purpose,
    ) -> Result<Arc<ListedDirectory>, DriveError> {
        let mut has_stopped_others = false;
        loop {
            let (pending, is_bounded) = self.take_up(remote, (inode, directory), purpose)?;
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
        let mut inner = self.lock();
        if inner.known.get(directory).is_some_and(|known| known.pending.ptr_eq(pending)) {
            inner.known.remove(directory);
        }
    }

    /// Lists a directory in the background, if it is not being listed already.
    pub(in crate::drive) fn begin(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        at: (Inode, &Directory),
        purpose: Purpose,
    ) -> Result<(), DriveError> {
        if self.ahead {
            // It goes on by itself.
            drop(self.take_up(remote, at, purpose)?);
        }
        Ok(())
    }

    /// Records that a program lists a directory whose names are known: a walk that expects it goes on.
    pub(in crate::drive) fn pass(self: &Arc<Self>, remote: &Arc<dyn Remote>, directory: &Directory) {
        let mut inner = self.lock();
        if let Some((walk, Entered::Next(_))) = inner.walks.enter(&directory.path(), true, false) {
            self.go_on(&mut inner, remote, walk);
        }
    }

    /// Returns the listing of a directory, begun if necessary, and whether it is given up if there are many names.
    fn take_up(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        (inode, directory): (Inode, &Directory),
        purpose: Purpose,
    ) -> Result<(Pending, bool), DriveError> {
        let mut inner = self.lock();
        inner.sweep(self.believed);
        if directory.is_locked() {
            return Err(DriveError::Locked);
        }
        let known = inner.known_or_begin(remote, directory, false);
        known.is_ahead = false;
        let (pending, below, is_bounded) = (known.pending.clone(), known.below.clone(), known.is_bounded);
        if purpose != Purpose::Names && self.ahead {
            let is_followed = std::mem::replace(&mut known.is_followed, true);
            let path = directory.path();
            let lists = purpose == Purpose::List;
            let walk = match inner.walks.enter(&path, lists, pending.peek().is_none()) {
                Some((walk, Entered::Next(step))) => {
                    if !is_followed {
                        self.follow(remote, below, (walk, step));
                    }
                    Some(walk)
                }
                // It is being looked up in again and again.
                None if is_followed => None,
                entered => {
                    let jumps = matches!(entered, Some((_, Entered::Jumps)));
                    let (walk, step) = inner.walks.begin((inode, directory), lists, jumps);
                    self.follow(remote, below, (walk, step));
                    Some(walk)
                }
            };
            if let Some(walk) = walk {
                self.go_on(&mut inner, remote, walk);
            }
        }
        Ok((pending, is_bounded))
    }

    /// Goes on from a directory once the directories in it are known.
    fn follow(self: &Arc<Self>, remote: &Arc<dyn Remote>, below: Below, (walk, step): (u64, Step)) {
        let (listings, remote) = (Arc::clone(self), Arc::clone(remote));
        tokio::spawn(async move {
            let Ok(below) = below.await else { return };
            // The program goes on into a vault, not into its encrypted files.
            let vaults = listings.tree.lock().unlocked_roots();
            let below = below.iter().map(|(name, directory)| match directory {
                Directory::Plain(path) => (name, vaults.get(path).unwrap_or(directory)),
                Directory::Vault(_) => (name, directory),
            });
            let mut inner = listings.lock();
            if let Some(walk) = inner.walks.get(walk) {
                walk.meet(&step, below);
            }
            listings.go_on(&mut inner, &remote, walk);
        });
    }

    /// Lists ahead what comes next in a walk.
    fn go_on(self: &Arc<Self>, inner: &mut Inner, remote: &Arc<dyn Remote>, number: u64) {
        if remote.is_filled() {
            return;
        }
        let Some(walk) = inner.walks.get(number) else { return };
        for step in walk.begin_next(self.believed) {
            // A walk through a vault ends when the vault is locked: its names have to be gone, and must not be found
            // when it is unlocked again.
            if step.directory.is_locked() {
                return;
            }
            let known = inner.known_or_begin(remote, &step.directory, true);
            if !std::mem::replace(&mut known.is_followed, true) {
                self.follow(remote, known.below.clone(), (number, step));
            }
        }
    }

    /// Forgets the listing of a directory: this mount changed something in it.
    pub(in crate::drive) fn forget(&self, directory: &RemotePath) {
        self.lock().known.remove(directory);
    }

    /// Cancels the listings that are under way ahead: half of a listing takes memory, too.
    async fn stop_guesses(&self) {
        let guesses: Vec<Known> =
            self.lock().known.extract_if(|_, known| known.is_ahead).map(|(_, known)| known).collect();
        for Known { pending, task, .. } in guesses {
            drop(pending);
            task.abort();
            // The task was cancelled, or has ended.
            let _ = task.await;
        }
    }

    /// Drops prefetched listings that nobody asked for yet: names that somebody asks for need the memory.
    pub(in crate::drive) fn let_go(&self) {
        self.lock().known.retain(|_, known| !known.is_ahead || known.pending.peek().is_none());
    }

    /// Forgets everything: places were moved, or a vault was locked.
    pub(in crate::drive) fn clear(&self) {
        let mut inner = self.lock();
        inner.known.clear();
        inner.walks.clear();
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
        let listings = Arc::new(Listings::new(Arc::new(Tree::new()), Duration::from_secs(3600), true));
        let root = Directory::Plain(RemotePath::root());
        let first = listings.list(&remote, (Inode::ROOT, &root), Purpose::Names);
        let meanwhile = async {
            tokio::time::sleep(round_trip / 2).await;
            // This mount makes a name, and somebody asks for all names.
            listings.forget(&root.path());
            listings.begin(&remote, (Inode::ROOT, &root), Purpose::Names).unwrap();
        };
        futures::join!(first, meanwhile).0.map(drop).unwrap();
        listings.list(&remote, (Inode::ROOT, &root), Purpose::Names).await.map(drop).unwrap();
        assert_eq!(memory.count(MessageKind::List), 2, "the newer listing is asked for again");
    }
}

//! Listings under way, and listings ahead of whoever walks a tree.
//!
//! A directory is listed once however many ask for it at a time. When a program lists a directory, what lies in it is listed ahead: first
//! only the directories directly in it; when one of those is used, whole levels more. So a walk of a tree takes a few round trips for each
//! level, and a look at one directory costs little.
//!
//! What was listed ahead is kept here, by the directory's place on the server, until it is used, too old, or changed by this
//! mount.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::error::DriveError;
use super::found::{Directory, Found};
use crate::remote::{Remote, RemoteName, RemotePath};

/// Listings that were made ahead and not used, at most: what a wrong guess costs.
const UNUSED_MAX: usize = 256;

/// A directory's names as the server had them.
pub(super) struct Listed {
    /// When it was asked for.
    pub(super) asked: Instant,
    pub(super) found: Vec<Found>,
    /// What a dead process of ours left there.
    pub(super) debris: Vec<RemoteName>,
}

type Pending = Shared<BoxFuture<'static, Result<Arc<Listed>, DriveError>>>;

/// One walk through a tree: how far ahead it goes.
#[derive(Default)]
pub(super) struct Walk {
    /// Levels below its first directory that are listed ahead.
    depth: AtomicUsize,
    unused: AtomicUsize,
    /// Directories that are still too deep, with their levels.
    beyond: Mutex<Vec<(Directory, usize)>>,
}

/// Where in a walk a directory was listed.
#[derive(Clone)]
pub(super) struct Step {
    walk: Arc<Walk>,
    level: usize,
}

struct Known {
    pending: Pending,
    began: Instant,
    /// The walk that it was listed ahead for; `None` once somebody asked for it.
    ahead: Option<Step>,
}

impl Known {
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

    /// Lists a directory, or waits for whoever does already. Answers where that stands in a walk.
    pub(super) async fn list(
        &self,
        remote: &Arc<dyn Remote>,
        directory: &Directory,
    ) -> Result<(Arc<Listed>, Step), DriveError> {
        let path = directory.path();
        let (pending, step) = {
            let mut known = self.lock();
            if directory.is_locked() {
                return Err(DriveError::Locked);
            }
            known.retain(|_, known| {
                let keep = known.is_of_use(self.believed) || known.pending.peek().is_none();
                if !keep && let Some(step) = &known.ahead {
                    step.walk.unused.fetch_sub(1, Ordering::Relaxed);
                }
                keep
            });
            let entry = known.entry(path.clone()).or_insert_with(|| Known {
                pending: begin(remote, directory),
                began: Instant::now(),
                ahead: None,
            });
            let step = match entry.ahead.take() {
                Some(step) => {
                    step.walk.unused.fetch_sub(1, Ordering::Relaxed);
                    // The walk was guessed right: it may go further ahead.
                    step.walk.depth.fetch_max(step.level * 2 + 1, Ordering::Relaxed);
                    step
                }
                None => {
                    Step { walk: Arc::new(Walk { depth: AtomicUsize::new(1), ..Walk::default() }), level: 0 }
                }
            };
            (entry.pending.clone(), step)
        };
        let listed = pending.await;
        self.lock().remove(&path);
        Ok((listed?, step))
    }

    /// Lists one directory in the background.
    pub(super) fn begin(self: &Arc<Self>, remote: &Arc<dyn Remote>, directory: &Directory) {
        // A walk of its own, which goes no further.
        let step = Step { walk: Arc::default(), level: 0 };
        self.begin_ahead(remote, directory.clone(), step);
    }

    fn begin_ahead(self: &Arc<Self>, remote: &Arc<dyn Remote>, directory: Directory, step: Step) {
        if !self.ahead {
            return;
        }
        let path = directory.path();
        let pending = {
            let mut known = self.lock();
            // A walk through a vault ends when the vault is locked: its names are to be gone, and not to be found when it is unlocked again.
            if known.contains_key(&path) || directory.is_locked() {
                return;
            }
            let pending = begin(remote, &directory);
            let ahead = Some(step.clone());
            known.insert(path, Known { pending: pending.clone(), began: Instant::now(), ahead });
            pending
        };
        step.walk.unused.fetch_add(1, Ordering::Relaxed);
        let (listings, remote) = (Arc::clone(self), Arc::clone(remote));
        tokio::spawn(async move {
            if let Ok(listed) = pending.await
                && step.level > 0
            {
                listings.go_ahead(&remote, &step, directories_in(&directory, &listed.found));
            }
        });
    }

    /// Lists ahead what lies in a directory that was listed, as far as its walk goes.
    pub(super) fn go_ahead(
        self: &Arc<Self>,
        remote: &Arc<dyn Remote>,
        step: &Step,
        children: Vec<Directory>,
    ) {
        let walk = &step.walk;
        let ready: Vec<(Directory, usize)> = {
            let mut beyond = walk.beyond.lock().unwrap_or_else(PoisonError::into_inner);
            beyond.extend(children.into_iter().map(|child| (child, step.level + 1)));
            let depth = walk.depth.load(Ordering::Relaxed);
            let (ready, rest) =
                std::mem::take(&mut *beyond).into_iter().partition(|(_, level)| *level <= depth);
            *beyond = rest;
            ready
        };
        for (directory, level) in ready {
            if walk.unused.load(Ordering::Relaxed) >= UNUSED_MAX {
                return;
            }
            self.begin_ahead(remote, directory, Step { walk: Arc::clone(walk), level });
        }
    }

    /// This mount changed something in a directory: what was listed ahead of that is not true any more.
    pub(super) fn forget(&self, directory: &RemotePath) {
        if let Some(Known { ahead: Some(step), .. }) = self.lock().remove(directory) {
            step.walk.unused.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets everything: places were moved, or a vault was locked.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

/// Begins to list a directory. It goes on even if whoever asked goes away: half a listing would keep its place on the lane.
fn begin(remote: &Arc<dyn Remote>, directory: &Directory) -> Pending {
    let (remote, directory, asked) = (Arc::clone(remote), directory.clone(), Instant::now());
    let pending = async move {
        let (found, debris) = directory.list(remote.as_ref()).await?;
        Ok(Arc::new(Listed { asked, found, debris }))
    }
    .boxed()
    .shared();
    tokio::spawn(pending.clone());
    pending
}

/// The directories among what was found in `directory`.
pub(super) fn directories_in(directory: &Directory, found: &[Found]) -> Vec<Directory> {
    found.iter().filter_map(|found| directory.child(found)).collect()
}

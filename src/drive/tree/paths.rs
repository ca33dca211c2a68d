//! The paths of the server that are in use, and the directories that are being moved.
//!
//! The path of a plain directory is part of the path of everything below it, so no task may work with such a path while
//! the directory is moved. A task that works with the path of a node [holds](Paths::hold) that node. A task that moves
//! a directory [holds it as moving](Paths::hold_moving): that waits until nobody else holds anything at or below it,
//! and a task that wants to hold something there meanwhile waits for the move. Everything else goes on, and so does
//! everything that needs no path.
//!
//! An operation takes all its holds at once, before any other lock, and takes no second one while it has one: a move
//! could wait between the two. A move that waits for another one has announced nothing yet, so two moves never wait for
//! each other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use scaup_fuse::filesystem::Inode;
use tokio::sync::Notify;

use super::Tree;

/// All holds of a drive.
#[derive(Default)]
pub(in crate::drive) struct Paths {
    holds: Mutex<Holds>,
    /// Notified when a hold has ended. Only moves are waited for, and only moves wait.
    ended: Notify,
}

#[derive(Default)]
struct Holds {
    next: u64,
    held: BTreeMap<u64, Vec<Inode>>,
    /// The directories that are being moved, or will be as soon as nobody holds anything below them.
    moving: BTreeMap<u64, Vec<Inode>>,
}

/// The right to work with some paths, until it is dropped.
pub(in crate::drive) struct PathHold<'a> {
    paths: &'a Paths,
    number: u64,
}

impl Drop for PathHold<'_> {
    fn drop(&mut self) {
        let mut holds = self.paths.lock();
        holds.held.remove(&self.number);
        let is_waited_for = !holds.moving.is_empty();
        holds.moving.remove(&self.number);
        drop(holds);
        if is_waited_for {
            self.paths.ended.notify_waiters();
        }
    }
}

impl Paths {
    fn lock(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until none of `inodes` lies in a directory that is being moved, and prevents such moves until dropped.
    pub(in crate::drive) async fn hold(&self, tree: &Tree, inodes: impl Into<Vec<Inode>>) -> PathHold<'_> {
        self.begin(tree, &inodes.into(), &[]).await
    }

    /// Like [`Self::hold`], and waits until nobody else holds anything at or below the directories in `moved`.
    pub(in crate::drive) async fn hold_moving(
        &self,
        tree: &Tree,
        inodes: impl Into<Vec<Inode>>,
        moved: &[Inode],
    ) -> PathHold<'_> {
        let hold = self.begin(tree, &inodes.into(), moved).await;
        loop {
            let ended = self.ended.notified();
            if !self.has_other_below(tree, hold.number, moved) {
                return hold;
            }
            ended.await;
        }
    }

    async fn begin(&self, tree: &Tree, inodes: &[Inode], moved: &[Inode]) -> PathHold<'_> {
        loop {
            // Created before the attempt, so no end is missed.
            let ended = self.ended.notified();
            if let Some(hold) = self.try_begin(tree, inodes, moved) {
                return hold;
            }
            ended.await;
        }
    }

    fn try_begin(&self, tree: &Tree, inodes: &[Inode], moved: &[Inode]) -> Option<PathHold<'_>> {
        let mut holds = self.lock();
        if !holds.moving.is_empty() {
            let nodes = tree.lock();
            let mut ways = inodes.iter().chain(moved).flat_map(|&inode| nodes.above(inode));
            if ways.any(|at| holds.moving.values().flatten().any(|&moving| moving == at)) {
                return None;
            }
        }
        let number = holds.next;
        holds.next += 1;
        holds.held.insert(number, inodes.to_vec());
        if !moved.is_empty() {
            holds.moving.insert(number, moved.to_vec());
        }
        Some(PathHold { paths: self, number })
    }

    /// Whether anybody but `own` holds something at or below the directories in `moved`, as the tree is now: files that
    /// are renamed meanwhile may enter or leave.
    fn has_other_below(&self, tree: &Tree, own: u64, moved: &[Inode]) -> bool {
        let holds = self.lock();
        let nodes = tree.lock();
        let mut others = holds.held.iter().filter(|&(&number, _)| number != own).flat_map(|(_, held)| held);
        others.any(|&held| nodes.above(held).iter().any(|at| moved.contains(at)))
    }

    /// Whether a directory is being moved.
    pub(in crate::drive) fn is_moving(&self, inode: Inode) -> bool {
        self.lock().moving.values().flatten().any(|&moving| moving == inode)
    }
}

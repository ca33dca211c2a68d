//! A walk: a program goes through a tree, one directory after the other, and is expected to go on.
//!
//! A program enters a directory when it lists it or looks up names in it. The directories that a walk has met and the
//! program has not entered are *coming*, in the order in which it is expected to enter them: those below the directory
//! that it entered last before those beside it, and those of one parent by name, until the program is seen to do
//! otherwise. The first of them, as many as the *window* holds, are listed ahead.
//!
//! The window grows by [`GROWTH`] with each directory that the program enters in its turn, so it is four times as large
//! each time that the program has passed it; where a program jumps to somewhere else, it begins a walk of its own.
//! Directories that a program passes over come last. A program that works long in each directory gets a window that it
//! passes in half the time for which a listing is kept.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use scaup_fuse::filesystem::Inode;
use tokio::time::Instant;

use super::streak::Order;
use crate::drive::places::directory::Directory;
use crate::drive::tree::numbers;
use crate::remote::RemotePath;

/// By how much the window grows with each right guess.
const GROWTH: usize = 3;
/// The largest window.
const WINDOW_MAX: usize = 256;
/// How many directories may be passed over without being passed for good: several threads walk side by side, and
/// programs sort as their language does.
const TOLERANCE: usize = 4;
/// Most directories that a walk remembers: the others are listed when the program enters them.
const COMING_MAX: usize = 32 * 1024;

/// A directory that a walk has met or entered.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) directory: Directory,
    /// Its path on the server, by which it is known here.
    pub(super) path: RemotePath,
    /// Its inode number.
    number: Inode,
    /// Levels below the directory that the walk began in.
    level: usize,
}

struct Coming {
    step: Step,
    name: OsString,
    parent: Inode,
    /// Whether it was listed ahead, or is being listed.
    is_begun: bool,
}

impl Coming {
    fn rank(&self, order: Order) -> (u64, &OsStr) {
        order.rank(|_| self.step.number, &self.name)
    }
}

/// What a program did that entered a directory of a walk.
pub(super) enum Entered {
    /// It goes on with the walk.
    Next(Step),
    /// It jumps: it begins another walk there, since what lies beside is not its aim.
    Jumps,
    /// It lists a directory, and the walk looks up names, or the other way round: this is another program's walk.
    Differs,
}

/// One walk.
pub(super) struct Walk {
    coming: VecDeque<Coming>,
    order: Order,
    /// Whether the directories below one come before those beside it.
    is_depth_first: bool,
    /// Whether the program lists directories; else it looks up names.
    lists: bool,
    window: usize,
    /// The level of the directory that the program entered last, and when.
    last: (usize, Instant),
    /// How long the program works in a directory.
    pace: Option<Duration>,
    /// When the program last entered a directory without waiting for the names there.
    served: Option<Instant>,
    /// Directories that were listed ahead, and those of them that the program entered.
    begun: usize,
    right: usize,
}

impl Walk {
    /// Creates the walk of a program that enters a directory which no walk expects, and its first step. `window`
    /// directories are listed ahead at first.
    pub(super) fn new(directory: Directory, number: Inode, lists: bool, window: usize) -> (Self, Step) {
        let step = Step { path: directory.path(), directory, number, level: 0 };
        let walk = Self {
            coming: VecDeque::new(),
            order: Order::Name,
            is_depth_first: true,
            lists,
            window,
            last: (0, Instant::now()),
            pace: None,
            served: None,
            begun: 0,
            right: 0,
        };
        (walk, step)
    }

    /// Returns how long ago the program entered a directory.
    pub(super) fn idle(&self) -> Duration {
        self.last.1.elapsed()
    }

    /// Returns whether what it listed ahead was of use; `None` if it has listed nothing ahead.
    pub(super) fn was_right(&self) -> Option<bool> {
        (self.begun > 0).then_some(self.right > 0)
    }

    /// Records that the program enters a directory; `lists` if it lists it, `has_waited` if it has to wait for the
    /// names there. `None` if the directory is not coming.
    pub(super) fn enter(&mut self, path: &RemotePath, lists: bool, has_waited: bool) -> Option<Entered> {
        let at = self.coming.iter().position(|coming| coming.step.path == *path)?;
        let other_order = self.other_order(at);
        if let Some(passed) = self.coming.front().filter(|_| at > 0).map(|coming| coming.step.level)
            && passed != self.coming[at].step.level
        {
            self.is_depth_first = passed < self.coming[at].step.level;
        }
        let Coming { step, parent, is_begun, .. } = self.coming.remove(at)?;
        self.right += usize::from(is_begun);
        let jumps = at >= TOLERANCE && !is_begun && other_order.is_none();
        if let Some(order) = other_order {
            self.change_order(order, parent);
        } else if at >= TOLERANCE {
            self.coming.rotate_left(at);
        }
        if jumps {
            self.window = 0;
            return Some(Entered::Jumps);
        }
        if lists != self.lists {
            return Some(Entered::Differs);
        }
        // That it goes down does not tell that it will go on beside.
        if step.level <= self.last.0 {
            self.window = (self.window + GROWTH).min(WINDOW_MAX);
        }
        let now = Instant::now();
        if let Some(served) = self.served {
            let took = now.duration_since(served);
            self.pace = Some(self.pace.map_or(took, |pace| (pace + took) / 2));
        }
        // The wait for the server says nothing about the program's pace.
        self.served = (!has_waited).then_some(now);
        self.last = (step.level, now);
        Some(Entered::Next(step))
    }

    /// Adds the directories that were met in that of a step.
    pub(super) fn meet<'a>(
        &mut self,
        above: &Step,
        below: impl Iterator<Item = (&'a OsString, &'a Directory)>,
    ) {
        let room = COMING_MAX.saturating_sub(self.coming.len());
        let mut met: Vec<Coming> = below
            .take(room)
            .map(|(name, directory)| {
                let number = Inode(numbers::first(above.number, name));
                let step = Step {
                    path: directory.path(),
                    directory: directory.clone(),
                    number,
                    level: above.level + 1,
                };
                Coming { step, name: name.clone(), parent: above.number, is_begun: false }
            })
            .collect();
        met.sort_unstable_by(|a, b| a.rank(self.order).cmp(&b.rank(self.order)));
        let at = if self.is_depth_first {
            // Before the program enters it, they come right behind it.
            self.coming.iter().position(|coming| coming.step.path == above.path).map_or(0, |at| at + 1)
        } else {
            self.coming.iter().rposition(|coming| coming.step.level <= above.level + 1).map_or(0, |at| at + 1)
        };
        let behind = self.coming.split_off(at);
        self.coming.extend(met);
        self.coming.extend(behind);
    }

    /// Returns the directories that are to be listed ahead now, for a program that uses a listing within `kept`.
    pub(super) fn begin_next(&mut self, kept: Duration) -> Vec<Step> {
        let timely = self.pace.map_or(WINDOW_MAX, |pace| {
            let passed = (kept / 2).as_nanos().checked_div(pace.as_nanos());
            passed.and_then(|passed| usize::try_from(passed).ok()).unwrap_or(WINDOW_MAX)
        });
        let mut next = Vec::new();
        for coming in self.coming.iter_mut().take(self.window.min(timely)).filter(|coming| !coming.is_begun) {
            coming.is_begun = true;
            next.push(coming.step.clone());
        }
        self.begun += next.len();
        next
    }

    /// Records that directories that were listed ahead were not entered while their listings were of use.
    pub(super) fn lose(&mut self, lost: &HashSet<RemotePath>) {
        let mut lost = self.coming.iter_mut().filter(|coming| lost.contains(&coming.step.path)).peekable();
        if lost.peek().is_some() {
            self.window /= 2;
        }
        lost.for_each(|coming| coming.is_begun = false);
    }

    /// Returns the order that the program turns out to have if it goes to the directory at a position: the one in which
    /// that goes before its neighbours.
    fn other_order(&self, at: usize) -> Option<Order> {
        let to = &self.coming[at];
        let is_beside = |coming: &&Coming| coming.parent == to.parent;
        self.coming.front().filter(|_| at > 0).filter(is_beside)?;
        Order::ALL.into_iter().find(|&order| {
            self.coming.iter().filter(is_beside).all(|coming| coming.rank(order) >= to.rank(order))
        })
    }

    /// Has the directories of one parent come in another order, and then all others.
    fn change_order(&mut self, order: Order, parent: Inode) {
        self.order = order;
        let (mut beside, others): (Vec<Coming>, Vec<Coming>) =
            self.coming.drain(..).partition(|coming| coming.parent == parent);
        beside.sort_unstable_by(|a, b| a.rank(order).cmp(&b.rank(order)));
        self.coming.extend(beside.into_iter().chain(others));
    }
}

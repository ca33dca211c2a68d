//! All walks that are followed, and what is learnt from those that end.

use std::collections::HashSet;
use std::time::Duration;

use scaup_fuse::filesystem::Inode;

use super::walk::{Entered, Step, Walk};
use crate::drive::places::directory::Directory;
use crate::remote::RemotePath;

/// How many walks are followed at a time, and for how long after their last step.
const WALKS_MAX: usize = 8;
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How many directories a new walk lists ahead, fewer after walks in which none of them was of use, and fewer if it
/// begins where the program jumped to. A walk that begins with names that are looked up lists none at first: what lies
/// below may be large, and such a program mostly has an aim.
const WINDOW_FIRST: usize = 8;
const WINDOW_JUMPED: usize = 3;

/// All walks that are followed.
#[derive(Default)]
pub(super) struct Walks {
    /// Each with its number; the one that last made a step is the last.
    followed: Vec<(u64, Walk)>,
    /// The numbers are never used again, so that a listing that was begun for a walk does not go to another one.
    last: u64,
    /// By how many powers of two the first window of a new walk is smaller.
    doubt: u32,
}

impl Walks {
    /// Returns a walk that is still followed.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut Walk> {
        self.followed.iter_mut().find(|(other, _)| *other == number).map(|(_, walk)| walk)
    }

    /// Records that a program enters a directory; `lists` if it lists it, `has_waited` if it has to wait for the names
    /// there. Returns the walk in which the directory was coming, if any, and whether the program goes on with that.
    pub(super) fn enter(
        &mut self,
        directory: &RemotePath,
        lists: bool,
        has_waited: bool,
    ) -> Option<(u64, Entered)> {
        let mut walks = self.followed.iter_mut().enumerate().rev();
        let (at, entered) =
            walks.find_map(|(at, (_, walk))| Some((at, walk.enter(directory, lists, has_waited)?)))?;
        self.followed[at..].rotate_left(1);
        self.followed.last().map(|(walk, _)| (*walk, entered))
    }

    /// Begins the walk of a program that enters the directory `inode`; `jumps` if another walk expected it elsewhere.
    /// Returns the walk, and its first step.
    pub(super) fn begin(
        &mut self,
        (inode, directory): (Inode, &Directory),
        lists: bool,
        jumps: bool,
    ) -> (u64, Step) {
        if self.followed.len() >= WALKS_MAX {
            self.end_first();
        }
        let window = match (lists, jumps) {
            (false, _) => 0,
            (true, true) => WINDOW_JUMPED >> self.doubt,
            (true, false) => WINDOW_FIRST >> self.doubt,
        };
        let (walk, step) = Walk::new(directory.clone(), inode, lists, window);
        self.last += 1;
        self.followed.push((self.last, walk));
        (self.last, step)
    }

    /// Records that directories that were listed ahead were not entered while their listings were of use, and ends
    /// the walks that made no step for long.
    pub(super) fn lose(&mut self, lost: &HashSet<RemotePath>) {
        if !lost.is_empty() {
            self.followed.iter_mut().for_each(|(_, walk)| walk.lose(lost));
        }
        while self.followed.first().is_some_and(|(_, walk)| walk.idle() > PAUSE_MAX) {
            self.end_first();
        }
    }

    /// Forgets all walks: places were moved, or a vault was locked.
    pub(super) fn clear(&mut self) {
        self.followed.clear();
    }

    /// Ends the walk that made no step for the longest time, and learns from it.
    fn end_first(&mut self) {
        let (_, walk) = self.followed.remove(0);
        match walk.was_right() {
            Some(true) => self.doubt = self.doubt.saturating_sub(1),
            Some(false) => self.doubt = (self.doubt + 1).min(WINDOW_FIRST.ilog2()),
            None => {}
        }
    }
}

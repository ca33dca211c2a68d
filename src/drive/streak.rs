//! Programs that open the files of a directory or of a tree one after the other, and what they open next.
//!
//! `cat *`, `tar`, `grep -r` and git go by name, `cp -r` by inode number. Whoever opened two files that follow each other in one of these
//! orders will open the others too; and whoever then opens the first file of another directory goes through a whole tree.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use scaup_fuse::filesystem::Inode;

use super::found::{Directory, Found};
use crate::remote::RemoteKind;

/// Files that may be left out, or come in another order, without ending a streak: several threads open side by side.
const TOLERANCE: usize = 3;
/// Files that may be left out where a streak begins: in a small directory chance brings neighbours together.
const TOLERANCE_FIRST: usize = 2;

/// How many files are opened ahead when a streak is noticed; twice as many after each one that was guessed right.
const WINDOW_FIRST: usize = 4;
/// How many at most.
pub(super) const WINDOW_MAX: usize = 64;

/// One name in a directory: the file or directory that a program may open there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) parent: Inode,
    pub(super) name: OsString,
}

/// In which order a program goes through a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As directories are listed here, and as shells sort.
    Name,
    /// As programs sort that expect to spare a disk some way.
    Number,
}

impl Order {
    pub(super) const ALL: [Self; 2] = [Self::Name, Self::Number];

    fn rank(self, number: impl Fn(&OsStr) -> Inode, name: &OsStr) -> (u64, &OsStr) {
        match self {
            Self::Name => (0, name),
            Self::Number => (number(name).0, name),
        }
    }

    /// Whether `name` is one of the next files after `last`, or of the first ones if there is no `last`.
    pub(super) fn is_next(
        self,
        names: &HashMap<OsString, Found>,
        number: impl Fn(&OsStr) -> Inode,
        last: Option<&OsStr>,
        name: &OsStr,
    ) -> bool {
        let from = last.map(|last| self.rank(&number, last));
        let to = self.rank(&number, name);
        if from >= Some(to) {
            return false;
        }
        let between = names.values().filter(|found| {
            let rank = self.rank(&number, &found.name);
            found.attributes.kind == RemoteKind::File && from < Some(rank) && rank < to
        });
        let tolerance = match self {
            Self::Name => TOLERANCE_FIRST,
            Self::Number => 0,
        };
        between.take(tolerance + 1).count() <= tolerance
    }
}

/// A directory that a program goes through, and how far it has come.
pub(super) struct Level {
    pub(super) inode: Inode,
    pub(super) directory: Directory,
    /// When its names were asked for.
    pub(super) asked: Instant,
    found: Vec<Found>,
    next: usize,
}

impl Level {
    /// The directory from its first name on.
    pub(super) fn new(
        inode: Inode,
        directory: Directory,
        asked: Instant,
        names: impl Iterator<Item = Found>,
        order: Order,
        number: impl Fn(&OsStr) -> Inode,
    ) -> Self {
        let mut found: Vec<Found> = names.collect();
        match order {
            Order::Name => found.sort_unstable_by(|a, b| a.name.cmp(&b.name)),
            Order::Number => found.sort_by_cached_key(|found| number(&found.name)),
        }
        Self { inode, directory, asked, found, next: 0 }
    }

    /// Goes on behind `name`.
    pub(super) fn go_behind(&mut self, name: &OsStr) {
        if let Some(at) = self.found.iter().position(|found| found.name == name) {
            self.next = at + 1;
        }
    }

    /// Whether `name` is about where one has come.
    fn is_near(&self, name: &OsStr) -> bool {
        let from = self.next.saturating_sub(TOLERANCE + 1);
        self.found.iter().skip(from).take(2 * (TOLERANCE + 1)).any(|found| found.name == name)
    }
}

/// One program's way through a directory or a tree.
pub(super) struct Streak {
    pub(super) order: Order,
    /// The directories it is in, each in the one before.
    levels: Vec<Level>,
    /// Whether it goes into the directories that it meets.
    descends: bool,
    /// What was opened ahead for it.
    coming: VecDeque<Key>,
    /// Files it opened that it was guessed to.
    hits: u32,
    /// How long it works on a file.
    pace: Option<Duration>,
    /// When it last had a file without waiting.
    served: Option<Instant>,
    last: (Inode, Instant),
}

impl Streak {
    pub(super) fn new(order: Order, levels: Vec<Level>, descends: bool, at: Inode) -> Self {
        Self {
            order,
            levels,
            descends,
            coming: VecDeque::new(),
            hits: 0,
            pace: None,
            served: None,
            last: (at, Instant::now()),
        }
    }

    /// The directory in which it last opened a file, and when.
    pub(super) fn last(&self) -> (Inode, Instant) {
        self.last
    }

    /// The uppermost directory it was seen in.
    pub(super) fn top(&self) -> Inode {
        self.levels.first().map_or(self.last.0, |level| level.inode)
    }

    /// Whether it goes through that directory at present.
    pub(super) fn is_in(&self, directory: Inode) -> bool {
        self.last.0 == directory || self.levels.iter().any(|level| level.inode == directory)
    }

    /// Whether it is this one that opens `key` now; `waits` if the file is not here yet. Then it is known to go on.
    pub(super) fn continues_with(&mut self, key: &Key, waits: bool) -> bool {
        if let Some(at) = self.coming.iter().position(|coming| coming == key) {
            self.coming.remove(at);
            self.hits = self.hits.saturating_add(1);
        } else {
            let near = |level: &Level| level.inode == key.parent && level.is_near(&key.name);
            let Some(at) = self.levels.iter().position(near) else { return false };
            self.levels.truncate(at + 1);
            if let Some(level) = self.levels.last_mut() {
                level.go_behind(&key.name);
            }
        }
        let now = Instant::now();
        self.last = (key.parent, now);
        if let Some(before) = self.served {
            let took = now.duration_since(before);
            self.pace = Some(self.pace.map_or(took, |pace| (pace + took) / 2));
        }
        // How long it waited for the server says nothing of its pace.
        self.served = (!waits).then_some(now);
        true
    }

    /// How many more files to open ahead, of which each is of use for `life`. `is_here` tells what of those that were is left.
    pub(super) fn wanted(&mut self, life: Duration, is_here: impl Fn(&Key) -> bool) -> usize {
        self.coming.retain(is_here);
        let ramp = WINDOW_FIRST << self.hits.min(8);
        // What it will not open in time would be opened in vain.
        let timely = self.pace.map_or(WINDOW_MAX as u128, |pace| {
            (life / 2).as_nanos().checked_div(pace.as_nanos()).unwrap_or(WINDOW_MAX as u128)
        });
        let window = ramp.min(WINDOW_MAX).min(usize::try_from(timely).unwrap_or(WINDOW_MAX));
        window.saturating_sub(self.coming.len())
    }

    /// The next file on its way, and the directory it lies in. `enter` makes a level of a directory that is met, if its names are known.
    pub(super) fn next(
        &mut self,
        believed: Duration,
        mut enter: impl FnMut(Order, &Level, &Found) -> Option<Level>,
    ) -> Option<(&Level, &Found)> {
        loop {
            let descends = self.descends;
            let level = self.levels.last_mut()?;
            if level.asked.elapsed() >= believed {
                return None;
            }
            let Some(found) = level.found.get(level.next) else {
                if self.levels.len() == 1 {
                    return None;
                }
                self.levels.pop();
                continue;
            };
            level.next += 1;
            match found.attributes.kind {
                RemoteKind::File => break,
                RemoteKind::Directory if descends => {
                    let entered = enter(self.order, level, found);
                    self.levels.extend(entered);
                }
                _ => {}
            }
        }
        let level = self.levels.last()?;
        Some((level, level.found.get(level.next.checked_sub(1)?)?))
    }

    /// There is no room for the file that [`Self::next`] answered: it comes again.
    pub(super) fn put_back(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.next = level.next.saturating_sub(1);
        }
    }

    /// A file was opened ahead for it.
    pub(super) fn note_coming(&mut self, key: Key) {
        self.coming.push_back(key);
    }
}

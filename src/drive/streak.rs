//! Programs that open the files of a directory or of a tree one after the other, and what they open next.
//!
//! `cat *`, `tar`, `grep -r` and git go by name, `cp -r` by inode number. Whoever opened two files that follow each other in one of these
//! orders will open the others too, and whoever opens the very first one may; who then opens the first file of another directory goes through
//! a whole tree.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use scaup_fuse::filesystem::Inode;

use super::found::{Directory, Found};
use super::names::Names;
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
        names: &Names,
        number: impl Fn(&OsStr) -> Inode,
        last: Option<&OsStr>,
        name: &OsStr,
    ) -> bool {
        let from = last.map(|last| self.rank(&number, last));
        let to = self.rank(&number, name);
        if from >= Some(to) {
            return false;
        }
        let between = names.kinds().filter(|&(name, kind)| {
            let rank = self.rank(&number, name);
            kind == RemoteKind::File && from < Some(rank) && rank < to
        });
        let tolerance = match self {
            Self::Name => TOLERANCE_FIRST,
            Self::Number => 0,
        };
        between.take(tolerance + 1).count() <= tolerance
    }
}

/// Whether `name` is the first file of a directory, by name.
pub(super) fn is_first(names: &Names, name: &OsStr) -> bool {
    !names.kinds().any(|(other, kind)| kind == RemoteKind::File && other < name)
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
    /// A program's way through the directory `at`.
    pub(super) fn new(order: Order, level: Level, at: Inode) -> Self {
        Self::with(order, vec![level], false, 0, at)
    }

    /// The same program's way on through a tree. In a directory `beside` the last one it goes on as it was guessed to.
    pub(super) fn descending(&self, levels: Vec<Level>, at: Inode, beside: bool) -> Self {
        Self::with(self.order, levels, true, if beside { self.hits } else { 0 }, at)
    }

    fn with(order: Order, levels: Vec<Level>, descends: bool, hits: u32, at: Inode) -> Self {
        Self {
            order,
            levels,
            descends,
            coming: VecDeque::new(),
            hits,
            pace: None,
            served: None,
            last: (at, Instant::now()),
        }
    }

    /// The directory in which it last opened a file, and when.
    pub(super) fn last(&self) -> (Inode, Instant) {
        self.last
    }

    /// Whether it was guessed right often enough not to be chance.
    pub(super) fn is_sure(&self) -> bool {
        self.hits as usize >= WINDOW_FIRST
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::found::Place;
    use super::*;
    use crate::remote::{NamesBudget, RemoteAttributes, RemotePath};

    const HERE: Inode = Inode(7);
    const LIFE: Duration = Duration::from_secs(1);

    fn found(name: &str, kind: RemoteKind) -> Found {
        Found { name: name.into(), attributes: RemoteAttributes::new(kind, 0o644), place: Place::Plain }
    }

    /// `00` to `99`, and a directory between each two of them.
    fn names() -> Names {
        (0..100)
            .flat_map(|number| {
                let directory = found(&format!("{number:02} directory"), RemoteKind::Directory);
                [found(&format!("{number:02}"), RemoteKind::File), directory]
            })
            .fold(Names::none(&NamesBudget::default()), |mut names, found| {
                names.insert(found);
                names
            })
    }

    /// Numbers that run against the names.
    fn number(name: &OsStr) -> Inode {
        Inode(1000 - name.to_str().unwrap()[..2].parse::<u64>().unwrap())
    }

    fn key(name: &str) -> Key {
        Key { parent: HERE, name: name.into() }
    }

    fn streak() -> Streak {
        let directory = Directory::Plain(RemotePath::root());
        let mut level = Level::new(HERE, directory, Instant::now(), names().found(), Order::Name, number);
        level.go_behind(OsStr::new("01"));
        Streak::new(Order::Name, level, HERE)
    }

    fn next(streak: &mut Streak) -> Option<String> {
        let (_, found) = streak.next(LIFE, |_, _, _| None)?;
        let name = found.name.to_str().unwrap().to_owned();
        streak.note_coming(key(&name));
        Some(name)
    }

    #[test]
    fn neighbours_are_told_from_others_in_either_order() {
        let names = names();
        let is_next = |order: Order, last: &str, name: &str| {
            order.is_next(&names, number, Some(OsStr::new(last)), OsStr::new(name))
        };
        assert!(is_next(Order::Name, "10", "11") && is_next(Order::Name, "10", "13"));
        assert!(!is_next(Order::Name, "10", "14") && !is_next(Order::Name, "11", "10"));
        assert!(!is_next(Order::Name, "10", "10"));
        assert!(is_next(Order::Number, "11", "10") && !is_next(Order::Number, "12", "10"));
        assert!(Order::Name.is_next(&names, number, None, OsStr::new("00")));
        assert!(!Order::Name.is_next(&names, number, None, OsStr::new("10")));
    }

    #[test]
    fn the_files_behind_come_once_each_and_more_of_them_with_every_right_guess() {
        let mut streak = streak();
        let mut expected = 2;
        for hits in 0..8 {
            for _ in 0..streak.wanted(LIFE, |_| true) {
                assert_eq!(next(&mut streak).unwrap(), format!("{expected:02}"));
                expected += 1;
            }
            assert!(expected - 2 <= hits + WINDOW_MAX, "{expected}");
            assert!(streak.continues_with(&key(&format!("{:02}", hits + 2)), true));
        }
        assert!(expected >= 2 + WINDOW_MAX);
    }

    #[test]
    fn what_has_no_room_comes_again_and_what_is_elsewhere_is_another_streak() {
        let mut streak = streak();
        assert_eq!(streak.next(LIFE, |_, _, _| None).unwrap().1.name, "02");
        streak.put_back();
        assert_eq!(next(&mut streak).unwrap(), "02");
        assert!(!streak.continues_with(&key("60"), true));
        assert!(streak.continues_with(&key("04"), true), "one was left out");
        assert_eq!(next(&mut streak).unwrap(), "05");
    }

    #[test]
    fn a_slow_program_is_not_run_away_from() {
        let mut streak = streak();
        for number in 2..10 {
            while streak.wanted(LIFE, |_| true) > 0 && next(&mut streak).is_some() {}
            assert!(streak.continues_with(&key(&format!("{number:02}")), false));
            // As if it had worked on the file for so long.
            streak.served = streak.served.and_then(|served| served.checked_sub(Duration::from_millis(200)));
        }
        streak.coming.clear();
        assert!(streak.wanted(LIFE, |_| true) <= 2);
    }
}

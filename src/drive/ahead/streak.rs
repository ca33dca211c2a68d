//! Detects programs that open the files of a directory or tree one after the other, and predicts the next files.
//!
//! `cat *`, `tar`, `grep -r` and git go by name, `cp -r` by inode number. A program that opened two files that follow
//! each other in one of these orders will open the others too, and one that opens the very first file may; if it then
//! opens the first file of another directory, it reads a whole tree.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use scaup_fuse::filesystem::Inode;

use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::listed_names::Names;
use crate::drive::places::place::Found;
use crate::remote::RemoteKind;

/// Files that may be skipped, or come in another order, without ending a streak: several threads open side by side.
const TOLERANCE: usize = 3;
/// Files that may be skipped where a streak begins: in a small directory chance brings neighbours together.
const TOLERANCE_FIRST: usize = 2;

/// How many files are opened ahead when a streak is detected; twice as many after each correct guess.
const WINDOW_FIRST: usize = 4;
/// Most files that are opened ahead.
pub(super) const WINDOW_MAX: usize = 64;

/// One name in a directory: the file or directory that a program may open there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::drive) struct NameInDirectory {
    pub(in crate::drive) parent: Inode,
    pub(in crate::drive) name: OsString,
}

/// The order in which a program opens the files of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As directories are listed here, and as shells sort.
    Name,
    /// As programs sort that want to save disk seeks.
    Number,
}

impl Order {
    pub(super) const ALL: [Self; 2] = [Self::Name, Self::Number];

    /// Returns by what `name` is sorted; `number` tells its inode number.
    pub(super) fn rank(self, number: impl Fn(&OsStr) -> Inode, name: &OsStr) -> (u64, &OsStr) {
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

/// A directory that a streak is in, and the position there.
pub(super) struct Level {
    pub(super) inode: Inode,
    pub(super) directory: Directory,
    /// When its names were asked for.
    pub(super) asked: Moment,
    found: Vec<Found>,
    next: usize,
}

impl Level {
    /// Creates a level that begins at the directory's first name.
    pub(super) fn new(
        inode: Inode,
        directory: Directory,
        asked: Moment,
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

    /// Moves on behind `name`.
    pub(super) fn go_behind(&mut self, name: &OsStr) {
        if let Some(at) = self.found.iter().position(|found| found.name == name) {
            self.next = at + 1;
        }
    }

    /// Whether `name` is near the present position.
    fn is_near(&self, name: &OsStr) -> bool {
        let from = self.next.saturating_sub(TOLERANCE + 1);
        self.found.iter().skip(from).take(2 * (TOLERANCE + 1)).any(|found| found.name == name)
    }
}

/// The sequence in which one program opens the files of a directory or a tree.
pub(super) struct Streak {
    pub(super) order: Order,
    /// The directories it is in, each inside the one before.
    levels: Vec<Level>,
    /// Whether it enters the directories that it meets.
    descends: bool,
    /// The files that were opened ahead for it.
    coming: VecDeque<NameInDirectory>,
    /// How many opened files were predicted.
    hits: u32,
    /// How long the program works on a file.
    pace: Option<Duration>,
    /// When the program last got a file without waiting.
    served: Option<Moment>,
    last: (Inode, Moment),
}

impl Streak {
    /// Creates the streak of a program in the directory `at`.
    pub(super) fn new(order: Order, level: Level, at: Inode) -> Self {
        Self::with(order, vec![level], false, 0, at)
    }

    /// Creates the continuation of this streak in a tree. In a directory `beside` the last one it keeps its hits.
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
            last: (at, Moment::now()),
        }
    }

    /// Returns the directory in which it last opened a file, and when.
    pub(super) fn last(&self) -> (Inode, Moment) {
        self.last
    }

    /// Whether enough guesses were right that it is not chance.
    pub(super) fn is_sure(&self) -> bool {
        self.hits as usize >= WINDOW_FIRST
    }

    /// Returns the uppermost directory it was seen in.
    pub(super) fn top(&self) -> Inode {
        self.levels.first().map_or(self.last.0, |level| level.inode)
    }

    /// Whether it is in that directory at present.
    pub(super) fn is_in(&self, directory: Inode) -> bool {
        self.last.0 == directory || self.levels.iter().any(|level| level.inode == directory)
    }

    /// Whether this streak opens `key` now; `waits` if the file is not in memory yet. Then the streak continues.
    pub(super) fn continues_with(&mut self, key: &NameInDirectory, waits: bool) -> bool {
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
        let now = Moment::now();
        self.last = (key.parent, now);
        if let Some(before) = self.served {
            let took = before.elapsed();
            self.pace = Some(self.pace.map_or(took, |pace| (pace + took) / 2));
        }
        // The wait for the server says nothing about its pace.
        self.served = (!waits).then_some(now);
        true
    }

    /// Returns how many more files to open ahead, each of them usable for `life`. `is_here` tells which of the files
    /// opened ahead are left.
    pub(super) fn wanted(&mut self, life: Duration, is_here: impl Fn(&NameInDirectory) -> bool) -> usize {
        self.coming.retain(is_here);
        let ramp = WINDOW_FIRST << self.hits.min(8);
        // Files that the program will not open in time would be opened without use.
        let timely = self.pace.map_or(WINDOW_MAX as u128, |pace| {
            (life / 2).as_nanos().checked_div(pace.as_nanos()).unwrap_or(WINDOW_MAX as u128)
        });
        let window = ramp.min(WINDOW_MAX).min(usize::try_from(timely).unwrap_or(WINDOW_MAX));
        window.saturating_sub(self.coming.len())
    }

    /// Returns the next predicted file, and the directory it lies in. `enter` makes a level of a directory that is met,
    /// if its names are known.
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

    /// Puts the file back that [`Self::next`] returned: there is no room for it now.
    pub(super) fn put_back(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.next = level.next.saturating_sub(1);
        }
    }

    /// Adds a file that was opened ahead for it.
    pub(super) fn add_coming(&mut self, key: NameInDirectory) {
        self.coming.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::drive::places::place::Place;
    use crate::remote::{NamesBudget, RemoteAttributes, RemotePath};

    const HERE: Inode = Inode(7);
    const LIFE: Duration = Duration::from_secs(1);

    fn found(name: &str, kind: RemoteKind) -> Found {
        Found { name: name.into(), attributes: RemoteAttributes::new(kind, 0o644), place: Place::Plain }
    }

    /// Returns `00` to `99`, and a directory between each two of them.
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

    /// Returns numbers in the reverse order of the names.
    fn number(name: &OsStr) -> Inode {
        Inode(1000 - name.to_str().unwrap()[..2].parse::<u64>().unwrap())
    }

    fn key(name: &str) -> NameInDirectory {
        NameInDirectory { parent: HERE, name: name.into() }
    }

    fn streak() -> Streak {
        let directory = Directory::Plain(RemotePath::root());
        let mut level = Level::new(HERE, directory, Moment::now(), names().found(), Order::Name, number);
        level.go_behind(OsStr::new("01"));
        Streak::new(Order::Name, level, HERE)
    }

    fn next(streak: &mut Streak) -> Option<String> {
        let (_, found) = streak.next(LIFE, |_, _, _| None)?;
        let name = found.name.to_str().unwrap().to_owned();
        streak.add_coming(key(&name));
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

    #[tokio::test(start_paused = true)]
    async fn a_slow_program_is_not_run_away_from() {
        let mut streak = streak();
        for number in 2..10 {
            while streak.wanted(LIFE, |_| true) > 0 && next(&mut streak).is_some() {}
            assert!(streak.continues_with(&key(&format!("{number:02}")), false));
            // The program works on the file for this long.
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        streak.coming.clear();
        assert!(streak.wanted(LIFE, |_| true) <= 2);
    }
}

//! Opening files ahead of programs that open one file after the other.
//!
//! To open a file and read it takes two round trips, and a program that reads a thousand small files waits for each of
//! them. So when a program is seen to open the files of a directory in order ([`streak`](crate::drive::ahead::streak)),
//! the next files are opened before it asks, the small ones with all their content. This bets that nobody else changes
//! these files in that moment, so a first read is used only within its short life, and not if the file's attributes are
//! newer; a file that does not look as it was listed shows that somebody does, and ends the streak. A file that this
//! mount changes is requested again.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scaup_crypto::CleartextLen;
use scaup_fuse::filesystem::Inode;

use super::streak::{Level, NameInDirectory, Order, Streak, WINDOW_MAX, is_first};
use crate::config::parts::OptionalPart;
use crate::drive::Drive;
use crate::drive::content::first_read::Fetching;
use crate::drive::content::location::Location;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::place::Found;
use crate::drive::tree::Nodes;
use crate::remote::RemotePath;

/// How long a first read may be used: changes by others meanwhile are not seen. The longest time that a slow connection
/// and a busy machine need.
const LIFE_MAX: Duration = Duration::from_secs(1);

/// Most bytes of all first reads that wait: on a slow line more would not arrive in time.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files in larger directories are not opened ahead.
const NAMES_MAX: usize = 10_000;
/// Files in deeper trees are not opened ahead.
const DEPTH_MAX: usize = 32;

/// Streaks and opened files that are remembered.
const STREAKS_MAX: usize = 4;
const OPENED_MAX: usize = 2;
/// How long an opened file may be the beginning of a streak, and a streak may pause before it goes on elsewhere.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A first read that waits to be used.
struct Waiting {
    path: RemotePath,
    /// When the server was asked for the known attributes of the file.
    known: Option<Moment>,
    asked: Moment,
    bytes: u64,
    fetching: Fetching,
}

#[derive(Default)]
struct Inner {
    first_reads: HashMap<NameInDirectory, Waiting>,
    /// The files that were opened last, the latest at the end.
    opened: VecDeque<(NameInDirectory, Moment)>,
    /// The streaks, the latest at the end.
    streaks: VecDeque<Streak>,
    sweeping: bool,
}

/// The files that were opened ahead and wait to be used: few, and not for long.
pub(in crate::drive) struct OpenAhead {
    inner: Mutex<Inner>,
    life: Duration,
    bytes_max: u64,
}

impl OpenAhead {
    /// Creates a table of first reads that are believed as long as attributes, up to a limit, and take up to
    /// `bytes_max`.
    pub(in crate::drive) fn new(believed: Duration, bytes_max: u64) -> Self {
        Self { inner: Mutex::default(), life: believed.min(LIFE_MAX), bytes_max: bytes_max.min(BYTES_MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the first read of a file: this mount changed what has that name.
    pub(in crate::drive) fn forget(&self, parent: Inode, name: &OsStr) {
        self.lock().first_reads.remove(&NameInDirectory { parent, name: name.to_owned() });
    }

    /// Whether a program is opening the files of a directory one after the other.
    pub(in crate::drive) fn is_gone_through(&self, directory: Inode) -> bool {
        self.lock().streaks.iter().any(|streak| streak.last().0 == directory && streak.is_sure())
    }

    /// Forgets a directory's first reads and streaks: others are changing files in it, so none are opened ahead.
    pub(in crate::drive) fn forget_directory(&self, directory: Inode) {
        let mut inner = self.lock();
        inner.first_reads.retain(|key, _| key.parent != directory);
        inner.opened.retain(|(key, _)| key.parent != directory);
        inner.streaks.retain(|streak| !streak.is_in(directory));
    }

    /// Forgets everything: places were moved, or a vault was locked.
    pub(in crate::drive) fn clear(&self) {
        let mut inner = self.lock();
        (inner.first_reads, inner.opened, inner.streaks) = Default::default();
    }

    /// Closes first reads that nobody used in time.
    fn sweep(self: &Arc<Self>) {
        let ahead = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let wait = {
                    let mut inner = ahead.lock();
                    inner.first_reads.retain(|_, first_read| first_read.asked.elapsed() < ahead.life);
                    let Some(oldest) = inner.first_reads.values().map(|first_read| first_read.asked).min()
                    else {
                        inner.sweeping = false;
                        return;
                    };
                    ahead.life.saturating_sub(oldest.elapsed())
                };
                tokio::time::sleep(wait).await;
            }
        });
    }
}

impl Inner {
    /// Returns the first read of a file that is being opened, if it is usable: requested by this `path`, within its
    /// `life`, and if nothing newer is `known` of the file by now.
    fn take(
        &mut self,
        key: &NameInDirectory,
        path: &RemotePath,
        known: Option<Moment>,
        life: Duration,
    ) -> Option<Fetching> {
        let first_read = self.first_reads.remove(key)?;
        let is_of_use =
            first_read.path == *path && first_read.known == known && first_read.asked.elapsed() < life;
        is_of_use.then_some(first_read.fetching)
    }

    fn bytes(&self) -> u64 {
        self.first_reads.values().map(|first_read| first_read.bytes).sum()
    }

    /// Remembers that `key` is opened, and returns the streak that it continues or begins.
    fn continue_or_begin(
        &mut self,
        drive: &Drive,
        nodes: &Nodes<'_>,
        key: &NameInDirectory,
        waits: bool,
    ) -> Option<Streak> {
        self.opened.retain(|(_, at)| at.elapsed() < PAUSE_MAX);
        let known = self.streaks.iter_mut().position(|streak| streak.continues_with(key, waits));
        let streak = match known {
            Some(at) => self.streaks.remove(at),
            None => self.begin(drive, nodes, key),
        };
        self.opened.retain(|(opened, _)| opened != key);
        if self.opened.len() >= OPENED_MAX {
            self.opened.pop_front();
        }
        self.opened.push_back((key.clone(), Moment::now()));
        streak
    }

    /// Returns a new streak that `key` is the second file of, or the first one in a directory.
    fn begin(&self, drive: &Drive, nodes: &Nodes<'_>, key: &NameInDirectory) -> Option<Streak> {
        let (_, names) = nodes.get(key.parent).ok()?.names.listing()?;
        if names.len() > NAMES_MAX {
            return None;
        }
        let number = |name: &OsStr| nodes.number_for(key.parent, name);
        let mut before = self.opened.iter().rev().filter(|(opened, _)| opened.parent == key.parent);
        let order = before.find_map(|(last, _)| {
            Order::ALL.into_iter().find(|order| order.is_next(names, number, Some(&last.name), &key.name))
        });
        let alone = |order| Some(Streak::new(order, drive.level_behind(nodes, key, order)?, key.parent));
        if let Some(order) = order {
            return alone(order);
        }
        let from = self.streaks.iter().rev().find(|streak| {
            let (directory, at) = streak.last();
            directory != key.parent
                && at.elapsed() < PAUSE_MAX
                && streak.order.is_next(names, number, None, &key.name)
        });
        let Some(from) = from else {
            return if is_first(names, &key.name) { alone(Order::Name) } else { None };
        };
        let mut levels = VecDeque::new();
        let (around, top) = (nodes.above(from.last().0), from.top());
        let mut at = key.clone();
        while levels.len() < DEPTH_MAX
            && let Some(level) = drive.level_behind(nodes, &at, from.order)
        {
            levels.push_front(level);
            if at.parent == top || (around.contains(&at.parent) && !nodes.above(top).contains(&at.parent)) {
                break;
            }
            let node = nodes.get(at.parent).ok()?;
            if at.parent == Inode::ROOT {
                break;
            }
            at = NameInDirectory { parent: node.parent(), name: node.name().to_owned() };
        }
        let beside = nodes.get(from.last().0).ok()?.parent() == nodes.get(key.parent).ok()?.parent();
        Some(from.descending(levels.into(), key.parent, beside))
    }
}

impl Drive {
    /// Follows a program that is about to open a file at its `location`. Returns the file's first read if that was
    /// requested ahead and the program only reads, and opens the next files ahead.
    pub(in crate::drive) fn follow_opening(
        &self,
        inode: Inode,
        location: &Location,
        writable: bool,
    ) -> Option<Fetching> {
        let mut nodes = self.tree.lock();
        nodes.record_opening(inode).ok()?;
        let node = nodes.get(inode).ok()?;
        let key = NameInDirectory { parent: node.parent(), name: node.name().to_owned() };
        let life = self.open_ahead.life;
        let mut ahead = self.open_ahead.lock();
        let first_read = ahead.take(&key, &location.file_path(), node.attributes.fetched(), life);
        if writable {
            return None;
        }
        if life.is_zero() || !self.options.has(OptionalPart::OpenAhead) || !self.remote.is_reachable() {
            return first_read;
        }
        let waits = first_read.as_ref().is_none_or(|first_read| !first_read.is_done());
        if let Some(mut streak) = ahead.continue_or_begin(self, &nodes, &key, waits) {
            self.open_next(&nodes, &mut ahead, &mut streak);
            if ahead.streaks.len() >= STREAKS_MAX {
                ahead.streaks.pop_front();
            }
            ahead.streaks.push_back(streak);
        }
        if !ahead.sweeping && !ahead.first_reads.is_empty() {
            ahead.sweeping = true;
            self.open_ahead.sweep();
        }
        first_read
    }

    /// Opens the next files of a streak, as many as are useful and as there is room for.
    fn open_next(&self, nodes: &Nodes<'_>, ahead: &mut Inner, streak: &mut Streak) {
        let life = self.open_ahead.life;
        let wanted = streak.wanted(life, |key| ahead.first_reads.contains_key(key));
        let mut bytes = ahead.bytes();
        for _ in 0..wanted.min(WINDOW_MAX.saturating_sub(ahead.first_reads.len())) {
            let next = streak.next(self.options.attr_timeout, |order, level, found| {
                self.level_below(nodes, level, found, order)
            });
            let Some((level, found)) = next else { return };
            let key = NameInDirectory { parent: level.inode, name: found.name.clone() };
            let Some((location, known)) = unopened(nodes, level, found) else { continue };
            if ahead.first_reads.contains_key(&key) {
                streak.add_coming(key);
                continue;
            }
            let length = location.first_read_ahead_len(CleartextLen(found.attributes.size));
            if bytes + length.0 > self.open_ahead.bytes_max {
                streak.put_back();
                return;
            }
            bytes += length.0;
            let (path, asked) = (location.file_path(), Moment::now());
            let goes_last = self.options.has(OptionalPart::Priorities);
            let fetching = Fetching::begin(Arc::clone(&self.remote), path.clone(), length, goes_last);
            ahead.first_reads.insert(key.clone(), Waiting { path, known, asked, bytes: length.0, fetching });
            streak.add_coming(key);
        }
    }

    /// Returns the directory around `key`, from behind it on; `None` if its names are not known.
    fn level_behind(&self, nodes: &Nodes<'_>, key: &NameInDirectory, order: Order) -> Option<Level> {
        let mut level = self.level(nodes, key.parent, nodes.directory(key.parent).ok()?, order)?;
        level.go_behind(&key.name);
        Some(level)
    }

    /// Returns a directory that was `found` in another one.
    fn level_below(&self, nodes: &Nodes<'_>, above: &Level, found: &Found, order: Order) -> Option<Level> {
        let inode = nodes.number_for(above.inode, &found.name);
        self.level(nodes, inode, above.directory.child(found)?, order)
    }

    fn level(&self, nodes: &Nodes<'_>, inode: Inode, directory: Directory, order: Order) -> Option<Level> {
        let number = |name: &OsStr| nodes.number_for(inode, name);
        let listing = nodes.get(inode).ok().and_then(|node| node.names.listing());
        if let Some((asked, names)) = listing
            && names.len() <= NAMES_MAX
        {
            return Some(Level::new(inode, directory, asked, names.found(), order, number));
        }
        let listed = self.listings.waiting(&directory.path())?;
        let found = listed.names.found().take(NAMES_MAX);
        Some(Level::new(inode, directory, listed.asked, found, order, number))
    }
}

/// Returns where a file that was found in a directory lies, and since when that is known; `None` if this mount has it
/// open, just had it, or knows better.
fn unopened(nodes: &Nodes<'_>, level: &Level, found: &Found) -> Option<(Location, Option<Moment>)> {
    let mut known = Some(level.asked);
    if let Some(inode) = nodes.child(level.inode, &found.name) {
        let node = nodes.get(inode).ok()?;
        if node.kernel.handles() > 0
            || node.file().is_some()
            || nodes.was_just_opened(inode)
            || !node.place().is_same(&found.place)
        {
            return None;
        }
        // A newer listing of it is used when it is looked up.
        known = known.max(node.attributes.fetched());
    }
    let location = Location::new(level.directory.clone(), &found.name, Some(&found.place)).ok()?;
    Some((location, known))
}

//! Opening files ahead of programs that open one after the other.
//!
//! To open a file and read it takes two round trips, and whoever reads a thousand small files waits for each of them. So when a program is
//! seen to go through a directory ([`streak`](super::streak)), the files that come next are opened before it asks, the small ones with all
//! their content. It is a bet that nobody else changes these files in that moment, so a start is used only within its short life, and
//! not if the file's attributes are newer; a file that does not look as it was listed shows that somebody does, and ends the
//! streak. What this mount changes is asked for anew.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::found::{Directory, Found};
use super::location::Location;
use super::parts::Part;
use super::start::Fetching;
use super::streak::{Key, Level, Order, Streak, WINDOW_MAX, is_first};
use super::tree::Nodes;
use crate::remote::RemotePath;

/// How long a start may be used: what others change meanwhile is not seen. The longest that a long road and a busy machine need.
const LIFE_MAX: Duration = Duration::from_secs(1);

/// Bytes of all starts that wait: on a slow line more would not arrive in time.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Larger directories are not gone through.
const NAMES_MAX: usize = 10_000;
/// Deeper trees are not gone through.
const DEPTH_MAX: usize = 32;

/// Streaks and opened files that are remembered.
const STREAKS_MAX: usize = 4;
const OPENED_MAX: usize = 2;
/// For how long an opened file may be the beginning of a streak, and a streak may go on elsewhere.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A start that waits to be used.
struct Waiting {
    path: RemotePath,
    /// When the server was asked for what was known of the file.
    known: Option<Instant>,
    asked: tokio::time::Instant,
    bytes: u64,
    fetching: Fetching,
}

#[derive(Default)]
struct Inner {
    starts: HashMap<Key, Waiting>,
    /// The files that were opened last, the latest at the end.
    opened: VecDeque<(Key, Instant)>,
    /// The latest at the end.
    streaks: VecDeque<Streak>,
    sweeping: bool,
}

/// The files that were opened ahead and wait to be used: few, and not for long.
pub(super) struct OpenAhead {
    inner: Mutex<Inner>,
    life: Duration,
    bytes_max: u64,
}

impl OpenAhead {
    /// Starts that are believed as long as attributes, but never for long, and may take up to `bytes_max`.
    pub(super) fn new(believed: Duration, bytes_max: u64) -> Self {
        Self { inner: Mutex::default(), life: believed.min(LIFE_MAX), bytes_max: bytes_max.min(BYTES_MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This mount changed what has that name: what was asked before is not true any more.
    pub(super) fn forget(&self, parent: Inode, name: &OsStr) {
        self.lock().starts.remove(&Key { parent, name: name.to_owned() });
    }

    /// Whether a program is going through the files of a directory.
    pub(super) fn is_gone_through(&self, directory: Inode) -> bool {
        self.lock().streaks.iter().any(|streak| streak.last().0 == directory && streak.is_sure())
    }

    /// Others are changing files in a directory: there it is not the time to open ahead.
    pub(super) fn forget_directory(&self, directory: Inode) {
        let mut inner = self.lock();
        inner.starts.retain(|key, _| key.parent != directory);
        inner.opened.retain(|(key, _)| key.parent != directory);
        inner.streaks.retain(|streak| !streak.is_in(directory));
    }

    /// Forgets everything: places were moved, or a vault was locked.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        (inner.starts, inner.opened, inner.streaks) = Default::default();
    }

    /// Closes what nobody used in time.
    fn sweep(self: &Arc<Self>) {
        let ahead = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let next = {
                    let mut inner = ahead.lock();
                    inner.starts.retain(|_, start| start.asked.elapsed() < ahead.life);
                    let Some(oldest) = inner.starts.values().map(|start| start.asked).min() else {
                        inner.sweeping = false;
                        return;
                    };
                    oldest + ahead.life
                };
                tokio::time::sleep_until(next).await;
            }
        });
    }
}

impl Inner {
    /// The start of a file that is being opened, if it is of use: asked for by this `path`, within its `life`, and if no more is `known` of
    /// the file by now.
    fn take(
        &mut self,
        key: &Key,
        path: &RemotePath,
        known: Option<Instant>,
        life: Duration,
    ) -> Option<Fetching> {
        let start = self.starts.remove(key)?;
        let is_of_use = start.path == *path && start.known == known && start.asked.elapsed() < life;
        is_of_use.then_some(start.fetching)
    }

    fn bytes(&self) -> u64 {
        self.starts.values().map(|start| start.bytes).sum()
    }

    /// Notes that `key` is opened, and answers the streak that this belongs to.
    fn note(&mut self, drive: &Drive, nodes: &Nodes<'_>, key: &Key, waits: bool) -> Option<Streak> {
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
        self.opened.push_back((key.clone(), Instant::now()));
        streak
    }

    /// The streak that `key` is the second file of, or the first one in a directory.
    fn begin(&self, drive: &Drive, nodes: &Nodes<'_>, key: &Key) -> Option<Streak> {
        let (_, names) = nodes.get(key.parent).ok()?.listing.as_ref()?;
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
            at = Key { parent: node.parent, name: node.name.clone() };
        }
        let beside = nodes.get(from.last().0).ok()?.parent == nodes.get(key.parent).ok()?.parent;
        Some(from.descending(levels.into(), key.parent, beside))
    }
}

impl Drive {
    /// A file is about to be opened at its `location`. Answers its start if that was asked for ahead and the program only reads, and
    /// opens ahead what comes next.
    pub(super) fn note_opening(&self, inode: Inode, location: &Location, writable: bool) -> Option<Fetching> {
        let mut nodes = self.tree.lock();
        nodes.note_opened(inode).ok()?;
        let node = nodes.get(inode).ok()?;
        let key = Key { parent: node.parent, name: node.name.clone() };
        let life = self.open_ahead.life;
        let mut ahead = self.open_ahead.lock();
        let start = ahead.take(&key, &location.file_path(), node.fetched, life);
        if writable {
            return None;
        }
        if life.is_zero() || !self.options.has(Part::OpenAhead) || !self.remote.is_reachable() {
            return start;
        }
        let waits = start.as_ref().is_none_or(|start| !start.is_done());
        if let Some(mut streak) = ahead.note(self, &nodes, &key, waits) {
            self.open_next(&nodes, &mut ahead, &mut streak);
            if ahead.streaks.len() >= STREAKS_MAX {
                ahead.streaks.pop_front();
            }
            ahead.streaks.push_back(streak);
        }
        if !ahead.sweeping && !ahead.starts.is_empty() {
            ahead.sweeping = true;
            self.open_ahead.sweep();
        }
        start
    }

    /// Opens the next files of a streak, as many as are of use and as there is room for.
    fn open_next(&self, nodes: &Nodes<'_>, ahead: &mut Inner, streak: &mut Streak) {
        let life = self.open_ahead.life;
        let wanted = streak.wanted(life, |key| ahead.starts.contains_key(key));
        let mut bytes = ahead.bytes();
        for _ in 0..wanted.min(WINDOW_MAX.saturating_sub(ahead.starts.len())) {
            let next = streak.next(self.options.attr_timeout, |order, level, found| {
                self.level_below(nodes, level, found, order)
            });
            let Some((level, found)) = next else { return };
            let key = Key { parent: level.inode, name: found.name.clone() };
            let Some((location, known)) = unopened(nodes, level, found) else { continue };
            if ahead.starts.contains_key(&key) {
                streak.note_coming(key);
                continue;
            }
            let length = location.start_len(found.attributes.size);
            if bytes + length > self.open_ahead.bytes_max {
                streak.put_back();
                return;
            }
            bytes += length;
            let (path, asked) = (location.file_path(), tokio::time::Instant::now());
            let goes_last = self.options.has(Part::Priorities);
            let fetching = Fetching::begin(Arc::clone(&self.remote), path.clone(), length, goes_last);
            ahead.starts.insert(key.clone(), Waiting { path, known, asked, bytes: length, fetching });
            streak.note_coming(key);
        }
    }

    /// The directory around `key`, from behind it on; `None` if its names are not known.
    fn level_behind(&self, nodes: &Nodes<'_>, key: &Key, order: Order) -> Option<Level> {
        let mut level = self.level(nodes, key.parent, nodes.directory(key.parent).ok()?, order)?;
        level.go_behind(&key.name);
        Some(level)
    }

    /// A directory that was `found` in another one.
    fn level_below(&self, nodes: &Nodes<'_>, above: &Level, found: &Found, order: Order) -> Option<Level> {
        let inode = nodes.number_for(above.inode, &found.name);
        self.level(nodes, inode, above.directory.child(found)?, order)
    }

    fn level(&self, nodes: &Nodes<'_>, inode: Inode, directory: Directory, order: Order) -> Option<Level> {
        let number = |name: &OsStr| nodes.number_for(inode, name);
        let listing = nodes.get(inode).ok().and_then(|node| node.listing.as_ref());
        if let Some((asked, names)) = listing
            && names.len() <= NAMES_MAX
        {
            return Some(Level::new(inode, directory, *asked, names.found(), order, number));
        }
        let listed = self.listings.waiting(&directory.path())?;
        let found = listed.names.found().take(NAMES_MAX);
        Some(Level::new(inode, directory, listed.asked, found, order, number))
    }
}

/// Where a file lies that was found in a directory, and since when that is known; unless this mount has it open, just had it, or knows
/// better.
fn unopened(nodes: &Nodes<'_>, level: &Level, found: &Found) -> Option<(Location, Option<Instant>)> {
    let mut known = Some(level.asked);
    if let Some(inode) = nodes.child(level.inode, &found.name) {
        let node = nodes.get(inode).ok()?;
        if node.opens > 0
            || node.file.is_some()
            || nodes.was_just_opened(inode)
            || !node.place.is_same(&found.place)
        {
            return None;
        }
        // A new listing of it is looked at when it is looked up.
        known = known.max(node.fetched);
    }
    let location = Location::new(level.directory.clone(), &found.name, Some(&found.place)).ok()?;
    Some((location, known))
}

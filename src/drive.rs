//! The tree a mount shows: plain places of a server, and vaults in it decrypted in place.
//!
//! A request comes in through `filesystem`, finds its node in the `tree`, and from there its place on the server: a
//! plain path, or one inside a vault (`vault`). Content goes through `file` and `writeback`, chunk by chunk
//! (`codec`, `chunks`). The drive knows the server only as a [`Remote`] and never sees the kernel.
//!
//! What memory can answer waits for nobody: such a request takes none of the locks that are held across a wait for the server. These are the
//! locks, in the order in which they are taken:
//!
//! | | lock | across waits for the server | what needs it |
//! |-|------|-----------------------------|---------------|
//! | 1 | `Drive::writers`, a permit | yes | a write while too much is unsent |
//! | 2 | `Paths`, a hold | yes | work with a path; a move waits for those below it, and they for the move |
//! | 3 | `File::state` | yes | work on one file's content; readers find it in `File::shown` meanwhile. Two at a time (a rename, locking a vault) in the order of their inodes |
//! | 4 | `Removals`, a permit | yes | a removal that goes on behind its program |
//! | 5 | `Drive::vaults` | no | |
//! | 6 | `Paths`' own table | no | |
//! | 7 | `Tree` | no | |
//! | 8 | `Handles`, `OpenAhead`, then `Listings`; `KeptOpen`, `Removals`' own table, a vault's keys, `File::unsaved`, `File::shown` | no | |
//! | 9 | `ChunkCache` | no | |
//!
//! Those from 5 on are never held across an `await`. Who has one takes none that stands before it. A second hold of `Paths` is taken only by a task of its
//! own, which nobody with a hold waits for without another way on (`lookahead`).

mod bindings;
mod chunks;
mod codec;
mod commit;
mod content_start;
mod error;
mod file;
mod filesystem;
mod forgetting;
mod forms;
mod found;
mod handles;
mod keptopen;
mod links;
mod listings;
mod location;
mod locking;
mod lookahead;
mod lookup;
mod made_again;
mod marker_files;
mod missing;
mod modes;
mod moves;
mod names;
mod namespace;
mod numbers;
mod off_disk;
mod openahead;
mod opening;
mod parts;
mod paths;
mod readahead;
mod removals;
mod segmented;
mod shown;
mod staged;
mod start;
mod status;
mod stored_end;
mod streak;
mod temporary;
mod trash;
mod tree;
mod uploader;
mod vault;
mod vaults;
mod writeback;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use scaup_fuse::filesystem::{Inode, Invalidate};
use tokio::sync::{Notify, mpsc};

use crate::remote::{Remote, RemoteAttributes};
use chunks::{ChunkCache, ContentId};
use codec::CHUNK_LEN;
use file::{Base, File, UnsavedContent, Unsent};
use found::{Found, Place};
use handles::Handles;
use keptopen::KeptOpen;
use listings::Listings;
use location::Location;
use off_disk::OffDisk;
use openahead::OpenAhead;
use paths::{PathHold, Paths};
use readahead::{Ahead, Readers};
use removals::Removals;
use tree::{Nodes, Tree};
use vaults::KnownVault;

pub use bindings::{Displacement, VaultEvent};
pub use error::DriveError;
pub use parts::{Part, UnknownPart};
pub use status::{DriveCounters, ErrorRecord, Unsaved};
pub use vaults::{
    VaultError, VaultState, VaultStatus, check_place_for_vault, create_vault, inspect_vault, open_vault,
};

pub(crate) use links::climbs;
pub(crate) use temporary::is_temporary;
pub(crate) use vault::{DIRECTORY_ID_MAX, LONG_NAME_MAX, content_path, part};
pub(crate) use vaults::Markers;

/// How long written content may wait before it is sent without being asked for.
const SAVE_AFTER: Duration = Duration::from_secs(5);

/// How long a program may pause while it writes a new file, and is not taken to be done: then the file has its name, for all to see.
const GROWS_FOR: Duration = Duration::from_secs(30);

/// How often content that waits is looked after.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Writes that are worked on at a time while too much waits to be sent, at least and at most. The others wait with the
/// bytes of their requests.
const WRITERS: RangeInclusive<u64> = 16..=64;

/// How a drive presents what is on the server.
#[derive(Debug, Clone)]
pub struct DriveOptions {
    /// Nothing is ever changed on the server.
    pub read_only: bool,
    /// Whether vaults are looked for at all.
    pub vaults: bool,
    /// The whole budget for cached and unsent content, bytes.
    pub memory: u64,
    /// How long names and attributes are believed.
    pub attr_timeout: Duration,
    /// Owner and group shown for everything, or `None` to show the server's numbers in plain places.
    pub owner: Option<(u32, u32)>,
    /// Permission bits taken away from what is shown.
    pub umask: u16,
    /// Where the mount lets other users of this machine in: what group and others are shown to have in vaults. `None` shows
    /// them what the server keeps.
    pub others_in_vaults: Option<u16>,
    /// Whether links in vaults may lead anywhere.
    pub follow_outside: bool,
    /// Whether closing a file waits until the server has it, however small it is.
    pub sync_on_close: bool,
    /// Whether the log may hold clear names. What `status` shows always does: it stays in memory.
    pub log_names: bool,
    /// The parts that are left out.
    pub without: BTreeSet<Part>,
}

impl DriveOptions {
    fn has(&self, part: Part) -> bool {
        !self.without.contains(&part)
    }

    /// How many bytes may be unsent before writers have to wait. While they are sent they are there three times: as they
    /// were written, encrypted, and in the message. What then is left of the budget goes to the gaps between allocations.
    fn unsent_max(&self) -> u64 {
        self.memory / 10
    }
}

/// The tree a mount shows; implements `scaup_fuse::Filesystem`.
pub struct Drive {
    remote: Arc<dyn Remote>,
    options: DriveOptions,
    tree: Tree,
    cache: Arc<ChunkCache>,
    handles: Handles,
    readers: Arc<Readers>,
    listings: Arc<Listings>,
    open_ahead: Arc<OpenAhead>,
    kept_open: KeptOpen,
    counters: Arc<status::Counters>,
    errors: Mutex<VecDeque<status::Recorded>>,
    vaults: Mutex<Vec<KnownVault>>,
    invalidate: OnceLock<Arc<dyn Invalidate>>,
    /// Who is told what becomes of the places of vaults.
    vault_events: OnceLock<mpsc::UnboundedSender<VaultEvent>>,
    mountpoint: OnceLock<PathBuf>,
    /// What programs wrote and the server does not have.
    unsent: Arc<Unsent>,
    removals: Arc<Removals>,
    /// Where the server may have names in its memory only.
    off_disk: OffDisk,
    /// Tells that names were listed.
    listed: Arc<Notify>,
    /// Whether the mount is about to end.
    ending: AtomicBool,
    /// Itself, for what goes on after a request was answered.
    me: Weak<Self>,
    /// Who may have its writes taken while too much waits to be sent: a chunk of each is in memory three times then.
    writers: tokio::sync::Semaphore,
    /// Which paths are worked with, so that none of them moves meanwhile.
    paths: Paths,
}

impl Drive {
    /// A drive over `remote`, all vaults locked. Must be called inside a `tokio` runtime.
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>, mut options: DriveOptions) -> Arc<Self> {
        if !options.has(Part::AttributeCache) {
            options.attr_timeout = Duration::ZERO;
        }
        let cached = if options.has(Part::ChunkCache) { options.memory / 2 } else { 0 };
        let writers = (options.unsent_max() / CHUNK_LEN).clamp(*WRITERS.start(), *WRITERS.end());
        let writers = usize::try_from(writers).unwrap_or(usize::MAX);
        let drive = Arc::new_cyclic(|me| Self {
            cache: ChunkCache::new(cached),
            listings: Arc::new(Listings::new(options.attr_timeout, options.has(Part::ListAhead))),
            open_ahead: Arc::new(OpenAhead::new(options.attr_timeout, options.memory / 16)),
            kept_open: KeptOpen::default(),
            remote,
            options,
            tree: Tree::new(),
            handles: Handles::default(),
            readers: Arc::default(),
            counters: Arc::default(),
            errors: Mutex::default(),
            vaults: Mutex::default(),
            invalidate: OnceLock::new(),
            vault_events: OnceLock::new(),
            mountpoint: OnceLock::new(),
            unsent: Arc::default(),
            removals: Arc::default(),
            off_disk: OffDisk::default(),
            listed: Arc::default(),
            ending: AtomicBool::new(false),
            me: Weak::clone(me),
            writers: tokio::sync::Semaphore::new(writers),
            paths: Paths::default(),
        });
        drive.bound_names();
        tokio::spawn(forgetting::forget_what_is_too_much(Arc::downgrade(&drive), Arc::clone(&drive.listed)));
        let changed = Arc::clone(&drive.tree.lock().bindings().changed);
        tokio::spawn(Self::watch_bindings(Arc::downgrade(&drive), changed));
        let saved = Arc::downgrade(&drive);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SAVE_EVERY).await;
                let Some(drive) = saved.upgrade() else { return };
                drive.kept_open.sweep();
                drive.save_what_waits().await;
            }
        });
        drive
    }

    /// Sets where to tell the kernel what to drop; called once, when the mount stands.
    pub fn set_invalidator(&self, invalidate: Arc<dyn Invalidate>) {
        if self.invalidate.set(invalidate).is_err() {
            tracing::warn!("the kernel's side was announced twice");
        }
    }

    /// Sets where the mount stands: absolute links that stay below it lead nowhere else. Called once.
    pub fn set_mountpoint(&self, mountpoint: PathBuf) {
        if self.mountpoint.set(mountpoint).is_err() {
            tracing::warn!("the mount point was announced twice");
        }
    }

    /// The mount is about to end: from now on programs wait for what they ask for. Who looks for the last time what is unsaved can't know of
    /// anything that is still put off behind that.
    pub fn begin_to_end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Whether a program may go on before the server has done what it asked for.
    fn may_put_off(&self) -> bool {
        !self.options.sync_on_close && !self.ending.load(Ordering::Acquire)
    }

    /// Waits until everything is on the server; answers what could not be saved.
    pub async fn save_all(&self) -> Unsaved {
        self.save_all_that(|_| true).await
    }

    /// The same before the machine sleeps, except where a program is in the middle of replacing other content by much: that goes on afterwards,
    /// and until then the server keeps what was there before.
    pub async fn save_before_sleep(&self) -> Unsaved {
        self.save_all_that(|unsaved| unsaved.harms_nothing(SAVE_AFTER)).await
    }

    async fn save_all_that(&self, wanted: impl Fn(&UnsavedContent) -> bool + Copy + Send) -> Unsaved {
        let files = self.tree.lock().files();
        // All at once: over a lost connection each may wait as long as all together.
        let saved = files.iter().map(|file| self.save(file, wanted));
        futures::join!(futures::future::join_all(saved), self.removals.all_done());
        self.put_all_names_on_disk().await;
        self.left_to_save()
    }

    async fn save(&self, file: &File, wanted: impl Fn(&UnsavedContent) -> bool + Send) {
        let _paths = self.hold_paths([file.inode]).await;
        let saved = async {
            file.commit_if(self, wanted).await?;
            file.put_on_disk().await
        };
        match saved.await {
            Ok(()) => self.close_if_unused(file.inode),
            Err(error) => self.report_unsaved(file, &error),
        }
    }

    /// Sends what has waited long enough, and tries again what failed.
    async fn save_what_waits(&self) {
        let files = self.tree.lock().files();
        let is_due = |unsaved: &UnsavedContent| unsaved.waited() >= SAVE_AFTER && unsaved.is_whole(GROWS_FOR);
        // What changed inside files that are open is put on the disk when somebody asks for that.
        let is_closed = |file: &File| self.tree.lock().get(file.inode).is_ok_and(|node| node.opens == 0);
        let due = files.iter().filter(|file| {
            file.unsaved().as_ref().is_some_and(is_due) || (file.is_off_disk() && is_closed(file))
        });
        futures::future::join_all(due.map(|file| self.save(file, is_due))).await;
        self.put_some_names_on_disk().await;
    }

    /// Whether so much is unsent that writers have to wait.
    fn is_crowded(&self) -> bool {
        /// Files that may wait to be saved after they were closed.
        const UNSENT_FILES_MAX: u64 = 512;
        !self.options.has(Part::WriteBehind)
            || self.has_much_unsent()
            || self.unsent.files() > UNSENT_FILES_MAX
    }

    /// Whether what is unsent takes all the memory that it may.
    fn has_much_unsent(&self) -> bool {
        self.unsent.bytes() > self.options.unsent_max()
    }

    /// How many bytes may be read ahead that nobody read yet. What is there for the first time fills half of the cache and more: it stays there
    /// until it is read.
    fn read_ahead_max(&self) -> u64 {
        if !self.options.has(Part::ReadAhead) {
            return 0;
        }
        self.cache.capacity() / 8 * 3
    }

    fn ahead(&self) -> Ahead {
        Ahead {
            remote: Arc::clone(&self.remote),
            cache: Arc::clone(&self.cache),
            counters: Arc::clone(&self.counters),
            goes_last: self.options.has(Part::Priorities),
        }
    }

    /// Keeps the paths of nodes as they are until the result is dropped.
    async fn hold_paths(&self, inodes: impl Into<Vec<Inode>>) -> PathHold<'_> {
        self.paths.hold(&self.tree, inodes).await
    }

    /// The same for a name in a directory.
    async fn hold_name(&self, parent: Inode, name: &OsStr) -> PathHold<'_> {
        let named = self.tree.lock().child(parent, name);
        self.hold_paths([parent, named.unwrap_or(parent)]).await
    }

    /// Where the content of a file lies now.
    fn location(&self, inode: Inode) -> Result<Location, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        // Content that is open keeps its place though somebody else took its name: what is saved there meets theirs.
        if node.detached && node.file.as_ref().is_none_or(|file| file.is_unlinked()) {
            return Err(DriveError::Stale);
        }
        Location::new(nodes.directory(node.parent)?, &node.name, Some(&node.place))
    }

    fn name_of(&self, inode: Inode) -> Result<OsString, DriveError> {
        Ok(self.tree.lock().get(inode)?.name.clone())
    }

    fn mode_of(&self, inode: Inode) -> Result<u16, DriveError> {
        Ok(self.tree.lock().get(inode)?.attributes.mode)
    }

    /// Something was made in the directory around a node.
    fn note_made_in(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        if let Ok(parent) = nodes.get(inode).map(|node| node.parent)
            && let Ok(above) = nodes.get_mut(parent)
        {
            above.made_in = Some(Instant::now());
        }
    }

    /// A file's content reached the server: what the tree knows of it is brought up to date.
    fn note_committed(&self, inode: Inode, attributes: RemoteAttributes, length: u64, content: ContentId) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get_mut(inode) else { return };
        let base = Base::from(attributes);
        node.attributes = RemoteAttributes { size: length, ..attributes };
        node.fetched = Some(Instant::now());
        node.content = Some((content, base));
        let found = Found { name: node.name.clone(), attributes: node.attributes, place: node.place.clone() };
        let (parent, name) = (node.parent, node.name.clone());
        let is_there_again = nodes.note_there(inode);
        self.believe_name(&mut nodes, parent, &name, Some(found));
        drop(nodes);
        self.forget_unsaved(inode);
        // The kernel may have been told that there is no such name.
        if is_there_again && let Some(invalidate) = self.invalidate.get() {
            invalidate.entry(parent, &name);
        }
    }

    /// Notes that this mount added or removed a name.
    fn note_name(&self, nodes: &mut Nodes<'_>, parent: Inode, name: &OsStr, found: Option<Found>) {
        if let Ok(directory) = nodes.directory(parent) {
            self.off_disk.note(directory.path());
        }
        self.believe_name(nodes, parent, name, found);
    }

    /// What this mount knows of a name is as new as can be: everything else that is known of the directory stays true.
    fn believe_name(&self, nodes: &mut Nodes<'_>, parent: Inode, name: &OsStr, found: Option<Found>) {
        nodes.note_name(parent, name, found);
        if let Ok(directory) = nodes.directory(parent) {
            self.listings.forget(&directory.path());
        }
        self.forget_opened(parent, name);
    }

    /// This mount changed what has that name: what was opened of it for later is not it any more.
    fn forget_opened(&self, parent: Inode, name: &OsStr) {
        self.open_ahead.forget(parent, name);
        self.kept_open.forget(parent, name);
    }

    /// Places were moved, or a vault was locked.
    fn forget_all_opened(&self) {
        self.open_ahead.clear();
        self.kept_open.clear();
    }

    /// Our version of a file became a conflicting copy: it goes on under that name, and the user is told.
    fn note_conflict(&self, inode: Inode, copy: &OsStr, place: Place) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get(inode) else { return };
        let (parent, name) = (node.parent, node.name.clone());
        let shown = nodes.shown_path(inode);
        // Without it there is no such node any more, and nothing to show under the new name.
        let _ = nodes.rename(inode, parent, copy, place);
        drop(nodes);
        self.tell_conflict((parent, &name), &shown, copy);
    }

    /// Has what somebody else put under a name looked at anew, and tells the user where ours is.
    fn tell_conflict(&self, (parent, name): (Inode, &OsStr), shown: &OsStr, copy: &OsStr) {
        if let Ok(above) = self.tree.lock().get_mut(parent) {
            above.listing = None;
        }
        if let Some(invalidate) = self.invalidate.get() {
            invalidate.entry(parent, name);
        }
        self.record(
            parent,
            "conflict",
            format!(
                "{} was changed on the server meanwhile; your version was kept as {}",
                shown.display(),
                copy.display()
            ),
        );
    }

    /// Fails at once if the server has no room for `needed` more bytes of a file. A server that can't say is believed to have it.
    async fn check_room(&self, inode: Inode, needed: u64) -> Result<(), DriveError> {
        /// Below this a look is not worth a round trip: the write itself will tell.
        const WORTH_A_LOOK: u64 = 1024 * 1024;
        if needed < WORTH_A_LOOK {
            return Ok(());
        }
        self.removals.all_done().await;
        let path = self.tree.lock().plain_path_around(inode);
        match self.remote.statistics(&path).await {
            Ok(room) if room.blocks_available.saturating_mul(room.block_size) < needed => {
                Err(DriveError::NoSpace)
            }
            _ => Ok(()),
        }
    }

    /// Fails where nothing may be changed: the whole mount, or a locked vault.
    fn check_writable(&self, inode: Inode) -> Result<(), DriveError> {
        if self.options.read_only || self.tree.lock().is_in_locked_vault(inode) {
            return Err(DriveError::ReadOnly);
        }
        Ok(())
    }

    /// Lets go of a file's content if no handle is open and nothing of it waits.
    fn close_if_unused(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get_mut(inode) else { return };
        if node.opens == 0 && !node.is_unsaved() && !node.is_off_disk() {
            node.file = None;
            if node.missing {
                nodes.detach(inode);
            }
            nodes.prune(inode);
        }
    }
}

/// The present, and times that a server can't give.
fn later(a: SystemTime, b: SystemTime) -> SystemTime {
    a.max(b)
}

//! The tree a mount shows: plain directories of a server, with the vaults in them decrypted in place.
//!
//! A request comes in through `filesystem`, finds its node in the `tree`, and from there its place on the server: a
//! plain path, or one inside a vault. The drive knows the server only as a [`Remote`] and never sees the kernel.
//!
//! The wings, each of which uses only those before it:
//!
//! - `places`: where a node lies on the server, and what is found there.
//! - `content`: files and their chunks, reading, writing, saving. It asks the drive through one trait, `Home`.
//! - `tree`: the nodes, and what is believed of them.
//! - `ahead`: what is fetched before a program asks for it.
//! - `names`: look up, list, make, rename, remove.
//! - `vaults`: unlock, lock, watch, tidy.
//!
//! Beside them: `handles` and `opening` (what programs have open), `saving` (when content is saved unasked),
//! `content_home` (what content asks and tells the drive), `status`, `error`, `moment`.
//!
//! Who acts: each request of the kernel is a task of its own. Beside these run one task that every second saves what
//! has waited five, one that asks for vaults that are not in their places, one that forgets names beyond the budget,
//! and tasks for what is fetched ahead or removed behind a program. A task that is begun for a request and outlives it
//! holds the drive weakly, or for one operation.
//!
//! What must always hold:
//!
//! - What a program wrote is in memory until the server has it; only its user (`unmount --force`, a second SIGTERM) can
//!   give it up.
//! - `fsync` returns when content, name, and the names of the directories above are on the server's disk.
//! - What somebody else changed since it was opened here is never replaced: both versions stay.
//! - Nothing of a vault, be it a name or a chunk, reaches the server but through its `Cryptor`; a vault that is locked
//!   leaves no cleartext in memory.
//! - A directory of a vault has one name, and a path from the vault's own directory leads to it.
//!
//! A request that memory can answer waits for nobody: it takes none of the locks that are held across a wait for the
//! server. All locks, in the order in which they are taken, stand in `docs/architecture.md`.

mod ahead;
mod content;
mod content_home;
mod error;
mod filesystem;
mod handles;
mod moment;
mod names;
mod opening;
mod places;
mod saving;
mod status;
mod tree;
mod vaults;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use scaup_crypto::CLEARTEXT_CHUNK_LEN;
use scaup_fuse::filesystem::{Inode, Invalidate};
use tokio::sync::{Notify, mpsc};

use crate::config::parts::OptionalPart;
use crate::config::private_directory::PrivateDirectory;
use crate::remote::Remote;
use ahead::kept_open::KeptOpen;
use ahead::listings::Listings;
use ahead::open_ahead::OpenAhead;
use ahead::read_ahead::Readers;
use content::chunks::ChunkCache;
use content::home::Resources;
use content::unsent::Unsent;
use handles::Handles;
use names::off_disk::OffDisk;
use names::removals::Removals;
use tree::Tree;
use tree::paths::{PathHold, Paths};
use vaults::KnownVault;
use vaults::tidying::Tidying;

pub use error::DriveError;
pub use places::displacement::Displacement;
pub use status::{DriveCounters, ErrorRecord, Unsaved, UnsavedFile};
pub use tree::bindings::VaultEvent;
pub use vaults::{LockedWithin, StoredAs, VaultError, VaultState, VaultStatus, Whereabouts};

/// Fewest and most writes that are worked on at a time while too much is unsent. The others wait, with the bytes of
/// their requests.
const WRITERS: RangeInclusive<u64> = 16..=64;

/// How a drive presents the content of the server.
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
    /// The permissions that group and others are shown to have in vaults, where the mount lets other users of this
    /// machine in. `None` shows the permissions that the server keeps.
    pub others_in_vaults: Option<u16>,
    /// Whether links in vaults may lead anywhere.
    pub follow_outside: bool,
    /// Whether closing a file waits until the server has it, however small it is.
    pub sync_on_close: bool,
    /// Whether the log may hold clear names. The output of `status` always does: it stays in memory.
    pub log_names: bool,
    /// Where this machine records operations begun in vaults, for a mount that comes after a kill. `None` records
    /// nothing.
    pub unfinished: Option<Arc<PrivateDirectory>>,
    /// Whether a vault's config and masterkey file are copied to backups when it is unlocked.
    pub backs_up: bool,
    /// The parts that are left out.
    pub without: BTreeSet<OptionalPart>,
}

impl DriveOptions {
    fn has(&self, part: OptionalPart) -> bool {
        !self.without.contains(&part)
    }

    /// Returns how many bytes may be unsent before writers have to wait. While they are sent they are in memory three
    /// times: as they were written, encrypted, and in the message. The rest of the budget then goes to the gaps between
    /// allocations.
    fn unsent_max(&self) -> u64 {
        self.memory / 12
    }
}

/// The tree a mount shows; implements `scaup_fuse::Filesystem`.
pub struct Drive {
    remote: Arc<dyn Remote>,
    options: DriveOptions,
    tree: Arc<Tree>,
    content: Arc<Resources>,
    handles: Handles,
    readers: Arc<Readers>,
    listings: Arc<Listings>,
    open_ahead: Arc<OpenAhead>,
    kept_open: KeptOpen,
    errors: Mutex<VecDeque<status::Recorded>>,
    vaults: Mutex<Vec<KnownVault>>,
    invalidate: OnceLock<Arc<dyn Invalidate>>,
    /// Receives the events of vaults' places.
    vault_events: OnceLock<mpsc::UnboundedSender<VaultEvent>>,
    mountpoint: OnceLock<PathBuf>,
    removals: Arc<Removals>,
    /// Directories whose names the server may have in its memory only.
    off_disk: OffDisk,
    tidying: Tidying,
    /// Notified when names were listed.
    listed: Arc<Notify>,
    /// Whether the mount is about to end.
    ending: AtomicBool,
    /// Itself, for work that goes on after a request was answered.
    me: Weak<Self>,
    /// Permits for writes while too much is unsent: a chunk of each such write is in memory three times then.
    writers: tokio::sync::Semaphore,
    /// The paths that are in use, so that none of them is moved meanwhile.
    paths: Paths,
}

impl Drive {
    /// Creates a drive over `remote`, all vaults locked. Must be called inside a `tokio` runtime.
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>, mut options: DriveOptions) -> Arc<Self> {
        if !options.has(OptionalPart::AttributeCache) {
            options.attr_timeout = Duration::ZERO;
        }
        let cached = if options.has(OptionalPart::ChunkCache) { options.memory / 2 } else { 0 };
        let writers =
            (options.unsent_max() / CLEARTEXT_CHUNK_LEN as u64).clamp(*WRITERS.start(), *WRITERS.end());
        let writers = usize::try_from(writers).unwrap_or(usize::MAX);
        let tree = Arc::new(Tree::new());
        let drive = Arc::new_cyclic(|me| Self {
            content: Arc::new(Resources {
                remote: Arc::clone(&remote),
                cache: ChunkCache::new(cached),
                counters: Arc::default(),
                unsent: Arc::new(Unsent::new(options.unsent_max(), options.has(OptionalPart::WriteBehind))),
            }),
            listings: Arc::new(Listings::new(
                Arc::clone(&tree),
                options.attr_timeout,
                options.has(OptionalPart::ListAhead),
            )),
            open_ahead: Arc::new(OpenAhead::new(options.attr_timeout, options.memory / 16)),
            kept_open: KeptOpen::default(),
            remote,
            options,
            tree,
            handles: Handles::default(),
            readers: Arc::default(),
            errors: Mutex::default(),
            vaults: Mutex::default(),
            invalidate: OnceLock::new(),
            vault_events: OnceLock::new(),
            mountpoint: OnceLock::new(),
            removals: Arc::default(),
            off_disk: OffDisk::default(),
            tidying: Tidying::default(),
            listed: Arc::default(),
            ending: AtomicBool::new(false),
            me: Weak::clone(me),
            writers: tokio::sync::Semaphore::new(writers),
            paths: Paths::default(),
        });
        drive.bound_names();
        tokio::spawn(names::forgetting::forget_what_is_too_much(
            Arc::downgrade(&drive),
            Arc::clone(&drive.listed),
        ));
        let changed = Arc::clone(&drive.tree.lock().bindings().changed);
        tokio::spawn(Self::watch_bindings(Arc::downgrade(&drive), changed));
        tokio::spawn(Self::save_unasked(Arc::downgrade(&drive)));
        drive
    }

    /// Sets the kernel's side, which is told what to invalidate; called once, when the mount stands.
    pub fn set_invalidator(&self, invalidate: Arc<dyn Invalidate>) {
        if self.invalidate.set(invalidate).is_err() {
            tracing::warn!("the kernel's side was announced twice");
        }
    }

    /// Sets where the mount stands: absolute links that stay below it do not lead outside. Called once.
    pub fn set_mountpoint(&self, mountpoint: PathBuf) {
        if self.mountpoint.set(mountpoint).is_err() {
            tracing::warn!("the mount point was announced twice");
        }
    }

    /// Notes that the mount is about to end: from now on programs wait for what they ask for. After the last check for
    /// unsaved content nobody would know of an operation that is still deferred.
    pub fn begin_to_end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Whether a program may go on before the server has done what the program asked for.
    fn may_put_off(&self) -> bool {
        !self.options.sync_on_close && !self.ending.load(Ordering::Acquire)
    }

    /// Returns how many bytes may be read ahead that nobody has read yet. New chunks have half of the cache and more,
    /// and stay there until they are read.
    fn read_ahead_max(&self) -> u64 {
        if !self.options.has(OptionalPart::ReadAhead) {
            return 0;
        }
        self.content.cache.capacity() / 8 * 3
    }

    /// Keeps the paths of nodes unchanged until the result is dropped.
    async fn hold_paths(&self, inodes: impl Into<Vec<Inode>>) -> PathHold<'_> {
        self.paths.hold(&self.tree, inodes).await
    }

    /// Like [`Self::hold_paths`], for a name in a directory.
    async fn hold_name(&self, parent: Inode, name: &OsStr) -> PathHold<'_> {
        let named = self.tree.lock().child(parent, name);
        self.hold_paths([parent, named.unwrap_or(parent)]).await
    }

    /// Fails where nothing may be changed: the whole mount, or a locked vault.
    fn check_writable(&self, inode: Inode) -> Result<(), DriveError> {
        if self.options.read_only || self.tree.lock().is_in_locked_vault(inode) {
            return Err(DriveError::ReadOnly);
        }
        Ok(())
    }
}

/// The present, and times that a server can't give.
fn later(a: SystemTime, b: SystemTime) -> SystemTime {
    a.max(b)
}

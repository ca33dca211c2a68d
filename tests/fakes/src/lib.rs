//! A server in memory, as a [`Remote`]: the base of model tests and fault injection, for tests only.
//!
//! [`MemoryServer`] is the tree of inodes that an SFTP server serves. [`MemoryRemote`] is one connection to it, which
//! can be told to delay messages, to reorder their replies, and to fail or break at the n-th one.
//!
//! A message is sent when its future is first polled, and arrives whether or not the future lives on. Messages about
//! one open file arrive in the order in which they were sent; the order of others is undefined, as between two lanes.
//! With `tokio`'s paused time and a fixed delay, the time that passes gives the number of round trips waited for.

mod tree;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use siphasher::sip::SipHasher13;
use tokio::sync::oneshot;

use self::tree::{Content, Number, ROOT, Tree, UMASK, failure};
use scaup_remote::{
    NamesBudget, Refusal, Refusals, Remote, RemoteAttributes, RemoteCounters, RemoteEntry, RemoteError,
    RemoteFile, RemoteOpen, RemotePath, RemoteSetAttributes, RemoteStatistics, RenameHow,
};

/// The content of a server. Clones are the same server.
#[derive(Clone)]
pub struct MemoryServer {
    tree: Arc<Mutex<Tree>>,
    watch: Arc<Mutex<Watch>>,
}

impl Default for MemoryServer {
    fn default() -> Self {
        Self::holding(Tree::new())
    }
}

/// A watch for bytes that must not come to the server.
#[derive(Default)]
struct Watch {
    canary: Vec<u8>,
    seen: Vec<String>,
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    !wanted.is_empty() && bytes.windows(wanted.len()).any(|window| window == wanted)
}

impl MemoryServer {
    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holding(tree: Tree) -> Self {
        Self { tree: Arc::new(Mutex::new(tree)), watch: Arc::default() }
    }

    /// Creates another server with the same content.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::holding(self.lock().clone())
    }

    /// Looks for `canary` in all messages from now on: also in requested paths, and in data that is on the server only
    /// for a moment.
    pub fn watch_for(&self, canary: &[u8]) {
        *self.lock_watch() = Watch { canary: canary.to_vec(), seen: Vec::new() };
    }

    /// Returns the messages that contained the canary.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.lock_watch().seen.clone()
    }

    fn lock_watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, kind: MessageKind, path: &RemotePath, brought: &[u8]) {
        let mut watch = self.lock_watch();
        if contains(brought, &watch.canary) {
            watch.seen.push(format!("{kind:?} {path:?}: {}", String::from_utf8_lossy(brought)));
        }
    }

    /// Returns whether any name, link target or content on the server has these bytes, whether or not its node still
    /// has a name.
    #[must_use]
    pub fn holds(&self, wanted: &[u8]) -> bool {
        self.lock().contents().any(|content| match content {
            Content::File(bytes) | Content::Symlink(bytes) => contains(bytes, wanted),
            Content::Directory(names) => names.keys().any(|name| contains(name.as_bytes(), wanted)),
        })
    }

    /// Moves the server's clock ahead: later changes are that much newer.
    pub fn pass(&self, time: Duration) {
        self.lock().ahead += time;
    }

    /// Sets how many bytes all files together may have.
    pub fn set_room(&self, bytes: u64) {
        self.lock().room = bytes;
    }

    /// Simulates a power loss and restart: anything not on the disk is lost. A file loses its content since its last
    /// `fsync`, a tree its names since the last sync of any directory: file systems with a journal write all earlier
    /// changes of names first. `survives` decides for each file and for the names whether they reached the disk without
    /// a sync.
    pub fn power_loss(&self, survives: impl FnMut() -> bool) {
        self.lock().power_loss(survives);
    }

    /// Returns how many bytes everything on the server takes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Returns every path on the server.
    #[must_use]
    pub fn paths(&self) -> Vec<RemotePath> {
        let tree = self.lock();
        let mut paths = Vec::new();
        let mut directories = vec![(RemotePath::root(), ROOT)];
        while let Some((path, number)) = directories.pop() {
            for (name, &child) in tree.names(number).into_iter().flatten() {
                let child_path = path.join(name);
                if tree.names(child).is_ok() {
                    directories.push((child_path.clone(), child));
                }
                paths.push(child_path);
            }
        }
        paths
    }

    /// Returns the content of a file, without a message.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn content(&self, path: &RemotePath) -> Result<Vec<u8>, RemoteError> {
        let tree = self.lock();
        match &tree.get(tree.existing(path)?)?.content {
            Content::File(bytes) => Ok(bytes.clone()),
            _ => Err(failure()),
        }
    }

    /// Changes the content of a file in place, or creates the file, as a program on the server would.
    ///
    /// # Errors
    ///
    /// If the path leads nowhere or is not a file.
    pub fn set_content(&self, path: &RemotePath, content: &[u8]) -> Result<(), RemoteError> {
        let mut tree = self.lock();
        let number = match tree.existing(path) {
            Ok(number) => number,
            Err(RemoteError::NotFound) => {
                tree.make(path, Content::File(Vec::new()), 0o644)?;
                tree.existing(path)?
            }
            Err(error) => return Err(error),
        };
        tree.resize(number, 0)?;
        tree.write(number, 0, content)?;
        tree.sync_content(number)?;
        tree.sync_names();
        Ok(())
    }
}

/// The operation that a message requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MessageKind {
    Stat,
    List,
    Open,
    SetAttributes,
    Mkdir,
    Rmdir,
    Remove,
    Rename,
    Symlink,
    Readlink,
    HardLink,
    Statistics,
    ReadFile,
    WriteFile,
    StatFile,
    SetFileAttributes,
    Fsync,
    SyncDirectory,
    Close,
}

/// A fault of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The reply is this error, and the operation was carried out or not.
    Answer {
        /// The reply.
        error: RemoteError,
        /// Whether the server carried the operation out.
        applied: bool,
    },
    /// The connection breaks: there is no reply to this and to earlier messages under way, and later ones are not sent.
    Cut {
        /// Whether the message still reached the server.
        applied: bool,
    },
}

/// How long messages take, half of it each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// The shortest round trip.
    pub least: Duration,
    /// The longest. If it differs from the shortest, messages overtake each other.
    pub most: Duration,
    /// Seed that decides how long each message takes.
    pub seed: u64,
}

/// Selects messages.
type Kind = Box<dyn Fn(MessageKind, &RemotePath) -> bool + Send>;

/// A fault that is to come.
struct Planned {
    /// How many messages of its kind succeed before.
    before: usize,
    is_of_kind: Kind,
    fault: Fault,
}

struct Connection {
    log: Vec<(MessageKind, RemotePath)>,
    faults: Vec<Planned>,
    delay: Option<Delay>,
    /// Counts connections; odd while there is none.
    era: u64,
    counters: RemoteCounters,
}

impl Connection {
    /// Returns the fault of a message, if one is due.
    fn next_fault(&mut self, kind: MessageKind, path: &RemotePath) -> Option<Fault> {
        let mut due = None;
        for (index, planned) in self.faults.iter_mut().enumerate() {
            if !(planned.is_of_kind)(kind, path) {
                continue;
            }
            match planned.before.checked_sub(1) {
                Some(before) => planned.before = before,
                None => due = Some(index),
            }
        }
        due.map(|index| self.faults.remove(index).fault)
    }

    fn travel(&self) -> Duration {
        let Some(Delay { least, most, seed }) = self.delay else { return Duration::ZERO };
        let spread = u64::try_from((most - least).as_nanos()).unwrap_or(u64::MAX);
        let drawn = SipHasher13::new_with_keys(seed, self.log.len() as u64).hash(&[]);
        (least + Duration::from_nanos(drawn.checked_rem(spread).unwrap_or(0))) / 2
    }
}

fn cut() -> RemoteError {
    RemoteError::Disconnected("cut".to_owned())
}

/// Ends when the last message about a file has arrived.
type Order = Mutex<Option<oneshot::Receiver<()>>>;

#[derive(Clone)]
struct Shared {
    server: MemoryServer,
    connection: Arc<Mutex<Connection>>,
    refusals: Arc<Refusals>,
}

/// One connection to a [`MemoryServer`]. Open files outlive a cut, like handles that are reopened automatically.
pub struct MemoryRemote {
    shared: Shared,
    names: NamesBudget,
}

impl MemoryRemote {
    /// Connects to `server`.
    #[must_use]
    pub fn connect(server: &MemoryServer) -> Arc<Self> {
        let connection = Connection {
            log: Vec::new(),
            faults: Vec::new(),
            delay: None,
            era: 0,
            counters: RemoteCounters::default(),
        };
        let shared = Shared {
            server: server.clone(),
            connection: Arc::new(Mutex::new(connection)),
            refusals: Arc::default(),
        };
        Arc::new(Self { shared, names: NamesBudget::default() })
    }

    /// Returns the server at the other end.
    #[must_use]
    pub fn server(&self) -> &MemoryServer {
        &self.shared.server
    }

    /// Sets how long every message takes from now on.
    pub fn set_delay(&self, delay: Option<Delay>) {
        self.shared.lock().delay = delay;
    }

    /// Injects a fault at the n-th message from now on, from 0.
    pub fn fault_at(&self, n: usize, fault: Fault) {
        self.fault_at_one(n, fault, |_, _| true);
    }

    /// Injects a fault at the n-th message of a kind.
    pub fn fault_at_one(
        &self,
        n: usize,
        fault: Fault,
        is_of_kind: impl Fn(MessageKind, &RemotePath) -> bool + Send + 'static,
    ) {
        let planned = Planned { before: n, is_of_kind: Box::new(is_of_kind), fault };
        self.shared.lock().faults.push(planned);
    }

    /// Removes faults set by [`Self::fault_at`] and [`Self::fault_at_one`] that have not occurred yet.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Returns whether the connection is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.lock().era % 2 == 1
    }

    /// Reconnects after a cut.
    pub fn reconnect(&self) {
        let mut connection = self.shared.lock();
        if connection.era % 2 == 1 {
            connection.era += 1;
            connection.counters.reconnects += 1;
        }
    }

    /// Returns every message so far, with the path of its file as of when that was opened.
    #[must_use]
    pub fn messages(&self) -> Vec<(MessageKind, RemotePath)> {
        self.shared.lock().log.clone()
    }

    /// Returns how many messages of one kind were sent.
    #[must_use]
    pub fn count(&self, kind: MessageKind) -> usize {
        self.shared.lock().log.iter().filter(|(sent, _)| *sent == kind).count()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message, unless requests are refused.
    async fn message<T: Send + 'static>(
        &self,
        kind: MessageKind,
        path: &RemotePath,
        order: Option<&Order>,
        operation: impl FnOnce(&mut Tree) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let sent = self.refusals.until_refused(self.send(kind, path, order, operation)).await;
        sent.unwrap_or_else(|| Err(RemoteError::given_up()))
    }

    /// Sends a message. `order` holds it back until the previous message about the same file has arrived.
    async fn send<T: Send + 'static>(
        &self,
        kind: MessageKind,
        path: &RemotePath,
        order: Option<&Order>,
        operation: impl FnOnce(&mut Tree) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        self.server.look_at(kind, path, path.as_bytes());
        let (fault, era, travel) = {
            let mut connection = self.lock();
            if connection.era % 2 == 1 {
                return Err(cut());
            }
            let era = connection.era;
            let travel = connection.travel();
            connection.log.push((kind, path.clone()));
            connection.counters.requests += 1;
            let fault = connection.next_fault(kind, path);
            if matches!(fault, Some(Fault::Cut { .. })) {
                connection.era += 1;
            }
            (fault, era, travel)
        };
        let server = self.server.clone();
        let carry_out = move || {
            let (answer, applied) = match fault {
                None => (None, true),
                Some(Fault::Answer { error, applied }) => (Some(error), applied),
                Some(Fault::Cut { applied }) => (Some(cut()), applied),
            };
            // The tree is unlocked before a reply is dropped: an open file in the reply releases its node.
            let done = if applied { Some(operation(&mut server.lock())) } else { None };
            match (answer, done) {
                (Some(error), _) => Err(error),
                (None, Some(done)) => done,
                (None, None) => Err(failure()),
            }
        };
        if travel.is_zero() {
            return carry_out();
        }
        let (arrived, next) = oneshot::channel::<()>();
        let before =
            order.and_then(|order| order.lock().unwrap_or_else(PoisonError::into_inner).replace(next));
        let task = tokio::spawn(async move {
            tokio::time::sleep(travel).await;
            if let Some(before) = before {
                // The sender sends no value: its end means that the message has arrived.
                let _ = before.await;
            }
            let answer = carry_out();
            drop(arrived);
            tokio::time::sleep(travel).await;
            answer
        });
        let answer = task.await.map_err(|error| RemoteError::Failure(error.to_string()))?;
        if self.lock().era == era { answer } else { Err(cut()) }
    }
}

#[async_trait]
impl Remote for MemoryRemote {
    async fn stat(&self, path: &RemotePath) -> Result<RemoteAttributes, RemoteError> {
        let at = path.clone();
        let ask = move |tree: &mut Tree| tree.attributes(tree.existing(&at)?);
        self.shared.message(MessageKind::Stat, path, None, ask).await
    }

    async fn list(&self, path: &RemotePath) -> Result<Vec<RemoteEntry>, RemoteError> {
        let at = path.clone();
        self.shared.message(MessageKind::List, path, None, move |tree| tree.list(&at)).await
    }

    async fn open(&self, path: &RemotePath, how: RemoteOpen) -> Result<Arc<dyn RemoteFile>, RemoteError> {
        let (at, server) = (path.clone(), self.shared.server.clone());
        let open = move |tree: &mut Tree| {
            Ok(Held { number: tree.open(&at, how)?, power_losses: tree.power_losses, server })
        };
        let held = self.shared.message(MessageKind::Open, path, None, open).await?;
        Ok(Arc::new(MemoryFile {
            shared: self.shared.clone(),
            path: path.clone(),
            held,
            order: Mutex::default(),
        }))
    }

    async fn set_attributes(&self, path: &RemotePath, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        let at = path.clone();
        let change = move |tree: &mut Tree| {
            let number = tree.existing(&at)?;
            tree.set_attributes(number, set)
        };
        self.shared.message(MessageKind::SetAttributes, path, None, change).await
    }

    async fn mkdir(&self, path: &RemotePath, mode: u16) -> Result<(), RemoteError> {
        let at = path.clone();
        let make = move |tree: &mut Tree| tree.make(&at, Content::Directory(BTreeMap::new()), mode);
        self.shared.message(MessageKind::Mkdir, path, None, make).await
    }

    async fn mkdir_by_umask(&self, path: &RemotePath) -> Result<(), RemoteError> {
        self.mkdir(path, 0o777 & !UMASK).await
    }

    async fn rmdir(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let at = path.clone();
        self.shared.message(MessageKind::Rmdir, path, None, move |tree| tree.rmdir(&at)).await
    }

    async fn remove(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let at = path.clone();
        self.shared.message(MessageKind::Remove, path, None, move |tree| tree.remove(&at)).await
    }

    async fn rename(&self, from: &RemotePath, to: &RemotePath, how: RenameHow) -> Result<(), RemoteError> {
        self.shared.server.look_at(MessageKind::Rename, from, to.as_bytes());
        let (source, target) = (from.clone(), to.clone());
        let rename = move |tree: &mut Tree| tree.rename(&source, &target, how);
        self.shared.message(MessageKind::Rename, from, None, rename).await
    }

    async fn sync_directory(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let at = path.clone();
        let sync = move |tree: &mut Tree| {
            tree.names(tree.existing(&at)?)?;
            tree.sync_names();
            Ok(())
        };
        self.shared.message(MessageKind::SyncDirectory, path, None, sync).await
    }

    async fn symlink(&self, path: &RemotePath, target: &[u8]) -> Result<(), RemoteError> {
        self.shared.server.look_at(MessageKind::Symlink, path, target);
        let (at, target) = (path.clone(), target.to_vec());
        let make = move |tree: &mut Tree| tree.make(&at, Content::Symlink(target), 0o777);
        self.shared.message(MessageKind::Symlink, path, None, make).await
    }

    async fn readlink(&self, path: &RemotePath) -> Result<Bytes, RemoteError> {
        let at = path.clone();
        let read = move |tree: &mut Tree| match &tree.get(tree.existing(&at)?)?.content {
            Content::Symlink(target) => Ok(Bytes::copy_from_slice(target)),
            // EINVAL, which OpenSSH reports like ENAMETOOLONG.
            _ => Err(RemoteError::NameTooLong),
        };
        self.shared.message(MessageKind::Readlink, path, None, read).await
    }

    async fn hard_link(&self, existing: &RemotePath, new: &RemotePath) -> Result<(), RemoteError> {
        self.shared.server.look_at(MessageKind::HardLink, existing, new.as_bytes());
        let (source, target) = (existing.clone(), new.clone());
        let link = move |tree: &mut Tree| tree.hard_link(&source, &target);
        self.shared.message(MessageKind::HardLink, existing, None, link).await
    }

    async fn statistics(&self, path: &RemotePath) -> Result<RemoteStatistics, RemoteError> {
        self.shared.message(MessageKind::Statistics, path, None, |tree| Ok(tree.statistics())).await
    }

    fn names_budget(&self) -> &NamesBudget {
        &self.names
    }

    fn counters(&self) -> RemoteCounters {
        self.shared.lock().counters
    }

    fn refuse_requests(&self) -> Refusal {
        self.shared.refusals.begin()
    }

    fn is_reachable(&self) -> bool {
        !self.is_cut()
    }
}

/// The server's own reference to an open file.
struct Held {
    number: Number,
    /// As of when it was opened.
    power_losses: u32,
    server: MemoryServer,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut tree = self.server.lock();
        if tree.power_losses == self.power_losses {
            tree.release(self.number);
        }
    }
}

struct MemoryFile {
    shared: Shared,
    path: RemotePath,
    held: Held,
    order: Order,
}

impl MemoryFile {
    async fn message<T: Send + 'static>(
        &self,
        kind: MessageKind,
        operation: impl FnOnce(&mut Tree, Number) -> Result<T, RemoteError> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let (number, power_losses) = (self.held.number, self.held.power_losses);
        let operation = move |tree: &mut Tree| {
            if tree.power_losses == power_losses { operation(tree, number) } else { Err(failure()) }
        };
        self.shared.message(kind, &self.path, Some(&self.order), operation).await
    }
}

#[async_trait]
impl RemoteFile for MemoryFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
        let read = self
            .message(MessageKind::ReadFile, move |tree, number| tree.read(number, offset, length))
            .await?;
        self.shared.lock().counters.bytes_received += read.len() as u64;
        Ok(read)
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), RemoteError> {
        self.shared.server.look_at(MessageKind::WriteFile, &self.path, &data);
        let length = data.len() as u64;
        self.message(MessageKind::WriteFile, move |tree, number| tree.write(number, offset, &data)).await?;
        self.shared.lock().counters.bytes_sent += length;
        Ok(())
    }

    async fn stat(&self) -> Result<RemoteAttributes, RemoteError> {
        self.message(MessageKind::StatFile, |tree, number| tree.attributes(number)).await
    }

    async fn set_attributes(&self, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        self.message(MessageKind::SetFileAttributes, move |tree, number| tree.set_attributes(number, set))
            .await
    }

    async fn fsync(&self) -> Result<(), RemoteError> {
        self.message(MessageKind::Fsync, Tree::sync_content).await
    }

    async fn close(&self) -> Result<(), RemoteError> {
        self.message(MessageKind::Close, |_, _| Ok(())).await
    }
}

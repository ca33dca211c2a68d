//! An open file on the server. It outlives the connection it was opened on: on the next one it is reopened by its path,
//! after a check that it is still the same file.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use scaup_sftp::client::{
    self, FileHandle, Lane, OpenMode, Order, SftpAttributes, SftpError, SftpSetAttributes, StatusCode,
};

use super::behaviour::{Handles, is_refused};
use super::connection::Connection;
use super::conversions::{from_wire, plain, to_wire, with_mode};
use super::identity::FileIdentity;
use super::link::Link;
use super::reasons::{parent, why_not_made, why_not_opened, why_not_written};
use super::retry::retry;
use crate::{
    RemoteAttributes, RemoteError, RemoteFile, RemoteKind, RemoteOpen, RemotePath, RemoteSetAttributes, Room,
    Weakness,
};

/// Unacknowledged bytes on every lane of a file at which one more lane is worth its round trips: half of OpenSSH's
/// window.
const LANE_BUSY: u64 = 1024 * 1024;

/// A handle, and the lane it belongs to.
struct Open {
    lane: Lane,
    handle: FileHandle,
}

/// The handles of one file on one connection.
struct Opened {
    generation: u64,
    /// The name that it was opened by.
    path: RemotePath,
    first: Arc<Open>,
    /// More handles of the same file on upload lanes.
    more: Mutex<Vec<Arc<Open>>>,
    opening_more: AtomicBool,
    /// Whether it was opened for writing.
    writes: bool,
}

impl Opened {
    fn new(connection: &Connection, path: &RemotePath, handle: FileHandle, writes: bool) -> Self {
        Self {
            generation: connection.generation,
            path: path.clone(),
            first: Arc::new(Open { lane: connection.content.clone(), handle }),
            more: Mutex::default(),
            opening_more: AtomicBool::new(false),
            writes,
        }
    }
}

/// One open file.
pub(super) struct SftpFile {
    link: Arc<Link>,
    how: RemoteOpen,
    /// Its path; `None` once its name was removed.
    path: Mutex<Option<RemotePath>>,
    opened: tokio::sync::Mutex<Option<Arc<Opened>>>,
    identity: FileIdentity,
    /// Whether it is open for writing.
    writes: AtomicBool,
    /// Whether it was renamed since it was opened.
    is_renamed: AtomicBool,
    /// The length that was last set.
    set_length: AtomicU64,
    /// Whether its writes may be carried out in any order: no program sees a new file before it is whole.
    striped: AtomicBool,
}

/// All open files, so that their paths follow renames and removals.
#[derive(Default)]
pub(super) struct OpenFiles(Mutex<Vec<Weak<SftpFile>>>);

impl OpenFiles {
    fn add(&self, file: &Arc<SftpFile>) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| file.strong_count() > 0);
        files.push(Arc::downgrade(file));
    }

    fn all(&self) -> Vec<Arc<SftpFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Updates paths after a rename from `from` to `to`, also of files below it. The first file that is open then shows
    /// what handles go by.
    pub(super) fn renamed(&self, from: &RemotePath, to: &RemotePath) {
        for file in self.all() {
            let mut path = file.lock_path();
            let Some(old) = path.as_ref() else { continue };
            if old == to {
                // The file that had the name was replaced.
                *path = None;
            } else if let Some(moved) = old.moved(from, to) {
                *path = Some(moved);
                drop(path);
                file.is_renamed.store(true, Ordering::Release);
                file.find_out_what_handles_go_by();
            }
        }
    }

    /// Records in the open files of a path that their attributes are about to be set by it.
    pub(super) fn setting(&self, path: &RemotePath, set: &RemoteSetAttributes) {
        for file in self.all() {
            if file.lock_path().as_ref() == Some(path) {
                file.identity.record_setting(set.size.unwrap_or(u64::MAX));
            }
        }
    }

    /// Updates paths after a name was removed.
    pub(super) fn removed(&self, gone: &RemotePath) {
        for file in self.all() {
            let mut path = file.lock_path();
            if path.as_ref() == Some(gone) {
                *path = None;
            }
        }
    }
}

fn flags_of(how: RemoteOpen) -> (OpenMode, SftpSetAttributes) {
    match how {
        RemoteOpen::Read => (OpenMode::Read, SftpSetAttributes::default()),
        RemoteOpen::ReadWrite => (OpenMode::ReadWrite, SftpSetAttributes::default()),
        RemoteOpen::CreateNew(mode) => (OpenMode::CreateNew, with_mode(mode)),
        RemoteOpen::CreateByUmask => (OpenMode::CreateNew, SftpSetAttributes::default()),
    }
}

/// Opens a file for the first time.
pub(super) async fn open(
    link: &Arc<Link>,
    files: &OpenFiles,
    path: &RemotePath,
    how: RemoteOpen,
) -> Result<Arc<SftpFile>, RemoteError> {
    let opened = retry(link, "open", |connection, again| {
        Box::pin(async move { open_on(link, &connection, path, how, again).await })
    })
    .await?;
    let file = Arc::new(SftpFile {
        link: Arc::clone(link),
        how,
        writes: AtomicBool::new(opened.writes),
        is_renamed: AtomicBool::new(false),
        path: Mutex::new(Some(path.clone())),
        opened: tokio::sync::Mutex::new(Some(Arc::new(opened))),
        identity: FileIdentity::default(),
        set_length: AtomicU64::new(0),
        striped: AtomicBool::new(matches!(how, RemoteOpen::CreateNew(_) | RemoteOpen::CreateByUmask)),
    });
    files.add(&file);
    Ok(file)
}

async fn open_on(
    link: &Link,
    connection: &Connection,
    path: &RemotePath,
    how: RemoteOpen,
    again: bool,
) -> Result<Opened, RemoteError> {
    let whole = connection.whole_path(path);
    let (mut flags, attributes) = flags_of(how);
    if flags == OpenMode::ReadWrite && !keeps_content(connection, &whole).await? {
        flags = OpenMode::Read;
    }
    let handle = match connection.content.open_file(&whole, flags, &attributes).await {
        Ok(handle) => handle,
        // New names are made up here: one that exists after a cut was created by the interrupted attempt.
        Err(error) if flags == OpenMode::CreateNew => {
            let why = why_not_made(link, &whole, error).await;
            if !(again && why == RemoteError::Exists) {
                return Err(why);
            }
            open_again(connection, &whole).await?
        }
        Err(error) => return Err(why_not_opened(link, &whole, flags, error).await),
    };
    Ok(Opened::new(connection, path, handle, flags != OpenMode::Read))
}

/// Returns whether a file keeps its content when it is opened for writing.
async fn keeps_content(connection: &Connection, whole: &[u8]) -> Result<bool, RemoteError> {
    // As in `on`.
    let keeps = Box::pin(connection.behaviour().keeps_content(&connection.content, parent(whole)));
    keeps.await.map_err(plain)
}

/// Reads a whole small file that holds metadata: on the lane for names, where it does not wait behind content.
pub(super) async fn read_small(
    link: &Link,
    connection: &Connection,
    path: &RemotePath,
    limit: usize,
) -> Result<Bytes, RemoteError> {
    let (names, whole) = (&connection.names, connection.whole_path(path));
    let read = async {
        let handle = names.open_file(&whole, OpenMode::Read, &SftpSetAttributes::default()).await?;
        names.read_start(&handle, limit + 1, None).await
    };
    match read.await {
        Ok((_, content)) if content.len() > limit => Err(RemoteError::TooLong { limit }),
        Ok((_, content)) => Ok(content),
        // OpenSSH opens directories, too.
        Err(error) => Err(why_not_opened(link, &whole, OpenMode::Read, error).await),
    }
}

/// Opens a file for writing that this mount created or had open for writing on a former connection. Its mode may forbid
/// that by now, though not to a process that has it open: the mode is changed for a moment.
async fn open_again(connection: &Connection, whole: &[u8]) -> Result<FileHandle, RemoteError> {
    const OWNER_MAY: u16 = 0o600;
    let open = async || {
        connection.content.open_file(whole, OpenMode::ReadWrite, &SftpSetAttributes::default()).await
    };
    let refused = match open().await.map_err(plain) {
        Err(refused @ RemoteError::PermissionDenied) => refused,
        opened => return opened,
    };
    let RemoteAttributes { kind, mode, .. } = from_wire(&connection.names.lstat(whole).await.map_err(plain)?);
    if kind != RemoteKind::File || mode & OWNER_MAY == OWNER_MAY {
        return Err(refused);
    }
    connection.names.set_attributes(whole, &with_mode(mode | OWNER_MAY)).await.map_err(plain)?;
    let opened = open().await.map_err(plain);
    connection.names.set_attributes(whole, &with_mode(mode)).await.map_err(plain)?;
    opened
}

impl SftpFile {
    fn lock_path(&self) -> MutexGuard<'_, Option<RemotePath>> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the handles on `connection`, reopened if they belong to a former one.
    async fn on(&self, connection: &Connection) -> Result<Arc<Opened>, RemoteError> {
        let mut opened = self.opened.lock().await;
        let path = self.lock_path().clone();
        if let Some(opened) = opened.as_ref().filter(|opened| opened.generation == connection.generation)
            && (path.as_ref().is_none_or(|path| *path == opened.path)
                || Box::pin(handles_on(connection, opened)).await? != Some(Handles::Name))
        {
            return Ok(Arc::clone(opened));
        }
        // Boxed, as all that is rare here: it would make each request under way larger.
        let again = Arc::new(Box::pin(self.open_anew(connection, path)).await?);
        *opened = Some(Arc::clone(&again));
        Ok(again)
    }

    /// Opens the file again, by its name now.
    async fn open_anew(
        &self,
        connection: &Connection,
        path: Option<RemotePath>,
    ) -> Result<Opened, RemoteError> {
        let gone = || RemoteError::Replaced;
        let path = path.ok_or_else(gone)?;
        let again = match self.how {
            RemoteOpen::Read => open_on(&self.link, connection, &path, RemoteOpen::Read, true).await,
            RemoteOpen::ReadWrite | RemoteOpen::CreateNew(_) | RemoteOpen::CreateByUmask => {
                let whole = connection.whole_path(&path);
                if keeps_content(connection, &whole).await? {
                    let handle = open_again(connection, &whole).await;
                    handle.map(|handle| Opened::new(connection, &path, handle, true))
                } else {
                    open_on(&self.link, connection, &path, RemoteOpen::Read, true).await
                }
            }
        };
        let again = match again {
            Ok(again) => again,
            Err(RemoteError::NotFound) => return Err(gone()),
            Err(error) => return Err(error),
        };
        self.identity.recognize(&again.first.lane, &again.first.handle).await?;
        self.writes.store(again.writes, Ordering::Release);
        self.is_renamed.store(false, Ordering::Release);
        Ok(again)
    }

    /// Finds out in the background what handles go by, if that is not known yet, now that this open file was renamed.
    fn find_out_what_handles_go_by(self: &Arc<Self>) {
        let Some(connection) = self.link.present() else { return };
        if connection.behaviour().handles().is_some() {
            return;
        }
        let file = Arc::clone(self);
        tokio::spawn(async move {
            let opened = file.opened.lock().await.clone();
            // If it fails, the file's next use finds it out.
            if let Some(opened) = opened.filter(|opened| opened.generation == connection.generation)
                && let Ok(Some(Handles::Name)) = handles_on(&connection, &opened).await
            {
                let _ = keeps_content(&connection, &connection.whole_path(&opened.path)).await;
            }
        });
    }

    /// Fails if a request about this file would go to another one: it has no name any more, and the server goes by the
    /// name that it had.
    fn check_reached(&self, connection: &Connection) -> Result<(), SftpError> {
        let goes_by_name = connection.behaviour().handles() == Some(Handles::Name);
        if goes_by_name && self.lock_path().is_none() {
            return Err(SftpError::NotOffered("attributes of an open file that was removed"));
        }
        Ok(())
    }

    /// Sets attributes by the file's name, where the server refuses to set those of an open file. The length of a file
    /// that others know is not set so: by now another file may have the name.
    async fn set_by_name(&self, connection: &Connection, set: &SftpSetAttributes) -> Result<(), SftpError> {
        let is_new = matches!(self.how, RemoteOpen::CreateNew(_) | RemoteOpen::CreateByUmask);
        let path = self.lock_path().clone().filter(|_| is_new || set.size.is_none());
        let path = path.ok_or(SftpError::NotOffered("FSETSTAT"))?;
        connection.names.set_attributes(&connection.whole_path(&path), set).await
    }

    async fn write_whole_on(
        &self,
        connection: &Connection,
        Open { lane, handle }: &Open,
        data: &Bytes,
        set: &SftpSetAttributes,
    ) -> Result<SftpAttributes, SftpError> {
        let behaviour = connection.behaviour();
        let order = behaviour.order(lane);
        let with_content =
            if behaviour.seen.has(Weakness::NoOpenAttributes) { &SftpSetAttributes::default() } else { set };
        let mut written = lane.write_whole(handle, data, with_content, order).await?;
        if order == Order::AtOnce && !behaviour.is_in_order(&written, data.len(), with_content) {
            // Everything was replied to, so that nothing overtakes the content now.
            written = lane.settle(handle, with_content).await?;
            behaviour.record_settled_again(&written, data.len(), with_content);
        }
        if written.refused.as_ref().is_some_and(is_refused) {
            behaviour.seen.record(Weakness::NoOpenAttributes);
        }
        let is_missing = written.refused.is_some() || with_content != set;
        if !is_missing {
            return Ok(written.attributes);
        }
        match self.set_by_name(connection, set).await {
            Ok(()) => lane.fstat(handle).await,
            Err(error) if error.code().is_some() || matches!(error, SftpError::NotOffered(_)) => {
                if is_refused(&error) {
                    behaviour.seen.record(Weakness::NoAttributes);
                }
                tracing::info!(error = error.kind(), "a file is saved without its attributes");
                Ok(written.attributes)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads, and reads again by another handle what ends before the length that was set: on some servers (proftpd) a
    /// handle goes on with the length that the file had when it was opened.
    async fn read(
        &self,
        offset: u64,
        length: usize,
        room: Option<Arc<client::ReservedRoom>>,
    ) -> Result<Bytes, RemoteError> {
        let read = self.read_by_handle(offset, length, room.clone()).await?;
        let end = offset.saturating_add(read.len() as u64);
        if read.len() == length || end >= self.set_length.load(Ordering::Acquire) {
            return Ok(read);
        }
        // Once: somebody else may have cut the file.
        self.set_length.store(0, Ordering::Release);
        let mut opened = self.opened.lock().await;
        if self.lock_path().is_none() {
            return Ok(read);
        }
        *opened = None;
        drop(opened);
        self.read_by_handle(offset, length, room).await
    }

    async fn read_by_handle(
        &self,
        offset: u64,
        length: usize,
        room: Option<Arc<client::ReservedRoom>>,
    ) -> Result<Bytes, RemoteError> {
        let asked = self.identity.now();
        let read = self
            .retry("read", move |_, _, opened| {
                let (open, room) = (Arc::clone(&opened.first), room.clone());
                Box::pin(async move {
                    match room {
                        Some(room) => open.lane.read_ahead(&open.handle, offset, length, &room).await,
                        None => open.lane.read_at(&open.handle, offset, length).await,
                    }
                })
            })
            .await?;
        if offset == 0 {
            self.identity.record_start(asked, &read);
        }
        Ok(read)
    }

    /// Runs an operation on the file, and repeats it on the next connection if this one is lost meanwhile.
    async fn retry<T: Send>(
        &self,
        what: &'static str,
        operation: impl for<'a> Fn(
            &'a Self,
            &'a Connection,
            &'a Arc<Opened>,
        ) -> BoxFuture<'a, Result<T, SftpError>>
        + Send
        + Sync,
    ) -> Result<T, RemoteError> {
        let operation = &operation;
        retry(&self.link, what, move |connection, _| {
            Box::pin(async move {
                let opened = self.on(&connection).await?;
                match operation(self, &connection, &opened).await {
                    Ok(done) => Ok(done),
                    Err(error) => Err(self.why_not_done(&connection, &opened, error).await),
                }
            })
        })
        .await
    }

    /// Returns why an operation on the file failed. A failure without a reason may be the handle's fault: a server can
    /// lose one. The next attempt reopens the file, if it still has a name.
    async fn why_not_done(
        &self,
        connection: &Connection,
        opened: &Arc<Opened>,
        error: SftpError,
    ) -> RemoteError {
        let path = self.lock_path().clone();
        // A file that has no name any more lies at least below the mounted directory.
        let place = connection.whole_path(path.as_ref().unwrap_or(&RemotePath::root()));
        let why = why_not_written(&self.link, &place, error).await;
        if path.is_some() && matches!(why, RemoteError::Failure(_)) {
            let mut present = self.opened.lock().await;
            if present.as_ref().is_some_and(|present| Arc::ptr_eq(present, opened)) {
                *present = None;
            }
        }
        why
    }

    /// Returns the handle to write with. When its lanes are busy, more are opened meanwhile.
    fn writer(&self, connection: &Arc<Connection>, opened: &Arc<Opened>) -> Arc<Open> {
        if !self.striped.load(Ordering::Acquire) {
            return Arc::clone(&opened.first);
        }
        let least = opened.least_busy();
        if least.lane.unacknowledged() >= LANE_BUSY
            && !opened.opening_more.swap(true, Ordering::AcqRel)
            && let Some(path) = self.lock_path().clone()
        {
            tokio::spawn(open_more(Arc::clone(connection), Arc::clone(opened), path));
        }
        least
    }
}

impl Opened {
    fn lock_more(&self) -> MutexGuard<'_, Vec<Arc<Open>>> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the handle whose lane is least busy.
    fn least_busy(&self) -> Arc<Open> {
        let more = self.lock_more();
        let least = more.iter().chain([&self.first]).min_by_key(|open| open.lane.unacknowledged());
        Arc::clone(least.unwrap_or(&self.first))
    }
}

/// Returns what requests about a file go by that was renamed since it was opened; `None` if that can't be told, because
/// another file has its former name by now.
async fn handles_on(connection: &Connection, opened: &Opened) -> Result<Option<Handles>, RemoteError> {
    let behaviour = connection.behaviour();
    if behaviour.handles().is_some() {
        return Ok(behaviour.handles());
    }
    let Open { lane, handle } = &*opened.first;
    let former = connection.whole_path(&opened.path);
    let (by_handle, by_name) = futures::join!(lane.fstat(handle), connection.names.lstat(&former));
    let is_gone = |looked: &Result<SftpAttributes, SftpError>| match looked {
        Ok(_) => Ok(false),
        Err(error) if error.code() == Some(StatusCode::NoSuchFile) => Ok(true),
        Err(error) => Err(plain(error.clone())),
    };
    match (is_gone(&by_handle)?, is_gone(&by_name)?) {
        (true, _) => behaviour.record_handles(Handles::Name),
        (false, true) => behaviour.record_handles(Handles::File),
        (false, false) => {}
    }
    Ok(behaviour.handles())
}

/// Opens more handles of a file, one on each upload lane.
async fn open_more(connection: Arc<Connection>, opened: Arc<Opened>, path: RemotePath) {
    let whole = connection.whole_path(&path);
    let opens = connection.upload_lanes().await.iter().map(|lane| async {
        match lane.open_file(&whole, OpenMode::Write, &SftpSetAttributes::default()).await {
            Ok(handle) => opened.lock_more().push(Arc::new(Open { lane: lane.clone(), handle })),
            // The file may have its final name already. The existing handles are enough.
            Err(error) => tracing::debug!(error = plain(error).kind(), "no further lane for a file"),
        }
    });
    futures::future::join_all(opens).await;
}

#[async_trait]
impl RemoteFile for SftpFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
        self.read(offset, length, None).await
    }

    async fn read_ahead(&self, offset: u64, length: usize, room: Room) -> Result<Bytes, RemoteError> {
        self.read(offset, length, room.held()).await
    }

    async fn read_start(
        &self,
        length: usize,
        room: Option<Room>,
    ) -> Result<(RemoteAttributes, Bytes), RemoteError> {
        let room: Option<Arc<client::ReservedRoom>> = room.and_then(Room::held);
        let asked = self.identity.now();
        let (attributes, start) = self
            .retry("read_start", move |_, _, opened| {
                let (open, room) = (Arc::clone(&opened.first), room.clone());
                Box::pin(async move { open.lane.read_start(&open.handle, length, room.as_deref()).await })
            })
            .await?;
        let attributes = from_wire(&attributes);
        self.identity.record_attributes(asked, attributes);
        self.identity.record_start(asked, &start);
        Ok((attributes, start))
    }

    fn takes_writes(&self) -> bool {
        let is_sound = || {
            let connection = self.link.present();
            connection.is_none_or(|connection| connection.behaviour().writes_after_rename(&connection.names))
        };
        self.writes.load(Ordering::Acquire) && (!self.is_renamed.load(Ordering::Acquire) || is_sound())
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), RemoteError> {
        let seen = !self.striped.load(Ordering::Acquire);
        let writing = self.identity.record_writing(offset, &data, seen);
        retry(&self.link, "write_at", |connection, _| {
            let data = data.clone();
            Box::pin(async move {
                let opened = self.on(&connection).await?;
                let open = self.writer(&connection, &opened);
                match open.lane.write_at(&open.handle, offset, &data).await {
                    Ok(()) => Ok(()),
                    Err(error) => Err(self.why_not_done(&connection, &opened, error).await),
                }
            })
        })
        .await?;
        writing.record_acknowledged();
        Ok(())
    }

    async fn write_whole(
        &self,
        data: Bytes,
        set: RemoteSetAttributes,
    ) -> Result<RemoteAttributes, RemoteError> {
        self.identity.record_setting(0);
        self.striped.store(false, Ordering::Release);
        let (set, asked) = (to_wire(&set), self.identity.now());
        let attributes = self
            .retry("write_whole", move |file, connection, opened| {
                let (open, data) = (Arc::clone(&opened.first), data.clone());
                opened.lock_more().clear();
                Box::pin(async move { file.write_whole_on(connection, &open, &data, &set).await })
            })
            .await?;
        let attributes = from_wire(&attributes);
        self.identity.record_attributes(asked, attributes);
        Ok(attributes)
    }

    async fn stat(&self) -> Result<RemoteAttributes, RemoteError> {
        let asked = self.identity.now();
        let attributes = self
            .retry("stat", |file, connection, opened| {
                let open = Arc::clone(&opened.first);
                Box::pin(async move {
                    file.check_reached(connection)?;
                    open.lane.fstat(&open.handle).await
                })
            })
            .await?;
        let attributes = from_wire(&attributes);
        self.identity.record_attributes(asked, attributes);
        Ok(attributes)
    }

    async fn set_attributes(&self, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        self.identity.record_setting(set.size.unwrap_or(u64::MAX));
        let (set, length) = (to_wire(&set), set.size);
        self.retry("set_attributes", move |file, connection, opened| {
            let open = Arc::clone(&opened.first);
            Box::pin(async move {
                file.check_reached(connection)?;
                match open.lane.set_open_attributes(&open.handle, &set).await {
                    Err(error) if is_refused(&error) => {
                        // The first refusal says why, if that way does not lead there either.
                        file.set_by_name(connection, &set).await.map_err(|_| error)?;
                        connection.behaviour().seen.record(Weakness::NoOpenAttributes);
                        Ok(())
                    }
                    // Some reply that all is well, and leave the length (`rclone serve sftp`).
                    Ok(()) if length.is_some() && !open.lane.is_known_to_read_while_writing() => {
                        let now = open.lane.fstat(&open.handle).await?.size;
                        if now == length { Ok(()) } else { Err(SftpError::NotOffered("lengths of files")) }
                    }
                    set => set,
                }
            })
        })
        .await?;
        if let Some(length) = length {
            self.set_length.store(length, Ordering::Release);
        }
        Ok(())
    }

    async fn fsync(&self) -> Result<(), RemoteError> {
        // From here on the file may be visible.
        self.striped.store(false, Ordering::Release);
        self.retry("fsync", |_, _, opened| {
            let open = Arc::clone(&opened.first);
            opened.lock_more().clear();
            Box::pin(async move { open.lane.fsync(&open.handle).await })
        })
        .await
    }

    async fn close(&self) -> Result<(), RemoteError> {
        let Some(opened) = self.opened.lock().await.take() else { return Ok(()) };
        match opened.first.lane.close(&opened.first.handle).await {
            // A lost connection has closed the handle.
            Ok(()) | Err(SftpError::Disconnected(_)) => Ok(()),
            Err(error) => Err(plain(error)),
        }
    }
}

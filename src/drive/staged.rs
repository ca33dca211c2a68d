//! New content on the server under a temporary name, until it takes its final one.
//!
//! Making the file costs a round trip that a program would have to wait for. Where this mount has made files before, it
//! is made only when there is something to send: then all of a small file goes at once.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::file::Base;
use super::temporary;
use crate::remote::{
    Remote, RemoteAttributes, RemoteError, RemoteFile, RemoteOpen, RemotePath, RemoteSetAttributes, Room,
};

/// The server was asked to give content its final name, and has not answered.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// The name, if it was to be a conflicting copy.
    pub(super) copy: Option<OsString>,
    /// How the content's file looked.
    pub(super) base: Base,
}

/// A temporary file, made or not made yet.
pub(super) struct StagedFile {
    remote: Arc<dyn Remote>,
    path: Mutex<RemotePath>,
    /// Permission bits it will have.
    mode: Mutex<u16>,
    made: OnceCell<Arc<dyn RemoteFile>>,
    /// Its content is given up, but programs that have it open may go on with it: it is to have no name.
    discarded: AtomicBool,
    /// Nobody knows what became of it.
    attempt: Mutex<Option<Attempt>>,
}

impl StagedFile {
    /// A file to be made at `path` when it is first used.
    pub(super) fn new(remote: Arc<dyn Remote>, path: RemotePath, mode: u16) -> Arc<Self> {
        Arc::new(Self {
            remote,
            path: Mutex::new(path),
            mode: Mutex::new(mode),
            made: OnceCell::new(),
            discarded: AtomicBool::new(false),
            attempt: Mutex::default(),
        })
    }

    /// The file, made if it is not.
    pub(super) async fn make(&self) -> Result<&Arc<dyn RemoteFile>, RemoteError> {
        let make = || async {
            let (path, how) = (self.path(), RemoteOpen::CreateNew(self.mode()));
            let made = match self.remote.open(&path, how).await {
                // Nobody else makes such names: an earlier attempt did, whose answer was lost. It holds nothing, and may have another mode.
                Err(RemoteError::Exists) => {
                    self.remote.remove(&path).await?;
                    self.remote.open(&path, how).await?
                }
                done => done?,
            };
            if self.discarded.load(Ordering::Acquire) {
                self.remove().await;
            }
            Ok(made)
        };
        self.made.get_or_try_init(make).await
    }

    /// Permission bits it has or will have.
    pub(super) fn mode(&self) -> u16 {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> RemotePath {
        self.lock_path().clone()
    }

    fn lock_path(&self) -> MutexGuard<'_, RemotePath> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory around it was moved, or one further up.
    pub(super) fn note_moved(&self, from: &RemotePath, to: &RemotePath) {
        let mut path = self.lock_path();
        if let Some(moved) = path.moved(from, to) {
            *path = moved;
        }
    }

    /// Sets the permission bits.
    pub(super) async fn set_mode(&self, mode: u16) -> Result<(), RemoteError> {
        if let Some(made) = self.made.get() {
            let set = RemoteSetAttributes { mode: Some(mode), ..RemoteSetAttributes::default() };
            made.set_attributes(set).await?;
        }
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        Ok(())
    }

    /// Notes, or with `None` forgets, that it may have its final name already.
    pub(super) fn note_attempt(&self, attempt: Option<Attempt>) {
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
    }

    /// The attempt to publish it of which nobody knows what became.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives its content up: it loses its name, now or when it is made.
    pub(super) async fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
        if self.made.get().is_some() {
            self.remove().await;
        }
    }

    /// What can't be removed is debris, cleaned up later.
    async fn remove(&self) {
        let path = self.path();
        if let Err(error) = self.remote.remove(&path).await {
            temporary::abandon(&path, &error);
        }
    }
}

#[async_trait]
impl RemoteFile for StagedFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
        self.make().await?.read_at(offset, length).await
    }

    async fn read_ahead(&self, offset: u64, length: usize, room: Room) -> Result<Bytes, RemoteError> {
        self.make().await?.read_ahead(offset, length, room).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), RemoteError> {
        self.make().await?.write_at(offset, data).await
    }

    async fn write_whole(
        &self,
        data: Bytes,
        set: RemoteSetAttributes,
    ) -> Result<RemoteAttributes, RemoteError> {
        let made = self.make().await?;
        // The server's umask may have taken some of its permissions away.
        made.write_whole(data, RemoteSetAttributes { mode: Some(self.mode()), ..set }).await
    }

    async fn stat(&self) -> Result<RemoteAttributes, RemoteError> {
        self.make().await?.stat().await
    }

    async fn set_attributes(&self, set: RemoteSetAttributes) -> Result<(), RemoteError> {
        self.make().await?.set_attributes(set).await
    }

    async fn fsync(&self) -> Result<(), RemoteError> {
        self.make().await?.fsync().await
    }

    async fn close(&self) -> Result<(), RemoteError> {
        match self.made.get() {
            Some(made) => made.close().await,
            None => Ok(()),
        }
    }
}

//! New content on the server under a temporary name, until it takes its final one.
//!
//! Making the file costs a round trip that a program would have to wait for. Where this mount has made files before, it
//! is made only when there is something to send: then all of a small file goes at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::temporary;
use crate::remote::{
    Remote, RemoteAttributes, RemoteError, RemoteFile, RemoteOpen, RemotePath, RemoteSetAttributes, Room,
};

/// A temporary file, made or not made yet.
pub(super) struct StagedFile {
    remote: Arc<dyn Remote>,
    path: Mutex<RemotePath>,
    /// Permission bits it will have.
    mode: Mutex<u16>,
    made: OnceCell<Arc<dyn RemoteFile>>,
    /// Its content is given up, but programs that have it open may go on with it: it is to have no name.
    discarded: AtomicBool,
    /// The server was asked to give it its final name, and has not answered.
    perhaps_published: AtomicBool,
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
            perhaps_published: AtomicBool::new(false),
        })
    }

    /// The file, made if it is not.
    pub(super) async fn make(&self) -> Result<&Arc<dyn RemoteFile>, RemoteError> {
        let make = || async {
            let made = match self.remote.open(&self.path(), RemoteOpen::CreateNew(self.mode())).await {
                // Nobody else makes such names: an earlier attempt did, whose answer was lost.
                Err(RemoteError::Exists) => self.remote.open(&self.path(), RemoteOpen::ReadWrite).await?,
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

    /// Nobody knows whether it has its final name by now.
    pub(super) fn note_perhaps_published(&self) {
        self.perhaps_published.store(true, Ordering::Release);
    }

    /// Whether it may have its final name already.
    pub(super) fn is_perhaps_published(&self) -> bool {
        self.perhaps_published.load(Ordering::Acquire)
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
        self.make().await?.write_whole(data, set).await
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

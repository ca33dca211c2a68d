//! New content on the server under a temporary name, until it takes its final one.
//!
//! Creating the file costs a round trip that a program would have to wait for. Where this mount has made files before,
//! it is created only when there is something to send: then all of a small file goes at once.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::state::Base;
use crate::remote::{
    Remote, RemoteAttributes, RemoteError, RemoteFile, RemoteOpen, RemotePath, RemoteSetAttributes, Room,
};
use crate::vault::temporary;

/// An attempt to give content its final name that the server has not answered.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// The name, if it was to be a conflicting copy.
    pub(super) copy: Option<OsString>,
    /// Size and time of the content's file.
    pub(super) base: Base,
}

/// A temporary file, created or not created yet.
pub(in crate::drive) struct StagedFile {
    remote: Arc<dyn Remote>,
    path: Mutex<RemotePath>,
    /// Permission bits that it has or will have.
    mode: Mutex<u16>,
    made: OnceCell<Arc<dyn RemoteFile>>,
    /// Whether its content is discarded; programs that have it open may go on with it, but it must not get a name.
    discarded: AtomicBool,
    /// The attempt to publish it whose outcome is unknown.
    attempt: Mutex<Option<Attempt>>,
}

impl StagedFile {
    /// Describes a file to be created at `path` when it is first used.
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

    /// Returns the file, created if necessary.
    pub(super) async fn make(&self) -> Result<&Arc<dyn RemoteFile>, RemoteError> {
        let make = || async {
            let (path, how) = (self.path(), RemoteOpen::CreateNew(self.mode()));
            let made = match self.remote.open(&path, how).await {
                // Nobody else makes such names: an earlier attempt did, whose reply was lost. The file is empty, and
                // may have another mode.
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

    /// Returns the permission bits that it has or will have.
    pub(super) fn mode(&self) -> u16 {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns its path.
    pub(super) fn path(&self) -> RemotePath {
        self.lock_path().clone()
    }

    fn lock_path(&self) -> MutexGuard<'_, RemotePath> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the directory around it was moved, or one further up.
    pub(in crate::drive) fn follow_move(&self, from: &RemotePath, to: &RemotePath) {
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
    pub(super) fn set_attempt(&self, attempt: Option<Attempt>) {
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
    }

    /// Returns the attempt to publish it whose outcome is unknown.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Discards its content: the file loses its name, now or when it is created.
    pub(in crate::drive) async fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
        if self.made.get().is_some() {
            self.remove().await;
        }
    }

    /// Removes the file. If that fails, it is debris, cleaned up later.
    async fn remove(&self) {
        let path = self.path();
        if let Err(error) = self.remote.remove(&path).await {
            temporary::abandon(&path, error);
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

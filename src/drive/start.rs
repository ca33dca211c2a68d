//! What a file on the server is opened with: a handle, how the file looks, and its first bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::error::DriveError;
use crate::remote::{Remote, RemoteAttributes, RemoteFile, RemoteOpen, RemotePath};

/// A file that was opened on the server, and begun to be read. Dropping it closes it, and nobody waits for that.
pub(super) struct Start {
    pub(super) file: Arc<dyn RemoteFile>,
    pub(super) attributes: RemoteAttributes,
    /// Its first bytes as they are stored, in a vault encrypted.
    pub(super) head: Bytes,
}

impl Start {
    /// Opens a file and reads its first `length` bytes (all, if it is shorter): two round trips.
    pub(super) async fn fetch(
        remote: &dyn Remote,
        path: &RemotePath,
        how: RemoteOpen,
        length: u64,
    ) -> Result<Self, DriveError> {
        let file = remote.open(path, how).await?;
        let length = usize::try_from(length).map_err(|_| DriveError::TooLarge)?;
        let (attributes, head) = file.read_start(length, None).await?;
        Ok(Self { file, attributes, head })
    }

    /// The same for reading, before anybody asks for it: what programs wait for goes first if it `goes_last`.
    async fn fetch_ahead(
        remote: &dyn Remote,
        path: &RemotePath,
        length: u64,
        goes_last: bool,
    ) -> Result<Self, DriveError> {
        let file = remote.open(path, RemoteOpen::Read).await?;
        let length = usize::try_from(length).map_err(|_| DriveError::TooLarge)?;
        let room = if goes_last { Some(remote.room_ahead(length).await?) } else { None };
        let (attributes, head) = file.read_start(length, room).await?;
        Ok(Self { file, attributes, head })
    }
}

/// A start that is being fetched in the background. Dropping it gives it up, or closes what was opened.
pub(super) struct Fetching(JoinHandle<Result<Start, DriveError>>);

impl Fetching {
    /// Begins to fetch the start of an existing file, for reading, before anybody asks for it.
    pub(super) fn begin(remote: Arc<dyn Remote>, path: RemotePath, length: u64, goes_last: bool) -> Self {
        Self(tokio::spawn(async move { Start::fetch_ahead(remote.as_ref(), &path, length, goes_last).await }))
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for it.
    pub(super) async fn done(mut self) -> Result<Start, DriveError> {
        match (&mut self.0).await {
            Ok(fetched) => fetched,
            Err(_) => Err(DriveError::Stale),
        }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! What a file on the server is opened with: a handle, how the file looks, and its first bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::error::DriveError;
use crate::remote::{ReadPriority, Remote, RemoteAttributes, RemoteFile, RemoteOpen, RemotePath};

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
        priority: ReadPriority,
    ) -> Result<Self, DriveError> {
        let file = remote.open(path, how).await?;
        let length = usize::try_from(length).map_err(|_| DriveError::TooLarge)?;
        let (attributes, head) = file.read_start(length, priority).await?;
        Ok(Self { file, attributes, head })
    }
}

/// A start that is being fetched in the background. Dropping it gives it up, or closes what was opened.
pub(super) struct Fetching(JoinHandle<Result<Start, DriveError>>);

impl Fetching {
    /// Begins to fetch the start of an existing file, for reading, before anybody asks for it.
    pub(super) fn begin(remote: Arc<dyn Remote>, path: RemotePath, length: u64) -> Self {
        Self(tokio::spawn(async move {
            Start::fetch(remote.as_ref(), &path, RemoteOpen::Read, length, ReadPriority::Ahead).await
        }))
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

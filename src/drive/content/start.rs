//! The start of a file on the server: a handle, the attributes, and the first bytes.

use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::CiphertextLen;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::drive::error::DriveError;
use crate::remote::{Remote, RemoteAttributes, RemoteFile, RemoteOpen, RemotePath};

/// A file that was opened on the server, with its beginning. Dropping it closes the file in the background.
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
        length: CiphertextLen,
    ) -> Result<Self, DriveError> {
        let file = remote.open(path, how).await?;
        let length = usize::try_from(length.0).map_err(|_| DriveError::TooLarge)?;
        let (attributes, head) = file.read_start(length, None).await?;
        Ok(Self { file, attributes, head })
    }

    /// Like [`Self::fetch`], for reading, before anybody asks for it: requests that programs wait for go first if it
    /// `goes_last`.
    async fn fetch_ahead(
        remote: &dyn Remote,
        path: &RemotePath,
        length: CiphertextLen,
        goes_last: bool,
    ) -> Result<Self, DriveError> {
        let file = remote.open(path, RemoteOpen::Read).await?;
        let length = usize::try_from(length.0).map_err(|_| DriveError::TooLarge)?;
        let room = if goes_last { Some(remote.room_ahead(length).await?) } else { None };
        let (attributes, head) = file.read_start(length, room).await?;
        Ok(Self { file, attributes, head })
    }
}

/// A start that is being fetched in the background. Dropping it cancels the fetch, or closes the opened file.
pub(in crate::drive) struct Fetching(JoinHandle<Result<Start, DriveError>>);

impl Fetching {
    /// Begins to fetch the start of an existing file, for reading, before anybody asks for it.
    pub(in crate::drive) fn begin(
        remote: Arc<dyn Remote>,
        path: RemotePath,
        length: CiphertextLen,
        goes_last: bool,
    ) -> Self {
        let start = async move { Start::fetch_ahead(remote.as_ref(), &path, length, goes_last).await };
        Self(tokio::spawn(start.in_current_span()))
    }

    pub(in crate::drive) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the start.
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

//! The first read of a file on the server: it opens the file, and brings the attributes and the first bytes. From these
//! comes the state of its content: the header, the length, and the chunks that came along.

use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::{CiphertextLen, CleartextLen};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::chunks::{Claim, ContentId};
use super::codec::Codec;
use super::home::Home;
use super::location::Location;
use super::state::{Access, Backing, Base, State, Stored};
use crate::drive::error::DriveError;
use crate::remote::{Remote, RemoteAttributes, RemoteFile, RemoteOpen, RemotePath};

/// A file that was opened on the server, with its beginning. Dropping it closes the file in the background.
pub(super) struct FirstRead {
    file: Arc<dyn RemoteFile>,
    attributes: RemoteAttributes,
    /// Its first bytes as they are stored, in a vault encrypted.
    head: Bytes,
}

impl FirstRead {
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

/// A first read under way in the background. Dropping it cancels the read, or closes the opened file.
pub(in crate::drive) struct Fetching(JoinHandle<Result<FirstRead, DriveError>>);

impl Fetching {
    /// Begins the first read of an existing file, to be read only, before anybody asks for it.
    pub(in crate::drive) fn begin(
        remote: Arc<dyn Remote>,
        path: RemotePath,
        length: CiphertextLen,
        goes_last: bool,
    ) -> Self {
        let read = async move { FirstRead::fetch_ahead(remote.as_ref(), &path, length, goes_last).await };
        Self(tokio::spawn(read.in_current_span()))
    }

    pub(in crate::drive) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for it.
    pub(super) async fn done(mut self) -> Result<FirstRead, DriveError> {
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

/// Checks a file whose size leaves room for one more, empty chunk at the end. Some writers may add one, or a chunk may
/// be cut short: the chunk has to be authentic.
async fn check_end(
    file: &dyn RemoteFile,
    codec: &Codec,
    length: CleartextLen,
    size: CiphertextLen,
) -> Result<(), DriveError> {
    let end = codec.ciphertext_len(length);
    if size <= end {
        return Ok(());
    }
    let extra = usize::try_from(size.saturating_sub(end)).map_err(|_| DriveError::TooLarge)?;
    let chunk = file.read_at(end.0, extra).await?;
    codec.decode(length.chunk(), &chunk).map(|_| ())
}

impl State {
    /// Creates the state of a file that was just opened. `known` is the content that it had before, with size and time.
    pub(super) async fn from_first_read(
        home: &dyn Home,
        location: &Location,
        read: FirstRead,
        writable: bool,
        known: Option<(ContentId, Base)>,
    ) -> Result<Self, DriveError> {
        let FirstRead { file, attributes, head } = read;
        let base = Base::from(attributes);
        let content = match known {
            Some((content, known)) if known == base => content,
            _ => ContentId::fresh(),
        };
        let size = CiphertextLen(attributes.size);
        let header = match location.read_header(&head, size) {
            Ok((codec, length)) => {
                check_end(file.as_ref(), &codec, length, size).await.map(|()| (codec, length))
            }
            Err(error) => Err(error),
        };
        let (access, length) = match header {
            Ok((codec, length)) => (Access::with_header(codec), length),
            Err(DriveError::Damaged(what)) => (Access::Damaged(what), CleartextLen::ZERO),
            Err(error) => return Err(error),
        };
        let state = Self::new(Backing::Stored(Stored::new(file, writable, base)), access, content, length);
        state.keep_head(home, head);
        Ok(state)
    }

    /// Caches the chunks that came with the header, those that are whole and authentic.
    fn keep_head(&self, home: &dyn Home, mut head: Bytes) {
        let Ok(codec) = self.codec() else { return };
        let split = |head: &mut Bytes, length: usize| (length <= head.len()).then(|| head.split_to(length));
        if split(&mut head, codec.header_len()).is_none() {
            return;
        }
        for number in self.stored_length.chunks().numbers() {
            let Some(chunk) = split(&mut head, codec.chunk_len(self.stored_length, number)) else { return };
            let Claim::Load(promise) = home.resources().cache.claim(self.key(number)) else { continue };
            // A chunk that does not authenticate is fetched again when somebody reads it, and reported then.
            if let Ok(chunk) = codec.decode(number, &chunk) {
                home.resources().counters.count_decrypted();
                promise.keep(Ok(chunk));
            }
        }
    }
}

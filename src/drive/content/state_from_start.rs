//! The content of a file that was just opened, from the server's first reply: its header, its length, and the chunks
//! that came along.

use std::sync::Arc;

use bytes::Bytes;

use super::chunks::{Claim, ContentId};
use super::codec::{CHUNK_LEN, Codec};
use super::home::Home;
use super::location::Location;
use super::start::Start;
use super::state::{Backing, Base, State, Stored};
use crate::drive::error::DriveError;
use crate::remote::RemoteFile;

/// Checks a file whose size leaves room for one more, empty chunk at the end. Some writers may add one, or a chunk may
/// be cut short: the chunk has to be authentic.
async fn check_end(file: &dyn RemoteFile, codec: &Codec, length: u64, size: u64) -> Result<(), DriveError> {
    let end = codec.stored_len(length);
    if size <= end {
        return Ok(());
    }
    let extra = usize::try_from(size - end).map_err(|_| DriveError::TooLarge)?;
    let chunk = file.read_at(end, extra).await?;
    codec.decode(length / CHUNK_LEN, &chunk).map(|_| ())
}

impl State {
    /// Creates the state of a file that was just opened. `known` is the content that it had before, with size and time.
    pub(super) async fn from_start(
        home: &dyn Home,
        location: &Location,
        start: Start,
        writable: bool,
        known: Option<(ContentId, Base)>,
    ) -> Result<Self, DriveError> {
        let Start { file, attributes, head } = start;
        let base = Base::from(attributes);
        let content = match known {
            Some((content, known)) if known == base => content,
            _ => ContentId::fresh(),
        };
        let read = match location.read_header(&head, attributes.size) {
            Ok((codec, length)) => {
                check_end(file.as_ref(), &codec, length, attributes.size).await.map(|()| (codec, length))
            }
            Err(error) => Err(error),
        };
        let (codec, length) = match read {
            Ok((codec, length)) => (Ok(Arc::new(codec)), length),
            Err(error @ DriveError::Damaged(_)) => (Err(error), 0),
            Err(error) => return Err(error),
        };
        let state = Self::new(Backing::Stored(Stored::new(file, writable, base)), codec, content, length);
        state.keep_head(home, head);
        Ok(state)
    }

    /// Caches the chunks that came with the header, those that are whole and authentic.
    fn keep_head(&self, home: &dyn Home, mut head: Bytes) {
        let Ok(codec) = &self.codec else { return };
        let header_len = codec.header_len();
        let split = |head: &mut Bytes, length: u64| {
            let length = usize::try_from(length).ok().filter(|&length| length <= head.len())?;
            Some(head.split_to(length))
        };
        if split(&mut head, header_len).is_none() {
            return;
        }
        for number in 0..self.stored_length.div_ceil(CHUNK_LEN) {
            let stored = codec.stored_len(self.stored_chunk_len(number)) - header_len;
            let Some(chunk) = split(&mut head, stored) else { return };
            let Claim::Load(promise) = home.resources().cache.claim(self.key(number)) else { continue };
            // A chunk that does not authenticate is fetched again when somebody reads it, and reported then.
            if let Ok(chunk) = codec.decode(number, &chunk) {
                home.resources().counters.count_decrypted();
                promise.keep(Ok(chunk));
            }
        }
    }
}

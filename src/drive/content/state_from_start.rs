//! The content of a file that was just opened, from the server's first reply: its header, its length, and the chunks
//! that came along.

use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::{CiphertextLen, CleartextLen};

use super::chunks::{Claim, ContentId};
use super::codec::Codec;
use super::home::Home;
use super::location::Location;
use super::start::Start;
use super::state::{Backing, Base, State, Stored};
use crate::drive::error::DriveError;
use crate::remote::RemoteFile;

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
        let size = CiphertextLen(attributes.size);
        let read = match location.read_header(&head, size) {
            Ok((codec, length)) => {
                check_end(file.as_ref(), &codec, length, size).await.map(|()| (codec, length))
            }
            Err(error) => Err(error),
        };
        let (codec, length) = match read {
            Ok((codec, length)) => (Ok(Arc::new(codec)), length),
            Err(error @ DriveError::Damaged(_)) => (Err(error), CleartextLen::ZERO),
            Err(error) => return Err(error),
        };
        let state = Self::new(Backing::Stored(Stored::new(file, writable, base)), codec, content, length);
        state.keep_head(home, head);
        Ok(state)
    }

    /// Caches the chunks that came with the header, those that are whole and authentic.
    fn keep_head(&self, home: &dyn Home, mut head: Bytes) {
        let Ok(codec) = &self.codec else { return };
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

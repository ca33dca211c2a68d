//! Content whose vault is locked before it was saved: what is unsaved is encrypted at once, and sent later without
//! keys.
//!
//! Sealed content is saved as any other: in place, or under a temporary name that becomes the final one; if somebody
//! else changed the file meanwhile, ours goes beside it. All that needs a key is done when it is sealed: chunks and
//! header are encrypted, and the names that it may get.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::{ChunkNumber, CiphertextLen, CleartextLen};

use super::chunks::ContentId;
use super::codec::Codec;
use super::file::File;
use super::home::Home;
use super::location::Location;
use super::sealed_place::{SealedName, SealedPlace};
use super::sending::SEND_AT_CHUNKS;
use super::staged::{Attempt, StagedFile};
use super::state::{Access, Backing, Base, Rest, State, Stored};
use crate::drive::error::DriveError;

/// What a state becomes when its vault is locked.
pub(in crate::drive) struct Sealed {
    place: Arc<SealedPlace>,
    codec: Arc<Codec>,
    dirty: BTreeMap<ChunkNumber, Bytes>,
    end: Option<(ChunkNumber, Bytes)>,
    attempt: Option<Attempt>,
}

impl State {
    /// Encrypts what is unsaved. Nobody waits for the server: what is under way counts as unsent.
    fn sealed(&mut self, location: Location, name: &OsStr, is_half: bool) -> Result<Sealed, DriveError> {
        self.uploader = None;
        self.early.clear();
        let under_way: Vec<ChunkNumber> = self.sending.keys().copied().collect();
        under_way.into_iter().for_each(|number| self.take_back(number));
        let codec = Arc::clone(self.codec()?);
        let encrypt = |number: ChunkNumber, chunk: &Bytes| {
            let mut stored = Vec::new();
            codec.encode(number, chunk, &mut stored)?;
            Ok::<_, DriveError>((number, Bytes::from(stored)))
        };
        let dirty = self.dirty.iter().map(|(&number, chunk)| encrypt(number, chunk));
        let dirty = dirty.collect::<Result<_, _>>()?;
        let end = match &self.backing {
            Backing::Stored(Stored { end: Some((number, chunk)), .. }) => Some(encrypt(*number, chunk)?),
            Backing::Stored(_) | Backing::Staged { .. } => None,
        };
        let mut attempt = self.backing.staged().and_then(|staged| staged.attempt());
        let tried = match (&mut attempt, &location) {
            (Some(Attempt { copy: Some(copy), .. }), Location::Vault { directory, .. }) => {
                let tried = SealedName::of(directory, copy)?;
                *copy = tried.known_as().to_owned();
                Some(tried)
            }
            _ => None,
        };
        let Location::Vault { directory, entry, long_name } = location else { return Err(DriveError::Stale) };
        let mut place = SealedPlace::new(directory, SealedName { entry, long_name }, name, is_half)?;
        tried.into_iter().for_each(|tried| place.add_copy(tried));
        Ok(Sealed { place: Arc::new(place), codec: Arc::new(codec.sealed()?), dirty, end, attempt })
    }

    /// Keeps only what is encrypted: programs that have the file open read and write nothing from now on.
    pub(in crate::drive) fn seal(&mut self, sealed: Sealed) {
        let Sealed { place, codec, dirty, end, attempt } = sealed;
        self.access = Access::Sealed { codec, header_unsent: self.is_header_unsent(), place };
        self.content = ContentId::fresh();
        self.dirty = dirty;
        match &mut self.backing {
            Backing::Stored(stored) => stored.end = end,
            Backing::Staged { file, .. } => file.set_attempt(attempt),
        }
    }

    /// Returns the bytes of a chunk as the server has them or will have them.
    async fn sealed_chunk(&self, codec: &Codec, number: ChunkNumber) -> Result<Bytes, DriveError> {
        if let Some(chunk) = self.dirty.get(&number) {
            return Ok(chunk.clone());
        }
        let length = codec.chunk_len(self.stored_length, number);
        let CiphertextLen(offset) = codec.offset(number);
        let chunk = self.backing.file().read_at(offset, length).await?;
        if chunk.len() < length {
            return Err(DriveError::damaged(format_args!("chunk {number} is cut short")));
        }
        Ok(chunk)
    }
}

impl File {
    /// Encrypts what is unsaved, with the state of a file whose name is not gone: see [`State::seal`].
    pub(in crate::drive) fn sealed(
        &self,
        home: &dyn Home,
        state: &mut State,
        is_half: bool,
    ) -> Result<Sealed, DriveError> {
        state.sealed(home.location(self.inode)?, &home.name_of(self.inode)?, is_half)
    }

    /// Returns where the content is saved.
    pub(super) fn location(&self, home: &dyn Home, state: &State) -> Result<Location, DriveError> {
        match state.sealed_place() {
            Some(place) => Ok(Location::of_sealed(place)),
            None => home.location(self.inode),
        }
    }

    /// Copies sealed content to a new temporary file, which becomes this file's content: somebody else's file has its
    /// name by now.
    pub(super) async fn copy_sealed(
        &self,
        home: &dyn Home,
        state: &mut State,
        (place, codec): (Arc<SealedPlace>, Arc<Codec>),
        mode: u16,
        replaces: Option<Base>,
    ) -> Result<(), DriveError> {
        let remote = Arc::clone(&home.resources().remote);
        let file = StagedFile::new(remote, Location::of_sealed(&place).temporary_path()?, mode);
        let access = Access::Sealed { codec: Arc::clone(&codec), header_unsent: true, place };
        let backing = Backing::Staged { file: Arc::clone(&file), replaces };
        let mut staged = State::new(backing, access, ContentId::fresh(), CleartextLen::ZERO);
        staged.rest = Rest::Something;
        let copied = async {
            for number in state.length.chunks().numbers() {
                let chunk = state.sealed_chunk(&codec, number).await?;
                staged.length = staged.end_of(number, &chunk);
                staged.dirty.insert(number, chunk);
                if staged.dirty.len() > SEND_AT_CHUNKS {
                    self.send(home, &mut staged, None).await?;
                    self.drain(home, &mut staged).await?;
                }
            }
            Ok(())
        };
        if let Err(error) = copied.await {
            file.discard().await;
            return Err(error);
        }
        staged.times = state.times;
        *state = staged;
        Ok(())
    }
}

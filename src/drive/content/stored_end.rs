//! The last chunk of a vault's file: as the file grows it is replaced by a longer one, and a server that has no room
//! for the longer one may leave half of it.

use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::ChunkNumber;

use super::home::Home;
use super::location::Location;
use super::state::{Backing, State, Stored};
use crate::drive::error::DriveError;
use crate::remote::{RemoteOpen, RemoteSetAttributes};
use crate::vault::temporary;

impl State {
    /// Whether a chunk is the last one of a vault's file on the server, and not full: it is replaced as the file grows.
    pub(super) fn is_stored_end(&self, number: ChunkNumber) -> bool {
        self.has_header()
            && !self.backing.is_staged()
            && self.stored_length.in_chunk() > 0
            && number == self.stored_length.chunk()
    }

    /// Keeps the cleartext of the last chunk on the server, to restore it if replacing it fails.
    pub(super) fn keep_end(&mut self, number: ChunkNumber, chunk: Bytes) {
        if let Backing::Stored(stored) = &mut self.backing {
            stored.end = Some((number, chunk));
        }
    }

    /// Restores the end of a vault's file after an addition failed that may have torn it. That needs no room: those
    /// blocks belong to the file already.
    pub(super) async fn put_back_end(&mut self) -> Result<(), DriveError> {
        let codec = Arc::clone(self.sending_codec()?);
        if !codec.has_header() || self.backing.is_staged() || self.reach <= self.stored_length {
            return Ok(());
        }
        let number = self.stored_length.chunk();
        if self.is_stored_end(number) {
            let Backing::Stored(Stored { end: Some((kept, end)), .. }) = &self.backing else { return Ok(()) };
            if *kept != number {
                return Ok(());
            }
            let mut stored = Vec::new();
            codec.encode(number, end, &mut stored)?;
            self.backing.file().write_at(codec.offset(number).0, Bytes::from(stored)).await?;
        }
        self.cut_off(self.stored_length).await
    }

    /// Fails unless there is room now, if the server lacked room for an earlier addition; the file is not touched. A
    /// quota shows only by a refusal, so a probe file is made and removed.
    pub(super) async fn check_room(
        &mut self,
        home: &dyn Home,
        location: &Location,
    ) -> Result<(), DriveError> {
        /// More than one chunk grows by, counted in a file system's blocks.
        const PROBED_MAX: u64 = 256 * 1024;
        if !matches!(self.backing, Backing::Stored(Stored { lacks_room: true, .. })) {
            return Ok(());
        }
        self.put_back_end().await?;
        let codec = self.sending_codec()?;
        let added =
            codec.ciphertext_len(self.length).saturating_sub(codec.ciphertext_len(self.stored_length));
        let probed = usize::try_from(added.min(PROBED_MAX)).unwrap_or_default();
        let mut noise = vec![0; probed];
        getrandom::fill(&mut noise).map_err(|error| DriveError::Random(error.to_string()))?;
        let path = location.temporary_path()?;
        let file = home.resources().remote.open(&path, RemoteOpen::CreateNew(0o600)).await?;
        let written = file.write_whole(Bytes::from(noise), RemoteSetAttributes::default()).await;
        if let Err(error) = home.resources().remote.remove(&path).await {
            temporary::abandon(&path, error);
        }
        written?;
        if let Backing::Stored(stored) = &mut self.backing {
            stored.lacks_room = false;
        }
        Ok(())
    }
}

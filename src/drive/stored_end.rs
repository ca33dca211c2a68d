//! The last chunk of a vault's file: as the file grows it is replaced by a longer one, and a server that has no room for
//! that may leave half of it.

use std::sync::Arc;

use bytes::Bytes;

use super::Drive;
use super::codec::CHUNK_LEN;
use super::error::DriveError;
use super::file::State;
use super::location::Location;
use super::temporary;
use crate::remote::{RemoteOpen, RemoteSetAttributes};

impl State {
    /// Whether a chunk is the last one of a vault's file on the server, and not full: it is replaced as the file grows.
    pub(super) fn is_stored_end(&self, number: u64) -> bool {
        let is_in_vault = self.codec.as_ref().is_ok_and(|codec| codec.header_len() > 0);
        is_in_vault
            && !self.backing.is_staged()
            && !self.stored_length.is_multiple_of(CHUNK_LEN)
            && number == self.stored_length / CHUNK_LEN
    }

    /// An addition to a vault's file failed, and may have torn its end: what was there before is brought back. That needs
    /// no room: those blocks are the file's already.
    pub(super) async fn put_back_end(&mut self) -> Result<(), DriveError> {
        let codec = Arc::clone(self.codec()?);
        if codec.header_len() == 0 || self.backing.is_staged() || self.reach <= self.stored_length {
            return Ok(());
        }
        let number = self.stored_length / CHUNK_LEN;
        if self.is_stored_end(number) {
            let Some((_, end)) = self.stored_end.as_ref().filter(|(stored, _)| *stored == number) else {
                return Ok(());
            };
            let mut stored = Vec::new();
            codec.encode(number, end, &mut stored)?;
            self.backing.file().write_at(codec.offset(number), Bytes::from(stored)).await?;
        }
        self.cut_off(self.stored_length).await
    }

    /// Where the server lacked room for what was added before: fails unless there is room now, without touching the file.
    /// A quota is only told of by a refusal, so a file is made and removed.
    pub(super) async fn check_room(&mut self, drive: &Drive, location: &Location) -> Result<(), DriveError> {
        /// More than one chunk grows by, in pieces of a file system's blocks.
        const PROBED_MAX: u64 = 256 * 1024;
        if !self.lacks_room {
            return Ok(());
        }
        self.put_back_end().await?;
        let codec = self.codec()?;
        let added = codec.stored_len(self.length).saturating_sub(codec.stored_len(self.stored_length));
        let probed = usize::try_from(added.min(PROBED_MAX)).unwrap_or_default();
        let mut noise = vec![0; probed];
        getrandom::fill(&mut noise).map_err(|error| DriveError::Random(error.to_string()))?;
        let path = location.temporary_path()?;
        let file = drive.remote.open(&path, RemoteOpen::CreateNew(0o600)).await?;
        let written = file.write_whole(Bytes::from(noise), RemoteSetAttributes::default()).await;
        if let Err(error) = drive.remote.remove(&path).await {
            temporary::abandon(&path, &error);
        }
        written?;
        self.lacks_room = false;
        Ok(())
    }
}

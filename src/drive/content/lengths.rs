//! Changes of a file's length: cutting, emptying, and extending with zeros.

use std::sync::Arc;

use bytes::Bytes;
use scaup_crypto::CleartextLen;

use super::chunks::ContentId;
use super::file::File;
use super::home::Home;
use super::location::Location;
use super::state::{Access, Backing, Base, Rest, State};
use super::writing::{LENGTH_MAX, Make, beginning, discard_staged, stage};
use crate::drive::error::DriveError;
use crate::remote::{RemoteError, RemoteSetAttributes};

/// Longest content that is copied to a temporary file when a file is cut to a length inside a chunk. The copy makes the
/// cut atomic; a longer file is cut in place, which leaves one chunk torn if the connection dies between two messages.
const COPY_FOR_CUT_MAX: CleartextLen = CleartextLen(4 * 1024 * 1024);

/// The source of zeros, which are written in pieces of this length.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

impl State {
    /// Cuts the server's file where it reaches beyond `length`.
    pub(super) async fn cut_off(&mut self, length: CleartextLen) -> Result<(), DriveError> {
        if self.reach > length {
            let size = Some(self.sending_codec()?.ciphertext_len(length).0);
            let set = RemoteSetAttributes { size, ..RemoteSetAttributes::default() };
            self.backing.file().set_attributes(set).await?;
            self.reach = length;
            self.stored_length = self.stored_length.min(length);
        }
        Ok(())
    }
}

impl File {
    /// Cuts the content to `length` bytes or extends it with zeros. `named` is the file's place and permission bits;
    /// `None` if its name is gone.
    pub(in crate::drive) async fn truncate(
        &self,
        home: &dyn Home,
        named: Option<(&Location, u16)>,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        if length > LENGTH_MAX {
            return Err(DriveError::TooLarge);
        }
        let mut state = self.settled(home).await?;
        let _shown = self.show(&state);
        let changed = if length == CleartextLen::ZERO {
            self.drop_content(home, &mut state, named).await
        } else if length < state.length {
            self.cut(home, &mut state, named, length).await
        } else if length > state.length {
            self.grow(home, &mut state, length).await
        } else {
            Ok(())
        };
        self.note_if_unanswered(&changed);
        changed?;
        state.times = None;
        self.update_snapshot_after_write(&state);
        Ok(())
    }

    /// Extends the content with zeros to at least `length` bytes.
    pub(in crate::drive) async fn grow_to(
        &self,
        home: &dyn Home,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        if length > LENGTH_MAX {
            return Err(DriveError::TooLarge);
        }
        let mut state = self.settled(home).await?;
        let _shown = self.show(&state);
        if length > state.length {
            let grown = self.grow(home, &mut state, length).await;
            self.note_if_unanswered(&grown);
            grown?;
            self.update_snapshot_after_write(&state);
        }
        Ok(())
    }

    /// Notes that a request to change the length of the server's file got no reply. If it was carried out nevertheless,
    /// the next try finds nothing to do, but the length is not on the server's disk yet.
    fn note_if_unanswered(&self, changed: &Result<(), DriveError>) {
        if changed.as_ref().is_err_and(DriveError::is_unanswered) {
            self.count_made_there();
        }
    }

    /// Truncates the content to nothing.
    async fn drop_content(
        &self,
        home: &dyn Home,
        state: &mut State,
        named: Option<(&Location, u16)>,
    ) -> Result<(), DriveError> {
        if state.stored_base().is_some()
            && state.length == CleartextLen::ZERO
            && state.codec().is_ok()
            && self.unsaved().is_none()
        {
            return Ok(());
        }
        let base = self.settled_base(home, state).await?;
        if let (Some(base), Some((location, mode))) = (base, named) {
            if let Some(staged) = self.stage_replacement(home, location, mode, base).await? {
                *state = staged;
                return Ok(());
            }
            self.compare(home, state, location).await?;
        }
        // The content is not visible under its name, or nothing can be made beside it: it is emptied in place.
        let codec = match (state.codec(), named) {
            (Ok(codec), _) => Arc::clone(codec),
            (Err(_), Some((location, _))) => Arc::new(location.new_codec()?),
            (Err(error), None) => return Err(error),
        };
        let file = state.backing.file();
        file.set_attributes(RemoteSetAttributes { size: Some(0), ..RemoteSetAttributes::default() }).await?;
        (state.stored_length, state.reach) = (CleartextLen::ZERO, CleartextLen::ZERO);
        state.dirty.clear();
        state.access = Access::without_header(codec);
        state.content = ContentId::fresh();
        state.length = CleartextLen::ZERO;
        state.rest = Rest::Something;
        Ok(())
    }

    /// Stages empty content in place of a file. Returns `None` where that would change more than the content: the
    /// directory can't be written, or the new file would have another owner.
    async fn stage_replacement(
        &self,
        home: &dyn Home,
        location: &Location,
        mode: u16,
        base: Base,
    ) -> Result<Option<State>, DriveError> {
        let staged = match stage(home, location, mode, Some(base), Make::Now).await {
            Ok(staged) => staged,
            Err(DriveError::Remote(RemoteError::PermissionDenied)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if matches!(location, Location::Plain { .. }) {
            let path = location.file_path();
            let file = staged.backing.file();
            let (old, new) = futures::join!(home.resources().remote.stat(&path), file.stat());
            if let (Ok(old), Ok(new)) = (old, new)
                && (old.uid, old.gid) != (new.uid, new.gid)
            {
                discard_staged(&staged).await;
                return Ok(None);
            }
        }
        Ok(Some(staged))
    }

    /// Cuts the content to a length that is not 0.
    async fn cut(
        &self,
        home: &dyn Home,
        state: &mut State,
        named: Option<(&Location, u16)>,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        let (cut_chunk, in_chunk) = (length.chunk(), length.in_chunk());
        let base = self.settled_base(home, state).await?;
        if let (Some(base), Some((location, mode))) = (base, named) {
            let tears = state.codec()?.has_header() && in_chunk > 0;
            if tears && length <= COPY_FOR_CUT_MAX {
                return self.copy_to_staging(home, state, location, length, mode, Some(base)).await;
            }
            self.compare(home, state, location).await?;
        }
        let encrypted = state.codec()?.has_header();
        let last = if in_chunk > 0 && (encrypted || state.dirty.contains_key(&cut_chunk)) {
            let last = self.chunk(home, state, cut_chunk).await?;
            Some(Bytes::copy_from_slice(beginning(&last, in_chunk)?))
        } else {
            None
        };
        // An encrypted chunk can't be cut: it is removed, and written again.
        let kept = if encrypted { cut_chunk.start() } else { length };
        match (state.cut_off(kept).await, base, named) {
            // The server can't cut files: a shorter one takes its place.
            (Err(error), Some(base), Some((location, mode))) if error.is_refusal() => {
                return self.copy_to_staging(home, state, location, length, mode, Some(base)).await;
            }
            (cut, ..) => cut?,
        }
        drop(state.dirty.split_off(&cut_chunk));
        state.dirty.extend(last.map(|last| (cut_chunk, last)));
        state.length = length;
        state.content = ContentId::fresh();
        state.note_change();
        // The rest of the last chunk is sent at once.
        self.send(home, state, None).await
    }

    /// Waits until nothing is under way, and returns size and time of the server's file then, to be compared before it
    /// is replaced. `None` for content that has no name yet. Chunks whose send failed are dirty again.
    async fn settled_base(&self, home: &dyn Home, state: &mut State) -> Result<Option<Base>, DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(home, state).await?;
        }
        // Since it was compared, only we have changed it.
        if let Backing::Stored(stored) = &mut state.backing
            && stored.compared
        {
            stored.base = stored.file.stat().await?.into();
        }
        Ok(state.stored_base())
    }

    /// Extends the content with zeros: encrypted ones in a vault, whose format has no holes; a hole outside.
    pub(super) async fn grow(
        &self,
        home: &dyn Home,
        state: &mut State,
        length: CleartextLen,
    ) -> Result<(), DriveError> {
        let codec = Arc::clone(state.codec()?);
        let _shown = self.show(state);
        if !codec.has_header() {
            if !state.backing.is_staged() && !self.is_unlinked() {
                let location = home.location(self.inode)?;
                self.compare(home, state, &location).await?;
            }
            self.send(home, state, None).await?;
            self.drain(home, state).await?;
            let set = RemoteSetAttributes {
                size: Some(codec.ciphertext_len(length).0),
                ..RemoteSetAttributes::default()
            };
            let file = state.backing.file();
            match file.set_attributes(set).await {
                // A byte behind the end makes the same hole.
                Err(error) if error.is_refusal() => {
                    let last = codec.ciphertext_len(length).0.saturating_sub(1);
                    file.write_at(last, Bytes::from_static(&[0])).await?;
                }
                set => set?,
            }
            state.content = ContentId::fresh();
            (state.length, state.stored_length, state.reach) = (length, length, length);
            state.note_change();
            return Ok(());
        }
        let needed = codec.ciphertext_len(length).saturating_sub(codec.ciphertext_len(state.stored_length));
        home.check_room(self.inode, needed).await?;
        let old_length = state.length;
        let grown = async {
            while state.length < length {
                let missing = usize::try_from(length.saturating_sub(state.length)).unwrap_or(usize::MAX);
                let wanted = missing.min(ZEROS.len());
                let at = state.length;
                self.patch(home, state, at, ZEROS.get(..wanted).unwrap_or(&ZEROS)).await?;
                let end = state.length;
                self.send_what_is_due(home, state, end).await?;
                state.tell_failure()?;
            }
            Ok(())
        };
        let grown = grown.await;
        if grown.is_err() {
            self.shrink_unsent(home, state, old_length).await?;
            // The failure is reported now, and the file is as long as before.
            state.take_failure();
            self.update_snapshot(state);
        }
        grown
    }

    /// Takes back the part of a failed extension that did not reach the server.
    async fn shrink_unsent(
        &self,
        home: &dyn Home,
        state: &mut State,
        old_length: CleartextLen,
    ) -> Result<(), DriveError> {
        while !state.sending.is_empty() {
            self.acknowledge_next(home, state).await?;
        }
        state.put_back_end().await?;
        let length = state.length.min(state.stored_length).max(old_length);
        state.length = length;
        drop(state.dirty.split_off(&length.chunks().end));
        if let Some(chunk) = state.dirty.get_mut(&length.chunk()) {
            chunk.truncate(length.in_chunk());
        }
        Ok(())
    }
}

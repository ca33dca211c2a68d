//! Committing: bringing the unsaved content of a file to the server's disk and under its name.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use scaup_crypto::{CiphertextLen, CleartextLen};

use super::codec::GROUP_CHUNKS;
use super::file::File;
use super::home::Home;
use super::location::Location;
use super::staged::{Attempt, StagedFile};
use super::state::{Access, Backing, Base, Rest, State, StateGuard, Stored};
use super::unsaved::UnsavedContent;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::remote::{
    RemoteAttributes, RemoteError, RemoteFile, RemoteOpen, RemotePath, RemoteSetAttributes, RenameHow,
};

impl State {
    /// Whether all of the content is in memory, and one message can carry it.
    pub(super) fn is_small(&self) -> bool {
        self.sending.is_empty()
            && self.dirty.len() as u64 <= GROUP_CHUNKS
            && self.dirty.len() as u64 == self.length.chunks().count()
    }

    /// Whether the content is small and nothing of it was sent, not even its header.
    fn is_small_and_unsent(&self) -> bool {
        self.is_small() && self.reach == CleartextLen::ZERO && self.is_header_unsent() == self.has_header()
    }

    /// Refuses staged content if its size on the server is not the size of what was written.
    fn check_whole(&self, there: RemoteAttributes) -> Result<RemoteAttributes, DriveError> {
        let CiphertextLen(wanted) = self.sending_codec()?.ciphertext_len(self.length);
        if there.size != wanted {
            let have = there.size;
            return Err(DriveError::damaged(format_args!(
                "the server has {have} bytes of {wanted} that were sent"
            )));
        }
        Ok(there)
    }
}

impl File {
    /// Saves everything on the server. What can't be saved stays, and is retried by the next commit.
    pub(in crate::drive) async fn commit(&self, home: &dyn Home) -> Result<(), DriveError> {
        self.commit_if(home, |_| true).await
    }

    /// Like [`Self::commit`], if the unsaved content then is `wanted`.
    pub(in crate::drive) async fn commit_if(
        &self,
        home: &dyn Home,
        wanted: impl Fn(&UnsavedContent) -> bool + Send,
    ) -> Result<(), DriveError> {
        let mut state = self.settled(home).await?;
        if self.is_unlinked() || self.unsaved().is_some_and(|unsaved| !wanted(&unsaved)) {
            return Ok(());
        }
        let _shown = self.show(&state);
        // An earlier failure is reported, but keeps nothing from being saved now.
        self.collect(home, &mut state);
        let failed = self.tell_failure(home, &mut state).await;
        let mut result = Ok(());
        if self.unsaved().is_some() {
            result = self.commit_content(home, &mut state).await;
            // Somebody else may have removed the directories around it.
            if result.as_ref().is_err_and(DriveError::is_not_there) && state.sealed_place().is_none() {
                result = home.make_way_again(self.inode).await;
                if result.is_ok() {
                    result = self.commit_content(home, &mut state).await;
                }
            }
        }
        result?;
        failed
    }

    async fn commit_content(&self, home: &dyn Home, state: &mut State) -> Result<(), DriveError> {
        let location = self.location(home, state)?;
        let attributes = match &state.backing {
            Backing::Staged { file, replaces } => {
                let (file, replaces) = (Arc::clone(file), *replaces);
                let target = location.file_path();
                let (attributes, there) = self.send_staged(home, state, &file, &target).await?;
                self.publish(home, location, &file, attributes.into(), replaces, there).await?;
                home.published(self.inode);
                let file = Arc::clone(file.make().await?);
                state.backing = Backing::Stored(Stored::new(file, true, attributes.into()));
                attributes
            }
            Backing::Stored(_) => match self.send_stored(home, state, &location).await? {
                Some(attributes) => {
                    self.count_made_there();
                    attributes
                }
                // The content becomes a conflicting copy.
                None => return Box::pin(self.commit_content(home, state)).await,
            },
        };
        if let Backing::Stored(stored) = &mut state.backing {
            (stored.base, stored.compared) = (attributes.into(), false);
        }
        state.times = None;
        state.rest = Rest::Nothing;
        if state.sealed_place().is_some() {
            state.forget_content();
            home.sealed_saved(self.inode);
            return Ok(());
        }
        home.saved(self.inode, attributes, state.length, state.content);
        Ok(())
    }

    /// Sends the rest of in-place changes; checks before and after whether the file is still the one that was opened.
    /// Returns the attributes of the file then; `None` if somebody else's file has its name, and ours is staged to go
    /// beside it.
    async fn send_stored(
        &self,
        home: &dyn Home,
        state: &mut State,
        location: &Location,
    ) -> Result<Option<RemoteAttributes>, DriveError> {
        self.compare(home, state, location).await?;
        state.check_room(home, location).await?;
        let Some(base) = state.stored_base() else { return Ok(None) };
        let (path, file) = (location.file_path(), state.backing.file());
        let looks = match self.send_in_place(home, state, &file).await {
            // The open file may have lost its name to a version that looks different: then nobody else would ever see
            // the changes that were sent.
            Ok(()) => Some(futures::join!(file.stat(), home.resources().remote.stat(&path))),
            // After a reconnection another file has the name.
            Err(DriveError::Remote(RemoteError::Replaced)) => None,
            Err(error) => return Err(error),
        };
        match looks {
            Some((Ok(ours), Ok(there))) if Base::from(ours) == Base::from(there) => return Ok(Some(ours)),
            Some((Ok(_), Ok(_) | Err(RemoteError::NotFound)))
            | Some((Err(RemoteError::Replaced), _))
            | None => {}
            Some((Err(error), _) | (_, Err(error))) => return Err(error.into()),
        }
        let (length, mode) = (state.length, home.mode_of(self.inode)?);
        self.copy_to_staging(home, state, location, length, mode, Some(base)).await?;
        Ok(None)
    }

    async fn send_in_place(
        &self,
        home: &dyn Home,
        state: &mut State,
        file: &Arc<dyn RemoteFile>,
    ) -> Result<(), DriveError> {
        self.send(home, state, None).await?;
        self.drain(home, state).await?;
        state.cut_off(state.length).await?;
        if state.is_header_unsent() {
            let header = state.sending_codec()?.header()?;
            file.write_at(0, Bytes::from(header)).await?;
            state.note_header_sent();
        }
        if let Some(times) = state.times {
            match file.set_attributes(with_times(times)).await {
                // The content is safe, which is what matters.
                Err(error) if error.is_refusal() => {
                    tracing::info!(error = error.kind(), "a file is saved without its times");
                }
                set => set?,
            }
        }
        Ok(())
    }

    /// Brings staged content to the server's disk: all at once if it is small. Returns the attributes of the staged
    /// file, and those of the file that has its final name now.
    async fn send_staged(
        &self,
        home: &dyn Home,
        state: &mut State,
        file: &Arc<StagedFile>,
        target: &RemotePath,
    ) -> Result<(RemoteAttributes, Result<RemoteAttributes, RemoteError>), DriveError> {
        /// Somebody else may have changed the target if it was looked at longer ago than this.
        const SEEN_JUST_NOW: Duration = Duration::from_secs(1);
        // The time that programs were shown stays: what they remembered when they closed the file is true when it is
        // saved.
        let shown = self.unsaved().map(|unsaved| (unsaved.modified, unsaved.modified));
        let set = state.times.or(shown).map(with_times).unwrap_or_default();
        let is_small = state.is_small_and_unsent();
        let rest = if is_small {
            let (_, whole) = state.encode(state.length.chunks())?;
            state.dirty.iter().for_each(|_| home.resources().counters.count_encrypted());
            // A failed write may still have reached the server.
            state.reach = state.length;
            whole
        } else {
            self.send(home, state, None).await?;
            self.drain(home, state).await?;
            state.cut_off(state.length).await?;
            if state.is_header_unsent() { state.sending_codec()?.header()? } else { Vec::new() }
        };
        let looked = Moment::now();
        let written = file.write_whole(Bytes::from(rest), set);
        let (written, mut there) = futures::join!(written, home.resources().remote.stat(target));
        let attributes = written?;
        state.note_header_sent();
        if is_small {
            state.stored_length = state.length;
            for (number, chunk) in std::mem::take(&mut state.dirty) {
                state.keep_sent(home, number, chunk);
            }
        }
        if looked.elapsed() > SEEN_JUST_NOW {
            there = home.resources().remote.stat(target).await;
        }
        Ok((state.check_whole(attributes)?, there))
    }

    /// Gives staged content its name, or a conflicting copy's name if somebody else changed the file meanwhile: `there`
    /// tells what has the name now.
    async fn publish(
        &self,
        home: &dyn Home,
        location: Location,
        staged: &StagedFile,
        ours: Base,
        replaces: Option<Base>,
        there: Result<RemoteAttributes, RemoteError>,
    ) -> Result<(), DriveError> {
        let remote = home.resources().remote.as_ref();
        let there = match there {
            // What lies there is no file of this name: it is moved out of the way if nobody else has the name.
            Ok(_) if replaces.is_none() && !location.has_its_name(remote).await? => None,
            Ok(attributes) => Some(Base::from(attributes)),
            Err(RemoteError::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        // A file that somebody else removed can have its name again: nothing of theirs is lost.
        let (how, is_conflict) = match there {
            None => (RenameHow::New, false),
            there => (RenameHow::Replace, there != replaces || location.is_half()),
        };
        home.names_change(location.directory());
        if !is_conflict {
            match self.publish_as(&location, home, staged, Attempt { copy: None, base: ours }, how).await {
                // Somebody took the name since it was looked at.
                Err(DriveError::Remote(RemoteError::Exists)) => {}
                published => return published,
            }
        }
        let name = home.name_of(self.inode)?;
        let mut location = location;
        for copy in location.copies(&name) {
            location = location.renamed(&copy)?;
            let attempt = Attempt { copy: Some(copy.clone()), base: ours };
            if !location.is_free(remote).await? {
                continue;
            }
            match self.publish_as(&location, home, staged, attempt, RenameHow::New).await {
                Err(DriveError::Remote(RemoteError::Exists)) => {}
                published => {
                    published?;
                    location.tell_conflict(home, self.inode, &copy);
                    return Ok(());
                }
            }
        }
        Err(DriveError::Exists)
    }

    /// Renames staged content to the name at `location`.
    async fn publish_as(
        &self,
        location: &Location,
        home: &dyn Home,
        staged: &StagedFile,
        attempt: Attempt,
        how: RenameHow,
    ) -> Result<(), DriveError> {
        // Until the reply arrives, the outcome is unknown.
        staged.set_attempt(Some(attempt));
        let remote = home.resources().remote.as_ref();
        let published = location.publish(remote, &staged.path(), how).await;
        if !published.as_ref().is_err_and(DriveError::is_unanswered) {
            staged.set_attempt(None);
        }
        published
    }

    /// Locks the state, after the outcome of an unanswered attempt to publish was found out: content that has its name
    /// is what the server has.
    pub(in crate::drive) async fn settled(&self, home: &dyn Home) -> Result<StateGuard<'_>, DriveError> {
        let mut state = self.lock().await;
        let Backing::Staged { file: staged, .. } = &state.backing else { return Ok(state) };
        if self.is_unlinked() {
            return Ok(state);
        }
        let Some(Attempt { copy, base }) = staged.attempt() else { return Ok(state) };
        let _shown = self.show(&state);
        let mut location = self.location(home, &state)?;
        if let Some(copy) = &copy {
            location = location.renamed(copy)?;
        }
        if location.unpublish(home.resources().remote.as_ref(), &staged.path()).await? {
            staged.set_attempt(None);
            return Ok(state);
        }
        let (remote, path) = (home.resources().remote.as_ref(), location.file_path());
        let (file, writable) = match remote.open(&path, RemoteOpen::ReadWrite).await {
            // The file's mode forbids that by now: a program that goes on writing is told.
            Err(RemoteError::PermissionDenied) => (remote.open(&path, RemoteOpen::Read).await?, false),
            file => (file?, true),
        };
        if Base::from(file.stat().await?) == base {
            state.uploader = None;
            state.backing = Backing::Stored(Stored::new(file, writable, base));
        } else if state.sealed_place().is_some() && state.dirty.is_empty() {
            // It was saved, and somebody else changed it since.
            state.forget_content();
            home.sealed_saved(self.inode);
            return Ok(state);
        } else if state.dirty.is_empty() && !home.is_open(self.inode) {
            // It was saved, and somebody else changed it since. A program that has it open would write into theirs.
            *state = Self::open(home, &location, writable, None).await?;
        } else {
            return Err(DriveError::damaged("somebody else changed the file just when it was saved"));
        }
        home.published(self.inode);
        if let Some(copy) = copy {
            location.tell_conflict(home, self.inode, &copy);
        }
        Ok(state)
    }

    /// Whether closing the file may defer saving it to a moment later: it is new and small, and not too much is unsent
    /// already.
    pub(in crate::drive) async fn may_be_saved_later(&self, home: &dyn Home) -> bool {
        let state = self.state().await;
        state.failure().is_none()
            && state.backing.is_staged()
            && state.is_small()
            && !home.resources().unsent.is_crowded()
    }

    /// Brings everything to the server's disk, no matter which program wrote or saved it: the content, and its name.
    pub(in crate::drive) async fn sync(&self, home: &dyn Home) -> Result<(), DriveError> {
        self.commit(home).await?;
        // Content that had no name when its vault was locked is lost.
        if matches!(self.state().await.access, Access::Locked { .. }) {
            return Err(DriveError::Locked);
        }
        self.put_on_disk().await?;
        if self.is_unlinked() {
            return Ok(());
        }
        home.put_way_on_disk(self.inode).await
    }
}

fn with_times(times: (SystemTime, SystemTime)) -> RemoteSetAttributes {
    RemoteSetAttributes { times: Some(times), ..RemoteSetAttributes::default() }
}

//! Committing: what is unsaved of a file gets to the server's disk and under its name.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::RwLockWriteGuard;
use tokio::time::Instant;

use super::Drive;
use super::codec::{CHUNK_LEN, GROUP_CHUNKS};
use super::error::DriveError;
use super::file::{Backing, Base, File, State, UnsavedContent};
use super::location::{Location, conflict_names};
use super::staged::{Attempt, StagedFile};
use crate::remote::{
    RemoteAttributes, RemoteError, RemoteFile, RemoteOpen, RemotePath, RemoteSetAttributes, RenameHow,
};

impl State {
    /// Whether all of the content is here, and one message can carry it.
    pub(super) fn is_small(&self) -> bool {
        self.sending.is_empty()
            && self.dirty.len() as u64 <= GROUP_CHUNKS
            && self.dirty.len() as u64 == self.length.div_ceil(CHUNK_LEN)
    }

    /// Whether moreover nothing of it was sent, not even its header.
    fn is_small_and_unsent(&self) -> bool {
        let has_header = self.codec.as_ref().is_ok_and(|codec| codec.header_len() > 0);
        self.is_small() && self.reach == 0 && self.header_unsent == has_header
    }

    /// Staged content is not given its name unless the server has as much of it as was written.
    fn check_whole(&self, there: RemoteAttributes) -> Result<RemoteAttributes, DriveError> {
        let wanted = self.codec()?.stored_len(self.length);
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
    /// Brings everything to the server. What can't be saved stays, and is tried again by the next commit.
    pub(super) async fn commit(&self, drive: &Drive) -> Result<(), DriveError> {
        self.commit_if(drive, |_| true).await
    }

    /// Like [`Self::commit`], if what is unsaved then is `wanted`.
    pub(super) async fn commit_if(
        &self,
        drive: &Drive,
        wanted: impl Fn(&UnsavedContent) -> bool + Send,
    ) -> Result<(), DriveError> {
        let mut state = self.settled(drive).await?;
        if self.is_unlinked() || self.unsaved().is_some_and(|unsaved| !wanted(&unsaved)) {
            return Ok(());
        }
        let _shown = self.show(&state);
        // What failed before is told, but keeps nothing from being saved now.
        self.collect(drive, &mut state);
        let failed = self.tell_failure(drive, &mut state).await;
        let mut result = Ok(());
        if self.unsaved().is_some() {
            result = self.commit_content(drive, &mut state).await;
            // Somebody else may have removed the directories around it.
            if result.as_ref().is_err_and(DriveError::is_not_there) {
                result = drive.make_way_again(self.inode).await;
                if result.is_ok() {
                    result = self.commit_content(drive, &mut state).await;
                }
            }
        }
        self.note(&state);
        result?;
        failed
    }

    async fn commit_content(&self, drive: &Drive, state: &mut State) -> Result<(), DriveError> {
        let location = drive.location(self.inode)?;
        let attributes = match &state.backing {
            Backing::Staged { file, replaces } => {
                let (file, replaces) = (Arc::clone(file), *replaces);
                let target = location.file_path();
                let (attributes, there) = self.send_staged(drive, state, &file, &target).await?;
                self.publish(drive, location, &file, attributes.into(), replaces, there).await?;
                drive.note_made_in(self.inode);
                let file = Arc::clone(file.make().await?);
                state.backing = Backing::Stored { file, writable: true, base: attributes.into() };
                attributes
            }
            Backing::Stored { .. } => match self.send_stored(drive, state, &location).await? {
                Some(attributes) => {
                    self.note_acknowledged();
                    attributes
                }
                // It becomes a conflicting copy.
                None => return Box::pin(self.commit_content(drive, state)).await,
            },
        };
        if let Backing::Stored { base, .. } = &mut state.backing {
            *base = attributes.into();
        }
        state.times = None;
        state.compared = false;
        state.uncommitted = false;
        drive.note_committed(self.inode, attributes, state.length, state.content);
        Ok(())
    }

    /// Sends what is left of in-place changes, after a look whether the file is still the one that was opened, and before another one. Answers how it
    /// looks then; `None` if somebody else's has its name, and ours is staged to go beside it.
    async fn send_stored(
        &self,
        drive: &Drive,
        state: &mut State,
        location: &Location,
    ) -> Result<Option<RemoteAttributes>, DriveError> {
        self.compare(drive, state, location).await?;
        state.check_room(drive, location).await?;
        let Some(base) = state.stored_base() else { return Ok(None) };
        let (path, file) = (location.file_path(), state.backing.file());
        let looks = match self.send_in_place(drive, state, &file).await {
            // What is open may have lost its name, to a version that looks different: then nobody else would ever see what was sent.
            Ok(()) => Some(futures::join!(file.stat(), drive.remote.stat(&path))),
            // After a reconnection there is another one.
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
        let (length, mode) = (state.length, drive.mode_of(self.inode)?);
        self.copy_to_staging(drive, state, location, length, mode, Some(base)).await?;
        Ok(None)
    }

    async fn send_in_place(
        &self,
        drive: &Drive,
        state: &mut State,
        file: &Arc<dyn RemoteFile>,
    ) -> Result<(), DriveError> {
        self.send(drive, state, None).await?;
        self.drain(drive, state).await?;
        state.cut_off(state.length).await?;
        if state.header_unsent {
            let header = state.codec()?.header()?;
            file.write_at(0, Bytes::from(header)).await?;
            state.header_unsent = false;
        }
        if let Some(times) = state.times {
            file.set_attributes(with_times(times)).await?;
        }
        Ok(())
    }

    /// Brings staged content to the server's disk: all at once if it is small. Answers how the file looks then, and what has the name that it is
    /// to have.
    async fn send_staged(
        &self,
        drive: &Drive,
        state: &mut State,
        file: &Arc<StagedFile>,
        target: &RemotePath,
    ) -> Result<(RemoteAttributes, Result<RemoteAttributes, RemoteError>), DriveError> {
        /// What was seen of the target longer ago, somebody else may have changed since.
        const SEEN_JUST_NOW: Duration = Duration::from_secs(1);
        // The time that programs were shown stays: what they remembered when they closed the file is true when it is saved.
        let shown = self.unsaved().map(|unsaved| (unsaved.modified, unsaved.modified));
        let set = state.times.or(shown).map(with_times).unwrap_or_default();
        let is_small = state.is_small_and_unsent();
        let rest = if is_small {
            let (_, whole) = state.encode(&(0..state.dirty.len() as u64))?;
            state.dirty.iter().for_each(|_| drive.counters.count_encrypted());
            // What fails may be there all the same.
            state.reach = state.length;
            whole
        } else {
            self.send(drive, state, None).await?;
            self.drain(drive, state).await?;
            state.cut_off(state.length).await?;
            if state.header_unsent { state.codec()?.header()? } else { Vec::new() }
        };
        let looked = Instant::now();
        let written = file.write_whole(Bytes::from(rest), set);
        let (written, mut there) = futures::join!(written, drive.remote.stat(target));
        let attributes = written?;
        state.header_unsent = false;
        if is_small {
            state.stored_length = state.length;
            for (number, chunk) in std::mem::take(&mut state.dirty) {
                drive.cache.put(state.key(number), chunk);
            }
        }
        if looked.elapsed() > SEEN_JUST_NOW {
            there = drive.remote.stat(target).await;
        }
        Ok((state.check_whole(attributes)?, there))
    }

    /// Gives staged content its name, or a conflicting copy's name if somebody else changed the file meanwhile: `there` is what has the name
    /// now.
    async fn publish(
        &self,
        drive: &Drive,
        location: Location,
        staged: &StagedFile,
        ours: Base,
        replaces: Option<Base>,
        there: Result<RemoteAttributes, RemoteError>,
    ) -> Result<(), DriveError> {
        let there = match there {
            Ok(attributes) => Some(Base::from(attributes)),
            Err(RemoteError::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        let remote = drive.remote.as_ref();
        // What somebody else removed can have its name again: nothing of theirs is lost.
        let (how, is_conflict) = match there {
            None => (RenameHow::New, false),
            there => (RenameHow::Replace, there != replaces),
        };
        drive.off_disk.note(location.directory());
        if !is_conflict {
            match self.publish_as(&location, drive, staged, Attempt { copy: None, base: ours }, how).await {
                // Somebody took the name since it was looked at.
                Err(DriveError::Remote(RemoteError::Exists)) => {}
                published => return published,
            }
        }
        let name = drive.name_of(self.inode)?;
        let mut location = location;
        for copy in conflict_names(&name) {
            location = location.renamed(&copy)?;
            let attempt = Attempt { copy: Some(copy.clone()), base: ours };
            if !location.is_free(remote).await? {
                continue;
            }
            match self.publish_as(&location, drive, staged, attempt, RenameHow::New).await {
                Err(DriveError::Remote(RemoteError::Exists)) => {}
                published => {
                    published?;
                    drive.note_conflict(self.inode, &copy, location.place());
                    return Ok(());
                }
            }
        }
        Err(DriveError::Exists)
    }

    /// Gives staged content the name at `location`.
    async fn publish_as(
        &self,
        location: &Location,
        drive: &Drive,
        staged: &StagedFile,
        attempt: Attempt,
        how: RenameHow,
    ) -> Result<(), DriveError> {
        // Until the answer is here, nobody knows what becomes of it.
        staged.note_attempt(Some(attempt));
        let remote = drive.remote.as_ref();
        let published = location.publish(remote, &staged.path(), how).await;
        if !published.as_ref().is_err_and(DriveError::is_unanswered) {
            staged.note_attempt(None);
        }
        published
    }

    /// The state, after it was found out what became of an attempt to publish that was not answered: content that has its name is what
    /// the server has.
    pub(super) async fn settled(&self, drive: &Drive) -> Result<RwLockWriteGuard<'_, State>, DriveError> {
        let mut state = self.state.write().await;
        let Backing::Staged { file: staged, .. } = &state.backing else { return Ok(state) };
        if self.is_unlinked() {
            return Ok(state);
        }
        let Some(Attempt { copy, base }) = staged.attempt() else { return Ok(state) };
        let _shown = self.show(&state);
        let mut location = drive.location(self.inode)?;
        if let Some(copy) = &copy {
            location = location.renamed(copy)?;
        }
        if location.unpublish(drive.remote.as_ref(), &staged.path()).await? {
            staged.note_attempt(None);
            return Ok(state);
        }
        let (remote, path) = (drive.remote.as_ref(), location.file_path());
        let (file, writable) = match remote.open(&path, RemoteOpen::ReadWrite).await {
            // Its mode forbids that by now: who goes on writing is told.
            Err(RemoteError::PermissionDenied) => (remote.open(&path, RemoteOpen::Read).await?, false),
            file => (file?, true),
        };
        if Base::from(file.stat().await?) == base {
            state.uploader = None;
            state.backing = Backing::Stored { file, writable, base };
        } else if state.dirty.is_empty() && drive.tree.lock().get(self.inode)?.opens == 0 {
            // It was saved, and somebody else changed it since. A program that has it open would write into theirs.
            *state = Self::open(drive, &location, writable, None).await?;
            self.note(&state);
        } else {
            return Err(DriveError::damaged("somebody else changed the file just when it was saved"));
        }
        drive.note_made_in(self.inode);
        if let Some(copy) = copy {
            drive.note_conflict(self.inode, &copy, location.place());
        }
        Ok(state)
    }

    /// Whether closing the file may leave saving it to a moment later: it is new and small, and not too much waits already.
    pub(super) async fn may_be_saved_later(&self, drive: &Drive) -> bool {
        let state = self.state.read().await;
        state.failed.is_none() && state.backing.is_staged() && state.is_small() && !drive.is_crowded()
    }

    /// Brings everything to the server's disk, whoever wrote or saved it: the content, and the name that it has.
    pub(super) async fn sync(&self, drive: &Drive) -> Result<(), DriveError> {
        self.commit(drive).await?;
        // What had no name when its vault was locked is nowhere.
        if matches!(self.state.read().await.codec, Err(DriveError::Locked)) {
            return Err(DriveError::Locked);
        }
        self.put_on_disk().await?;
        if self.is_unlinked() {
            return Ok(());
        }
        drive.put_names_on_disk(&drive.location(self.inode)?.directory()).await
    }
}

fn with_times(times: (SystemTime, SystemTime)) -> RemoteSetAttributes {
    RemoteSetAttributes { times: Some(times), ..RemoteSetAttributes::default() }
}

//! Opening and closing the content of files: what programs have open is shared, and some of it is opened before and kept open after.

use std::sync::Arc;

use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::chunks::ContentId;
use super::error::DriveError;
use super::file::{Backing, Base, File, State};
use super::found::Place;
use super::location::Location;
use super::parts::Part;
use super::streak::Key;
use crate::remote::RemoteKind;

/// What is known of content that a program opens.
#[derive(Clone)]
pub(super) struct OpenedContent {
    codec: Result<(), DriveError>,
    content: ContentId,
    /// How the server's file looked; `None` for content that has no name yet.
    stored: Option<Base>,
    length: u64,
    /// Whether a program can write to it without more ado.
    takes_writes: bool,
}

impl OpenedContent {
    pub(super) fn of(state: &State) -> Self {
        let takes_writes = match state.backing {
            Backing::Stored { writable, .. } => writable,
            Backing::Staged { .. } => true,
        };
        Self {
            codec: state.codec().map(drop),
            content: state.content,
            stored: state.stored_base(),
            length: state.length,
            takes_writes,
        }
    }
}

impl Drive {
    /// The content of a file, opened if it is not, ready to be written if `writable`. Counts a handle.
    pub(super) async fn open_file(
        &self,
        inode: Inode,
        writable: bool,
    ) -> Result<(Arc<File>, bool), DriveError> {
        // Counted before the server is asked: what another handle opens and changes meanwhile stays, for this one to share.
        self.tree.lock().get_mut(inode)?.opens += 1;
        let opened = self.open_counted(inode, writable).await;
        if opened.is_err() {
            self.uncount_handle(inode);
        }
        opened
    }

    /// A handle that was counted is gone.
    pub(super) fn uncount_handle(&self, inode: Inode) {
        if let Ok(node) = self.tree.lock().get_mut(inode) {
            node.opens = node.opens.saturating_sub(1);
        }
        self.close_if_unused(inode);
    }

    async fn open_counted(&self, inode: Inode, writable: bool) -> Result<(Arc<File>, bool), DriveError> {
        let location = self.location(inode)?;
        let (open, known) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            if node.attributes.kind != RemoteKind::File {
                return Err(DriveError::NotSupported);
            }
            // What has the name now is found by looking it up.
            if node.detached {
                return Err(DriveError::Stale);
            }
            (node.file.clone(), node.content)
        };
        let start = self.note_opening(inode, &location, writable);
        let kept = self.take_kept(inode, &location).filter(|_| !writable && start.is_none());
        let file = match open.or(kept) {
            Some(file) => {
                file.refresh(self, &location).await?;
                // One that was kept open is open again, unless somebody else opened it at the same time.
                let file = Arc::clone(self.tree.lock().get_mut(inode)?.file.get_or_insert(file));
                if writable {
                    file.make_writable(self, &location).await?;
                }
                file
            }
            None => {
                let state = match start {
                    Some(start) => File::open_with(self, &location, start, known).await?,
                    None => File::open(self, &location, writable, known).await?,
                };
                let opened = File::new(self, inode, state);
                // Somebody else may have opened it at the same time: all handles share one.
                let shared = Arc::clone(self.tree.lock().get_mut(inode)?.file.get_or_insert(opened));
                if writable {
                    shared.make_writable(self, &location).await?;
                }
                shared
            }
        };
        self.check_unlocked(&file).await?;
        let opened = OpenedContent::of(&*file.state.read().await);
        // A file whose header can't be read can still be given new content.
        if !writable {
            opened.codec.clone()?;
        }
        let unchanged = self.note_open_content(&file, &opened, known, writable)?;
        Ok((file, unchanged))
    }

    /// Opens once more what is open and not saved: it is compared with what the server has when it is saved, so the server need not be asked.
    /// `None` if it must be. Counts a handle.
    pub(super) fn open_shared(&self, inode: Inode, writable: bool) -> Option<(Arc<File>, bool)> {
        let mut nodes = self.tree.lock();
        nodes.check_unlocked(inode).ok()?;
        let node = nodes.get_mut(inode).ok()?;
        if node.attributes.kind != RemoteKind::File || node.detached {
            return None;
        }
        let file = node.file.clone().filter(|file| file.unsaved().is_some())?;
        let opened = file.opened_content()?;
        if if writable { !opened.takes_writes } else { opened.codec.is_err() } {
            return None;
        }
        node.opens += 1;
        let known = node.content;
        drop(nodes);
        // It is counted, so it stays in the tree.
        let unchanged = self.note_open_content(&file, &opened, known, writable).unwrap_or(false);
        Some((file, unchanged))
    }

    /// Notes which content a program has opened; answers whether it is the one that was `known`.
    fn note_open_content(
        &self,
        file: &File,
        opened: &OpenedContent,
        known: Option<(ContentId, Base)>,
        writable: bool,
    ) -> Result<bool, DriveError> {
        let &OpenedContent { content, stored, length, .. } = opened;
        let inode = file.inode;
        let mut nodes = self.tree.lock();
        let node = nodes.get_mut(inode)?;
        let (parent, shown_length) = (node.parent, node.attributes.size);
        let unchanged = known.is_some_and(|(known, _)| known == content);
        if let Some(base) = stored {
            node.content = Some((content, base));
            // Somebody else is changing files here.
            if !writable && (length, base.modified()) != (shown_length, node.attributes.modified) {
                self.open_ahead.forget_directory(parent);
            }
            if !unchanged && file.unsaved().is_none() {
                node.note_length(length);
                node.attributes.modified = base.modified();
            }
        }
        let has_other_length = std::mem::take(&mut node.has_other_length) || shown_length != length;
        drop(nodes);
        // The kernel's idea of the length has to follow, or it would cut reads short: somebody else may have changed the file, or
        // given its name to another one, since the kernel asked. A listing may have told that here, and nobody there.
        if (has_other_length || (known.is_some() && !unchanged))
            && let Some(invalidate) = self.invalidate.get()
        {
            // The pages go with the opening.
            invalidate.attributes(inode);
        }
        Ok(unchanged)
    }

    /// A vault that was locked while one of its files was being opened or made did not know of that file: it forgets its keys here, and what
    /// was decrypted with them.
    pub(super) async fn check_unlocked(&self, file: &File) -> Result<(), DriveError> {
        let is_locked = {
            let nodes = self.tree.lock();
            matches!(&nodes.get(file.inode)?.place, Place::Vault { vault, .. } if vault.cryptor().is_err())
        };
        if is_locked {
            file.forget_content(&mut *file.state.write().await);
            self.cache.clear();
            return Err(DriveError::Locked);
        }
        Ok(())
    }

    fn take_kept(&self, inode: Inode, location: &Location) -> Option<Arc<File>> {
        let key = self.key_of(inode).ok()?;
        self.kept_open.take(inode, &key, &location.file_path())
    }

    /// Keeps a file open on the server for whoever opens it again, if it was only read.
    fn keep_open(&self, file: &Arc<File>) {
        // Who works on the content may wait for the server, and the program that closes it must not.
        let is_only_read = file
            .state
            .try_read()
            .is_ok_and(|state| matches!(state.backing, Backing::Stored { writable: false, .. }));
        let Ok(key) = self.key_of(file.inode) else { return };
        // Whoever goes through a directory opens the other files.
        if self.options.has(Part::KeepOpen)
            && is_only_read
            && !file.is_unlinked()
            && !self.open_ahead.is_gone_through(key.parent)
            && let Ok(location) = self.location(file.inode)
        {
            self.kept_open.keep(key, location.file_path(), Arc::clone(file));
        }
    }

    fn key_of(&self, inode: Inode) -> Result<Key, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        Ok(Key { parent: node.parent, name: node.name.clone() })
    }

    /// A handle is gone.
    pub(super) async fn close_file(&self, file: &Arc<File>) {
        if file.unsaved().is_some() {
            let _paths = self.hold_paths([file.inode]).await;
            if let Err(error) = file.commit(self).await {
                self.report_unsaved(file, &error);
            }
        }
        let is_last = self.tree.lock().get(file.inode).is_ok_and(|node| node.opens == 1);
        if is_last {
            // The program does not wait for this. What fails is tried again.
            if let Err(error) = file.put_on_disk().await {
                tracing::debug!(errno = error.errno(), "a closed file may not be on the server's disk");
            }
            self.keep_open(file);
        }
        self.uncount_handle(file.inode);
    }
}

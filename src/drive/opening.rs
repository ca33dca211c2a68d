//! Opening and closing the content of files: handles share it, and some of it is opened ahead and kept open afterwards.

use std::sync::Arc;

use scaup_fuse::filesystem::{Inode, RequestError as _};

use super::Drive;
use super::ahead::streak::NameInDirectory;
use super::content::chunks::ContentId;
use super::content::content_at_open::ContentAtOpen;
use super::content::file::File;
use super::content::home::Home as _;
use super::content::location::Location;
use super::content::state::{Backing, Base, Stored};
use super::error::DriveError;
use super::places::place::Place;
use crate::config::parts::OptionalPart;
use crate::remote::RemoteKind;

impl Drive {
    /// Returns the content of a file, opened if necessary, ready for writing if `writable`. Counts a handle.
    pub(super) async fn open_file(
        &self,
        inode: Inode,
        writable: bool,
    ) -> Result<(Arc<File>, bool), DriveError> {
        // Counted before the server is asked: content that another handle opens and changes meanwhile stays, for this
        // handle to share.
        self.tree.lock().get_mut(inode)?.kernel.count_handle();
        let opened = self.open_counted(inode, writable).await;
        if opened.is_err() {
            self.uncount_handle(inode);
        }
        opened
    }

    /// Uncounts a handle that is gone.
    pub(super) fn uncount_handle(&self, inode: Inode) {
        if let Ok(node) = self.tree.lock().get_mut(inode) {
            node.kernel.uncount_handle();
        }
        self.close_if_unused(inode);
    }

    async fn open_counted(&self, inode: Inode, writable: bool) -> Result<(Arc<File>, bool), DriveError> {
        let location = self.location(inode)?;
        let (open, known) = {
            let nodes = self.tree.lock();
            let node = nodes.get(inode)?;
            if node.kind() != RemoteKind::File {
                return Err(DriveError::NotSupported);
            }
            // A lookup finds the node that has the name now.
            if node.is_detached() {
                return Err(DriveError::Stale);
            }
            (node.file().cloned(), node.openings.content())
        };
        let first_read = self.follow_opening(inode, &location, writable);
        let kept = self.take_kept(inode, &location).filter(|_| !writable && first_read.is_none());
        let file = match open.or(kept) {
            Some(file) => {
                file.refresh(self, &location).await?;
                // A file that was kept open is open again, unless somebody else opened it at the same time.
                let file = self.tree.lock().get_mut(inode)?.share_file(file);
                if writable {
                    file.make_writable(self, &location).await?;
                }
                file
            }
            None => {
                let state = match first_read {
                    Some(first_read) => File::open_with(self, &location, first_read, known).await?,
                    None => File::open(self, &location, writable, known).await?,
                };
                let opened = File::new(self, inode, state);
                // Somebody else may have opened it at the same time: all handles share one.
                let shared = self.tree.lock().get_mut(inode)?.share_file(opened);
                if writable {
                    shared.make_writable(self, &location).await?;
                }
                shared
            }
        };
        self.check_unlocked(&file).await?;
        let opened = ContentAtOpen::of(&*file.state().await);
        // A file whose header can't be read can still be given new content.
        if !writable {
            opened.codec.clone()?;
        }
        let unchanged = self.record_opened_content(&file, &opened, known, writable)?;
        Ok((file, unchanged))
    }

    /// Opens again a file that is open and unsaved: it is compared with the server's file when it is saved, so the
    /// server need not be asked. `None` if it must be asked. Counts a handle.
    pub(super) fn open_shared(&self, inode: Inode, writable: bool) -> Option<(Arc<File>, bool)> {
        let mut nodes = self.tree.lock();
        nodes.check_unlocked(inode).ok()?;
        let node = nodes.get_mut(inode).ok()?;
        if node.kind() != RemoteKind::File || node.is_detached() {
            return None;
        }
        let file = node.file().cloned().filter(|file| file.unsaved().is_some())?;
        let opened = file.content_at_open()?;
        if if writable { !opened.takes_writes } else { opened.codec.is_err() } {
            return None;
        }
        node.kernel.count_handle();
        let known = node.openings.content();
        drop(nodes);
        // The handle is counted, so it stays in the tree.
        let unchanged = self.record_opened_content(&file, &opened, known, writable).unwrap_or(false);
        Some((file, unchanged))
    }

    /// Records which content a program has opened; returns whether it is the one that was `known`.
    fn record_opened_content(
        &self,
        file: &File,
        opened: &ContentAtOpen,
        known: Option<(ContentId, Base)>,
        writable: bool,
    ) -> Result<bool, DriveError> {
        let &ContentAtOpen { content, stored, length, .. } = opened;
        let inode = file.inode;
        let mut nodes = self.tree.lock();
        let node = nodes.get_mut(inode)?;
        let (parent, shown_length) = (node.parent(), node.attributes.current().size);
        let unchanged = known.is_some_and(|(known, _)| known == content);
        if let Some(base) = stored {
            node.openings.remember_content(content, base);
            // Somebody else is changing files here.
            if !writable && (length.0, base.modified()) != (shown_length, node.attributes.current().modified)
            {
                self.open_ahead.forget_directory(parent);
            }
            if !unchanged && file.unsaved().is_none() {
                node.attributes.believe_opened(length.0, base.modified());
            }
        }
        let has_other_length = node.attributes.take_other_length() || shown_length != length.0;
        drop(nodes);
        // The kernel's length has to follow, or it would cut reads short: somebody else may have changed the file, or
        // given its name to another one, since the kernel asked. A listing may have updated the length here, but not in
        // the kernel.
        if (has_other_length || (known.is_some() && !unchanged))
            && let Some(invalidate) = self.invalidate.get()
        {
            // The pages are dropped by the opening.
            invalidate.attributes(inode);
        }
        Ok(unchanged)
    }

    /// Forgets the keys of a file that was being opened or made while its vault was locked, and the chunks that were
    /// decrypted with them: locking the vault did not know of that file.
    pub(super) async fn check_unlocked(&self, file: &File) -> Result<(), DriveError> {
        let is_locked = {
            let nodes = self.tree.lock();
            matches!(nodes.get(file.inode)?.place(), Place::Vault { vault, .. } if vault.cryptor().is_err())
        };
        if is_locked {
            file.lock().await.forget_content();
            self.content.cache.clear();
            return Err(DriveError::Locked);
        }
        Ok(())
    }

    fn take_kept(&self, inode: Inode, location: &Location) -> Option<Arc<File>> {
        let key = self.key_of(inode).ok()?;
        self.kept_open.take(inode, &key, &location.file_path())
    }

    /// Keeps a file open on the server for the next opening, if it was only read.
    fn keep_open(&self, file: &Arc<File>) {
        // A task that works on the content may wait for the server, and the program that closes the file must not.
        let is_only_read = file
            .try_state()
            .is_some_and(|state| matches!(state.backing, Backing::Stored(Stored { writable: false, .. })));
        let Ok(key) = self.key_of(file.inode) else { return };
        // A program that reads a whole directory opens the other files.
        if self.options.has(OptionalPart::KeepOpen)
            && is_only_read
            && !file.is_unlinked()
            && !self.open_ahead.is_gone_through(key.parent)
            && let Ok(location) = self.location(file.inode)
        {
            self.kept_open.keep(key, location.file_path(), Arc::clone(file));
        }
    }

    fn key_of(&self, inode: Inode) -> Result<NameInDirectory, DriveError> {
        let nodes = self.tree.lock();
        let node = nodes.get(inode)?;
        Ok(NameInDirectory { parent: node.parent(), name: node.name().to_owned() })
    }

    /// Saves a file of which one handle is gone, and closes it with the last handle.
    pub(super) async fn close_file(&self, file: &Arc<File>) {
        if file.unsaved().is_some() {
            let _paths = self.hold_paths([file.inode]).await;
            if let Err(error) = file.commit(self).await {
                self.report_unsaved(file, &error);
            }
        }
        let is_last = self.tree.lock().get(file.inode).is_ok_and(|node| node.kernel.handles() == 1);
        if is_last {
            // The program does not wait for this. A failure is retried.
            if let Err(error) = file.put_on_disk().await {
                tracing::debug!(
                    error = error.for_log(self.options.log_names),
                    "a closed file may not be on the server's disk"
                );
            }
            self.keep_open(file);
        }
        self.uncount_handle(file.inode);
    }
}

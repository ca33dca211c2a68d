//! Saving what programs wrote: when they go on to other things, before the machine sleeps, and at the end.

use std::sync::Weak;
use std::time::Duration;

use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::content::file::File;
use super::content::unsaved::UnsavedContent;
use super::status::Unsaved;

/// How long written content may wait before it is sent unasked.
pub(super) const SAVE_AFTER: Duration = Duration::from_secs(5);

/// How long a program may pause while it writes a new file before it is taken to have finished: then the file gets its
/// name, and everybody sees it.
pub(super) const GROWS_FOR: Duration = Duration::from_secs(30);

/// How often waiting content is checked.
const SAVE_EVERY: Duration = Duration::from_secs(1);

impl Drive {
    /// Waits until everything is on the server; returns what could not be saved.
    pub async fn save_all(&self) -> Unsaved {
        self.save_all_that(|_| true).await
    }

    /// Like [`Self::save_all`], before the machine sleeps, except where a program is in the middle of replacing other
    /// content by much: that goes on afterwards, and until then the server keeps the old content.
    pub async fn save_before_sleep(&self) -> Unsaved {
        self.save_all_that(|unsaved| unsaved.harms_nothing(SAVE_AFTER)).await
    }

    async fn save_all_that(&self, wanted: impl Fn(&UnsavedContent) -> bool + Copy + Send) -> Unsaved {
        let files = self.tree.lock().files();
        // All at once: over a lost connection each may wait as long as all together.
        let saved = files.iter().map(|file| self.save(file, wanted));
        futures::join!(futures::future::join_all(saved), self.removals.all_done(), self.tidied());
        self.put_all_names_on_disk().await;
        self.left_to_save()
    }

    /// Saves a file, if its unsaved content is `wanted`.
    pub(super) async fn save(&self, file: &File, wanted: impl Fn(&UnsavedContent) -> bool + Send) {
        let _paths = self.hold_paths([file.inode]).await;
        let saved = async {
            file.commit_if(self, wanted).await?;
            file.put_on_disk().await
        };
        match saved.await {
            Ok(()) => self.close_if_unused(file.inode),
            Err(error) => self.report_unsaved(file, &error),
        }
    }

    /// Saves what has waited long enough, again and again, as long as the drive lives.
    pub(super) async fn save_unasked(drive: Weak<Self>) {
        loop {
            tokio::time::sleep(SAVE_EVERY).await;
            let Some(drive) = drive.upgrade() else { return };
            drive.kept_open.sweep();
            drive.save_what_waits().await;
        }
    }

    /// Saves the content that has waited long enough, and retries what failed.
    async fn save_what_waits(&self) {
        let files = self.tree.lock().files();
        let is_due = |unsaved: &UnsavedContent| unsaved.waited() >= SAVE_AFTER && unsaved.is_whole(GROWS_FOR);
        // Changes inside open files are put on the disk when a program asks for that.
        let is_closed =
            |file: &File| self.tree.lock().get(file.inode).is_ok_and(|node| node.kernel.handles() == 0);
        let due = files.iter().filter(|file| {
            file.unsaved().as_ref().is_some_and(is_due) || (file.is_off_disk() && is_closed(file))
        });
        futures::future::join_all(due.map(|file| self.save(file, is_due))).await;
        self.put_some_names_on_disk().await;
    }

    /// Drops a file's content if no handle is open and nothing of it is unsaved.
    pub(in crate::drive) fn close_if_unused(&self, inode: Inode) {
        let mut nodes = self.tree.lock();
        let Ok(node) = nodes.get_mut(inode) else { return };
        if node.kernel.handles() == 0 && !node.is_unsaved() && !node.is_off_disk() {
            node.drop_file();
            if node.is_missing() {
                nodes.detach(inode);
            }
            nodes.prune(inode);
        }
    }
}

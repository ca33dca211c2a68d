//! Prefetching triggered by the lookup of one name: a program that looks up a name goes on to the names beside it.

use std::pin::pin;

use scaup_fuse::filesystem::Inode;
use tracing::Instrument as _;

use super::listings::Purpose;
use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::remote::RemoteKind;

/// Which reply came first.
pub(in crate::drive) enum Sooner<D, L> {
    /// The reply to the request itself.
    Direct(D),
    /// What the listing of the whole directory tells.
    Listed(L),
}

impl Drive {
    /// Runs `direct`, a request for one entry of a directory, beside a listing of the directory. A program that looks
    /// up one name there will look up others, so the first lookup has the directory listed. Returns what `listed` finds
    /// in the listing if that comes first, and the result of `direct` otherwise.
    pub(in crate::drive) async fn sooner<D, L>(
        &self,
        inode: Inode,
        directory: &Directory,
        direct: impl Future<Output = Result<D, DriveError>>,
        listed: impl Fn() -> Result<Option<L>, DriveError>,
    ) -> Result<Sooner<D, L>, DriveError> {
        if !self.is_listed_beside(inode, directory)? {
            return direct.await.map(Sooner::Direct);
        }
        let mut direct = pin!(direct);
        let is_listed = if self.listings.waiting(&directory.path()).is_some() {
            self.names(inode).await.is_ok()
        } else {
            tokio::select! {
                biased;
                is_listed = self.names_beside(inode) => is_listed,
                answer = &mut direct => return answer.map(Sooner::Direct),
            }
        };
        match if is_listed { listed()? } else { None } {
            Some(known) => Ok(Sooner::Listed(known)),
            // If the listing failed, there is still the direct request.
            None => direct.await.map(Sooner::Direct),
        }
    }

    /// Waits until the names of a directory are known; returns whether they are. The names are taken into the tree even
    /// if the caller stops waiting.
    async fn names_beside(&self, inode: Inode) -> bool {
        let Some(drive) = self.me.upgrade() else { return false };
        let names = async move {
            // A hold of its own, since it outlives the request: a move that waits for the request may go before it, and
            // the direct request is answered meanwhile.
            let _paths = drive.hold_paths([inode]).await;
            drive.names(inode).await.is_ok()
        };
        tokio::spawn(names.in_current_span()).await.unwrap_or(false)
    }

    /// Begins to list a directory in which a name is looked up. Returns whether a listing is under way. A directory
    /// that was listed before is listed again for the second name that is looked up there: one name alone is often all
    /// that a program wants of it.
    fn is_listed_beside(&self, inode: Inode, directory: &Directory) -> Result<bool, DriveError> {
        /// Larger directories are not listed for a few names.
        const NAMES_MAX: usize = 2000;
        if !self.listings.is_under_way(&directory.path()) {
            let mut nodes = self.tree.lock();
            let names = &mut nodes.get_mut(inode)?.names;
            if let Some(length) = names.listing().map(|(_, listed)| listed.len())
                && (!names.record_asking_for_one(self.options.attr_timeout) || length > NAMES_MAX)
            {
                return Ok(false);
            }
            if !self.remote.is_reachable() || self.remote.is_filled() {
                return Ok(false);
            }
        }
        self.listings.begin(&self.remote, (inode, directory), Purpose::LookUp)?;
        Ok(self.listings.is_under_way(&directory.path()))
    }

    /// Refreshes the attributes of recently used files in a directory. A request for a directory's attributes mostly
    /// means that something in it comes next: the kernel asks for one part of a path after the other. So the files in
    /// it that were asked for lately are requested at the same time, if they won't be believed much longer.
    pub(in crate::drive) async fn refresh_files_in(&self, inode: Inode) {
        const FILES_MAX: usize = 4;
        let (lately, long) = (4 * self.options.attr_timeout, self.options.attr_timeout / 2);
        let files: Vec<Inode> = {
            let nodes = self.tree.lock();
            let Ok(node) = nodes.get(inode) else { return };
            let due = node.children().values().filter_map(|&child| {
                let node = nodes.get(child).ok()?;
                let fetched =
                    node.attributes.fetched().filter(|at| (long..lately).contains(&at.elapsed()))?;
                (node.kind() == RemoteKind::File && !node.is_unsaved()).then_some((fetched, child))
            });
            let mut due: Vec<(Moment, Inode)> = due.collect();
            due.sort_unstable_by_key(|(fetched, _)| std::cmp::Reverse(*fetched));
            due.into_iter().take(FILES_MAX).map(|(_, child)| child).collect()
        };
        let refreshed = files.into_iter().map(|file| async move {
            let asked = Moment::now();
            // Any other outcome is told to the program that asks.
            if let Ok(attributes) = self.fetch_attributes(file).await
                && attributes.kind == RemoteKind::File
            {
                let _ = self.tree.lock().believe_attributes(file, attributes, asked);
            }
        });
        futures::future::join_all(refreshed).await;
    }
}

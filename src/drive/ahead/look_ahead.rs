//! Prefetching triggered by the lookup of one name: a program that looks up a name goes on to the names beside it,
//! further down, or along the same path again.

use std::ffi::OsStr;
use std::pin::pin;

use scaup_fuse::filesystem::Inode;
use tracing::Instrument as _;

use super::listings::Purpose;
use crate::drive::Drive;
use crate::drive::error::DriveError;
use crate::drive::moment::Moment;
use crate::drive::places::directory::Directory;
use crate::drive::places::place::Found;
use crate::remote::RemoteKind;

/// Directories that are listed ahead for one lookup.
const AT_ONCE: usize = 64;

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

    /// Begins to list a directory in which a name is looked up. Returns whether a listing is under way.
    fn is_listed_beside(&self, inode: Inode, directory: &Directory) -> Result<bool, DriveError> {
        /// Larger directories are not listed for one look-up.
        const NAMES_MAX: usize = 2000;
        let is_under_way = self.listings.is_under_way(&directory.path());
        let (is_large, was_listed) = {
            let nodes = self.tree.lock();
            let listing = nodes.get(inode)?.names.listing();
            (listing.is_some_and(|(_, names)| names.len() > NAMES_MAX), listing.is_some())
        };
        if is_under_way || (!is_large && self.remote.is_reachable() && !self.remote.is_filled()) {
            if was_listed {
                self.listings.begin(&self.remote, directory, Purpose::Names)?;
                for child in self.looked_into_before(inode) {
                    self.listings.begin_ahead(&self.remote, &child);
                }
            } else {
                self.listings.begin(&self.remote, directory, Purpose::LookUp)?;
            }
            if !is_under_way {
                for beside in self.looked_into_next(inode) {
                    self.listings.begin_ahead(&self.remote, &beside);
                }
            }
        }
        Ok(self.listings.is_under_way(&directory.path()))
    }

    /// Returns the directories in `inode` whose listings are too old: a program that comes back goes the same way.
    fn looked_into_before(&self, inode: Inode) -> Vec<Directory> {
        let nodes = self.tree.lock();
        let Ok(node) = nodes.get(inode) else { return Vec::new() };
        let children = node.children().values().filter(|&&child| {
            let listing = nodes.get(child).ok().and_then(|child| child.names.listing());
            listing.is_some_and(|(listed, _)| !self.is_believed(Some(listed)))
        });
        children.take(AT_ONCE).filter_map(|&child| nodes.directory(child).ok()).collect()
    }

    /// Returns the directories that come next if names are looked up in one directory after the other, as git does with
    /// its index: those behind `inode` in its parent directory, if the one before it is being listed or was.
    fn looked_into_next(&self, inode: Inode) -> Vec<Directory> {
        let nodes = self.tree.lock();
        let beside = || {
            let node = nodes.get(inode).ok()?;
            let around = nodes.directory(node.parent()).ok()?;
            let (listed, names) = nodes.get(node.parent()).ok()?.names.listing()?;
            let is_known = |found: &Found| {
                let child = nodes.child(node.parent(), &found.name).and_then(|child| nodes.get(child).ok());
                child.is_some_and(|child| {
                    child.names.listing().is_some_and(|(listed, _)| self.is_believed(Some(listed)))
                }) || around.child(found).is_some_and(|child| self.listings.is_under_way(&child.path()))
            };
            if !self.is_believed(Some(listed)) {
                return None;
            }
            let directories = names.kinds().filter(|&(_, kind)| kind == RemoteKind::Directory);
            let mut directories: Vec<&OsStr> = directories.map(|(name, _)| name).collect();
            directories.sort_unstable();
            let at = directories.binary_search(&node.name()).ok()?;
            if !is_known(&names.get(directories.get(at.checked_sub(1)?)?)?) {
                return None;
            }
            let next = directories.into_iter().skip(at + 1).take(AT_ONCE).filter_map(|name| names.get(name));
            Some(next.filter(|found| !is_known(found)).filter_map(|found| around.child(&found)).collect())
        };
        beside().unwrap_or_default()
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

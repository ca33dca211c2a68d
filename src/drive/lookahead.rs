//! What is asked beside a question for one name, and ahead of the next ones: whoever looks up a name goes on, to its neighbours, further down,
//! or the same way again.

use std::ffi::OsStr;
use std::pin::pin;
use std::time::Instant;

use scaup_fuse::filesystem::Inode;

use super::Drive;
use super::error::DriveError;
use super::found::{Directory, Found};
use super::listings::Purpose;
use crate::remote::RemoteKind;

/// Directories that are listed ahead for one look-up.
const AT_ONCE: usize = 64;

/// Which answer came first.
pub(super) enum Sooner<D, L> {
    /// The server's to the question itself.
    Direct(D),
    /// What the names of the whole directory tell.
    Listed(L),
}

impl Drive {
    /// Whoever looks up one name in a directory will look up others. So the first look-up has the directory listed beside it. What a listing
    /// that is `listed` by then tells is taken if it comes first, and what was asked `direct`ly if that does.
    pub(super) async fn sooner<D, L>(
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
            // If the listing failed, there is still the direct way.
            None => direct.await.map(Sooner::Direct),
        }
    }

    /// Waits until the names of a directory are known; answers whether they are. What is to be done with them is done also if nobody waits
    /// any more.
    async fn names_beside(&self, inode: Inode) -> bool {
        let Some(drive) = self.me.upgrade() else { return false };
        let names = tokio::spawn(async move {
            // One of its own, since it outlives the question: a move that waits for the question may go before it, and what was asked directly is
            // answered meanwhile.
            let _paths = drive.hold_paths([inode]).await;
            drive.names(inode).await.is_ok()
        });
        names.await.unwrap_or(false)
    }

    /// Has a directory listed in which a name is looked up. Answers whether it is.
    fn is_listed_beside(&self, inode: Inode, directory: &Directory) -> Result<bool, DriveError> {
        /// Larger directories are not listed for one look-up.
        const NAMES_MAX: usize = 2000;
        let is_under_way = self.listings.is_under_way(&directory.path());
        let (is_large, was_listed) = {
            let nodes = self.tree.lock();
            let listing = &nodes.get(inode)?.listing;
            (listing.as_ref().is_some_and(|(_, names)| names.len() > NAMES_MAX), listing.is_some())
        };
        if is_under_way || (!is_large && self.remote.is_reachable()) {
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

    /// The directories in `inode` whose names were known, but are too old by now: who comes back goes the same way.
    fn looked_into_before(&self, inode: Inode) -> Vec<Directory> {
        let nodes = self.tree.lock();
        let Ok(node) = nodes.get(inode) else { return Vec::new() };
        let children = node.children.values().filter(|&&child| {
            let listing = nodes.get(child).ok().and_then(|child| child.listing.as_ref());
            listing.is_some_and(|(listed, _)| !self.is_believed(Some(*listed)))
        });
        children.take(AT_ONCE).filter_map(|&child| nodes.directory(child).ok()).collect()
    }

    /// Whoever looks names up in one directory after the other, as git does with those in its index, goes on to the next ones: those behind
    /// `inode` in the directory around it, if the one before it is being listed or was.
    fn looked_into_next(&self, inode: Inode) -> Vec<Directory> {
        let nodes = self.tree.lock();
        let beside = || {
            let node = nodes.get(inode).ok()?;
            let around = nodes.directory(node.parent).ok()?;
            let (listed, names) = nodes.get(node.parent).ok()?.listing.as_ref()?;
            let is_known = |found: &Found| {
                let child = nodes.child(node.parent, &found.name).and_then(|child| nodes.get(child).ok());
                child.is_some_and(|child| {
                    child.listing.as_ref().is_some_and(|(listed, _)| self.is_believed(Some(*listed)))
                }) || around.child(found).is_some_and(|child| self.listings.is_under_way(&child.path()))
            };
            if !self.is_believed(Some(*listed)) {
                return None;
            }
            let directories = names.kinds().filter(|&(_, kind)| kind == RemoteKind::Directory);
            let mut directories: Vec<&OsStr> = directories.map(|(name, _)| name).collect();
            directories.sort_unstable();
            let at = directories.binary_search(&node.name.as_os_str()).ok()?;
            if !is_known(&names.get(directories.get(at.checked_sub(1)?)?)?) {
                return None;
            }
            let next = directories.into_iter().skip(at + 1).take(AT_ONCE).filter_map(|name| names.get(name));
            Some(next.filter(|found| !is_known(found)).filter_map(|found| around.child(&found)).collect())
        };
        beside().unwrap_or_default()
    }

    /// Who asks for a directory's attributes is mostly on the way to something in it: the kernel asks for one part of a path after the other.
    /// So the files in it that were asked for lately are asked for at the same time, if they won't be believed much longer.
    pub(super) async fn refresh_files_in(&self, inode: Inode) {
        const FILES_MAX: usize = 4;
        let (lately, long) = (4 * self.options.attr_timeout, self.options.attr_timeout / 2);
        let files: Vec<Inode> = {
            let nodes = self.tree.lock();
            let Ok(node) = nodes.get(inode) else { return };
            let due = node.children.values().filter_map(|&child| {
                let node = nodes.get(child).ok()?;
                let fetched = node.fetched.filter(|at| (long..lately).contains(&at.elapsed()))?;
                (node.attributes.kind == RemoteKind::File && !node.is_unsaved()).then_some((fetched, child))
            });
            let mut due: Vec<(Instant, Inode)> = due.collect();
            due.sort_unstable_by_key(|(fetched, _)| std::cmp::Reverse(*fetched));
            due.into_iter().take(FILES_MAX).map(|(_, child)| child).collect()
        };
        let refreshed = files.into_iter().map(|file| async move {
            let asked = Instant::now();
            // What else became of them is told to who asks.
            if let Ok(attributes) = self.fetch_attributes(file).await
                && attributes.kind == RemoteKind::File
            {
                let _ = self.tree.lock().note_attributes(file, attributes, asked);
            }
        });
        futures::future::join_all(refreshed).await;
    }
}

//! Keeping the memory for names within the budget, however large the tree is that a program walks.
//!
//! A node lives for as long as the kernel knows its inode, and the kernel forgets only when it is short of memory
//! itself. So it is asked to forget.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::drive::Drive;

/// Bytes of the budget for each node that is kept. A node takes about an eighth of that, together with its name in a
/// listing.
const BUDGET_PER_NODE: u64 = 8 * 1024;

/// Nodes that are kept however small the budget is: a directory of 5,000 files is shown from one listing.
const NODES_MIN: usize = 8 * 1024;

/// Bytes of names that are not taken from the cache of content.
const NAMES_FREE: u64 = 8 * 1024 * 1024;

/// How long the kernel is given to forget what it was asked to.
const PAUSE: Duration = Duration::from_millis(100);

/// How often to check though nothing was listed: nodes are also made by single lookups.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps a drive's nodes within bounds for as long as it lives. `listed` is notified when there are more.
pub(in crate::drive) async fn forget_what_is_too_much(drive: Weak<Drive>, listed: Arc<Notify>) {
    loop {
        let _ = tokio::time::timeout(EVERY, listed.notified()).await;
        let Some(drive) = drive.upgrade() else { return };
        drive.forget_too_much();
        drop(drive);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Drive {
    /// Returns the most bytes that names may take. Those beyond [`NAMES_FREE`] are taken from the cache of content.
    fn names_max(&self) -> u64 {
        self.options.memory / 2 + NAMES_FREE
    }

    /// Sets the limit for names, and has unused names dropped for names that somebody waits for.
    pub(in crate::drive) fn bound_names(&self) {
        let (names, me) = (self.remote.names_budget(), Weak::clone(&self.me));
        names.set_limit(self.names_max());
        names.set_let_go(move |bytes| {
            if let Some(drive) = me.upgrade() {
                drive.let_go_of_names(bytes);
            }
        });
    }

    /// Drops so many bytes of names, if so many are unused at the moment: prefetched listings go first.
    fn let_go_of_names(&self, bytes: u64) {
        let names = self.remote.names_budget();
        let left = names.used().saturating_sub(bytes);
        self.listings.let_go();
        let (wanted, mut free) = (names.used().saturating_sub(left), 0);
        self.tree.lock().drop_oldest_listings(|names| {
            let is_wanted = free < wanted;
            free += names.bytes();
            is_wanted
        });
    }

    /// Returns how many nodes are kept.
    fn nodes_max(&self) -> usize {
        usize::try_from(self.options.memory / BUDGET_PER_NODE).unwrap_or(usize::MAX).max(NODES_MIN)
    }

    /// Drops listings, and has the kernel forget nodes, if there are too many.
    fn forget_too_much(&self) {
        let max = self.nodes_max();
        let names = self.remote.names_budget().used();
        if let Some(bytes) = names.checked_sub(self.names_max()).filter(|&bytes| bytes > 0) {
            self.let_go_of_names(bytes);
        }
        self.content.cache.give_way(names.saturating_sub(NAMES_FREE));
        let mut nodes = self.tree.lock();
        // The newest listing is kept however long it is.
        let mut listed = nodes.count_listed();
        nodes.drop_oldest_listings(|names| {
            let is_too_much = listed > max && listed > names.len();
            listed -= names.len();
            is_too_much
        });
        if nodes.count() <= max {
            return;
        }
        // Some more, so as not to search all of them again for every name that is found.
        let forgotten = nodes.take_idle(max / 4 * 3);
        drop(nodes);
        if let Some(invalidate) = self.invalidate.get() {
            for (parent, name) in &forgotten {
                invalidate.entry(*parent, name);
            }
        }
    }
}

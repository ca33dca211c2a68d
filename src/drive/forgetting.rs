//! Keeping what is known of names within the budget, however large the tree is that a program walks.
//!
//! A node lives for as long as the kernel knows its inode, and the kernel forgets only when it is short of memory itself. So it is asked to.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::Drive;

/// Bytes of the budget for each node that is kept. It takes about an eighth of that, together with its name in a listing.
const BUDGET_PER_NODE: u64 = 8 * 1024;

/// So many are kept however small the budget is: a directory of 5,000 files is shown from what one listing told.
const NODES_MIN: usize = 8 * 1024;

/// Bytes of names that take nothing from the cache of content.
const NAMES_FREE: u64 = 8 * 1024 * 1024;

/// The kernel is given time to forget what it was asked to.
const PAUSE: Duration = Duration::from_millis(100);

/// How often to look though nothing was listed: nodes are also made by single look-ups.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps a drive's nodes within bounds for as long as it lives. `listed` tells that there are more.
pub(super) async fn forget_what_is_too_much(drive: Weak<Drive>, listed: Arc<Notify>) {
    loop {
        let _ = tokio::time::timeout(EVERY, listed.notified()).await;
        let Some(drive) = drive.upgrade() else { return };
        drive.forget_too_much();
        drop(drive);
        tokio::time::sleep(PAUSE).await;
    }
}

impl Drive {
    /// The most that names may take. What goes beyond [`NAMES_FREE`] is taken from the cache of content.
    fn names_max(&self) -> u64 {
        self.options.memory / 2 + NAMES_FREE
    }

    /// Has names give way to names that somebody waits for.
    pub(super) fn bound_names(&self) {
        let (names, me) = (self.remote.names_budget(), Weak::clone(&self.me));
        names.set_limit(self.names_max());
        names.set_let_go(move |bytes| {
            if let Some(drive) = me.upgrade() {
                drive.let_go_of_names(bytes);
            }
        });
    }

    /// Lets go of so many bytes of names, if there are so many that nobody uses at the moment: what is guessed goes first.
    fn let_go_of_names(&self, bytes: u64) {
        let names = self.remote.names_budget();
        let wanted = names.used().saturating_sub(bytes);
        self.listings.let_go();
        self.tree.lock().let_go_listings(names.used().saturating_sub(wanted));
    }

    /// How many nodes are kept.
    fn nodes_max(&self) -> usize {
        usize::try_from(self.options.memory / BUDGET_PER_NODE).unwrap_or(usize::MAX).max(NODES_MIN)
    }

    /// Forgets listings, and has the kernel forget nodes, where there are too many.
    fn forget_too_much(&self) {
        let max = self.nodes_max();
        let names = self.remote.names_budget().used();
        if let Some(bytes) = names.checked_sub(self.names_max()).filter(|&bytes| bytes > 0) {
            self.let_go_of_names(bytes);
        }
        self.cache.give_way(names.saturating_sub(NAMES_FREE));
        let mut nodes = self.tree.lock();
        nodes.drop_listings(max);
        if nodes.count() <= max {
            return;
        }
        // Some more, not to look through all of them again for every name that is found.
        let forgotten = nodes.take_idle(max / 4 * 3);
        drop(nodes);
        if let Some(invalidate) = self.invalidate.get() {
            for (parent, name) in &forgotten {
                invalidate.entry(*parent, name);
            }
        }
    }
}

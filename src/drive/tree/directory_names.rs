//! What is believed of the names in a directory, and since when.
//!
//! A listing tells what was there when it was requested. This mount's changes since then are applied to it, so they are
//! kept, up to a number. Where that is not enough, because the outcome of a change is unknown or there were too many of
//! them, listings that were requested before are not believed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Duration;

use crate::drive::moment::Moment;
use crate::drive::places::listed_names::Names;
use crate::drive::places::place::Found;
use crate::remote::RemoteAttributes;

/// A name that this mount added or changed, or (`None`) removed.
struct Change {
    at: Moment,
    name: OsString,
    found: Option<Found>,
}

/// What is believed of the names in a directory.
pub(in crate::drive) struct DirectoryNames {
    /// The names, and when they were requested.
    listing: Option<(Moment, Arc<Names>)>,
    /// When this mount last changed a name: listings requested before lack that change.
    changed: Moment,
    /// The latest changes, for listings that lack them.
    changes: VecDeque<Change>,
    /// Listings requested before this can't be brought up to date.
    unsure: Moment,
    /// When a name was last asked for alone, though the listing is old.
    asked_for_one: Option<Moment>,
    /// When this mount last made something in the directory, or could have.
    made_in: Option<Moment>,
    /// When this mount last removed something from it.
    removed_in: Option<Moment>,
}

impl DirectoryNames {
    /// Creates the belief for a directory that the server was asked for at `asked`: none of its names is known.
    pub(super) fn new(asked: Moment) -> Self {
        Self {
            listing: None,
            changed: asked,
            changes: VecDeque::new(),
            unsure: asked,
            asked_for_one: None,
            made_in: None,
            removed_in: None,
        }
    }

    /// Returns the names, however old they are, and when they were requested.
    pub(in crate::drive) fn listing(&self) -> Option<(Moment, &Arc<Names>)> {
        self.listing.as_ref().map(|(asked, names)| (*asked, names))
    }

    /// Records that a name is asked for though the listing is old. Returns whether another one was within that `time`.
    pub(in crate::drive) fn record_asking_for_one(&mut self, time: Duration) -> bool {
        let before = self.asked_for_one.replace(Moment::now());
        before.is_some_and(|before| before.elapsed() < time)
    }

    /// Believes names that were requested at `asked`, and brought up to date.
    pub(in crate::drive) fn believe_listing(&mut self, names: Arc<Names>, asked: Moment) {
        self.listing = Some((asked, names));
    }

    /// Has the names listed again when they are next wanted. A listing under way is still believed.
    pub(in crate::drive) fn drop_listing(&mut self) {
        self.listing = None;
    }

    /// Drops the listing, and distrusts listings under way: the outcome of a change is unknown.
    pub(in crate::drive) fn doubt(&mut self) {
        self.doubt_before(Moment::now());
    }

    /// Drops the listing, and distrusts listings that were requested before `then`.
    pub(super) fn doubt_before(&mut self, then: Moment) {
        self.listing = None;
        self.unsure = then;
    }

    /// Forgets the latest changes.
    pub(super) fn forget_changes(&mut self) {
        self.changes = VecDeque::new();
    }

    /// Believes that this mount has just added, changed or (`None`) removed a name. The listing has the change from now
    /// on, and listings under way get it.
    pub(super) fn believe_name(&mut self, name: &OsStr, found: Option<Found>) {
        /// Changes that are remembered: more than happen while one listing is fetched.
        const CHANGES_MAX: usize = 1024;
        self.changed = Moment::now();
        if self.changes.len() >= CHANGES_MAX
            && let Some(forgotten) = self.changes.pop_front()
        {
            self.unsure = self.unsure.max(forgotten.at);
        }
        if let Some((_, listing)) = &mut self.listing {
            apply(Arc::make_mut(listing), name, found.as_ref());
        }
        self.changes.push_back(Change { at: self.changed, name: name.to_owned(), found });
    }

    /// Believes attributes that were fetched for a name of the listing.
    pub(super) fn believe_attributes(&mut self, name: &OsStr, attributes: RemoteAttributes) {
        if let Some((_, listing)) = &mut self.listing {
            Arc::make_mut(listing).set_attributes(name, attributes);
        }
    }

    /// Applies this mount's changes since `asked` to names that were requested then; returns whether all of them are
    /// true now.
    pub(in crate::drive) fn bring_up_to_date(&self, names: &mut Names, asked: Moment) -> bool {
        for Change { name, found, .. } in self.changes.iter().filter(|change| change.at >= asked) {
            apply(names, name, found.as_ref());
        }
        asked > self.unsure
    }

    /// Whether this mount has changed no name since `then`.
    pub(in crate::drive) fn are_unchanged_since(&self, then: Moment) -> bool {
        then >= self.changed
    }

    /// Records whether this mount may make something in the directory: it just has, or has made the directory itself.
    pub(in crate::drive) fn record_making_allowed(&mut self, is_allowed: bool) {
        self.made_in = is_allowed.then(Moment::now);
    }

    /// Records whether this mount may remove something from the directory: it just has, or that has failed.
    pub(in crate::drive) fn record_removing_allowed(&mut self, is_allowed: bool) {
        self.removed_in = is_allowed.then(Moment::now);
    }

    /// Whether this mount could make something in the directory lately.
    pub(super) fn is_making_allowed(&self) -> bool {
        is_lately(self.made_in)
    }

    /// Whether this mount could remove something from the directory lately.
    pub(super) fn is_removing_allowed(&self) -> bool {
        is_lately(self.removed_in)
    }
}

fn apply(names: &mut Names, name: &OsStr, found: Option<&Found>) {
    match found {
        Some(found) => names.insert(found.clone()),
        None => names.remove(name),
    }
}

fn is_lately(then: Option<Moment>) -> bool {
    const LATELY: Duration = Duration::from_secs(60);
    then.is_some_and(|then| then.elapsed() < LATELY)
}

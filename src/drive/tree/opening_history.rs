//! When a node was opened, and what its content was then.

use crate::drive::content::chunks::ContentId;
use crate::drive::content::state::Base;
use crate::drive::moment::Moment;

/// When a node was opened, and what its content was then.
pub(in crate::drive) struct OpeningHistory {
    /// When the file was last opened.
    last: Option<Moment>,
    /// When one of the files in the directory was last opened again: a program that reads the whole directory has
    /// opened the files opened since, and will open the rest.
    again_in: Moment,
    /// The content that was last read or saved through the kernel, and size and time of the server's file then.
    content: Option<(ContentId, Base)>,
}

impl OpeningHistory {
    /// Creates the history of a node that was found at `asked`.
    pub(super) fn new(asked: Moment) -> Self {
        Self { last: None, again_in: asked, content: None }
    }

    /// Returns when the file was last opened.
    pub(super) fn last(&self) -> Option<Moment> {
        self.last
    }

    /// Records that the file is opened.
    pub(super) fn record(&mut self, now: Moment) {
        self.last = Some(now);
    }

    /// Returns when one of the files in the directory was last opened again.
    pub(super) fn again_in(&self) -> Moment {
        self.again_in
    }

    /// Records that a file in the directory is opened again.
    pub(super) fn record_again_in(&mut self, now: Moment) {
        self.again_in = now;
    }

    /// Returns the content that the kernel may have pages of, and size and time of the server's file then.
    pub(in crate::drive) fn content(&self) -> Option<(ContentId, Base)> {
        self.content
    }

    /// Remembers the content that a program has opened or saved.
    pub(in crate::drive) fn remember_content(&mut self, content: ContentId, base: Base) {
        self.content = Some((content, base));
    }

    /// Forgets the content: it can't be recognized any more, or must not be remembered.
    pub(in crate::drive) fn forget_content(&mut self) {
        self.content = None;
    }
}

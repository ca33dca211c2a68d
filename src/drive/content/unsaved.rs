//! What is told of content that is not on the server yet.

use std::time::{Duration, SystemTime};

use scaup_crypto::CleartextLen;

use crate::drive::moment::Moment;

/// Content that is not on the server yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::drive) struct UnsavedContent {
    pub(in crate::drive) bytes: u64,
    pub(super) length: CleartextLen,
    pub(in crate::drive) modified: SystemTime,
    /// The access time that a program set; `None` if none did.
    pub(in crate::drive) accessed: Option<SystemTime>,
    pub(super) since: Moment,
    /// When a program last wrote.
    pub(super) written: Moment,
    /// A program closed the file, and nobody wrote since.
    pub(super) is_closed: bool,
    /// The content has no name yet.
    pub(super) is_staged: bool,
    /// The content will replace other content, and is too long to have been written at once.
    pub(super) is_long_replacement: bool,
}

impl UnsavedContent {
    /// Returns how long the content has waited to be saved.
    pub(in crate::drive) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether the program has finished writing, or has written nothing for so `long` that it must have. Content that
    /// nobody has seen yet is to be shown only when it is whole.
    pub(in crate::drive) fn is_whole(&self, long: Duration) -> bool {
        !self.is_staged || self.is_closed || self.written.elapsed() >= long
    }

    /// Whether saving now loses nothing: half of the new content is better than nothing, but not better than the old
    /// content.
    pub(in crate::drive) fn harms_nothing(&self, long: Duration) -> bool {
        !self.is_long_replacement || self.is_whole(long)
    }
}

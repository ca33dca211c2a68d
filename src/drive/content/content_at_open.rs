//! What is known of content that a program opens.

use scaup_crypto::CleartextLen;

use super::chunks::ContentId;
use super::state::{Backing, Base, State, Stored};
use crate::drive::error::DriveError;

/// What is known of content that a program opens.
#[derive(Clone)]
pub(in crate::drive) struct ContentAtOpen {
    pub(in crate::drive) codec: Result<(), DriveError>,
    pub(in crate::drive) content: ContentId,
    /// Size and time of the server's file; `None` for content that has no name yet.
    pub(in crate::drive) stored: Option<Base>,
    pub(in crate::drive) length: CleartextLen,
    /// Whether a program can write to it as it is open now.
    pub(in crate::drive) takes_writes: bool,
}

impl ContentAtOpen {
    pub(in crate::drive) fn of(state: &State) -> Self {
        let takes_writes = match state.backing {
            Backing::Stored(Stored { writable, .. }) => writable,
            Backing::Staged { .. } => true,
        };
        Self {
            codec: state.codec().map(drop),
            content: state.content,
            stored: state.stored_base(),
            length: state.length,
            takes_writes,
        }
    }
}

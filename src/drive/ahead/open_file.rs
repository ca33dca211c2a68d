//! A file that a program has open, and the task that carries out its plan to read ahead.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use scaup_fuse::filesystem::OpenFlags;

use super::read_ahead::{GROUP_ROOM, ReadAhead};
use crate::drive::content::file::File;
use crate::drive::content::home::Resources;

/// An open file.
pub(in crate::drive) struct OpenFile {
    pub(in crate::drive) file: Arc<File>,
    pub(in crate::drive) flags: OpenFlags,
    pub(in crate::drive) ahead: Mutex<ReadAhead>,
}

/// Carries out a handle's plan to read ahead, until nothing of it is left or the handle is closed. With `goes_last`
/// each request waits until nobody else wants the connection.
pub(in crate::drive) async fn read_ahead(resources: Arc<Resources>, handle: Weak<OpenFile>, goes_last: bool) {
    loop {
        let room = if goes_last { resources.remote.room_ahead(GROUP_ROOM).await.map(Some) } else { Ok(None) };
        let Some(open) = handle.upgrade() else { return };
        let group = {
            let mut plan = open.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            let group = plan.take_group(open.file.length());
            // Without a connection nothing can be read ahead: the next read starts a task again.
            plan.carried_out &= room.is_ok();
            group
        };
        let (Ok(room), Some(group)) = (room, group) else { return };
        open.file.read_ahead(&resources, group, room);
    }
}

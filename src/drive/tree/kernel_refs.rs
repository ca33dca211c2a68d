//! What the kernel holds of a node: its inode, and handles.

/// Counts what the kernel holds of a node.
#[derive(Default)]
pub(in crate::drive) struct KernelRefs {
    lookups: u64,
    /// Whether the kernel was asked to forget the inode, and has not looked it up since.
    is_to_be_forgotten: bool,
    handles: u32,
}

impl KernelRefs {
    /// Counts a lookup: the kernel knows the inode.
    pub(super) fn count_lookup(&mut self) {
        self.lookups += 1;
        self.is_to_be_forgotten = false;
    }

    /// Uncounts lookups that the kernel forgets.
    pub(super) fn uncount_lookups(&mut self, count: u64) {
        self.lookups = self.lookups.saturating_sub(count);
    }

    /// Counts a handle that is being opened.
    pub(in crate::drive) fn count_handle(&mut self) {
        self.handles += 1;
    }

    /// Uncounts a handle that is gone.
    pub(in crate::drive) fn uncount_handle(&mut self) {
        self.handles = self.handles.saturating_sub(1);
    }

    /// Returns how many handles are open.
    pub(in crate::drive) fn handles(&self) -> u32 {
        self.handles
    }

    /// Whether the kernel holds nothing of the node.
    pub(super) fn are_none(&self) -> bool {
        self.lookups == 0 && self.handles == 0
    }

    /// Records that the kernel is asked to forget the inode.
    pub(super) fn ask_to_forget(&mut self) {
        self.is_to_be_forgotten = true;
    }

    /// Whether the kernel was asked to forget the inode, and has not looked it up since.
    pub(super) fn is_to_be_forgotten(&self) -> bool {
        self.is_to_be_forgotten
    }
}

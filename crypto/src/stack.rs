//! The stack that a cipher leaves behind, which still holds the keys that it computed with.

/// More than any of the ciphers here needs, bytes.
const USED: usize = 16 * 1024;

/// Does `work`, and wipes the stack that it used.
pub(crate) fn wiped_after<T>(work: impl FnOnce() -> T) -> T {
    scaup_memory::wiped_after::<USED, T>(work)
}

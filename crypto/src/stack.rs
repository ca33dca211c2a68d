//! The stack that a cipher leaves behind: it still holds the keys that were computed with, until something else happens to need that place.

use zeroize::zeroize_stack;

/// More than any of the ciphers here needs, bytes.
const USED: usize = 16 * 1024;

/// Does `work`, and wipes the stack that it used.
pub(crate) fn wiped_after<T>(work: impl FnOnce() -> T) -> T {
    let done = deeper(work);
    zeroize_stack::<USED>();
    done
}

/// Only what a call of its own used lies below the caller's.
#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    work()
}

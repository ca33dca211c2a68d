//! Keeping what is in this process's memory from everybody else, and from whoever gets that memory later.
//!
//! Secrets and decrypted content pass through buffers that nobody here can wipe: those of libraries, and the old place of every vector
//! that had to grow. So whatever is freed is wiped first, all of it. That costs little beside the cipher that the bytes went through.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::mem::MaybeUninit;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroize;

/// The system's allocator, but every allocation is wiped before it is freed. What grows or shrinks moves to another place, so that the old
/// one can be wiped.
pub struct WipingAllocator;

// SAFETY: the system's allocator keeps the contract; a wiped allocation is one that its owner has given up. `realloc` is the trait's own,
// which allocates, copies and calls `dealloc`.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the allocation is the caller's until it is freed below, and as long as the layout says. Not all of it need have been
        // written to, which `MaybeUninit` allows.
        unsafe { std::slice::from_raw_parts_mut(at.cast::<MaybeUninit<u8>>(), layout.size()) }.zeroize();
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Switches off core dumps, and hides the memory, environment and open files of this process from other programs of the same user
/// (`PR_SET_DUMPABLE`, prctl(2)). Programs that it starts are not hidden, but dump no core either.
///
/// # Errors
///
/// What the system said.
pub fn protect() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

//! Protects what is in this process's memory from other processes, and from those that get that memory later.
//!
//! Secrets and decrypted content pass through buffers that nobody here can wipe: those of libraries, and the old place
//! of every vector that had to grow. So whatever is freed is wiped first, all of it. That costs little beside the
//! cipher that the bytes went through. What the allocator does not see, the stack, is wiped behind those who work with
//! keys.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use rustix::mm::mlock;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::{Zeroize, zeroize_stack};

/// The system's allocator, but every allocation is wiped before it is freed. What grows or shrinks moves to another
/// place, so that the old one can be wiped.
pub struct WipingAllocator;

// SAFETY: the system's allocator keeps the contract; a wiped allocation is one that its owner has given up. `realloc`
// is the trait's own, which allocates, copies and calls `dealloc`.
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
        // SAFETY: the allocation is the caller's until it is freed below, and as long as the layout says. Not all of it
        // need have been written to, which `MaybeUninit` allows.
        unsafe { std::slice::from_raw_parts_mut(at.cast::<MaybeUninit<u8>>(), layout.size()) }.zeroize();
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Switches off core dumps, and hides the memory, environment and open files of this process from other programs of the
/// same user (`PR_SET_DUMPABLE`, prctl(2)). Programs that it starts are not hidden, but dump no core either.
///
/// # Errors
///
/// What the system said.
pub fn protect() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Keeps the pages of `bytes` out of swap. This is best effort: a small `RLIMIT_MEMLOCK` is no reason not to log in or
/// to open a vault. The pages are never unlocked, since other secrets may share them.
#[allow(unsafe_code)]
pub fn keep_out_of_swap(bytes: &[u8]) {
    let start = NonNull::from(bytes).cast::<std::ffi::c_void>();
    // SAFETY: the range is a live allocation, and locking it does not change its content.
    let _ = unsafe { mlock(start.as_ptr(), bytes.len()) };
}

/// Runs `work`, and wipes the stack that it used, of which `USED` bytes are more than it needs: the stack holds the
/// keys that were computed with until something else happens to need that place. The returned value is moved through
/// that stack and the caller's, so it must be a pointer to a secret, never the secret.
pub fn wiped_after<const USED: usize, T>(work: impl FnOnce() -> T) -> T {
    let done = deeper(work);
    zeroize_stack::<USED>();
    done
}

/// Runs `work` in a call of its own, so that only this call's stack lies below the caller's.
#[inline(never)]
fn deeper<T>(work: impl FnOnce() -> T) -> T {
    work()
}

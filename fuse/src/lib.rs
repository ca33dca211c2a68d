//! The kernel's side of Scaup: FUSE requests in, a [`Filesystem`] out.
//!
//! `filesystem` is the interface and its types, `skin` turns the kernel's requests into calls of it and its answers into
//! replies, `mount` mounts and unmounts, `automount` where an automount waits for it. Nothing else of Scaup sees a type of the FUSE library.

mod automount;
pub mod filesystem;
mod mount;
mod skin;

pub use automount::Automount;
pub use filesystem::Filesystem;
pub use mount::{Mount, MountEnd, MountError, MountOptions, UnmountError, clear_stale, mount};

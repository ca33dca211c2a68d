//! The kernel's side of Scaup: FUSE requests in, a [`Filesystem`] out.
//!
//! `filesystem` is the interface and its types, `skin` turns the kernel's requests into calls of it and its results
//! into replies, `asked` logs one request, `requests` counts them and lists those under way, `mount` mounts and
//! unmounts, `automount` mounts where an automount waits, `mount_list` reads the kernel's list of mounts. Nothing else
//! of Scaup sees a type of the FUSE library.

mod asked;
mod automount;
pub mod filesystem;
mod mount;
mod mount_list;
mod options;
pub mod requests;
mod skin;

pub use automount::Automount;
pub use filesystem::Filesystem;
pub use mount::{Mount, MountEnd, MountError, UnmountError, clear_stale, is_mounted, mount};
pub use mount_list::{FuseMount, fuse_mounts, unescaped};
pub use options::MountOptions;

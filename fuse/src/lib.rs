//! The kernel's side of Scaup: FUSE requests in, a [`Filesystem`] out.

pub mod filesystem;

pub use filesystem::Filesystem;

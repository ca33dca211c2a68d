//! Scaup mounts encrypted vaults that live on an SSH server as an ordinary folder.
//!
//! A request of the kernel walks one way: `scaup_fuse`, then [`drive`], then `scaup_crypto` and [`remote`]. Around that stand the
//! [`daemon`], one process per mount, and the [`cli`], its front end. [`check`] looks a vault over without mounting it.
//! [`memory`] keeps secrets in it from others.

pub mod check;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod drive;
pub mod memory;
pub mod remote;

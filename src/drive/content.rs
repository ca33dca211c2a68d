//! The content of files: read, write, save.
//!
//! One [`File`](file::File) stands for the content of one inode while it is open or unsaved; all handles share it. Its
//! state is behind one lock that is held across waits for the server. While a task holds it and waits, readers find a
//! snapshot ([`shown`]), and everybody else finds what is unsaved, and the length, in small copies beside the lock.
//!
//! - Reading: chunks come from what is unsent, from the [cache](chunks::ChunkCache), or from the server, each chunk
//!   once however many tasks want it. [`codec`] knows where a chunk lies in the server's file, and decrypts it.
//! - Writing ([`writing`]): bytes become dirty chunks; from 1 MiB on they are sent while the program still writes
//!   ([`sending`], [`uploader`]). New content goes to a temporary file beside its name ([`staged`]), changes go in
//!   place. [`lengths`] cuts files and extends them.
//! - Saving ([`commit`]): the rest is sent, the server's file is compared with what was opened, and the content gets
//!   its name, or the name of a conflicted copy.
//!
//! This wing knows where content lies ([`location`]), but neither nodes nor names: what it needs of the drive around it
//! stands in one trait, [`Home`](home::Home). What must always hold: a chunk that a program wrote is in memory until
//! the server has acknowledged it; content takes its name only when it is whole on the server's disk; content that
//! somebody else changed since it was opened is never replaced.

pub(super) mod chunks;
pub(super) mod codec;
pub(super) mod commit;
pub(super) mod content_at_open;
pub(super) mod counters;
pub(super) mod file;
pub(super) mod first_read;
pub(super) mod home;
pub(super) mod lengths;
pub(super) mod location;
pub(super) mod reading;
pub(super) mod sealed;
pub(super) mod sealed_place;
pub(super) mod segmented;
pub(super) mod sending;
pub(super) mod shown;
pub(super) mod staged;
pub(super) mod state;
pub(super) mod stored_end;
pub(super) mod unsaved;
pub(super) mod unsent;
pub(super) mod uploader;
pub(super) mod writing;

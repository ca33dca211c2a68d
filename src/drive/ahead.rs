//! What is fetched before a program asks for it, and what is kept after it has closed it.
//!
//! Each file here makes one guess: the next chunks of a file that is read in sequence ([`read_ahead`], carried out by
//! [`open_file`]); the next files of a program that opens one after the other ([`streak`] predicts them, [`open_ahead`]
//! opens them); the next directories of a program that walks a tree ([`walk`] predicts them, [`walks`] follows several
//! at a time, [`listings`] lists them); the names beside one that is looked up ([`look_ahead`]); a file that was closed
//! and may be opened again at once ([`kept_open`]).
//!
//! A guess is bounded in memory and in time, goes behind the requests that programs wait for, and costs only time when
//! it is wrong: nothing fetched here is used after this mount has changed what it was fetched from.

pub(super) mod kept_open;
pub(super) mod listings;
pub(super) mod look_ahead;
pub(super) mod open_ahead;
pub(super) mod open_file;
pub(super) mod read_ahead;
pub(super) mod streak;
mod walk;
mod walks;

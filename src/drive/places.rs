//! Where a node of the mount lies on the server, and what is found there: the lowest wing of the drive.
//!
//! A node lies in a plain directory, under its own name, or in an unlocked vault, as an encrypted entry ([`place`]). A
//! [`directory`](directory::Directory) is such a place made ready for operations: it finds one name, or lists all of
//! them into packed [names](listed_names::Names). Nothing here is remembered: each call asks the server. What the
//! server shows in the place of a vault that is expected there is a [displacement](displacement::Displacement).

pub(super) mod directory;
pub(super) mod displacement;
pub(super) mod listed_names;
pub(super) mod place;

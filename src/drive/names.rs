//! The names of the mount: look up, list, make, rename, remove.
//!
//! Each operation finds its nodes in the tree, holds their paths for as long as it takes, asks the server, and enters
//! the outcome into the tree before the program gets its reply. So what this mount did itself is known at once; what
//! others did is known when names and attributes expire. [`lookup`] finds and lists, and notices vaults on the way;
//! [`namespace`] makes, links and renames; [`removals`] removes, also behind a program.
//!
//! Two machines can change the same names. What this mount does to survive that is here, too: [`moves`] for
//! directories that were moved into each other, [`made_again`] for directories that were removed around something
//! unsaved, [`off_disk`] for changes that a power loss of the server could undo.
//!
//! [`links`], [`trash`], [`modes`] and [`asked_forms`] decide what programs are shown, [`forgetting`] how much of it
//! is remembered.

pub(super) mod asked_forms;
pub(super) mod forgetting;
pub(super) mod links;
pub(super) mod lookup;
pub(super) mod made_again;
pub(super) mod modes;
pub(super) mod moves;
pub(super) mod namespace;
pub(super) mod off_disk;
pub(super) mod own_changes;
pub(super) mod removals;
pub(super) mod trash;

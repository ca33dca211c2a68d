//! How a Cryptomator vault lies on a [`Remote`](crate::remote::Remote): the names of its files and directories there,
//! and how they are read and changed (`docs/vault-format.md`). This module knows no mount: the drive shows what is
//! found here, and `check` judges it.
//!
//! A vault's directories are flat: each has an id, and its content lies in `d/AA/BBB…`, a path made from that id
//! (section 4). In it, a *node* is a file `X.c9r`, or a directory `X.c9r` or `H.c9s` whose files tell the kind of node:
//! `dir.c9r` (a directory's id), `symlink.c9r`, or in the shortened form `contents.c9r` and the long name `name.c9s`
//! (sections 6 and 7). Sync clients make copies of all of these, also inside nodes, and leave entries without a node.
//!
//! `format` has the names and lengths that the format defines. `markers` names the files that make a vault; `opening`
//! and `create` work on it as a whole, `copies_beside` and `backups` on copies of its two files. A `secret` opens it;
//! `password` gives it another one, `upgrade` makes format 8 of format 7, `restoring` brings lost or damaged files
//! back (`inferred_config` is what the config said), and `replacement` is how one of the two files is replaced.
//! `entry_kinds` says what a name in a directory of a vault is, and `data_entries` what one beside content directories
//! is. `directory` finds and lists nodes, `inside` those that lie in one entry; `changes` makes and moves them,
//! `removal` removes them, `empty_entry` handles entries without one, `whereabouts` finds the cleartext path of what
//! lies at a path of the server, and `known_names` notices directories with two names. Unfinished content
//! has a `temporary` name, `unfinished` records on this machine where such names may be, and `sweep` removes debris of
//! dead processes. If two machines change the same file, one version gets one of the `conflict_names`.

mod backups;
mod changes;
mod conflict_names;
mod copies_beside;
mod create;
pub(crate) mod data_entries;
mod directory;
mod directory_removal;
mod empty_entry;
pub(crate) mod entry_kinds;
mod error;
mod format;
mod inferred_config;
pub(crate) mod inside;
mod known_names;
mod last_use;
mod link_target;
mod markers;
mod node;
mod opening;
mod packed_nodes;
mod password;
mod removal;
mod replacement;
mod restoring;
mod secret;
mod small_file;
mod sweep;
pub(crate) mod temporary;
pub(crate) mod unfinished;
mod unlocked;
mod upgrade;
#[cfg(test)]
mod vault_in_memory;
mod whereabouts;

pub use backups::{Backup, FileBackups, backups};
pub use copies_beside::CopiesBeside;
pub use create::{check_place_for_vault, create_vault};
pub use error::{NodeError, OpenError};
pub use inferred_config::InferredConfig;
pub use opening::{VaultInfo, inspect_vault, open_vault};
pub use password::{OldCopies, change_password, forget_password};
pub use restoring::{FoundFiles, Restoration, Source, Step, Why};
pub use secret::VaultSecret;
pub use upgrade::{is_before_format_8, upgrade_vault};

pub(crate) use backups::back_up;
pub(crate) use conflict_names::conflict_names;
pub(crate) use copies_beside::{is_backup, is_copy_of};
pub(crate) use directory::{BELOW_MAX, MARK_LEN, VaultDirectory, long_name_of, mark, stand_in};
pub(crate) use format::{DIRECTORY_ID_MAX, LONG_NAME_MAX, cleartext_name, content_path, part};
pub(crate) use link_target::climbs;
pub(crate) use markers::Markers;
pub(crate) use node::{Entry, FoundNode, NodePart, VaultNode};
pub(crate) use opening::{Opening, cryptor_of, find_files, keys_of, open_files};
pub(crate) use packed_nodes::{Undecided, VaultListing};
pub(crate) use removal::HiddenNode;
pub(crate) use small_file::write_small;
pub(crate) use sweep::sweep_plain;
pub(crate) use unlocked::{MarkerFiles, UnlockedVault};
pub(crate) use whereabouts::{Search, StoredPath, cleartext_paths};

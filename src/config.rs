//! What the user configures: targets, options, bookmarks, and where files lie.

pub mod bookmark;
pub mod mount_options;
pub mod paths;
pub mod private_directory;
pub mod size;
pub mod ssh_config;
pub mod target;

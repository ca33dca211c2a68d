//! What the user configures: targets, settings, bookmarks, and where files lie.

pub mod bookmark;
pub mod lock_on;
pub mod mount_options;
pub mod parts;
pub mod paths;
pub mod private_directory;
pub mod records;
pub mod settings;
pub mod size;
pub mod ssh_config;
pub mod target;
pub mod toml_files;

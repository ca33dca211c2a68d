//! The options of a mount.

/// The options of a mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// The source that `mount(8)` shows.
    pub fsname: String,
    /// The type that `mount(8)` shows behind `fuse.`. Some file managers know `sshfs` as remote, and then make no
    /// thumbnails.
    pub subtype: String,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// Whether users other than the one who mounts have access (needs `user_allow_other` in `/etc/fuse.conf`, or root).
    pub allow_other: bool,
    /// Whether the kernel checks permissions by the modes shown.
    pub default_permissions: bool,
    /// Whether programs on the mount may be run.
    pub exec: bool,
    /// Bytes that one write request may carry. One such request is in memory for each file that programs write to at
    /// that moment, and others for mapped files, up to what the kernel has under way in the background.
    pub max_write: u32,
    /// Whether the log may hold clear names.
    pub log_names: bool,
}

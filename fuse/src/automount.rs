//! Mounts at a place where an automount waits: `x-systemd.automount` in fstab(5), autofs(5).
//!
//! The first program that accesses the place wakes the automount, which has this program run and keeps all other
//! programs waiting until something is mounted. Only the processes of the automount's own process group do not wait:
//! systemd runs mount(8), and its children, in it. So the place has to be [opened](Automount::at) by a process that is
//! still in the group that it was started in. Through that descriptor it is mounted on without another access by path.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

/// A place at which an automount waits, and nothing is mounted yet.
#[derive(Debug)]
pub struct Automount(OwnedFd);

impl Automount {
    /// Opens `path` if an automount waits there, without waking it.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        // `O_PATH` alone wakes no automount (open(2)); with `O_DIRECTORY` it would.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
        let number = place.as_raw_fd();
        // `fstatfs` is not used: it would send a request to a FUSE file system, which may be dead or wait for its
        // server.
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        is_autofs(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, id).then_some(Self(place))
    }

    /// Mounts a FUSE file system there whose requests come through `device`. `options` are those of the kernel's
    /// `fuse`.
    pub(crate) fn mount(
        &self,
        device: impl AsFd,
        source: &str,
        flags: MountFlags,
        options: &[String],
    ) -> Result<(), Errno> {
        let mode = rustix::fs::fstat(&self.0)?.st_mode;
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let device = device.as_fd().as_raw_fd();
        let mut data = format!("fd={device},rootmode={mode:o},user_id={uid},group_id={gid}");
        options.iter().for_each(|option| data.extend([",", option]));
        // The descriptor is used: an access by path would wait for this very mount.
        let place = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(source, place, "fuse", flags, data.as_c_str())
    }
}

/// Returns whether the mount of that number is an automount's own, by the kernel's list (proc(5): the number comes
/// first, the type behind a lone hyphen).
fn is_autofs(mounts: &str, id: &str) -> bool {
    let mount = mounts.lines().find(|line| line.split(' ').next() == Some(id));
    let behind = mount.and_then(|line| line.split_once(" - "));
    behind.is_some_and(|(_, kind)| kind.starts_with("autofs "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automount_is_told_from_what_is_mounted_on_it() {
        let mounts = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
            211 21 0:50 / /mnt/b rw,relatime shared:9 - autofs systemd-1 rw,fd=44,pgrp=1,direct\n\
            213 211 0:51 / /mnt/b rw,nosuid shared:10 - fuse.sshfs hq:/autofs rw,user_id=0\n";
        assert!(is_autofs(mounts, "211"));
        assert!(!is_autofs(mounts, "213"));
        assert!(!is_autofs(mounts, "21"));
        assert!(!is_autofs(mounts, "2"));
    }

    #[test]
    fn an_ordinary_directory_is_none() {
        assert!(Automount::at(Path::new("/")).is_none());
        assert!(Automount::at(Path::new("/nothing here")).is_none());
    }
}

//! The kernel's list of mounts (proc(5), `/proc/self/mountinfo`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// A mount by FUSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuseMount {
    /// The number of the file system's device, major and minor: a bind mount has that of what it shows.
    pub device: (u32, u32),
    /// The directory of the file system that is seen at `place`: `/`, but for some bind mounts.
    pub root: PathBuf,
    /// Where it is mounted.
    pub place: PathBuf,
    /// Its type, such as `fuse.sshfs`.
    pub kind: String,
    /// The user that made it.
    pub user: u32,
}

/// Returns the mounts by FUSE in a text of the form of `/proc/self/mountinfo`. Lines that are not understood are
/// skipped.
#[must_use]
pub fn fuse_mounts(mountinfo: &str) -> Vec<FuseMount> {
    let of_line = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (major, minor) = mount.next()?.split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        let (root, place) = (unescaped(mount.next()?), unescaped(mount.next()?));
        let mut system = system.split(' ');
        let kind = system.next().filter(|kind| *kind == "fuse" || kind.starts_with("fuse."))?.to_owned();
        let user = system.nth(1)?.split(',').find_map(|option| option.strip_prefix("user_id="))?;
        Some(FuseMount { device, root, place, kind, user: user.parse().ok()? })
    };
    mountinfo.lines().filter_map(of_line).collect()
}

/// Decodes a path of `/proc`: blanks and backslashes are written as `\040`.
#[must_use]
pub fn unescaped(path: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = behind.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mounts_by_fuse_are_found_with_blanks_in_their_places() {
        let text = "\
            22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            90 27 0:50 / /home/alice/Scaup/my\\040files\\134x rw,nosuid,nodev shared:3 - fuse.sshfs alice@hq:/srv rw,user_id=1000,group_id=1000\n\
            91 27 0:51 / /mnt/disk rw - fuseblk /dev/sdb1 rw,user_id=0\n\
            92 27 0:52 / /mnt/x rw - fuse x rw,user_id=7,group_id=0\n\
            93 27 0:53 / /mnt/y rw - fuse.y y rw\n\
            94 27 0:54 /\n - \n\n\
            95 27 0:50 /Vault/a\\040b /mnt/bound rw - fuse.sshfs alice@hq:/srv rw,user_id=1000\n";
        let mount = |minor, root: &str, place: &str, kind: &str, user| FuseMount {
            device: (0, minor),
            root: root.into(),
            place: place.into(),
            kind: kind.into(),
            user,
        };
        assert_eq!(
            fuse_mounts(text),
            [
                mount(50, "/", "/home/alice/Scaup/my files\\x", "fuse.sshfs", 1000),
                mount(52, "/", "/mnt/x", "fuse", 7),
                mount(50, "/Vault/a b", "/mnt/bound", "fuse.sshfs", 1000),
            ]
        );
    }

    #[test]
    fn what_is_no_code_stands_for_itself() {
        assert_eq!(unescaped("a\\04"), Path::new("a\\04"));
        assert_eq!(unescaped("\\"), Path::new("\\"));
        assert_eq!(unescaped("\\777"), Path::new("\\777"));
        assert_eq!(unescaped("\\303\\244"), Path::new("ä"));
    }
}

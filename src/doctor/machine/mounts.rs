//! Mounts whose process is dead or does not reply.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::{GROUP, read};
use crate::config::bookmark::Bookmark;
use crate::config::paths;
use crate::doctor::Check;

/// How long a mount may take to reply.
const REPLIES_WITHIN: Duration = Duration::from_secs(3);

/// Types of mounts that Scaup makes unless it is told another one.
const TYPES: [&str; 2] = ["fuse.sshfs", "fuse.scaup"];

const NAME: &str = "mounts";

pub(super) fn checks(bookmarks: &[(String, Bookmark)]) -> Vec<Check> {
    let list = match read("/proc/self/mountinfo") {
        Ok(list) => list,
        Err(error) => {
            return vec![GROUP.ok(NAME, format!("not known: /proc/self/mountinfo: {error}"))];
        }
    };
    let wanted = bookmarks.iter().filter_map(|(_, bookmark)| bookmark.mountpoint.clone());
    let wanted: Vec<PathBuf> = wanted.map(paths::expand_home).collect();
    let user = rustix::process::getuid().as_raw();
    let is_ours = |mount: &FuseMount| {
        let place = &mount.place;
        mount.user == user
            && (TYPES.contains(&mount.kind.as_str())
                || place.starts_with(paths::mounts())
                || wanted.contains(place))
    };
    let ours: Vec<PathBuf> =
        fuse_mounts(&list).into_iter().filter(is_ours).map(|mount| mount.place).collect();
    let bad: Vec<Check> = ours.iter().filter_map(|place| problem(place)).collect();
    if bad.is_empty() {
        let found = match ours.len() {
            0 => "nothing is mounted".to_owned(),
            1 => "1 mount, which replies".to_owned(),
            count => format!("{count} mounts, which reply"),
        };
        return vec![GROUP.ok(NAME, found)];
    }
    bad
}

/// A mount by FUSE.
#[derive(Debug, PartialEq, Eq)]
struct FuseMount {
    place: PathBuf,
    /// Its type, such as `fuse.sshfs`.
    kind: String,
    /// The user that made it.
    user: u32,
}

/// Returns the mounts by FUSE in a text of the form of `/proc/self/mountinfo` (proc(5)). Lines that are not understood
/// are skipped.
fn fuse_mounts(mountinfo: &str) -> Vec<FuseMount> {
    let of_line = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let place = unescaped(mount.split(' ').nth(4)?);
        let mut system = system.split(' ');
        let kind = system.next().filter(|kind| *kind == "fuse" || kind.starts_with("fuse."))?.to_owned();
        let user = system.nth(1)?.split(',').find_map(|option| option.strip_prefix("user_id="))?;
        Some(FuseMount { place, kind, user: user.parse().ok()? })
    };
    mountinfo.lines().filter_map(of_line).collect()
}

/// Decodes a path of `/proc`: blanks and backslashes are written as `\040`.
pub(super) fn unescaped(path: &str) -> PathBuf {
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

/// Returns what is wrong with a mount. It is asked on a thread of its own, since the reply may never come.
fn problem(place: &Path) -> Option<Check> {
    let (send, reply) = channel();
    let asked = place.to_owned();
    std::thread::spawn(move || {
        // An attribute from the kernel's cache would say nothing about the process.
        let flags = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
        let _ = send.send(rustix::fs::statx(CWD, &asked, flags, StatxFlags::BASIC_STATS).map(drop));
    });
    let shown = place.display();
    let cure = format!("fusermount3 -uz '{}'", shown.to_string().replace('\'', r"'\''"));
    match reply.recv_timeout(REPLIES_WITHIN) {
        Ok(Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED)) => {
            Some(GROUP.failed(NAME, format!("{shown}: the process of this mount is dead"), cure))
        }
        Err(RecvTimeoutError::Timeout) => {
            let found = format!("{shown} did not reply within {} s", REPLIES_WITHIN.as_secs());
            Some(GROUP.warning(NAME, found, format!("see `scaup status`; if its process hangs: {cure}")))
        }
        // Any other reply comes from a process that lives.
        Ok(_) | Err(RecvTimeoutError::Disconnected) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_by_fuse_are_found_with_blanks_in_their_places() {
        let text = "\
            22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            90 27 0:50 / /home/alice/Scaup/my\\040files\\134x rw,nosuid,nodev shared:3 - fuse.sshfs alice@hq:/srv rw,user_id=1000,group_id=1000\n\
            91 27 0:51 / /mnt/disk rw - fuseblk /dev/sdb1 rw,user_id=0\n\
            92 27 0:52 / /mnt/x rw - fuse x rw,user_id=7,group_id=0\n\
            93 27 0:53 / /mnt/y rw - fuse.y y rw\n\
            94 27 0:54 /\n - \n\n";
        let mount =
            |place: &str, kind: &str, user| FuseMount { place: place.into(), kind: kind.into(), user };
        assert_eq!(
            fuse_mounts(text),
            [mount("/home/alice/Scaup/my files\\x", "fuse.sshfs", 1000), mount("/mnt/x", "fuse", 7)]
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

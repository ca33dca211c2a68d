//! Mounts whose process is dead or does not reply.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use scaup_fuse::{FuseMount, fuse_mounts};

use super::{GROUP, read};
use crate::config::bookmark::Bookmark;
use crate::config::mount_options::TYPES;
use crate::config::paths;
use crate::doctor::Check;

/// How long a mount may take to reply.
const REPLIES_WITHIN: Duration = Duration::from_secs(3);

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

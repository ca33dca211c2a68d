//! What a mount needs: the device, `fusermount3` and its rights, and the permission for the mount point.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::super::commands::in_path;
use super::{GROUP, read};
use crate::config::bookmark::Bookmark;
use crate::config::paths;
use crate::doctor::Check;

/// How long `fusermount3 --version` may take.
const VERSION_WITHIN: Duration = Duration::from_secs(5);

const HELPER: &str = "fusermount3";
const INSTALL: &str = "install FUSE 3: apt install fuse3 (dnf install fuse3, pacman -S fuse3)";

pub(super) fn checks(bookmarks: &[(String, Bookmark)]) -> Vec<Check> {
    let mut checks = vec![device(), helper(), new_privileges()];
    checks.extend(other_users(bookmarks));
    checks.extend(apparmor(bookmarks));
    checks
}

fn device() -> Check {
    let name = "/dev/fuse";
    match File::options().read(true).write(true).open(name) {
        Ok(_) => GROUP.ok(name, "it can be opened"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => GROUP.failed(
            name,
            "it does not exist",
            "modprobe fuse (in a container: start it with --device /dev/fuse)",
        ),
        Err(error) => GROUP.failed(name, format!("it can't be opened: {error}"), "chmod 666 /dev/fuse"),
    }
}

fn helper() -> Check {
    let Some(path) = in_path(OsStr::new(HELPER)) else {
        return GROUP.failed(HELPER, "it is not in PATH", INSTALL);
    };
    let shown = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return GROUP.failed(HELPER, format!("{shown}: {error}"), INSTALL),
    };
    if !is_root() && !is_set_uid_root(&metadata) {
        let advice = format!("chown root {shown} && chmod u+s {shown}");
        return GROUP.failed(HELPER, format!("{shown} does not run as root (no set-uid bit)"), advice);
    }
    let is_nosuid = rustix::fs::statvfs(&path)
        .is_ok_and(|system| system.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    if !is_root() && is_nosuid {
        let found = format!("{shown} lies on a file system that is mounted with nosuid");
        return GROUP.failed(HELPER, found, "mount that file system without nosuid");
    }
    match version(&path) {
        Ok(version) => GROUP.ok(HELPER, format!("{shown}, {version}")),
        Err(error) => GROUP.failed(HELPER, format!("{shown} does not run: {error}"), INSTALL),
    }
}

/// Root mounts without `fusermount3`, so its rights do not matter then.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_set_uid_root(metadata: &Metadata) -> bool {
    metadata.uid() == 0 && metadata.mode() & 0o4000 != 0
}

/// Returns what a program says to `--version`.
fn version(program: &Path) -> io::Result<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let end = Instant::now() + VERSION_WITHIN;
    while child.try_wait()?.is_none() {
        if end <= Instant::now() {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

fn new_privileges() -> Check {
    let name = "NoNewPrivs";
    let status = match read("/proc/self/status") {
        Ok(status) => status,
        Err(error) => return GROUP.ok(name, format!("not known: {error}")),
    };
    if is_root() || !has_no_new_privileges(&status) {
        return GROUP.ok(name, "fusermount3 may run as root");
    }
    GROUP.failed(
        name,
        "this process can't get new privileges, so fusermount3 can't mount",
        "start Scaup outside the sandbox, or remove NoNewPrivileges= and like options from its systemd unit",
    )
}

fn has_no_new_privileges(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1"))
}

fn other_users(bookmarks: &[(String, Bookmark)]) -> Option<Check> {
    let name = "user_allow_other";
    let wanting = |(_, bookmark): &&(String, Bookmark)| bookmark.login.options.allow_other;
    let (wanting, _) = bookmarks.iter().find(wanting)?;
    if is_root() || read("/etc/fuse.conf").is_ok_and(|text| allows_other_users(&text)) {
        return Some(GROUP.ok(name, format!("allow_other is permitted, which bookmark {wanting} wants")));
    }
    Some(GROUP.failed(
        name,
        format!("bookmark {wanting} wants allow_other, which /etc/fuse.conf does not permit"),
        "echo user_allow_other | sudo tee -a /etc/fuse.conf",
    ))
}

fn allows_other_users(fuse_conf: &str) -> bool {
    fuse_conf.lines().any(|line| line.trim() == "user_allow_other")
}

/// AppArmor's profile for `fusermount3` lets it mount in some places only.
fn apparmor(bookmarks: &[(String, Bookmark)]) -> Option<Check> {
    const PROFILE: &str = "/etc/apparmor.d/fusermount3";
    let name = "AppArmor";
    let is_enabled = read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y");
    let is_disabled = Path::new("/etc/apparmor.d/disable/fusermount3").exists();
    if !is_enabled || is_disabled || !Path::new(PROFILE).exists() {
        return None;
    }
    let wanted = bookmarks.iter().filter_map(|(_, bookmark)| bookmark.mountpoint.clone());
    let places = wanted.map(paths::expand_home).chain([paths::mounts().join("NAME")]);
    let refused: Vec<PathBuf> = places.filter(|place| !apparmor_allows(place)).collect();
    Some(match refused.first() {
        None => GROUP.ok(name, "its profile for fusermount3 allows the mount points"),
        Some(place) => GROUP.failed(
            name,
            format!("its profile for fusermount3 does not allow mounts at {}", place.display()),
            format!(
                "mount below your home directory, or write `mount fstype=fuse.* options=(nosuid,nodev) -> {}/,` into \
                 /etc/apparmor.d/local/fusermount3",
                place.display()
            ),
        ),
    })
}

/// Returns whether the profile of AppArmor 4.1 and newer allows a mount there: below a home directory, a runtime
/// directory, or the usual places for mounts.
fn apparmor_allows(place: &Path) -> bool {
    let below = |parent: &str, levels: usize| {
        place.strip_prefix(parent).is_ok_and(|rest| rest.components().count() > levels)
    };
    place == Path::new("/mnt")
        || ["/mnt", "/media", "/tmp", "/root", "/cvmfs"].iter().any(|parent| below(parent, 0))
        || below("/home", 1)
        || below("/run/user", 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_line_for_other_users_is_found_but_not_in_a_comment() {
        assert!(allows_other_users("# mount_max = 1000\n  user_allow_other \n"));
        assert!(!allows_other_users("#user_allow_other\n# user_allow_other\nmount_max = 5\n"));
    }

    #[test]
    fn the_status_of_a_restricted_process_is_read() {
        assert!(has_no_new_privileges("Name:\tscaup\nNoNewPrivs:\t1\nSeccomp:\t0\n"));
        assert!(!has_no_new_privileges("Name:\tscaup\nNoNewPrivs:\t0\n"));
        assert!(!has_no_new_privileges(""));
    }

    #[test]
    fn apparmor_allows_mounts_below_homes_and_in_the_usual_places() {
        for place in
            ["/home/alice/Scaup/hq", "/root/x", "/mnt", "/mnt/x", "/media/a/b", "/tmp/x", "/run/user/1000/x"]
        {
            assert!(apparmor_allows(Path::new(place)), "{place}");
        }
        for place in ["/home/alice", "/srv/vault", "/media", "/run/user/1000", "/data/alice/Scaup/hq"] {
            assert!(!apparmor_allows(Path::new(place)), "{place}");
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_given_up_and_its_version_is_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        for (script, expected) in [
            ("#!/bin/sh\necho one; echo two\n", Some("one")),
            ("#!/bin/sh\nexit 3\n", None),
            ("#!/bin/sh\nexec sleep 100\n", None),
        ] {
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(version(&program).ok().as_deref(), expected, "{script}");
        }
    }

    #[test]
    fn only_a_set_uid_program_of_root_runs_as_root() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, expected) in [(0o755, false), (0o4755, rustix::process::getuid().is_root())] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_set_uid_root(&file.path().metadata().unwrap()), expected, "{mode:o}");
        }
    }
}

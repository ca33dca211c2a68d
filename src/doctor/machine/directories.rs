//! The directories of Scaup's own files, which have to be the user's alone, and the sockets in one of them.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::GROUP;
use crate::config::paths;
use crate::daemon::client;
use crate::doctor::Check;

pub(super) fn checks() -> Vec<Check> {
    let place = paths::runtime_place();
    let runtime = place
        .around
        .as_deref()
        .map(|around| directory("runtime directory", around))
        .filter(|check| check.verdict.advice().is_some())
        .unwrap_or_else(|| directory("runtime directory", &place.directory));
    let is_private = runtime.verdict.advice().is_none() && place.directory.is_dir();
    let mut checks = vec![runtime];
    // Looking for sockets makes the directory if it is missing.
    if is_private {
        checks.push(sockets());
    }
    checks.push(directory("state directory", &paths::state()));
    checks
}

/// Checks a directory as it is checked when it is used.
fn directory(name: &'static str, path: &Path) -> Check {
    let shown = path.display();
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return GROUP.ok(name, format!("{shown} will be made when it is needed"));
        }
        Err(error) => {
            let advice = format!("make {shown} a directory that you own and that nobody else can write to");
            return GROUP.failed(name, format!("{shown}: {error}"), advice);
        }
    };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_dir() {
        let found = format!("{shown} is not a directory");
        return GROUP.failed(name, found, format!("move {shown} away"));
    }
    if owner != rustix::process::getuid().as_raw() {
        let found = format!("{shown} belongs to the user {owner}");
        return GROUP.failed(name, found, format!("chown -R \"$USER\" {shown}"));
    }
    if mode & 0o022 != 0 {
        let found = format!("others may write to {shown} (mode {mode:04o})");
        return GROUP.failed(name, found, format!("chmod go-w {shown}"));
    }
    GROUP.ok(name, format!("{shown} is yours alone"))
}

fn sockets() -> Check {
    let name = "sockets";
    match client::dead_names() {
        Ok(dead) if dead.is_empty() => GROUP.ok(name, "no daemon left one behind"),
        Ok(dead) => {
            let found = format!("left by daemons that were killed: {}", dead.join(", "));
            GROUP.warning(name, found, "scaup status")
        }
        Err(error) => GROUP.warning(name, error.to_string(), "scaup status"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_directory_has_to_be_the_users_alone() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let is_ok = |name: &str| directory("directory", &at(name)).verdict == Verdict::Ok;
        std::fs::create_dir(at("own")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(at("own"), at("link")).unwrap();
        assert!(is_ok("own") && is_ok("missing"));
        assert!(!is_ok("file") && !is_ok("link") && !is_ok("file/below"));
        for (mode, expected) in [(0o755, true), (0o775, false), (0o757, false)] {
            std::fs::set_permissions(at("own"), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_ok("own"), expected, "{mode:o}");
        }
        assert!(!at("missing").exists(), "a check changes nothing");
    }
}

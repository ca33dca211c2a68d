//! The files of known hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;

use super::{GROUP, Server};
use crate::doctor::Check;

const NAME: &str = "known_hosts";

/// The longest part of a file that is looked at, bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// Most lines that are named.
const NAMED_MAX: usize = 5;

/// Examines each file once.
pub(super) fn checks(servers: &[Server<'_>]) -> Vec<Check> {
    let mut files: Vec<&PathBuf> = Vec::new();
    for Server { destination, .. } in servers {
        for file in destination.user_known_hosts.iter().chain(&destination.global_known_hosts) {
            if !files.contains(&file) && file.exists() {
                files.push(file);
            }
        }
    }
    files.into_iter().flat_map(|file| check(file)).collect()
}

fn check(file: &Path) -> Vec<Check> {
    let shown = file.display();
    let unreadable = |error: io::Error| {
        let found = format!("{shown} can't be read ({error}), so its hosts count as unknown");
        vec![GROUP.warning(NAME, found, format!("make {shown} readable for you"))]
    };
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return unreadable(error),
    };
    // The null device is named by those who want no file.
    if !metadata.is_file() {
        return Vec::new();
    }
    let mut text = Vec::new();
    if let Err(error) = File::open(file).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text)) {
        return unreadable(error);
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let mut checks = Vec::new();
    if owner != 0 && owner != rustix::process::getuid().as_raw() {
        let found = format!("{shown} belongs to the user {owner}, who decides which servers are trusted");
        checks.push(GROUP.warning(NAME, found, format!("replace {shown} by a copy of your own")));
    } else if mode & 0o022 != 0 {
        let found =
            format!("others may write to {shown} (mode {mode:04o}) and decide which servers are trusted");
        checks.push(GROUP.warning(NAME, found, format!("chmod go-w {shown}")));
    }
    let lines = Lines::of(&String::from_utf8_lossy(&text));
    if !lines.malformed.is_empty() {
        let named: Vec<String> = lines.malformed.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let more = if lines.malformed.len() > NAMED_MAX { " and others" } else { "" };
        let found = format!("{shown}: line {}{more} can't be read, and is skipped", named.join(", "));
        checks.push(GROUP.warning(NAME, found, format!("correct or remove such lines of {shown}")));
    }
    if checks.is_empty() {
        let found = format!("{shown}: {} keys, {} revoked", lines.keys, lines.revoked);
        checks.push(GROUP.ok(NAME, found));
    }
    checks
}

/// What the lines of a file hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    keys: usize,
    revoked: usize,
    /// The numbers of those that can't be read, from 1.
    malformed: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let mut lines = Self::default();
        for (index, line) in text.lines().enumerate() {
            let mut words = line.split_ascii_whitespace().peekable();
            if words.peek().is_none_or(|word| word.starts_with('#')) {
                continue;
            }
            let marker = words.next_if(|word| word.starts_with('@'));
            let is_marker_known =
                marker.is_none_or(|marker| matches!(marker, "@cert-authority" | "@revoked"));
            let key = words.next().and_then(|_hosts| Some((words.next()?, words.next()?)));
            match key {
                Some((algorithm, key)) if is_marker_known && is_key(algorithm, key) => {
                    if marker == Some("@revoked") {
                        lines.revoked += 1;
                    } else {
                        lines.keys += 1;
                    }
                }
                _ => lines.malformed.push(index + 1),
            }
        }
        lines
    }
}

/// Returns whether a text is a public key of this algorithm: it begins with the algorithm's name (RFC 4253, 6.6).
fn is_key(algorithm: &str, key: &str) -> bool {
    let Ok(key) = BASE64.decode(key.as_bytes()) else { return false };
    let Some((length, rest)) = key.split_first_chunk::<4>() else { return false };
    let name = usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|length| rest.get(..length));
    name == Some(algorithm.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::doctor::Verdict;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn lines_that_can_not_be_read_are_numbered() {
        let (algorithm, blob) = KEY.split_once(' ').unwrap();
        let text = format!(
            "# a comment\n\nhost {KEY}\n|1|x|y {KEY} comment\n@revoked * {KEY}\n@cert-authority *.org {KEY}\n\
             host\nhost {algorithm}\nhost {algorithm} AAAA\nhost ssh-rsa {blob}\n@unknown host {KEY}\nhost {algorithm} !!\n"
        );
        assert_eq!(Lines::of(&text), Lines { keys: 3, revoked: 1, malformed: vec![7, 8, 9, 10, 11, 12] });
        assert_eq!(Lines::of(""), Lines::default());
    }

    #[test]
    fn a_file_that_others_may_write_to_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("host {KEY}\n")).unwrap();
        for (mode, is_ok) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let checks = check(file.path());
            assert_eq!(
                checks.iter().all(|check| check.verdict == Verdict::Ok),
                is_ok,
                "{mode:o}: {checks:?}"
            );
        }
        assert!(check(Path::new("/dev/null")).is_empty());
    }
}

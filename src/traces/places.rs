//! The directories whose traces are looked for, and whether a path that a program wrote down lies in one of them.

use std::borrow::Cow;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode;

/// How much of a file is searched at a time, bytes.
const BLOCK: usize = 1 << 16;

/// Directories, each with all that lies below it. They are only compared, and never looked into.
#[derive(Debug, Clone)]
pub struct Places {
    /// The home directory, which programs abbreviate.
    home: Vec<u8>,
    /// Without a slash at the end.
    roots: Vec<Vec<u8>>,
    /// How texts name the roots: by their paths, and by `~/` if they lie in the home directory.
    spellings: Vec<Vec<u8>>,
}

impl Places {
    /// Describes these absolute directories of the user with this home directory.
    #[must_use]
    pub fn new(home: &Path, directories: &[PathBuf]) -> Self {
        let home = normal(home.as_os_str().as_bytes());
        let roots: Vec<_> = directories.iter().map(|path| normal(path.as_os_str().as_bytes())).collect();
        let mut spellings = roots.clone();
        spellings.extend(roots.iter().filter_map(|root| {
            let below = root.strip_prefix(home.as_slice())?;
            (below.first() == Some(&b'/')).then(|| [b"~", below].concat())
        }));
        Self { home, roots, spellings }
    }

    /// Returns the paths of the directories below `prefix`, relative to it with a slash in front.
    pub(super) fn relative_to<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.roots
            .iter()
            .filter_map(move |root| root.strip_prefix(prefix).filter(|rest| rest.first() == Some(&b'/')))
    }

    pub(super) fn home(&self) -> &[u8] {
        &self.home
    }

    /// Returns whether an absolute path lies in one of the directories, or is one of them.
    pub(super) fn hold(&self, path: &[u8]) -> bool {
        if path.first() != Some(&b'/') {
            return false;
        }
        let path = normal(path);
        let is_below = |root: &Vec<u8>| {
            path.strip_prefix(root.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.roots.iter().any(is_below)
    }

    /// Does the same for a path that may begin with `~/`, or with `~NAME/` where the home directory has that name.
    pub(super) fn hold_abbreviated(&self, path: &[u8]) -> bool {
        let Some(abbreviated) = path.strip_prefix(b"~") else { return self.hold(path) };
        let own = self.home.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let below = abbreviated.strip_prefix(own).unwrap_or(abbreviated);
        below.first() == Some(&b'/') && self.hold(&[&self.home, below].concat())
    }

    /// Does the same for a `file:` URI (RFC 8089). Any host is this machine: programs write none, or its name.
    pub(super) fn hold_uri(&self, uri: &[u8]) -> bool {
        let Some((scheme, rest)) = uri.split_at_checked(5) else { return false };
        if !scheme.eq_ignore_ascii_case(b"file:") {
            return false;
        }
        let path = match rest.strip_prefix(b"//") {
            Some(behind) => {
                let host = behind.iter().position(|&byte| byte == b'/').unwrap_or(behind.len());
                behind.get(host..).unwrap_or_default()
            }
            None => rest,
        };
        self.hold(&Cow::from(percent_decode(path)))
    }

    /// Counts how often a text names a path in one of the directories: as it is, or with some bytes percent-encoded.
    pub(super) fn count_in(&self, mut text: impl Read) -> io::Result<u64> {
        // Each byte takes three when it is encoded; the byte behind a path says whether its name ends there.
        let longest = self.spellings.iter().map(|it| it.len() * 3 + 1).max().unwrap_or_default();
        let mut window = Vec::with_capacity(BLOCK + longest);
        let mut count = 0;
        loop {
            let before = window.len();
            (&mut text).take(BLOCK as u64).read_to_end(&mut window)?;
            let is_last = window.len() == before;
            let end = if is_last { window.len() } else { window.len().saturating_sub(longest) };
            let mut at = 0;
            while at < end {
                let begins = window.get(at..).unwrap_or_default();
                match self.spellings.iter().find_map(|it| named_at_start(it, begins)) {
                    Some(len) => {
                        count += 1;
                        at += len;
                    }
                    None => at += 1,
                }
            }
            if is_last {
                return Ok(count);
            }
            window.drain(..at);
        }
    }
}

/// Returns a path without slashes at its end and without empty or `.` components.
fn normal(path: &[u8]) -> Vec<u8> {
    let components = path.split(|&byte| byte == b'/').filter(|it| !it.is_empty() && *it != b".");
    components.flat_map(|component| [b"/", component].concat()).collect()
}

/// Returns the length of the path `root` at the start of a text, as it is or with some bytes percent-encoded, if its
/// last component ends there.
fn named_at_start(root: &[u8], text: &[u8]) -> Option<usize> {
    let goes_on = |&byte: &u8| byte.is_ascii_alphanumeric() || byte >= 0x80 || b"_-.%".contains(&byte);
    let is_whole = |len: &usize| !text.get(*len).is_some_and(goes_on);
    let plain = text.starts_with(root).then_some(root.len());
    plain.filter(is_whole).or_else(|| encoded_at_start(root, text).filter(is_whole))
}

fn encoded_at_start(root: &[u8], text: &[u8]) -> Option<usize> {
    let mut len = 0;
    for &byte in root {
        len += match text.get(len..)? {
            [b'%', high, low, ..] if hex(*high)? << 4 | hex(*low)? == byte => 3,
            [first, ..] if *first == byte && byte != b'%' => 1,
            _ => return None,
        };
    }
    Some(len)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn places(path: &str) -> Places {
        Places::new(Path::new("/home/a"), &[path.into()])
    }

    #[test]
    fn only_whole_components_count() {
        let places = places("/home/a/Scaup/hq/Vault/");
        for below in ["/home/a/Scaup/hq/Vault", "/home/a/Scaup/hq/Vault/x", "//home/a/./Scaup/hq/Vault//"] {
            assert!(places.hold(below.as_bytes()), "{below}");
        }
        for beside in
            ["/home/a/Scaup/hq/Vault2", "/home/a/Scaup/hq", "home/a/Scaup/hq/Vault", "", "~/Scaup/hq/Vault"]
        {
            assert!(!places.hold(beside.as_bytes()), "{beside}");
        }
        assert!(places.hold_abbreviated(b"~/Scaup/hq/Vault/x"));
        assert!(places.hold_abbreviated(b"~a/Scaup/hq/Vault/x"));
        assert!(!places.hold_abbreviated(b"~ab/Scaup/hq/Vault/x"));
        assert!(!places.hold_abbreviated(b"~/Scaup/hq/Vaults/x"));
    }

    #[test]
    fn a_uri_is_compared_by_what_it_means() {
        let places = places("/home/a/Tresor ü");
        for uri in [
            "file:///home/a/Tresor%20%C3%BC/x",
            "file:///home/a/Tresor%20%c3%bc",
            "FILE://localhost/home/%61/Tresor%20%C3%BC/x",
            "file:/home/a/Tresor ü/x",
        ] {
            assert!(places.hold_uri(uri.as_bytes()), "{uri}");
        }
        for uri in [
            "file:///home/a/Tresor%20%C3%BC2",
            "sftp://hq/home/a/Tresor%20%C3%BC/x",
            "file:",
            "file://host",
            "",
        ] {
            assert!(!places.hold_uri(uri.as_bytes()), "{uri}");
        }
    }

    #[test]
    fn a_text_is_searched_across_its_blocks() {
        let places = places("/home/a/Tresor ü");
        assert_eq!(places.count_in(&b""[..]).unwrap(), 0);
        for before in BLOCK - 40..BLOCK + 40 {
            let mut text = vec![b'x'; before];
            text.extend_from_slice(
                "/home/a/Tresor%20%c3%bc/secret /home/a/Tresor üx ~/Tresor ü\0".as_bytes(),
            );
            text.extend(vec![b'y'; BLOCK + 7]);
            assert_eq!(places.count_in(text.as_slice()).unwrap(), 2, "{before}");
        }
    }

    #[test]
    fn a_text_of_slashes_and_percent_signs_is_searched_without_harm() {
        let places = places("/%/%41");
        for text in ["/%25/%", "/%/%4", "%%%%", "/%/%41%", "//////", "/%zz"] {
            assert_eq!(places.count_in(text.repeat(9).as_bytes()).unwrap(), 0, "{text}");
        }
        assert_eq!(places.count_in(&b"/%25/%2541/x"[..]).unwrap(), 1);
    }
}

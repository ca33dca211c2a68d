//! Names and paths on the server.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// One name on the server: not empty, not `.` or `..`, without `/` and NUL, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteName(Box<[u8]>);

impl RemoteName {
    /// Longest name accepted from or sent to a server, in bytes (`NAME_MAX`).
    pub const MAX_LEN: usize = 255;

    /// Accepts `name` if it is safe to join to a path. A server is not trusted: everything it lists goes through here.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let safe = !name.is_empty()
            && name.len() <= Self::MAX_LEN
            && name != b"."
            && name != b".."
            && !name.iter().any(|&byte| byte == b'/' || byte == 0);
        safe.then(|| Self(name.into()))
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RemoteName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), formatter)
    }
}

/// A path on the server below the mounted directory, which is the empty path. No leading slash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RemotePath(Vec<u8>);

impl RemotePath {
    /// The mounted directory itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Parses a relative path of safe names; `.` and the empty text are the root, doubled and trailing slashes are
    /// ignored.
    #[must_use]
    pub fn parse(path: &[u8]) -> Option<Self> {
        path.split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .try_fold(Self::root(), |parent, part| Some(parent.join(&RemoteName::parse(part)?)))
    }

    /// The path of `name` inside this directory.
    #[must_use]
    pub fn join(&self, name: &RemoteName) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name.0);
        Self(path)
    }

    /// Where `path` lies, which is relative to this directory.
    #[must_use]
    pub fn below(&self, path: &Self) -> Self {
        match (self.is_root(), path.is_root()) {
            (true, _) => path.clone(),
            (_, true) => self.clone(),
            _ => Self([self.0.as_slice(), path.0.as_slice()].join(&b'/')),
        }
    }

    /// The directory this path lies in and its last name; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(Self, RemoteName)> {
        let cut = self.0.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match cut {
            Some(at) => (self.0.get(..at)?, self.0.get(at + 1..)?),
            None => (&[][..], self.0.as_slice()),
        };
        Some((Self(parent.to_vec()), RemoteName::parse(name)?))
    }

    /// The names on the way, from the mounted directory on.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).map(OsStr::from_bytes)
    }

    /// The path's bytes, names joined by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where this path lies when `from`, it or a directory above it, becomes `to`; `None` if it stays where it is.
    #[must_use]
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(from.0.as_slice())?;
        let is_below = rest.is_empty() || rest.starts_with(b"/") || from.is_root();
        is_below.then(|| Self([to.0.as_slice(), rest].concat()))
    }

    /// Whether this is the mounted directory itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), formatter)
    }
}

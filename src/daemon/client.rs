//! The front end's side: finding daemons, starting one, and talking to it.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::protocol::{Event, Request};
use crate::config::paths;

/// A conversation with a daemon.
pub struct Conversation {
    read: BufReader<UnixStream>,
    write: UnixStream,
}

/// The socket of the mount called `name`.
///
/// # Errors
///
/// If the directory for sockets can't be had.
pub fn socket_path(name: &str) -> io::Result<PathBuf> {
    Ok(paths::runtime()?.join(format!("{name}.sock")))
}

/// The names of all mounts whose daemons may be alive, sorted.
///
/// # Errors
///
/// If the directory for sockets can't be read.
pub fn names() -> io::Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(paths::runtime()?)?
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_suffix(".sock").map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}

impl Conversation {
    fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { read: BufReader::new(stream.try_clone()?), write: stream })
    }

    /// Talks to the daemon of the mount called `name`. A socket that a dead daemon left is removed.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such mount.
    pub fn with(name: &str) -> io::Result<Self> {
        let path = socket_path(name)?;
        match UnixStream::connect(&path) {
            Ok(stream) => Self::new(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(&path)?;
                Err(io::Error::from(io::ErrorKind::NotFound))
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a daemon. It leaves this terminal and goes on when this process ends.
    ///
    /// # Errors
    ///
    /// If the program can't be run again.
    pub fn start(log: &Path) -> io::Result<(Self, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        let log = std::fs::File::options().create(true).append(true).mode(0o600).open(log)?;
        let child = Command::new("/proc/self/exe")
            .arg("daemon")
            // One heap for all threads, not one for each: what one frees another can use, or the budget would not hold (mallopt(3)).
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()?;
        Ok((Self::new(ours)?, child))
    }

    /// Says something.
    ///
    /// # Errors
    ///
    /// If the daemon is gone.
    pub fn say(&mut self, request: &Request) -> io::Result<()> {
        let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request)?);
        line.push(b'\n');
        self.write.write_all(&line)
    }

    /// Waits for what the daemon says next; `None` if it is gone.
    ///
    /// # Errors
    ///
    /// If what it says is not understood.
    pub fn hear(&mut self) -> io::Result<Option<Event>> {
        let mut line = String::new();
        if self.read.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

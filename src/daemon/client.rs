//! The front end's side: finding daemons, starting one, and talking to it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use super::protocol::{Event, MOUNT_REQUEST_LEN_MAX, REQUEST_LEN_MAX, Request};
use super::socket;
use crate::config::paths;

/// A conversation with a daemon.
pub struct Conversation {
    read: BufReader<UnixStream>,
    write: UnixStream,
    request_len_max: usize,
}

/// The names of all mounts whose daemons may be alive, sorted.
///
/// # Errors
///
/// If the directory for sockets can't be read.
pub fn names() -> io::Result<Vec<String>> {
    socket::names(&paths::runtime()?)
}

impl Conversation {
    fn new(stream: UnixStream, request_len_max: usize) -> io::Result<Self> {
        Ok(Self { read: BufReader::new(stream.try_clone()?), write: stream, request_len_max })
    }

    /// Talks to the daemon of the mount called `name`. A socket that a dead daemon left is removed.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such mount.
    pub fn with(name: &str) -> io::Result<Self> {
        Self::new(socket::connect(&paths::runtime()?, name)?, REQUEST_LEN_MAX)
    }

    /// Starts a daemon that writes to `log`. It leaves this terminal and goes on when this process ends.
    ///
    /// # Errors
    ///
    /// If the program can't be run again.
    pub fn start(log: File) -> io::Result<(Self, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg("daemon")
            // One heap for all threads, not one for each: what one frees another can use, or the budget would not hold (mallopt(3)).
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()?;
        Ok((Self::new(ours, MOUNT_REQUEST_LEN_MAX)?, child))
    }

    /// Says something.
    ///
    /// # Errors
    ///
    /// If the daemon is gone, or would not listen to so much.
    pub fn say(&mut self, request: &Request) -> io::Result<()> {
        let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request)?);
        line.push(b'\n');
        if line.len() > self.request_len_max {
            let text = format!("that is too long: a mount's process takes {} bytes", self.request_len_max);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
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

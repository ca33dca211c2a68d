//! The front end's side: finding daemons, starting one, and talking to it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use super::protocol::{Event, MOUNT_REQUEST_LEN_MAX, MountStatus, REQUEST_LEN_MAX, Request, Version};
use super::socket;
use crate::config::paths;

/// How long a daemon may take to say which version it speaks.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no conversation with a daemon.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The socket failed; [`NotFound`](io::ErrorKind::NotFound) if there is no such mount.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The daemon does not say which version it speaks.
    #[error(
        "the mount's process ({pid}) does not say its version: it is older than this program, or hangs; {}",
        way_out(*pid)
    )]
    NoVersion {
        /// The daemon's process.
        pid: i32,
    },
    /// The daemon speaks an older version.
    #[error(
        "the mount's process ({pid}) is older than this program (control protocol {theirs}, this program has {}); {}",
        Version::OWN,
        way_out(*pid)
    )]
    Older {
        /// The version of the daemon.
        theirs: Version,
        /// The daemon's process.
        pid: i32,
    },
    /// The daemon speaks a newer version.
    #[error(
        "this program is older than the mount's process ({pid}; control protocol {theirs}, this program has {}); \
         use the `scaup` that made the mount",
        Version::OWN
    )]
    Newer {
        /// The version of the daemon.
        theirs: Version,
        /// The daemon's process.
        pid: i32,
    },
}

/// `scaup unmount` of this version can't talk to that daemon either.
fn way_out(pid: i32) -> String {
    format!("`kill {pid}` saves everything and unmounts, then mount again")
}

/// A conversation with a daemon.
pub struct Conversation {
    read: BufReader<UnixStream>,
    write: UnixStream,
    request_len_max: usize,
}

/// Returns the names of all mounts whose daemons may be alive, sorted.
///
/// # Errors
///
/// If the directory for sockets can't be read.
pub fn names() -> io::Result<Vec<String>> {
    socket::names(&paths::runtime()?)
}

/// Returns the names of mounts whose daemons are dead, sorted. Their sockets stay.
///
/// # Errors
///
/// If a socket can't be examined.
pub fn dead_names() -> io::Result<Vec<String>> {
    let directory = paths::runtime()?;
    let mut dead = Vec::new();
    for name in socket::names(&directory)? {
        if !socket::is_live(&directory, &name)? {
            dead.push(name);
        }
    }
    Ok(dead)
}

/// Returns whether a mount has this name. A socket that a dead daemon left is removed.
///
/// # Errors
///
/// If the directory for sockets can't be read.
pub fn is_mounted(name: &str) -> io::Result<bool> {
    Ok(socket::connect(&paths::runtime()?, name).is_ok())
}

impl Conversation {
    fn new(stream: UnixStream, request_len_max: usize) -> io::Result<Self> {
        Ok(Self { read: BufReader::new(stream.try_clone()?), write: stream, request_len_max })
    }

    /// Connects to the daemon of the mount called `name`. A socket that a dead daemon left is removed.
    ///
    /// # Errors
    ///
    /// If there is no such mount, or its daemon speaks another version.
    pub fn with(name: &str) -> Result<Self, ConversationError> {
        let directory = paths::runtime()?;
        let stream = socket::connect(&directory, name)?;
        stream.set_read_timeout(Some(HELLO_PATIENCE))?;
        let mut conversation = Self::new(stream, REQUEST_LEN_MAX)?;
        let theirs = conversation.version();
        if theirs.is_none() {
            // It may have ended at this very moment.
            drop(socket::connect(&directory, name)?);
        }
        conversation.write.set_read_timeout(None)?;
        if theirs.is_some_and(|theirs| theirs.major == Version::OWN.major) {
            return Ok(conversation);
        }
        let peer = socket_peercred(&conversation.write).map_err(io::Error::from)?;
        let pid = peer.pid.as_raw_nonzero().get();
        Err(match theirs {
            None => ConversationError::NoVersion { pid },
            Some(theirs) if theirs.major < Version::OWN.major => ConversationError::Older { theirs, pid },
            Some(theirs) => ConversationError::Newer { theirs, pid },
        })
    }

    /// Exchanges versions; returns the daemon's, if it says one.
    fn version(&mut self) -> Option<Version> {
        self.say(&Request::Hello(Version::OWN)).ok()?;
        match self.hear() {
            Ok(Some(Event::Hello(version))) => Some(version),
            // It hung up, is silent, or says what this program does not understand.
            Ok(_) | Err(_) => None,
        }
    }

    /// Starts a daemon that writes to `log`. It detaches from this terminal and goes on when this process ends.
    ///
    /// # Errors
    ///
    /// If the program can't be run again.
    pub fn start(log: File) -> io::Result<(Self, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg("daemon")
            // One heap for all threads, not one for each: memory that one thread frees can be used by another, or the
            // budget would not hold (mallopt(3)).
            .env("MALLOC_ARENA_MAX", "1")
            // Memory of a megabyte or more comes fresh from the system, and goes back when it is freed. Without a fixed
            // bound the C library raises it after the first large one, and fuser's buffer of 16 MiB for requests, of
            // which little is used, may take a place that was used and wiped: then all of it is in memory.
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
            // A fixed bound also ends the raising of this one; this is what it was raised to.
            .env("MALLOC_TRIM_THRESHOLD_", "33554432")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()?;
        let mut conversation = Self::new(ours, MOUNT_REQUEST_LEN_MAX)?;
        // This program's own file was run, so the version is the same.
        if conversation.version().is_none() {
            return Err(io::Error::other("the mount's process ended right after its start"));
        }
        Ok((conversation, child))
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// If the daemon is gone, or the request is too long for it.
    pub fn say(&mut self, request: &Request) -> io::Result<()> {
        let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request)?);
        line.push(b'\n');
        if line.len() > self.request_len_max {
            let text =
                format!("the request is too long: a mount's process accepts {} bytes", self.request_len_max);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.write.write_all(&line)
    }

    /// Asks for the state of the mount; `None` if the daemon is ending, or still being set up.
    ///
    /// # Errors
    ///
    /// As for [`Self::say`] and [`Self::hear`].
    pub fn status(&mut self) -> io::Result<Option<MountStatus>> {
        self.say(&Request::Status)?;
        loop {
            match self.hear()? {
                Some(Event::Status(status)) => return Ok(Some(*status)),
                Some(Event::Failed(_)) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// Waits for the daemon's next event; `None` if the daemon is gone.
    ///
    /// # Errors
    ///
    /// If the event can't be decoded.
    pub fn hear(&mut self) -> io::Result<Option<Event>> {
        let mut line = String::new();
        if self.read.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

//! A gate before OpenSSH's `sftp-server` that closes after an exact number of messages ([`Gate`]): where a proxy can
//! only cut the encrypted stream at some byte, this says which request was the last that the server heard.
//!
//! The gate is a directory. Each SFTP channel of the server has a process of its own before it (`gated-sftp-server`),
//! and all of them count in one file there.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::install::copy_of_program;
use crate::process::running;

/// What stands before the server.
const PROGRAM: &str = "gated-sftp-server";

/// What a closed gate holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Requests: the replies to those that passed arrive.
    Requests,
    /// Answers too: what was asked last is done, and nobody hears of it.
    Answers,
}

/// A gate, open at first.
pub struct Gate {
    directory: TempDir,
}

impl Gate {
    /// Makes one for [`crate::SshdBuilder::subsystem`].
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("scaup-gate").tempdir();
        let directory = directory.expect("a temporary directory can be made");
        let open_to_all = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        open_to_all(directory.path(), 0o755).expect("the server's user may come in");
        copy_of_program(PROGRAM, directory.path());
        let gate = Self { directory };
        DirBuilder::new().mode(0o700).create(gate.state()).expect("the state can be made");
        open_to_all(&gate.state(), 0o777).expect("the server's user may count");
        gate
    }

    /// The command of the server's `sftp` subsystem.
    #[must_use]
    pub fn subsystem(&self) -> String {
        format!("{} {}", self.program().display(), self.state().display())
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join(PROGRAM)
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Lets this many requests pass from now on, over all channels together, and then closes. The requests before it
    /// are done by then.
    pub fn close_after(&self, requests: u64, held: Held) {
        let state = self.state();
        let new = state.join("new");
        fs::write(&new, Count { left: requests, held }.to_string()).expect("the count can be written");
        fs::set_permissions(&new, Permissions::from_mode(0o666)).expect("the server's user may count");
        fs::rename(new, state.join(COUNT)).expect("the count can be given its name");
    }

    /// How many requests pass until it closes.
    #[must_use]
    pub fn left(&self) -> u64 {
        let mut file = File::open(self.state().join(COUNT)).expect("the gate was told when to close");
        // A channel may just be writing it.
        file.lock_shared().expect("it can be locked");
        read(&mut file).expect("it can be read").expect("the count is whole").left
    }

    /// Whether it has closed, and the last request that passed is done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state().join(CLOSED).exists()
    }

    /// Lets everything pass again.
    pub fn open(&self) {
        for name in [COUNT, CLOSED] {
            match fs::remove_file(self.state().join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => panic!("{name}: {error}"),
                _ => {}
            }
        }
    }

    /// Whether no channel is left, and so nothing that was held back can still arrive.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        !running(&self.program())
    }
}

const COUNT: &str = "count";
const CLOSED: &str = "closed";

/// What is still to pass.
struct Count {
    left: u64,
    held: Held,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.left, if self.held == Held::Answers { "answers" } else { "requests" })
    }
}

impl Count {
    fn parse(text: &str) -> Option<Self> {
        let (left, held) = text.split_once(' ')?;
        let held = if held == "answers" { Held::Answers } else { Held::Requests };
        Some(Self { left: left.parse().ok()?, held })
    }
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It may.
    Free,
    /// It may, and none after it.
    Last,
    /// Not now.
    Closed,
}

/// A channel's side of a [`Gate`].
pub struct Gatekeeper {
    state: PathBuf,
}

impl Gatekeeper {
    /// Counts in the gate's directory.
    #[must_use]
    pub fn at(state: PathBuf) -> Self {
        Self { state }
    }

    /// Asks for one request, and counts it.
    ///
    /// # Errors
    ///
    /// When the gate's directory is gone.
    pub fn ask(&self) -> io::Result<Passage> {
        let Some(mut file) = self.count()? else { return Ok(Passage::Free) };
        file.lock()?;
        let Some(count) = read(&mut file)? else { return Ok(Passage::Free) };
        if count.left == 0 {
            return Ok(Passage::Closed);
        }
        let count = Count { left: count.left - 1, ..count };
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(count.to_string().as_bytes())?;
        Ok(if count.left == 0 { Passage::Last } else { Passage::Free })
    }

    /// Whether replies may pass.
    ///
    /// # Errors
    ///
    /// When the gate's directory is gone.
    pub fn lets_answers_pass(&self) -> io::Result<bool> {
        let Some(mut file) = self.count()? else { return Ok(true) };
        file.lock_shared()?;
        Ok(read(&mut file)?.is_none_or(|count| count.left > 0 || count.held == Held::Requests))
    }

    /// The last request that passed is done.
    ///
    /// # Errors
    ///
    /// When the gate's directory is gone.
    pub fn note_closed(&self) -> io::Result<()> {
        File::create(self.state.join(CLOSED)).map(drop)
    }

    fn count(&self) -> io::Result<Option<File>> {
        match OpenOptions::new().read(true).write(true).open(self.state.join(COUNT)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read(file: &mut File) -> io::Result<Option<Count>> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Count::parse(&text))
}

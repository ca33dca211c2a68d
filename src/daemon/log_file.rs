//! The daemon's log file, which is bounded; the part before it is in one other file of the same bound.
//!
//! The process that starts the daemon opens the file as its standard error, to which the system, a panic and commands
//! that answer questions write as well. So the file stays the same one and is emptied after a copy was made of it: no
//! writer has to reopen it, and all of them append.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{FileType, OFlags, Stat};

use crate::config::private_directory::PrivateDirectory;

/// Maximum length of the log, bytes.
const BOUND: u64 = 4 * 1024 * 1024;

/// The log that is kept within its bound; empty if standard error is not the log of a mount, but a terminal.
static KEPT: OnceLock<Kept> = OnceLock::new();

/// Returns the name of a mount's log.
#[must_use]
pub fn name_of(mount: &str) -> String {
    format!("{mount}.log")
}

/// The log and its directory.
struct Kept {
    directory: PrivateDirectory,
    /// The name of the file with the part before it.
    before: String,
    /// Held while the log is written to or emptied.
    writing: Mutex<()>,
}

/// Keeps standard error within its bound from now on, if it is the log of `mount` in `directory`.
pub(super) fn keep(directory: PrivateDirectory, mount: &str) -> io::Result<()> {
    let name = name_of(mount);
    let (open, named) = (rustix::fs::fstat(io::stderr())?, directory.stat(&name)?);
    let is_same = |one: &Stat, other: &Stat| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
    if FileType::from_raw_mode(open.st_mode) == FileType::RegularFile && is_same(&open, &named) {
        let before = format!("{name}.1");
        KEPT.get_or_init(|| Kept { directory, before, writing: Mutex::new(()) });
    }
    Ok(())
}

impl Kept {
    /// Empties the log if it would exceed its bound. If no copy can be made of it, as on a full disk, it is emptied
    /// without one.
    fn make_room(&self, length: usize) -> io::Result<()> {
        let size = u64::try_from(rustix::fs::fstat(io::stderr())?.st_size).unwrap_or(0);
        if size == 0 || size + length as u64 <= BOUND {
            return Ok(());
        }
        let copied = self.copy(size);
        rustix::fs::ftruncate(io::stderr(), 0)?;
        copied
    }

    /// Copies the log's end over the part before it.
    fn copy(&self, size: u64) -> io::Result<()> {
        // The file of that name may be a link that somebody put there.
        match self.directory.remove(&self.before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut before = self.directory.open(&self.before, flags)?;
        // The log may have another name by now, or none, and is open for writing only.
        let mut log = File::open("/proc/self/fd/2")?;
        log.seek(SeekFrom::Start(size.saturating_sub(BOUND)))?;
        io::copy(&mut log.take(BOUND), &mut before)?;
        Ok(())
    }
}

/// Standard error, within its bound if it has one.
pub(super) struct LogFile;

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(kept) = KEPT.get() else { return io::stderr().write(bytes) };
        let _writing = kept.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // A line that can be written is not dropped because another step failed.
        let _ = kept.make_room(bytes.len());
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

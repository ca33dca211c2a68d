//! What a configuration needs of the machine: files, whose owners are checked, and commands whose success decides.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::error::SshConfigError;

/// The longest file that is read, bytes.
const FILE_MAX: u64 = 1024 * 1024;
/// How long a command may take: `ssh` waits without end.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// The machine that a configuration is read on.
pub trait Machine {
    /// Returns the text of a file; `None` if there is none. With `is_checked`, a file that others may write to is
    /// refused.
    ///
    /// # Errors
    ///
    /// If it can't be read, or may not be trusted.
    fn read(&self, path: &Path, is_checked: bool) -> Result<Option<String>, SshConfigError>;

    /// Returns the files that match a pattern (glob(7)), in the order of their names.
    fn matching(&self, pattern: &str) -> Vec<PathBuf>;

    /// Returns whether a command of the user's shell succeeds.
    ///
    /// # Errors
    ///
    /// If it can't be run, or takes too long.
    fn succeeds(&self, command: &str) -> io::Result<bool>;
}

/// This machine.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn read(&self, path: &Path, is_checked: bool) -> Result<Option<String>, SshConfigError> {
        let failed = |source| SshConfigError::File { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // The open file is checked, which is the one that is read.
        let metadata = file.metadata().map_err(failed)?;
        if is_checked {
            check(path, &metadata)?;
        }
        // A pattern may also match directories.
        if metadata.is_dir() {
            return Ok(Some(String::new()));
        }
        let mut content = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > FILE_MAX {
            return Err(failed(io::Error::other(format!("more than {FILE_MAX} bytes"))));
        }
        Ok(Some(String::from_utf8_lossy(&content).into_owned()))
    }

    fn matching(&self, pattern: &str) -> Vec<PathBuf> {
        // A name that begins with a dot matches only where the pattern has the dot, too. The library's own option for
        // that misses such names, and fails with names that are not UTF-8.
        let is_meant = |path: &PathBuf| {
            let starts_with_dot = |part: Component<'_>| part.as_os_str().as_bytes().starts_with(b".");
            let mut parts = path.components().zip(Path::new(pattern).components());
            parts.all(|(name, pattern)| !starts_with_dot(name) || starts_with_dot(pattern))
        };
        match glob::glob(pattern) {
            Ok(paths) => paths.flatten().filter(is_meant).collect(),
            // A pattern that is not valid stands for itself.
            Err(_) => vec![PathBuf::from(pattern)],
        }
    }

    fn succeeds(&self, command: &str) -> io::Result<bool> {
        let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
        // As `ssh` runs it: `exec` before it, so that no shell waits for it.
        let mut child = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()))
            .arg("-c")
            .arg(format!("exec {command}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let end = Instant::now() + COMMAND_WITHIN;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if end <= Instant::now() {
                child.kill()?;
                child.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Checks as `ssh` does: the file is the user's or root's, and no other user may write to it.
fn check(path: &Path, metadata: &std::fs::Metadata) -> Result<(), SshConfigError> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::getuid().as_raw() {
        return Err(SshConfigError::ForeignFile { path: path.to_owned(), owner });
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(SshConfigError::OpenFile { path: path.to_owned(), mode });
    }
    Ok(())
}

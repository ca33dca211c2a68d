//! A directory that is private to the user, held by its descriptor: files reached through it can't be exchanged by
//! another user who controls a part of its path.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, Stat};

/// The flags to open a directory: it has to be one itself, not a link to one.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that belongs to the user, and that no other user can write to.
#[derive(Debug)]
pub struct PrivateDirectory {
    directory: OwnedFd,
    path: PathBuf,
}

/// A lock to change a directory's entries, exclusive among all callers that take it. It ends when this is dropped.
#[must_use]
pub struct Locked<'a>(&'a PrivateDirectory);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0.directory, FlockOperation::Unlock);
    }
}

impl PrivateDirectory {
    /// Opens the directory at `path`, and creates it and missing ones above it.
    ///
    /// # Errors
    ///
    /// If it can't be created, is a link, belongs to another user, or is open to others.
    pub fn at(path: &Path) -> io::Result<Self> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| about(path, &error))?;
        Self::checked(rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()), path.to_owned())
    }

    /// Opens the directory `name` in this one, and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// As for [`Self::at`].
    pub fn below(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(component(name)?);
        match rustix::fs::mkdirat(&self.directory, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(about(&path, &error.into())),
        }
        Self::checked(rustix::fs::openat(&self.directory, name, DIRECTORY, Mode::empty()), path)
    }

    fn checked(opened: rustix::io::Result<OwnedFd>, path: PathBuf) -> io::Result<Self> {
        let directory = match opened {
            Ok(directory) => directory,
            // open(2) returns these for a link, and for anything else that is not a directory.
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => return Err(not_private(&path)),
            Err(error) => return Err(about(&path, &error.into())),
        };
        let Stat { st_uid, st_mode, .. } = rustix::fs::fstat(&directory)?;
        if st_uid != rustix::process::getuid().as_raw() || st_mode & 0o022 != 0 {
            return Err(not_private(&path));
        }
        Ok(Self { directory, path })
    }

    /// Returns the path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file in it, which is created private to the user if `flags` say so. A link is not followed.
    ///
    /// # Errors
    ///
    /// The system's error, with the file's path.
    pub fn open(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, component(name)?, flags, Mode::RUSR | Mode::WUSR);
        opened.map(File::from).map_err(|error| about(&self.path.join(name), &error.into()))
    }

    /// Returns a path to `name` in it that leads through the descriptor, for system calls that take only paths.
    ///
    /// # Errors
    ///
    /// If `name` is not a valid name.
    pub fn through(&self, name: &str) -> io::Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/self/fd/{}/{}", self.directory.as_raw_fd(), component(name)?)))
    }

    /// Returns the attributes of a name in it, of a link itself.
    ///
    /// # Errors
    ///
    /// `NotFound`, and other errors of the system.
    pub fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.directory, component(name)?, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Renames a file in it, replacing the file that had the new name.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, component(from)?, &self.directory, component(to)?)?)
    }

    /// Removes a file in it.
    ///
    /// # Errors
    ///
    /// `NotFound`, and other errors of the system.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, component(name)?, AtFlags::empty())?)
    }

    /// Returns the names in it that are UTF-8.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && entry.file_type() != FileType::Directory
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Takes the lock to change its entries, if it is free now.
    ///
    /// # Errors
    ///
    /// If the file system has no locks.
    pub fn try_lock(&self) -> io::Result<Option<Locked<'_>>> {
        match rustix::fs::flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Locked(self))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(about(&self.path, &error.into())),
        }
    }
}

/// Returns the name if it is a single path component.
fn component(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} can't be a file's name")));
    }
    Ok(name)
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn not_private(path: &Path) -> io::Error {
    let text = format!(
        "{} does not belong to you alone: it must be a directory (not a link) that you own and that nobody else can write to",
        path.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

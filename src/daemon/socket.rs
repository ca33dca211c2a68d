//! The control sockets of all mounts, in one directory: each mount's name is that of its socket.
//!
//! A killed daemon leaves its socket behind. Only a listener could tell that a socket is not such a leftover, so no
//! process replaces or removes a socket without having locked the directory: otherwise a daemon that starts at that
//! moment would lose its own.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

use crate::config::private_directory::{Locked, PrivateDirectory};

/// The name of a socket until it listens.
const NEW: &str = "new";

/// How long to wait for the directory's lock, which other processes hold for moments only.
const PATIENCE: Duration = Duration::from_secs(2);

fn file_name(mount: &str) -> String {
    format!("{mount}.sock")
}

/// Returns the names of all mounts that have a socket, sorted. Their daemons may be dead.
pub(super) fn names(directory: &PrivateDirectory) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = directory
        .names()?
        .into_iter()
        .filter_map(|name| name.strip_suffix(".sock").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Returns whether the daemon of a mount listens. Nothing is changed.
pub(super) fn is_live(directory: &PrivateDirectory, mount: &str) -> io::Result<bool> {
    is_alive(directory, &file_name(mount))
}

/// Connects to the daemon of a mount; `NotFound` if there is none. The socket of a dead daemon is removed.
pub(super) fn connect(directory: &PrivateDirectory, mount: &str) -> io::Result<UnixStream> {
    let name = file_name(mount);
    match UnixStream::connect(path_of(&Found::at(directory, &name)?)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // While another process changes the directory, removing the socket is left to it.
            if let Some(_locked) = directory.try_lock()?
                && !is_alive(directory, &name)?
            {
                directory.remove(&name)?;
            }
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
        connected => connected,
    }
}

/// The error that a daemon already listens at that name.
pub(super) struct IsMounted;

/// Listens for the front ends of a mount.
pub(super) fn listen(
    directory: PrivateDirectory,
    mount: &str,
) -> io::Result<Result<(UnixListener, SocketFile), IsMounted>> {
    let name = file_name(mount);
    let locked = lock(&directory)?;
    if is_alive(&directory, &name)? {
        return Ok(Err(IsMounted));
    }
    ignore_missing(directory.remove(NEW))?;
    let listener = UnixListener::bind(directory.through(NEW)?)?;
    // The socket gets its name once only the user has access and it is listening; the leftover of a dead daemon under
    // that name is replaced.
    rustix::fs::chmod(directory.through(NEW)?, Mode::RUSR | Mode::WUSR)?;
    directory.rename(NEW, &name)?;
    let own = Found::at(&directory, &name)?;
    drop(locked);
    Ok(Ok((listener, SocketFile { directory, name, own })))
}

/// A socket as it was found, even if another file has its name by now.
struct Found(File);

impl Found {
    fn at(directory: &PrivateDirectory, name: &str) -> io::Result<Self> {
        directory.open(name, OFlags::PATH).map(Self)
    }
}

/// Returns a path to exactly this socket: connect(2) takes no descriptor. It is short, however long the directory's is.
fn path_of(socket: &Found) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", socket.0.as_raw_fd()))
}

/// Returns whether a daemon listens at a name in the directory.
fn is_alive(directory: &PrivateDirectory, name: &str) -> io::Result<bool> {
    let found = match Found::at(directory, name) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path_of(&found))?) {
        // A busy daemon is alive.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn lock(directory: &PrivateDirectory) -> io::Result<Locked<'_>> {
    let begun = Instant::now();
    loop {
        if let Some(locked) = directory.try_lock()? {
            return Ok(locked);
        }
        if begun.elapsed() > PATIENCE {
            let text = format!("{} is locked by another program", directory.path().display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The file of a daemon's own socket, removed at the end.
pub(super) struct SocketFile {
    directory: PrivateDirectory,
    name: String,
    /// As long as this is open, no other file gets its number.
    own: Found,
}

impl SocketFile {
    fn remove(&self) -> io::Result<()> {
        let _locked = lock(&self.directory)?;
        let own = rustix::fs::fstat(&self.own.0)?;
        match self.directory.stat(&self.name) {
            Ok(there) if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino) => {
                self.directory.remove(&self.name)
            }
            // Another daemon has the name.
            Ok(_) => Ok(()),
            Err(error) => ignore_missing(Err(error)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "left a socket behind");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listening(at: &std::path::Path) -> (UnixListener, SocketFile) {
        listen(PrivateDirectory::at(at).unwrap(), "mount").unwrap().ok().unwrap()
    }

    #[tokio::test]
    async fn a_name_is_one_daemons_alone_until_that_is_dead() {
        let place = tempfile::tempdir().unwrap();
        // Longer than a socket's address can be.
        let at = place.path().join("long".repeat(40));
        let directory = PrivateDirectory::at(&at).unwrap();
        assert_eq!(connect(&directory, "mount").unwrap_err().kind(), io::ErrorKind::NotFound);
        let (listener, file) = listening(&at);
        connect(&directory, "mount").unwrap();
        assert!(listen(PrivateDirectory::at(&at).unwrap(), "mount").unwrap().is_err());
        assert_eq!(names(&directory).unwrap(), ["mount"]);

        // A killed daemon removes nothing.
        drop(listener);
        std::mem::forget(file);
        let (listener, file) = listening(&at);
        connect(&directory, "mount").unwrap();
        drop(listener);
        std::mem::forget(file);
        assert_eq!(connect(&directory, "mount").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(directory.names().unwrap().is_empty(), "what a dead daemon left is removed");
    }

    #[tokio::test]
    async fn a_daemon_removes_its_own_socket_alone() {
        let place = tempfile::tempdir().unwrap();
        let (listener, file) = listening(place.path());
        drop(listener);
        let (_next, next_file) = listening(place.path());
        drop(file);
        let directory = PrivateDirectory::at(place.path()).unwrap();
        connect(&directory, "mount").unwrap();
        drop(next_file);
        assert!(directory.names().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_link_in_a_sockets_place_is_not_followed() {
        let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_listener, _file) = listening(elsewhere.path());
        std::os::unix::fs::symlink(elsewhere.path().join("mount.sock"), place.path().join("mount.sock"))
            .unwrap();
        let directory = PrivateDirectory::at(place.path()).unwrap();
        connect(&directory, "mount").unwrap_err();
        assert!(elsewhere.path().join("mount.sock").exists());
    }

    #[tokio::test]
    async fn nobody_takes_a_daemons_socket_for_that_of_the_dead_one_before_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = PrivateDirectory::at(place.path()).unwrap();
        let (listener, file) = listening(place.path());
        let dead = directory.stat("mount.sock").unwrap().st_ino;
        drop(listener);
        std::mem::forget(file);

        // This does what a starting daemon does: a socket that a front end finds dead may be gone by now.
        let locked = directory.try_lock().unwrap().unwrap();
        let front_end = PrivateDirectory::at(place.path()).unwrap();
        assert_eq!(connect(&front_end, "mount").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(directory.stat("mount.sock").unwrap().st_ino, dead, "it was removed");
        // Another daemon waits.
        let runtime = tokio::runtime::Handle::current();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| {
                let _inside = runtime.enter();
                listening(place.path())
            });
            std::thread::sleep(Duration::from_millis(50));
            let is_waiting = !next.is_finished();
            drop(locked);
            let _next = next.join().unwrap();
            assert!(is_waiting);
            connect(&front_end, "mount").unwrap();
        });
    }
}

//! Files of other programs in the user's own directories: found, read, and changed with care.
//!
//! Below a directory of the user no link is followed, and only regular files of this user are opened. They may change
//! at any time: a file is replaced or removed only while it is the very one that was read.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Longest list that is read into memory, bytes.
const LIST_LEN_MAX: u64 = 64 << 20;

/// How deep directories may be nested that are removed: each level takes a descriptor and a part of the stack.
const LEVELS_MAX: u32 = 256;

/// How often a file is read again if it changes meanwhile.
const TRIES: u32 = 5;

/// A directory of the user.
pub(super) struct Folder {
    directory: OwnedFd,
    path: PathBuf,
}

/// A file of the user.
pub(super) struct Found<'a> {
    pub(super) folder: &'a Folder,
    pub(super) name: OsString,
    pub(super) file: File,
    stat: Stat,
}

fn is_own(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::getuid().as_raw()
}

impl Folder {
    /// Opens a directory at its path, which may be a link: the user chose it. `None` if there is none, or another user
    /// owns it.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::checked(rustix::fs::openat(CWD, path, flags, Mode::empty()), path.to_owned())
    }

    /// Opens a directory in this one; `None` as for [`Self::at`], or if it is a link.
    pub(super) fn below(&self, name: &OsStr) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, name, flags, Mode::empty());
        Self::checked(opened, self.path.join(name))
    }

    fn checked(opened: rustix::io::Result<OwnedFd>, path: PathBuf) -> io::Result<Option<Self>> {
        let directory = match opened {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(is_own(&rustix::fs::fstat(&directory)?).then_some(Self { directory, path }))
    }

    pub(super) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the names in this directory that match a pattern, in which one `*` stands for any text.
    pub(super) fn names(&self, pattern: &str) -> io::Result<Vec<OsString>> {
        let Some((begin, end)) = pattern.split_once('*') else { return Ok(vec![pattern.into()]) };
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let middle =
                name.strip_prefix(begin.as_bytes()).and_then(|rest| rest.strip_suffix(end.as_bytes()));
            if middle.is_some() && name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Returns when a name in this directory was last written to.
    pub(super) fn modified(&self, name: &OsStr) -> io::Result<SystemTime> {
        let stat = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
        Ok(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Opens a file; `None` if there is none, or it is no regular file of this user.
    pub(super) fn open(&self, name: OsString) -> io::Result<Option<Found<'_>>> {
        // Opening a pipe must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, &name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok((is_file && is_own(&stat)).then_some(Found { folder: self, name, file, stat }))
    }

    /// Removes what lies at a name, with all below it if it is a directory. Nothing may be there.
    pub(super) fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        self.remove_levels(name, LEVELS_MAX)
    }

    fn remove_levels(&self, name: &OsStr, levels: u32) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(folder) = self.below(name)? else {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user owns it"));
        };
        let Some(levels) = levels.checked_sub(1) else {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "its directories are nested too deeply"));
        };
        for name in folder.names("*")? {
            folder.remove_levels(&name, levels)?;
        }
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::REMOVEDIR)?)
    }
}

impl Found<'_> {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path_of(&self.name)
    }

    /// Returns the begin of the file, up to `max` bytes.
    pub(super) fn begin(&self, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.file).take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the whole file, which is a list of a sane size.
    pub(super) fn text(&self) -> io::Result<Vec<u8>> {
        let text = self.begin(LIST_LEN_MAX + 1)?;
        if text.len() as u64 > LIST_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be such a list"));
        }
        Ok(text)
    }

    /// Returns whether its name still leads to this file, as it was when it was opened.
    fn is_unchanged(&self) -> io::Result<bool> {
        let now = match rustix::fs::statat(&self.folder.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(now) => now,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let key = |stat: &Stat| {
            let modified = (stat.st_mtime, stat.st_mtime_nsec);
            let changed = (stat.st_ctime, stat.st_ctime_nsec);
            (stat.st_dev, stat.st_ino, stat.st_size, modified, changed)
        };
        Ok(key(&now) == key(&self.stat))
    }

    /// Removes the file, unless its name leads to another one by now. Returns whether it did.
    pub(super) fn remove(&self) -> io::Result<bool> {
        let is_same = self.is_unchanged()?;
        if is_same {
            rustix::fs::unlinkat(&self.folder.directory, &self.name, AtFlags::empty())?;
        }
        Ok(is_same)
    }
}

/// Takes the parts that `entries` returns, in order and apart from each other, out of a file; returns how many. All
/// else stays, byte for byte, and so do owner and mode.
pub(super) fn cut(
    folder: &Folder,
    name: &OsStr,
    entries: impl Fn(&[u8]) -> Vec<Range<usize>>,
) -> io::Result<u64> {
    for _ in 0..TRIES {
        let Some(found) = folder.open(name.to_owned())? else { return Ok(0) };
        let text = found.text()?;
        let entries = entries(&text);
        if entries.is_empty() {
            return Ok(0);
        }
        let mut left = Vec::with_capacity(text.len());
        let mut at = 0;
        for entry in &entries {
            left.extend_from_slice(text.get(at..entry.start).unwrap_or_default());
            at = entry.end;
        }
        left.extend_from_slice(text.get(at..).unwrap_or_default());
        if replace(&found, &left)? {
            return Ok(entries.len() as u64);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program changes it all the time"))
}

/// Replaces a file, unless another program has changed it since it was opened. Returns whether it did.
fn replace(old: &Found<'_>, content: &[u8]) -> io::Result<bool> {
    let directory = &old.folder.directory;
    let mut new = OsString::from(".");
    new.push(&old.name);
    new.push(format!(".scaup-{}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A process of the same number that was killed left it.
    match rustix::fs::unlinkat(directory, &new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let file = rustix::fs::openat(directory, &new, flags, Mode::RUSR | Mode::WUSR)?;
    let replaced = fill_and_rename(old, &new, File::from(file), content);
    if !matches!(replaced, Ok(true)) {
        rustix::fs::unlinkat(directory, &new, AtFlags::empty())?;
    }
    replaced
}

fn fill_and_rename(old: &Found<'_>, new: &OsStr, mut file: File, content: &[u8]) -> io::Result<bool> {
    file.write_all(content)?;
    if rustix::fs::fstat(&file)?.st_gid != old.stat.st_gid {
        rustix::fs::fchown(&file, None, Some(rustix::fs::Gid::from_raw(old.stat.st_gid)))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(old.stat.st_mode))?;
    file.sync_all()?;
    let directory = &old.folder.directory;
    let is_same = old.is_unchanged()?;
    if is_same {
        rustix::fs::renameat(directory, new, directory, &old.name)?;
        rustix::fs::fsync(directory)?;
    }
    Ok(is_same)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_another_program_writes_meanwhile_is_not_lost() {
        let home = tempfile::tempdir().unwrap();
        let list = home.path().join("list");
        std::fs::write(&list, "secret\nkept\n").unwrap();
        std::fs::set_permissions(&list, std::fs::Permissions::from_mode(0o640)).unwrap();
        let folder = Folder::at(home.path()).unwrap().unwrap();
        let calls = std::cell::Cell::new(0);
        let done = cut(&folder, OsStr::new("list"), |text| {
            calls.set(calls.get() + 1);
            if calls.get() == 1 {
                std::fs::write(&list, "secret\nkept\nnew\n").unwrap();
            }
            assert!(text.starts_with(b"secret\n"));
            std::iter::once(0..7).collect()
        });
        assert_eq!((done.unwrap(), calls.get()), (1, 2));
        assert_eq!(std::fs::read_to_string(&list).unwrap(), "kept\nnew\n");
        assert_eq!(std::fs::metadata(&list).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(folder.names("*").unwrap(), ["list"], "nothing else is left");
    }

    #[test]
    fn a_list_that_changes_all_the_time_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let list = home.path().join("list");
        std::fs::write(&list, "secret").unwrap();
        let folder = Folder::at(home.path()).unwrap().unwrap();
        let done = cut(&folder, OsStr::new("list"), |text| {
            std::fs::write(&list, [text, b"+"].concat()).unwrap();
            std::iter::once(0..6).collect()
        });
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert!(std::fs::read_to_string(&list).unwrap().starts_with("secret+"));
        assert_eq!(folder.names("*").unwrap(), ["list"]);
    }

    #[test]
    fn neither_links_nor_pipes_nor_directories_are_opened() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("file"), "x").unwrap();
        symlink(elsewhere.path().join("file"), home.path().join("link")).unwrap();
        symlink(elsewhere.path(), home.path().join("folder")).unwrap();
        rustix::fs::mknodat(CWD, home.path().join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        std::fs::create_dir(home.path().join("directory")).unwrap();
        let folder = Folder::at(home.path()).unwrap().unwrap();
        for name in ["link", "pipe", "directory", "missing"] {
            assert!(folder.open(name.into()).unwrap().is_none(), "{name}");
        }
        assert!(folder.below(OsStr::new("folder")).unwrap().is_none());
        folder.remove_tree(OsStr::new("folder")).unwrap();
        assert!(elsewhere.path().join("file").exists(), "only the link is removed");
    }
}

//! A journal on this machine of the places in a vault where this mount has begun something: after a kill, the next
//! mount checks these for unfinished operations. Otherwise it would find them only when a program lists the very
//! directory.
//!
//! There is one file for each vault and process, with a line for each directory in which a temporary name was made, and
//! for each directory that got a second name to be moved. Lines hold encrypted names and the ids of directories, which
//! the server has in clear too. A kill loses no line; a power failure of this machine may lose the last ones.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;
use lru::LruCache;
use rustix::fs::OFlags;
use scaup_crypto::{Cryptor, DirectoryId};
use sha2::{Digest, Sha256};

use super::node::{Entry, NodePart};
use super::temporary;
use crate::config::private_directory::PrivateDirectory;
use crate::remote::RemoteName;

/// Lines that are kept: an operation begun before that many others is finished, or very long.
// The compiler evaluates it: with 0 this does not compile.
const KEPT: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Lines at which the file is rewritten with only the lines that are kept. The next mount checks at most as many
/// directories.
const LINES_MAX: usize = 1024;
/// Most bytes that are read of a file.
const READ_MAX: u64 = 4 << 20;

/// An operation that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Begun {
    /// There may be a temporary name in this directory.
    In(DirectoryId),
    /// The entry of this name in this directory is about to lose what is in it.
    Emptying(DirectoryId, RemoteName),
    /// A directory got a second name, and is about to lose the first.
    Move { from: (DirectoryId, Entry), to: (DirectoryId, Entry) },
}

impl Begun {
    fn line(&self) -> String {
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        match self {
            Self::In(id) => format!("in {}\n", hex(id.as_bytes())),
            Self::Emptying(id, name) => {
                format!("emptying {} {}\n", hex(id.as_bytes()), hex(name.as_bytes()))
            }
            Self::Move { from, to } => {
                let end = |(id, entry): &(DirectoryId, Entry)| {
                    let part = entry.part.as_ref().map_or(&b""[..], RemoteName::as_bytes);
                    format!("{} {}/{}", hex(id.as_bytes()), hex(entry.name.as_bytes()), hex(part))
                };
                format!("move {} {}\n", end(from), end(to))
            }
        }
    }

    /// Parses a line; `None` if it was cut off.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        match kind {
            "in" => Some(Self::In(id(words.next()?)?)),
            "emptying" => Some(Self::Emptying(id(words.next()?)?, name(words.next()?)?)),
            "move" => {
                let mut end = || Some((id(words.next()?)?, entry(words.next()?)?));
                Some(Self::Move { from: end()?, to: end()? })
            }
            _ => None,
        }
    }
}

/// The root's id has no bytes.
fn id(word: &str) -> Option<DirectoryId> {
    let bytes = HEXLOWER.decode(word.as_bytes()).ok()?;
    if bytes.is_empty() { Some(DirectoryId::root()) } else { DirectoryId::parse(&bytes).ok() }
}

fn name(word: &str) -> Option<RemoteName> {
    RemoteName::parse(&HEXLOWER.decode(word.as_bytes()).ok()?)
}

/// Without a part it was written by a Scaup that knew only one node in an entry.
fn entry(word: &str) -> Option<Entry> {
    match word.split_once('/') {
        Some((entry, part)) => Some(Entry { name: name(entry)?, part: name(part) }),
        None => Some(Entry::inside(name(word)?, NodePart::Directory)),
    }
}

/// The journal of what this process has begun in one vault.
pub(crate) struct Unfinished {
    /// `None` if nothing is recorded.
    journal: Option<Mutex<Journal>>,
}

struct Journal {
    directory: Arc<PrivateDirectory>,
    name: String,
    /// Created with the first line.
    file: Option<File>,
    kept: LruCache<Begun, ()>,
    lines: usize,
}

impl Unfinished {
    /// Creates the journal, kept in `directory`, of the vault that has these keys.
    pub(crate) fn in_vault(directory: Option<&Arc<PrivateDirectory>>, cryptor: &Cryptor) -> Self {
        let journal = directory.map(|directory| {
            let (directory, name) =
                (Arc::clone(directory), format!("{}-{}", vault_name(cryptor), temporary::process()));
            Mutex::new(Journal { directory, name, file: None, kept: LruCache::new(KEPT), lines: 0 })
        });
        Self { journal }
    }

    /// Records an operation. Has to be called before the server is asked for it.
    pub(crate) fn record(&self, begun: Begun) {
        let Some(journal) = &self.journal else { return };
        let recorded = journal.lock().unwrap_or_else(PoisonError::into_inner).record(begun);
        if let Err(error) = recorded {
            // Debris that a kill leaves then is found when its directory is listed.
            tracing::warn!(%error, "what is begun could not be kept on this machine");
        }
    }

    /// Removes the journal: everything is finished.
    pub(crate) fn forget(&self) {
        let Some(journal) = &self.journal else { return };
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        if journal.file.take().is_some() && !temporary::has_abandoned() {
            journal.kept.clear();
            remove(&journal.directory, &journal.name);
        }
    }
}

impl Journal {
    fn record(&mut self, begun: Begun) -> io::Result<()> {
        let line = begun.line();
        if self.kept.put(begun, ()).is_some() && self.file.is_some() {
            return Ok(());
        }
        if self.lines >= LINES_MAX {
            self.write_anew()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none
                .insert(self.directory.open(&self.name, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)?),
        };
        self.lines += 1;
        file.write_all(line.as_bytes())
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let anew = format!("{}.new", self.name);
        let mut file = self.directory.open(&anew, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        let lines: String = self.kept.iter().map(|(begun, ())| begun.line()).collect();
        file.write_all(lines.as_bytes())?;
        self.directory.rename(&anew, &self.name)?;
        self.file = Some(file);
        self.lines = self.kept.len();
        Ok(())
    }
}

/// The journal that a process that has ended left of one vault.
pub(crate) struct Left {
    directory: Arc<PrivateDirectory>,
    name: String,
    pub(crate) begun: HashSet<Begun>,
}

impl Left {
    /// Reads the journals that all processes that have ended left of the vault that has these keys.
    pub(crate) fn in_vault(directory: &Arc<PrivateDirectory>, cryptor: &Cryptor) -> io::Result<Vec<Self>> {
        let vault = vault_name(cryptor);
        let of_dead = |name: &String| {
            let process = name.strip_prefix(&vault).and_then(|rest| rest.strip_prefix('-'));
            process.is_some_and(temporary::has_ended)
        };
        let names = directory.names()?.into_iter().filter(of_dead);
        names.map(|name| Self::read(directory, name)).collect()
    }

    fn read(directory: &Arc<PrivateDirectory>, name: String) -> io::Result<Self> {
        let mut bytes = Vec::new();
        directory.open(&name, OFlags::RDONLY)?.take(READ_MAX).read_to_end(&mut bytes)?;
        let begun: HashSet<Begun> =
            String::from_utf8_lossy(&bytes).lines().filter_map(Begun::parse).collect();
        Ok(Self { directory: Arc::clone(directory), name, begun })
    }

    /// Removes the journal, after its operations were finished or undone.
    pub(crate) fn forget(self) {
        remove(&self.directory, &self.name);
    }
}

fn remove(directory: &PrivateDirectory, name: &str) {
    match directory.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "a list of what was begun stays on this machine");
        }
        _ => {}
    }
}

/// Returns a name for a vault that does not depend on its path: made from the path of its root's content, which is made
/// from its keys.
fn vault_name(cryptor: &Cryptor) -> String {
    let digest: [u8; 32] = Sha256::digest(cryptor.content_dir(&DirectoryId::root()).as_bytes()).into();
    HEXLOWER.encode(digest.get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_half_a_line_is_none() {
        let end = |id: &[u8], name: &[u8]| {
            let entry = Entry::inside(RemoteName::parse(name).unwrap(), NodePart::Directory);
            (DirectoryId::parse(id).unwrap_or(DirectoryId::root()), entry)
        };
        let (from, to) = (end(b"", b"a (1).c9r"), end(b"an id", b"\xff.c9s"));
        let emptying = Begun::Emptying(to.0.clone(), to.1.name.clone());
        for begun in
            [Begun::In(DirectoryId::root()), Begun::In(to.0.clone()), emptying, Begun::Move { from, to }]
        {
            assert_eq!(Begun::parse(begun.line().trim_end_matches('\n')), Some(begun.clone()));
        }
        assert_eq!(Begun::parse("move 61 62 63"), None);
        assert_eq!(Begun::parse("in 6"), None);
        assert_eq!(Begun::parse(""), None);
    }

    #[test]
    fn the_last_lines_are_kept_however_many_there_were() {
        let home = tempfile::tempdir().unwrap();
        let directory = Arc::new(PrivateDirectory::at(&home.path().join("unfinished")).unwrap());
        let (name, kept) = ("vault-of-a-process".to_owned(), LruCache::new(KEPT));
        let mut journal =
            Journal { directory: Arc::clone(&directory), name: name.clone(), file: None, kept, lines: 0 };
        let begun = |number: usize| Begun::In(DirectoryId::parse(number.to_string().as_bytes()).unwrap());
        for number in 1..3 * LINES_MAX {
            journal.record(begun(number)).unwrap();
            // An operation that is begun again and again takes no line of its own, and stays.
            journal.record(begun(1)).unwrap();
            let lines = std::fs::read_to_string(home.path().join("unfinished").join(&name)).unwrap();
            assert!(lines.lines().count() <= LINES_MAX, "{number}");
        }
        let left = Left::read(&directory, name).unwrap();
        assert!(left.begun.len() <= LINES_MAX);
        for last in (3 * LINES_MAX - KEPT.get() + 1..3 * LINES_MAX).chain([1]) {
            assert!(left.begun.contains(&begun(last)), "{last}");
        }
    }
}

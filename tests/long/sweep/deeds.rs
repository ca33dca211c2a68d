//! What programs do, in steps; and which states of the server are between the old one and the new one.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use scaup::check::FindingKind;

use crate::reader::{CHUNK, Node, Tree};
use crate::support::noise;

/// One call or a few of a program.
pub(crate) struct Step {
    pub(crate) work: fn(&Path) -> io::Result<()>,
    /// What an `fsync` in it has answered for.
    secures: Option<&'static str>,
}

/// What a program does.
pub(crate) struct Deed {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step],
    allows: Allows,
}

/// What may be seen in the middle beside the old state and the new one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allows {
    Nothing,
    /// Each chunk of this file is old or new by itself: changes inside a file go in place.
    Chunks(&'static str),
    /// This is gone before the other has its name: another kind of thing, or a directory.
    Absence(&'static str),
    /// Both names lead to the same directory.
    TwoNames,
}

const fn step(work: fn(&Path) -> io::Result<()>) -> Step {
    Step { work, secures: None }
}

const fn secures(path: &'static str, work: fn(&Path) -> io::Result<()>) -> Step {
    Step { work, secures: Some(path) }
}

const fn deed(name: &'static str, steps: &'static [Step]) -> Deed {
    Deed { name, steps, allows: Allows::Nothing }
}

const fn allowing(name: &'static str, allows: Allows, steps: &'static [Step]) -> Deed {
    Deed { name, steps, allows }
}

// Stored under shortened names: 220 bytes encrypted are the most.
const LONG: &str = "a long name .................................................................................................................................................................";
const OTHER: &str = "other long name .............................................................................................................................................................";
const LONG_DIRECTORY: &str = "long directory ..............................................................................................................................................................";

/// Content as it was before.
fn old(length: usize) -> Vec<u8> {
    noise(length as u64, length)
}

/// Content that a deed writes.
fn new(length: usize) -> Vec<u8> {
    noise(length as u64 + 1_000_000, length)
}

/// What there is before each deed.
pub(crate) fn prepare(at: &Path) -> io::Result<()> {
    fs::write(at.join("file"), old(3 * CHUNK + 100))?;
    fs::write(at.join(LONG), old(2 * CHUNK))?;
    fs::write(at.join("neighbour"), old(CHUNK + 1))?;
    fs::create_dir(at.join("full"))?;
    fs::write(at.join("full/inner"), old(10))?;
    fs::write(at.join("full").join(LONG), old(20))?;
    fs::create_dir(at.join("empty"))?;
    fs::create_dir(at.join(LONG_DIRECTORY))?;
    symlink("file", at.join("link"))
}

/// Writes a file and waits until it is safe, as editors do.
fn save(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Writes at an offset, as databases do.
fn change(path: &Path, offset: usize, content: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(content, offset as u64)?;
    file.sync_all()
}

fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn cut(path: &Path, length: usize) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(length as u64)
}

fn rename(at: &Path, from: &str, to: &str) -> io::Result<()> {
    fs::rename(at.join(from), at.join(to))
}

pub(crate) static DEEDS: &[Deed] = &[
    deed("truncate and write", &[step(|at| fs::write(at.join("file"), new(CHUNK + 5)))]),
    deed("truncate and write, long name", &[secures(LONG, |at| save(&at.join(LONG), &new(CHUNK + 5)))]),
    deed("write a large new file", &[secures("new", |at| save(&at.join("new"), &new(40 * CHUNK + 3)))]),
    deed("write a new file, long name", &[secures(OTHER, |at| save(&at.join(OTHER), &new(2 * CHUNK)))]),
    deed(
        "write small new files, then wait for some",
        &[
            step(|at| fs::write(at.join("new 1"), new(4096))),
            step(|at| fs::write(at.join("new 2"), new(4097))),
            step(|at| fs::write(at.join("new 3"), b"")),
            step(|at| fs::write(at.join(OTHER), new(4098))),
            secures("new 2", |at| File::open(at.join("new 2"))?.sync_all()),
            secures(OTHER, |at| File::open(at.join(OTHER))?.sync_all()),
        ],
    ),
    allowing(
        "change inside a file, twice",
        Allows::Chunks("file"),
        &[
            secures("file", |at| change(&at.join("file"), 100, &new(2 * CHUNK))),
            secures("file", |at| change(&at.join("file"), 2 * CHUNK + 7, &new(50))),
        ],
    ),
    allowing(
        "append, twice",
        Allows::Chunks("file"),
        &[
            secures("file", |at| append(&at.join("file"), &new(50))),
            secures("file", |at| append(&at.join("file"), &new(2 * CHUNK))),
        ],
    ),
    deed(
        "write beside, wait, rename over",
        &[
            secures(".file.new", |at| save(&at.join(".file.new"), &new(2 * CHUNK + 1))),
            step(|at| rename(at, ".file.new", "file")),
        ],
    ),
    deed(
        "write beside, wait, rename over, long name",
        &[
            secures("temporary", |at| save(&at.join("temporary"), &new(2 * CHUNK + 1))),
            step(|at| rename(at, "temporary", LONG)),
        ],
    ),
    deed(
        "keep a backup, write anew, remove the backup",
        &[
            step(|at| rename(at, "file", "file~")),
            secures("file", |at| save(&at.join("file"), &new(CHUNK))),
            step(|at| fs::remove_file(at.join("file~"))),
        ],
    ),
    deed("truncate to nothing", &[step(|at| cut(&at.join("file"), 0))]),
    deed("cut inside a chunk", &[step(|at| cut(&at.join("file"), CHUNK + 7))]),
    deed("cut between chunks", &[step(|at| cut(&at.join("file"), CHUNK))]),
    allowing("extend", Allows::Chunks(LONG), &[step(|at| cut(&at.join(LONG), 4 * CHUNK))]),
    deed(
        "rename a file there and back",
        &[step(|at| rename(at, "file", "full/renamed")), step(|at| rename(at, "full/renamed", "file"))],
    ),
    deed("rename over a file", &[step(|at| rename(at, "file", "full/inner"))]),
    deed("rename to a long name", &[step(|at| rename(at, "file", OTHER))]),
    deed("rename from a long name", &[step(|at| rename(at, LONG, "renamed"))]),
    deed("rename between long names", &[step(|at| rename(at, LONG, OTHER))]),
    deed("rename over a long name", &[step(|at| rename(at, "file", LONG))]),
    deed("rename from a long name over a file", &[step(|at| rename(at, LONG, "file"))]),
    deed("rename a directory", &[step(|at| rename(at, "full", "moved"))]),
    allowing("rename a directory to a long name", Allows::TwoNames, &[step(|at| rename(at, "full", OTHER))]),
    allowing(
        "rename a directory over an empty one",
        Allows::Absence("empty"),
        &[step(|at| rename(at, "full", "empty"))],
    ),
    allowing(
        "rename a link over a file",
        Allows::Absence("neighbour"),
        &[step(|at| rename(at, "link", "neighbour"))],
    ),
    deed("rename a link to a long name", &[step(|at| rename(at, "link", OTHER))]),
    deed(
        "make a directory and files in it",
        &[
            step(|at| fs::create_dir(at.join("made"))),
            step(|at| fs::write(at.join("made/small"), new(100))),
            secures("made/small", |at| File::open(at.join("made/small"))?.sync_all()),
        ],
    ),
    deed(
        "make directories in each other",
        &[
            step(|at| fs::create_dir(at.join("a"))),
            step(|at| fs::create_dir(at.join("a").join(OTHER))),
            step(|at| fs::create_dir(at.join("a").join(OTHER).join("c"))),
        ],
    ),
    deed(
        "make links",
        &[step(|at| symlink("file", at.join("link 2"))), step(|at| symlink("file", at.join(OTHER)))],
    ),
    deed(
        "remove files and links",
        &[
            step(|at| fs::remove_file(at.join("file"))),
            step(|at| fs::remove_file(at.join(LONG))),
            step(|at| fs::remove_file(at.join("link"))),
        ],
    ),
    deed(
        "remove directories",
        &[step(|at| fs::remove_dir(at.join("empty"))), step(|at| fs::remove_dir(at.join(LONG_DIRECTORY)))],
    ),
    deed(
        "remove a directory with what is in it",
        &[
            step(|at| fs::remove_file(at.join("full/inner"))),
            step(|at| fs::remove_file(at.join("full").join(LONG))),
            step(|at| fs::remove_dir(at.join("full"))),
        ],
    ),
    deed(
        "remove a file and make it again",
        &[
            step(|at| fs::remove_file(at.join("file"))),
            secures("file", |at| save(&at.join("file"), &new(70))),
        ],
    ),
];

/// The deed of this name.
pub(crate) fn named(name: &str) -> Option<&'static Deed> {
    DEEDS.iter().find(|deed| deed.name == name)
}

impl Deed {
    /// Fails unless what is seen lies between states that the deed has been through: `done` of its steps went well, and
    /// the next one was under way. `trees` is what there is before and after each step. What a step has secured is
    /// there if `safe`.
    pub(crate) fn check(&self, what: &str, seen: &Tree, trees: &[Tree], done: usize, safe: bool) {
        let reached = &trees[..=(done + 1).min(self.steps.len())];
        let fail = |why: String| -> ! {
            panic!("{}: {what}: {why}\nseen {seen:#?}\nstates {reached:#?}", self.name)
        };
        let paths: BTreeSet<&String> = seen.keys().chain(reached.iter().flat_map(Tree::keys)).collect();
        for path in paths {
            let secured =
                self.steps[..done].iter().rposition(|step| safe && step.secures == Some(path.as_str()));
            let states: Vec<Option<&Node>> =
                reached[secured.map_or(0, |step| step + 1)..].iter().map(|tree| tree.get(path)).collect();
            let node = seen.get(path);
            let allowed = match self.allows {
                _ if states.contains(&node) => true,
                Allows::Chunks(file) => file == path && node.is_some_and(|node| is_chunkwise(node, &states)),
                Allows::Absence(replaced) => replaced == path && node.is_none(),
                Allows::Nothing | Allows::TwoNames => false,
            };
            if !allowed {
                fail(format!("{path} is {node:?}, secured by {secured:?}"));
            }
        }
        // What is there in every state, under whatever name, is never gone.
        let lasting = reached[0]
            .values()
            .filter(|node| reached.iter().all(|tree| tree.values().any(|other| other == *node)));
        for node in lasting {
            if !seen.values().any(|other| other == node) {
                fail(format!("{node:?} is lost"));
            }
        }
    }

    /// Does again what was ended in the middle, where that is how to be rid of two names for one directory: removing
    /// one of them would empty the other.
    pub(crate) fn finish(&self, at: &Path, seen: &Tree) -> io::Result<()> {
        let both = ["full", OTHER].iter().all(|name| seen.contains_key(*name));
        match self.allows {
            Allows::TwoNames if both => self.steps.iter().try_for_each(|step| (step.work)(at)),
            _ => Ok(()),
        }
    }

    /// What our own check may find in the middle.
    pub(crate) fn in_between(&self) -> &'static [FindingKind] {
        if self.allows == Allows::TwoNames { &[FindingKind::DirectoryIdCollision] } else { &[] }
    }
}

/// Whether every chunk is that of one of the states, and the length between theirs.
fn is_chunkwise(seen: &Node, states: &[Option<&Node>]) -> bool {
    let parts = |node: &Node| match node {
        Node::File { length, chunks, .. } => Some((*length, chunks.clone())),
        _ => None,
    };
    let Some((length, chunks)) = parts(seen) else { return false };
    let states: Vec<_> = states.iter().filter_map(|node| parts((*node)?)).collect();
    let lengths = states.iter().map(|(length, _)| *length);
    lengths.clone().min() <= Some(length)
        && Some(length) <= lengths.max()
        && chunks
            .iter()
            .enumerate()
            .all(|(n, chunk)| states.iter().any(|(_, state)| state.get(n) == Some(chunk)))
}

//! What a mount shows, and what it should show from then on.

use std::collections::{BTreeMap, BTreeSet};

use scaup_fuse::Filesystem as _;
use scaup_fuse::filesystem::FileKind;

use super::game::Failure;
use super::merge::{join, parent};
use crate::kernel::{Kernel, errno};

/// What a name of the mount leads to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    File(Vec<u8>),
    Link(Vec<u8>),
    Directory,
    /// It is listed, and can't be read.
    Fails {
        is_directory: bool,
        errno: i32,
    },
}

impl std::fmt::Debug for Thing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(content) => write!(formatter, "file {:?}", title(content)),
            Self::Link(content) => write!(formatter, "link {:?}", title(content)),
            Self::Directory => formatter.write_str("directory"),
            Self::Fails { is_directory, errno } => {
                write!(
                    formatter,
                    "{} that fails with {errno}",
                    if *is_directory { "directory" } else { "file" }
                )
            }
        }
    }
}

/// What tells a version from all others.
pub(crate) fn title(content: &[u8]) -> String {
    let end = content.iter().position(|byte| *byte == b';').unwrap_or(content.len().min(40));
    String::from_utf8_lossy(&content[..end]).into_owned()
}

/// What a mount shows, by path.
pub(crate) type Shown = BTreeMap<String, Thing>;

/// How deep a vault that these games make can be.
const DEPTH_MAX: usize = 14;

/// Everything that a mount shows, as somebody sees it who opens all of it.
pub(crate) async fn walk(kernel: &Kernel) -> Result<Shown, Failure> {
    let mut shown = Shown::new();
    let root = kernel.root().await.map_err(|error| Failure::new("the vault can't be listed", error))?;
    let mut directories = vec![(String::new(), root)];
    while let Some((path, directory)) = directories.pop() {
        if path.split('/').count() > DEPTH_MAX {
            return Err(Failure::new("directories without end", path));
        }
        let listed = match kernel.list(directory).await {
            Ok(listed) => listed,
            Err(errno) => {
                shown.insert(path, Thing::Fails { is_directory: true, errno });
                continue;
            }
        };
        for (name, listed) in listed {
            let path = join(&path, &name);
            let found = kernel.lookup_in(directory, &name).await;
            if found.as_ref().map(|found| (found.inode, found.kind)) != Ok((listed.inode, listed.kind)) {
                return Err(Failure::new("listed, but not found", format!("{path}: {:?}", found.err())));
            }
            let thing = match listed.kind {
                FileKind::Directory => {
                    directories.push((path.clone(), listed.inode));
                    Thing::Directory
                }
                FileKind::Symlink => match kernel.drive.readlink(listed.inode).await {
                    Ok(target) => Thing::Link(target.to_vec()),
                    Err(error) => Thing::Fails { is_directory: false, errno: errno(error) },
                },
                _ => match kernel.content(&path).await {
                    Ok(content) => Thing::File(content.to_vec()),
                    Err(errno) => Thing::Fails { is_directory: false, errno },
                },
            };
            if shown.insert(path.clone(), thing).is_some() {
                return Err(Failure::new("listed twice", path));
            }
        }
    }
    Ok(shown)
}

/// How often each content is shown.
pub(crate) fn contents(shown: &Shown) -> BTreeMap<&[u8], usize> {
    let mut contents = BTreeMap::new();
    for thing in shown.values() {
        if let Thing::File(content) | Thing::Link(content) = thing {
            *contents.entry(content.as_slice()).or_default() += 1;
        }
    }
    contents
}

/// What a mount should show. Directories that have more than one name are one: what is done in one of them is seen in
/// the others.
pub(crate) struct Model {
    pub(crate) shown: Shown,
    /// The paths of each directory that has more than one.
    same: Vec<BTreeSet<String>>,
}

/// `path` with `to` in the place of `from`, if it begins with that.
fn replaced(path: &str, from: &str, to: &str) -> Option<String> {
    let rest = path.strip_prefix(from)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
}

impl Model {
    pub(crate) fn new(shown: Shown, same: Vec<BTreeSet<String>>) -> Self {
        Self { shown, same }
    }

    /// All paths of a directory.
    fn directory(&self, path: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([path.to_owned()]);
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            for same in &self.same {
                for below in same.iter().filter_map(|from| replaced(&path, from, "")) {
                    for path in same.iter().map(|to| format!("{to}{below}")) {
                        if found.insert(path.clone()) {
                            waiting.push(path);
                        }
                    }
                }
            }
        }
        found
    }

    /// All paths of a name: a directory that has another name elsewhere counts with this one only.
    pub(crate) fn paths(&self, path: &str) -> Vec<String> {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.directory(parent(path)).iter().map(|directory| join(directory, name)).collect()
    }

    /// Whether one directory is the other or lies in it.
    pub(crate) fn is_in(&self, path: &str, directory: &str) -> bool {
        let directories = self.directory(directory);
        self.directory(path).iter().any(|path| {
            directories
                .iter()
                .any(|directory| replaced(path, directory, "").is_some() || directory.is_empty())
        })
    }

    /// Whether a directory has another name.
    pub(crate) fn is_one_of_several(&self, path: &str) -> bool {
        self.directory(path).len() > 1
    }

    /// Whether a directory around it has another name.
    pub(crate) fn is_below_one_of_several(&self, path: &str) -> bool {
        std::iter::successors(Some(parent(path)), |path| (!path.is_empty()).then(|| parent(path)))
            .any(|directory| self.is_one_of_several(directory))
    }

    pub(crate) fn has_directories_that_are_one(&self) -> bool {
        self.same.iter().any(|same| same.len() > 1)
    }

    pub(crate) fn is_empty(&self, directory: &str) -> bool {
        let below = format!("{directory}/");
        !self.shown.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    pub(crate) fn put(&mut self, path: &str, thing: Thing) {
        for path in self.paths(path) {
            self.shown.insert(path, thing.clone());
        }
    }

    /// Takes a name away, with all that is below it; returns that, by relative path.
    pub(crate) fn take(&mut self, path: &str) -> Vec<(String, Thing)> {
        let mut taken = Vec::new();
        for at in self.paths(path) {
            let all: Vec<String> =
                self.shown.keys().filter(|below| replaced(below, &at, "").is_some()).cloned().collect();
            taken = all
                .into_iter()
                .filter_map(|below| Some((replaced(&below, &at, "")?, self.shown.remove(&below)?)))
                .collect();
            for same in &mut self.same {
                same.retain(|path| replaced(path, &at, "").is_none());
            }
        }
        taken
    }

    /// Gives what is at `from` the name `to`, which is free.
    pub(crate) fn move_to(&mut self, from: &str, to: &str) {
        let olds = self.paths(from);
        let same = self.same.clone();
        let taken = self.take(from);
        let news = self.paths(to);
        for new in &news {
            for (below, thing) in &taken {
                self.shown.insert(format!("{new}{below}"), thing.clone());
            }
        }
        let moved =
            |path: String| olds.iter().find_map(|old| replaced(&path, old, news.first()?)).unwrap_or(path);
        self.same = same.into_iter().map(|same| same.into_iter().map(moved).collect()).collect();
    }
}

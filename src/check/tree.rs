//! How the content directories hang together: which directory leads to which, and what is wrong with that.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use scaup_crypto::{Cryptor, DirectoryId};

use super::directory::{Child, ContentDirectory};
use super::finding::{FindingKind, Findings, Spot};
use crate::drive::content_path;
use crate::remote::RemotePath;

/// Longest cleartext path that is told whole, in names: a server could nest directories without end.
const DEPTH_MAX: usize = 128;

/// What leads to a content directory.
enum Above {
    /// Nothing yet.
    Unseen,
    /// It is the vault's root.
    Root,
    /// Nothing that the root leads to.
    Orphan,
    /// A node of another directory.
    Node { directory: usize, name: Option<String>, path: RemotePath, is_copy: bool },
}

/// A vault's content directories, each hanging under at most one other, without loops.
pub(super) struct Tree(Vec<Above>);

/// A directory on the way down, and how many of its children were followed.
struct Step {
    directory: usize,
    followed: usize,
}

impl Tree {
    /// Follows all `dir.c9r` from the root and from all that the root does not lead to.
    pub(super) fn build(
        directories: &[ContentDirectory],
        root: &RemotePath,
        cryptor: &Arc<Cryptor>,
        findings: &Findings,
    ) -> Self {
        let numbers: HashMap<&RemotePath, usize> =
            directories.iter().enumerate().map(|(number, directory)| (&directory.path, number)).collect();
        let number = |id: &DirectoryId| numbers.get(&content_path(&RemotePath::root(), cryptor, id)).copied();
        let mut builder = Builder {
            directories,
            number: &number,
            above: directories.iter().map(|_| Above::Unseen).collect(),
            on_the_way: HashSet::new(),
            findings,
        };
        match numbers.get(root) {
            Some(&root) => builder.descend(root, Above::Root),
            None => findings.add(FindingKind::MissingRoot, Spot::outside(root.clone()), ""),
        }
        let led_to: HashSet<usize> = directories
            .iter()
            .flat_map(|directory| &directory.children)
            .filter_map(|child| number(&child.id))
            .collect();
        let heads = (0..directories.len()).filter(|number| !led_to.contains(number));
        // What is left after those leads only to itself.
        for orphan in heads.chain(0..directories.len()) {
            builder.descend_orphan(orphan);
        }
        Self(builder.above)
    }

    /// How many directories a directory lies below the vault's root; `None` if the root does not lead to it.
    pub(super) fn depth(&self, directory: usize) -> Option<usize> {
        let mut depth = 0;
        let mut at = directory;
        loop {
            match self.0.get(at)? {
                Above::Root => return Some(depth),
                Above::Node { directory, .. } => (at, depth) = (*directory, depth + 1),
                Above::Orphan | Above::Unseen => return None,
            }
        }
    }

    /// The cleartext path of a directory, or of a node in it.
    pub(super) fn cleartext(&self, directory: usize, node: Option<&Option<String>>) -> Option<String> {
        let mut names = Vec::new();
        if let Some(name) = node {
            names.push(name.as_deref()?);
        }
        let mut at = directory;
        loop {
            match self.0.get(at)? {
                Above::Root => names.push(""),
                Above::Node { name, .. } if names.len() >= DEPTH_MAX => {
                    name.as_deref()?;
                    names.push("…");
                }
                Above::Node { directory, name, .. } => {
                    names.push(name.as_deref()?);
                    at = *directory;
                    continue;
                }
                Above::Orphan | Above::Unseen => return None,
            }
            break;
        }
        names.reverse();
        Some(if names.len() == 1 { "/".to_owned() } else { names.join("/") })
    }
}

struct Builder<'a, N> {
    directories: &'a [ContentDirectory],
    number: &'a N,
    above: Vec<Above>,
    /// The directories above the one that is looked at.
    on_the_way: HashSet<usize>,
    findings: &'a Findings,
}

impl<N: Fn(&DirectoryId) -> Option<usize>> Builder<'_, N> {
    fn is_unseen(&self, directory: usize) -> bool {
        matches!(self.above.get(directory), Some(Above::Unseen))
    }

    fn descend_orphan(&mut self, orphan: usize) {
        let Some(directory) = self.directories.get(orphan).filter(|_| self.is_unseen(orphan)) else { return };
        let (kind, detail) = match directory.nodes {
            0 => (FindingKind::EmptyOrphan, String::new()),
            1 => (FindingKind::OrphanDirectory, "1 file or directory is in it".to_owned()),
            count => (FindingKind::OrphanDirectory, format!("{count} files or directories are in it")),
        };
        self.findings.add(kind, Spot::directory(orphan, directory.path.clone()), detail);
        self.descend(orphan, Above::Orphan);
    }

    /// Follows everything below `top`, depth first and without recursion: the depth is the server's choice.
    fn descend(&mut self, top: usize, above: Above) {
        self.enter(top, above);
        let mut way = vec![Step { directory: top, followed: 0 }];
        while let Some(step) = way.last_mut() {
            let directory = step.directory;
            let next =
                self.directories.get(directory).and_then(|directory| directory.children.get(step.followed));
            let Some(child) = next else {
                self.on_the_way.remove(&directory);
                way.pop();
                continue;
            };
            step.followed += 1;
            if let Some(below) = self.follow(directory, child) {
                way.push(Step { directory: below, followed: 0 });
            }
        }
    }

    fn enter(&mut self, directory: usize, above: Above) {
        self.on_the_way.insert(directory);
        if let Some(place) = self.above.get_mut(directory) {
            *place = above;
        }
    }

    /// Looks where a node of `directory` leads; answers a directory that was not seen before.
    fn follow(&mut self, directory: usize, child: &Child) -> Option<usize> {
        let spot = || Spot::node(directory, child.path.clone(), child.name.clone());
        let Some(below) = (self.number)(&child.id) else {
            self.findings.add(FindingKind::MissingContentDirectory, spot(), "");
            return None;
        };
        if self.on_the_way.contains(&below) {
            self.findings.add(FindingKind::DirectoryLoop, spot(), "");
            return None;
        }
        match self.above.get(below)? {
            Above::Unseen => {
                let (name, path) = (child.name.clone(), child.path.clone());
                self.enter(below, Above::Node { directory, name, path, is_copy: child.is_copy });
                return Some(below);
            }
            // A sync client's copy of a directory's node is a finding of its own.
            Above::Node { path, is_copy: false, .. } if !child.is_copy => {
                let detail = format!("the other is {}", String::from_utf8_lossy(path.as_bytes()));
                self.findings.add(FindingKind::DirectoryIdCollision, spot(), detail);
            }
            _ => {}
        }
        None
    }
}

//! The tree of the content directories: which directory leads to which, and the faults in that.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use scaup_crypto::{Cryptor, DirectoryId};

use super::facts::{Child, ContentDirectory};
use super::finding::{FindingKind, Findings, Spot, Version};
use crate::remote::RemotePath;
use crate::vault::content_path;

/// Longest cleartext path that is shown whole, in names: a server could nest directories without end.
const DEPTH_MAX: usize = 128;

/// The parent of a content directory.
enum Above {
    /// Not known yet.
    Unseen,
    /// It is the vault's root.
    Root,
    /// None that the root leads to.
    Orphan,
    /// A node of another directory.
    Node { directory: usize, name: Option<String>, path: RemotePath, is_copy: bool },
}

/// A vault's content directories, each below at most one other, without loops.
pub(super) struct DirectoryTree(Vec<Above>);

/// A directory on the way down, and how many of its children were followed.
struct Step {
    directory: usize,
    followed: usize,
}

impl DirectoryTree {
    /// Follows all `dir.c9r` from the root and from every directory that the root does not lead to. If `is_partial`,
    /// not all of them could be read, and nothing is said to be missing.
    pub(super) fn build(
        directories: &[ContentDirectory],
        root: &RemotePath,
        cryptor: &Arc<Cryptor>,
        (findings, is_partial): (&Findings, bool),
    ) -> Self {
        let numbers: HashMap<&RemotePath, usize> =
            directories.iter().enumerate().map(|(number, directory)| (&directory.path, number)).collect();
        let number = |id: &DirectoryId| numbers.get(&content_path(&RemotePath::root(), cryptor, id)).copied();
        let mut builder = Builder {
            directories,
            number: &number,
            above: directories.iter().map(|_| Above::Unseen).collect(),
            on_the_way: HashSet::new(),
            circle: None,
            findings,
            is_partial,
        };
        match numbers.get(root) {
            Some(&root) => drop(builder.descend(root, Above::Root)),
            None if is_partial => {}
            None => findings.add(FindingKind::MissingRoot, Spot::outside(root.clone()), ""),
        }
        let mut leading: HashMap<usize, Leading<'_>> = HashMap::new();
        for (directory, content) in directories.iter().enumerate() {
            for child in &content.children {
                if let Some(below) = number(&child.id) {
                    leading.entry(below).or_insert(Leading { directory, child });
                }
            }
        }
        for orphan in (0..directories.len()).filter(|number| !leading.contains_key(number)) {
            builder.descend_orphan(orphan);
        }
        // The directories left are reached only from a circle of directories that lead to each other.
        for left in 0..directories.len() {
            builder.descend_circle(left, &leading);
        }
        Self(builder.above)
    }

    /// Returns how many directories a directory lies below the vault's root; `None` if the root does not lead to it.
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

    /// Returns the cleartext path of a directory, or of a node in it.
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

/// A node that leads to a directory.
struct Leading<'a> {
    /// The directory that it lies in.
    directory: usize,
    child: &'a Child,
}

impl Leading<'_> {
    fn name(&self) -> &str {
        self.child.name.as_deref().unwrap_or("?")
    }
}

struct Builder<'a, N> {
    directories: &'a [ContentDirectory],
    number: &'a N,
    above: Vec<Above>,
    /// The directories above the current one.
    on_the_way: HashSet<usize>,
    /// The directory by which a circle was entered: its finding says that it leads to itself.
    circle: Option<usize>,
    findings: &'a Findings,
    is_partial: bool,
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
        let spot = Spot::directory(orphan, directory.path.clone());
        match kind {
            _ if self.is_partial => {}
            FindingKind::OrphanDirectory => self.findings.add_version(kind, spot, detail, Version::default()),
            kind => self.findings.add(kind, spot, detail),
        }
        self.descend(orphan, Above::Orphan);
    }

    /// Follows the circle that a directory lies in or below, if no other directory leads to it.
    fn descend_circle(&mut self, left: usize, leading: &HashMap<usize, Leading<'_>>) {
        /// Most names that are shown of one circle.
        const NAMES_MAX: usize = 20;
        if !self.is_unseen(left) {
            return;
        }
        // No directory that leads to it was seen either, so the way up ends in the circle.
        let (mut way, mut places) = (Vec::new(), HashMap::new());
        let mut at = left;
        let start = loop {
            if let Some(&place) = places.get(&at) {
                break place;
            }
            places.insert(at, way.len());
            way.push(at);
            let Some(above) = leading.get(&at) else { return };
            at = above.directory;
        };
        let mut members = way.split_off(start);
        members.reverse();
        // The circle is reported from the same member, however it was found.
        let path = |&member: &usize| self.directories.get(member).map(|directory| &directory.path);
        let first = (0..members.len()).min_by_key(|&place| members.get(place).and_then(path)).unwrap_or(0);
        members.rotate_left(first);
        let Some(top) = members.first().copied() else { return };
        let Some(named) = leading.get(&top) else { return };
        let names = members.iter().take(NAMES_MAX).filter_map(|member| leading.get(member));
        let mut names: Vec<String> = names.map(|leading| format!("{:?}", leading.name())).collect();
        names.extend((members.len() > NAMES_MAX).then(|| "…".to_owned()));
        names.push(format!("{:?} again", named.name()));
        let spot = Spot::node(named.directory, named.child.path.clone(), named.child.name.clone());
        self.circle = Some(top);
        let held = self.descend(top, Above::Orphan);
        self.circle = None;
        let others = held.saturating_sub(members.len() as u64);
        let detail =
            format!("{}; {others} other files and directories are in them and below", names.join(" holds "));
        if !self.is_partial {
            self.findings.add(FindingKind::DirectoryCircle, spot, detail);
        }
    }

    /// Follows everything below `top`, depth first and without recursion: the depth is the server's choice. Returns the
    /// number of nodes.
    fn descend(&mut self, top: usize, above: Above) -> u64 {
        let mut held = self.directories.get(top).map_or(0, |directory| directory.nodes);
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
                held += self.directories.get(below).map_or(0, |directory| directory.nodes);
                way.push(Step { directory: below, followed: 0 });
            }
        }
        held
    }

    fn enter(&mut self, directory: usize, above: Above) {
        self.on_the_way.insert(directory);
        if let Some(place) = self.above.get_mut(directory) {
            *place = above;
        }
    }

    /// Follows a node of `directory`; returns a directory that was not seen before.
    fn follow(&mut self, directory: usize, child: &Child) -> Option<usize> {
        let spot = || Spot::node(directory, child.path.clone(), child.name.clone());
        let Some(below) = (self.number)(&child.id) else {
            if !self.is_partial {
                self.findings.add(FindingKind::MissingContentDirectory, spot(), "");
            }
            return None;
        };
        if self.circle == Some(below) {
            return None;
        }
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
                let version = Version::default();
                self.findings.add_version(FindingKind::DirectoryIdCollision, spot(), detail, version);
            }
            _ => {}
        }
        None
    }
}

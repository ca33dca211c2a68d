//! What a sync client makes of two ends that were one: a model of it that knows files and directories and nothing of
//! vaults.

use std::collections::{BTreeMap, BTreeSet};

use super::clients::{Clash, Client, Copies, Emptied, RemovedDirectory, named};
use scaup_rig::dice::Dice;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    File(Vec<u8>),
    Directory,
}

/// All that lies below a directory, by path.
pub(crate) type Tree = BTreeMap<String, Node>;

/// The longest name that a client can give.
const NAME_MAX: usize = 255;

/// Two ends after they were merged.
pub(crate) struct Merged {
    /// What lies at the first end.
    pub(crate) tree: Tree,
    /// Paths of which each end keeps its own, with all below: the client could not go on there.
    pub(crate) stuck: BTreeSet<String>,
}

pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// Everything below a path, and the path itself.
fn at_and_below<'a>(tree: &'a Tree, path: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
    let below = format!("{path}/");
    let itself = tree.get_key_value(path);
    itself.into_iter().chain(tree.range(below.clone()..).take_while(move |(at, _)| at.starts_with(&below)))
}

/// The chance that belongs to a path: the order in which paths are looked at decides nothing.
pub(crate) type Chance<'a> = &'a dyn Fn(&str) -> Dice;

/// Merges what became of `base` at the first end and at the other one.
pub(crate) fn merge(base: &Tree, ends: [&Tree; 2], client: &Client, chance: Chance<'_>) -> Merged {
    let mut merging = Merging {
        chance,
        base: base.clone(),
        ends: ends.map(Tree::clone),
        client,
        merged: Tree::new(),
        stuck: BTreeSet::new(),
        ends_early: false,
    };
    if client.removed_directory == RemovedDirectory::AsAWhole {
        merging.removed_directories();
    }
    merging.clashes();
    merging.files();
    if merging.ends_early {
        merging.do_some(ends[0]);
    }
    merging.directories();
    Merged { tree: merging.merged, stuck: merging.stuck }
}

struct Merging<'a> {
    chance: Chance<'a>,
    base: Tree,
    ends: [Tree; 2],
    client: &'a Client,
    merged: Tree,
    stuck: BTreeSet<String>,
    ends_early: bool,
}

impl Merging<'_> {
    /// The path of a copy; `None` if its name is too long, or is there already.
    fn copy(&self, path: &str, pattern: &str) -> Option<String> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = named(pattern, name);
        let path = join(directory, &name);
        let taken = self.merged.contains_key(&path) || self.ends.iter().any(|end| end.contains_key(&path));
        (name.len() <= NAME_MAX && !taken).then_some(path)
    }

    /// A directory that is gone at one end and changed at the other one stays, or all of it becomes a copy.
    fn removed_directories(&mut self) {
        let removed: Vec<(String, usize)> = self
            .base
            .iter()
            .filter(|(_, node)| **node == Node::Directory)
            .filter_map(|(path, _)| {
                let gone = (0..2).find(|&end| !self.ends[end].contains_key(path))?;
                let there = self.ends[1 - gone].get(path) == Some(&Node::Directory);
                let changed = !at_and_below(&self.base, path).eq(at_and_below(&self.ends[1 - gone], path));
                (there && changed).then(|| (path.clone(), gone))
            })
            .collect();
        for (path, gone) in removed {
            let whole: Vec<(String, Node)> = at_and_below(&self.ends[1 - gone], &path)
                .map(|(path, node)| (path.clone(), node.clone()))
                .collect();
            // One above it was dealt with.
            if whole.is_empty() {
                continue;
            }
            let kept = self
                .copy(&path, (self.chance)(&path).pick(self.client.removed))
                .unwrap_or_else(|| path.clone());
            for (at, node) in whole {
                self.merged.insert(format!("{kept}{}", &at[path.len()..]), node);
            }
            for tree in self.ends.iter_mut().chain([&mut self.base]) {
                let below = format!("{path}/");
                tree.retain(|at, _| *at != path && !at.starts_with(&below));
            }
        }
    }

    /// Where a file and a directory have one name, one of them gets the name of a copy.
    fn clashes(&mut self) {
        let is_file = |tree: &Tree, path: &str| matches!(tree.get(path), Some(Node::File(_)));
        let clashing: Vec<(String, usize)> = (0..2)
            .flat_map(|end| {
                let files = self.ends[end].keys().filter(|path| is_file(&self.ends[end], path));
                let other = &self.ends[1 - end];
                files
                    .filter(|path| other.get(*path) == Some(&Node::Directory))
                    .map(move |path| (path.clone(), end))
                    .collect::<Vec<_>>()
            })
            .collect();
        for (path, file_at) in clashing {
            let mut dice = (self.chance)(&path);
            let file = self.ends[file_at][&path].clone();
            let directory: Vec<(String, Node)> = at_and_below(&self.ends[1 - file_at], &path)
                .map(|(path, node)| (path.clone(), node.clone()))
                .collect();
            // Only one of them is new.
            let file_is_old = self.base.get(&path) == Some(&file);
            let directory_is_old =
                at_and_below(&self.base, &path).eq(directory.iter().map(|(path, node)| (path, node)));
            let below = format!("{path}/");
            for tree in self.ends.iter_mut().chain([&mut self.base]) {
                tree.retain(|at, _| *at != path && !at.starts_with(&below));
            }
            if directory_is_old {
                self.merged.insert(path, file);
                continue;
            }
            if !file_is_old {
                let copy = self.copy(&path, dice.pick(self.client.names));
                let is_stuck = match self.client.clash {
                    Clash::Ends => true,
                    Clash::Stuck(_) => dice.one_in(2),
                    Clash::FileGivesWay | Clash::EitherGivesWay => false,
                };
                let Some(copy) = copy.filter(|_| !is_stuck) else {
                    self.ends_early |= self.client.clash == Clash::Ends;
                    self.stuck.insert(if self.ends_early { String::new() } else { path.clone() });
                    if file_at == 0 {
                        self.merged.insert(path, file);
                        continue;
                    }
                    if let Clash::Stuck(unfinished) = self.client.clash
                        && let Some(unfinished) = self.copy(&path, unfinished)
                    {
                        self.merged.insert(unfinished, file);
                    }
                    self.merged.extend(directory);
                    continue;
                };
                if self.client.clash == Clash::EitherGivesWay && dice.one_in(2) {
                    self.merged.insert(path.clone(), file);
                    let moved = |at: &str| format!("{copy}{}", &at[path.len()..]);
                    self.merged.extend(directory.into_iter().map(|(at, node)| (moved(&at), node)));
                    continue;
                }
                self.merged.insert(copy, file);
            }
            self.merged.extend(directory);
        }
    }

    /// Each file by itself.
    fn files(&mut self) {
        let paths: BTreeSet<String> = self.ends.iter().flat_map(|end| end.keys()).cloned().collect();
        for path in paths {
            let mut dice = (self.chance)(&path);
            let file = |tree: &Tree| match tree.get(&path) {
                Some(Node::File(content)) => Some(content.clone()),
                _ => None,
            };
            let (base, ends) = (file(&self.base), [file(&self.ends[0]), file(&self.ends[1])]);
            let written = [0, 1].map(|end| ends[end] != base || self.is_written_again(end, &path, &mut dice));
            let kept = match (&ends, written) {
                ([one, other], [true, true]) if one == other && !self.client.looks_at_times => one.clone(),
                ([one, _], [_, false]) => one.clone(),
                ([_, other], [false, true]) => other.clone(),
                ([None, None], _) => None,
                // Removed at one end and changed at the other one: what is there wins.
                ([Some(content), None] | [None, Some(content)], _) => {
                    let kept = self.copy(&path, dice.pick(self.client.removed));
                    self.merged.insert(kept.unwrap_or(path), Node::File(content.clone()));
                    continue;
                }
                _ => {
                    self.both_changed(&path, ends, &mut dice);
                    continue;
                }
            };
            if let Some(content) = kept {
                self.merged.insert(path, Node::File(content));
            }
        }
    }

    /// Whether a file that holds what it held was written again, as programs do with `name.c9s` when they save what is
    /// beside it.
    fn is_written_again(&self, end: usize, path: &str, dice: &mut Dice) -> bool {
        let Some(node) = path.strip_suffix("/name.c9s") else { return false };
        let unlike = |tree: &Tree| !at_and_below(tree, node).eq(at_and_below(&self.base, node));
        self.ends[end].contains_key(path) && unlike(&self.ends[end]) && dice.one_in(2)
    }

    /// The client ended early: each thing was done or is as it was at the first end.
    fn do_some(&mut self, own: &Tree) {
        let all: BTreeSet<String> = own.keys().chain(self.merged.keys()).cloned().collect();
        for path in all {
            let mut dice = (self.chance)(&path);
            // Not the first thing that this chance decides.
            dice.below(2);
            if dice.one_in(2) {
                continue;
            }
            let is_below_a_file = |tree: &Tree| {
                let mut above = parent(&path);
                while !above.is_empty() {
                    if matches!(tree.get(above), Some(Node::File(_))) {
                        return true;
                    }
                    above = parent(above);
                }
                false
            };
            match own.get(&path) {
                Some(Node::File(_)) if is_below_a_file(&self.merged) => {}
                Some(Node::File(content)) if at_and_below(&self.merged, &path).all(|(at, _)| *at == path) => {
                    self.merged.insert(path, Node::File(content.clone()));
                }
                None if matches!(self.merged.get(&path), Some(Node::File(_))) => {
                    self.merged.remove(&path);
                }
                _ => {}
            }
        }
    }

    fn both_changed(&mut self, path: &str, ends: [Option<Vec<u8>>; 2], dice: &mut Dice) {
        let [Some(one), Some(other)] = ends else { return };
        let named = match self.client.copies {
            Copies::OfBoth(first, second) => {
                self.copy(path, first).zip(self.copy(path, second)).map(|two| (two, one.clone(), other))
            }
            Copies::OfOne => {
                let (winner, loser) =
                    if dice.one_in(2) { (one.clone(), other) } else { (other, one.clone()) };
                let copy = self.copy(path, dice.pick(self.client.names));
                copy.map(|copy| ((path.to_owned(), copy), winner, loser))
            }
        };
        match named {
            Some(((first, second), winner, loser)) => {
                self.merged.insert(first, Node::File(winner));
                self.merged.insert(second, Node::File(loser));
            }
            None => {
                self.stuck.insert(path.to_owned());
                self.merged.insert(path.to_owned(), Node::File(one));
            }
        }
    }

    /// Directories that are there for what is in them, or though nothing is.
    fn directories(&mut self) {
        for path in self.merged.keys().cloned().collect::<Vec<_>>() {
            self.make_above(&path);
        }
        let paths: BTreeSet<String> = self.ends.iter().flat_map(|end| end.keys()).cloned().collect();
        for path in paths {
            let below_a_file = matches!(self.merged.get(parent(&path)), Some(Node::File(_)));
            if below_a_file {
                continue;
            }
            let is_there = |tree: &Tree| tree.get(&path) == Some(&Node::Directory);
            let stays = match (is_there(&self.base), is_there(&self.ends[0]), is_there(&self.ends[1])) {
                (_, true, true) | (false, true, false) | (false, false, true) => true,
                (true, true, false) => self.client.emptied == Emptied::Stays,
                // The other end alone has it left.
                _ => false,
            };
            if stays {
                self.make_above(&path);
                self.merged.entry(path).or_insert(Node::Directory);
            }
        }
    }

    /// Puts the directories above a path where nothing is.
    fn make_above(&mut self, path: &str) {
        let mut above = parent(path);
        while !above.is_empty() {
            self.merged.entry(above.to_owned()).or_insert(Node::Directory);
            above = parent(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clients::CLIENTS;
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, content) in files {
            let mut above = parent(path);
            while !above.is_empty() {
                tree.insert(above.to_owned(), Node::Directory);
                above = parent(above);
            }
            if *content != "/" {
                tree.insert((*path).to_owned(), Node::File(content.as_bytes().to_vec()));
            } else {
                tree.insert((*path).to_owned(), Node::Directory);
            }
        }
        tree
    }

    fn client(name: &str) -> &'static Client {
        CLIENTS.iter().find(|client| client.name == name).unwrap()
    }

    /// The lists of names that chance may leave, each with the contents.
    fn all(client: &Client, base: &Tree, one: &Tree, other: &Tree) -> BTreeSet<String> {
        let shown = |tree: &Tree| {
            let shown = tree.iter().map(|(path, node)| match node {
                Node::File(content) => format!("{path}={}", String::from_utf8_lossy(content)),
                Node::Directory => format!("{path}/"),
            });
            shown.collect::<Vec<_>>().join(", ")
        };
        let merged =
            |seed| merge(base, [one, other], client, &|path| Dice::new(seed + path.len() as u64)).tree;
        (0..40).map(|seed| shown(&merged(seed))).collect()
    }

    #[test]
    fn each_client_leaves_what_it_is_known_to_leave() {
        let is = |name, base, one, other, wanted: &[&str]| {
            let left = all(client(name), &tree(base), &tree(one), &tree(other));
            assert_eq!(left.iter().map(String::as_str).collect::<Vec<_>>(), wanted, "{name}");
        };
        let base: &[(&str, &str)] = &[("n/f.c9r", "old"), ("n/g.c9r", "old")];
        let one: &[(&str, &str)] = &[("n/f.c9r", "one"), ("n/g.c9r", "old")];
        let other: &[(&str, &str)] = &[("n/f.c9r", "other"), ("n/g.c9r", "new")];
        is(
            "Syncthing",
            base,
            one,
            other,
            &[
                "n/, n/f.c9r=one, n/f.sync-conflict-20240102-123456-IPX6NPU.c9r=other, n/g.c9r=new",
                "n/, n/f.c9r=other, n/f.sync-conflict-20240102-123456-IPX6NPU.c9r=one, n/g.c9r=new",
            ],
        );
        is("rclone 1.60", base, one, other, &["n/, n/f.c9r..path1=one, n/f.c9r..path2=other, n/g.c9r=new"]);
        // Removed, and changed.
        is("Syncthing", base, one, &[("n", "/")], &["n/, n/f.c9r=one"]);
        is("Syncthing", base, base, &[], &[""]);
        is("rclone 1.60", base, base, &[], &["n/"]);
        is(
            "Unison",
            base,
            one,
            &[],
            &[
                "n (conflict_on_2024-01-02)/, n (conflict_on_2024-01-02)/f.c9r=one, \
                 n (conflict_on_2024-01-02)/g.c9r=old",
                "n (conflict_on_2024-01-02_was_deleted)/, n (conflict_on_2024-01-02_was_deleted)/f.c9r=one, \
                 n (conflict_on_2024-01-02_was_deleted)/g.c9r=old",
            ],
        );
        // A long name that both made: rclone looks at times.
        let both: [&[(&str, &str)]; 2] = [
            &[("h/contents.c9r", "one"), ("h/name.c9s", "n")],
            &[("h/contents.c9r", "other"), ("h/name.c9s", "n")],
        ];
        is(
            "rclone 1.60",
            &[],
            both[0],
            both[1],
            &[
                "h/, h/contents.c9r..path1=one, h/contents.c9r..path2=other, h/name.c9s..path1=n, h/name.c9s..path2=n",
            ],
        );
        // Removed, and saved: `name.c9s` is there if it was written again.
        is(
            "Syncthing",
            &[("h/contents.c9r", "old"), ("h/name.c9s", "n")],
            &[("h", "/")],
            both[0],
            &["h/, h/contents.c9r=one", "h/, h/contents.c9r=one, h/name.c9s=n"],
        );
        // A file and a directory of one name.
        is(
            "Google Drive",
            &[],
            &[("f.c9r", "one")],
            &[("f.c9r/dir.c9r", "id")],
            &["f (1).c9r/, f (1).c9r/dir.c9r=id, f.c9r=one", "f (1).c9r=one, f.c9r/, f.c9r/dir.c9r=id"],
        );
    }

    #[test]
    fn a_copy_whose_name_would_be_too_long_leaves_each_end_its_own() {
        let name = "n".repeat(240);
        let (base, one, other) = (tree(&[]), tree(&[(&name, "one")]), tree(&[(&name, "other")]));
        let merged = merge(&base, [&one, &other], client("Nextcloud"), &|_| Dice::new(1));
        assert_eq!(merged.tree, one);
        assert!(merged.stuck.contains(&name));
    }
}

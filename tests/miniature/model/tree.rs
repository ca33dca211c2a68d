//! The plain tree that a drive is compared with: what each step does to it, and how it has to end on the drive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::subsequence;
use scaup::config::parts::OptionalPart;
use scaup_fuse::filesystem::RenameMode;
use unicode_normalization::UnicodeNormalization;

use super::steps::{How, Step};
use crate::kernel::{EEXIST, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, Place, Result, Seen, pattern};

/// Short, the longest that is not shortened, shortened, and one name in both its Unicode forms.
const NAMES: [&str; 7] =
    ["a", "b", "abcdefgh", "abcdefghi", "a name that is shortened", "\u{e4}", "a\u{308}"];
const FILE_MODES: [u16; 4] = [0o644, 0o600, 0o755, 0o444];
const DIRECTORY_MODES: [u16; 3] = [0o755, 0o700, 0o775];
const TARGETS: [&str; 3] = ["a", "b/abcdefghi", "\u{e4}"];
/// Around the borders of chunks, of 1 MiB after which sending begins, and far beyond.
const OFFSETS: [u64; 12] =
    [0, 1, 100, 32_767, 32_768, 32_769, 65_535, 65_536, 98_304, 100_000, 300_000, 1_200_000];
const LENGTHS: [usize; 8] = [1, 10, 4096, 32_767, 32_768, 32_769, 70_000, 1_100_000];
const HANDLES_MAX: usize = 4;

pub(crate) type Number = usize;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    File { content: Arc<Vec<u8>>, mode: u16, modified: Option<u64> },
    Directory { names: BTreeMap<String, Number>, mode: u16 },
    Symlink { target: &'static str },
}

#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) node: Number,
    how: How,
}

/// The plain tree, and how the drive is set up.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) place: Place,
    /// Whether all content is read after every step, which also opens every file.
    pub(crate) look_inside: bool,
    pub(crate) memory: u64,
    pub(crate) attr_timeout: Duration,
    pub(crate) without: Vec<OptionalPart>,
    pub(crate) delay: Option<(u64, u64)>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) handles: Vec<Open>,
    /// The step in terms of paths and handles, and how it has to end.
    pub(crate) last: Action,
    /// The message at which the step is cut, and whether that reaches the server.
    pub(crate) last_cut: Option<(usize, bool)>,
    pub(crate) next_cut: Option<(usize, bool)>,
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Action {
    /// A kernel would not pass it on.
    #[default]
    Nothing,
    Create {
        path: String,
        mode: u16,
    },
    Open {
        path: String,
        how: How,
    },
    Write {
        handle: usize,
        offset: u64,
        data: Arc<Vec<u8>>,
        reading: bool,
    },
    Read {
        handle: usize,
        offset: u64,
        content: Bytes,
        length: u32,
    },
    TruncateOpen {
        handle: usize,
        length: u64,
    },
    Truncate {
        path: String,
        length: u64,
    },
    Fsync {
        handle: usize,
    },
    Flush {
        handle: usize,
    },
    Close {
        handle: usize,
    },
    Mkdir {
        path: String,
        mode: u16,
        result: Result<()>,
    },
    Symlink {
        path: String,
        target: &'static str,
        result: Result<()>,
    },
    Unlink {
        path: String,
        result: Result<()>,
    },
    Rmdir {
        path: String,
        result: Result<()>,
    },
    Rename {
        from: String,
        to: String,
        mode: RenameMode,
        result: Result<()>,
    },
    Chmod {
        path: String,
        mode: u16,
    },
    Utimens {
        path: String,
        seconds: u64,
    },
    ForeignChange {
        path: String,
        content: Arc<Vec<u8>>,
    },
    Forget,
    Lock,
    Remount,
}

fn pick<T: Clone>(from: &[T], index: u8) -> Option<T> {
    (!from.is_empty()).then(|| from[usize::from(index) % from.len()].clone())
}

fn shifted(offset: u64, shift: i8) -> u64 {
    offset.saturating_add_signed(i64::from(shift))
}

impl Model {
    /// A name, or a path, as the server has it.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.place.is_vault() { name.nfc().collect() } else { name.to_owned() }
    }

    fn names(&self, number: Number) -> &BTreeMap<String, Number> {
        match &self.nodes[number] {
            Node::Directory { names, .. } => names,
            _ => panic!("no directory"),
        }
    }

    fn names_mut(&mut self, number: Number) -> &mut BTreeMap<String, Number> {
        match &mut self.nodes[number] {
            Node::Directory { names, .. } => names,
            _ => panic!("no directory"),
        }
    }

    /// All that has a path.
    pub(crate) fn paths(&self) -> Vec<(String, Number)> {
        let mut all = vec![(String::new(), 0)];
        let mut next = 0;
        while let Some((path, number)) = all.get(next).cloned() {
            if let Node::Directory { names, .. } = &self.nodes[number] {
                for (name, &child) in names {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    all.push((path, child));
                }
            }
            next += 1;
        }
        all
    }

    fn directory(&self, index: u8) -> (String, Number) {
        let paths = self.paths();
        let directories: Vec<_> = paths
            .into_iter()
            .filter(|(_, number)| matches!(self.nodes[*number], Node::Directory { .. }))
            .collect();
        pick(&directories, index).unwrap()
    }

    fn file(&self, index: u8) -> Option<(String, Number)> {
        let paths = self.paths();
        let files: Vec<_> = paths
            .into_iter()
            .filter(|(_, number)| matches!(self.nodes[*number], Node::File { .. }))
            .collect();
        pick(&files, index)
    }

    fn handle(&self, index: u8) -> Option<(usize, Open)> {
        let handles: Vec<_> = self.handles.iter().cloned().enumerate().collect();
        pick(&handles, index)
    }

    fn child(&self, directory: u8, name: u8) -> (String, Number, String, Option<Number>) {
        let (path, number) = self.directory(directory);
        let name = pick(&NAMES, name).unwrap();
        let child = self.names(number).get(&self.key(name)).copied();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        (path, number, self.key(name), child)
    }

    pub(crate) fn content(&self, number: Number) -> &Arc<Vec<u8>> {
        match &self.nodes[number] {
            Node::File { content, .. } => content,
            _ => panic!("no file"),
        }
    }

    fn change(&mut self, number: Number) -> &mut Vec<u8> {
        match &mut self.nodes[number] {
            Node::File { content, modified, .. } => {
                *modified = None;
                Arc::make_mut(content)
            }
            _ => panic!("no file"),
        }
    }

    fn add(&mut self, directory: Number, name: String, node: Node) -> Number {
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        self.names_mut(directory).insert(name, number);
        number
    }

    fn is_above(&self, above: Number, below: Number) -> bool {
        let mut waiting = vec![above];
        while let Some(number) = waiting.pop() {
            if number == below {
                return true;
            }
            if let Node::Directory { names, .. } = &self.nodes[number] {
                waiting.extend(names.values());
            }
        }
        false
    }

    /// What a program that walks the tree has to see.
    pub(crate) fn seen(&self, inside: bool) -> BTreeMap<String, Seen> {
        let seen = |number: Number| match &self.nodes[number] {
            Node::File { content, mode, .. } => Seen::File {
                content: if inside { Bytes::copy_from_slice(content) } else { Bytes::new() },
                mode: *mode,
            },
            Node::Directory { mode, .. } => Seen::Directory { mode: *mode },
            Node::Symlink { target } => Seen::Symlink { target: Bytes::from_static(target.as_bytes()) },
        };
        self.paths().into_iter().skip(1).map(|(path, number)| (path, seen(number))).collect()
    }

    pub(crate) fn apply(&mut self, step: &Step) -> Action {
        match *step {
            Step::Create { directory, name, mode } => {
                let (path, parent, name, child) = self.child(directory, name);
                let mode = pick(&FILE_MODES, mode).unwrap();
                if child.is_some() || self.handles.len() >= HANDLES_MAX {
                    return Action::Nothing;
                }
                let node =
                    self.add(parent, name, Node::File { content: Arc::default(), mode, modified: None });
                self.handles.push(Open { node, how: How::ReadWrite });
                Action::Create { path, mode }
            }
            Step::Open { file, how } => {
                let Some((path, node)) = self.file(file) else { return Action::Nothing };
                if self.handles.len() >= HANDLES_MAX {
                    return Action::Nothing;
                }
                if how == How::Truncate {
                    self.change(node).clear();
                }
                self.handles.push(Open { node, how });
                Action::Open { path, how }
            }
            Step::Write { handle, offset, shift, length, seed } => {
                self.write(handle, shifted(pick(&OFFSETS, offset).unwrap(), shift), length, seed, false)
            }
            Step::WriteWhileReading { handle, offset, length, seed } => {
                self.write(handle, pick(&OFFSETS, offset).unwrap(), length, seed, true)
            }
            Step::Read { handle, offset, length } => {
                let Some((handle, open)) = self.handle(handle) else { return Action::Nothing };
                let content = self.content(open.node);
                let offset = pick(&OFFSETS, offset).unwrap();
                let length = pick(&LENGTHS, length).unwrap().min(128 * 1024);
                let start = content.len().min(offset as usize);
                let end = content.len().min(start + length);
                let content = Bytes::copy_from_slice(&content[start..end]);
                Action::Read { handle, offset, content, length: length as u32 }
            }
            Step::TruncateOpen { handle, length, shift } => {
                let Some((handle, open)) = self.handle(handle) else { return Action::Nothing };
                if open.how == How::Read {
                    return Action::Nothing;
                }
                let length = shifted(pick(&OFFSETS, length).unwrap(), shift);
                self.change(open.node).resize(length as usize, 0);
                Action::TruncateOpen { handle, length }
            }
            Step::Truncate { file, length, shift } => {
                let Some((path, node)) = self.file(file) else { return Action::Nothing };
                let length = shifted(pick(&OFFSETS, length).unwrap(), shift);
                self.change(node).resize(length as usize, 0);
                Action::Truncate { path, length }
            }
            Step::Fsync { handle } => {
                self.handle(handle).map_or(Action::Nothing, |(handle, _)| Action::Fsync { handle })
            }
            Step::Flush { handle } => {
                self.handle(handle).map_or(Action::Nothing, |(handle, _)| Action::Flush { handle })
            }
            Step::Close { handle } => {
                let Some((handle, _)) = self.handle(handle) else { return Action::Nothing };
                self.handles.remove(handle);
                Action::Close { handle }
            }
            Step::Mkdir { directory, name, mode } => {
                let (path, parent, name, child) = self.child(directory, name);
                let mode = pick(&DIRECTORY_MODES, mode).unwrap();
                if path.split('/').count() > 3 {
                    return Action::Nothing;
                }
                let result = if child.is_some() { Err(EEXIST) } else { Ok(()) };
                if result.is_ok() {
                    self.add(parent, name, Node::Directory { names: BTreeMap::new(), mode });
                }
                Action::Mkdir { path, mode, result }
            }
            Step::Symlink { directory, name, target } => {
                let (path, parent, name, child) = self.child(directory, name);
                let target = pick(&TARGETS, target).unwrap();
                let result = if child.is_some() { Err(EEXIST) } else { Ok(()) };
                if result.is_ok() {
                    self.add(parent, name, Node::Symlink { target });
                }
                Action::Symlink { path, target, result }
            }
            Step::Unlink { directory, name } => {
                let (path, parent, name, child) = self.child(directory, name);
                let result = match child.map(|child| &self.nodes[child]) {
                    None => Err(ENOENT),
                    Some(Node::Directory { .. }) => Err(EISDIR),
                    Some(_) => Ok(()),
                };
                if result.is_ok() {
                    self.names_mut(parent).remove(&name);
                }
                Action::Unlink { path, result }
            }
            Step::Rmdir { directory, name } => {
                let (path, parent, name, child) = self.child(directory, name);
                let result = match child.map(|child| &self.nodes[child]) {
                    None => Err(ENOENT),
                    Some(Node::Directory { names, .. }) if names.is_empty() => Ok(()),
                    Some(Node::Directory { .. }) => Err(ENOTEMPTY),
                    Some(_) => Err(ENOTDIR),
                };
                if result.is_ok() {
                    self.names_mut(parent).remove(&name);
                }
                Action::Rmdir { path, result }
            }
            Step::Rename { from, name, to, new_name, no_replace } => {
                self.rename(from, name, to, new_name, no_replace)
            }
            Step::Chmod { node, mode } => {
                let paths = self.paths();
                let Some((path, number)) = pick(&paths[1..], node) else { return Action::Nothing };
                let wanted = match &self.nodes[number] {
                    Node::File { .. } => pick(&FILE_MODES, mode).unwrap(),
                    Node::Directory { .. } => pick(&DIRECTORY_MODES, mode).unwrap(),
                    Node::Symlink { .. } => return Action::Nothing,
                };
                if let Node::File { mode, .. } | Node::Directory { mode, .. } = &mut self.nodes[number] {
                    *mode = wanted;
                }
                Action::Chmod { path, mode: wanted }
            }
            Step::Utimens { node, day } => {
                let Some((path, number)) = self.file(node) else { return Action::Nothing };
                let seconds = 1_000_000_000 + u64::from(day) * 86_400;
                if let Node::File { modified, .. } = &mut self.nodes[number] {
                    *modified = Some(seconds);
                }
                Action::Utimens { path, seconds }
            }
            Step::ForeignChange { file, length, seed } => {
                let Some((path, node)) = self.file(file) else { return Action::Nothing };
                let seen_at_once = self.attr_timeout.is_zero() && !self.place.is_vault();
                if !seen_at_once || self.handles.iter().any(|open| open.node == node) {
                    return Action::Nothing;
                }
                let content = pattern(seed, pick(&LENGTHS, length).unwrap());
                *self.change(node) = content.clone();
                Action::ForeignChange { path, content: Arc::new(content) }
            }
            Step::Forget => Action::Forget,
            Step::Lock => {
                if !self.place.is_vault() {
                    return Action::Nothing;
                }
                self.handles.clear();
                Action::Lock
            }
            Step::Remount => {
                self.handles.clear();
                Action::Remount
            }
            Step::Cut { n, applied } => {
                self.next_cut = Some((usize::from(n % 16), applied));
                Action::Nothing
            }
        }
    }

    /// Whether the last step may be done twice without harm.
    pub(crate) fn may_be_tried_again(&self) -> bool {
        match &self.last {
            Action::Write { handle, .. } => self.handles[*handle].how != How::Append,
            // Where the new name was given and the old one not yet taken, the next attempt finds a name that it is not
            // to replace.
            Action::Rename { mode: RenameMode::NoReplace, .. } => false,
            // If it is not known whether the name of an open file was changed, what has the new name is another file.
            Action::Rename { .. } | Action::Unlink { .. } => self.handles.is_empty(),
            Action::ForeignChange { .. } | Action::Lock | Action::Remount => false,
            _ => true,
        }
    }

    fn write(&mut self, handle: u8, offset: u64, length: u8, seed: u8, reading: bool) -> Action {
        let Some((handle, open)) = self.handle(handle) else { return Action::Nothing };
        if open.how == How::Read {
            return Action::Nothing;
        }
        let data = pattern(seed, pick(&LENGTHS, length).unwrap());
        let content = self.change(open.node);
        let start = if open.how == How::Append { content.len() } else { offset as usize };
        if content.len() < start + data.len() {
            content.resize(start + data.len(), 0);
        }
        content[start..start + data.len()].copy_from_slice(&data);
        Action::Write { handle, offset, data: Arc::new(data), reading }
    }

    fn rename(&mut self, from: u8, name: u8, to: u8, new_name: u8, no_replace: bool) -> Action {
        let (path, parent, name, child) = self.child(from, name);
        let (new_path, new_parent, new_name, replaced) = self.child(to, new_name);
        let mode = if no_replace { RenameMode::NoReplace } else { RenameMode::Replace };
        let is_directory = |number: Number| matches!(self.nodes[number], Node::Directory { .. });
        let result = match (child, replaced) {
            (None, _) => Err(ENOENT),
            // The kernel refuses these itself.
            (Some(child), _) if is_directory(child) && self.is_above(child, new_parent) => {
                return Action::Nothing;
            }
            (Some(child), Some(replaced)) if replaced != child && self.is_above(replaced, parent) => {
                return Action::Nothing;
            }
            (Some(_), Some(_)) if no_replace => return Action::Nothing,
            (Some(child), Some(replaced)) if child == replaced => Ok(()),
            (Some(child), Some(replaced)) => match (is_directory(child), is_directory(replaced)) {
                (true, false) => Err(ENOTDIR),
                (false, true) => Err(EISDIR),
                (true, true) if !self.names(replaced).is_empty() => Err(ENOTEMPTY),
                _ => Ok(()),
            },
            (Some(_), None) => Ok(()),
        };
        if let (Ok(()), Some(child)) = (result, child)
            && replaced != Some(child)
        {
            self.names_mut(parent).remove(&name);
            self.names_mut(new_parent).insert(new_name, child);
        }
        Action::Rename { from: path, to: new_path, mode, result }
    }
}

/// How a drive may be set up.
pub(crate) fn setups(place: Place) -> BoxedStrategy<Model> {
    let delay = prop_oneof![2 => Just(None), 1 => any::<u64>().prop_map(|seed| Some((0, seed))), 2 => any::<u64>().prop_map(|seed| Some((40, seed)))];
    let without = prop_oneof![1 => Just(Vec::new()), 1 => subsequence(OptionalPart::ALL.to_vec(), 1..=OptionalPart::ALL.len())];
    (any::<bool>(), prop_oneof![Just(8u64 << 20), Just(256 << 10)], any::<bool>(), without, delay)
        .prop_map(move |(look_inside, memory, believing, without, delay)| Model {
            place,
            look_inside,
            memory,
            attr_timeout: Duration::from_secs(if believing { 3600 } else { 0 }),
            without,
            delay,
            nodes: vec![Node::Directory { names: BTreeMap::new(), mode: 0o755 }],
            handles: Vec::new(),
            last: Action::Nothing,
            last_cut: None,
            next_cut: None,
        })
        .boxed()
}

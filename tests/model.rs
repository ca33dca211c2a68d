//! Random operations on a drive over memory, against a plain tree: equal after every step, however the connection was cut in the middle of it, and
//! again after a remount.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod kernel;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::{
    APPEND, EEXIST, EIO, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, Kernel, Place, READ, READ_WRITE, Result, Seen,
    at, options, pattern, runtime,
};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use scaup::drive::{DriveOptions, Part};
use scaup::remote::RemotePath;
use scaup::remote::memory::{Delay, Fault, MemoryRemote, MemoryServer};
use scaup_fuse::filesystem::{Handle, Inode, OpenFlags, RenameMode};
use unicode_normalization::UnicodeNormalization;

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
/// How often a program tries after a cut: it may be told of what failed before, and of what fails now.
const ATTEMPTS_MAX: u32 = 3;

/// One step. Directories, files and handles are chosen by a number modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    Create {
        directory: u8,
        name: u8,
        mode: u8,
    },
    Open {
        file: u8,
        how: How,
    },
    Write {
        handle: u8,
        offset: u8,
        shift: i8,
        length: u8,
        seed: u8,
    },
    WriteWhileReading {
        handle: u8,
        offset: u8,
        length: u8,
        seed: u8,
    },
    Read {
        handle: u8,
        offset: u8,
        length: u8,
    },
    TruncateOpen {
        handle: u8,
        length: u8,
        shift: i8,
    },
    Truncate {
        file: u8,
        length: u8,
        shift: i8,
    },
    Fsync {
        handle: u8,
    },
    Flush {
        handle: u8,
    },
    Close {
        handle: u8,
    },
    Mkdir {
        directory: u8,
        name: u8,
        mode: u8,
    },
    Symlink {
        directory: u8,
        name: u8,
        target: u8,
    },
    Unlink {
        directory: u8,
        name: u8,
    },
    Rmdir {
        directory: u8,
        name: u8,
    },
    Rename {
        from: u8,
        name: u8,
        to: u8,
        new_name: u8,
        no_replace: bool,
    },
    Chmod {
        node: u8,
        mode: u8,
    },
    Utimens {
        node: u8,
        day: u8,
    },
    ForeignChange {
        file: u8,
        length: u8,
        seed: u8,
    },
    Forget,
    Lock,
    Remount,
    /// The connection is cut at the n-th message of the next step, which may have reached the server, and made anew; a program that was
    /// told of a failure tries again.
    Cut {
        n: u8,
        applied: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Read,
    ReadWrite,
    Append,
    Truncate,
}

type Number = usize;

#[derive(Debug, Clone)]
enum Node {
    File { content: Arc<Vec<u8>>, mode: u16, modified: Option<u64> },
    Directory { names: BTreeMap<String, Number>, mode: u16 },
    Symlink { target: &'static str },
}

#[derive(Debug, Clone)]
struct Open {
    node: Number,
    how: How,
}

/// The plain tree, and how the drive is set up.
#[derive(Debug, Clone)]
struct Model {
    place: Place,
    /// Whether all content is read after every step, which also opens every file.
    look_inside: bool,
    memory: u64,
    attr_timeout: Duration,
    without: Vec<Part>,
    delay: Option<(u64, u64)>,
    nodes: Vec<Node>,
    handles: Vec<Open>,
    /// The step in terms of paths and handles, and how it has to end.
    last: Action,
    /// The message at which the step is cut, and whether that reaches the server.
    last_cut: Option<(usize, bool)>,
    next_cut: Option<(usize, bool)>,
}

#[derive(Debug, Clone, Default)]
enum Action {
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
    fn key(&self, name: &str) -> String {
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
    fn paths(&self) -> Vec<(String, Number)> {
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

    fn content(&self, number: Number) -> &Arc<Vec<u8>> {
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
    fn seen(&self, inside: bool) -> BTreeMap<String, Seen> {
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

    fn apply(&mut self, step: &Step) -> Action {
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
    fn may_be_tried_again(&self) -> bool {
        match &self.last {
            Action::Write { handle, .. } => self.handles[*handle].how != How::Append,
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

struct Plain;
struct Gcm;
struct Ctrmac;

fn steps() -> BoxedStrategy<Step> {
    let n = any::<u8>;
    let shift = || prop_oneof![4 => Just(0i8), 1 => any::<i8>()];
    let how = prop_oneof![
        1 => Just(How::Read), 3 => Just(How::ReadWrite), 2 => Just(How::Append), 2 => Just(How::Truncate)
    ];
    prop_oneof![
        10 => (n(), n(), n()).prop_map(|(directory, name, mode)| Step::Create { directory, name, mode }),
        10 => (n(), how).prop_map(|(file, how)| Step::Open { file, how }),
        20 => (n(), n(), shift(), n(), n())
            .prop_map(|(handle, offset, shift, length, seed)| Step::Write { handle, offset, shift, length, seed }),
        3 => (n(), n(), n(), n())
            .prop_map(|(handle, offset, length, seed)| Step::WriteWhileReading { handle, offset, length, seed }),
        5 => (n(), n(), n()).prop_map(|(handle, offset, length)| Step::Read { handle, offset, length }),
        6 => (n(), n(), shift()).prop_map(|(handle, length, shift)| Step::TruncateOpen { handle, length, shift }),
        3 => (n(), n(), shift()).prop_map(|(file, length, shift)| Step::Truncate { file, length, shift }),
        3 => n().prop_map(|handle| Step::Fsync { handle }),
        3 => n().prop_map(|handle| Step::Flush { handle }),
        10 => n().prop_map(|handle| Step::Close { handle }),
        5 => (n(), n(), n()).prop_map(|(directory, name, mode)| Step::Mkdir { directory, name, mode }),
        2 => (n(), n(), n()).prop_map(|(directory, name, target)| Step::Symlink { directory, name, target }),
        5 => (n(), n()).prop_map(|(directory, name)| Step::Unlink { directory, name }),
        2 => (n(), n()).prop_map(|(directory, name)| Step::Rmdir { directory, name }),
        14 => (n(), n(), n(), n(), proptest::bool::weighted(0.1)).prop_map(|(from, name, to, new_name, no_replace)| {
            Step::Rename { from, name, to, new_name, no_replace }
        }),
        3 => (n(), n()).prop_map(|(node, mode)| Step::Chmod { node, mode }),
        3 => (n(), n()).prop_map(|(node, day)| Step::Utimens { node, day }),
        3 => (n(), n(), n()).prop_map(|(file, length, seed)| Step::ForeignChange { file, length, seed }),
        2 => Just(Step::Forget),
        1 => Just(Step::Lock),
        1 => Just(Step::Remount),
        8 => (n(), any::<bool>()).prop_map(|(n, applied)| Step::Cut { n, applied }),
    ]
    .boxed()
}

fn setups(place: Place) -> BoxedStrategy<Model> {
    let delay = prop_oneof![2 => Just(None), 1 => any::<u64>().prop_map(|seed| Some((0, seed))), 2 => any::<u64>().prop_map(|seed| Some((40, seed)))];
    let without =
        prop_oneof![1 => Just(Vec::new()), 1 => subsequence(Part::ALL.to_vec(), 1..=Part::ALL.len())];
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

/// One mount of one server, in a runtime of its own.
struct Mount {
    runtime: tokio::runtime::Runtime,
    server: MemoryServer,
    options: DriveOptions,
    delay: Option<Delay>,
    place: Place,
    kernel: Option<Kernel>,
    handles: Vec<(Inode, Handle)>,
    /// Whether programs may be told of failures.
    was_cut: bool,
}

impl Mount {
    fn new(model: &Model) -> Self {
        let delay = model.delay.map(|(spread, seed)| Delay {
            least: Duration::from_millis(20),
            most: Duration::from_millis(20 + spread),
            seed,
        });
        let mut mount = Self {
            runtime: runtime(),
            server: model.place.server(),
            options: DriveOptions {
                memory: model.memory,
                attr_timeout: model.attr_timeout,
                without: model.without.iter().copied().collect(),
                ..options()
            },
            delay,
            place: model.place,
            kernel: None,
            handles: Vec::new(),
            was_cut: false,
        };
        mount.mount();
        mount
    }

    fn mount(&mut self) {
        let remote = MemoryRemote::connect(&self.server);
        remote.set_delay(self.delay);
        let mounting = Kernel::mount(remote, self.place, self.options.clone());
        self.kernel = Some(self.runtime.block_on(mounting));
    }

    fn unmount(&mut self) {
        let kernel = self.kernel.take().unwrap();
        let handles = std::mem::take(&mut self.handles);
        self.runtime.block_on(async {
            for open in handles {
                match kernel.close(open).await {
                    Err(EIO) if self.was_cut => {}
                    closed => closed.unwrap(),
                }
            }
            kernel.forget(&[]);
            if self.was_cut {
                // It may tell of what failed before.
                kernel.drive.save_all().await;
            }
            assert_eq!(kernel.drive.save_all().await.files, 0);
            drop(kernel);
            // What is done in the background is done before the next mount looks.
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        let left: Vec<RemotePath> = self.server.paths().into_iter().filter(kernel::is_temporary).collect();
        // What could not be removed while there was no connection is the next process's.
        assert!(self.was_cut || left.is_empty(), "left behind: {left:?}");
    }

    fn act(&mut self, model: &Model) {
        match &model.last {
            Action::Remount => {
                self.unmount();
                self.mount();
            }
            action => {
                let (kernel, handles) = (self.kernel.as_ref().unwrap(), &mut self.handles);
                if let Some((n, applied)) = model.last_cut.filter(|_| model.may_be_tried_again()) {
                    kernel.remote.fault_at(n, Fault::Cut { applied });
                }
                let mut done = self.runtime.block_on(act(kernel, handles, &self.server, action, false));
                kernel.remote.clear_faults();
                if kernel.remote.is_cut() {
                    kernel.remote.reconnect();
                    self.was_cut = true;
                }
                // What failed behind a program's back is told by the next thing it does with the file.
                let mut attempts = 1;
                while self.was_cut && done == Err(EIO) && attempts < ATTEMPTS_MAX {
                    done = self.runtime.block_on(act(kernel, handles, &self.server, action, true));
                    attempts += 1;
                }
                assert_eq!(done, Ok(()), "{action:?}");
            }
        }
    }

    fn compare(&self, model: &Model, inside: bool) {
        let kernel = self.kernel.as_ref().unwrap();
        self.runtime.block_on(async {
            for (open, &(inode, _)) in model.handles.iter().zip(&self.handles) {
                let shown = kernel.getattr(inode).await.unwrap();
                assert_eq!(shown.size, model.content(open.node).len() as u64, "length of an open file");
            }
            for (path, number) in model.paths() {
                if let Node::File { content, modified, .. } = &model.nodes[number] {
                    let shown = kernel.lookup(&path).await.unwrap();
                    assert_eq!(shown.size, content.len() as u64, "length of {path}");
                    if let Some(modified) = modified {
                        assert_eq!(shown.modified, at(*modified), "time of {path}");
                    }
                }
            }
            let (seen, wanted) = (kernel.tree(inside).await.unwrap(), model.seen(inside));
            assert!(seen == wanted, "{}", difference(&seen, &wanted));
        });
    }
}

fn difference(seen: &BTreeMap<String, Seen>, wanted: &BTreeMap<String, Seen>) -> String {
    let brief = |seen: Option<&Seen>| match seen {
        Some(Seen::File { content, mode }) => format!("file of {} bytes, mode {mode:o}", content.len()),
        other => format!("{other:?}"),
    };
    let mut text = String::new();
    for path in seen.keys().chain(wanted.keys()) {
        let (seen, wanted) = (seen.get(path), wanted.get(path));
        if seen != wanted {
            text += &format!("{path}: seen {}, wanted {}", brief(seen), brief(wanted));
            if let (Some(Seen::File { content: seen, .. }), Some(Seen::File { content: wanted, .. })) =
                (seen, wanted)
            {
                let at = seen.iter().zip(wanted).position(|(seen, wanted)| seen != wanted);
                text += &format!(", first different byte {at:?}");
            }
            text += "; ";
        }
    }
    text
}

/// Does it, or answers `EIO`: `again` if an attempt before this one did, which may have been carried out all the same.
async fn act(
    kernel: &Kernel,
    handles: &mut Vec<(Inode, Handle)>,
    server: &MemoryServer,
    action: &Action,
    again: bool,
) -> Result<()> {
    let as_wanted = |done: Result<()>, wanted: &Result<()>| match done {
        Err(EIO) => Err(EIO),
        Err(EEXIST | ENOENT) if again && wanted.is_ok() => Ok(()),
        done => {
            assert_eq!(done, *wanted, "{action:?}");
            Ok(())
        }
    };
    match action {
        Action::Nothing | Action::Remount => {}
        Action::Create { path, mode } => handles.push(kernel.create(path, *mode).await?),
        Action::Open { path, how } => {
            let flags: OpenFlags = match how {
                How::Read => READ,
                How::ReadWrite | How::Truncate => READ_WRITE,
                How::Append => APPEND,
            };
            let open = kernel.open(path, flags).await?;
            if *how == How::Truncate
                && let Err(error) = kernel.truncate_open(open, 0).await
            {
                kernel.release(open).await;
                return Err(error);
            }
            handles.push(open);
        }
        Action::Write { handle, offset, data, reading } => {
            let open = handles[*handle];
            if *reading {
                let read = async {
                    for &other in handles.iter() {
                        kernel.read_all(other).await?;
                    }
                    Ok(())
                };
                let (written, flushed, read) =
                    futures::join!(kernel.write(open, *offset, data), kernel.flush(open), read);
                written.and(flushed).and(read)?;
            } else {
                kernel.write(open, *offset, data).await?;
            }
        }
        Action::Read { handle, offset, content, length } => {
            let read = kernel.read(handles[*handle], *offset, *length).await?;
            assert!(read == content, "read {} bytes, wanted {}", read.len(), content.len());
        }
        Action::TruncateOpen { handle, length } => {
            kernel.truncate_open(handles[*handle], *length).await?;
        }
        Action::Truncate { path, length } => kernel.truncate(path, *length).await?,
        Action::Fsync { handle } => kernel.fsync(handles[*handle]).await?,
        Action::Flush { handle } => kernel.flush(handles[*handle]).await?,
        Action::Close { .. } if again => {}
        Action::Close { handle } => kernel.close(handles.remove(*handle)).await?,
        Action::Mkdir { path, mode, result } => as_wanted(kernel.mkdir(path, *mode).await, result)?,
        Action::Symlink { path, target, result } => as_wanted(kernel.symlink(path, target).await, result)?,
        Action::Unlink { path, result } => as_wanted(kernel.unlink(path).await, result)?,
        Action::Rmdir { path, result } => as_wanted(kernel.rmdir(path).await, result)?,
        Action::Rename { from, to, mode, result } => {
            as_wanted(kernel.rename(from, to, *mode).await, result)?;
        }
        Action::Chmod { path, mode } => kernel.chmod(path, *mode).await?,
        Action::Utimens { path, seconds } => kernel.utimens(path, *seconds).await?,
        Action::ForeignChange { path, content } => {
            // What waits is saved first: this is about what a drive sees, not about conflicts.
            assert_eq!(kernel.drive.save_all().await.files, 0);
            server.pass(Duration::from_secs(3));
            server.set_content(&RemotePath::parse(path.as_bytes()).unwrap(), content).unwrap();
        }
        Action::Forget => {
            let open: Vec<Inode> = handles.iter().map(|&(inode, _)| inode).collect();
            kernel.forget(&open);
        }
        Action::Lock => {
            kernel.drive.lock(&RemotePath::parse(b"Vault").unwrap()).await.unwrap();
            for open in handles.drain(..) {
                kernel.release(open).await;
            }
            kernel.unlock().await;
        }
    }
    Ok(())
}

macro_rules! model_test {
    ($machine:ident, $place:expr, $name:ident) => {
        impl ReferenceStateMachine for $machine {
            type State = Model;
            type Transition = Step;

            fn init_state() -> BoxedStrategy<Model> {
                setups($place)
            }

            fn transitions(_: &Model) -> BoxedStrategy<Step> {
                steps()
            }

            fn apply(mut model: Model, step: &Step) -> Model {
                model.last_cut = model.next_cut.take();
                model.last = model.apply(step);
                model
            }
        }

        impl StateMachineTest for $machine {
            type SystemUnderTest = Mount;
            type Reference = Self;

            fn init_test(model: &Model) -> Mount {
                Mount::new(model)
            }

            fn apply(mut mount: Mount, model: &Model, _: Step) -> Mount {
                mount.act(model);
                mount
            }

            fn check_invariants(mount: &Mount, model: &Model) {
                let inside = model.look_inside || matches!(model.last, Action::Remount | Action::Lock);
                mount.compare(model, inside);
            }

            fn teardown(mut mount: Mount, model: Model) {
                mount.compare(&model, true);
                mount.unmount();
                mount.mount();
                mount.compare(&Model { handles: Vec::new(), ..model }, true);
                mount.unmount();
            }
        }

        proptest_state_machine::prop_state_machine! {
            #![proptest_config(config())]
            #[test]
            fn $name(sequential 1..60 => $machine);
        }
    };
}

/// `PROPTEST_CASES` asks for more.
fn config() -> Config {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 80 };
    Config { cases, failure_persistence: None, max_shrink_iters: 600, ..Config::default() }
}

model_test!(Plain, Place::Plain, a_plain_place_is_like_a_plain_tree);
model_test!(Gcm, Place::Gcm, a_vault_is_like_a_plain_tree);
model_test!(Ctrmac, Place::Ctrmac, a_vault_of_the_older_combo_is_like_a_plain_tree);

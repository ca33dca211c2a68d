//! The inode tree of a server in memory. It behaves as OpenSSH's `sftp-server` does through `SftpRemote`: errors,
//! replacing renames, handles that outlive their names, times in whole seconds. Permission bits are kept but not
//! enforced, as for root.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use scaup_remote::{
    RemoteAttributes, RemoteEntry, RemoteError, RemoteKind, RemoteName, RemoteOpen, RemotePath,
    RemoteSetAttributes, RemoteStatistics, RenameHow,
};

/// The unit of the server's space, bytes.
const BLOCK: u64 = 4096;
/// Links followed in one path before the server gives up (`ELOOP`).
const LINKS_MAX: u32 = 40;

pub(super) type Number = u64;

#[derive(Clone)]
pub(super) enum Content {
    File(Vec<u8>),
    Directory(BTreeMap<RemoteName, Number>),
    Symlink(Vec<u8>),
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) content: Content,
    mode: u16,
    owner: (u32, u32),
    accessed: SystemTime,
    modified: SystemTime,
    /// Names and open handles; without any the node is gone.
    held: u32,
}

/// A resolved path: the directory of its last name, that name, and its node.
struct Resolved {
    directory: Number,
    name: RemoteName,
    node: Option<Number>,
}

#[derive(Clone)]
pub(super) struct Tree {
    nodes: HashMap<Number, Node>,
    next: Number,
    /// How far the server's clock is ahead of ours.
    pub(super) ahead: Duration,
    /// Bytes that all files together may have.
    pub(super) room: u64,
    /// The content of the server's disk: each node as of when its content was last synced.
    on_disk: HashMap<Number, Node>,
    /// How often it lost its power: a handle from before is none any more.
    pub(super) power_losses: u32,
}

/// Bits removed from the permissions of nodes created without any.
pub(super) const UMASK: u16 = 0o022;
pub(super) const ROOT: Number = 0;

/// OpenSSH has one code for many reasons; `SftpRemote` finds out the reason only where a caller needs it.
pub(super) fn failure() -> RemoteError {
    RemoteError::Failure("Failure".to_owned())
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut tree = Self {
            nodes: HashMap::new(),
            next: ROOT,
            ahead: Duration::ZERO,
            room: 1 << 40,
            on_disk: HashMap::new(),
            power_losses: 0,
        };
        tree.add(Content::Directory(BTreeMap::new()), 0o755);
        tree
    }

    fn now(&self) -> SystemTime {
        whole_seconds(SystemTime::now() + self.ahead)
    }

    fn add(&mut self, content: Content, mode: u16) -> Number {
        let now = self.now();
        let number = self.next;
        self.next += 1;
        let node = Node { content, mode, owner: (1000, 1000), accessed: now, modified: now, held: 1 };
        // A link is created in one step with its name; a new file or directory is still empty.
        self.on_disk.insert(number, node.clone());
        self.nodes.insert(number, node);
        number
    }

    /// Carries out the `fsync` of a file.
    pub(super) fn sync_content(&mut self, number: Number) -> Result<(), RemoteError> {
        let node = self.get(number)?.clone();
        self.on_disk.insert(number, node);
        Ok(())
    }

    /// Writes all names to the disk, and all attributes but not the content of files: names and attributes share a
    /// journal.
    pub(super) fn sync_names(&mut self) {
        for (&number, node) in &self.nodes {
            let mut on_disk = node.clone();
            if let (Content::File(_), Some(before)) = (&node.content, self.on_disk.get(&number)) {
                on_disk.content = before.content.clone();
            }
            self.on_disk.insert(number, on_disk);
        }
    }

    /// Resets everything to the state on the disk.
    pub(super) fn power_loss(&mut self, mut survives: impl FnMut() -> bool) {
        self.power_losses += 1;
        if survives() {
            self.sync_names();
        }
        let mut nodes: HashMap<Number, Node> = HashMap::new();
        let mut waiting = vec![ROOT];
        while let Some(number) = waiting.pop() {
            // A hard link is counted here once for each of its names.
            if let Some(node) = nodes.get_mut(&number) {
                node.held += 1;
                continue;
            }
            let Some(mut node) = self.on_disk.get(&number).cloned() else { continue };
            if let (Content::File(_), Some(live)) = (&node.content, self.nodes.get(&number))
                && survives()
            {
                node = live.clone();
            }
            if let Content::Directory(names) = &node.content {
                waiting.extend(names.values());
            }
            node.held = 1;
            nodes.insert(number, node);
        }
        self.on_disk = nodes.clone();
        self.nodes = nodes;
    }

    /// Returns the content of every node that has a name or is open.
    pub(super) fn contents(&self) -> impl Iterator<Item = &Content> {
        self.nodes.values().map(|node| &node.content)
    }

    pub(super) fn get(&self, number: Number) -> Result<&Node, RemoteError> {
        self.nodes.get(&number).ok_or_else(failure)
    }

    fn get_mut(&mut self, number: Number) -> Result<&mut Node, RemoteError> {
        self.nodes.get_mut(&number).ok_or_else(failure)
    }

    pub(super) fn release(&mut self, number: Number) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.held -= 1;
            if node.held == 0 {
                self.nodes.remove(&number);
            }
        }
    }

    pub(super) fn names(&self, number: Number) -> Result<&BTreeMap<RemoteName, Number>, RemoteError> {
        match &self.get(number)?.content {
            Content::Directory(names) => Ok(names),
            _ => Err(RemoteError::NotADirectory),
        }
    }

    /// Returns a directory's names, to be changed.
    fn change(&mut self, number: Number) -> Result<&mut BTreeMap<RemoteName, Number>, RemoteError> {
        let now = self.now();
        let node = self.get_mut(number)?;
        node.modified = now;
        match &mut node.content {
            Content::Directory(names) => Ok(names),
            _ => Err(RemoteError::NotADirectory),
        }
    }

    /// Resolves a path through links. A path that leads out of the tree is not found.
    fn walk(&self, path: &[u8]) -> Result<Number, RemoteError> {
        let mut way = vec![ROOT];
        self.walk_on(&mut way, path, &mut 0)?;
        way.last().copied().ok_or_else(failure)
    }

    /// Continues from the end of `way`, which begins at the root.
    fn walk_on(&self, way: &mut Vec<Number>, path: &[u8], links: &mut u32) -> Result<(), RemoteError> {
        for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            let at = *way.last().ok_or(RemoteError::NotFound)?;
            if part == b".." {
                way.pop();
                continue;
            }
            let name = RemoteName::parse(part).ok_or(RemoteError::NameTooLong)?;
            let next = *self.names(at)?.get(&name).ok_or(RemoteError::NotFound)?;
            match &self.get(next)?.content {
                Content::Symlink(target) => {
                    *links += 1;
                    if *links > LINKS_MAX || target.starts_with(b"/") {
                        return Err(RemoteError::NotFound);
                    }
                    self.walk_on(way, target, links)?;
                }
                _ => way.push(next),
            }
        }
        if way.is_empty() { Err(RemoteError::NotFound) } else { Ok(()) }
    }

    /// Resolves a path without following a link in the last place. A path behind a node that is not a directory is
    /// `NotADirectory`, which `SftpRemote` distinguishes only when names are created: see [`not_found`].
    fn resolve(&self, path: &RemotePath) -> Result<Resolved, RemoteError> {
        let (parent, name) = path.split().ok_or_else(failure)?;
        let directory = self.walk(parent.as_bytes())?;
        let node = self.names(directory)?.get(&name).copied();
        Ok(Resolved { directory, name, node })
    }

    pub(super) fn existing(&self, path: &RemotePath) -> Result<Number, RemoteError> {
        if path.is_root() {
            return Ok(ROOT);
        }
        self.resolve(path).map_err(not_found)?.node.ok_or(RemoteError::NotFound)
    }

    /// Returns the place of a new name.
    fn free(&self, path: &RemotePath) -> Result<(Number, RemoteName), RemoteError> {
        let Resolved { directory, name, node } = self.resolve(path)?;
        if node.is_some() { Err(RemoteError::Exists) } else { Ok((directory, name)) }
    }

    pub(super) fn used(&self) -> u64 {
        self.nodes.values().map(Node::size).sum()
    }

    pub(super) fn attributes(&self, number: Number) -> Result<RemoteAttributes, RemoteError> {
        let node = self.get(number)?;
        let kind = match node.content {
            Content::File(_) => RemoteKind::File,
            Content::Directory(_) => RemoteKind::Directory,
            Content::Symlink(_) => RemoteKind::Symlink,
        };
        Ok(RemoteAttributes {
            kind,
            size: node.size(),
            mode: node.mode,
            uid: node.owner.0,
            gid: node.owner.1,
            accessed: node.accessed,
            modified: node.modified,
        })
    }

    pub(super) fn set_attributes(
        &mut self,
        number: Number,
        set: RemoteSetAttributes,
    ) -> Result<(), RemoteError> {
        if let Some(size) = set.size {
            self.resize(number, size)?;
        }
        let node = self.get_mut(number)?;
        if let Some(owner) = set.owner {
            node.owner = owner;
        }
        if let Some(mode) = set.mode {
            if matches!(node.content, Content::Symlink(_)) {
                return Err(failure());
            }
            node.mode = mode & 0o7777;
        }
        if let Some((accessed, modified)) = set.times {
            (node.accessed, node.modified) = (whole_seconds(accessed), whole_seconds(modified));
        }
        Ok(())
    }

    pub(super) fn resize(&mut self, number: Number, size: u64) -> Result<(), RemoteError> {
        let length = usize::try_from(size).map_err(|_| failure())?;
        let (now, room) = (self.now(), self.room.saturating_sub(self.used()));
        let node = self.get_mut(number)?;
        let Content::File(bytes) = &mut node.content else { return Err(RemoteError::IsADirectory) };
        if size > bytes.len() as u64 + room {
            return Err(RemoteError::NoSpace);
        }
        bytes.resize(length, 0);
        node.modified = now;
        Ok(())
    }

    pub(super) fn write(&mut self, number: Number, offset: u64, data: &[u8]) -> Result<(), RemoteError> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).ok_or_else(failure)?;
        if end > self.get(number)?.size() {
            let resized = self.resize(number, end);
            if resized == Err(RemoteError::NoSpace) {
                // As in write(2), the part that fits is written.
                let fits = self.get(number)?.size() + self.room.saturating_sub(self.used());
                let fits = usize::try_from(fits.saturating_sub(offset)).unwrap_or(usize::MAX);
                self.write(number, offset, data.get(..fits).unwrap_or_default())?;
            }
            resized?;
        }
        let now = self.now();
        let node = self.get_mut(number)?;
        let Content::File(bytes) = &mut node.content else { return Err(failure()) };
        let range = usize::try_from(offset).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        bytes.get_mut(range).ok_or_else(failure)?.copy_from_slice(data);
        node.modified = now;
        Ok(())
    }

    pub(super) fn read(&self, number: Number, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
        let Content::File(bytes) = &self.get(number)?.content else { return Err(failure()) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(Bytes::copy_from_slice(bytes.get(start..end).unwrap_or_default()))
    }

    pub(super) fn open(&mut self, path: &RemotePath, how: RemoteOpen) -> Result<Number, RemoteError> {
        let new = match how {
            RemoteOpen::CreateNew(mode) => Some(mode),
            RemoteOpen::CreateByUmask => Some(0o666 & !UMASK),
            RemoteOpen::Read | RemoteOpen::ReadWrite => None,
        };
        if let Some(mode) = new {
            let (directory, name) = self.free(path)?;
            let number = self.add(Content::File(Vec::new()), mode & 0o7777);
            self.change(directory)?.insert(name, number);
            self.get_mut(number)?.held += 1;
            return Ok(number);
        }
        let number = self.walk(path.as_bytes()).map_err(not_found)?;
        let node = self.get_mut(number)?;
        // open(2) opens a directory for reading; only reading fails.
        if how == RemoteOpen::ReadWrite && matches!(node.content, Content::Directory(_)) {
            return Err(RemoteError::IsADirectory);
        }
        node.held += 1;
        Ok(number)
    }

    pub(super) fn rmdir(&mut self, path: &RemotePath) -> Result<(), RemoteError> {
        let Resolved { directory, name, node } = self.resolve(path).map_err(not_found)?;
        let number = node.ok_or(RemoteError::NotFound)?;
        if !self.names(number).map_err(not_found)?.is_empty() {
            return Err(RemoteError::NotEmpty);
        }
        self.change(directory)?.remove(&name);
        self.release(number);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &RemotePath) -> Result<(), RemoteError> {
        let Resolved { directory, name, node } = self.resolve(path).map_err(not_found)?;
        let number = node.ok_or(RemoteError::NotFound)?;
        if matches!(self.get(number)?.content, Content::Directory(_)) {
            return Err(RemoteError::IsADirectory);
        }
        self.change(directory)?.remove(&name);
        self.release(number);
        Ok(())
    }

    /// rename(2), with those of its errors that SFTP passes on.
    pub(super) fn rename(
        &mut self,
        from: &RemotePath,
        to: &RemotePath,
        how: RenameHow,
    ) -> Result<(), RemoteError> {
        let source = self.resolve(from).map_err(not_found)?;
        let moved = source.node.ok_or(RemoteError::NotFound)?;
        let target = self.resolve(to)?;
        let is_directory =
            |number| matches!(self.nodes.get(&number), Some(Node { content: Content::Directory(_), .. }));
        if is_directory(moved)
            && [to.as_bytes(), b"/"].concat().starts_with(&[from.as_bytes(), b"/"].concat())
            && from != to
        {
            return Err(RemoteError::NameTooLong);
        }
        if target.node.is_some() && how == RenameHow::New {
            return Err(RemoteError::Exists);
        }
        if let Some(replaced) = target.node {
            match (is_directory(moved), is_directory(replaced)) {
                _ if moved == replaced => return Ok(()),
                (true, true) if !self.names(replaced)?.is_empty() => return Err(RemoteError::NotEmpty),
                (true, false) => return Err(RemoteError::NotFound),
                (false, true) => return Err(RemoteError::IsADirectory),
                _ => self.release(replaced),
            }
        }
        self.change(source.directory)?.remove(&source.name);
        self.change(target.directory)?.insert(target.name, moved);
        Ok(())
    }

    pub(super) fn make(&mut self, path: &RemotePath, content: Content, mode: u16) -> Result<(), RemoteError> {
        let (directory, name) = self.free(path)?;
        let number = self.add(content, mode & 0o7777);
        self.change(directory)?.insert(name, number);
        Ok(())
    }

    pub(super) fn hard_link(&mut self, existing: &RemotePath, new: &RemotePath) -> Result<(), RemoteError> {
        let number = self.existing(existing)?;
        let (directory, name) = self.free(new)?;
        if matches!(self.get(number)?.content, Content::Directory(_)) {
            return Err(RemoteError::PermissionDenied);
        }
        self.change(directory)?.insert(name, number);
        self.get_mut(number)?.held += 1;
        Ok(())
    }

    pub(super) fn list(&self, path: &RemotePath) -> Result<Vec<RemoteEntry>, RemoteError> {
        let number = self.walk(path.as_bytes()).map_err(not_found)?;
        let names = self.names(number).map_err(not_found)?;
        names
            .iter()
            .map(|(name, &number)| {
                Ok(RemoteEntry { name: name.clone(), attributes: self.attributes(number)? })
            })
            .collect()
    }

    pub(super) fn statistics(&self) -> RemoteStatistics {
        let free = self.room.saturating_sub(self.used()) / BLOCK;
        RemoteStatistics {
            block_size: BLOCK,
            blocks: self.room / BLOCK,
            blocks_free: free,
            blocks_available: free,
            files: 1 << 20,
            files_free: 1 << 19,
            name_max: RemoteName::MAX_LEN as u64,
        }
    }
}

impl Node {
    fn size(&self) -> u64 {
        match &self.content {
            Content::File(bytes) | Content::Symlink(bytes) => bytes.len() as u64,
            Content::Directory(_) => BLOCK,
        }
    }
}

/// Converts an error as SFTP does: `SSH_FX_NO_SUCH_FILE` also stands for `ENOTDIR`.
fn not_found(error: RemoteError) -> RemoteError {
    if error == RemoteError::NotADirectory { RemoteError::NotFound } else { error }
}

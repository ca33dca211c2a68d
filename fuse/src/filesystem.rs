//! The interface a drive implements: one async method per kernel request, in this crate's own types.
//!
//! The methods carry the names of the FUSE protocol (`include/uapi/linux/fuse.h`). Every method may
//! run at the same time as every other; the kernel serialises only what changes one directory.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// The kernel's number for a node; the root is [`Inode::ROOT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode(pub u64);

impl Inode {
    /// The mount point itself (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);
}

/// The number of one open file or directory, chosen by the drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// The kind of an inode's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe, shown but not usable through the mount.
    Fifo,
    /// A socket, shown but not usable through the mount.
    Socket,
    /// A character device, shown but not usable through the mount.
    CharDevice,
    /// A block device, shown but not usable through the mount.
    BlockDevice,
}

/// The attributes that `stat(2)` shows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The node's number.
    pub inode: Inode,
    /// The kind of node.
    pub kind: FileKind,
    /// Cleartext length in bytes.
    pub size: u64,
    /// Permission bits, with setuid, setgid and sticky (`07777`).
    pub mode: u16,
    /// Number of hard links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub accessed: SystemTime,
    /// Last change of content.
    pub modified: SystemTime,
    /// Last change of content or attributes.
    pub changed: SystemTime,
}

/// Attributes, and how long the kernel may cache them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedAttributes {
    /// The attributes.
    pub attributes: Attributes,
    /// How long they may be cached.
    pub ttl: Duration,
    /// How long the kernel may cache the mapping of a name, looked up or listed, to that inode. It is zero where the
    /// name can change without the kernel's knowledge.
    pub name_ttl: Duration,
}

/// The reply to a lookup of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupReply {
    /// The name exists. Raises the inode's lookup count by one (see [`Filesystem::forget`]).
    Found(TimedAttributes),
    /// The name does not exist, and the kernel may cache that for this long.
    Missing(Duration),
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name, as shown.
    pub name: OsString,
    /// Its attributes.
    pub attributes: TimedAttributes,
}

/// The reply to an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The handle that later requests use.
    pub handle: Handle,
    /// Whether pages that the kernel holds from an earlier open are still valid (`FOPEN_KEEP_CACHE`).
    pub keep_cache: bool,
}

/// How a program opened a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFlags {
    /// Whether reads are allowed.
    pub read: bool,
    /// Whether writes are allowed.
    pub write: bool,
    /// Whether every write goes to the end (`O_APPEND`), at first.
    pub append: bool,
    /// Whether the content is dropped first (`O_TRUNC`).
    pub truncate: bool,
    /// Whether the file must not exist yet (`O_EXCL`).
    pub exclusive: bool,
}

/// A time to set: a given one, or the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The present (`UTIME_NOW`).
    Now,
    /// This time.
    At(SystemTime),
}

/// The attributes a `setattr` request changes; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes: truncates or extends with zeros.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<SetTime>,
    /// Last change of content.
    pub modified: Option<SetTime>,
}

/// The process that sent a request, and the owner of new nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process.
    pub pid: u32,
}

/// What `renameat2(2)` is to do with an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail with `EEXIST` (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swap the two (`RENAME_EXCHANGE`).
    Exchange,
}

/// The figures that `statfs(2)` shows. Blocks are of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesystemStatistics {
    /// Unit of the block counts, bytes.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for ordinary users.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, bytes.
    pub name_max: u32,
}

/// An error as a program sees it, a positive `errno(3)` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// Why a request failed.
pub trait RequestError: Send {
    /// Returns the error for the program.
    fn errno(&self) -> Errno;
    /// Returns whether something is wrong here or on the server, rather than that the program's request has an ordinary
    /// negative result.
    fn is_failure(&self) -> bool;
    /// Returns the error and its causes, for the log. Without `names`, it contains no name and nothing from a server:
    /// only the kinds of the errors.
    fn for_log(&self, names: bool) -> String;
}

/// The content of a mount. Implementations use inodes and handles that they assign themselves.
pub trait Filesystem: Send + Sync + 'static {
    /// The implementation's error; how it maps to [`Errno`] is its own, single table.
    type Error: RequestError;

    /// Finds `name` in the directory `parent`.
    fn lookup(
        &self,
        parent: Inode,
        name: &OsStr,
    ) -> impl Future<Output = Result<LookupReply, Self::Error>> + Send;
    /// Drops `count` lookups of `inode`; at zero the kernel does not use the inode any more.
    fn forget(&self, inode: Inode, count: u64);
    /// Reads attributes.
    fn getattr(
        &self,
        inode: Inode,
        handle: Option<Handle>,
    ) -> impl Future<Output = Result<TimedAttributes, Self::Error>> + Send;
    /// Changes attributes, and returns the new ones.
    fn setattr(
        &self,
        inode: Inode,
        handle: Option<Handle>,
        set: SetAttributes,
        caller: Caller,
    ) -> impl Future<Output = Result<TimedAttributes, Self::Error>> + Send;
    /// Reads a symbolic link's target.
    fn readlink(&self, inode: Inode) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
    /// Creates a directory. `mode` has the caller's umask applied.
    fn mkdir(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u16,
        caller: Caller,
    ) -> impl Future<Output = Result<TimedAttributes, Self::Error>> + Send;
    /// Removes a name that is not a directory.
    fn unlink(&self, parent: Inode, name: &OsStr) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Removes an empty directory.
    fn rmdir(&self, parent: Inode, name: &OsStr) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Creates a symbolic link.
    fn symlink(
        &self,
        parent: Inode,
        name: &OsStr,
        target: &OsStr,
        caller: Caller,
    ) -> impl Future<Output = Result<TimedAttributes, Self::Error>> + Send;
    /// Creates a hard link.
    fn link(
        &self,
        inode: Inode,
        new_parent: Inode,
        new_name: &OsStr,
    ) -> impl Future<Output = Result<TimedAttributes, Self::Error>> + Send;
    /// Renames a node.
    fn rename(
        &self,
        parent: Inode,
        name: &OsStr,
        new_parent: Inode,
        new_name: &OsStr,
        mode: RenameMode,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Opens a file. The kernel handles `flags.truncate` and `flags.exclusive`: both are always false here.
    fn open(
        &self,
        inode: Inode,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<Opened, Self::Error>> + Send;
    /// Creates a file and opens it, in one step. `mode` has the caller's umask applied.
    fn create(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u16,
        flags: OpenFlags,
        caller: Caller,
    ) -> impl Future<Output = Result<(TimedAttributes, Opened), Self::Error>> + Send;
    /// Reads `length` bytes from `offset`: fewer only at the end of the file.
    fn read(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        length: u32,
    ) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
    /// Writes all of `data` at `offset`, or at the end if it `appends`: a program can turn `O_APPEND` on and off while
    /// it has a file open.
    fn write(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        data: Bytes,
        appends: bool,
    ) -> impl Future<Output = Result<u32, Self::Error>> + Send;
    /// Handles that one file descriptor of this handle was closed; the last chance to report an error to the program.
    fn flush(&self, inode: Inode, handle: Handle) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Makes the content durable on the server's disk.
    fn fsync(
        &self,
        inode: Inode,
        handle: Handle,
        data_only: bool,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Allocates or zeroes a range (`fallocate(2)`; `mode` is its flags).
    fn fallocate(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Releases the handle after its last descriptor is gone.
    fn release(&self, inode: Inode, handle: Handle) -> impl Future<Output = ()> + Send;
    /// Opens a directory for reading.
    fn opendir(&self, inode: Inode) -> impl Future<Output = Result<Handle, Self::Error>> + Send;
    /// Returns names from position `offset` on, as many as the implementation has at hand (`.` and `..` are added by
    /// this crate). An empty list is the end. With `plus`, raises the lookup count of each entry; entries that did not
    /// fit into the kernel's buffer are forgotten again at once, through [`Filesystem::forget`] (see `skin`).
    fn readdir(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        plus: bool,
    ) -> impl Future<Output = Result<Vec<DirectoryEntry>, Self::Error>> + Send;
    /// Makes a directory's names durable.
    fn fsyncdir(&self, inode: Inode, handle: Handle) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Closes a directory.
    fn releasedir(&self, inode: Inode, handle: Handle) -> impl Future<Output = ()> + Send;
    /// Returns capacity and use.
    fn statfs(&self, inode: Inode) -> impl Future<Output = Result<FilesystemStatistics, Self::Error>> + Send;
}

/// Tells the kernel to drop cached data. Implemented by this crate over the mount; a drive calls it when content or
/// names changed on the server, or a vault was locked or unlocked.
pub trait Invalidate: Send + Sync + 'static {
    /// Drops the attributes of `inode` before this returns: a file opened next is read up to its current length.
    fn attributes(&self, inode: Inode);
    /// Drops attributes and all pages of `inode`, soon.
    fn inode(&self, inode: Inode);
    /// Drops `name` in `parent`, soon, whether it was known to exist or not.
    fn entry(&self, parent: Inode, name: &OsStr);
    /// Ends when the kernel has dropped everything requested before.
    fn settled(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

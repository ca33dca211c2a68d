//! Turns the kernel's requests into calls of a [`Filesystem`], and its results into replies.
//!
//! The kernel's thread only decodes a request and hands it over; the reply comes from a task.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, FileAttr, FileHandle, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno as System;
use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::asked::{About, Asked};
use crate::filesystem::{
    Attributes, Caller, DirectoryEntry, FileKind, Filesystem, Handle, Inode, LookupReply, OpenFlags, Opened,
    RenameMode, SetAttributes, SetTime, TimedAttributes,
};
use crate::options::MountOptions;
use crate::requests::{Operation, Requests};

/// Requests that the kernel may have under way without a process waiting: read-ahead above all, and pages of mapped
/// files.
///
/// It also bounds the writes that wait, and with them the memory for their bytes: beside these requests the kernel
/// sends one write at a time for each file, since it holds the file's lock until the reply. The thread that decodes
/// requests must not bound them by waiting: it would delay the replies to all other requests.
const MAX_BACKGROUND: u16 = 128;

/// `.` and `..` come before the file system's own names.
const DOTS: u64 = 2;

/// Adapts a [`Filesystem`] to the FUSE library.
pub(crate) struct Skin<F> {
    filesystem: Arc<F>,
    runtime: Runtime,
    requests: Arc<Requests>,
    max_write: u32,
    log_names: bool,
    end: watch::Sender<bool>,
}

impl<F: Filesystem> Skin<F> {
    /// Creates the adapter; `end` becomes true when the kernel ends the session, whatever the cause.
    pub(crate) fn new(
        filesystem: Arc<F>,
        runtime: Runtime,
        options: &MountOptions,
        requests: Arc<Requests>,
        end: watch::Sender<bool>,
    ) -> Self {
        let MountOptions { max_write, log_names, .. } = *options;
        Self { filesystem, runtime, requests, max_write, log_names, end }
    }

    /// Begins a request.
    fn asked(&self, operation: Operation, ino: INodeNo, fh: Option<FileHandle>) -> Asked {
        let about = About { operation, inode: inode(ino), handle: fh.map(handle) };
        Asked::begin(&self.requests, about, self.log_names)
    }

    /// Runs one request as a task of its own.
    fn answer<A: Future<Output = ()> + Send + 'static>(
        &self,
        asked: Asked,
        request: impl FnOnce(Arc<F>, Asked) -> A,
    ) {
        let span = asked.span.clone();
        self.runtime.spawn(request(Arc::clone(&self.filesystem), asked).instrument(span));
    }
}

/// Calls a method of the file system and turns its result into the reply.
macro_rules! answer {
    ($self:ident, $reply:ident, $asked:expr, |$filesystem:ident| $call:expr, |$value:pat_param| $done:expr) => {
        $self.answer($asked, move |$filesystem, asked| async move {
            match $call.await {
                Ok($value) => {
                    asked.done();
                    $done
                }
                Err(error) => $reply.error(asked.failed(&error)),
            }
        })
    };
}

fn system(error: System) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

fn inode(number: INodeNo) -> Inode {
    Inode(number.0)
}

fn handle(number: FileHandle) -> Handle {
    Handle(number.0)
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// Returns the permission bits of a mode; the kernel has applied the umask.
fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

fn open_flags(flags: fuser::OpenFlags) -> OpenFlags {
    let has = |flag: rustix::fs::OFlags| flags.0 & flag.bits().cast_signed() != 0;
    let mode = flags.acc_mode();
    OpenFlags {
        read: mode != OpenAccMode::O_WRONLY,
        write: mode != OpenAccMode::O_RDONLY,
        append: has(rustix::fs::OFlags::APPEND),
        truncate: has(rustix::fs::OFlags::TRUNC),
        exclusive: has(rustix::fs::OFlags::EXCL),
    }
}

fn file_type(kind: FileKind) -> fuser::FileType {
    match kind {
        FileKind::File => fuser::FileType::RegularFile,
        FileKind::Directory => fuser::FileType::Directory,
        FileKind::Symlink => fuser::FileType::Symlink,
        FileKind::Fifo => fuser::FileType::NamedPipe,
        FileKind::Socket => fuser::FileType::Socket,
        FileKind::CharDevice => fuser::FileType::CharDevice,
        FileKind::BlockDevice => fuser::FileType::BlockDevice,
    }
}

fn attr(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode.0),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: attributes.accessed,
        mtime: attributes.modified,
        ctime: attributes.changed,
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: attributes.mode,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn opened_flags(opened: &Opened) -> FopenFlags {
    if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() }
}

fn entry(reply: ReplyEntry, timed: &TimedAttributes) {
    reply.entry_with_ttls(&timed.ttl, &timed.name_ttl, &attr(&timed.attributes), Generation(0));
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(time) => SetTime::At(time),
        TimeOrNow::Now => SetTime::Now,
    }
}

impl<F: Filesystem> fuser::Filesystem for Skin<F> {
    fn destroy(&mut self) {
        self.end.send_replace(true);
    }

    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // FUSE_CACHE_SYMLINKS is left out: the kernel would keep a target for as long as it keeps the link, even if it
        // changes meanwhile.
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        for capability in wanted {
            if config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "the kernel does not have it");
            }
        }
        // If the kernel allows less, it returns the limit.
        if let Err(allowed) = config.set_max_write(self.max_write) {
            let _ = config.set_max_write(allowed);
        }
        if let Err(allowed) = config.set_max_background(MAX_BACKGROUND) {
            let _ = config.set_max_background(allowed);
        }
        let _ = config.set_time_granularity(Duration::from_nanos(1));
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let asked = self.asked(Operation::Lookup, parent, None).naming(name);
        let (parent, name) = (inode(parent), name.to_owned());
        self.answer(asked, move |fs, asked| async move {
            match fs.lookup(parent, &name).await {
                Ok(LookupReply::Found(timed)) => {
                    asked.done();
                    entry(reply, &timed);
                }
                Ok(LookupReply::Missing(ttl)) => match asked.refused(System::NOENT) {
                    errno if ttl.is_zero() => reply.error(errno),
                    // A negative entry that the kernel may cache has inode 0.
                    _ => reply.entry(&ttl, &missing(), Generation(0)),
                },
                Err(error) => reply.error(asked.failed(&error)),
            }
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.filesystem.forget(inode(ino), count);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let asked = self.asked(Operation::Getattr, ino, fh);
        answer!(self, reply, asked, |fs| fs.getattr(inode(ino), fh.map(handle)), |timed| {
            reply.attr(&timed.ttl, &attr(&timed.attributes));
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        fh: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_mac: Option<SystemTime>,
        _backup: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttributes {
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            accessed: accessed.map(set_time),
            modified: modified.map(set_time),
        };
        let caller = caller(request);
        let asked = self.asked(Operation::Setattr, ino, fh);
        answer!(self, reply, asked, |fs| fs.setattr(inode(ino), fh.map(handle), set, caller), |timed| {
            reply.attr(&timed.ttl, &attr(&timed.attributes));
        });
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let asked = self.asked(Operation::Readlink, ino, None);
        answer!(self, reply, asked, |fs| fs.readlink(inode(ino)), |target| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        // Only regular files are supported: devices, pipes and sockets can't be created over SFTP.
        let asked = self.asked(Operation::Mknod, parent, None).naming(name);
        let kind = rustix::fs::FileType::from_raw_mode(mode);
        if !matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown) {
            return reply.error(asked.refused(System::PERM));
        }
        let (parent, name, caller) = (inode(parent), name.to_owned(), caller(request));
        let flags = OpenFlags { read: true, write: true, append: false, truncate: false, exclusive: true };
        self.answer(asked, move |fs, asked| async move {
            let made = async {
                let (timed, opened) = fs.create(parent, &name, permissions(mode), flags, caller).await?;
                let inode = timed.attributes.inode;
                let flushed = fs.flush(inode, opened.handle).await;
                fs.release(inode, opened.handle).await;
                flushed.inspect_err(|_| fs.forget(inode, 1)).map(|()| timed)
            };
            match made.await {
                Ok(timed) => {
                    asked.done();
                    entry(reply, &timed);
                }
                Err(error) => reply.error(asked.failed(&error)),
            }
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let asked = self.asked(Operation::Mkdir, parent, None).naming(name);
        let (name, caller) = (name.to_owned(), caller(request));
        answer!(
            self,
            reply,
            asked,
            |fs| fs.mkdir(inode(parent), &name, permissions(mode), caller),
            |timed| {
                entry(reply, &timed);
            }
        );
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let asked = self.asked(Operation::Unlink, parent, None).naming(name);
        let name = name.to_owned();
        answer!(self, reply, asked, |fs| fs.unlink(inode(parent), &name), |()| reply.ok());
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let asked = self.asked(Operation::Rmdir, parent, None).naming(name);
        let name = name.to_owned();
        answer!(self, reply, asked, |fs| fs.rmdir(inode(parent), &name), |()| reply.ok());
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let asked = self.asked(Operation::Symlink, parent, None).naming(name);
        let (name, target, caller) = (name.to_owned(), target.as_os_str().to_owned(), caller(request));
        answer!(self, reply, asked, |fs| fs.symlink(inode(parent), &name, &target, caller), |timed| {
            entry(reply, &timed);
        });
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(Operation::Rename, parent, None).naming(name).to(inode(new_parent), new_name);
        let mode = if flags.is_empty() {
            RenameMode::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameMode::NoReplace
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            RenameMode::Exchange
        } else {
            return reply.error(asked.refused(System::INVAL));
        };
        let (parent, name, new_parent) = (inode(parent), name.to_owned(), inode(new_parent));
        let new_name = new_name.to_owned();
        answer!(self, reply, asked, |fs| fs.rename(parent, &name, new_parent, &new_name, mode), |()| reply
            .ok());
    }

    fn link(
        &self,
        _request: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let asked = self.asked(Operation::Link, ino, None).to(inode(new_parent), new_name);
        let new_name = new_name.to_owned();
        answer!(self, reply, asked, |fs| fs.link(inode(ino), inode(new_parent), &new_name), |timed| {
            entry(reply, &timed);
        });
    }

    fn open(&self, _request: &Request, ino: INodeNo, flags: fuser::OpenFlags, reply: ReplyOpen) {
        let asked = self.asked(Operation::Open, ino, None);
        answer!(self, reply, asked, |fs| fs.open(inode(ino), open_flags(flags)), |opened| {
            reply.opened(FileHandle(opened.handle.0), opened_flags(&opened));
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let asked = self.asked(Operation::Create, parent, None).naming(name);
        let (parent, name, caller) = (inode(parent), name.to_owned(), caller(request));
        let flags = open_flags(fuser::OpenFlags(flags));
        answer!(
            self,
            reply,
            asked,
            |fs| fs.create(parent, &name, permissions(mode), flags, caller),
            |(timed, opened)| {
                let handle = FileHandle(opened.handle.0);
                let ttl = timed.ttl.min(timed.name_ttl);
                reply.created(&ttl, &attr(&timed.attributes), Generation(0), handle, opened_flags(&opened));
            }
        );
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: fuser::OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let asked = self.asked(Operation::Read, ino, Some(fh));
        answer!(self, reply, asked, |fs| fs.read(inode(ino), handle(fh), offset, size), |data| reply
            .data(&data));
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: fuser::OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = Bytes::copy_from_slice(data);
        // A page of a shared mapping has its offset, whatever the handle.
        let appends = open_flags(flags).append && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let asked = self.asked(Operation::Write, ino, Some(fh));
        answer!(self, reply, asked, |fs| fs.write(inode(ino), handle(fh), offset, data, appends), |count| {
            reply.written(count);
        });
    }

    fn flush(&self, _request: &Request, ino: INodeNo, fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let asked = self.asked(Operation::Flush, ino, Some(fh));
        answer!(self, reply, asked, |fs| fs.flush(inode(ino), handle(fh)), |()| reply.ok());
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: fuser::OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(Operation::Release, ino, Some(fh));
        self.answer(asked, move |fs, asked| async move {
            fs.release(inode(ino), handle(fh)).await;
            asked.done();
            reply.ok();
        });
    }

    fn fsync(&self, _request: &Request, ino: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let asked = self.asked(Operation::Fsync, ino, Some(fh));
        answer!(self, reply, asked, |fs| fs.fsync(inode(ino), handle(fh), data_only), |()| reply.ok());
    }

    fn fallocate(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(Operation::Fallocate, ino, Some(fh));
        answer!(self, reply, asked, |fs| fs.fallocate(inode(ino), handle(fh), offset, length, mode), |()| {
            reply.ok()
        });
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: fuser::OpenFlags, reply: ReplyOpen) {
        let asked = self.asked(Operation::Opendir, ino, None);
        answer!(self, reply, asked, |fs| fs.opendir(inode(ino)), |handle| {
            reply.opened(FileHandle(handle.0), FopenFlags::empty());
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let asked = self.asked(Operation::Readdir, ino, Some(fh));
        answer!(
            self,
            reply,
            asked,
            |fs| async {
                for (name, position) in dots(offset) {
                    if reply.add(ino, position, fuser::FileType::Directory, name) {
                        return Ok::<(), F::Error>(());
                    }
                }
                let mut at = offset.saturating_sub(DOTS);
                loop {
                    let entries = fs.readdir(inode(ino), handle(fh), at, false).await?;
                    if entries.is_empty() {
                        return Ok(());
                    }
                    for DirectoryEntry { name, attributes: TimedAttributes { attributes, .. } } in entries {
                        at += 1;
                        let number = INodeNo(attributes.inode.0);
                        if reply.add(number, at + DOTS, file_type(attributes.kind), name) {
                            return Ok(());
                        }
                    }
                }
            },
            |()| reply.ok()
        );
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let asked = self.asked(Operation::Readdir, ino, Some(fh));
        answer!(
            self,
            reply,
            asked,
            |fs| async {
                for (name, position) in dots(offset) {
                    let mut dot = missing();
                    (dot.ino, dot.kind) = (ino, fuser::FileType::Directory);
                    if reply.add(ino, position, name, &Duration::ZERO, &dot, Generation(0)) {
                        return Ok::<(), F::Error>(());
                    }
                }
                let mut at = offset.saturating_sub(DOTS);
                loop {
                    let entries = fs.readdir(inode(ino), handle(fh), at, true).await?;
                    if entries.is_empty() {
                        return Ok(());
                    }
                    let mut full = false;
                    for DirectoryEntry { name, attributes: timed } in entries {
                        at += 1;
                        let number = INodeNo(timed.attributes.inode.0);
                        // An entry that does not fit was counted as looked up, but the kernel will never forget it.
                        full = full
                            || reply.add(
                                number,
                                at + DOTS,
                                name,
                                &timed.ttl.min(timed.name_ttl),
                                &attr(&timed.attributes),
                                Generation(0),
                            );
                        if full {
                            fs.forget(timed.attributes.inode, 1);
                        }
                    }
                    if full {
                        return Ok(());
                    }
                }
            },
            |()| reply.ok()
        );
    }

    fn fsyncdir(&self, _request: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let asked = self.asked(Operation::Fsyncdir, ino, Some(fh));
        answer!(self, reply, asked, |fs| fs.fsyncdir(inode(ino), handle(fh)), |()| reply.ok());
    }

    fn releasedir(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: fuser::OpenFlags,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(Operation::Releasedir, ino, Some(fh));
        self.answer(asked, move |fs, asked| async move {
            fs.releasedir(inode(ino), handle(fh)).await;
            asked.done();
            reply.ok();
        });
    }

    fn statfs(&self, _request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let asked = self.asked(Operation::Statfs, ino, None);
        answer!(self, reply, asked, |fs| fs.statfs(inode(ino)), |s| {
            reply.statfs(
                s.blocks,
                s.blocks_free,
                s.blocks_available,
                s.files,
                s.files_free,
                s.block_size,
                s.name_max,
                s.block_size,
            );
        });
    }

    // The kernel remembers ENOSYS and does not send these again: extended attributes are not supported, the kernel
    // checks permissions itself (`default_permissions`), and has a generic implementation of seeking for holes.

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(system(System::NOSYS));
    }

    fn getxattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(system(System::NOSYS));
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(system(System::NOSYS));
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(system(System::NOSYS));
    }

    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(system(System::NOSYS));
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(system(System::NOSYS));
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(system(System::NOTTY));
    }
}

/// Returns attributes of no node: inode 0.
fn missing() -> FileAttr {
    attr(&Attributes {
        inode: Inode(0),
        kind: FileKind::File,
        size: 0,
        mode: 0,
        links: 0,
        uid: 0,
        gid: 0,
        accessed: SystemTime::UNIX_EPOCH,
        modified: SystemTime::UNIX_EPOCH,
        changed: SystemTime::UNIX_EPOCH,
    })
}

/// Returns `.` and `..` from position `offset` on, each with the position behind it.
fn dots(offset: u64) -> impl Iterator<Item = (OsString, u64)> {
    [(OsString::from("."), 1), (OsString::from(".."), 2)]
        .into_iter()
        .filter(move |(_, position)| *position > offset)
}

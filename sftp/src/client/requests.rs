//! A typed method for each request of the protocol.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::FuturesOrdered;

use super::error::{SftpError, StatusCode};
use super::lane::Lane;
use super::names::NoRoom;
use super::open::FileHandle;
use super::packet::{
    NameEntry, NamesReply, Reply, RequestPacket, SftpAttributes, SftpSetAttributes, decode_numbers, kind,
};
use super::road::ReservedRoom;

/// The file-type bits of a mode, and their value for a symbolic link (inode(7)).
const FILE_TYPE: u32 = 0o170_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// The longest path, and the longest target of a link, that is accepted from a server (`PATH_MAX` of Linux).
const PATH_MAX: usize = 4096;
/// A listing may take one more deadline for each of so many names: OpenSSH sends them in a hundred replies.
const NAMES_PER_DEADLINE: usize = 10_000;
/// READDIRs on one handle at the start: most directories end with the second.
const READDIRS_FIRST: usize = 2;
/// READDIRs on one handle at a time after that: 5,000 names take four round trips. Requests behind the end cost a few
/// bytes.
const READDIRS_MORE: usize = 64;
/// Names in each of OpenSSH's replies.
const NAMES_PER_READDIR: usize = 100;
/// Bytes of names that one listing has under way at a time, if the replies to come are as long as those before:
/// OpenSSH's are some 10 KiB.
const NAMES_UNDER_WAY: usize = 2 * 1024 * 1024;

/// Which argument of SYMLINK a server takes for the new link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOrder {
    /// The second, as OpenSSH does and all servers that were made to its measure.
    TargetFirst,
    /// The first, as the draft says (section 6.10).
    PathFirst,
}

/// Capacity of a file system (`statvfs@openssh.com`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Unit of the block counts, bytes.
    pub block_size: u64,
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
    pub name_max: u64,
    /// Whether it is read-only.
    pub read_only: bool,
    /// The file system's id (`f_fsid`); 0 where the server's system has none.
    pub file_system: u64,
}

impl Lane {
    pub(super) fn unexpected(&self, request: &str) -> SftpError {
        self.broken(format!("the reply to {request} is of another kind"))
    }

    pub(super) fn done(&self, reply: &Reply, request: &str) -> Result<(), SftpError> {
        if matches!(reply, Reply::Status { .. }) { Ok(()) } else { Err(self.unexpected(request)) }
    }

    fn offered(&self, extension: &'static str) -> Result<(), SftpError> {
        if self.offers(extension.as_bytes()) { Ok(()) } else { Err(SftpError::NotOffered(extension)) }
    }

    /// Reads `length` bytes from `offset`: fewer only at the end of the file.
    ///
    /// All pieces, each as long as the server accepts, are requested at once.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn read_at(&self, handle: &FileHandle, offset: u64, length: usize) -> Result<Bytes, SftpError> {
        self.read_pieces(handle, offset, length, None).await
    }

    /// Reads like [`Self::read_at`], but ahead of any program's request: it uses part of `room`, which was
    /// [reserved](Self::room_ahead) before.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn read_ahead(
        &self,
        handle: &FileHandle,
        offset: u64,
        length: usize,
        room: &ReservedRoom,
    ) -> Result<Bytes, SftpError> {
        let read = self.read_pieces(handle, offset, length, Some(room)).await?;
        room.arrived(read.len());
        Ok(read)
    }

    async fn read_pieces(
        &self,
        handle: &FileHandle,
        offset: u64,
        length: usize,
        room: Option<&ReservedRoom>,
    ) -> Result<Bytes, SftpError> {
        let piece = self.limits().read_len as usize;
        if length <= piece {
            return self.read_piece(handle, offset, length, room).await;
        }
        let pieces = (0..length).step_by(piece).map(|start| {
            let at = offset.saturating_add(start as u64);
            self.read_piece(handle, at, piece.min(length - start), room)
        });
        let pieces = try_join_all(pieces).await?;
        let mut whole = BytesMut::with_capacity(length);
        for (index, data) in pieces.iter().enumerate() {
            whole.extend_from_slice(data);
            // Data behind the first end does not count, even if the file grew meanwhile.
            if data.len() < piece.min(length - index * piece) {
                break;
            }
        }
        Ok(whole.freeze())
    }

    /// Returns the attributes of an open file and its first `length` bytes (all, if it is shorter), in one round trip:
    /// with the length from the attributes no request for the end is needed. Read-ahead uses part of `room`, which was
    /// [reserved](Self::room_ahead) before.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn read_start(
        &self,
        handle: &FileHandle,
        length: usize,
        room: Option<&ReservedRoom>,
    ) -> Result<(SftpAttributes, Bytes), SftpError> {
        let piece = length.min(self.limits().read_len as usize);
        let (attributes, start) = futures::join!(self.fstat(handle), self.read_once(handle, 0, piece, room));
        let (attributes, start) = (attributes?, start?.unwrap_or_default());
        if let Some(room) = room {
            room.arrived(start.len());
        }
        let size = usize::try_from(attributes.size.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        if start.is_empty() || start.len() >= length.min(size) {
            return Ok((attributes, start));
        }
        let (at, missing) = (start.len() as u64, length - start.len());
        let rest = self.read_pieces(handle, at, missing, room).await?;
        Ok((attributes, [start, rest].concat().into()))
    }

    /// Reads one piece, requesting again the part that a short reply left out.
    async fn read_piece(
        &self,
        handle: &FileHandle,
        offset: u64,
        length: usize,
        room: Option<&ReservedRoom>,
    ) -> Result<Bytes, SftpError> {
        let first = match self.read_once(handle, offset, length, room).await? {
            Some(data) if data.len() < length => data,
            whole => return Ok(whole.unwrap_or_default()),
        };
        // A server that sends single bytes gets no more time for all of them than for one.
        self.in_time(async {
            let mut whole = BytesMut::with_capacity(length);
            whole.extend_from_slice(&first);
            while whole.len() < length {
                let (at, missing) = (offset.saturating_add(whole.len() as u64), length - whole.len());
                let Some(rest) = self.read_once(handle, at, missing, room).await? else { break };
                whole.extend_from_slice(&rest);
            }
            Ok(whole.freeze())
        })
        .await
    }

    async fn read_once(
        &self,
        handle: &FileHandle,
        offset: u64,
        length: usize,
        room: Option<&ReservedRoom>,
    ) -> Result<Option<Bytes>, SftpError> {
        let asked = u32::try_from(length).unwrap_or(u32::MAX);
        let by = handle.to_read()?;
        let build = |request: RequestPacket| request.string(by).u64(offset).u32(asked);
        let reply = match room {
            Some(_) => self.request_ahead(build).await,
            None => self.request_content(length, build).await,
        };
        match reply {
            Ok(Reply::Data(data)) if data.len() > length => {
                Err(self.broken(format!("{} bytes where {length} were asked for", data.len())))
            }
            Ok(Reply::Data(data)) if data.is_empty() => Ok(None),
            Ok(Reply::Data(data)) => Ok(Some(data)),
            Ok(_) => Err(self.unexpected("READ")),
            Err(error) if error.code() == Some(StatusCode::Eof) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes all of `data` at `offset`: in one message if the server takes that much, else in several at once.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn write_at(&self, handle: &FileHandle, offset: u64, data: &Bytes) -> Result<(), SftpError> {
        let piece = self.limits().write_len as usize;
        let pieces = (0..data.len()).step_by(piece).map(|start| {
            let piece = data.slice(start..data.len().min(start + piece));
            self.write_piece(handle, offset.saturating_add(start as u64), piece)
        });
        try_join_all(pieces).await.map(drop)
    }

    async fn write_piece(&self, handle: &FileHandle, offset: u64, data: Bytes) -> Result<(), SftpError> {
        let reply = self
            .send_content(data.len(), |request| request.string(&handle.bytes).u64(offset).string(&data))
            .await?;
        self.done(&reply, "WRITE")
    }

    async fn attributes(&self, kind: u8, what: &[u8], name: &str) -> Result<SftpAttributes, SftpError> {
        match self.request(kind, |request| request.string(what)).await? {
            Reply::Attributes(attributes) => Ok(attributes),
            _ => Err(self.unexpected(name)),
        }
    }

    /// Returns the attributes of a path; links are not followed.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn lstat(&self, path: &[u8]) -> Result<SftpAttributes, SftpError> {
        self.attributes(kind::LSTAT, path, "LSTAT").await
    }

    /// Returns the attributes of an open file.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn fstat(&self, handle: &FileHandle) -> Result<SftpAttributes, SftpError> {
        self.attributes(kind::FSTAT, &handle.bytes, "FSTAT").await
    }

    /// Changes the attributes of a path that is no symbolic link, or of the link itself.
    ///
    /// # Errors
    ///
    /// As all requests; [`SftpError::NotOffered`] for a link, if the server can only change what it leads to, and for
    /// the size of one.
    pub async fn set_attributes(&self, path: &[u8], set: &SftpSetAttributes) -> Result<(), SftpError> {
        const NAME: &str = "lsetstat@openssh.com";
        // The extension does not take a size.
        let refused = if set.size.is_none() && self.offers(NAME.as_bytes()) {
            let reply = self
                .request(kind::EXTENDED, |request| {
                    request.string(NAME.as_bytes()).string(path).attributes(set)
                })
                .await;
            let result = reply.and_then(|reply| self.done(&reply, NAME));
            // The C library changes modes without following links through /proc, which a chroot lacks: a file that is
            // not a link can be changed the ordinary way.
            match result {
                Err(error) if error.code() == Some(StatusCode::Failure) && set.permissions.is_some() => error,
                result => return result,
            }
        } else {
            SftpError::NotOffered(NAME)
        };
        let is_link = |mode: u32| mode & FILE_TYPE == SYMBOLIC_LINK;
        if self.lstat(path).await?.permissions.is_none_or(is_link) {
            return Err(refused);
        }
        let reply = self.request(kind::SETSTAT, |request| request.string(path).attributes(set)).await?;
        self.done(&reply, "SETSTAT")
    }

    /// Changes attributes of an open file.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn set_open_attributes(
        &self,
        handle: &FileHandle,
        set: &SftpSetAttributes,
    ) -> Result<(), SftpError> {
        let reply =
            self.request(kind::FSETSTAT, |request| request.string(&handle.bytes).attributes(set)).await?;
        self.done(&reply, "FSETSTAT")
    }

    /// Waits until the server has a file on disk.
    ///
    /// # Errors
    ///
    /// As all requests; [`SftpError::NotOffered`].
    pub async fn fsync(&self, handle: &FileHandle) -> Result<(), SftpError> {
        const NAME: &str = "fsync@openssh.com";
        self.offered(NAME)?;
        let reply = self
            .request(kind::EXTENDED, |request| request.string(NAME.as_bytes()).string(&handle.bytes))
            .await?;
        self.done(&reply, NAME)
    }

    /// Returns all names in a directory, with `.` and `..`.
    ///
    /// # Errors
    ///
    /// As [`Self::list_each`].
    pub async fn list(&self, path: &[u8]) -> Result<Vec<NameEntry>, SftpError> {
        /// Memory of an entry beside the bytes of its name.
        const ENTRY: usize = size_of::<NameEntry>() + 32;
        let mut names = Vec::new();
        let mut held = self.shared.names().nothing();
        self.list_each(path, usize::MAX, &mut |NameEntry { name, attributes }| {
            held.grow((name.len() + ENTRY) as u64)?;
            // The name is copied: a kept name must not keep a whole packet.
            names.push(NameEntry { name: Bytes::copy_from_slice(&name), attributes });
            Ok(())
        })
        .await?;
        Ok(names)
    }

    /// Passes each name in a directory, with `.` and `..`, to the caller as it comes, unless there are more than
    /// `most`.
    ///
    /// # Errors
    ///
    /// As all requests; [`SftpError::TooManyNames`] if there are more; [`SftpError::NoRoom`] if there is no memory for
    /// them, here or where they go; [`SftpError::Timeout`] if it does not end.
    pub async fn list_each(
        &self,
        path: &[u8],
        most: usize,
        each: &mut (dyn FnMut(NameEntry) -> Result<(), NoRoom> + Send),
    ) -> Result<(), SftpError> {
        let handle = self.request(kind::OPENDIR, |request| request.string(path)).await?;
        let handle = self.handle(handle, "OPENDIR")?;
        let (mut count, mut longest) = (0, 1);
        let mut at_once = READDIRS_FIRST;
        let began = Instant::now();
        loop {
            let mut asked: FuturesOrdered<_> = (0..at_once).map(|_| self.read_directory(&handle)).collect();
            let mut ended = false;
            while let Some(batch) = asked.next().await {
                let Some(batch) = batch? else {
                    ended = true;
                    continue;
                };
                count += batch.len();
                longest = longest.max(batch.bytes());
                batch.into_iter().try_for_each(&mut *each)?;
            }
            if ended {
                break;
            }
            if count > most {
                return Err(SftpError::TooManyNames(most));
            }
            let deadlines = 1 + u32::try_from(count / NAMES_PER_DEADLINE).unwrap_or(u32::MAX);
            if began.elapsed() > self.deadline() * deadlines {
                return Err(SftpError::Timeout(self.deadline()));
            }
            at_once = READDIRS_MORE
                .min((most - count) / NAMES_PER_READDIR + 2)
                .min(NAMES_UNDER_WAY / longest)
                .max(1);
        }
        // The names are valid whether or not closing went well.
        drop(handle);
        Ok(())
    }

    async fn read_directory(&self, handle: &FileHandle) -> Result<Option<NamesReply>, SftpError> {
        match self.request(kind::READDIR, |request| request.string(&handle.bytes)).await {
            // Replies without names and without an end would go on for ever.
            Ok(Reply::Name(names)) if names.len() == 0 => Ok(None),
            Ok(Reply::Name(names)) => Ok(Some(names)),
            Ok(_) => Err(self.unexpected("READDIR")),
            Err(error) if error.code() == Some(StatusCode::Eof) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn remove(&self, path: &[u8]) -> Result<(), SftpError> {
        self.done(&self.request(kind::REMOVE, |request| request.string(path)).await?, "REMOVE")
    }

    /// Creates a directory.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn mkdir(&self, path: &[u8], attributes: &SftpSetAttributes) -> Result<(), SftpError> {
        let reply = self.request(kind::MKDIR, |request| request.string(path).attributes(attributes)).await?;
        self.done(&reply, "MKDIR")
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn rmdir(&self, path: &[u8]) -> Result<(), SftpError> {
        self.done(&self.request(kind::RMDIR, |request| request.string(path)).await?, "RMDIR")
    }

    /// Returns the absolute form of a path.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn realpath(&self, path: &[u8]) -> Result<Bytes, SftpError> {
        self.one_name(kind::REALPATH, path, "REALPATH").await
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn readlink(&self, path: &[u8]) -> Result<Bytes, SftpError> {
        self.one_name(kind::READLINK, path, "READLINK").await
    }

    async fn one_name(&self, kind: u8, path: &[u8], name: &str) -> Result<Bytes, SftpError> {
        match self.request(kind, |request| request.string(path)).await? {
            Reply::Name(mut names) => {
                let name = names.next().map(|entry| entry.name).ok_or_else(|| self.unexpected(name))?;
                if name.len() > PATH_MAX {
                    return Err(SftpError::PathTooLong);
                }
                // The path is copied: a kept path must not keep a whole packet.
                Ok(Bytes::copy_from_slice(&name))
            }
            _ => Err(self.unexpected(name)),
        }
    }

    /// Creates the symbolic link `path`.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn symlink(&self, target: &[u8], path: &[u8], order: LinkOrder) -> Result<(), SftpError> {
        let (first, second) = match order {
            LinkOrder::TargetFirst => (target, path),
            LinkOrder::PathFirst => (path, target),
        };
        let reply = self.request(kind::SYMLINK, |request| request.string(first).string(second)).await?;
        self.done(&reply, "SYMLINK")
    }

    /// Renames; the target must be free (section 6.5 of the draft).
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), SftpError> {
        let reply = self.request(kind::RENAME, |request| request.string(from).string(to)).await?;
        self.done(&reply, "RENAME")
    }

    /// Renames as rename(2) does, replacing the target.
    ///
    /// # Errors
    ///
    /// As all requests; [`SftpError::NotOffered`].
    pub async fn posix_rename(&self, from: &[u8], to: &[u8]) -> Result<(), SftpError> {
        self.two_paths("posix-rename@openssh.com", from, to).await
    }

    /// Creates a hard link `new` to `existing`.
    ///
    /// # Errors
    ///
    /// As all requests; [`SftpError::NotOffered`].
    pub async fn hard_link(&self, existing: &[u8], new: &[u8]) -> Result<(), SftpError> {
        self.two_paths("hardlink@openssh.com", existing, new).await
    }

    async fn two_paths(&self, extension: &'static str, first: &[u8], second: &[u8]) -> Result<(), SftpError> {
        self.offered(extension)?;
        let reply = self
            .request(kind::EXTENDED, |request| {
                request.string(extension.as_bytes()).string(first).string(second)
            })
            .await?;
        self.done(&reply, extension)
    }

    /// Returns the capacity of the file system that a path lies on.
    ///
    /// # Errors
    ///
    /// As all requests; [`SftpError::NotOffered`].
    pub async fn statistics(&self, path: &[u8]) -> Result<Statistics, SftpError> {
        const NAME: &str = "statvfs@openssh.com";
        self.offered(NAME)?;
        let reply =
            self.request(kind::EXTENDED, |request| request.string(NAME.as_bytes()).string(path)).await?;
        let Reply::Extended(numbers) = reply else { return Err(self.unexpected(NAME)) };
        let [
            _bsize,
            block_size,
            blocks,
            blocks_free,
            blocks_available,
            files,
            files_free,
            _favail,
            file_system,
            flags,
            name_max,
        ] = decode_numbers(numbers)?;
        // SSH2_FXE_STATVFS_ST_RDONLY
        let read_only = flags & 1 != 0;
        Ok(Statistics {
            block_size,
            blocks,
            blocks_free,
            blocks_available,
            files,
            files_free,
            name_max,
            read_only,
            file_system,
        })
    }
}

//! The SFTP side: requests of version 3 (draft-ietf-secsh-filexfer-02) and OpenSSH's extensions, answered from a
//! [`Remote`].
//!
//! To clients its directory is `/`, and `..` ends there. Links are shown and never followed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh_sftp::protocol::{
    Attrs, Data, ExtendedReply, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode,
    Version,
};
use russh_sftp::server::{Handler, StatusReply};
use scaup_remote::{
    Remote, RemoteAttributes, RemoteEntry, RemoteError, RemoteFile, RemoteKind, RemoteName, RemoteOpen,
    RemotePath, RemoteSetAttributes, RenameHow,
};

/// Longest packet that is taken, bytes: what the library reads.
const PACKET_MAX: u64 = 256 * 1024;
/// Most content in one READ or WRITE, bytes: OpenSSH's own limit.
const CONTENT_MAX: u32 = 255 * 1024;
/// Files and directories that a client may have open at a time.
const HANDLES_MAX: usize = 1000;
/// Names in one answer to READDIR: OpenSSH's own number.
const NAMES_AT_ONCE: usize = 100;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
const HARDLINK: &str = "hardlink@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
const STATVFS: &str = "statvfs@openssh.com";
const LIMITS: &str = "limits@openssh.com";

/// One SFTP channel.
pub(crate) struct SftpSession {
    files: Arc<dyn Remote>,
    open: HashMap<String, Open>,
    opened: u64,
}

enum Open {
    File(Arc<dyn RemoteFile>),
    Directory(std::vec::IntoIter<RemoteEntry>),
}

impl SftpSession {
    pub(crate) fn new(files: Arc<dyn Remote>) -> Self {
        Self { files, open: HashMap::new(), opened: 0 }
    }

    /// The library keeps handles as text, so they are numbers in ASCII.
    fn hold(&mut self, id: u32, open: Open) -> Result<Handle, StatusReply> {
        if self.open.len() >= HANDLES_MAX {
            return Err(StatusCode::Failure.with_message("too many open files"));
        }
        self.opened += 1;
        let handle = self.opened.to_string();
        self.open.insert(handle.clone(), open);
        Ok(Handle { id, handle })
    }

    fn file(&self, handle: &str) -> Result<Arc<dyn RemoteFile>, StatusReply> {
        match self.open.get(handle) {
            Some(Open::File(file)) => Ok(Arc::clone(file)),
            _ => Err(StatusCode::Failure.with_message("no open file has this handle")),
        }
    }

    async fn open_file(
        &self,
        path: &RemotePath,
        flags: OpenFlags,
        mode: u16,
    ) -> Result<Arc<dyn RemoteFile>, RemoteError> {
        let how = if flags.contains(OpenFlags::WRITE) { RemoteOpen::ReadWrite } else { RemoteOpen::Read };
        let file = if flags.contains(OpenFlags::CREATE) {
            match self.files.open(path, RemoteOpen::CreateNew(mode)).await {
                Err(RemoteError::Exists) if !flags.contains(OpenFlags::EXCLUDE) => {
                    self.files.open(path, how).await?
                }
                made => made?,
            }
        } else {
            self.files.open(path, how).await?
        };
        if flags.contains(OpenFlags::TRUNCATE) {
            file.set_attributes(RemoteSetAttributes { size: Some(0), ..Default::default() }).await?;
        }
        Ok(file)
    }

    async fn extension(&self, id: u32, name: &str, mut data: &[u8]) -> Result<Packet, StatusReply> {
        match name {
            POSIX_RENAME => {
                let (from, to) = (take_path(&mut data)?, take_path(&mut data)?);
                self.files.rename(&from, &to, RenameHow::Replace).await.map_err(refused)?;
            }
            HARDLINK => {
                let (existing, new) = (take_path(&mut data)?, take_path(&mut data)?);
                self.files.hard_link(&existing, &new).await.map_err(refused)?;
            }
            FSYNC => {
                let file = self.file(&take_text(&mut data)?)?;
                file.fsync().await.map_err(refused)?;
            }
            STATVFS => {
                let s = self.files.statistics(&take_path(&mut data)?).await.map_err(refused)?;
                let numbers = [
                    s.block_size,
                    s.block_size,
                    s.blocks,
                    s.blocks_free,
                    s.blocks_available,
                    s.files,
                    s.files_free,
                    s.files_free,
                    0,
                    0,
                    s.name_max,
                ];
                return Ok(numbers_reply(id, &numbers));
            }
            LIMITS => {
                let content = u64::from(CONTENT_MAX);
                return Ok(numbers_reply(id, &[PACKET_MAX, content, content, HANDLES_MAX as u64]));
            }
            _ => return Err(StatusCode::OpUnsupported.into()),
        }
        Ok(done(id).into())
    }
}

/// What went wrong, in the codes and words that OpenSSH uses.
fn refused(error: RemoteError) -> StatusReply {
    let code = match error {
        RemoteError::NotFound => StatusCode::NoSuchFile,
        RemoteError::PermissionDenied => StatusCode::PermissionDenied,
        RemoteError::Unsupported(_) => StatusCode::OpUnsupported,
        RemoteError::NameTooLong => StatusCode::BadMessage,
        _ => StatusCode::Failure,
    };
    code.with_message(error.to_string())
}

fn done(id: u32) -> Status {
    Status {
        id,
        status_code: StatusCode::Ok,
        error_message: "Success".to_owned(),
        language_tag: String::new(),
    }
}

fn numbers_reply(id: u32, numbers: &[u64]) -> Packet {
    let data = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    ExtendedReply { id, data }.into()
}

/// A string of the protocol: its length in four bytes, then that many bytes.
fn take_text(data: &mut &[u8]) -> Result<String, StatusReply> {
    let taken = data.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        Some((String::from_utf8(text.to_vec()).ok()?, rest))
    });
    let (text, rest) = taken.ok_or(StatusReply::new(StatusCode::BadMessage))?;
    *data = rest;
    Ok(text)
}

fn take_path(data: &mut &[u8]) -> Result<RemotePath, StatusReply> {
    path(&take_text(data)?)
}

/// A client's path, absolute or not, as one below the directory: `..` goes up by name, and no higher than it.
fn path(text: &str) -> Result<RemotePath, StatusReply> {
    text.split('/').try_fold(RemotePath::root(), |at, part| match part {
        "" | "." => Ok(at),
        ".." => Ok(at.split().map(|(above, _)| above).unwrap_or_default()),
        name => {
            let name = RemoteName::parse(name.as_bytes()).ok_or(RemoteError::NameTooLong).map_err(refused)?;
            Ok(at.join(&name))
        }
    })
}

fn seconds(time: SystemTime) -> u32 {
    u32::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(u32::MAX)
}

fn to_wire(attributes: &RemoteAttributes) -> FileAttributes {
    let kind = match attributes.kind {
        RemoteKind::File => 0o100_000,
        RemoteKind::Directory => 0o040_000,
        RemoteKind::Symlink => 0o120_000,
        RemoteKind::Fifo => 0o010_000,
        RemoteKind::Socket => 0o140_000,
        RemoteKind::CharDevice => 0o020_000,
        RemoteKind::BlockDevice => 0o060_000,
    };
    FileAttributes {
        size: Some(attributes.size),
        uid: Some(attributes.uid),
        gid: Some(attributes.gid),
        permissions: Some(kind | u32::from(attributes.mode)),
        atime: Some(seconds(attributes.accessed)),
        mtime: Some(seconds(attributes.modified)),
        ..FileAttributes::default()
    }
}

fn mode(attributes: &FileAttributes) -> Option<u16> {
    attributes.permissions.and_then(|bits| u16::try_from(bits & 0o7777).ok())
}

fn from_wire(attributes: &FileAttributes) -> RemoteSetAttributes {
    let time = |seconds: u32| UNIX_EPOCH + Duration::from_secs(u64::from(seconds));
    RemoteSetAttributes {
        size: attributes.size,
        owner: attributes.uid.zip(attributes.gid),
        mode: mode(attributes),
        times: attributes.atime.zip(attributes.mtime).map(|(a, m)| (time(a), time(m))),
    }
}

fn one_name(id: u32, name: String) -> Name {
    Name { id, files: vec![File::dummy(name)] }
}

impl Handler for SftpSession {
    type Error = StatusReply;

    fn unimplemented(&self) -> StatusReply {
        StatusCode::OpUnsupported.into()
    }

    async fn init(
        &mut self,
        _version: u32,
        _extensions: HashMap<String, String>,
    ) -> Result<Version, StatusReply> {
        let mut version = Version::new();
        for (name, number) in
            [(POSIX_RENAME, "1"), (HARDLINK, "1"), (FSYNC, "1"), (STATVFS, "2"), (LIMITS, "1")]
        {
            version.extensions.insert(name.to_owned(), number.to_owned());
        }
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        filename: String,
        pflags: OpenFlags,
        attrs: FileAttributes,
    ) -> Result<Handle, StatusReply> {
        let mode = mode(&attrs).unwrap_or(0o644);
        let file = self.open_file(&path(&filename)?, pflags, mode).await.map_err(refused)?;
        self.hold(id, Open::File(file))
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, StatusReply> {
        match self.open.remove(&handle) {
            Some(Open::File(file)) => file.close().await.map_err(refused)?,
            Some(Open::Directory(_)) => {}
            None => return Err(StatusCode::Failure.with_message("nothing open has this handle")),
        }
        Ok(done(id))
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Result<Data, StatusReply> {
        let length = usize::try_from(len.min(CONTENT_MAX)).unwrap_or_default();
        let data = self.file(&handle)?.read_at(offset, length).await.map_err(refused)?;
        if data.is_empty() {
            return Err(StatusCode::Eof.into());
        }
        Ok(Data { id, data: data.to_vec() })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<Status, StatusReply> {
        self.file(&handle)?.write_at(offset, data.into()).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, StatusReply> {
        let attributes = self.files.stat(&self::path(&path)?).await.map_err(refused)?;
        Ok(Attrs { id, attrs: to_wire(&attributes) })
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, StatusReply> {
        self.lstat(id, path).await
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, StatusReply> {
        let attributes = self.file(&handle)?.stat().await.map_err(refused)?;
        Ok(Attrs { id, attrs: to_wire(&attributes) })
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, StatusReply> {
        self.files.set_attributes(&self::path(&path)?, from_wire(&attrs)).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn fsetstat(
        &mut self,
        id: u32,
        handle: String,
        attrs: FileAttributes,
    ) -> Result<Status, StatusReply> {
        self.file(&handle)?.set_attributes(from_wire(&attrs)).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, StatusReply> {
        let entries = self.files.list(&self::path(&path)?).await.map_err(refused)?;
        self.hold(id, Open::Directory(entries.into_iter()))
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, StatusReply> {
        let Some(Open::Directory(entries)) = self.open.get_mut(&handle) else {
            return Err(StatusCode::Failure.with_message("no open directory has this handle"));
        };
        let files: Vec<File> = entries
            .take(NAMES_AT_ONCE)
            .map(|entry| {
                File::new(String::from_utf8_lossy(entry.name.as_bytes()), to_wire(&entry.attributes))
            })
            .collect();
        if files.is_empty() { Err(StatusCode::Eof.into()) } else { Ok(Name { id, files }) }
    }

    async fn remove(&mut self, id: u32, filename: String) -> Result<Status, StatusReply> {
        self.files.remove(&path(&filename)?).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn mkdir(&mut self, id: u32, path: String, attrs: FileAttributes) -> Result<Status, StatusReply> {
        let mode = mode(&attrs).unwrap_or(0o755);
        self.files.mkdir(&self::path(&path)?, mode).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Result<Status, StatusReply> {
        self.files.rmdir(&self::path(&path)?).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn realpath(&mut self, id: u32, path: String) -> Result<Name, StatusReply> {
        let path = self::path(&path)?;
        Ok(one_name(id, format!("/{}", String::from_utf8_lossy(path.as_bytes()))))
    }

    async fn rename(&mut self, id: u32, oldpath: String, newpath: String) -> Result<Status, StatusReply> {
        let (from, to) = (path(&oldpath)?, path(&newpath)?);
        self.files.rename(&from, &to, RenameHow::New).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn readlink(&mut self, id: u32, path: String) -> Result<Name, StatusReply> {
        let target = self.files.readlink(&self::path(&path)?).await.map_err(refused)?;
        Ok(one_name(id, String::from_utf8_lossy(&target).into_owned()))
    }

    /// OpenSSH's clients, and ours, send the link's content first, against the draft.
    async fn symlink(
        &mut self,
        id: u32,
        linkpath: String,
        targetpath: String,
    ) -> Result<Status, StatusReply> {
        let (content, link) = (linkpath, path(&targetpath)?);
        self.files.symlink(&link, content.as_bytes()).await.map_err(refused)?;
        Ok(done(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Result<Packet, StatusReply> {
        self.extension(id, &request, &data).await
    }
}

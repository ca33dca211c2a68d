//! Opening and closing files: by one handle, or by two where a server is not known to read by a handle that also
//! writes. Programs of Go's `pkg/sftp` that open no files for both (`rclone serve sftp` 1.60) take a READ on such a
//! handle for a WRITE of zeros, and reply that it went well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::error::SftpError;
use super::lane::{Lane, Shared};
use super::packet::{Reply, SftpAttributes, SftpSetAttributes, kind};

/// What only servers offer that read by handles which also write: OpenSSH since 5.1, and those made to its measure.
const READS_WHILE_WRITING: &[u8] = b"fstatvfs@openssh.com";

const READ: u32 = 1;
const WRITE: u32 = 2;
const CREATE: u32 = 8;
const EXCLUSIVE: u32 = 0x20;

/// How to open a file (section 6.3 of the draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for writing.
    Write,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new file, for reading and writing; the name must be free.
    CreateNew,
}

/// By what a file is read.
enum Reading {
    /// The handle that it is also written by.
    Same,
    /// A handle of its own.
    Other(Bytes),
    /// Nothing: the server did not let it be opened for reading.
    Refused(SftpError),
}

/// An open file or directory. Dropping it closes it.
pub struct FileHandle {
    lane: Arc<Shared>,
    pub(super) bytes: Bytes,
    reading: Reading,
    closed: AtomicBool,
}

impl FileHandle {
    /// Returns what READ goes by.
    pub(super) fn to_read(&self) -> Result<&Bytes, SftpError> {
        match &self.reading {
            Reading::Same => Ok(&self.bytes),
            Reading::Other(bytes) => Ok(bytes),
            Reading::Refused(error) => Err(error.clone()),
        }
    }

    /// Returns this handle as that by which another one of the same file reads.
    fn into_reading(self) -> Reading {
        self.closed.store(true, Ordering::Release);
        Reading::Other(self.bytes.clone())
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire) {
            self.lane.close(&self.bytes);
        }
        if let Reading::Other(bytes) = &self.reading {
            self.lane.close(bytes);
        }
    }
}

impl Lane {
    /// Returns the handle in a reply.
    pub(super) fn handle(&self, reply: Reply, request: &str) -> Result<FileHandle, SftpError> {
        let Reply::Handle(bytes) = reply else { return Err(self.unexpected(request)) };
        let (lane, closed) = (Arc::clone(&self.shared), AtomicBool::new(false));
        Ok(FileHandle { lane, bytes, reading: Reading::Same, closed })
    }

    async fn open_by(
        &self,
        path: &[u8],
        flags: u32,
        attributes: &SftpSetAttributes,
    ) -> Result<FileHandle, SftpError> {
        let request =
            self.request(kind::OPEN, |request| request.string(path).u32(flags).attributes(attributes));
        self.handle(request.await?, "OPEN")
    }

    /// Opens a file. `attributes` are those of a new file.
    ///
    /// # Errors
    ///
    /// As all requests: the server's refusal, or a failure of the road.
    pub async fn open_file(
        &self,
        path: &[u8],
        mode: OpenMode,
        attributes: &SftpSetAttributes,
    ) -> Result<FileHandle, SftpError> {
        match mode {
            OpenMode::Read => self.open_by(path, READ, attributes).await,
            OpenMode::Write => self.open_by(path, WRITE, attributes).await,
            OpenMode::ReadWrite if self.reads_while_writing().await? => {
                self.open_by(path, READ | WRITE, attributes).await
            }
            OpenMode::ReadWrite => self.open_twice(path).await,
            OpenMode::CreateNew if self.reads_while_writing().await? => {
                self.open_by(path, READ | WRITE | CREATE | EXCLUSIVE, attributes).await
            }
            OpenMode::CreateNew => {
                let mut handle = self.open_by(path, WRITE | CREATE | EXCLUSIVE, attributes).await?;
                // Its mode may forbid to read it.
                handle.reading = match self.open_by(path, READ, &SftpSetAttributes::default()).await {
                    Err(error) if error.code().is_some() => Reading::Refused(error),
                    reading => reading?.into_reading(),
                };
                Ok(handle)
            }
        }
    }

    /// Returns whether the server is known to read by handles that also write, and to open an existing file for writing
    /// without a change.
    ///
    /// # Errors
    ///
    /// If the server does not greet.
    pub async fn reads_while_writing(&self) -> Result<bool, SftpError> {
        self.greeted().await?;
        Ok(self.is_known_to_read_while_writing())
    }

    /// The same for a server that has greeted.
    #[must_use]
    pub fn is_known_to_read_while_writing(&self) -> bool {
        self.offers(READS_WHILE_WRITING)
    }

    /// Opens an existing file for writing, and for reading.
    async fn open_twice(&self, path: &[u8]) -> Result<FileHandle, SftpError> {
        const TRIES: usize = 3;
        let nothing = SftpSetAttributes::default();
        for _ in 0..TRIES {
            let (writing, reading) =
                futures::join!(self.open_by(path, WRITE, &nothing), self.open_by(path, READ, &nothing));
            let (mut handle, reading) = (writing?, reading?);
            // Somebody may have replaced it in between.
            let (one, other) = futures::join!(self.fstat(&handle), self.fstat(&reading));
            if is_same(&one?, &other?) {
                handle.reading = reading.into_reading();
                return Ok(handle);
            }
        }
        Err(SftpError::NotOffered("one file by two handles"))
    }

    /// Closes a file, and returns whether that went well.
    ///
    /// # Errors
    ///
    /// As all requests.
    pub async fn close(&self, handle: &FileHandle) -> Result<(), SftpError> {
        if handle.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let reply = self.request(kind::CLOSE, |request| request.string(&handle.bytes)).await?;
        self.done(&reply, "CLOSE")
    }
}

/// Whether two handles are of one file, as far as a server tells.
fn is_same(one: &SftpAttributes, other: &SftpAttributes) -> bool {
    let told =
        |of: &SftpAttributes| (of.size, of.owner, of.permissions, of.times.map(|(_, changed)| changed));
    told(one) == told(other)
}

//! Writing the whole content of a new file: in one round trip on a server that carries out requests in the order in
//! which they were sent, in two on others.

use bytes::Bytes;

use super::error::{SftpError, StatusCode};
use super::lane::{Lane, Row};
use super::open::FileHandle;
use super::packet::{Reply, SftpAttributes, SftpSetAttributes, kind};

/// How the requests for one file may follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// All at once: the server carries them out in their order.
    AtOnce,
    /// What has to come later is sent when the replies to the former are there.
    Waiting,
}

/// What became of a file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its attributes then.
    pub attributes: SftpAttributes,
    /// Why the server did not set the attributes, if it refused that alone.
    pub refused: Option<SftpError>,
}

impl Lane {
    /// Writes `data` at the beginning of a file, and [settles](Self::settle) it.
    ///
    /// # Errors
    ///
    /// As all requests. The first failure is returned; the other requests may have been carried out.
    pub async fn write_whole(
        &self,
        handle: &FileHandle,
        data: &Bytes,
        set: &SftpSetAttributes,
        order: Order,
    ) -> Result<Written, SftpError> {
        if order == Order::Waiting {
            self.write_at(handle, 0, data).await?;
            return self.settle(handle, set).await;
        }
        let piece = self.limits().write_len as usize;
        let mut row = self.row(data.len()).await?;
        for start in (0..data.len()).step_by(piece) {
            let piece = data.slice(start..data.len().min(start + piece));
            row.send(kind::WRITE, |request| request.string(&handle.bytes).u64(start as u64).string(&piece));
        }
        self.settled(row, handle, set).await
    }

    /// Sets attributes of a file whose content is written, waits until the server has it on disk where the server
    /// offers that, and returns its attributes: in one round trip.
    ///
    /// # Errors
    ///
    /// As [`Self::write_whole`].
    pub async fn settle(&self, handle: &FileHandle, set: &SftpSetAttributes) -> Result<Written, SftpError> {
        let row = self.row(0).await?;
        self.settled(row, handle, set).await
    }

    /// Sends behind a row of WRITEs what settles the file, and takes all replies.
    async fn settled(
        &self,
        mut row: Row<'_>,
        handle: &FileHandle,
        set: &SftpSetAttributes,
    ) -> Result<Written, SftpError> {
        let sets = *set != SftpSetAttributes::default();
        if sets {
            row.send(kind::FSETSTAT, |request| request.string(&handle.bytes).attributes(set));
        }
        let syncs = self.offers(b"fsync@openssh.com");
        if syncs {
            row.send(kind::EXTENDED, |request| request.string(b"fsync@openssh.com").string(&handle.bytes));
        }
        row.send(kind::FSTAT, |request| request.string(&handle.bytes));
        let mut replies = row.replies().await;
        let attributes = replies.pop();
        let synced = if syncs { replies.pop() } else { None };
        let set = if sets { replies.pop() } else { None };
        for reply in replies.into_iter().chain(synced) {
            self.done(&reply?, "WRITE or fsync")?;
        }
        let refused = match set {
            Some(Err(
                refused @ SftpError::Status {
                    code: StatusCode::PermissionDenied | StatusCode::OpUnsupported,
                    ..
                },
            )) => Some(refused),
            Some(reply) => self.done(&reply?, "FSETSTAT").map(|()| None)?,
            None => None,
        };
        match attributes {
            Some(Ok(Reply::Attributes(attributes))) => Ok(Written { attributes, refused }),
            Some(Err(error)) => Err(error),
            _ => Err(self.unexpected("FSTAT")),
        }
    }
}

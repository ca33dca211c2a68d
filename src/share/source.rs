//! The content of the file that is shared: as it is, or encrypted while it is read.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use scaup_crypto::age::{CHUNK, Encryptor};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::error::ShareError;
use crate::dav::Source;

/// A file that is read as it is. From a mounted vault this includes what was not yet saved on the server.
#[derive(Debug, Clone)]
pub(super) struct PlainSource {
    file: Arc<File>,
    /// Length and time of its content when it was opened.
    opened: (u64, i64, i64),
    read: u64,
}

fn seen(metadata: &Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

impl PlainSource {
    /// Opens a file.
    pub(super) fn open(path: &Path) -> Result<Self, ShareError> {
        let failed = |source| ShareError::File { path: path.to_owned(), source };
        // Opening a pipe or a device could wait for ever.
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(ShareError::NotAFile(path.to_owned()));
        }
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ShareError::NotAFile(path.to_owned()));
        }
        Ok(Self { file: Arc::new(file), opened: seen(&metadata), read: 0 })
    }
}

#[async_trait]
impl Source for PlainSource {
    fn len(&self) -> u64 {
        self.opened.0
    }

    async fn read(&mut self, len: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        let (file, from) = (self.file.clone(), self.read);
        let content = spawn_blocking(move || {
            let mut content = Zeroizing::new(vec![0; len]);
            let mut filled = 0;
            while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match file.read_at(rest, from + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            content.truncate(filled);
            Ok(content)
        });
        let content = content.await.map_err(io::Error::other)??;
        self.read += content.len() as u64;
        Ok(content)
    }

    async fn has_ended(&mut self) -> io::Result<bool> {
        let rest = self.read(1).await?;
        let file = self.file.clone();
        let now = spawn_blocking(move || file.metadata()).await.map_err(io::Error::other)??;
        Ok(rest.is_empty() && seen(&now) == self.opened)
    }
}

/// A file that is encrypted with a passphrase while it is read.
pub(super) struct EncryptedSource {
    plain: PlainSource,
    /// `None` once the last chunk is encrypted.
    encryptor: Option<Encryptor>,
    len: u64,
    /// What is encrypted and not yet read.
    ahead: Zeroizing<Vec<u8>>,
}

impl EncryptedSource {
    /// Makes the keys, which takes about a second.
    pub(super) async fn new(plain: PlainSource, passphrase: Zeroizing<String>) -> Result<Self, ShareError> {
        let made = spawn_blocking(move || Encryptor::new(&passphrase));
        let encryptor = made
            .await
            .map_err(|error| ShareError::Dav(crate::dav::DavError::Source(io::Error::other(error))))??;
        let len = encrypted_len(plain.len())?;
        let ahead = Zeroizing::new(encryptor.header().to_vec());
        Ok(Self { plain, encryptor: Some(encryptor), len, ahead })
    }

    async fn encrypt_next(&mut self, mut encryptor: Encryptor) -> io::Result<()> {
        let chunk = self.plain.read(CHUNK).await?;
        match <&[u8; CHUNK]>::try_from(chunk.as_slice()) {
            Ok(whole) if self.plain.read < self.plain.len() => {
                encryptor.chunk(whole, &mut self.ahead).map_err(io::Error::other)?;
                self.encryptor = Some(encryptor);
            }
            _ => encryptor.finish(&chunk, &mut self.ahead).map_err(io::Error::other)?,
        }
        Ok(())
    }
}

/// Returns how long a file is once it is encrypted, bytes.
pub(super) fn encrypted_len(plain: u64) -> Result<u64, ShareError> {
    Encryptor::encrypted_length(plain).ok_or(ShareError::Encryption(scaup_crypto::age::AgeError::TooLong))
}

#[async_trait]
impl Source for EncryptedSource {
    fn len(&self) -> u64 {
        self.len
    }

    async fn read(&mut self, len: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        while self.ahead.len() < len
            && let Some(encryptor) = self.encryptor.take()
        {
            self.encrypt_next(encryptor).await?;
        }
        let count = len.min(self.ahead.len());
        Ok(Zeroizing::new(self.ahead.drain(..count).collect()))
    }

    async fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.ahead.is_empty() && self.encryptor.is_none() && self.plain.has_ended().await?)
    }
}

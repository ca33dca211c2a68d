//! Uploads a file as a stream: in one request, or in parts if it is large. Whatever its length, only a few parts of it
//! are in memory, and none on this machine's disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures::stream::{FuturesUnordered, StreamExt};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::cancel::Cancel;
use super::client::{Content, LONG_PATIENCE, Request, Sent};
use super::error::DavError;
use super::files::{Depth, FilePath, Home, method, was_there};

/// The longest content that is sent in one request, bytes.
const WHOLE_LEN_MAX: u64 = 10 << 20;
/// The length of a part, bytes: servers want 5 MiB at least.
const PART_LEN: u64 = 16 << 20;
/// The most parts of an upload.
const PARTS_MAX: u64 = 10_000;
/// How many parts are sent at once.
const PARALLEL: usize = 3;
/// How long the server may go on with what a proxy before it did not wait for.
const LATE_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How often it is looked whether the server is done with that.
const LOOKED_EVERY: Duration = Duration::from_secs(2);

/// Content to upload, which is read once, from its begin to its end.
#[async_trait]
#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait Source: Send {
    /// Returns how long the content is, bytes.
    fn len(&self) -> u64;

    /// Returns the next `len` bytes, or fewer at the content's end.
    ///
    /// # Errors
    ///
    /// If they can't be read.
    async fn read(&mut self, len: usize) -> io::Result<Zeroizing<Vec<u8>>>;

    /// Returns whether all was read, and none of it has changed meanwhile.
    ///
    /// # Errors
    ///
    /// If that can't be found out.
    async fn has_ended(&mut self) -> io::Result<bool>;
}

/// What was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its length, bytes.
    pub len: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// How far an upload is.
#[derive(Debug, Default)]
pub struct Progress {
    sent: Arc<AtomicU64>,
    is_late: AtomicBool,
}

impl Progress {
    /// Returns how many bytes were handed over to the network.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns whether the server is waited for, which still works on what it has.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }
}

/// An upload of one file.
pub struct Upload<'a> {
    /// Whose file it will be.
    pub home: &'a Home,
    /// Where it goes: nothing may be there.
    pub path: &'a FilePath,
    /// A name for its parts, which nobody else uses.
    pub name: &'a str,
    /// The largest part that the server accepts, bytes, if it says so.
    pub part_len_max: Option<u64>,
    /// How far it is.
    pub progress: &'a Progress,
    /// Whether it shall end.
    pub cancel: &'a Cancel,
}

impl Upload<'_> {
    /// Returns whether content of this length is sent in parts.
    #[must_use]
    pub fn takes_parts(len: u64) -> bool {
        len > WHOLE_LEN_MAX
    }

    /// Sends the content, and compares what the server stored.
    ///
    /// # Errors
    ///
    /// If the content can't be read or changes meanwhile, the server refuses, it stored something else, or the work was
    /// cancelled. Parts may be left there ([`Home::remove_upload`]).
    pub async fn run(&self, source: &mut dyn Source) -> Result<Stored, DavError> {
        let len = source.len();
        let stored =
            if Self::takes_parts(len) { self.parts(source).await? } else { self.whole(source).await? };
        let hash = match self.cancel.or(self.home.hash(self.path)).await {
            Err(late) if late.is_late() => {
                self.wait_for(late, async || self.home.kept_hash(self.path).await).await?
            }
            hash => hash?,
        };
        if hash != stored.sha256 {
            return Err(DavError::StoredDiffers { host: self.home.client.host() });
        }
        Ok(stored)
    }

    /// Looks until the server has done what nobody waited for; returns `late` if it takes too long.
    async fn wait_for<T>(
        &self,
        late: DavError,
        look: impl AsyncFn() -> Result<Option<T>, DavError>,
    ) -> Result<T, DavError> {
        self.progress.is_late.store(true, Ordering::Relaxed);
        let give_up = Instant::now() + LATE_PATIENCE;
        loop {
            self.cancel.pause(LOOKED_EVERY).await?;
            if let Some(done) = self.cancel.or(look()).await? {
                self.progress.is_late.store(false, Ordering::Relaxed);
                return Ok(done);
            }
            if Instant::now() > give_up {
                return Err(late);
            }
        }
    }

    /// Returns the length of the file, if it is there.
    async fn len_there(&self) -> Result<Option<u64>, DavError> {
        match self.home.list(self.path, Depth::Itself).await {
            Err(error) if error.is_missing() => Ok(None),
            there => Ok(there?.first().map(|entry| entry.len)),
        }
    }

    async fn whole(&self, source: &mut dyn Source) -> Result<Stored, DavError> {
        let len = source.len();
        let mut hash = Sha256::new();
        let content = next(source, len, &mut hash).await?;
        end(source).await?;
        let mut request = self.home.put(self.path).with_text("if-none-match", "*");
        request.content = Content::File(content, Sent::of(&self.progress.sent));
        request.patience = LONG_PATIENCE;
        let sent = self.home.client.require(&request, &[StatusCode::CREATED, StatusCode::NO_CONTENT]);
        match self.cancel.or(sent).await {
            // It was sent twice, and done at the first time: the folder is new, and the content is compared.
            Err(error) if error.status() == Some(412) => {}
            sent => drop(sent?),
        }
        Ok(Stored { len, sha256: HEXLOWER.encode(&hash.finalize()) })
    }

    async fn parts(&self, source: &mut dyn Source) -> Result<Stored, DavError> {
        let (home, client) = (self.home, &self.home.client);
        let len = source.len();
        let total = HeaderValue::from(len);
        let destination = home.destination(self.path)?;
        let begin = Request::new(method("MKCOL")?, home.upload(self.name), "beginning an upload")
            .with("destination", destination.clone());
        match client.require(&begin, &[StatusCode::CREATED]).await {
            // As before: it was done at the first time.
            Err(error) if error.status() == Some(405) => {}
            begun => drop(begun?),
        }
        let part_len = PART_LEN.min(self.part_len_max.unwrap_or(u64::MAX)).max(len.div_ceil(PARTS_MAX));
        let mut hash = Sha256::new();
        let (mut number, mut read) = (0, 0);
        let mut under_way = FuturesUnordered::new();
        loop {
            if read < len && under_way.len() < PARALLEL {
                self.cancel.check()?;
                let this = part_len.min(len - read);
                let content = next(source, this, &mut hash).await?;
                read += this;
                number += 1;
                let mut request = Request::new(
                    Method::PUT,
                    home.upload(&format!("{}/{number:05}", self.name)),
                    "sending a part",
                )
                .with("destination", destination.clone())
                .with("oc-total-length", total.clone());
                request.content = Content::File(content, Sent::of(&self.progress.sent));
                request.patience = LONG_PATIENCE;
                under_way.push(async move {
                    client.require(&request, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await
                });
                continue;
            }
            match self.cancel.or(async { under_way.next().await.transpose() }).await? {
                Some(_) => {}
                None => break,
            }
        }
        drop(under_way);
        end(source).await?;
        self.cancel.check()?;
        let mut finish =
            Request::new(method("MOVE")?, home.upload(&format!("{}/.file", self.name)), "ending an upload")
                .with("destination", destination)
                .with("oc-total-length", total)
                .with_text("overwrite", "F");
        finish.patience = LONG_PATIENCE;
        finish.is_repeatable = false;
        finish.may_be_late = true;
        match client.require(&finish, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await {
            // When it is done, the file is there, in its whole length.
            Err(late) if late.is_late() => {
                self.wait_for(late, async || Ok(self.len_there().await?.filter(|&there| there == len)))
                    .await?;
            }
            Err(error) if error.may_be_done() => {
                if self.len_there().await.ok().flatten() != Some(len) {
                    return Err(error);
                }
            }
            done => drop(done?),
        }
        Ok(Stored { len, sha256: HEXLOWER.encode(&hash.finalize()) })
    }
}

impl Home {
    fn put(&self, path: &FilePath) -> Request {
        Request::new(Method::PUT, self.at(path), "sending the file")
    }

    /// Returns whether there is an upload that did not end.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn has_upload(&self, name: &str) -> Result<bool, DavError> {
        let request = Request::new(method("PROPFIND")?, self.upload(name), "looking for an upload")
            .with_text("depth", "0");
        was_there(self.client.require(&request, &[StatusCode::MULTI_STATUS]).await)
    }

    /// Removes the parts of an upload that did not end. Returns whether there were any.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn remove_upload(&self, name: &str) -> Result<bool, DavError> {
        let request = Request::new(Method::DELETE, self.upload(name), "removing an upload");
        was_there(self.client.require(&request, &[StatusCode::NO_CONTENT]).await)
    }
}

/// Reads the next `len` bytes, which must be there.
async fn next(source: &mut dyn Source, len: u64, hash: &mut Sha256) -> Result<Bytes, DavError> {
    let wanted = usize::try_from(len).map_err(|_| DavError::Changed)?;
    let content = source.read(wanted).await.map_err(DavError::Source)?;
    if content.len() != wanted {
        return Err(DavError::Changed);
    }
    hash.update(content.as_slice());
    // Wiped when it was sent.
    Ok(Bytes::from_owner(content))
}

/// Makes sure that the content ends here, and did not change.
async fn end(source: &mut dyn Source) -> Result<(), DavError> {
    if source.has_ended().await.map_err(DavError::Source)? { Ok(()) } else { Err(DavError::Changed) }
}

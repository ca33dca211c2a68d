//! Authenticates the whole content of one file, chunk by chunk, in large reads and bounded memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use scaup_crypto::{ChunkNumber, CiphertextLen, Cryptor, FileHeader};

use super::base::{Check, CheckError};
use super::finding::{FindingKind, Spot};
use crate::remote::{RemoteAttributes, RemoteError, RemoteFile, RemoteOpen, RemotePath};

/// Chunks in one read: as many as fit four messages of OpenSSH.
const CHUNKS_PER_READ: u64 = 28;
/// Reads of one file at the same time.
const READS_PER_FILE: u64 = 3;
/// The chunks that did not authenticate.
#[derive(Default)]
struct Bad {
    count: u64,
    first: Option<ChunkNumber>,
    /// Whether the file ended before its length.
    ended: bool,
}

impl Bad {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.ended |= other.ended;
    }
}

/// Some chunks of a file, all full except the file's last.
struct Window {
    first: ChunkNumber,
    offset: CiphertextLen,
    len: usize,
}

impl Check<'_> {
    /// Reads and authenticates a file of legal length, as listed.
    pub(super) async fn authenticate(
        &self,
        path: &RemotePath,
        listed: &RemoteAttributes,
        spot: Spot,
    ) -> Result<(), CheckError> {
        let window_len = CHUNKS_PER_READ * self.cryptor.config().cipher_combo.ciphertext_chunk_len() as u64;
        let _memory = self.budget.take(listed.size.min(window_len * READS_PER_FILE)).await;
        let mut found = self.read_through(path, listed).await?;
        // Servers lose handles, and run out of them.
        if matches!(found, Err(RemoteError::Failure(_))) {
            found = self.read_through(path, listed).await?;
        }
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.unreadable(path, spot, error),
        };
        let Some((kind, detail)) = found else { return Ok(()) };
        // A program may be writing it just now.
        match self.remote.stat(&self.on_server(path)).await {
            Ok(now) if (now.size, now.modified) != (listed.size, listed.modified) => {
                self.findings.add(FindingKind::ChangedMeanwhile, spot, "");
            }
            Ok(_) => self.findings.add(kind, spot, detail),
            Err(error) => self.unreadable(path, spot, error)?,
        }
        Ok(())
    }

    /// Returns the problem with a file's content; the inner error is the server's error for the file.
    async fn read_through(
        &self,
        path: &RemotePath,
        listed: &RemoteAttributes,
    ) -> Result<Result<Option<(FindingKind, String)>, RemoteError>, CheckError> {
        let combo = self.cryptor.config().cipher_combo;
        let (header_len, chunk_len) = (combo.header_len() as u64, combo.ciphertext_chunk_len() as u64);
        let file = match self.remote.open(&self.on_server(path), RemoteOpen::Read).await {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        // The header is read together with the first chunks.
        let first_len = listed.size.min(header_len + CHUNKS_PER_READ * chunk_len);
        let first = match read(file.as_ref(), CiphertextLen(0), first_len).await {
            Ok(first) => first,
            Err(error) => return Ok(Err(error)),
        };
        let header = first.get(..combo.header_len()).map(|header| self.cryptor.decrypt_header(header));
        let Some(Ok(header)) = header else {
            return Ok(Ok(Some((FindingKind::DamagedHeader, String::new()))));
        };
        let header = Arc::new(header);
        let payload = listed.size.saturating_sub(header_len);
        let window = |number: u64| {
            let first = ChunkNumber(number * CHUNKS_PER_READ);
            let offset = combo.ciphertext_len(first.start());
            let rest = CiphertextLen(listed.size).saturating_sub(offset);
            let len = rest.min(CHUNKS_PER_READ * chunk_len);
            Window { first, offset, len: usize::try_from(len).unwrap_or(0) }
        };
        let mut bad = self.open_window(path, &header, window(0), first.slice(combo.header_len()..)).await?;
        let rest = 1..payload.div_ceil(CHUNKS_PER_READ * chunk_len);
        let mut reads = stream::iter(rest.map(window))
            .map(async |window| {
                let bytes = match read(file.as_ref(), window.offset, window.len as u64).await {
                    Ok(bytes) => bytes,
                    Err(error) => return Ok(Err(error)),
                };
                self.open_window(path, &header, window, bytes).await.map(Ok)
            })
            .buffered(usize::try_from(READS_PER_FILE).unwrap_or(1));
        while !bad.ended
            && let Some(window) = reads.next().await
        {
            match window? {
                Ok(window) => bad.add(&window),
                Err(error) => return Ok(Err(error)),
            }
        }
        let chunks = payload.div_ceil(chunk_len);
        Ok(Ok(match bad {
            Bad { ended: true, .. } => {
                Some((FindingKind::DamagedContent, "the file ends before its length".to_owned()))
            }
            Bad { first: Some(first), count, .. } => {
                let detail = format!("{count} of {chunks} chunks, the first is chunk {first}");
                Some((FindingKind::DamagedContent, detail))
            }
            Bad { first: None, .. } => None,
        }))
    }

    /// Authenticates a window's chunks, on another thread than the one that talks to the server.
    async fn open_window(
        &self,
        path: &RemotePath,
        header: &Arc<FileHeader>,
        window: Window,
        bytes: Bytes,
    ) -> Result<Bad, CheckError> {
        self.progress.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let (cryptor, header) = (Arc::clone(self.cryptor), Arc::clone(header));
        let opened =
            tokio::task::spawn_blocking(move || open_chunks(&cryptor, &header, &window, &bytes)).await;
        opened.map_err(|error| CheckError::Interrupted { path: path.clone(), reason: error.to_string() })
    }
}

fn open_chunks(cryptor: &Cryptor, header: &FileHeader, window: &Window, bytes: &[u8]) -> Bad {
    let chunk_len = cryptor.config().cipher_combo.ciphertext_chunk_len();
    let mut bad = Bad { ended: bytes.len() != window.len, ..Bad::default() };
    for (number, chunk) in (window.first.0..).map(ChunkNumber).zip(bytes.chunks(chunk_len)) {
        if cryptor.decrypt_chunk(header, number, chunk).is_err() {
            bad.count += 1;
            bad.first = bad.first.or(Some(number));
        }
    }
    bad
}

async fn read(file: &dyn RemoteFile, offset: CiphertextLen, len: u64) -> Result<Bytes, RemoteError> {
    file.read_at(offset.0, usize::try_from(len).unwrap_or(usize::MAX)).await
}

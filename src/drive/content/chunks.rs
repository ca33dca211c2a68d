//! The bounded cache of cleartext chunks, and the fetches under way.
//!
//! Chunks are keyed by the identity of the content they belong to, never by name: new content gets a new [`ContentId`],
//! so a chunk can't be returned for other content than it was read from. A chunk is fetched once however many tasks ask
//! for it: the first one gets a [`Promise`] to keep, the others wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use scaup_crypto::ChunkNumber;
use tokio::sync::watch;

use super::segmented::SegmentedCache;
use crate::drive::error::DriveError;

/// One version of one file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::drive) struct ContentId(u64);

impl ContentId {
    /// Returns an identity that no content had before.
    pub(super) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One chunk of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChunkKey {
    /// The content.
    pub(super) content: ContentId,
    /// Which of its chunks.
    pub(super) number: ChunkNumber,
}

type Loaded = Result<Bytes, DriveError>;

/// What to do for a chunk.
pub(super) enum Claim {
    /// The chunk is in the cache.
    Ready(Bytes),
    /// Another task is fetching it.
    Wait(Waiting),
    /// Nobody is fetching it: the caller has to fetch it and keep the promise.
    Load(Promise),
}

/// A chunk that another task is fetching.
pub(super) struct Waiting(watch::Receiver<Option<Loaded>>);

impl Waiting {
    /// Waits until it was fetched.
    pub(super) async fn done(mut self) -> Loaded {
        match self.0.wait_for(Option::is_some).await {
            Ok(loaded) => loaded.clone().unwrap_or_else(|| Err(abandoned())),
            Err(_) => Err(abandoned()),
        }
    }
}

fn abandoned() -> DriveError {
    crate::remote::RemoteError::Disconnected("the fetch was abandoned".to_owned()).into()
}

/// The duty to fetch one chunk. If it is dropped unkept, the waiting tasks are told that nothing came.
pub(super) struct Promise {
    key: ChunkKey,
    serial: u64,
    sender: watch::Sender<Option<Loaded>>,
    cache: Arc<ChunkCache>,
    kept: bool,
}

impl Promise {
    /// Returns the number of the promised chunk.
    pub(super) fn number(&self) -> ChunkNumber {
        self.key.number
    }

    /// Returns another wait for this chunk.
    pub(super) fn wait(&self) -> Waiting {
        Waiting(self.sender.subscribe())
    }

    /// Hands the chunk, or the reason why there is none, to all waiting tasks. It is cached unless newer content was
    /// put meanwhile.
    pub(super) fn keep(mut self, loaded: Loaded) {
        self.kept = true;
        self.cache.finish(self.key, self.serial, loaded.as_ref().ok());
        self.sender.send_replace(Some(loaded));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.cache.finish(self.key, self.serial, None);
        }
    }
}

struct Loading {
    serial: u64,
    receiver: watch::Receiver<Option<Loaded>>,
    /// Whether somebody waits for it: it is not only read ahead.
    wanted: bool,
}

struct Inner {
    ready: SegmentedCache<ChunkKey>,
    loading: HashMap<ChunkKey, Loading>,
    next_serial: u64,
}

/// The chunk cache.
pub(in crate::drive) struct ChunkCache {
    inner: Mutex<Inner>,
    capacity: u64,
    hits: AtomicU64,
}

impl ChunkCache {
    /// Creates a cache of at most `capacity` bytes of cleartext.
    pub(in crate::drive) fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                ready: SegmentedCache::new(capacity),
                loading: HashMap::new(),
                next_serial: 0,
            }),
            capacity,
            hits: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves so many bytes of its room for something else, until the next call.
    pub(in crate::drive) fn give_way(&self, bytes: u64) {
        self.lock().ready.set_capacity(self.capacity.saturating_sub(bytes));
    }

    /// Returns the bytes that it may hold.
    pub(in crate::drive) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns how often a requested chunk was in the cache.
    pub(in crate::drive) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Asks for a chunk.
    pub(super) fn claim(self: &Arc<Self>, key: ChunkKey) -> Claim {
        let mut inner = self.lock();
        if let Some(chunk) = inner.ready.get(&key) {
            drop(inner);
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Claim::Ready(chunk);
        }
        if let Some(loading) = inner.loading.get_mut(&key) {
            loading.wanted = true;
            return Claim::Wait(Waiting(loading.receiver.clone()));
        }
        Claim::Load(self.promise(&mut inner, key, true))
    }

    /// Claims a chunk for the caller to fetch that nobody waits for yet; `None` if it is cached or being fetched.
    pub(super) fn claim_ahead(self: &Arc<Self>, key: ChunkKey) -> Option<Promise> {
        let mut inner = self.lock();
        let is_missing = !inner.ready.contains(&key) && !inner.loading.contains_key(&key);
        is_missing.then(|| self.promise(&mut inner, key, false))
    }

    fn promise(self: &Arc<Self>, inner: &mut Inner, key: ChunkKey, wanted: bool) -> Promise {
        let serial = inner.next_serial;
        inner.next_serial += 1;
        let (sender, receiver) = watch::channel(None);
        inner.loading.insert(key, Loading { serial, receiver, wanted });
        Promise { key, serial, sender, cache: Arc::clone(self), kept: false }
    }

    /// Puts a chunk that was just written. A fetch of it that is still under way will not overwrite it.
    pub(super) fn put(&self, key: ChunkKey, chunk: Bytes) {
        let mut inner = self.lock();
        inner.loading.remove(&key);
        inner.ready.put(key, chunk, false);
    }

    /// Drops everything: chunks under way are handed over, but not cached.
    pub(in crate::drive) fn clear(&self) {
        let mut inner = self.lock();
        inner.ready.clear();
        inner.loading.clear();
    }

    fn finish(&self, key: ChunkKey, serial: u64, chunk: Option<&Bytes>) {
        let mut inner = self.lock();
        let Some(loading) = inner.loading.get(&key).filter(|loading| loading.serial == serial) else {
            return;
        };
        let wanted = loading.wanted;
        inner.loading.remove(&key);
        if let Some(chunk) = chunk {
            inner.ready.put(key, chunk.clone(), wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn key(content: ContentId, number: u64) -> ChunkKey {
        ChunkKey { content, number: ChunkNumber(number) }
    }

    fn load(cache: &Arc<ChunkCache>, key: ChunkKey) -> Promise {
        match cache.claim(key) {
            Claim::Load(promise) => promise,
            Claim::Ready(_) | Claim::Wait(_) => panic!("expected to have to load"),
        }
    }

    #[tokio::test]
    async fn a_chunk_is_fetched_once_and_reaches_all_who_wait() {
        let cache = ChunkCache::new(1 << 20);
        let wanted = key(ContentId::fresh(), 3);
        let promise = load(&cache, wanted);
        let Claim::Wait(waiting) = cache.claim(wanted) else { panic!("expected to wait") };
        promise.keep(Ok(Bytes::from_static(b"abc")));
        assert_eq!(waiting.done().await.unwrap(), "abc");
        assert!(matches!(cache.claim(wanted), Claim::Ready(chunk) if chunk == "abc"));
    }

    #[tokio::test]
    async fn a_late_fetch_never_overwrites_what_was_written() {
        let cache = ChunkCache::new(1 << 20);
        let wanted = key(ContentId::fresh(), 0);
        let promise = load(&cache, wanted);
        cache.put(wanted, Bytes::from_static(b"new"));
        promise.keep(Ok(Bytes::from_static(b"old")));
        assert!(matches!(cache.claim(wanted), Claim::Ready(chunk) if chunk == "new"));
    }

    #[tokio::test]
    async fn a_dropped_promise_wakes_those_who_wait_and_can_be_tried_again() {
        let cache = ChunkCache::new(1 << 20);
        let wanted = key(ContentId::fresh(), 0);
        let promise = load(&cache, wanted);
        let Claim::Wait(waiting) = cache.claim(wanted) else { panic!("expected to wait") };
        drop(promise);
        waiting.done().await.unwrap_err();
        drop(load(&cache, wanted));
    }

    #[test]
    fn what_is_here_or_coming_is_not_read_ahead() {
        let cache = ChunkCache::new(1 << 20);
        let wanted = key(ContentId::fresh(), 0);
        let promise = cache.claim_ahead(wanted).unwrap();
        assert!(cache.claim_ahead(wanted).is_none());
        assert!(matches!(cache.claim(wanted), Claim::Wait(_)));
        promise.keep(Ok(Bytes::from_static(b"abc")));
        assert!(cache.claim_ahead(wanted).is_none());
    }
}

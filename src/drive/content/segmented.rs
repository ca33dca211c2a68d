//! A segmented LRU cache (Karedla, Love, Wherry: "Caching strategies to improve disk system performance", 1994),
//! bounded in bytes.
//!
//! A new entry is on *probation*, and an entry that is used again is *protected*, in up to half of the room. A scan,
//! however long, evicts only entries on probation.

use std::hash::Hash;

use bytes::Bytes;
use lru::LruCache;

/// Uses of the same entry with fewer uses of others than this between them count as one: a program reads a chunk in
/// small steps.
const ONE_USE: u64 = 64;

/// An entry on probation.
struct Newcomer {
    bytes: Bytes,
    /// When it was first used, by the cache's clock.
    used_at: Option<u64>,
}

/// A cache of entries of at most `capacity` bytes altogether.
pub(super) struct SegmentedCache<K> {
    capacity: u64,
    probation: LruCache<K, Newcomer>,
    probation_bytes: u64,
    protected: LruCache<K, Bytes>,
    protected_bytes: u64,
    /// Advances by one when another entry is used than the last time.
    clock: u64,
    last_used: Option<K>,
}

impl<K: Copy + Eq + Hash> SegmentedCache<K> {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            probation: LruCache::unbounded(),
            probation_bytes: 0,
            protected: LruCache::unbounded(),
            protected_bytes: 0,
            clock: 0,
            last_used: None,
        }
    }

    /// Returns the bytes it holds.
    pub(super) fn bytes(&self) -> u64 {
        self.probation_bytes + self.protected_bytes
    }

    /// Whether an entry is in the cache. This does not count as a use.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.protected.contains(key) || self.probation.contains(key)
    }

    /// Returns an entry, which counts as a use.
    pub(super) fn get(&mut self, key: &K) -> Option<Bytes> {
        if let Some(bytes) = self.protected.get(key).cloned() {
            self.count_use(*key);
            return Some(bytes);
        }
        if !self.probation.contains(key) {
            return None;
        }
        let now = self.count_use(*key);
        let newcomer = self.probation.get_mut(key)?;
        let bytes = newcomer.bytes.clone();
        if now - *newcomer.used_at.get_or_insert(now) >= ONE_USE {
            self.remove(key);
            self.protect(*key, bytes.clone());
        }
        Some(bytes)
    }

    /// Puts an entry that is new, or has new content. `used`: a task waited for it.
    pub(super) fn put(&mut self, key: K, bytes: Bytes, used: bool) {
        let was_protected = self.protected.contains(&key);
        self.remove(&key);
        if was_protected {
            self.protect(key, bytes);
        } else {
            let used_at = used.then(|| self.count_use(key));
            self.probation_bytes += bytes.len() as u64;
            self.probation.put(key, Newcomer { bytes, used_at });
        }
        self.drop_what_is_too_much();
    }

    /// Sets the most bytes that it holds from now on.
    pub(super) fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.drop_what_is_too_much();
    }

    fn drop_what_is_too_much(&mut self) {
        while self.bytes() > self.capacity {
            if let Some((_, old)) = self.probation.pop_lru() {
                self.probation_bytes -= old.bytes.len() as u64;
            } else if let Some((_, old)) = self.protected.pop_lru() {
                self.protected_bytes -= old.len() as u64;
            } else {
                break;
            }
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.probation.clear();
        self.protected.clear();
        (self.probation_bytes, self.protected_bytes) = (0, 0);
    }

    /// Counts a use, and returns its time.
    fn count_use(&mut self, key: K) -> u64 {
        self.clock += u64::from(self.last_used.replace(key) != Some(key));
        self.clock
    }

    fn remove(&mut self, key: &K) {
        if let Some(old) = self.probation.pop(key) {
            self.probation_bytes -= old.bytes.len() as u64;
        }
        if let Some(old) = self.protected.pop(key) {
            self.protected_bytes -= old.len() as u64;
        }
    }

    /// Protects an entry that is not in the cache. Entries that lose their place there get a second chance on
    /// probation.
    fn protect(&mut self, key: K, bytes: Bytes) {
        self.protected_bytes += bytes.len() as u64;
        self.protected.put(key, bytes);
        while self.protected_bytes > self.capacity / 2 {
            let Some((key, bytes)) = self.protected.pop_lru() else { break };
            let length = bytes.len() as u64;
            self.protected_bytes -= length;
            self.probation_bytes += length;
            self.probation.put(key, Newcomer { bytes, used_at: Some(self.clock) });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LENGTH: u64 = 100;
    const ENTRIES: u64 = 1000;

    fn cache() -> SegmentedCache<u64> {
        SegmentedCache::new(ENTRIES * LENGTH)
    }

    fn content(key: u64) -> Bytes {
        Bytes::from(vec![key as u8; LENGTH as usize])
    }

    /// Reads as a program does: a missing entry is fetched.
    fn read(cache: &mut SegmentedCache<u64>, keys: impl IntoIterator<Item = u64>) -> usize {
        let mut fetched = 0;
        for key in keys {
            if let Some(bytes) = cache.get(&key) {
                assert_eq!(bytes, content(key));
            } else {
                cache.put(key, content(key), true);
                fetched += 1;
            }
            assert!(cache.bytes() <= ENTRIES * LENGTH);
        }
        fetched
    }

    #[test]
    fn what_is_used_again_survives_a_scan_of_any_length() {
        let mut cache = cache();
        read(&mut cache, 0..400);
        assert_eq!(read(&mut cache, 0..400), 0);
        read(&mut cache, 10_000..20_000);
        read(&mut cache, 10_000..20_000);
        assert_eq!(read(&mut cache, 0..400), 0);
    }

    #[test]
    fn a_scan_in_small_steps_or_read_ahead_is_one_use() {
        let mut cache = cache();
        read(&mut cache, 0..400);
        read(&mut cache, 0..400);
        for key in 10_000..20_000 {
            cache.put(key, content(key), false);
            read(&mut cache, [key; 8]);
        }
        assert_eq!(read(&mut cache, 0..400), 0);
    }

    #[test]
    fn what_is_not_used_any_more_gives_way() {
        let mut cache = cache();
        read(&mut cache, 0..500);
        read(&mut cache, 0..500);
        read(&mut cache, 1000..1500);
        read(&mut cache, 1000..1500);
        read(&mut cache, 10_000..11_000);
        assert_eq!(read(&mut cache, 1000..1500), 0);
        assert_eq!(read(&mut cache, 0..500), 500);
    }

    #[test]
    fn all_the_room_is_used_by_newcomers_if_nothing_is_protected() {
        let mut cache = cache();
        read(&mut cache, 0..ENTRIES);
        assert_eq!(cache.bytes(), ENTRIES * LENGTH);
        assert!((0..ENTRIES).all(|key| cache.contains(&key)));
    }

    #[test]
    fn new_content_takes_the_place_of_the_old() {
        let mut cache = cache();
        read(&mut cache, 0..100);
        read(&mut cache, 0..100);
        for used in [true, false] {
            cache.put(0, Bytes::from_static(b"new"), used);
            assert_eq!(cache.get(&0).unwrap(), "new");
            assert_eq!(cache.bytes(), 99 * LENGTH + 3);
        }
        cache.clear();
        assert_eq!((cache.bytes(), cache.get(&0)), (0, None));
    }
}

//! The responses that the cache holds, in a bounded amount of memory: what was used least recently makes room.
//!
//! `MemCache` of `pingora-cache` has no bound of its own, copies every body, and is for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use pingora_cache::key::HashBinary;

/// Locks, so that few requests wait for each other.
const SHARDS: usize = 16;
/// What an entry takes besides its bytes: the nodes of map and list, reference counts, and the slack of the allocator.
const ENTRY_OVERHEAD: usize = 400;

/// Freshness and head of a response, as `pingora-cache` serializes them.
pub(super) type StoredMeta = (Box<[u8]>, Box<[u8]>);

/// A response as it is stored.
#[derive(Debug)]
pub(super) struct Entry {
    /// The whole key, because its hash finds the entry.
    pub key: Box<[u8]>,
    pub meta: StoredMeta,
    pub body: Bytes,
}

impl Entry {
    /// The memory that it takes without its body.
    fn weight_of_head(&self) -> usize {
        ENTRY_OVERHEAD + self.key.len() + self.meta.0.len() + self.meta.1.len()
    }

    fn weight(&self) -> usize {
        self.weight_of_head() + self.body.len()
    }
}

/// All entries, and how much memory they may take.
#[derive(Debug)]
pub(super) struct Store {
    shards: [Mutex<LruCache<HashBinary, Arc<Entry>>>; SHARDS],
    limit: AtomicUsize,
    /// Bytes of the entries, and of the bodies that are being received.
    used: AtomicUsize,
    evictions: AtomicU64,
    /// Grows with every removal by an administrator, so that no response that was asked for before is stored after it.
    generation: AtomicU64,
}

impl Store {
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(LruCache::unbounded())),
            limit: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    fn shard(&self, hash: &HashBinary) -> &Mutex<LruCache<HashBinary, Arc<Entry>>> {
        let [first, ..] = hash;
        let [fallback, ..] = &self.shards;
        self.shards.get(usize::from(*first) % SHARDS).unwrap_or(fallback)
    }

    /// The entry with this key, which counts as used.
    pub fn get(&self, hash: &HashBinary, key: &[u8]) -> Option<Arc<Entry>> {
        let entry = self.shard(hash).lock().get(hash).cloned()?;
        (*entry.key == *key).then_some(entry)
    }

    /// Stores an entry whose body was reserved. Without room for its head it is not stored.
    pub fn put(&self, hash: HashBinary, entry: Entry, body: Reservation) {
        let head = entry.weight_of_head();
        if !self.reserve(head) {
            return;
        }
        body.keep();
        let replaced = self.shard(&hash).lock().push(hash, Arc::new(entry));
        self.release(replaced.map_or(0, |(_, entry)| entry.weight()));
    }

    /// Replaces the head of an entry. False if the entry is gone.
    pub fn set_meta(&self, hash: &HashBinary, key: &[u8], meta: StoredMeta) -> bool {
        let mut shard = self.shard(hash).lock();
        let Some(entry) = shard.peek(hash).filter(|entry| *entry.key == *key) else { return false };
        let renewed = Entry { key: entry.key.clone(), meta, body: entry.body.clone() };
        let added = renewed.weight();
        let replaced = shard.push(*hash, Arc::new(renewed));
        // The same head with other dates: it may exceed the limit by a few bytes until the next eviction.
        self.used.fetch_add(added, Relaxed);
        self.release(replaced.map_or(0, |(_, entry)| entry.weight()));
        true
    }

    /// Removes the entry with this hash. False if there is none.
    pub fn remove(&self, hash: &HashBinary) -> bool {
        let removed = self.shard(hash).lock().pop(hash);
        let weight = removed.map(|entry| entry.weight());
        self.release(weight.unwrap_or(0));
        weight.is_some()
    }

    /// Removes the entries whose key passes the test, and counts them. Responses that are being received are not stored.
    pub fn remove_where(&self, test: impl Fn(&[u8]) -> bool) -> usize {
        self.generation.fetch_add(1, Relaxed);
        let mut count = 0;
        for shard in &self.shards {
            let mut shard = shard.lock();
            let found: Vec<HashBinary> =
                shard.iter().filter(|(_, entry)| test(&entry.key)).map(|(hash, _)| *hash).collect();
            count += found.len();
            let weights = found.iter().filter_map(|hash| shard.pop(hash)).map(|entry| entry.weight());
            self.release(weights.sum());
        }
        count
    }

    /// Sets how much memory the entries may take. With 0 there are none.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
        while self.used.load(Relaxed) > bytes && self.evict() {}
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Entries, their bytes, and how many entries made room for others.
    pub fn totals(&self) -> (usize, usize, u64) {
        let entries = self.shards.iter().map(|shard| shard.lock().len()).sum();
        (entries, self.used.load(Relaxed), self.evictions.load(Relaxed))
    }

    /// Takes bytes out of the limit, and evicts entries for them. False if there is not enough left to evict.
    fn reserve(&self, bytes: usize) -> bool {
        loop {
            let limit = self.limit.load(Relaxed);
            let reserved = self
                .used
                .fetch_update(Relaxed, Relaxed, |used| used.checked_add(bytes).filter(|used| *used <= limit));
            if reserved.is_ok() {
                return true;
            }
            if bytes > limit || !self.evict() {
                return false;
            }
        }
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Removes the least recently used entry of one shard, each time of another one. False if there is no entry at all.
    fn evict(&self) -> bool {
        let turn = usize::try_from(self.evictions.load(Relaxed)).unwrap_or_default();
        let in_turn = self.shards.iter().cycle().skip(turn % SHARDS).take(SHARDS);
        for shard in in_turn {
            let Some((_, entry)) = shard.lock().pop_lru() else { continue };
            self.evictions.fetch_add(1, Relaxed);
            self.release(entry.weight());
            return true;
        }
        false
    }
}

/// Bytes of a body that is being received. Dropping it gives them back.
pub(super) struct Reservation {
    store: &'static Store,
    bytes: usize,
}

impl Reservation {
    pub fn new(store: &'static Store) -> Self {
        Self { store, bytes: 0 }
    }

    /// Adds bytes. False if there is no room for them.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let grows = self.store.reserve(bytes);
        self.bytes += if grows { bytes } else { 0 };
        grows
    }

    /// The bytes now belong to an entry.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.store.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(n: u8) -> HashBinary {
        let mut hash = [0; 16];
        (hash[0], hash[1]) = (n, 1);
        hash
    }

    fn put(store: &'static Store, n: u8, body: usize) -> bool {
        let mut reservation = Reservation::new(store);
        if !reservation.grow(body) {
            return false;
        }
        let body = Bytes::from(vec![n; body]);
        store.put(hash(n), Entry { key: Box::new([n]), meta: <_>::default(), body }, reservation);
        true
    }

    fn store(limit: usize) -> &'static Store {
        let store: &'static Store = Box::leak(Box::new(Store::new()));
        store.set_limit(limit);
        store
    }

    fn holds(store: &Store, n: u8) -> bool {
        store.get(&hash(n), &[n]).is_some()
    }

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let weight = ENTRY_OVERHEAD + 1 + 1000;
        let store = store(3 * weight);
        // All in one shard, whose order is exact.
        let [a, b, c, d] = [0, 16, 32, 48];
        for n in [a, b, c] {
            assert!(put(store, n, 1000));
        }
        assert!(holds(store, a));
        assert!(put(store, d, 1000));
        assert_eq!([a, b, c, d].map(|n| holds(store, n)), [true, false, true, true]);
        assert_eq!(store.totals(), (3, 3 * weight, 1));
        // Both bodies are there until the new one is complete.
        store.set_limit(4 * weight);
        assert!(put(store, d, 900), "replaced");
        assert_eq!(store.totals().1, 3 * weight - 100);
    }

    #[test]
    fn a_body_that_is_too_large_is_not_reserved_and_one_that_is_given_up_leaves_nothing() {
        let store = store(10_000);
        assert!(put(store, 1, 500) && !put(store, 2, 10_001));
        assert!(holds(store, 1), "nothing is evicted in vain");
        drop({
            let mut given_up = Reservation::new(store);
            assert!(given_up.grow(4000) && given_up.grow(4000));
            given_up
        });
        assert_eq!(store.totals().1, ENTRY_OVERHEAD + 1 + 500);
        store.set_limit(0);
        assert_eq!((store.totals().0, store.totals().1), (0, 0));
        assert!(!put(store, 1, 1));
    }

    #[test]
    fn another_key_with_the_same_hash_is_not_found() {
        let store = store(10_000);
        put(store, 1, 10);
        assert!(store.get(&hash(1), b"other").is_none());
        assert!(!store.set_meta(&hash(1), b"other", <_>::default()));
        assert_eq!(store.remove_where(|key| key == [1]), 1);
        assert!(!store.remove(&hash(1)));
        assert_eq!((store.totals().1, store.generation()), (0, 1));
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_nothing_is_lost_in_the_count(
            limit in 0_usize..5_000,
            steps in proptest::collection::vec((0_u8..40, 0_usize..1500, 0_u8..5), 1..80),
        ) {
            let store = store(limit);
            for (n, size, step) in steps {
                match step {
                    0 => { store.remove(&hash(n)); }
                    1 => { store.get(&hash(n), &[n]); }
                    _ => { put(store, n, size); }
                }
                prop_assert!(store.totals().1 <= limit);
            }
            let entries = store.shards.iter().flat_map(|shard| {
                shard.lock().iter().map(|(_, entry)| entry.weight()).collect::<Vec<_>>()
            });
            prop_assert_eq!(entries.sum::<usize>(), store.totals().1);
        }
    }
}

//! The idle connections of [`super::pool`] in their order: for each key the one used last first, over all keys at most a
//! given number.
//!
//! It knows neither sockets nor clock, so that a model can test it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ahash::AHashMap;
use parking_lot::Mutex;

/// So many keys can be used at once without waiting for each other.
const SHARDS: usize = 16;

#[derive(Debug)]
struct IdleEntry<T> {
    value: T,
    /// Unique within the shard.
    number: u64,
    since_ms: u64,
    expires_ms: u64,
}

/// On a pair of cache lines of its own, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<T> {
    /// Each in the order in which they were put, so the oldest is the first. A key without entries keeps its queue until
    /// [`IdleStore::remove_expired`].
    by_key: AHashMap<u64, VecDeque<IdleEntry<T>>>,
    next_number: u64,
}

/// An entry as it was when it was listed. The same value has another id after it was taken and put again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdleId {
    key: u64,
    number: u64,
}

/// Values by key. A value is dropped by the caller or outside the locks, because that may close a socket.
#[derive(Debug)]
pub(super) struct IdleStore<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    max: usize,
    /// The entries and those that are about to be added.
    count: Arc<AtomicUsize>,
}

impl<T> Shard<T> {
    fn oldest(&self) -> Option<(u64, u64)> {
        let first = self.by_key.iter().filter_map(|(key, queue)| Some((*key, queue.front()?)));
        let (key, entry) = first.min_by_key(|(_, entry)| (entry.since_ms, entry.number))?;
        Some((entry.since_ms, key))
    }
}

impl<T> IdleStore<T> {
    /// `count` shows the number of entries to others.
    pub fn new(max: usize, count: Arc<AtomicUsize>) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard { by_key: AHashMap::new(), next_number: 0 }));
        Self { shards, max, count }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Removes the newest entry of the key. Entries that have expired are dropped.
    pub fn take(&self, key: u64, now_ms: u64) -> Option<T> {
        let shard = self.shard(key);
        loop {
            let entry = shard.lock().by_key.get_mut(&key)?.pop_back()?;
            self.count.fetch_sub(1, Relaxed);
            if entry.expires_ms > now_ms {
                return Some(entry.value);
            }
        }
    }

    /// Adds an entry. Returns what must go for it: the oldest one, or `value` itself if there is no room at all.
    pub fn put(&self, key: u64, value: T, now_ms: u64, expires_ms: u64) -> Option<T> {
        let mut removed = None;
        if self.count.fetch_add(1, Relaxed) >= self.max {
            removed = self.remove_oldest();
            if removed.is_none() {
                self.count.fetch_sub(1, Relaxed);
                return Some(value);
            }
        }
        let mut shard = self.shard(key).lock();
        let number = shard.next_number;
        shard.next_number += 1;
        let entry = IdleEntry { value, number, since_ms: now_ms, expires_ms };
        shard.by_key.entry(key).or_default().push_back(entry);
        removed
    }

    /// Looks at one entry of every key, which is only needed when the store is full.
    fn remove_oldest(&self) -> Option<T> {
        loop {
            let oldest = self.shards.iter().filter_map(|shard| Some((shard.lock().oldest()?.0, shard)));
            let (_, shard) = oldest.min_by_key(|(since_ms, _)| *since_ms)?;
            let mut shard = shard.lock();
            // Another thread may have taken it. Then the next one is about as old, or in another shard.
            let entry = shard.oldest().and_then(|(_, key)| shard.by_key.get_mut(&key)?.pop_front());
            if let Some(entry) = entry {
                self.count.fetch_sub(1, Relaxed);
                return Some(entry.value);
            }
        }
    }

    /// Removes all entries that have expired, and frees what keys without entries hold.
    pub fn remove_expired(&self, now_ms: u64) -> Vec<T> {
        self.remove_where(|entry| entry.expires_ms <= now_ms)
    }

    pub fn remove_all(&self) -> Vec<T> {
        self.remove_where(|_| true)
    }

    fn remove_where(&self, is_wanted: impl Fn(&IdleEntry<T>) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        for shard in &self.shards {
            let before = removed.len();
            shard.lock().by_key.retain(|_, queue| {
                // Almost always there is none.
                if queue.iter().any(&is_wanted) {
                    let (gone, kept) = std::mem::take(queue).into_iter().partition(&is_wanted);
                    let gone: VecDeque<_> = gone;
                    removed.extend(gone.into_iter().map(|entry| entry.value));
                    *queue = kept;
                }
                !queue.is_empty()
            });
            self.count.fetch_sub(removed.len() - before, Relaxed);
        }
        removed
    }

    /// What `look` says of each entry, for a decision that takes too long for a lock.
    pub fn list<R>(&self, look: impl Fn(&T) -> Option<R>) -> Vec<(IdleId, R)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            for (key, queue) in &shard.lock().by_key {
                let id = |entry: &IdleEntry<T>| IdleId { key: *key, number: entry.number };
                found.extend(queue.iter().filter_map(|entry| Some((id(entry), look(&entry.value)?))));
            }
        }
        found
    }

    /// Removes an entry unless it was taken since it was listed.
    pub fn remove(&self, id: IdleId) -> Option<T> {
        let mut shard = self.shard(id.key).lock();
        let queue = shard.by_key.get_mut(&id.key)?;
        let at = queue.binary_search_by_key(&id.number, |entry| entry.number).ok()?;
        let entry = queue.remove(at)?;
        self.count.fetch_sub(1, Relaxed);
        Some(entry.value)
    }

    fn shard(&self, key: u64) -> &Mutex<Shard<T>> {
        let [first, ..] = &self.shards;
        // The key is a hash, so its low bits will do.
        usize::try_from(key % SHARDS as u64).ok().and_then(|at| self.shards.get(at)).unwrap_or(first)
    }
}

#[cfg(test)]
#[path = "idle_store_tests.rs"]
mod tests;

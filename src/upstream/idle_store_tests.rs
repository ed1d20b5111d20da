//! The store of idle connections beside a simple model, and from several threads at once.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

fn store<T>(max: usize) -> IdleStore<T> {
    IdleStore::new(max, Arc::default())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put {
        key: u64,
        timeout_ms: u64,
    },
    Take {
        key: u64,
    },
    RemoveExpired,
    /// One of those that were listed some steps ago.
    Remove {
        which: usize,
    },
    List,
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // Two pairs of keys share a shard.
    let key = || prop::sample::select(vec![0, 1, 2, 16, 17]);
    prop_oneof![
        6 => (key(), 0..100_u64).prop_map(|(key, timeout_ms)| Step::Put { key, timeout_ms }),
        4 => key().prop_map(|key| Step::Take { key }),
        1 => Just(Step::RemoveExpired),
        2 => (0..20_usize).prop_map(|which| Step::Remove { which }),
        1 => Just(Step::List),
        1 => (0..50_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModelEntry {
    key: u64,
    value: u64,
    expires_ms: u64,
}

/// The same as a list in the order of `put`.
#[derive(Debug, Default)]
struct Model(Vec<ModelEntry>);

impl Model {
    fn take(&mut self, key: u64, now_ms: u64) -> Option<u64> {
        // The newest that has not expired; newer ones that have are dropped.
        loop {
            let at = self.0.iter().rposition(|entry| entry.key == key)?;
            let entry = self.0.remove(at);
            if entry.expires_ms > now_ms {
                return Some(entry.value);
            }
        }
    }

    fn put(&mut self, entry: ModelEntry, max: usize) -> Option<u64> {
        if max == 0 {
            return Some(entry.value);
        }
        let oldest = (self.0.len() >= max).then(|| self.0.remove(0).value);
        self.0.push(entry);
        oldest
    }

    fn remove_expired(&mut self, now_ms: u64) -> BTreeSet<u64> {
        let (gone, kept) = self.0.iter().partition::<Vec<ModelEntry>, _>(|entry| entry.expires_ms <= now_ms);
        self.0 = kept;
        gone.into_iter().map(|entry| entry.value).collect()
    }

    fn remove(&mut self, value: u64) -> Option<u64> {
        let at = self.0.iter().position(|entry| entry.value == value)?;
        Some(self.0.remove(at).value)
    }
}

proptest! {
    #[test]
    fn every_sequence_of_calls_does_what_a_plain_list_does(
        max in 0..6_usize,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (store, mut model) = (store(max), Model::default());
        let (mut now_ms, mut next, mut listed) = (0_u64, 0_u64, Vec::new());
        for step in steps {
            // Two entries of one age in different shards have no order.
            now_ms += 1;
            match step {
                Step::Put { key, timeout_ms } => {
                    next += 1;
                    let entry = ModelEntry { key, value: next, expires_ms: now_ms + timeout_ms };
                    let removed = store.put(key, next, now_ms, entry.expires_ms);
                    prop_assert_eq!(removed, model.put(entry, max));
                }
                Step::Take { key } => prop_assert_eq!(store.take(key, now_ms), model.take(key, now_ms)),
                Step::RemoveExpired => {
                    let removed: BTreeSet<u64> = store.remove_expired(now_ms).into_iter().collect();
                    prop_assert_eq!(removed, model.remove_expired(now_ms));
                }
                Step::List => listed = store.list(|value| Some(*value)),
                Step::Remove { which } => {
                    if let Some((id, value)) = listed.get(which).copied() {
                        prop_assert_eq!(store.remove(id), model.remove(value));
                    }
                }
                Step::Wait { ms } => now_ms += ms,
            }
            prop_assert!(store.len() <= max);
            prop_assert_eq!(store.len(), model.0.len());
        }
        let left: BTreeSet<u64> = store.remove_all().into_iter().collect();
        prop_assert_eq!(left, model.0.iter().map(|entry| entry.value).collect::<BTreeSet<_>>());
        prop_assert_eq!(store.len(), 0);
    }
}

#[test]
fn an_entry_that_was_taken_and_put_again_is_not_removed_by_its_old_id() {
    let store = store(4);
    store.put(1, "a", 0, 100);
    let listed = store.list(|value| Some(*value));
    let value = store.take(1, 1).unwrap();
    store.put(1, value, 1, 100);
    assert_eq!(store.remove(listed[0].0), None);
    assert_eq!(store.len(), 1);
}

#[test]
fn keys_without_entries_do_not_stay() {
    let store = store(4);
    for key in 0..100 {
        store.put(key, key, 0, 100);
        store.take(key, 1);
    }
    assert!(store.remove_expired(1).is_empty());
    assert_eq!(store.shards.iter().map(|shard| shard.lock().by_key.len()).sum::<usize>(), 0);
}

/// Counts how many exist, and who has it.
struct Tracked {
    live: Arc<AtomicUsize>,
    is_taken: AtomicBool,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Relaxed);
    }
}

#[test]
fn threads_never_get_the_same_entry_and_never_keep_more_than_the_limit() {
    const THREADS: usize = 8;
    const MAX: usize = 12;
    let store: IdleStore<Tracked> = store(MAX);
    let live = Arc::new(AtomicUsize::new(0));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, live) = (&store, &live);
                scope.spawn(move || {
                    for turn in 0..4_000_usize {
                        let (key, now_ms) = (((turn * 7 + thread) % 5) as u64, turn as u64);
                        let value = store.take(key, now_ms).unwrap_or_else(|| {
                            live.fetch_add(1, Relaxed);
                            Tracked { live: Arc::clone(live), is_taken: AtomicBool::new(false) }
                        });
                        assert!(!value.is_taken.swap(true, Relaxed), "it was handed out twice");
                        // Each thread has one, and one more while it puts; the last thread has at most what was stored.
                        assert!(live.load(Relaxed) <= 2 * MAX + 2 * THREADS);
                        if turn % 11 != 0 {
                            value.is_taken.store(false, Relaxed);
                            drop(store.put(key, value, now_ms, now_ms + 40));
                        }
                    }
                })
            })
            .collect();
        let (store, is_over) = (&store, &is_over);
        scope.spawn(move || {
            let mut now_ms = 0;
            while !is_over.load(Relaxed) {
                now_ms += 1;
                for (id, ()) in store.list(|_| Some(())).into_iter().step_by(3) {
                    if let Some(value) = store.remove(id) {
                        assert!(!value.is_taken.swap(true, Relaxed), "it was removed and handed out");
                    }
                }
                for value in store.remove_expired(now_ms) {
                    assert!(!value.is_taken.swap(true, Relaxed), "it has expired and was handed out");
                }
                std::thread::yield_now();
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        is_over.store(true, Relaxed);
    });
    assert!(store.len() <= MAX);
    assert_eq!(store.len(), live.load(Relaxed));
    drop(store.remove_all());
    assert_eq!((store.len(), live.load(Relaxed)), (0, 0));
}

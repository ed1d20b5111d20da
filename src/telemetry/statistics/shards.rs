//! One copy of a value for each thread, so that threads that count do not compete for cache lines.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// More threads than this share copies, which is slower but correct.
const SHARDS: usize = 8;

/// On a pair of cache lines of its own, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// One copy of a `T` for each thread.
#[derive(Debug, Default)]
pub struct PerThread<T>([Padded<T>; SHARDS]);

thread_local! {
    static SHARD_INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Threads are numbered in the order of their first use.
fn shard_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SHARD_INDEX.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        mine.get()
    })
}

impl<T> PerThread<T> {
    #[must_use]
    pub fn this_thread(&self) -> &T {
        let [first, ..] = &self.0;
        &self.0.get(shard_index()).unwrap_or(first).0
    }

    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn the_copies_of_many_threads_add_up() {
        let shards = PerThread::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    (0..1_000).for_each(|_| {
                        shards.this_thread().fetch_add(1, Relaxed);
                    })
                });
            }
        });
        assert_eq!(shards.all().map(|n| n.load(Relaxed)).sum::<u64>(), 20_000);
        assert!(shards.all().filter(|n| n.load(Relaxed) > 0).count() > 1, "all threads shared one copy");
    }
}

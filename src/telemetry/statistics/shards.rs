//! One value for each of a few threads, so that counting costs no other thread its cache line.
//!
//! In: a thread that counts. Out: its own copy; all copies for whoever adds them up. It never allocates on use.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// More threads than this share copies, which is slower and still right. A power of two.
const SHARDS: usize = 8;

/// On its own pair of cache lines: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// See the module's description.
#[derive(Debug, Default)]
pub struct PerThread<T>([Padded<T>; SHARDS]);

thread_local! {
    static SHARD_INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Threads take numbers in the order in which they first count.
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
    /// The copy of this thread.
    #[must_use]
    pub fn this_thread(&self) -> &T {
        let [first, ..] = &self.0;
        &self.0.get(shard_index()).unwrap_or(first).0
    }

    /// Every copy.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn what_many_threads_count_adds_up() {
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

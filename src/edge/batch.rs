//! Requests that are worked on at the same time wait for each other at two places: before what goes to a server, and
//! before what is left of an answer when all else is done. So their writes follow one another: who receives them wakes up
//! once for many of them, and the code of each step is still in the processor's cache for the next request. Where they
//! are very many, the next one does not begin before those that have begun: fewer lie in memory at once, and that memory
//! is still in the cache.
//!
//! In: how many requests are in progress. Out: a turn or two of the worker thread's other tasks, or none at all where
//! few requests would only wait for nobody. It never waits for time to pass, nor for any one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Requests in progress for each worker thread, from which on it pays (`benches/README.md`).
const ENOUGH: u64 = 8;
/// Those from which on the next one makes way.
const MANY: u64 = 64;
/// For so long.
const TURNS: usize = 2;

/// See the module's description.
#[derive(Debug)]
pub struct Batch {
    in_progress: Arc<AtomicU64>,
    enough: u64,
    many: u64,
}

impl Batch {
    /// Of the requests that are counted in `in_progress`, on so many worker threads.
    #[must_use]
    pub fn new(in_progress: &Arc<AtomicU64>, workers: usize) -> Self {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
        let [enough, many] = [ENOUGH, MANY].map(|each| workers.saturating_mul(each));
        Self { in_progress: Arc::clone(in_progress), enough, many }
    }

    /// There are enough of them.
    #[must_use]
    pub fn pays(&self) -> bool {
        self.in_progress.load(Relaxed) >= self.enough
    }

    /// Lets all others go on that can, where it pays.
    pub async fn gather(&self) {
        if self.pays() {
            // Comes back when the worker has asked the system what else can go on, and that has had its turn.
            tokio::task::yield_now().await;
        }
    }

    /// Lets those go on that have begun, where they are many.
    pub async fn make_way(&self) {
        for _ in 0..TURNS {
            if self.in_progress.load(Relaxed) < self.many {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn few_requests_wait_for_nobody_and_many_for_one_turn() {
        let in_progress = Arc::new(AtomicU64::new(15));
        let batch = Batch::new(&in_progress, 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(batch.gather()).poll(&mut cx).is_ready());
        in_progress.store(16, Relaxed);
        let mut gathering = pin!(batch.gather());
        assert!(gathering.as_mut().poll(&mut cx).is_pending());
        assert!(gathering.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_request_makes_way_for_many_and_not_for_longer_than_two_turns() {
        let in_progress = Arc::new(AtomicU64::new(127));
        let batch = Batch::new(&in_progress, 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(batch.make_way()).poll(&mut cx).is_ready());
        in_progress.store(128, Relaxed);
        let mut patient = pin!(batch.make_way());
        assert!(patient.as_mut().poll(&mut cx).is_pending());
        assert!(patient.as_mut().poll(&mut cx).is_pending());
        assert!(patient.as_mut().poll(&mut cx).is_ready());
        let mut lucky = pin!(batch.make_way());
        assert!(lucky.as_mut().poll(&mut cx).is_pending());
        in_progress.store(127, Relaxed);
        assert!(lucky.as_mut().poll(&mut cx).is_ready());
    }
}

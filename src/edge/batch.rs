//! Requests that are worked on at the same time wait for each other at two places: before what goes to a server, and
//! before what is left of an answer when all else is done. So their writes follow one another: who receives them wakes up
//! once for many of them, and the code of each step is still in the processor's cache for the next request.
//!
//! In: how many requests are in progress. Out: one turn of the worker thread's other tasks, or none at all where few
//! requests would only wait for nobody. It never waits for time to pass, nor for any one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Requests in progress for each worker thread, from which on it pays (`benches/README.md`).
const ENOUGH: u64 = 8;

/// See the module's description.
#[derive(Debug)]
pub struct Batch {
    in_progress: Arc<AtomicU64>,
    enough: u64,
}

impl Batch {
    /// Of the requests that are counted in `in_progress`, on so many worker threads.
    #[must_use]
    pub fn new(in_progress: &Arc<AtomicU64>, workers: usize) -> Self {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX);
        Self { in_progress: Arc::clone(in_progress), enough: workers.max(1).saturating_mul(ENOUGH) }
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
}

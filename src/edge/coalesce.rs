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
const COALESCE_IN_FLIGHT_PER_WORKER: u64 = 8;
/// Those from which on the next one makes way.
const YIELD_IN_FLIGHT_PER_WORKER: u64 = 64;
/// For so long.
const MAX_YIELDS: usize = 2;

/// See the module's description.
#[derive(Debug)]
pub struct Coalescer {
    in_flight: Arc<AtomicU64>,
    coalesce_threshold: u64,
    yield_threshold: u64,
}

impl Coalescer {
    /// Of the requests that are counted in `in_progress`, on so many worker threads.
    #[must_use]
    pub fn new(in_flight: &Arc<AtomicU64>, workers: usize) -> Self {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
        let [coalesce_threshold, yield_threshold] =
            [COALESCE_IN_FLIGHT_PER_WORKER, YIELD_IN_FLIGHT_PER_WORKER]
                .map(|each| workers.saturating_mul(each));
        Self { in_flight: Arc::clone(in_flight), coalesce_threshold, yield_threshold }
    }

    /// There are enough of them.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.in_flight.load(Relaxed) >= self.coalesce_threshold
    }

    /// Lets all others go on that can, where it pays.
    pub async fn coalesce_writes(&self) {
        if self.is_active() {
            // Comes back when the worker has asked the system what else can go on, and that has had its turn.
            tokio::task::yield_now().await;
        }
    }

    /// Lets those go on that have begun, where they are many.
    pub async fn yield_if_crowded(&self) {
        for _ in 0..MAX_YIELDS {
            if self.in_flight.load(Relaxed) < self.yield_threshold {
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
        let in_flight = Arc::new(AtomicU64::new(15));
        let coalescer = Coalescer::new(&in_flight, 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(coalescer.coalesce_writes()).poll(&mut cx).is_ready());
        in_flight.store(16, Relaxed);
        let mut gathering = pin!(coalescer.coalesce_writes());
        assert!(gathering.as_mut().poll(&mut cx).is_pending());
        assert!(gathering.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_request_makes_way_for_many_and_not_for_longer_than_two_turns() {
        let in_flight = Arc::new(AtomicU64::new(127));
        let coalescer = Coalescer::new(&in_flight, 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(coalescer.yield_if_crowded()).poll(&mut cx).is_ready());
        in_flight.store(128, Relaxed);
        let mut patient = pin!(coalescer.yield_if_crowded());
        assert!(patient.as_mut().poll(&mut cx).is_pending());
        assert!(patient.as_mut().poll(&mut cx).is_pending());
        assert!(patient.as_mut().poll(&mut cx).is_ready());
        let mut lucky = pin!(coalescer.yield_if_crowded());
        assert!(lucky.as_mut().poll(&mut cx).is_pending());
        in_flight.store(127, Relaxed);
        assert!(lucky.as_mut().poll(&mut cx).is_ready());
    }
}

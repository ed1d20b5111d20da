//! Under load, lets requests yield to other tasks of their worker thread, which reduces CPU time per request.
//!
//! Requests yield before they write to a server and before they write the rest of a response. Their writes then follow one
//! another: the receiver wakes up once for many of them, and the code of each step stays in the CPU cache. Under higher
//! load, a new request yields to running ones, so that fewer are in memory at once. A yield lasts one pass over the ready
//! tasks; nothing waits for time to pass or for a particular request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// From this many requests in flight per worker on, coalescing saves time (`benches/README.md`).
const COALESCE_IN_FLIGHT_PER_WORKER: u64 = 8;
/// From this many on, a new request yields first.
const YIELD_IN_FLIGHT_PER_WORKER: u64 = 64;
const MAX_YIELDS: usize = 2;

#[derive(Debug)]
pub struct Coalescer {
    in_flight: Arc<AtomicU64>,
    coalesce_threshold: u64,
    yield_threshold: u64,
}

impl Coalescer {
    #[must_use]
    pub fn new(in_flight: &Arc<AtomicU64>, workers: usize) -> Self {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
        let [coalesce_threshold, yield_threshold] =
            [COALESCE_IN_FLIGHT_PER_WORKER, YIELD_IN_FLIGHT_PER_WORKER]
                .map(|each| workers.saturating_mul(each));
        Self { in_flight: Arc::clone(in_flight), coalesce_threshold, yield_threshold }
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        self.in_flight.load(Relaxed) >= self.coalesce_threshold
    }

    pub async fn coalesce_writes(&self) {
        if self.is_active() {
            // Resumes after the worker has polled the I/O driver and run the tasks that became ready.
            tokio::task::yield_now().await;
        }
    }

    /// Lets running requests continue before a new one begins.
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
    fn writes_yield_once_from_the_threshold_on() {
        let in_flight = Arc::new(AtomicU64::new(15));
        let coalescer = Coalescer::new(&in_flight, 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(coalescer.coalesce_writes()).poll(&mut cx).is_ready());
        in_flight.store(16, Relaxed);
        let mut coalescing = pin!(coalescer.coalesce_writes());
        assert!(coalescing.as_mut().poll(&mut cx).is_pending());
        assert!(coalescing.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_new_request_yields_at_most_twice_under_load() {
        let in_flight = Arc::new(AtomicU64::new(127));
        let coalescer = Coalescer::new(&in_flight, 2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(coalescer.yield_if_crowded()).poll(&mut cx).is_ready());
        in_flight.store(128, Relaxed);
        let mut yielding = pin!(coalescer.yield_if_crowded());
        assert!(yielding.as_mut().poll(&mut cx).is_pending());
        assert!(yielding.as_mut().poll(&mut cx).is_pending());
        assert!(yielding.as_mut().poll(&mut cx).is_ready());
        let mut relieved = pin!(coalescer.yield_if_crowded());
        assert!(relieved.as_mut().poll(&mut cx).is_pending());
        in_flight.store(127, Relaxed);
        assert!(relieved.as_mut().poll(&mut cx).is_ready());
    }
}

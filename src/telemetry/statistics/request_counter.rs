//! A count of requests that many threads increase, such as those of one route. It is apart from the statistics of a cluster,
//! because its label comes from the configuration.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::shards::PerThread;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct RequestCounter(PerThread<AtomicU64>);

impl RequestCounter {
    /// Adds one request of this thread.
    pub fn count(&self) {
        self.0.this_thread().fetch_add(1, Relaxed);
    }

    /// The requests of all threads.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.all().fold(0, |sum, count| sum.wrapping_add(count.load(Relaxed)))
    }
}

//! The retry budget: a share of the requests of the last ten seconds may be sent a second time, so that retries do not
//! overload a failing cluster. Failed connects do not count, because nothing was sent.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const WINDOW_SECONDS: usize = 10;
/// Always allowed, so that a cluster with few requests can retry at all.
const MIN_RETRIES_PER_SECOND: u32 = 10;

#[derive(Debug, Default)]
struct Bucket {
    second: AtomicU64,
    requests: AtomicU32,
    replays: AtomicU32,
}

/// A ring of buckets of one second each.
#[derive(Debug, Default)]
pub struct RetryBudget {
    ring: [Bucket; WINDOW_SECONDS],
}

impl RetryBudget {
    pub fn record_request(&self, now_ms: u64) {
        if let Some(bucket) = self.bucket(now_ms / 1_000) {
            bucket.requests.fetch_add(1, Relaxed);
        }
    }

    /// Counts one more retry if the budget allows it. `share` is 0.0..=1.0.
    pub fn try_acquire(&self, share: f64, now_ms: u64) -> bool {
        if !self.allows(share, now_ms) {
            return false;
        }
        if let Some(bucket) = self.bucket(now_ms / 1_000) {
            bucket.replays.fetch_add(1, Relaxed);
        }
        true
    }

    fn allows(&self, share: f64, now_ms: u64) -> bool {
        let now = now_ms / 1_000;
        let (mut requests, mut replays) = (0_u32, 0_u32);
        for bucket in &self.ring {
            if now.saturating_sub(bucket.second.load(Relaxed)) < WINDOW_SECONDS as u64 {
                requests = requests.saturating_add(bucket.requests.load(Relaxed));
                replays = replays.saturating_add(bucket.replays.load(Relaxed));
            }
        }
        f64::from(replays)
            < (share * f64::from(requests)).max(f64::from(MIN_RETRIES_PER_SECOND * WINDOW_SECONDS as u32))
    }

    /// The bucket of this second, emptied if it held an older one. Two threads may empty it at once and lose a count;
    /// that is acceptable, a lock on this path is not.
    fn bucket(&self, second: u64) -> Option<&Bucket> {
        let bucket = self.ring.get((second % WINDOW_SECONDS as u64) as usize)?;
        // Read first: nearly always the bucket is of this second.
        if bucket.second.load(Relaxed) != second && bucket.second.swap(second, Relaxed) != second {
            bucket.requests.store(0, Relaxed);
            bucket.replays.store(0, Relaxed);
        }
        Some(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_retries_in_ten_seconds_are_always_allowed_and_then_a_share() {
        let budget = RetryBudget::default();
        let granted = (0..1_000).filter(|_| budget.try_acquire(0.2, 50_000)).count();
        assert_eq!(granted, 100);
        for _ in 0..2_000 {
            budget.record_request(50_000);
        }
        let granted = (0..1_000).filter(|_| budget.try_acquire(0.2, 50_500)).count();
        assert_eq!(granted, 300, "a fifth of 2000, minus the first 100");
    }

    #[test]
    fn retries_older_than_ten_seconds_do_not_count() {
        let budget = RetryBudget::default();
        while budget.try_acquire(0.0, 50_000) {}
        assert!(!budget.try_acquire(0.0, 59_999));
        assert!(budget.try_acquire(0.0, 60_000));
    }
}

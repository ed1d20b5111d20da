//! The retry budget: a share of the requests of the last ten seconds may be replayed, so that a sick
//! cluster is not drowned in second attempts.
//!
//! In: requests and wishes to replay. Out: yes or no. Failed connects do not count: nothing was sent.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const WINDOW_SECONDS: usize = 10;
/// Replays a second that are always allowed.
const MIN_RETRIES_PER_SECOND: u32 = 10;

#[derive(Debug, Default)]
struct Bucket {
    second: AtomicU64,
    requests: AtomicU32,
    replays: AtomicU32,
}

/// Ten buckets of a second each.
#[derive(Debug, Default)]
pub struct RetryBudget {
    ring: [Bucket; WINDOW_SECONDS],
}

impl RetryBudget {
    /// A request began.
    pub fn record_request(&self, now_ms: u64) {
        if let Some(second) = self.bucket(now_ms / 1_000) {
            second.requests.fetch_add(1, Relaxed);
        }
    }

    /// May one more request be replayed? Counts it when the answer is yes. `share` is 0.0..=1.0.
    pub fn try_acquire(&self, share: f64, now_ms: u64) -> bool {
        if !self.allows(share, now_ms) {
            return false;
        }
        if let Some(second) = self.bucket(now_ms / 1_000) {
            second.replays.fetch_add(1, Relaxed);
        }
        true
    }

    fn allows(&self, share: f64, now_ms: u64) -> bool {
        let now = now_ms / 1_000;
        let (mut requests, mut replays) = (0_u32, 0_u32);
        for second in &self.ring {
            if now.saturating_sub(second.second.load(Relaxed)) < WINDOW_SECONDS as u64 {
                requests = requests.saturating_add(second.requests.load(Relaxed));
                replays = replays.saturating_add(second.replays.load(Relaxed));
            }
        }
        f64::from(replays)
            < (share * f64::from(requests)).max(f64::from(MIN_RETRIES_PER_SECOND * WINDOW_SECONDS as u32))
    }

    /// The bucket of this second, emptied when it last belonged to another. Two threads may empty it at
    /// once and lose a count: a budget may be off by one request, a lock may not be on this path.
    fn bucket(&self, number: u64) -> Option<&Bucket> {
        let slot = self.ring.get((number % WINDOW_SECONDS as u64) as usize)?;
        if slot.second.swap(number, Relaxed) != number {
            slot.requests.store(0, Relaxed);
            slot.replays.store(0, Relaxed);
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_replays_in_ten_seconds_are_always_allowed_and_then_a_share() {
        let budget = RetryBudget::default();
        let granted = (0..1_000).filter(|_| budget.try_acquire(0.2, 50_000)).count();
        assert_eq!(granted, 100);
        for _ in 0..2_000 {
            budget.record_request(50_000);
        }
        let granted = (0..1_000).filter(|_| budget.try_acquire(0.2, 50_500)).count();
        assert_eq!(granted, 300, "a fifth of two thousand, less the hundred");
    }

    #[test]
    fn what_is_older_than_ten_seconds_no_longer_counts() {
        let budget = RetryBudget::default();
        while budget.try_acquire(0.0, 50_000) {}
        assert!(!budget.try_acquire(0.0, 59_999));
        assert!(budget.try_acquire(0.0, 60_000));
    }
}

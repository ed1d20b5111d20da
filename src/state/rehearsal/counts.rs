//! What a rehearsal counts for a group of users, in atomics of fixed size: requests write them without a lock, and a long
//! rehearsal takes no more memory than a short one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::domain::rehearsal::UserDraw;

const USER_WORDS: usize = 1_024;
/// A bit for each of 65536 values of a draw: estimates up to half a million users.
const USER_BITS: f64 = (USER_WORDS * 64) as f64;

/// Counts different users without keeping them (linear counting, <https://doi.org/10.1145/78922.78925>).
#[derive(Debug)]
pub(super) struct UserSet(Box<[AtomicU64; USER_WORDS]>);

impl Default for UserSet {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl UserSet {
    pub(super) fn insert(&self, user: UserDraw) {
        // The low bits, because the share is chosen by the size of the number.
        let bit = user.0 % (USER_WORDS as u32 * 64);
        let mask = 1_u64 << (bit % 64);
        if let Some(word) = self.0.get(bit as usize / 64)
            && word.load(Relaxed) & mask == 0
        {
            word.fetch_or(mask, Relaxed);
        }
    }

    /// The estimated number of users; exact for a few.
    pub(super) fn len(&self) -> u64 {
        let set: u32 = self.0.iter().map(|word| word.load(Relaxed).count_ones()).sum();
        let free = USER_BITS - f64::from(set);
        (USER_BITS * (USER_BITS / free.max(1.0)).ln()).round() as u64
    }
}

const TIME_BUCKETS: usize = 112;
const BUCKETS_PER_DOUBLING: f64 = 4.0;

/// Response times in buckets whose bounds are a fifth apart, up to four minutes.
#[derive(Debug)]
pub(super) struct ResponseTimes([AtomicU64; TIME_BUCKETS]);

impl Default for ResponseTimes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl ResponseTimes {
    fn record(&self, time: Duration) {
        let micros = time.as_secs_f64() * 1e6;
        let bucket = ((micros.max(1.0).log2() * BUCKETS_PER_DOUBLING) as usize).min(TIME_BUCKETS - 1);
        if let Some(count) = self.0.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The time in milliseconds that this share of the responses did not exceed; `None` without responses.
    pub(super) fn quantile_ms(&self, share: f64) -> Option<f64> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen >= wanted
        })?;
        let upper_micros = ((bucket + 1) as f64 / BUCKETS_PER_DOUBLING).exp2();
        Some((upper_micros / 10.0).round() / 100.0)
    }
}

/// The requests of one group of users.
#[derive(Debug, Default)]
pub(super) struct GroupCounts {
    pub(super) users: UserSet,
    pub(super) users_with_errors: UserSet,
    pub(super) requests: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) not_found: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) times: ResponseTimes,
}

/// How a request ended for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestResult {
    /// With a response that is no error, or because the client left.
    Good,
    /// With the status 404.
    NotFound,
    /// With the status 401 or 403, and not for want of a login that the user has on the rehearsed server.
    Denied,
    /// With a status of 500 or more, or a response that broke off.
    Failed,
}

impl GroupCounts {
    pub(super) fn record(&self, user: UserDraw, result: RequestResult, first_byte: Option<Duration>) {
        self.users.insert(user);
        self.requests.fetch_add(1, Relaxed);
        if let Some(time) = first_byte {
            self.times.record(time);
        }
        match result {
            RequestResult::Good => return,
            RequestResult::NotFound => self.not_found.fetch_add(1, Relaxed),
            RequestResult::Denied => self.denied.fetch_add(1, Relaxed),
            RequestResult::Failed => self.failed.fetch_add(1, Relaxed),
        };
        self.users_with_errors.insert(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u32) -> UserDraw {
        let mut hasher = crate::domain::rehearsal::DrawHasher::new(1, None);
        hasher.add(&number.to_be_bytes());
        hasher.finish()
    }

    #[test]
    fn users_are_counted_once_each() {
        let users = UserSet::default();
        assert_eq!(users.len(), 0);
        for n in 0..3_u32 {
            users.insert(user(n));
            users.insert(user(n));
        }
        assert_eq!(users.len(), 3);
        (0..50_000_u32).for_each(|n| users.insert(user(n)));
        assert!((48_500..51_500).contains(&users.len()), "{}", users.len());
    }

    #[test]
    fn quantiles_are_a_fifth_too_high_at_most() {
        let times = ResponseTimes::default();
        assert_eq!(times.quantile_ms(0.5), None);
        (1..=100).for_each(|ms| times.record(Duration::from_millis(ms)));
        for (share, exact) in [(0.5, 50.0), (0.99, 99.0)] {
            let seen = times.quantile_ms(share).unwrap();
            assert!((exact..exact * 1.2).contains(&seen), "{share}: {seen}");
        }
        times.record(Duration::from_secs(100_000));
        assert!(times.quantile_ms(1.0).unwrap() > 100_000.0);
    }
}

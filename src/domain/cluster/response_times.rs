//! A histogram of a server's response times: fixed atomics, of which a request adds to one. It is finer than the buckets of
//! the metrics, so that the percentiles of ten seconds can be drawn.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets for each doubling of the time, so a bucket is at most a quarter wide.
const STEPS: u32 = 4;
/// Times below 2^8 = 256 µs share the first bucket.
const MIN_LOG2: u32 = 8;
/// Times from 2^28 µs, four and a half minutes, on share the last bucket.
const MAX_LOG2: u32 = 28;
/// The number of buckets.
pub const BUCKETS: usize = ((MAX_LOG2 - MIN_LOG2) * STEPS) as usize + 2;

/// Counts of responses by their time, since the process started.
#[derive(Debug)]
pub struct ResponseTimes([AtomicU64; BUCKETS]);

impl Default for ResponseTimes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl ResponseTimes {
    pub(super) fn observe(&self, micros: u64) {
        if let Some(count) = self.0.get(usize::from(bucket(micros))) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The count of each bucket.
    #[must_use]
    pub fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|ix| self.0.get(ix).map_or(0, |count| count.load(Relaxed)))
    }

    /// The sum of all buckets.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed)).sum()
    }
}

/// The bucket of a time.
fn bucket(micros: u64) -> u8 {
    let log2 = micros.checked_ilog2().unwrap_or(0);
    let number = match log2 {
        0..MIN_LOG2 => 0,
        MIN_LOG2..MAX_LOG2 => {
            // The two bits after the leading one.
            let step = (micros >> (log2 - STEPS.ilog2())) as u32 & (STEPS - 1);
            (log2 - MIN_LOG2) * STEPS + step + 1
        }
        _ => BUCKETS as u32 - 1,
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The middle of a bucket in microseconds.
#[must_use]
pub fn bucket_micros(bucket: u8) -> u64 {
    let Some(number) = u32::from(bucket).checked_sub(1) else { return 1 << (MIN_LOG2 - 1) };
    let (log2, step) = (MIN_LOG2 + number / STEPS, number % STEPS);
    if log2 >= MAX_LOG2 {
        return 1 << MAX_LOG2;
    }
    // Eighths of the power of two: twice the step, and one half of its width.
    (u64::from(2 * (STEPS + step) + 1)) << (log2 - STEPS.ilog2() - 1)
}

/// The bucket in which this share of the responses ends; `None` without responses.
#[must_use]
pub fn percentile(counts: &[u64; BUCKETS], percent: u64) -> Option<u8> {
    let total: u64 = counts.iter().sum();
    let wanted = (total.saturating_mul(percent)).div_ceil(100).max(1);
    let mut seen = 0;
    let found = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    found.and_then(|ix| u8::try_from(ix).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_those_of_the_responses() {
        let times = ResponseTimes::default();
        assert_eq!(percentile(&times.counts(), 50), None);
        (0..98).for_each(|_| times.observe(3_000));
        times.observe(2_000_000);
        times.observe(2_000_000);
        let counts = times.counts();
        let at = |percent| bucket_micros(percentile(&counts, percent).unwrap());
        assert!((2_600..3_400).contains(&at(50)), "{}", at(50));
        assert!((2_600..3_400).contains(&at(98)), "{}", at(98));
        assert!((1_700_000..2_300_000).contains(&at(99)), "{}", at(99));
        assert_eq!(times.total(), 100);
    }

    #[test]
    fn the_last_bucket_takes_all_longer_times() {
        assert_eq!(usize::from(bucket(u64::MAX)), BUCKETS - 1);
        assert_eq!(bucket_micros(bucket(u64::MAX)), 1 << MAX_LOG2);
        assert_eq!((bucket(0), bucket(255), bucket(256)), (0, 0, 1));
    }

    proptest! {
        #[test]
        fn a_time_differs_from_its_bucket_by_an_eighth_at_most(micros in 256_u64..(1 << MAX_LOG2)) {
            let shown = bucket_micros(bucket(micros));
            prop_assert!(shown.abs_diff(micros) * 8 <= micros, "{micros} is shown as {shown}");
        }

        #[test]
        fn a_longer_time_is_never_in_an_earlier_bucket(a in 0_u64..1 << 30, more in 0_u64..1 << 30) {
            prop_assert!(bucket(a) <= bucket(a + more));
        }
    }
}

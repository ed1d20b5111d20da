//! How requests of one cluster ended: their times, their second attempts, our own pages.
//!
//! In: a few calls at the end of a request. Out: histograms and counts with fixed keys, so that no URL and no
//! database can ever become a label. It lives as long as the process knows the cluster.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::shards::Shards;
use crate::domain::cluster::availability::RequestClass;

/// Upper bounds of the buckets in microseconds: from a page in a server's memory to an agent that takes minutes.
pub const BOUNDS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000, 90_000_000,
];

/// Times in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Each for its own bound, the last for what took longer: they are added up when somebody asks.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// Takes in one time.
    pub fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| micros > *bound);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.micros.fetch_add(micros, Relaxed);
    }
}

/// A histogram's sums over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Not cumulative; the last has no bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All times together.
    pub micros: u64,
}

impl Times {
    fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum = sum.wrapping_add(bucket.load(Relaxed));
        }
        self.micros = self.micros.wrapping_add(histogram.micros.load(Relaxed));
    }

    /// How many times were taken in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Words for the classes of a status; the first where the client left before there was one.
pub const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Words for [`RequestClass`], in its order.
pub const REQUEST_CLASSES: [&str; RequestClass::COUNT] = ["static", "resource", "document", "agent"];
/// Words for why a second server was asked.
pub const CAUSES: [&str; 5] = ["connect", "broken", "timeout", "status", "not_found"];

#[derive(Debug, Default)]
struct Counts {
    requests: [Histogram; STATUS_CLASSES.len()],
    answers: [Histogram; REQUEST_CLASSES.len()],
    failovers: [AtomicU64; CAUSES.len()],
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Traffic(Shards<Counts>);

impl Traffic {
    /// A request has ended with this status, 0 or 499 where the client had left.
    pub fn request(&self, status: u16, time: Duration) {
        let class = if status == 499 { 0 } else { usize::from(status / 100) };
        let counts = self.0.here();
        let [none, ..] = &counts.requests;
        counts.requests.get(class).unwrap_or(none).observe(time);
    }

    /// A server's final header came so long after it was chosen.
    pub fn answer(&self, class: RequestClass, time: Duration) {
        if let Some(histogram) = self.0.here().answers.get(class as usize) {
            histogram.observe(time);
        }
    }

    /// A second server is asked; `cause` is one of [`CAUSES`].
    pub fn failover(&self, cause: &str) {
        if let Some(ix) = CAUSES.iter().position(|known| *known == cause)
            && let Some(count) = self.0.here().failovers.get(ix)
        {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Times of whole requests, by [`STATUS_CLASSES`].
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, Times)> {
        self.times(STATUS_CLASSES, |counts| &counts.requests).into_iter()
    }

    /// Times to a server's header, by [`REQUEST_CLASSES`].
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, Times)> {
        self.times(REQUEST_CLASSES, |counts| &counts.answers).into_iter()
    }

    /// Second servers, by [`CAUSES`].
    pub fn failovers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut sums = CAUSES.map(|cause| (cause, 0));
        for counts in self.0.all() {
            for ((_, sum), count) in sums.iter_mut().zip(&counts.failovers) {
                *sum += count.load(Relaxed);
            }
        }
        sums.into_iter()
    }

    fn times<const N: usize>(
        &self,
        words: [&'static str; N],
        of: impl Fn(&Counts) -> &[Histogram; N],
    ) -> [(&'static str, Times); N] {
        let mut sums = words.map(|word| (word, Times::default()));
        for counts in self.0.all() {
            for ((_, sum), histogram) in sums.iter_mut().zip(of(counts)) {
                sum.add(histogram);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let traffic = Traffic::default();
        for micros in [0, 1_000, 1_001, 90_000_000, 90_000_001] {
            traffic.request(200, Duration::from_micros(micros));
        }
        let (_, times) = traffic.requests().find(|(word, _)| *word == "2xx").unwrap();
        assert_eq!((times.buckets[0], times.buckets[1]), (2, 1));
        assert_eq!((times.buckets[BOUNDS.len() - 1], times.buckets[BOUNDS.len()]), (1, 1));
        assert_eq!((times.count(), times.micros), (5, 180_002_002));
    }

    #[test]
    fn a_status_nobody_knows_is_counted_all_the_same() {
        let traffic = Traffic::default();
        for status in [0, 99, 101, 499, 404, 503, 999] {
            traffic.request(status, Duration::ZERO);
        }
        let counts: Vec<_> = traffic.requests().map(|(word, times)| (word, times.count())).collect();
        assert_eq!(counts, [("none", 4), ("1xx", 1), ("2xx", 0), ("3xx", 0), ("4xx", 1), ("5xx", 1)]);
    }

    #[test]
    fn second_attempts_are_counted_by_cause_and_an_unknown_one_is_not() {
        let traffic = Traffic::default();
        traffic.failover("timeout");
        traffic.failover("made up");
        assert_eq!(traffic.failovers().map(|(_, n)| n).sum::<u64>(), 1);
    }
}

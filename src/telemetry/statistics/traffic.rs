//! Histograms of request and response times and counts of failover attempts for one cluster. The labels are fixed, so no
//! URL or database can become one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::shards::PerThread;
use crate::domain::cluster::availability::RequestClass;

/// From a cached page to an agent that runs for minutes.
pub(crate) const BUCKET_BOUNDS_MICROS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    30_000_000, 90_000_000,
];

/// A histogram of one thread.
#[derive(Debug, Default)]
struct Histogram {
    /// Not cumulative; the last bucket is for times above all bounds.
    buckets: [AtomicU64; BUCKET_BOUNDS_MICROS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKET_BOUNDS_MICROS.partition_point(|bound| micros > *bound);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.micros.fetch_add(micros, Relaxed);
    }
}

/// The sum of a histogram over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramTotals {
    /// Not cumulative; the last bucket is for times above all bounds.
    pub(crate) buckets: [u64; BUCKET_BOUNDS_MICROS.len() + 1],
    pub(crate) micros: u64,
}

impl HistogramTotals {
    fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum = sum.wrapping_add(bucket.load(Relaxed));
        }
        self.micros = self.micros.wrapping_add(histogram.micros.load(Relaxed));
    }

    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The label of a status class; `none` = the client left before there was a status.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// The labels of [`RequestClass`], in its order.
const REQUEST_CLASSES: [&str; RequestClass::COUNT] = ["static", "resource", "document", "agent"];
/// The labels of the causes of a failover attempt.
const FAILOVER_CAUSES: [&str; 5] = ["connect", "broken", "timeout", "status", "not_found"];

#[derive(Debug, Default)]
struct TrafficCounters {
    requests: [Histogram; STATUS_CLASSES.len()],
    responses: [Histogram; REQUEST_CLASSES.len()],
    failovers: [AtomicU64; FAILOVER_CAUSES.len()],
    site_crossings: AtomicU64,
}

/// The statistics of one cluster.
#[derive(Debug, Default)]
pub struct Traffic(PerThread<TrafficCounters>);

impl Traffic {
    /// Records a finished request; the status is 0 or 499 if the client left early.
    pub fn record_request(&self, status: u16, time: Duration) {
        let class = if status == 499 { 0 } else { usize::from(status / 100) };
        let counts = self.0.this_thread();
        let [none, ..] = &counts.requests;
        counts.requests.get(class).unwrap_or(none).observe(time);
    }

    /// Records the time from the choice of a server to its final response header.
    pub fn record_response(&self, class: RequestClass, time: Duration) {
        if let Some(histogram) = self.0.this_thread().responses.get(class as usize) {
            histogram.observe(time);
        }
    }

    /// Counts a failover attempt; `cause` is one of `FAILOVER_CAUSES`.
    pub fn record_failover(&self, cause: &str) {
        if let Some(ix) = FAILOVER_CAUSES.iter().position(|known| *known == cause)
            && let Some(count) = self.0.this_thread().failovers.get(ix)
        {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts a request that went to a server of another site.
    pub fn record_site_crossing(&self) {
        self.0.this_thread().site_crossings.fetch_add(1, Relaxed);
    }

    pub(crate) fn site_crossings(&self) -> u64 {
        self.0.all().map(|counts| counts.site_crossings.load(Relaxed)).sum()
    }

    /// The durations of requests, by [`STATUS_CLASSES`].
    pub(crate) fn request_durations(&self) -> impl Iterator<Item = (&'static str, HistogramTotals)> {
        self.sum_histograms(STATUS_CLASSES, |counts| &counts.requests).into_iter()
    }

    /// The response times of servers, by [`REQUEST_CLASSES`].
    pub(crate) fn response_times(&self) -> impl Iterator<Item = (&'static str, HistogramTotals)> {
        self.sum_histograms(REQUEST_CLASSES, |counts| &counts.responses).into_iter()
    }

    /// The failover attempts, by [`FAILOVER_CAUSES`].
    pub(crate) fn failovers_by_cause(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut sums = FAILOVER_CAUSES.map(|cause| (cause, 0));
        for counts in self.0.all() {
            for ((_, sum), count) in sums.iter_mut().zip(&counts.failovers) {
                *sum += count.load(Relaxed);
            }
        }
        sums.into_iter()
    }

    fn sum_histograms<const N: usize>(
        &self,
        labels: [&'static str; N],
        of: impl Fn(&TrafficCounters) -> &[Histogram; N],
    ) -> [(&'static str, HistogramTotals); N] {
        let mut sums = labels.map(|label| (label, HistogramTotals::default()));
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
    fn a_time_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed() {
        let traffic = Traffic::default();
        for micros in [0, 1_000, 1_001, 90_000_000, 90_000_001] {
            traffic.record_request(200, Duration::from_micros(micros));
        }
        let (_, times) = traffic.request_durations().find(|(label, _)| *label == "2xx").unwrap();
        assert_eq!((times.buckets[0], times.buckets[1]), (2, 1));
        assert_eq!(
            (times.buckets[BUCKET_BOUNDS_MICROS.len() - 1], times.buckets[BUCKET_BOUNDS_MICROS.len()]),
            (1, 1)
        );
        assert_eq!((times.count(), times.micros), (5, 180_002_002));
    }

    #[test]
    fn an_unknown_status_is_counted_as_none() {
        let traffic = Traffic::default();
        for status in [0, 99, 101, 499, 404, 503, 999] {
            traffic.record_request(status, Duration::ZERO);
        }
        let counts: Vec<_> =
            traffic.request_durations().map(|(label, times)| (label, times.count())).collect();
        assert_eq!(counts, [("none", 4), ("1xx", 1), ("2xx", 0), ("3xx", 0), ("4xx", 1), ("5xx", 1)]);
    }

    #[test]
    fn failover_attempts_are_counted_by_cause_and_an_unknown_cause_is_not() {
        let traffic = Traffic::default();
        traffic.record_failover("timeout");
        traffic.record_failover("made up");
        assert_eq!(traffic.failovers_by_cause().map(|(_, n)| n).sum::<u64>(), 1);
    }
}

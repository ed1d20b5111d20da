//! Counts of a replay: for each cluster and server, before (as logged) and after the change. Memory does not grow with
//! the number of requests.

use ahash::AHashMap;

use super::users::DistinctUsers;
use crate::domain::directory::ReplicaId;
use crate::domain::select::ServerId;

/// A value as logged, and after the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BeforeAfter<T> {
    pub before: T,
    pub after: T,
}

/// A percentage with one decimal.
pub(super) fn percent(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { (part as f64 * 1_000.0 / of as f64).round() / 10.0 }
}

/// Buckets of response times, up to a minute.
const TIME_BUCKETS: usize = 24;
/// Buckets for each doubling: fine enough to compare medians.
const BUCKETS_PER_DOUBLING: f64 = 1.5;

/// Response times in milliseconds, in buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseTimes {
    buckets: [u32; TIME_BUCKETS],
    pub count: u64,
}

impl ResponseTimes {
    pub fn add(&mut self, ms: u64) {
        let bucket = ((ms.saturating_add(1) as f64).log2() * BUCKETS_PER_DOUBLING) as usize;
        if let Some(count) = self.buckets.get_mut(bucket.min(TIME_BUCKETS - 1)) {
            *count = count.saturating_add(1);
        }
        self.count += 1;
    }

    /// The median, as exact as the buckets are.
    pub fn median_ms(&self) -> Option<f64> {
        let total: u64 = self.buckets.iter().map(|n| u64::from(*n)).sum();
        let mut left = total as f64 / 2.0;
        for (bucket, count) in (0_u32..).zip(&self.buckets) {
            let count = f64::from(*count);
            if count > 0.0 && left <= count {
                let edge = |bucket: f64| (bucket / BUCKETS_PER_DOUBLING).exp2() - 1.0;
                let (low, high) = (edge(f64::from(bucket)), edge(f64::from(bucket) + 1.0));
                return Some(low + (high - low) * left / count);
            }
            left -= count;
        }
        None
    }
}

/// How often a server had each index while it was a candidate.
#[derive(Clone, Debug)]
pub(super) struct IndexCounts {
    counts: [u64; 101],
    pub known: u64,
    pub unknown: u64,
}

impl Default for IndexCounts {
    fn default() -> Self {
        Self { counts: [0; 101], known: 0, unknown: 0 }
    }
}

impl IndexCounts {
    pub fn add(&mut self, index: Option<u8>) {
        match index.and_then(|index| self.counts.get_mut(usize::from(index))) {
            Some(count) => {
                *count += 1;
                self.known += 1;
            }
            None => self.unknown += 1,
        }
    }

    /// How often it was at or under this.
    pub fn up_to(&self, threshold: u8) -> u64 {
        self.counts.iter().take(usize::from(threshold) + 1).sum()
    }

    /// The index under which this share of the requests is.
    pub fn quantile(&self, share: f64) -> Option<u8> {
        let wanted = ((self.known as f64 * share).ceil() as u64).max(1);
        let mut sum = 0;
        (0..).zip(&self.counts).find_map(|(index, count)| {
            sum += count;
            (sum >= wanted).then_some(index)
        })
    }
}

/// What is counted for one server.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerTally {
    pub requests: BeforeAfter<u64>,
    /// Requests that it served although it was BUSY or MAXUSERS, because no better server was left.
    pub last_resort: BeforeAfter<u64>,
    pub busy_seconds: BeforeAfter<u64>,
    /// Seconds in which its state was known.
    pub known_seconds: u64,
    /// The most requests that began in one second.
    pub peak: BeforeAfter<u32>,
    this_second: BeforeAfter<u32>,
    pub in_flight: BeforeAfter<u32>,
    /// New users in the log, and how many the replay expects.
    pub new_users: u64,
    pub new_users_expected: f64,
    pub index: IndexCounts,
    /// By tens of the index.
    pub times: [ResponseTimes; 10],
    pub threshold: Option<u8>,
}

impl ServerTally {
    pub fn begin(&mut self, is_before: bool) {
        let (requests, second, in_flight) = match is_before {
            true => (&mut self.requests.before, &mut self.this_second.before, &mut self.in_flight.before),
            false => (&mut self.requests.after, &mut self.this_second.after, &mut self.in_flight.after),
        };
        *requests += 1;
        *second += 1;
        *in_flight += 1;
    }

    pub fn end_second(&mut self) {
        self.peak.before = self.peak.before.max(self.this_second.before);
        self.peak.after = self.peak.after.max(self.this_second.after);
        self.this_second = BeforeAfter::default();
    }

    pub fn answered(&mut self, index: f32, ms: u64) {
        let tens = (index.clamp(0.0, 99.0) / 10.0) as usize;
        if let Some(times) = self.times.get_mut(tens) {
            times.add(ms);
        }
    }
}

/// Counted one by one; a log with more databases than that has the others together.
const MAX_DATABASES: usize = 1_000_000;

/// Requests for one database.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DatabaseTally {
    pub requests: u64,
    pub refused: BeforeAfter<u64>,
}

/// What is counted for one cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterTally {
    servers: AHashMap<ServerId, ServerTally>,
    pub requests: u64,
    pub recorded: u64,
    pub partly_known: u64,
    pub assumed: u64,
    /// Requests of users who belonged to a server, and how many of them the replay leaves there.
    pub tied: u64,
    pub tied_same: u64,
    /// Requests of other users, and how many went to a server that the replay draws from.
    pub new: u64,
    pub new_explained: u64,
    pub moved: u64,
    pub moves: AHashMap<(ServerId, ServerId), u64>,
    pub users: DistinctUsers,
    pub moved_users: DistinctUsers,
    pub refused: BeforeAfter<u64>,
    /// Served in the log, but refused after the change.
    pub newly_refused: u64,
    pub databases: AHashMap<Option<ReplicaId>, DatabaseTally>,
    /// Requests for databases that the directory does not have any more.
    pub not_in_directory: u64,
    /// Every candidate was at or under the index.
    pub best_index: IndexCounts,
}

impl ClusterTally {
    pub fn server(&mut self, server: ServerId) -> &mut ServerTally {
        self.servers.entry(server).or_default()
    }

    pub fn known_server(&self, server: ServerId) -> Option<&ServerTally> {
        self.servers.get(&server)
    }

    pub fn servers(&mut self) -> impl Iterator<Item = &mut ServerTally> {
        self.servers.values_mut()
    }

    pub fn database(&mut self, database: Option<ReplicaId>) -> &mut DatabaseTally {
        let is_full = self.databases.len() >= MAX_DATABASES && !self.databases.contains_key(&database);
        self.databases.entry(if is_full { None } else { database }).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_within_a_bucket() {
        let mut times = ResponseTimes::default();
        assert_eq!(times.median_ms(), None);
        for ms in [5, 40, 50, 60, 4_000] {
            times.add(ms);
        }
        let median = times.median_ms().unwrap();
        assert!((35.0..75.0).contains(&median), "{median}");
        times.add(u64::MAX);
        assert_eq!(times.count, 6);
    }

    #[test]
    fn shares_under_a_threshold_and_quantiles_are_exact() {
        let mut index = IndexCounts::default();
        for value in 1..=100 {
            index.add(Some(value));
        }
        index.add(None);
        assert_eq!((index.up_to(70), index.up_to(0), index.up_to(100)), (70, 0, 100));
        assert_eq!((index.quantile(0.05), index.quantile(0.5)), (Some(5), Some(50)));
        assert_eq!(index.unknown, 1);
        assert_eq!(IndexCounts::default().quantile(0.5), None);
    }
}

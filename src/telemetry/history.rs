//! The last samples of each server in rings of fixed size: what the charts of the status page show. It knows neither the
//! balancer nor a clock; readings and times are passed in.

use std::collections::VecDeque;

use ahash::AHashMap;

use crate::domain::cluster::ServerState;
use crate::domain::cluster::response_times::{self, BUCKETS};

/// Samples of each server: an hour, one every ten seconds.
pub const MAX_SAMPLES: usize = 360;
/// The bytes of an unknown index or percentile.
const UNKNOWN: u8 = u8::MAX;

/// The counters of a server at one moment, since the process started, and its values at this moment.
#[derive(Clone, Debug)]
pub struct ServerReading {
    /// Its name within the cluster.
    pub server: Box<str>,
    /// Responses, with and without a known time.
    pub answered: u64,
    /// Attempts without a valid response.
    pub failed: u64,
    /// Requests that went to another server after this one failed.
    pub failed_over: u64,
    /// Responses by the time they took.
    pub response_times: [u64; BUCKETS],
    pub in_flight: u32,
    /// The index to show, 0..=100.
    pub index: Option<f32>,
    pub state: ServerState,
}

/// What happened on a server between two readings, in 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSample {
    pub answered: u32,
    pub failed: u32,
    pub failed_over: u32,
    pub in_flight: u16,
    /// The bucket of the median of the response times.
    p50: u8,
    /// The bucket of their 99th percentile.
    p99: u8,
    index: u8,
    pub state: ServerState,
}

impl ServerSample {
    fn between(before: &ServerReading, now: &ServerReading) -> Self {
        let mut times = [0; BUCKETS];
        for ((sum, now), before) in times.iter_mut().zip(&now.response_times).zip(&before.response_times) {
            *sum = now.saturating_sub(*before);
        }
        let count = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        Self {
            answered: count(now.answered, before.answered),
            failed: count(now.failed, before.failed),
            failed_over: count(now.failed_over, before.failed_over),
            in_flight: u16::try_from(now.in_flight).unwrap_or(u16::MAX),
            p50: response_times::percentile(&times, 50).unwrap_or(UNKNOWN),
            p99: response_times::percentile(&times, 99).unwrap_or(UNKNOWN),
            index: now.index.map_or(UNKNOWN, |index| index.round().clamp(0.0, 100.0) as u8),
            state: now.state,
        }
    }

    /// The median of the response times in microseconds, exact to an eighth.
    #[must_use]
    pub fn p50_micros(&self) -> Option<u64> {
        (self.p50 != UNKNOWN).then(|| response_times::bucket_micros(self.p50))
    }

    /// The 99th percentile of the response times in microseconds, exact to an eighth.
    #[must_use]
    pub fn p99_micros(&self) -> Option<u64> {
        (self.p99 != UNKNOWN).then(|| response_times::bucket_micros(self.p99))
    }

    /// The availability index that was shown, 0..=100.
    #[must_use]
    pub fn index(&self) -> Option<u8> {
        (self.index != UNKNOWN).then_some(self.index)
    }
}

/// When a sample was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleTime {
    /// Milliseconds since 1970; every sample is later than the one before, even if the clock was set back.
    pub at_unix_ms: u64,
    /// The time since the sample before, by the monotonic clock.
    pub interval_ms: u32,
}

/// The ring of one server. Its last sample belongs to the last [`SampleTime`], and so on backwards.
#[derive(Debug)]
struct ServerRing {
    last: ServerReading,
    samples: VecDeque<ServerSample>,
    /// The number of the round that read the server last.
    round: u64,
}

/// The samples of all servers.
#[derive(Debug, Default)]
pub struct History {
    times: VecDeque<SampleTime>,
    /// By cluster and server.
    rings: AHashMap<Box<str>, AHashMap<Box<str>, ServerRing>>,
    round: u64,
}

impl History {
    /// Adds a sample of every server that was read before, and begins the rings of the others. Servers that are not read
    /// any more are dropped.
    pub fn record<R>(
        &mut self,
        at_unix_ms: u64,
        interval_ms: u32,
        clusters: impl IntoIterator<Item = (Box<str>, R)>,
    ) where
        R: IntoIterator<Item = ServerReading>,
    {
        self.round += 1;
        // The first readings are only what the next ones are compared with.
        if self.round > 1 {
            let last = self.times.back().map_or(0, |time| time.at_unix_ms);
            push(&mut self.times, SampleTime { at_unix_ms: at_unix_ms.max(last + 1), interval_ms });
        }
        for (cluster, readings) in clusters {
            let rings = self.rings.entry(cluster).or_default();
            for reading in readings {
                match rings.get_mut(&reading.server) {
                    Some(ring) => {
                        push(&mut ring.samples, ServerSample::between(&ring.last, &reading));
                        ring.last = reading;
                        ring.round = self.round;
                    }
                    None => {
                        let ring = ServerRing {
                            samples: VecDeque::with_capacity(MAX_SAMPLES),
                            round: self.round,
                            last: reading,
                        };
                        rings.insert(ring.last.server.clone(), ring);
                    }
                }
            }
        }
        for rings in self.rings.values_mut() {
            rings.retain(|_, ring| ring.round == self.round);
        }
        self.rings.retain(|_, rings| !rings.is_empty());
    }

    /// The times of all samples that are later than `since_unix_ms`, oldest first.
    #[must_use]
    pub fn times_since(&self, since_unix_ms: u64) -> Vec<SampleTime> {
        self.times.iter().filter(|time| time.at_unix_ms > since_unix_ms).copied().collect()
    }

    /// The last samples of a server, `count` at most, oldest first. A server that joined later has fewer.
    #[must_use]
    pub fn last_samples(&self, cluster: &str, server: &str, count: usize) -> Vec<ServerSample> {
        let Some(ring) = self.rings.get(cluster).and_then(|rings| rings.get(server)) else {
            return Vec::new();
        };
        ring.samples.iter().skip(ring.samples.len().saturating_sub(count)).copied().collect()
    }

    /// Samples that are stored, of all servers.
    #[cfg(test)]
    pub(crate) fn stored(&self) -> usize {
        self.rings.values().flat_map(|rings| rings.values()).map(|ring| ring.samples.len()).sum()
    }
}

/// Pushes without ever allocating more than [`MAX_SAMPLES`].
fn push<T>(ring: &mut VecDeque<T>, value: T) {
    while ring.len() >= MAX_SAMPLES {
        ring.pop_front();
    }
    ring.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(server: &str, answered: u64, bucket: usize) -> ServerReading {
        let mut response_times = [0; BUCKETS];
        response_times[bucket] = answered;
        ServerReading {
            server: server.into(),
            answered,
            failed: answered / 10,
            failed_over: answered / 20,
            response_times,
            in_flight: 70_000,
            index: Some(71.6),
            state: ServerState::Busy,
        }
    }

    fn record(history: &mut History, at: u64, readings: Vec<ServerReading>) {
        history.record(at, 10_000, [("AcmeWeb".into(), readings)]);
    }

    #[test]
    fn a_sample_is_the_difference_of_two_readings() {
        let mut history = History::default();
        record(&mut history, 10_000, vec![reading("Web1/Acme", 100, 20)]);
        assert!(history.times_since(0).is_empty(), "nothing to compare the first one with");
        record(&mut history, 20_000, vec![reading("Web1/Acme", 300, 20)]);
        assert_eq!(history.times_since(0), [SampleTime { at_unix_ms: 20_000, interval_ms: 10_000 }]);
        let samples = history.last_samples("AcmeWeb", "Web1/Acme", 9);
        let sample = samples[0];
        assert_eq!((sample.answered, sample.failed, sample.failed_over), (200, 20, 10));
        assert_eq!((sample.in_flight, sample.index(), sample.state), (u16::MAX, Some(72), ServerState::Busy));
        assert_eq!(sample.p50_micros(), Some(response_times::bucket_micros(20)));
        // Nothing was answered.
        record(&mut history, 30_000, vec![reading("Web1/Acme", 300, 20)]);
        let last = history.last_samples("AcmeWeb", "Web1/Acme", 1)[0];
        assert_eq!((last.answered, last.p50_micros(), last.p99_micros()), (0, None, None));
        assert_eq!(size_of::<ServerSample>(), 20, "docs/monitoring.md gives the memory");
    }

    #[test]
    fn servers_that_stay_keep_their_samples_and_the_others_are_dropped() {
        let mut history = History::default();
        for n in 1..=3 {
            record(&mut history, n, vec![reading("Web1/Acme", 10 * n, 1), reading("Web2/Acme", 10 * n, 1)]);
        }
        record(&mut history, 4, vec![reading("Web2/Acme", 40, 1), reading("Web3/Acme", 40, 1)]);
        record(&mut history, 5, vec![reading("Web2/Acme", 50, 1), reading("Web3/Acme", 50, 1)]);
        let samples = |server| history.last_samples("AcmeWeb", server, 99).len();
        assert_eq!((samples("Web1/Acme"), samples("Web2/Acme"), samples("Web3/Acme")), (0, 4, 1));
        history.record(6, 10_000, Vec::<(Box<str>, Vec<ServerReading>)>::new());
        assert_eq!((history.stored(), history.rings.len(), history.times_since(0).len()), (0, 0, 5));
    }

    #[test]
    fn times_grow_even_if_the_clock_is_set_back() {
        let mut history = History::default();
        for at in [1, 50_000, 20_000, 60_000] {
            record(&mut history, at, Vec::new());
        }
        let times: Vec<u64> = history.times_since(0).iter().map(|time| time.at_unix_ms).collect();
        assert_eq!(times, [50_000, 50_001, 60_000]);
        assert_eq!(history.times_since(50_001).len(), 1);
    }
}

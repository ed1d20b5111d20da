//! The index that ranks servers: the published index joined with the observed one. Pure arithmetic; the caller counts
//! the half seconds.
//!
//! A published index covers the work of all clients, but of a past minute. Response times cover only our own work, but
//! now. With the published index alone, servers were overloaded and idle in turn: in the simulation of
//! `benches/balance`, with an index one minute old, its 99th percentile was ten times that of the joined index. So a
//! published index is compared with the mean of what was observed *in the same time*. The difference is the work of
//! others. It holds until the next published index and is added to what is observed now: a published 90 against an
//! observed 40 counts in full while it is published, and a server that turns slow is noticed at once.
//!
//! Without observations the published index counts alone. If it is older than the first observation (from an idle
//! night, or the minute before this process started), it is compared with what is observed since. It must not offset
//! later slowness, so the higher of the server's own observed index and the mean of all servers counts.
//!
//! For the same load the observed index is low and the published one high: ours starts from the fastest requests,
//! Domino's from the fastest of each kind. So servers must not be ranked by different kinds: a server without a
//! published index gets the mean difference of the others ([`Peers`]).

use super::ClusterServer;
use super::availability::{Baselines, JUMP, lowest_baselines};

/// The index by which selection ranks a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankingIndex {
    /// The index, from 0.0 (nothing left) to 100.0 (idle).
    pub index: f32,
    /// Mean of this balancer's requests in flight while it was taken.
    pub in_flight: f32,
    /// Points by which it is not exact ([`super::availability::ObservedIndex`]); 0 if an index is published.
    pub noise: f32,
}

/// A published index and its relation to what was observed in the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedIndex {
    /// The smoothed index, from 0.0 to 100.0.
    pub index: f32,
    /// Mean of this balancer's requests in flight while it was taken.
    pub in_flight: f32,
    /// Points by which it exceeds the index observed in the same time; `None` = no observation.
    pub beyond: Option<f32>,
}

/// Weight of the newest value in [`PublishedIndex::beyond`], which is noisier than the mean before it.
const NEWEST_WEIGHT: f32 = 0.5;
/// Observed values for the full weight, those of 15 seconds. Response times from ten seconds before still have half of
/// their weight, so over a shorter time the two indexes are about different moments.
pub const FULL_WEIGHT_VALUES: f32 = 30.0;

/// Observed values for a jump to count, those of 50 seconds: Domino renews its index once a minute.
const MIN_JUMP_VALUES: f32 = 100.0;

/// Computes [`PublishedIndex::beyond`] of a new published index, averaged with the value before; `None` = no
/// observation.
///
/// A jump is not averaged if both indexes cover the same time, because the server itself reports the change. Over a
/// shorter time the jump may be about what is observed later. In `benches/balance` (bursts, four balancers), following
/// each jump more than doubled the 99th percentile with an index every 5 s, added two thirds with one every 15 s, and
/// changed nothing with one a minute.
#[must_use]
pub fn beyond(before: Option<PublishedIndex>, index: f32, meanwhile: Mean) -> Option<f32> {
    let fresh = index - meanwhile.get()?;
    let newest = NEWEST_WEIGHT * (meanwhile.values / FULL_WEIGHT_VALUES).min(1.0);
    let jumps = |before: &PublishedIndex| f64::from((index - before.index).abs()) >= JUMP;
    let before = before.filter(|before| meanwhile.values < MIN_JUMP_VALUES || !jumps(before));
    let before = before.and_then(|before| before.beyond);
    Some(before.map_or(fresh, |before| before + (fresh - before) * newest))
}

/// Joins a published index with the observed one. A server without a published index gets `others`, the mean of
/// [`PublishedIndex::beyond`] of the other servers, so that it is neither preferred nor avoided.
#[must_use]
pub fn join(
    published: Option<PublishedIndex>,
    observed: Option<RankingIndex>,
    others: f32,
) -> Option<RankingIndex> {
    let beyond = published.map_or(Some(others), |published| published.beyond);
    match (observed, beyond) {
        (Some(now), Some(beyond)) => {
            let noise = if published.is_some() { 0.0 } else { now.noise };
            Some(RankingIndex { index: now.index + beyond, noise, ..now })
        }
        _ => published.map(|p| RankingIndex { index: p.index, in_flight: p.in_flight, noise: 0.0 }),
    }
}

/// Values of all servers of a cluster that make their indexes comparable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peers {
    /// The lowest baselines of all servers.
    pub baselines: Baselines,
    /// Mean of [`PublishedIndex::beyond`]; 0 = nothing is published.
    pub beyond: f32,
    /// Mean of the indexes observed since the published ones were taken; 0 = no observation.
    pub meanwhile: f32,
}

/// The contribution of one server to [`Peers`].
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The value of [`PublishedIndex::beyond`].
    pub beyond: Option<f32>,
    /// Mean of the index observed since the published one was taken.
    pub meanwhile: Option<f32>,
}

impl Peers {
    /// Computes the values over these servers.
    pub fn of<'a>(servers: impl Iterator<Item = &'a ClusterServer> + Clone) -> Self {
        let (mut beyond, mut meanwhile) = (Mean::default(), Mean::default());
        for share in servers.clone().map(ClusterServer::share) {
            share.beyond.into_iter().for_each(|value| beyond.add(value));
            share.meanwhile.into_iter().for_each(|value| meanwhile.add(value));
        }
        Self {
            baselines: lowest_baselines(servers.map(ClusterServer::baselines)),
            beyond: beyond.get().unwrap_or_default(),
            meanwhile: meanwhile.get().unwrap_or_default(),
        }
    }
}

/// A mean that forgets old values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    mean: f32,
    values: f32,
}

/// The values of the 75 seconds over which Domino takes its own mean.
const MAX_VALUES: f32 = 150.0;

impl Mean {
    /// Adds a value, twice a second.
    pub fn add(&mut self, value: f32) {
        self.values = (self.values + 1.0).min(MAX_VALUES);
        self.mean += (value - self.mean) / self.values;
    }

    /// The mean; `None` without values.
    #[must_use]
    pub fn get(self) -> Option<f32> {
        (self.values > 0.0).then_some(self.mean)
    }
}

/// Mean of the requests in flight, exponentially weighted.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeanInFlight {
    mean: f32,
    at_ms: u64,
}

/// The same as for observed response times.
const MEAN_HALF_LIFE_MS: f32 = 10_000.0;

impl MeanInFlight {
    /// Adds the current number of requests in flight.
    pub fn sample(&mut self, in_flight: u32, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.at_ms) as f32;
        self.at_ms = now_ms;
        self.mean += (in_flight as f32 - self.mean) * (1.0 - 0.5_f32.powf(elapsed / MEAN_HALF_LIFE_MS));
    }

    /// The mean at the last sample.
    #[must_use]
    pub fn get(self) -> f32 {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANKING_80: RankingIndex = RankingIndex { index: 80.0, in_flight: 4.0, noise: 0.0 };
    const PUBLISHED_80: PublishedIndex = PublishedIndex { index: 80.0, in_flight: 4.0, beyond: None };
    const OBSERVED_40: RankingIndex = RankingIndex { index: 40.0, in_flight: 10.0, noise: 3.0 };

    #[test]
    fn an_index_without_the_other_counts_alone() {
        assert_eq!(join(None, None, 30.0), None);
        assert_eq!(join(Some(PUBLISHED_80), None, 30.0), Some(RANKING_80));
        assert_eq!(join(Some(PUBLISHED_80), Some(OBSERVED_40), 30.0), Some(RANKING_80), "not compared yet");
        assert_eq!(join(None, Some(OBSERVED_40), 0.0), Some(OBSERVED_40));
    }

    #[test]
    fn a_published_index_moves_with_the_observed_one() {
        let published = PublishedIndex { beyond: Some(10.0), ..PUBLISHED_80 };
        let joined = join(Some(published), Some(OBSERVED_40), 0.0).unwrap();
        assert_eq!(joined, RankingIndex { index: 50.0, in_flight: 10.0, noise: 0.0 });
        let calm = RankingIndex { index: 70.0, in_flight: 4.0, noise: 0.0 };
        assert_eq!(join(Some(published), Some(calm), 0.0), Some(RANKING_80), "the published index holds");
    }

    #[test]
    fn a_server_without_a_published_index_gets_the_mean_difference_of_the_others() {
        assert_eq!(join(None, Some(OBSERVED_40), 35.0).unwrap().index, 75.0);
    }

    #[test]
    fn the_difference_is_a_mean_over_the_last_published_indexes() {
        let first = PUBLISHED_80;
        let observed = |half_seconds| {
            let mut mean = Mean::default();
            (0..half_seconds).for_each(|_| mean.add(50.0));
            mean
        };
        assert_eq!(beyond(Some(first), 70.0, observed(0)), None);
        assert_eq!(beyond(Some(first), 70.0, observed(1)), Some(20.0));
        let second = Some(PublishedIndex { beyond: Some(20.0), ..first });
        assert_eq!(beyond(second, 80.0, observed(120)), Some(25.0));
        assert_eq!(beyond(second, 80.0, observed(6)), Some(21.0), "three seconds say little");
        assert_eq!(beyond(second, 20.0, observed(120)), Some(-30.0), "a jump is not noise");
        assert_eq!(
            beyond(second, 20.0, observed(6)),
            Some(15.0),
            "three seconds say little about a jump as well"
        );
    }

    #[test]
    fn the_mean_forgets_values_older_than_those_of_domino() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        (0..20).for_each(|n| mean.add(if n % 2 == 0 { 40.0 } else { 60.0 }));
        assert!((mean.get().unwrap() - 50.0).abs() < 0.01);
        (0..1_000).for_each(|_| mean.add(90.0));
        assert!(std::mem::take(&mut mean).get().unwrap() > 89.0);
        assert_eq!(mean.get(), None, "empty after it was taken");
    }

    #[test]
    fn the_mean_in_flight_has_a_half_life_of_ten_seconds() {
        let mut mean = MeanInFlight::default();
        for tick in 0..200 {
            mean.sample(8, tick * 500);
        }
        assert!((mean.get() - 8.0).abs() < 0.1, "{}", mean.get());
        mean.sample(0, 199 * 500 + 10_000);
        assert!((mean.get() - 4.0).abs() < 0.1, "{}", mean.get());
    }
}

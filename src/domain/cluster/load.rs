//! The index by which servers are ranked: what a server publishes and what is observed here, joined.
//!
//! Pure arithmetic without a clock: the caller says when half a second is over.
//!
//! A published index covers the work of all clients, but of a past minute; response times cover our own work, now. Ranked
//! by the published index alone, servers were overloaded and left idle in turn: in the simulation of `benches/balance`
//! its 99th percentile was ten times that of the joined index when the published one was a minute old. So a published
//! index is compared with the mean of what was observed *in the same time*. The difference is the work of others, and
//! holds until the next published index comes; what is observed now is added to it. A published 90 against an observed 40
//! counts in full for as long as it is published, and a server that turns slow is seen at once. Where nothing is observed,
//! the published index counts as it is. An index from before the first observation (of an idle night, or of the minute
//! before this process began) is compared with what is observed since. It must not offset later slowness: of the
//! server's own observed index and the mean of all servers the higher counts.
//!
//! For the same load the observed index is low and the published one high: ours starts from the fastest requests,
//! Domino's from the fastest of each kind. So no server may be ranked by one kind while others are ranked by the other:
//! a server that publishes no index gets the mean difference of the others ([`Peers`]).

use super::ClusterServer;
use super::availability::{Baselines, JUMP, least};

/// The index by which selection ranks a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankingIndex {
    /// 0.0 (nothing left) to 100.0 (idle).
    pub index: f32,
    /// Mean of this balancer's requests in flight while it was taken.
    pub in_flight: f32,
    /// Points within which it is not exact ([`super::availability::ObservedIndex`]); 0 where an index is published.
    pub noise: f32,
}

/// A published index with what was observed in its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedIndex {
    /// 0.0 to 100.0, smoothed.
    pub index: f32,
    /// Mean of this balancer's requests in flight while it was taken.
    pub in_flight: f32,
    /// Points by which it exceeds what was observed in the same time; `None` = nothing was observed.
    pub beyond: Option<f32>,
}

/// Share of the newest value in [`PublishedIndex::beyond`]: it is noisier than the mean before it.
const NEWEST: f32 = 0.5;
/// Observed values for the full share, a quarter of a minute. Response times of ten seconds before still have half of
/// their weight in them, so over a shorter time both indexes tell of different moments.
pub const ENOUGH: f32 = 30.0;

/// Observed values for a jump to count: those of 50 seconds, as Domino renews its index once a minute.
const ENOUGH_FOR_JUMP: f32 = 100.0;

/// What a new published index has beyond the observed one, averaged with the value before; `None` = nothing was observed.
///
/// A jump is not averaged where both indexes cover the same time, because the server itself says that things are different
/// now. Over a shorter time the jump may be about what is observed later (`benches/balance`, bursts and four balancers:
/// following each jump more than doubled the 99th percentile with an index every 5 s, added two thirds with one every
/// 15 s, and changed nothing with one a minute).
#[must_use]
pub fn beyond(before: Option<PublishedIndex>, index: f32, meanwhile: Mean) -> Option<f32> {
    let fresh = index - meanwhile.get()?;
    let newest = NEWEST * (meanwhile.values / ENOUGH).min(1.0);
    let jumps = |before: &PublishedIndex| f64::from((index - before.index).abs()) >= JUMP;
    let before = before.filter(|before| meanwhile.values < ENOUGH_FOR_JUMP || !jumps(before));
    let before = before.and_then(|before| before.beyond);
    Some(before.map_or(fresh, |before| before + (fresh - before) * newest))
}

/// Joins a published index with the observed one. `others` is the mean of [`PublishedIndex::beyond`] of the other servers,
/// for a server that publishes none: it is neither preferred nor avoided.
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

/// What is known of all servers of a cluster, without which their indexes could not be compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peers {
    /// The fastest of all servers.
    pub baselines: Baselines,
    /// Mean of [`PublishedIndex::beyond`]; 0 = nothing is published.
    pub beyond: f32,
    /// Mean of what is observed since the published indexes were taken; 0 = nothing is.
    pub meanwhile: f32,
}

/// What one server contributes to [`Peers`].
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// See [`PublishedIndex::beyond`].
    pub beyond: Option<f32>,
    /// What is observed since its published index was taken.
    pub meanwhile: Option<f32>,
}

impl Peers {
    /// The means over these servers.
    pub fn of<'a>(servers: impl Iterator<Item = &'a ClusterServer> + Clone) -> Self {
        let (mut beyond, mut meanwhile) = (Mean::default(), Mean::default());
        for share in servers.clone().map(ClusterServer::share) {
            share.beyond.into_iter().for_each(|one| beyond.add(one));
            share.meanwhile.into_iter().for_each(|one| meanwhile.add(one));
        }
        Self {
            baselines: least(servers.map(ClusterServer::baselines)),
            beyond: beyond.get().unwrap_or_default(),
            meanwhile: meanwhile.get().unwrap_or_default(),
        }
    }
}

/// The mean of the values since it was last taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    mean: f32,
    values: f32,
}

/// Those of the 75 seconds over which Domino takes its own mean.
const MAX_VALUES: f32 = 150.0;

impl Mean {
    /// Takes in one more value, twice a second.
    pub fn add(&mut self, value: f32) {
        self.values = (self.values + 1.0).min(MAX_VALUES);
        self.mean += (value - self.mean) / self.values;
    }

    /// `None` = there was no value.
    #[must_use]
    pub fn get(self) -> Option<f32> {
        (self.values > 0.0).then_some(self.mean)
    }
}

/// Mean of the requests in flight, weighted by age.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeanInFlight {
    mean: f32,
    at_ms: u64,
}

/// As for the observed response times.
const MEAN_HALF_LIFE_MS: f32 = 10_000.0;

impl MeanInFlight {
    /// Takes in the number of requests that are in flight now.
    pub fn sample(&mut self, in_flight: u32, now_ms: u64) {
        let gone = now_ms.saturating_sub(self.at_ms) as f32;
        self.at_ms = now_ms;
        self.mean += (in_flight as f32 - self.mean) * (1.0 - 0.5_f32.powf(gone / MEAN_HALF_LIFE_MS));
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
    fn what_is_known_alone_counts_alone() {
        assert_eq!(join(None, None, 30.0), None);
        assert_eq!(join(Some(PUBLISHED_80), None, 30.0), Some(RANKING_80));
        assert_eq!(join(Some(PUBLISHED_80), Some(OBSERVED_40), 30.0), Some(RANKING_80), "not compared yet");
        assert_eq!(join(None, Some(OBSERVED_40), 0.0), Some(OBSERVED_40));
    }

    #[test]
    fn a_published_index_moves_with_what_is_observed_since() {
        let published = PublishedIndex { beyond: Some(10.0), ..PUBLISHED_80 };
        let joined = join(Some(published), Some(OBSERVED_40), 0.0).unwrap();
        assert_eq!(joined, RankingIndex { index: 50.0, in_flight: 10.0, noise: 0.0 });
        let calm = RankingIndex { index: 70.0, in_flight: 4.0, noise: 0.0 };
        assert_eq!(join(Some(published), Some(calm), 0.0), Some(RANKING_80), "what is published stands");
    }

    #[test]
    fn a_server_that_publishes_nothing_is_ranked_as_if_it_did_like_the_others() {
        assert_eq!(join(None, Some(OBSERVED_40), 35.0).unwrap().index, 75.0);
    }

    #[test]
    fn what_an_index_adds_is_a_mean_over_the_last_ones() {
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
        assert_eq!(beyond(second, 20.0, observed(120)), Some(-30.0), "a jump is no noise");
        assert_eq!(beyond(second, 20.0, observed(6)), Some(15.0), "three seconds say little of a jump, too");
    }

    #[test]
    fn the_mean_between_two_indexes_forgets_what_is_older_than_domino_counts() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        (0..20).for_each(|n| mean.add(if n % 2 == 0 { 40.0 } else { 60.0 }));
        assert!((mean.get().unwrap() - 50.0).abs() < 0.01);
        (0..1_000).for_each(|_| mean.add(90.0));
        assert!(std::mem::take(&mut mean).get().unwrap() > 89.0);
        assert_eq!(mean.get(), None, "anew");
    }

    #[test]
    fn the_mean_follows_with_a_half_life_of_ten_seconds() {
        let mut mean = MeanInFlight::default();
        for tick in 0..200 {
            mean.sample(8, tick * 500);
        }
        assert!((mean.get() - 8.0).abs() < 0.1, "{}", mean.get());
        mean.sample(0, 199 * 500 + 10_000);
        assert!((mean.get() - 4.0).abs() < 0.1, "{}", mean.get());
    }
}

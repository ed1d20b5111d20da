//! The index by which servers are ranked: what a server publishes and what is observed here, joined.
//!
//! In: both indexes, with the mean of this balancer's requests in flight while they were taken. Out: one index,
//! and the requests in flight that it knows of. Pure arithmetic: no clock, the caller says when half a second is over.
//!
//! A published index tells of everybody's work, and of a minute that has passed; response times tell of ours, and
//! of now. Ranked by the published one alone, servers were overloaded and left idle in turn: in the simulation of
//! `benches/balance` the 99th percentile was ten times that of the joined one with an index a minute old. So it is
//! held against the mean of what was observed *in the same time*: the difference is what it knows beyond our own
//! requests, the work of others, and that stands until the next index comes. What is observed now is added. A published
//! 90 against 40 counts in full for as long as it is published, and a server that turns slow is seen at once. Where
//! nothing is observed the published index stands as it is. An index from before anything was observed, of an idle night
//! or of the minute before we began, is held against what is observed since, but excuses nobody for that: of its own and
//! of what is observed everywhere the higher counts.
//!
//! An observed index is low and a published one high for the same load, as ours starts from the fastest requests and
//! Domino's from the fastest of each kind. So no server may be ranked by the one while others are by the other:
//! where nothing is published, the mean difference of the others is taken for granted ([`Peers`]).

use super::Member;
use super::availability::{Baselines, JUMP, least};

/// An index and what it was taken with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// 0.0 (nothing left) to 100.0 (idle).
    pub index: f32,
    /// Mean of this balancer's requests in flight there meanwhile.
    pub in_flight: f32,
    /// Points within which it is not exact: see [`super::availability::ObservedIndex`]. A published index is a number.
    pub noise: f32,
}

/// A published index, and what it adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// As it came.
    pub reading: Reading,
    /// Points by which it differs from what was observed in the time that it tells of, where something was observed.
    pub beyond: Option<f32>,
}

/// Share that the newest index has in [`Published::beyond`]: its noise is not that of the mean before it.
const NEWEST: f32 = 0.5;
/// Values on which it has to rest for that, a quarter of a minute. In what is observed, response times of ten seconds
/// before still have half of their weight, so over a shorter time the two tell of different moments.
pub const ENOUGH: f32 = 30.0;

/// Values on which a jump has to rest: those of 50 seconds, as Domino renews its index once a minute.
const ENOUGH_FOR_JUMP: f32 = 100.0;

/// What a new index adds, held against what was observed in its time, after one before. `None`: nothing was observed. A
/// jump is no noise of which a mean had to be taken, where both tell of the same time: the server says itself that things
/// are different now. Over a shorter time it may tell of what is observed since, or will be (`benches/balance`, bursts and four
/// balancers: with an index every 5 s to follow each jump more than doubled the 99th percentile, with one every 15 s it
/// added two thirds, with one a minute it changes nothing).
#[must_use]
pub fn beyond(before: Option<Published>, index: f32, meanwhile: Mean) -> Option<f32> {
    let fresh = index - meanwhile.get()?;
    let newest = NEWEST * (meanwhile.values / ENOUGH).min(1.0);
    let jumps = |before: &Published| f64::from((index - before.reading.index).abs()) >= JUMP;
    let before = before.filter(|before| meanwhile.values < ENOUGH_FOR_JUMP || !jumps(before));
    let before = before.and_then(|before| before.beyond);
    Some(before.map_or(fresh, |before| before + (fresh - before) * newest))
}

/// Joins a published index with the one that is observed now. Either may be unknown. `others`: what the indexes of the
/// other servers add, for a server that publishes none: it is neither preferred nor shunned.
#[must_use]
pub fn join(published: Option<Published>, observed: Option<Reading>, others: f32) -> Option<Reading> {
    let beyond = published.map_or(Some(others), |published| published.beyond);
    match (observed, beyond) {
        (Some(now), Some(beyond)) => {
            let noise = if published.is_some() { 0.0 } else { now.noise };
            Some(Reading { index: now.index + beyond, noise, ..now })
        }
        _ => published.map(|published| published.reading),
    }
}

/// What is known of the servers of a cluster together: without it their indexes could not be compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peers {
    /// The least baselines.
    pub baselines: Baselines,
    /// The mean of [`Published::beyond`], 0 where nothing is published.
    pub beyond: f32,
    /// The mean of what is observed since the published indexes were taken, 0 where nothing is.
    pub meanwhile: f32,
}

/// What one member has for [`Peers`].
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// See [`Published::beyond`].
    pub beyond: Option<f32>,
    /// What is observed since its published index was taken.
    pub meanwhile: Option<f32>,
}

impl Peers {
    /// From all members, each asked once.
    pub fn of<'a>(members: impl Iterator<Item = &'a Member> + Clone) -> Self {
        let (mut beyond, mut meanwhile) = (Mean::default(), Mean::default());
        for share in members.clone().map(Member::share) {
            share.beyond.into_iter().for_each(|one| beyond.add(one));
            share.meanwhile.into_iter().for_each(|one| meanwhile.add(one));
        }
        Self {
            baselines: least(members.map(Member::baselines)),
            beyond: beyond.get().unwrap_or_default(),
            meanwhile: meanwhile.get().unwrap_or_default(),
        }
    }
}

/// A mean, such as that over the time between two published indexes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    mean: f32,
    values: f32,
}

/// Values that it rests on at most: those of the 75 seconds over which Domino takes its own mean.
const MOST: f32 = 150.0;

impl Mean {
    /// Takes in one more, twice a second.
    pub fn add(&mut self, value: f32) {
        self.values = (self.values + 1.0).min(MOST);
        self.mean += (value - self.mean) / self.values;
    }

    /// The mean, if there was anything.
    #[must_use]
    pub fn get(self) -> Option<f32> {
        (self.values > 0.0).then_some(self.mean)
    }
}

/// Mean of the requests in flight, in which a moment loses half of its weight in ten seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeanInFlight {
    mean: f32,
    at_ms: u64,
}

/// Half-life of the mean: that of the observed response times.
const MEAN_HALF_LIFE_MS: f32 = 10_000.0;

impl MeanInFlight {
    /// Takes in how many there are now.
    pub fn sample(&mut self, in_flight: u32, now_ms: u64) {
        let gone = now_ms.saturating_sub(self.at_ms) as f32;
        self.at_ms = now_ms;
        self.mean += (in_flight as f32 - self.mean) * (1.0 - 0.5_f32.powf(gone / MEAN_HALF_LIFE_MS));
    }

    /// The mean.
    #[must_use]
    pub fn get(self) -> f32 {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED_80: Reading = Reading { index: 80.0, in_flight: 4.0, noise: 0.0 };
    const OBSERVED_40: Reading = Reading { index: 40.0, in_flight: 10.0, noise: 3.0 };

    #[test]
    fn what_is_known_alone_counts_alone() {
        let published = Published { reading: PUBLISHED_80, beyond: None };
        assert_eq!(join(None, None, 30.0), None);
        assert_eq!(join(Some(published), None, 30.0), Some(PUBLISHED_80));
        assert_eq!(join(Some(published), Some(OBSERVED_40), 30.0), Some(PUBLISHED_80), "not compared yet");
        assert_eq!(join(None, Some(OBSERVED_40), 0.0), Some(OBSERVED_40));
    }

    #[test]
    fn a_published_index_moves_with_what_is_observed_since() {
        let published = Published { reading: PUBLISHED_80, beyond: Some(10.0) };
        let joined = join(Some(published), Some(OBSERVED_40), 0.0).unwrap();
        assert_eq!(joined, Reading { index: 50.0, in_flight: 10.0, noise: 0.0 });
        let calm = Reading { index: 70.0, in_flight: 4.0, noise: 0.0 };
        assert_eq!(join(Some(published), Some(calm), 0.0), Some(PUBLISHED_80), "what is published stands");
    }

    #[test]
    fn a_server_that_publishes_nothing_is_ranked_as_if_it_did_like_the_others() {
        assert_eq!(join(None, Some(OBSERVED_40), 35.0).unwrap().index, 75.0);
    }

    #[test]
    fn what_an_index_adds_is_a_mean_over_the_last_ones() {
        let first = Published { reading: PUBLISHED_80, beyond: None };
        let observed = |half_seconds| {
            let mut mean = Mean::default();
            (0..half_seconds).for_each(|_| mean.add(50.0));
            mean
        };
        assert_eq!(beyond(Some(first), 70.0, observed(0)), None);
        assert_eq!(beyond(Some(first), 70.0, observed(1)), Some(20.0));
        let second = Some(Published { beyond: Some(20.0), ..first });
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

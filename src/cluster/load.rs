//! The index by which servers are ranked: what a server publishes and what is observed here, joined.
//!
//! In: both indexes, with the mean of this balancer's requests in flight while they were taken. Out: one index,
//! and the requests in flight that it knows of. Pure arithmetic: no clock, the caller says how old things are.
//!
//! A published index tells of everybody's work, and of a minute that has passed; response times tell of ours, and
//! of now. Ranked by the published one alone, servers were overloaded and left idle in turn: in the simulation of
//! `benches/balance` the 99th percentile was ten times that of the joined one with an index a minute old. So the
//! published index is moved by as much as the observed one has moved since, and what it knew beyond that fades
//! with a half-life of twenty seconds. Where nothing is observed it stands as it is.

/// An index and what it was taken with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// 0.0 (nothing left) to 100.0 (idle).
    pub index: f32,
    /// Mean of this balancer's requests in flight there meanwhile.
    pub in_flight: f32,
}

/// A published index, and what was observed when it came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// As it came.
    pub reading: Reading,
    /// The observed index of that moment, where there was one.
    pub observed: Option<f32>,
    /// How old it is, milliseconds.
    pub age_ms: u64,
}

/// After this a published index has half of its say against what is observed, milliseconds.
const HALF_LIFE_MS: f32 = 20_000.0;

/// Joins a published index with the one that is observed now. Either may be unknown.
#[must_use]
pub fn join(published: Option<Published>, observed: Option<Reading>) -> Option<Reading> {
    match (published, observed) {
        (None, observed) => observed,
        (Some(Published { reading, observed: Some(then), age_ms }), Some(now)) => {
            let say = 0.5_f32.powf(age_ms as f32 / HALF_LIFE_MS);
            Some(Reading { index: now.index + (reading.index - then) * say, in_flight: now.in_flight })
        }
        (Some(Published { reading, .. }), _) => Some(reading),
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

    const PUBLISHED_80: Reading = Reading { index: 80.0, in_flight: 4.0 };
    const OBSERVED_40: Reading = Reading { index: 40.0, in_flight: 10.0 };

    #[test]
    fn what_is_known_alone_counts_alone() {
        let published = Published { reading: PUBLISHED_80, observed: None, age_ms: 60_000 };
        assert_eq!(join(None, None), None);
        assert_eq!(join(Some(published), None), Some(PUBLISHED_80));
        assert_eq!(
            join(Some(published), Some(OBSERVED_40)),
            Some(PUBLISHED_80),
            "nothing to compare it with"
        );
        assert_eq!(join(None, Some(OBSERVED_40)), Some(OBSERVED_40));
    }

    #[test]
    fn a_published_index_moves_with_what_is_observed_since() {
        let published = Published { reading: PUBLISHED_80, observed: Some(70.0), age_ms: 0 };
        let joined = join(Some(published), Some(OBSERVED_40)).unwrap();
        assert_eq!(joined, Reading { index: 50.0, in_flight: 10.0 });
        let calm = Reading { index: 70.0, in_flight: 4.0 };
        assert_eq!(join(Some(published), Some(calm)), Some(PUBLISHED_80), "what is published stands");
        let old = Published { age_ms: 60_000, ..published };
        let joined = join(Some(old), Some(calm)).unwrap().index;
        assert!((70.0..72.0).contains(&joined), "a minute later what is observed counts: {joined}");
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

//! The index by which servers are ranked: what a server publishes and what is observed here, joined.
//!
//! In: both indexes, with the mean of this balancer's requests in flight while they were taken. Out: one index,
//! and the requests in flight that it knows of. Pure arithmetic: no clock, the caller says how old things are.
//!
//! A published index tells of everybody's work, and of a minute that has passed; response times tell of ours, and
//! of now. Ranked by the published one alone, servers were overloaded and left idle in turn: in the simulation of
//! `benches/balance` the 99th percentile was ten times that of the joined one with an index a minute old. So a
//! published index speaks for a server that has given few answers lately, and leads while it is fresh; its say
//! halves every five seconds where enough is observed.

/// An index and what it was taken with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// 0.0 (nothing left) to 100.0 (idle).
    pub index: f32,
    /// Mean of this balancer's requests in flight there meanwhile.
    pub in_flight: f32,
}

/// Say of a fresh published index against an observed one that rests on plenty of answers.
const PUBLISHED: f32 = 0.2;
/// After this it has half of it, milliseconds.
const HALF_LIFE_MS: f32 = 5_000.0;

/// Joins a published index, of some age in milliseconds, with an observed one, which rests on enough answers
/// (1.0) or on next to none (0.0). Either may be unknown.
#[must_use]
pub fn join(published: Option<(Reading, u64)>, observed: Option<(Reading, f32)>) -> Option<Reading> {
    match (published, observed) {
        (None, None) => None,
        (Some((reading, _)), None) | (None, Some((reading, _))) => Some(reading),
        (Some((published, age_ms)), Some((observed, confidence))) => {
            let say = PUBLISHED * 0.5_f32.powf(age_ms as f32 / HALF_LIFE_MS);
            let share = if confidence > 0.0 { say / (say + confidence) } else { 1.0 };
            let mix = |published: f32, observed: f32| observed + (published - observed) * share;
            Some(Reading {
                index: mix(published.index, observed.index),
                in_flight: mix(published.in_flight, observed.in_flight),
            })
        }
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
        assert_eq!(join(None, None), None);
        assert_eq!(join(Some((PUBLISHED_80, 179_000)), None), Some(PUBLISHED_80));
        assert_eq!(join(None, Some((OBSERVED_40, 0.1))), Some(OBSERVED_40));
    }

    #[test]
    fn a_published_index_leads_where_little_is_observed_and_fades_where_much_is() {
        let joined =
            |age, confidence| join(Some((PUBLISHED_80, age)), Some((OBSERVED_40, confidence))).unwrap().index;
        assert!(joined(0, 0.0) > 79.9);
        assert!(joined(0, 0.02) > 75.0);
        assert!((45.0..50.0).contains(&joined(0, 1.0)));
        assert!(joined(30_000, 1.0) < 41.0);
        assert!(joined(60_000, 0.01) < 45.0, "some answers now say more than a minute ago");
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

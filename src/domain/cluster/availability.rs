//! The availability index: the threshold rule, smoothing, and the observed index.
//!
//! Numbers from 0 (nothing left) to 100 (idle). Pure arithmetic without a clock: the caller says when things happened.
//!
//! Domino derives its index from the expansion factor XF, the recent time of a transaction over
//! its best time ever: XF 1 is 100 and XF 2^range is 0
//! (<https://help.hcltechsw.com/domino/12.0.2/admin/tune_clustermanagerstatistics_r.html>).

/// BUSY = the index is at or under the threshold. A threshold of 0 is never BUSY, one of 100 always, even without an index.
///
/// HCL's pages disagree on equality; only this rule makes a threshold of 100 always BUSY
/// (<https://help.hcltechsw.com/domino/11.0.1/admin/conf_server_availability_threshold_r.html>).
#[must_use]
pub fn is_busy(index: Option<u8>, threshold: u8) -> bool {
    threshold >= 100 || (threshold > 0 && index.is_some_and(|index| index <= threshold))
}

/// `100 * (1 - log2(XF) / range)`, clamped to 0..=100.
#[must_use]
pub fn index_of_expansion(xf: f64, range: u8) -> f64 {
    let range = f64::from(range.max(1));
    (100.0 * (1.0 - xf.max(1.0).log2() / range)).clamp(0.0, 100.0)
}

/// From this difference on, the next published index of a server is a change, not noise: the expansion factor has tripled
/// or fallen to a third.
pub const JUMP: f64 = 25.0;

/// Smooths a published index, which is slow and noisy: a quarter of the past stays, and nothing after a [`JUMP`]. BUSY is
/// decided on the raw value, never on this one.
#[must_use]
pub fn smooth(old: Option<f64>, raw: u8) -> f64 {
    let raw = f64::from(raw);
    match old {
        Some(old) if (raw - old).abs() < JUMP => old.mul_add(0.25, raw * 0.75),
        _ => raw,
    }
}

/// Requests whose times can be compared: a static file and an agent have no common baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RequestClass {
    /// Outside of databases: icons, scripts, server commands.
    Static = 0,
    /// Files, images and attachments in a database.
    Resource = 1,
    /// Views, forms, documents, pages.
    Document = 2,
    /// Agents, commands that change data, unknown commands.
    Agent = 3,
}

impl RequestClass {
    /// Number of classes.
    pub const COUNT: usize = 4;
}

/// The observed expansion factor of one server: the recent time to first byte over the baseline, by class.
///
/// The baseline is the [`least`] of all servers of the cluster, each a slowly decaying low percentile (about the tenth).
/// The recent time is an exponentially weighted mean in which a value loses half of its weight in 10 s.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    classes: [ClassTimes; RequestClass::COUNT],
}

#[derive(Clone, Copy, Debug, Default)]
struct ClassTimes {
    /// Microseconds.
    baseline: f64,
    recent: f64,
    weight: f64,
    last_ms: u64,
    seen: u32,
}

/// Of the recent mean.
const HALF_LIFE_MS: f64 = 10_000.0;
/// Smaller differences in time have other reasons than load.
const NOISE_MICROS: f64 = 2_000.0;
/// Time in which the baseline rises to a higher value.
const BASELINE_MS: f64 = 1_800_000.0;
/// Values of a class before its baseline counts.
const ENOUGH: u32 = 8;
/// Values that the recent mean rests on at most. With many requests a second it then covers less than its half-life, so a
/// server that slows down shows at once, and still enough for new users, who will stay (`benches/balance`, affinity 95 %).
const MAX_WEIGHT: f64 = 1_000.0;

/// How much longer a server takes than the fastest one at its best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expansion {
    /// At least 1.0.
    pub factor: f64,
    /// The part of the factor that [`NOISE_MICROS`] make.
    pub noise: f64,
}

/// An index made of response times, and how exact it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObservedIndex {
    /// 0.0 to 100.0.
    pub index: f32,
    /// Points by which it would be higher if times were shorter by [`NOISE_MICROS`]: many for a server that answers within
    /// a few milliseconds, next to none for one that takes a second.
    pub noise: f32,
}

impl Expansion {
    /// The index of this factor.
    #[must_use]
    pub fn index(self, range: u8) -> ObservedIndex {
        let noise = (self.factor / (self.factor - self.noise)).log2() * 100.0 / f64::from(range.max(1));
        ObservedIndex { index: index_of_expansion(self.factor, range) as f32, noise: noise as f32 }
    }
}

/// Microseconds by class; `None` = not known.
pub type Baselines = [Option<f64>; RequestClass::COUNT];

/// The least baselines of a cluster, against which all its servers are measured: replicas answer the same requests, so a
/// server that was always slower than the others shows as slower, and a baseline that is a few milliseconds off is so for
/// all servers alike.
#[must_use]
pub fn least(all: impl Iterator<Item = Baselines>) -> Baselines {
    all.fold([None; RequestClass::COUNT], |mut least, one| {
        for (least, one) in least.iter_mut().zip(one) {
            *least = [*least, one].into_iter().flatten().reduce(f64::min);
        }
        least
    })
}

impl Observed {
    /// Takes in the time to the first byte of a response.
    pub fn observe(&mut self, class: RequestClass, micros: u64, now_ms: u64) {
        let Some(times) = self.classes.get_mut(class as usize) else { return };
        let value = micros.max(1) as f64;
        if times.seen == 0 {
            *times = ClassTimes { baseline: value, recent: value, weight: 1.0, last_ms: now_ms, seen: 1 };
            return;
        }
        // Down in big steps with each faster response, up only with time: a low percentile that forgets over minutes, so
        // that an hour of load does not become the new baseline at once.
        if value < times.baseline {
            times.baseline = times.baseline.mul_add(0.91, value * 0.09);
        } else {
            let gap = now_ms.saturating_sub(times.last_ms) as f64;
            times.baseline += (value - times.baseline) * (gap / BASELINE_MS).min(0.01);
        }
        let faded = 0.5_f64.powf(now_ms.saturating_sub(times.last_ms) as f64 / HALF_LIFE_MS);
        let weight = (times.weight * faded).min(MAX_WEIGHT);
        times.recent = times.recent.mul_add(weight, value) / (weight + 1.0);
        times.weight = weight + 1.0;
        times.last_ms = now_ms;
        times.seen = times.seen.saturating_add(1);
    }

    /// Of the classes with enough values.
    #[must_use]
    pub fn baselines(&self) -> Baselines {
        self.classes.map(|times| (times.seen >= ENOUGH).then_some(times.baseline))
    }

    /// The expansion factor over all classes, weighted by their recent traffic; `None` = too few values, or none for
    /// `stale_ms`. `cluster` has the [`least`] baselines.
    #[must_use]
    pub fn expansion(&self, cluster: &Baselines, now_ms: u64, stale_ms: u64) -> Option<Expansion> {
        let (mut sum, mut noise, mut weights) = (0.0, 0.0, 0.0);
        for (times, baseline) in self.classes.iter().zip(cluster) {
            let age = now_ms.saturating_sub(times.last_ms);
            if times.seen < ENOUGH || age > stale_ms {
                continue;
            }
            let faded = 0.5_f64.powf(age as f64 / HALF_LIFE_MS);
            let weight = times.weight * faded;
            let baseline = baseline.unwrap_or(times.baseline);
            let slowdown = ((times.recent + NOISE_MICROS) / (baseline + NOISE_MICROS)).max(1.0);
            // Old values say little about now: a server without requests slowly becomes as good as an idle one, else its
            // recovery would never be noticed.
            sum += weight * (1.0 + (slowdown - 1.0) * faded);
            noise += weight * faded * NOISE_MICROS / (baseline + NOISE_MICROS);
            weights += weight;
        }
        (weights > 0.0).then(|| Expansion { factor: sum / weights, noise: noise / weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Baselines = [None; RequestClass::COUNT];

    #[test]
    fn threshold_zero_is_never_busy_and_hundred_always() {
        for index in 0..=100 {
            assert!(!is_busy(Some(index), 0));
            assert!(is_busy(Some(index), 100));
        }
        assert!(is_busy(Some(20), 20));
        assert!(!is_busy(Some(21), 20));
    }

    #[test]
    fn without_an_index_threshold_hundred_is_busy_all_the_same_and_no_other_is() {
        for threshold in 0..100 {
            assert!(!is_busy(None, threshold), "{threshold}");
        }
        assert!(is_busy(None, 100));
    }

    #[test]
    fn a_jump_of_the_published_index_is_believed_at_once_and_noise_is_smoothed() {
        assert!((smooth(Some(10.0), 95) - 95.0).abs() < 1e-9);
        assert!((smooth(Some(95.0), 10) - 10.0).abs() < 1e-9);
        assert!((smooth(Some(80.0), 72) - 74.0).abs() < 1e-9);
        assert!((smooth(None, 72) - 72.0).abs() < 1e-9);
    }

    #[test]
    fn expansion_one_is_a_hundred_and_sixty_four_is_zero_at_range_six() {
        assert!((index_of_expansion(1.0, 6) - 100.0).abs() < 1e-9);
        assert!(index_of_expansion(64.0, 6).abs() < 1e-9);
        assert!((index_of_expansion(8.0, 6) - 50.0).abs() < 1e-9);
        assert!((index_of_expansion(64.0, 20) - 70.0).abs() < 1e-9);
    }

    #[test]
    fn a_server_that_slows_down_eightfold_is_observed_near_fifty() {
        let mut observed = Observed::default();
        let mut now = 0;
        for i in 0..500 {
            now += 10;
            observed.observe(RequestClass::Document, 50_000 + i % 7, now);
        }
        let quiet = index_of_expansion(observed.expansion(&OWN, now, 60_000).unwrap().factor, 6);
        assert!(quiet > 97.0, "{quiet}");
        for _ in 0..2_000 {
            now += 10;
            observed.observe(RequestClass::Document, 400_000, now);
        }
        let slow = index_of_expansion(observed.expansion(&OWN, now, 60_000).unwrap().factor, 6);
        assert!((45.0..60.0).contains(&slow), "{slow}");
    }

    #[test]
    fn a_server_that_nobody_asks_any_more_is_taken_for_idle_after_a_while() {
        let mut observed = Observed::default();
        for i in 0..100 {
            observed.observe(RequestClass::Document, 20_000, i * 10);
        }
        for i in 100..200 {
            observed.observe(RequestClass::Document, 400_000, i * 10);
        }
        let then = observed.expansion(&OWN, 2_000, 180_000).unwrap().factor;
        let later = observed.expansion(&OWN, 62_000, 180_000).unwrap().factor;
        assert!(then > 4.0 && later < 1.5, "{then} {later}");
    }

    #[test]
    fn a_server_is_measured_against_the_fastest_of_its_cluster() {
        let times = |micros| {
            let mut observed = Observed::default();
            (0..200).for_each(|i| observed.observe(RequestClass::Document, micros, i * 10));
            observed
        };
        let (fast, slow, unknown) = (times(20_000), times(60_000), Observed::default());
        let cluster = least([slow.baselines(), unknown.baselines(), fast.baselines()].into_iter());
        assert_eq!(cluster, fast.baselines());
        assert!(fast.expansion(&cluster, 2_000, 60_000).unwrap().factor < 1.01);
        assert!(slow.expansion(&cluster, 2_000, 60_000).unwrap().factor > 2.5, "slow from the beginning");
        assert!(slow.expansion(&OWN, 2_000, 60_000).unwrap().factor < 1.01);
    }

    #[test]
    fn fractions_of_a_millisecond_are_noise() {
        let mut observed = Observed::default();
        for i in 0..400 {
            observed.observe(RequestClass::Static, if i < 200 { 200 } else { 500 }, i * 10);
        }
        let index = index_of_expansion(observed.expansion(&OWN, 4_000, 180_000).unwrap().factor, 6);
        assert!(index > 95.0, "{index}");
    }

    #[test]
    fn the_observation_says_what_two_milliseconds_are_worth_in_points() {
        let seen = |micros| {
            let mut observed = Observed::default();
            (0..200).for_each(|i| observed.observe(RequestClass::Document, micros, i * 10));
            let fast = [None, None, Some(5_000.0), None];
            observed.expansion(&fast, 2_000, 60_000).unwrap().index(6)
        };
        let (fast, near, far) = (seen(5_000), seen(6_500), seen(8_000));
        assert!(fast.index - near.index > 1.0, "they do differ: {fast:?} {near:?}");
        assert!(fast.index - near.index < near.noise.min(fast.noise), "by less than 2 ms: {fast:?} {near:?}");
        assert!(fast.index - far.index > far.noise.min(fast.noise), "by more than 2 ms: {fast:?} {far:?}");
        assert!(seen(1_000_000).noise < 0.1, "a second is known exactly");
    }

    #[test]
    fn classes_have_baselines_of_their_own() {
        let mut observed = Observed::default();
        for i in 0..200 {
            observed.observe(RequestClass::Static, 100, i * 10);
            observed.observe(RequestClass::Agent, 900_000, i * 10);
        }
        let index = index_of_expansion(observed.expansion(&OWN, 2_000, 60_000).unwrap().factor, 6);
        assert!(index > 97.0, "slow agents are no sign of load: {index}");
    }

    #[test]
    fn nothing_is_claimed_before_enough_was_seen_or_after_silence() {
        let mut observed = Observed::default();
        assert_eq!(observed.expansion(&OWN, 0, 1_000), None);
        for i in 0..100 {
            observed.observe(RequestClass::Document, 500, i);
        }
        assert!(observed.expansion(&OWN, 100, 1_000).is_some());
        assert_eq!(observed.expansion(&OWN, 5_000, 1_000), None);
    }

    proptest! {
        #[test]
        fn the_observed_index_stays_in_range(times in proptest::collection::vec((0u64..10_000_000, 0u64..100_000), 1..200)) {
            let mut observed = Observed::default();
            let mut now = 0;
            for (micros, gap) in times {
                now += gap;
                observed.observe(RequestClass::Document, micros, now);
            }
            if let Some(seen) = observed.expansion(&OWN, now, u64::MAX).map(|xf| xf.index(6)) {
                prop_assert!((0.0..=100.0).contains(&seen.index));
                prop_assert!(seen.noise.is_finite() && seen.noise >= 0.0, "{seen:?}");
            }
        }
    }
}

//! The availability index: the threshold rule, smoothing, and the observed index.
//!
//! An index is a number from 0 (nothing left) to 100 (idle). Domino derives it from the expansion factor XF, the recent
//! time of a transaction over its best time ever: XF 1 is 100, and XF 2^range is 0
//! (<https://help.hcltechsw.com/domino/12.0.2/admin/tune_clustermanagerstatistics_r.html>).

/// BUSY: the index is at or under the threshold. A threshold of 0 is never BUSY, and 100 always, even without an index.
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

/// A difference this large between published indexes is a change, not noise: the expansion factor has tripled or fallen
/// to a third.
pub const JUMP: f64 = 25.0;

/// Smooths a published index, which is slow and noisy: a quarter of the old value stays, and nothing after a [`JUMP`].
/// BUSY depends on the raw value.
#[must_use]
pub fn smooth(old: Option<f64>, raw: u8) -> f64 {
    let raw = f64::from(raw);
    match old {
        Some(old) if (raw - old).abs() < JUMP => old.mul_add(0.25, raw * 0.75),
        _ => raw,
    }
}

/// Requests with comparable times: a static file and an agent have no common baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RequestClass {
    /// Requests outside databases: icons, scripts, server commands.
    Static = 0,
    /// Files, images and attachments in a database.
    Resource = 1,
    /// Views, forms, documents, pages.
    Document = 2,
    /// Agents, commands that change data, unknown commands.
    Agent = 3,
}

impl RequestClass {
    /// The number of request classes.
    pub const COUNT: usize = 4;
}

/// The observed times to first byte of one server by class, which give its expansion factor: the recent time over the
/// baseline.
///
/// The baseline of a server is a low percentile (about the tenth) that forgets slowly; the cluster uses the
/// [`lowest_baselines`]. The recent time is an exponentially weighted mean with a half-life of 10 s.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    classes: [ClassTimes; RequestClass::COUNT],
}

#[derive(Clone, Copy, Debug, Default)]
struct ClassTimes {
    baseline_micros: f64,
    recent_micros: f64,
    weight: f64,
    last_ms: u64,
    seen: u32,
}

const HALF_LIFE_MS: f64 = 10_000.0;
/// Smaller differences in time are not caused by load.
const NOISE_MICROS: f64 = 2_000.0;
/// Time for the baseline to rise to a higher value.
const BASELINE_MS: f64 = 1_800_000.0;
/// Minimum of values in a class before its baseline counts.
const MIN_SEEN: u32 = 8;
/// Maximum of values in the recent mean. With many requests a second the mean then covers less than its half-life, so a
/// slow server is noticed at once (`benches/balance`, affinity 95 %).
const MAX_WEIGHT: f64 = 1_000.0;

/// How much longer a server takes than the fastest server at its best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expansion {
    /// The expansion factor, at least 1.0.
    pub factor: f64,
    /// The part of the factor that corresponds to 2 ms of noise.
    pub noise: f64,
}

/// An index computed from response times, and its precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObservedIndex {
    /// The index, from 0.0 to 100.0.
    pub index: f32,
    /// Points by which the index would be higher if responses were 2 ms faster: many for a server that responds within
    /// a few milliseconds, next to none for one that takes a second.
    pub noise: f32,
}

impl Expansion {
    /// The index for this factor.
    #[must_use]
    pub fn index(self, range: u8) -> ObservedIndex {
        let noise = (self.factor / (self.factor - self.noise)).log2() * 100.0 / f64::from(range.max(1));
        ObservedIndex { index: index_of_expansion(self.factor, range) as f32, noise: noise as f32 }
    }
}

/// Baselines in microseconds by class; `None` = unknown.
pub type Baselines = [Option<f64>; RequestClass::COUNT];

/// The lowest baselines of a cluster, against which all its servers are measured. Replicas serve the same requests, so
/// a server that was always slower shows as slower, and an error in a baseline affects all servers alike.
#[must_use]
pub fn lowest_baselines(servers: impl Iterator<Item = Baselines>) -> Baselines {
    servers.fold([None; RequestClass::COUNT], |mut lowest, server| {
        for (lowest, baseline) in lowest.iter_mut().zip(server) {
            *lowest = [*lowest, baseline].into_iter().flatten().reduce(f64::min);
        }
        lowest
    })
}

impl Observed {
    /// Adds the time to the first byte of a response.
    pub fn observe(&mut self, class: RequestClass, micros: u64, now_ms: u64) {
        let Some(times) = self.classes.get_mut(class as usize) else { return };
        let value = micros.max(1) as f64;
        if times.seen == 0 {
            *times = ClassTimes {
                baseline_micros: value,
                recent_micros: value,
                weight: 1.0,
                last_ms: now_ms,
                seen: 1,
            };
            return;
        }
        // Down in big steps with each faster response, up only with time: a low percentile that forgets over minutes,
        // so that a period of load does not become the baseline at once.
        if value < times.baseline_micros {
            times.baseline_micros = times.baseline_micros.mul_add(0.91, value * 0.09);
        } else {
            let gap = now_ms.saturating_sub(times.last_ms) as f64;
            times.baseline_micros += (value - times.baseline_micros) * (gap / BASELINE_MS).min(0.01);
        }
        let faded = 0.5_f64.powf(now_ms.saturating_sub(times.last_ms) as f64 / HALF_LIFE_MS);
        let weight = (times.weight * faded).min(MAX_WEIGHT);
        times.recent_micros = times.recent_micros.mul_add(weight, value) / (weight + 1.0);
        times.weight = weight + 1.0;
        times.last_ms = now_ms;
        times.seen = times.seen.saturating_add(1);
    }

    /// The baselines of the classes with enough values.
    #[must_use]
    pub fn baselines(&self) -> Baselines {
        self.classes.map(|times| (times.seen >= MIN_SEEN).then_some(times.baseline_micros))
    }

    /// The expansion factor over all classes, weighted by recent traffic; `None` = too few values, or none for
    /// `stale_ms`. `cluster` has the [`lowest_baselines`].
    #[must_use]
    pub fn expansion(&self, cluster: &Baselines, now_ms: u64, stale_ms: u64) -> Option<Expansion> {
        let (mut sum, mut noise, mut weights) = (0.0, 0.0, 0.0);
        for (times, baseline) in self.classes.iter().zip(cluster) {
            let age = now_ms.saturating_sub(times.last_ms);
            if times.seen < MIN_SEEN || age > stale_ms {
                continue;
            }
            let faded = 0.5_f64.powf(age as f64 / HALF_LIFE_MS);
            let weight = times.weight * faded;
            let baseline = baseline.unwrap_or(times.baseline_micros);
            let slowdown = ((times.recent_micros + NOISE_MICROS) / (baseline + NOISE_MICROS)).max(1.0);
            // Old values fade: a server without requests slowly counts as idle, else its recovery would never be
            // noticed.
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
    fn a_threshold_of_0_is_never_busy_and_100_always() {
        for index in 0..=100 {
            assert!(!is_busy(Some(index), 0));
            assert!(is_busy(Some(index), 100));
        }
        assert!(is_busy(Some(20), 20));
        assert!(!is_busy(Some(21), 20));
    }

    #[test]
    fn without_an_index_only_a_threshold_of_100_is_busy() {
        for threshold in 0..100 {
            assert!(!is_busy(None, threshold), "{threshold}");
        }
        assert!(is_busy(None, 100));
    }

    #[test]
    fn a_jump_of_the_published_index_counts_at_once_and_noise_is_smoothed() {
        assert!((smooth(Some(10.0), 95) - 95.0).abs() < 1e-9);
        assert!((smooth(Some(95.0), 10) - 10.0).abs() < 1e-9);
        assert!((smooth(Some(80.0), 72) - 74.0).abs() < 1e-9);
        assert!((smooth(None, 72) - 72.0).abs() < 1e-9);
    }

    #[test]
    fn at_range_6_an_expansion_of_1_is_index_100_and_64_is_index_0() {
        assert!((index_of_expansion(1.0, 6) - 100.0).abs() < 1e-9);
        assert!(index_of_expansion(64.0, 6).abs() < 1e-9);
        assert!((index_of_expansion(8.0, 6) - 50.0).abs() < 1e-9);
        assert!((index_of_expansion(64.0, 20) - 70.0).abs() < 1e-9);
    }

    #[test]
    fn a_server_that_slows_down_eightfold_has_an_index_near_50() {
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
    fn a_server_without_requests_counts_as_idle_after_a_while() {
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
        let cluster = lowest_baselines([slow.baselines(), unknown.baselines(), fast.baselines()].into_iter());
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
    fn the_noise_is_what_two_milliseconds_are_worth_in_points() {
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
    fn each_class_has_its_own_baseline() {
        let mut observed = Observed::default();
        for i in 0..200 {
            observed.observe(RequestClass::Static, 100, i * 10);
            observed.observe(RequestClass::Agent, 900_000, i * 10);
        }
        let index = index_of_expansion(observed.expansion(&OWN, 2_000, 60_000).unwrap().factor, 6);
        assert!(index > 97.0, "slow agents are not a sign of load: {index}");
    }

    #[test]
    fn there_is_no_expansion_with_too_few_or_stale_values() {
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

//! The lightest workload among servers that may serve.
//!
//! The availability index is relative, logarithmic and slow: Domino renews it about once a minute. Sending every
//! request to the highest index makes a herd that turns with every report. So the index is joined with what is observed
//! ([`crate::domain::cluster::load`]) and corrected by what this balancer has sent since; servers within a small band
//! count as equal; and among equals two are drawn, and the one with fewer requests in flight per weight wins.
//!
//! The correction follows the definition of the index. A server slows down as the number of its requests `n` grows: not
//! at all while it has idle cores, in proportion to `n` when it has none. In between, its expansion factor changes by
//! the square root of `(C + now) / (C + then)`, where `then` is the mean number in flight while the index was taken; in
//! points of the index this is `100 / range * log2` of that root. `C` keeps single requests on an idle server from
//! mattering. In effect this estimates how long a new request would take, from an index learned over seconds and a
//! number in flight that is true now. `benches/balance` compares this with other rules. The whole ratio does as well
//! there for requests that may go anywhere, and worse where users stay: the number in flight now says little about the
//! minutes for which a new user stays.
//!
//! A server that fails fast looks idle and would attract all requests. So the share of its latest attempts that had to
//! be repeated elsewhere is subtracted from its index, in percent.

use smallvec::SmallVec;

use super::input::{Candidate, SelectionPolicy};

/// Points of the index within which servers count as equal: far less than one more request makes on a server with two
/// in flight. With a wider band the draw sends the smallest server as many requests as the largest while it copes, and
/// overloads it later with the users that stay; without a band a herd follows every rounding (`benches/balance`: 5 and
/// 2 are worse in nearly every case, 0 where a server returns).
const EQUAL_BAND_POINTS: f32 = 1.0;

/// Positions of the candidates that count as equal to the best: those within [`EQUAL_BAND_POINTS`], and those whose
/// index is lower by no more than the noise of both. Responses of 5 ms and 6.5 ms differ by five points and by nothing
/// that a user notices; without this rule the faster server would take all requests. Noise never offsets failures.
///
/// The correction for requests in flight counts as noise as well: comparing the observed times alone and ranking by the
/// correction favoured the server that had just worked, and did worse in `benches/balance`.
#[must_use]
pub fn equal_band(candidates: &[&Candidate], indexes: &[f32]) -> SmallVec<[usize; 8]> {
    let noise = |c: &Candidate| if c.snapshot.failing > 0.0 { 0.0 } else { c.snapshot.noise };
    let rated = || indexes.iter().copied().zip(candidates.iter().copied().map(noise));
    let (best, noise) = rated().fold((f32::MIN, 0.0), |best, one| if one > best { one } else { best });
    let is_equal = |(index, own): (f32, f32)| index >= best - EQUAL_BAND_POINTS.max(noise.min(own));
    rated().enumerate().filter(|(_, one)| is_equal(*one)).map(|(position, _)| position).collect()
}

/// `C` of the correction: a number of requests in flight that makes little difference. It does not depend on the
/// weight, because only the change of the number counts, and divided by a weight it would hardly change.
const BASE_IN_FLIGHT: f32 = 2.0;

/// The share of a server that has just returned: some requests must warm it up.
const MIN_SLOW_START_SHARE: f32 = 0.1;

/// The share of requests that a server takes while it ramps up; 1.0 = all of its share.
#[must_use]
pub fn slow_start_share(candidate: &Candidate, policy: &SelectionPolicy, now_ms: u64) -> f32 {
    let Some(returned) = candidate.snapshot.returned_at_ms else { return 1.0 };
    if policy.slow_start_ms == 0 {
        return 1.0;
    }
    let elapsed = now_ms.saturating_sub(returned) as f32;
    (elapsed / policy.slow_start_ms as f32).clamp(MIN_SLOW_START_SHARE, 1.0)
}

/// The corrected index of each candidate. An unknown index counts as the mean of the known ones, so that the server is
/// neither preferred nor avoided.
#[must_use]
pub fn corrected_indexes(candidates: &[&Candidate], policy: &SelectionPolicy) -> SmallVec<[f32; 8]> {
    let (sum, known) = candidates
        .iter()
        .filter_map(|c| c.snapshot.index)
        .fold((0.0_f32, 0_u32), |(sum, n), index| (sum + index, n + 1));
    let neutral = if known == 0 { 100.0 } else { sum / known as f32 };
    let points = 100.0 / f32::from(policy.transinfo_range.max(1));
    candidates
        .iter()
        .map(|c| {
            let (now, then) = (c.snapshot.in_flight as f32, c.snapshot.in_flight_then);
            // Fast path without a logarithm: nothing has changed since the report.
            let shift = if now == then {
                0.0
            } else {
                points * 0.5 * ((BASE_IN_FLIGHT + now) / (BASE_IN_FLIGHT + then)).log2()
            };
            c.snapshot.index.unwrap_or(neutral) - shift - 100.0 * c.snapshot.failing
        })
        .collect()
}

/// The winner among `band` (positions in `candidates`): two are drawn by weight, and the one with fewer requests in
/// flight per weight wins; a tie goes by weight.
#[must_use]
pub fn draw_winner(
    candidates: &[&Candidate],
    band: &[usize],
    policy: &SelectionPolicy,
    now_ms: u64,
    random: &mut fastrand::Rng,
) -> Option<usize> {
    // The draw ignores the ramp: a server that ramps up was already passed over in proportion to it.
    let weight = |position: usize| -> f32 {
        candidates.get(position).map_or(0.0, |c| c.snapshot.weight.max(1) as f32)
    };
    let first = pick_weighted(band, None, &weight, random)?;
    let Some(second) = pick_weighted(band, Some(first), &weight, random) else { return Some(first) };
    let load = |position: usize| -> f32 {
        candidates.get(position).map_or(f32::MAX, |c| {
            c.snapshot.in_flight as f32 / (weight(position) * slow_start_share(c, policy, now_ms))
        })
    };
    let (a, b) = (load(first), load(second));
    // `first` was drawn by weight before `second`, so keeping it on a tie is the weighted choice.
    Some(if b < a { second } else { first })
}

/// Draws a position in proportion to its weight.
fn pick_weighted(
    band: &[usize],
    without: Option<usize>,
    weight: &impl Fn(usize) -> f32,
    random: &mut fastrand::Rng,
) -> Option<usize> {
    let eligible = || band.iter().copied().filter(|p| Some(*p) != without);
    let total: f32 = eligible().map(weight).sum();
    let mut at = random.f32() * total;
    let mut last = None;
    for position in eligible() {
        last = Some(position);
        at -= weight(position);
        if at < 0.0 {
            break;
        }
    }
    last
}

//! The lightest workload among servers that may serve.
//!
//! The availability index is relative, logarithmic and slow: Domino renews it about once a minute.
//! Sending everyone to the highest makes a herd that flips with every reading. So the index is joined with
//! what is observed ([`crate::domain::cluster::load`]), corrected by what this balancer itself has sent since, servers
//! within a small band count as equal, and among equals two are drawn and the one with fewer requests in
//! flight per weight wins.
//!
//! The correction follows the index's own definition. A server that works on `n` requests at once slows down
//! as `n` grows: not at all while it has idle cores, in proportion to `n` when it has none. In between its
//! expansion factor has changed by the square root of `(C + now) / (C + then)`, where `then` is the mean
//! number in flight while the index was taken; this is `100 / range * log2` of that in points of the
//! index. `C` keeps single requests on an idle server from mattering. In effect the time that a new request
//! would take is estimated: an index learned over seconds, times a number in flight that is true now.
//! `benches/balance` compares this with the rules of others. The whole ratio does as well there for requests
//! that may go anywhere, and worse where users stay: what is in flight at this moment says little about the
//! minutes for which a newcomer will be there.
//!
//! A server that fails fast looks idle and would draw everybody: the share of its latest attempts that
//! had to be repeated elsewhere costs it as many points of a hundred.

use smallvec::SmallVec;

use super::input::{Candidate, SelectionPolicy};

/// Points of the index within which servers count as equal: far less than a single request in flight makes on a server
/// that has two. In a wider band the draw sends the smallest server as many as the largest for as long as it copes, and
/// those who stay with it meet later what they have brought; in none a herd follows every rounding (`benches/balance`: 5
/// and 2 are worse in nearly every case, 0 where a server returns).
pub const EQUAL_BAND_POINTS: f32 = 1.0;

/// Positions of the candidates that count as equal to the best: those within [`EQUAL_BAND_POINTS`], and those whose index is lower by
/// no more than the noise of both. Answers of 5 ms and of 6.5 ms differ by five points and by nothing that a user would
/// notice; without this the one would take everybody. Of failures no noise is taken for an excuse.
///
/// The correction for requests in flight is within that noise as well: to take the observed times alone for equal, and let
/// the correction rank, made the server that had just worked look better than the one that had not, and cost more in
/// `benches/balance`.
#[must_use]
pub fn equal_band(candidates: &[Candidate], indexes: &[f32]) -> SmallVec<[usize; 8]> {
    let noise = |c: &Candidate| if c.snapshot.failing > 0.0 { 0.0 } else { c.snapshot.noise };
    let rated = || indexes.iter().copied().zip(candidates.iter().map(noise));
    let (best, noise) = rated().fold((f32::MIN, 0.0), |best, one| if one > best { one } else { best });
    let is_equal = |(index, own): (f32, f32)| index >= best - EQUAL_BAND_POINTS.max(noise.min(own));
    rated().enumerate().filter(|(_, one)| is_equal(*one)).map(|(position, _)| position).collect()
}

/// Requests in flight that make little difference. Whatever a server's weight: what counts is by how much they have
/// changed, and divided by the weight they hardly would.
const BASE_IN_FLIGHT: f32 = 2.0;

/// The least share of a server that has just returned: some requests must warm it up.
const MIN_SLOW_START_SHARE: f32 = 0.1;

/// How far a returned server's ramp is: 1.0 = it takes its full share.
#[must_use]
pub fn slow_start_share(candidate: &Candidate, settings: &SelectionPolicy, now_ms: u64) -> f32 {
    let Some(returned) = candidate.snapshot.returned_at_ms else { return 1.0 };
    if settings.slow_start_ms == 0 {
        return 1.0;
    }
    let gone = now_ms.saturating_sub(returned) as f32;
    (gone / settings.slow_start_ms as f32).clamp(MIN_SLOW_START_SHARE, 1.0)
}

/// The index of each candidate after correction; an unknown one counts as the mean of the known,
/// so that it is neither preferred nor shunned.
#[must_use]
pub fn corrected_indexes(candidates: &[Candidate], settings: &SelectionPolicy) -> SmallVec<[f32; 8]> {
    let (sum, known) = candidates
        .iter()
        .filter_map(|c| c.snapshot.index)
        .fold((0.0_f32, 0_u32), |(sum, n), index| (sum + index, n + 1));
    let neutral = if known == 0 { 100.0 } else { sum / known as f32 };
    let points = 100.0 / f32::from(settings.transinfo_range.max(1));
    candidates
        .iter()
        .map(|c| {
            let (now, then) = (c.snapshot.in_flight as f32, c.snapshot.in_flight_then);
            // Most servers, most of the time: nothing changed since the reading, no logarithm needed.
            let shift = if now == then {
                0.0
            } else {
                points * 0.5 * ((BASE_IN_FLIGHT + now) / (BASE_IN_FLIGHT + then)).log2()
            };
            c.snapshot.index.unwrap_or(neutral) - shift - 100.0 * c.snapshot.failing
        })
        .collect()
}

/// The one of `band` (positions in `candidates`) that takes the request: two are drawn by weight,
/// the one with fewer requests in flight per weight wins, a tie goes by weight.
#[must_use]
pub fn draw_winner(
    candidates: &[Candidate],
    band: &[usize],
    settings: &SelectionPolicy,
    now_ms: u64,
    random: &mut fastrand::Rng,
) -> Option<usize> {
    // The ramp of a returned server is not in the draw: it was passed over in proportion to it already.
    let weight = |position: usize| -> f32 {
        candidates.get(position).map_or(0.0, |c| c.snapshot.weight.max(1) as f32)
    };
    let first = pick_weighted(band, None, &weight, random)?;
    let Some(second) = pick_weighted(band, Some(first), &weight, random) else { return Some(first) };
    let load = |position: usize| -> f32 {
        candidates.get(position).map_or(f32::MAX, |c| {
            c.snapshot.in_flight as f32 / (weight(position) * slow_start_share(c, settings, now_ms))
        })
    };
    let (a, b) = (load(first), load(second));
    // `first` was drawn by weight before `second`, so keeping it on a tie is the weighted choice.
    Some(if b < a { second } else { first })
}

/// One position drawn in proportion to its share.
fn pick_weighted(
    band: &[usize],
    without: Option<usize>,
    share: &impl Fn(usize) -> f32,
    random: &mut fastrand::Rng,
) -> Option<usize> {
    let eligible = || band.iter().copied().filter(|p| Some(*p) != without);
    let total: f32 = eligible().map(share).sum();
    let mut at = random.f32() * total;
    let mut last = None;
    for position in eligible() {
        last = Some(position);
        at -= share(position);
        if at < 0.0 {
            break;
        }
    }
    last
}

//! Selection: which server takes a request, and why.
//!
//! In: a [`SelectionInput`], plain data of one moment. Out: a [`Decision`] with a verdict on every candidate. One pure
//! function without clock, socket, lock or log serves traffic, `explain`, the simulator and the tests.
//!
//! The rules and their order are those of Domino's ICM
//! (<https://help.hcl-software.com/domino/10.0.1/conf_failoverandworkloadbalancing_c.html>), extended by what a proxy
//! needs: servers already tried, and affinity.

mod decision;
mod input;
mod rank;

use smallvec::SmallVec;

pub use decision::{CandidateVerdict, Decision, SelectionOutcome, SelectionReason};
pub use input::{Candidate, CandidateFreshness, Hint, OwnWrite, SelectionInput, SelectionPolicy, ServerId};

use crate::domain::directory::ReplicaStatus;

/// References, because a candidate is as large as two cache lines.
type Candidates<'a> = SmallVec<[&'a Candidate; 8]>;
type Verdicts = SmallVec<[(ServerId, CandidateVerdict); 8]>;

/// A candidate that may serve, and how gladly; see [`level`].
type Ranked<'a> = SmallVec<[(u8, &'a Candidate); 8]>;

/// The candidates after steps 1 to 5.
#[derive(Default)]
struct Remaining<'a> {
    /// Candidates that may serve, those that are set aside included.
    eligible: Ranked<'a>,
    unreachable: Candidates<'a>,
    /// A candidate was eliminated only because it is at its in-flight limit.
    any_full: bool,
}

impl<'a> Remaining<'a> {
    fn find(&self, server: ServerId) -> Option<(u8, &'a Candidate)> {
        self.eligible.iter().copied().find(|(_, candidate)| candidate.server == server)
    }

    /// The candidates of one level.
    fn at(&self, level: u8) -> Candidates<'a> {
        self.eligible.iter().filter(|(of, _)| *of == level).map(|(_, candidate)| *candidate).collect()
    }
}

/// Applies the selection rules. The numbers of the steps are those of the documentation.
#[must_use]
pub fn decide(input: &SelectionInput<'_>, policy: &SelectionPolicy) -> Decision {
    let mut remaining = Remaining::default();
    let mut decision =
        Decision { outcome: SelectionOutcome::NoServer, verdicts: Verdicts::new(), band: SmallVec::new() };
    for candidate in input.candidates {
        let Some(verdict) = eliminate(candidate, input, policy) else {
            let (level, verdict) = level(candidate, input);
            remaining.eligible.push((level, candidate));
            decision.verdicts.extend(verdict.map(|verdict| (candidate.server, verdict)));
            continue;
        };
        match verdict {
            CandidateVerdict::Unreachable => remaining.unreachable.push(candidate),
            CandidateVerdict::Full => remaining.any_full = true,
            _ => {}
        }
        decision.verdicts.push((candidate.server, verdict));
    }
    decision.outcome = choose(input, policy, &remaining, &mut decision);
    if let SelectionOutcome::Serve(server, _) = decision.outcome {
        complete_verdicts(server, &remaining.eligible, &mut decision.verdicts);
    }
    decision
}

/// A hint counts like an entry where the URL names no database of its own: a login form must be posted to the server
/// that showed it.
fn is_on(server: ServerId, input: &SelectionInput<'_>) -> bool {
    input.entry == Some(server)
        || (input.entry.is_none() && input.hint.is_some_and(|(hinted, _)| hinted == server))
}

/// Steps 1 to 4 for one candidate: why it is eliminated.
fn eliminate(
    candidate: &Candidate,
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
) -> Option<CandidateVerdict> {
    let snapshot = &candidate.snapshot;
    // 1. Marks of the replica. Domino lets users inside finish.
    if input.entry != Some(candidate.server) {
        match candidate.status {
            ReplicaStatus::OutOfService => return Some(CandidateVerdict::OutOfService),
            ReplicaStatus::PendingDelete => return Some(CandidateVerdict::PendingDelete),
            ReplicaStatus::InService => {}
        }
    }
    // 2. Already tried.
    if input.tried.contains(&candidate.server) {
        return Some(CandidateVerdict::Tried);
    }
    // 3. The required port does not answer.
    if !snapshot.is_up(input.port) {
        return Some(CandidateVerdict::Unreachable);
    }
    // 4. RESTRICTED, which includes an administrator's drain.
    if let Some(since) = snapshot.restricted_since_ms {
        let drained = input.now_ms.saturating_sub(since) >= policy.drain_timeout_ms;
        if snapshot.closed || drained || !is_on(candidate.server, input) {
            return Some(CandidateVerdict::Restricted);
        }
    }
    let limit = policy.in_flight_limit(snapshot.max_connections);
    (limit > 0 && snapshot.in_flight >= limit).then_some(CandidateVerdict::Full)
}

/// The level of candidates for which nothing speaks against.
const NOT_SET_ASIDE: u8 = 0;
const BUSY_LEVEL: u8 = 1;
const CATCHING_UP_LEVEL: u8 = 2;
/// Added for a replica that is behind: it is worse than any that is not.
const BEHIND_LEVELS: u8 = 3;
/// Added once for each step of [`OwnWrite`] below the best.
const OWN_WRITE_LEVELS: u8 = 6;

/// Step 5 for one candidate: how far it is set aside, and why. A lower level serves first. The user's own last write
/// counts most, then whether the replica is behind, then the state of the server.
fn level(candidate: &Candidate, input: &SelectionInput<'_>) -> (u8, Option<CandidateVerdict>) {
    let snapshot = &candidate.snapshot;
    let is_on = is_on(candidate.server, input);
    let wrote_here = input.written_on == Some(candidate.server);
    let is_gated = snapshot.catching_up_since_unix_ms.is_some()
        && !candidate.freshness.shown_fresh
        && !wrote_here
        && (!is_on || !input.posts_login_form);
    let (state, mut verdict) = if is_gated {
        (CATCHING_UP_LEVEL, Some(CandidateVerdict::CatchingUp))
    } else if is_on || wrote_here {
        (NOT_SET_ASIDE, None)
    } else if snapshot.busy {
        (BUSY_LEVEL, Some(CandidateVerdict::Busy))
    } else if snapshot.max_users {
        (BUSY_LEVEL, Some(CandidateVerdict::MaxUsers))
    } else {
        (NOT_SET_ASIDE, None)
    };
    let mut level = state;
    let is_newcomer = !is_on && !wrote_here && !input.sessions.contains(&candidate.server);
    if is_newcomer && candidate.freshness.behind_since_unix_ms.is_some() {
        level += BEHIND_LEVELS;
        verdict = verdict.or(Some(CandidateVerdict::Behind));
    }
    if input.written_on.is_some() && !wrote_here {
        match candidate.freshness.own_write {
            OwnWrite::Included => {}
            OwnWrite::Unknown => level += OWN_WRITE_LEVELS,
            OwnWrite::Missing => {
                level += 2 * OWN_WRITE_LEVELS;
                verdict = Some(CandidateVerdict::OlderThanOwnWrite);
            }
        }
    }
    (level, verdict)
}

/// Steps 6 to 8: the outcome. Adds the verdicts of the ranking to `decision`.
fn choose(
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
    remaining: &Remaining<'_>,
    decision: &mut Decision,
) -> SelectionOutcome {
    let best = remaining.eligible.iter().map(|(level, _)| *level).min();
    // 6. The user's server, a hint, the most recent server, a server with a session, else the lightest.
    if let Some(server) = input.entry {
        if keeps_entry(server, input, remaining) {
            return SelectionOutcome::Serve(server, SelectionReason::Entry);
        }
        if input.note_id {
            // A NoteID means another document in another replica: no answer is better than a wrong one.
            let is_full = decision.verdict(server) == Some(CandidateVerdict::Full);
            return if is_full { SelectionOutcome::Full } else { SelectionOutcome::NoteIdServerGone };
        }
    }
    let Some(best) = best else { return without_eligible(input, policy, remaining, decision) };
    let is_best = |server: ServerId| remaining.find(server).is_some_and(|(level, _)| level == best);
    if let Some(server) = input.written_on.filter(|server| is_best(*server)) {
        return SelectionOutcome::Serve(server, SelectionReason::OwnWrite);
    }
    if let Some(server) = input.entry.filter(|server| is_best(*server)) {
        return SelectionOutcome::Serve(server, reason(best, SelectionReason::Entry));
    }
    if let Some((server, hint)) = input.hint.filter(|(server, _)| input.entry.is_none() && is_best(*server)) {
        return SelectionOutcome::Serve(server, reason(best, SelectionReason::Hint(hint)));
    }
    // A server that is set aside does not attract the user of another database.
    let recent = input.recent.filter(|_| !is_set_aside(best));
    if let Some(server) = recent.filter(|server| is_best(*server)) {
        return SelectionOutcome::Serve(server, SelectionReason::Recent);
    }
    if let Some(server) = input.sessions.iter().copied().find(|server| is_best(*server)) {
        return SelectionOutcome::Serve(server, reason(best, SelectionReason::Session));
    }
    // 7. BUSY, MAXUSERS, CATCHING UP and a replica that is behind degrade, they never refuse.
    match pick_lightest(&remaining.at(best), input, policy, decision) {
        Some(server) => SelectionOutcome::Serve(server, reason(best, SelectionReason::Lightest)),
        None => SelectionOutcome::NoServer,
    }
}

/// Whether a level is one of servers or replicas that serve only if no better one can.
fn is_set_aside(level: u8) -> bool {
    level % OWN_WRITE_LEVELS != NOT_SET_ASIDE
}

fn reason(level: u8, reason: SelectionReason) -> SelectionReason {
    if is_set_aside(level) { SelectionReason::SetAside } else { reason }
}

/// Whether the user stays on the server of the entry. Users leave a server that is CATCHING UP. They also leave for the
/// server that took their own last write, because a later modification time here may come from others; and a replica
/// that surely lacks the write, for one that may have it.
fn keeps_entry(server: ServerId, input: &SelectionInput<'_>, remaining: &Remaining<'_>) -> bool {
    let Some((level, candidate)) = remaining.find(server) else { return false };
    if input.note_id {
        return true;
    }
    if is_set_aside(level) {
        return false;
    }
    let Some(written_on) = input.written_on.filter(|written_on| *written_on != server) else { return true };
    match candidate.freshness.own_write {
        _ if remaining.find(written_on).is_some() => false,
        OwnWrite::Included | OwnWrite::Unknown => true,
        OwnWrite::Missing => !remaining
            .eligible
            .iter()
            .any(|(level, c)| c.freshness.own_write == OwnWrite::Included && !is_set_aside(*level)),
    }
}

/// Step 8: no eligible server.
fn without_eligible(
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
    remaining: &Remaining<'_>,
    decision: &mut Decision,
) -> SelectionOutcome {
    if remaining.any_full {
        return SelectionOutcome::Full;
    }
    if policy.try_unreachable
        && let Some(server) = pick_lightest(&remaining.unreachable, input, policy, decision)
    {
        return SelectionOutcome::Serve(server, SelectionReason::LastResort);
    }
    let marked =
        |v: &CandidateVerdict| matches!(v, CandidateVerdict::OutOfService | CandidateVerdict::PendingDelete);
    if !decision.verdicts.is_empty() && decision.verdicts.iter().all(|(_, v)| marked(v)) {
        return SelectionOutcome::OutOfService;
    }
    SelectionOutcome::NoServer
}

/// The server with the lightest workload. Adds the verdicts on all of `candidates` and the band of equals to
/// `decision`.
fn pick_lightest(
    candidates: &Candidates<'_>,
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
    decision: &mut Decision,
) -> Option<ServerId> {
    let Decision { verdicts, band, .. } = decision;
    match candidates.as_slice() {
        [] => return None,
        [only] => {
            set_verdict(verdicts, only.server, CandidateVerdict::Chosen(None));
            band.push(only.server);
            return Some(only.server);
        }
        _ => {}
    }
    let mut random = fastrand::Rng::with_seed(input.seed);
    let in_draw = skip_slow_starters(candidates, input, policy, verdicts, &mut random);
    let indexes = rank::corrected_indexes(&in_draw, policy);
    let equal = rank::equal_band(&in_draw, &indexes);
    let winner = rank::draw_winner(&in_draw, &equal, policy, input.now_ms, &mut random)?;
    band.extend(equal.iter().filter_map(|position| in_draw.get(*position)).map(|c| c.server));
    for (position, (candidate, index)) in in_draw.iter().zip(&indexes).enumerate() {
        let verdict = if position == winner {
            CandidateVerdict::Chosen(Some(*index))
        } else if equal.contains(&position) {
            CandidateVerdict::Equal(*index)
        } else {
            CandidateVerdict::Heavier(*index)
        };
        set_verdict(verdicts, candidate.server, verdict);
    }
    in_draw.get(winner).map(|c| c.server)
}

/// The candidates without those that returned recently and are passed over, each in proportion to its ramp. The index
/// does not matter here: an idle server shows 100 and would attract all requests at once.
fn skip_slow_starters<'a>(
    candidates: &Candidates<'a>,
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
    verdicts: &mut Verdicts,
    random: &mut fastrand::Rng,
) -> Candidates<'a> {
    let share = |candidate: &Candidate| rank::slow_start_share(candidate, policy, input.now_ms);
    let mut passed_over: SmallVec<[bool; 8]> = SmallVec::new();
    for candidate in candidates {
        let share = share(candidate);
        passed_over.push(share < 1.0 && random.f32() >= share);
    }
    if passed_over.iter().all(|passed| *passed) {
        return candidates.clone();
    }
    let mut in_draw = Candidates::new();
    for (candidate, passed) in candidates.iter().zip(passed_over) {
        if passed {
            let percent = (share(candidate) * 100.0) as u8;
            set_verdict(verdicts, candidate.server, CandidateVerdict::SlowStart(percent));
        } else {
            in_draw.push(*candidate);
        }
    }
    in_draw
}

/// A server that was set aside keeps that verdict unless it is chosen: the administrator wants to see it.
fn set_verdict(verdicts: &mut Verdicts, server: ServerId, verdict: CandidateVerdict) {
    match verdicts.iter_mut().find(|(known, _)| *known == server) {
        Some((_, known)) => {
            if matches!(verdict, CandidateVerdict::Chosen(_)) {
                *known = verdict;
            }
        }
        None => verdicts.push((server, verdict)),
    }
}

/// Adds the missing verdicts on eligible candidates and moves the chosen one to the end.
fn complete_verdicts(chosen: ServerId, eligible: &Ranked<'_>, verdicts: &mut Verdicts) {
    for (_, candidate) in eligible {
        if candidate.server != chosen && !verdicts.iter().any(|(server, _)| *server == candidate.server) {
            verdicts.push((candidate.server, CandidateVerdict::NotAffinityServer));
        }
    }
    let ranked = verdicts.iter().position(|(server, _)| *server == chosen).map(|at| verdicts.remove(at).1);
    let index = match ranked {
        Some(CandidateVerdict::Chosen(index)) => index,
        _ => None,
    };
    verdicts.push((chosen, CandidateVerdict::Chosen(index)));
}

#[cfg(test)]
mod tests;

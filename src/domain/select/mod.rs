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
mod level;
mod rank;

use smallvec::SmallVec;

pub use decision::{CandidateVerdict, Decision, SelectionOutcome, SelectionReason};
pub use input::{
    Candidate, CandidateFreshness, CrossSites, Hint, OwnWrite, SelectionInput, SelectionPolicy, ServerId,
};

use crate::domain::directory::ReplicaStatus;
use level::{Level, is_on};

/// References, because a candidate is as large as two cache lines.
type Candidates<'a> = SmallVec<[&'a Candidate; 8]>;
type Verdicts = SmallVec<[(ServerId, CandidateVerdict); 8]>;

/// Candidates that may serve, each with its [`Level`].
type Ranked<'a> = SmallVec<[(Level, &'a Candidate); 8]>;

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
    fn find(&self, server: ServerId) -> Option<(Level, &'a Candidate)> {
        self.eligible.iter().copied().find(|(_, candidate)| candidate.server == server)
    }

    /// The candidates of one level.
    fn at(&self, level: Level) -> Candidates<'a> {
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
            let (level, verdict) = level::of(candidate, input, policy.cross_sites);
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
    if policy.cross_sites == CrossSites::Never && level::sets_site_aside(candidate, input) {
        return Some(CandidateVerdict::OtherSiteExcluded);
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
    let recent = input.recent.filter(|_| !best.is_set_aside());
    if let Some(server) = recent.filter(|server| is_best(*server)) {
        return SelectionOutcome::Serve(server, reason(best, SelectionReason::Recent));
    }
    if let Some(server) = input.sessions.iter().copied().find(|server| is_best(*server)) {
        return SelectionOutcome::Serve(server, reason(best, SelectionReason::Session));
    }
    // 7. BUSY, MAXUSERS, CATCHING UP, a replica that is behind and another site degrade, they never refuse.
    match pick_lightest(&remaining.at(best), input, policy, decision) {
        Some(server) => SelectionOutcome::Serve(server, reason(best, SelectionReason::Lightest)),
        None => SelectionOutcome::NoServer,
    }
}

fn reason(level: Level, reason: SelectionReason) -> SelectionReason {
    if level.is_set_aside() {
        SelectionReason::SetAside
    } else if level.is_other_site() {
        SelectionReason::OtherSite
    } else {
        reason
    }
}

/// Whether the user stays on the server of the entry. Users leave a server that is CATCHING UP. They also leave for the
/// server that took their own last write, because a later modification time here may come from others; and a replica
/// that surely lacks the write, for one that may have it.
fn keeps_entry(server: ServerId, input: &SelectionInput<'_>, remaining: &Remaining<'_>) -> bool {
    let Some((level, candidate)) = remaining.find(server) else { return false };
    if input.note_id {
        return true;
    }
    if level.is_set_aside() {
        return false;
    }
    let Some(written_on) = input.written_on.filter(|written_on| *written_on != server) else { return true };
    match candidate.freshness.own_write {
        _ if remaining.find(written_on).is_some() => false,
        OwnWrite::Included | OwnWrite::Unknown => true,
        OwnWrite::Missing => !remaining
            .eligible
            .iter()
            .any(|(level, c)| c.freshness.own_write == OwnWrite::Included && !level.is_set_aside()),
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
    let of_own_site = |candidate: &&Candidate| !level::sets_site_aside(candidate, input);
    let mut unreachable: Candidates<'_> = remaining.unreachable.iter().copied().filter(of_own_site).collect();
    if unreachable.is_empty() {
        unreachable.clone_from(&remaining.unreachable);
    }
    if policy.try_unreachable
        && let Some(server) = pick_lightest(&unreachable, input, policy, decision)
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

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
pub use input::{Candidate, Hint, SelectionInput, SelectionPolicy, ServerId};

use crate::domain::directory::ReplicaStatus;

type Candidates = SmallVec<[Candidate; 8]>;
type Verdicts = SmallVec<[(ServerId, CandidateVerdict); 8]>;

/// The candidates after steps 1 to 5.
#[derive(Default)]
struct Remaining {
    usable: Candidates,
    /// Candidates that are BUSY or MAXUSERS.
    set_aside: Candidates,
    unreachable: Candidates,
    /// A candidate was eliminated only because it is at its in-flight limit.
    any_full: bool,
}

/// Applies the selection rules. The numbers of the steps are those of the documentation.
#[must_use]
pub fn decide(input: &SelectionInput<'_>, policy: &SelectionPolicy) -> Decision {
    let mut remaining = Remaining::default();
    let mut decision =
        Decision { outcome: SelectionOutcome::NoServer, verdicts: Verdicts::new(), band: SmallVec::new() };
    for candidate in input.candidates {
        let Some(verdict) = eliminate(candidate, input, policy) else {
            remaining.usable.push(*candidate);
            continue;
        };
        match verdict {
            CandidateVerdict::Busy | CandidateVerdict::MaxUsers => remaining.set_aside.push(*candidate),
            CandidateVerdict::Unreachable => remaining.unreachable.push(*candidate),
            CandidateVerdict::Full => remaining.any_full = true,
            _ => {}
        }
        decision.verdicts.push((candidate.server, verdict));
    }
    decision.outcome = choose(input, policy, &remaining, &mut decision);
    if let SelectionOutcome::Serve(server, _) = decision.outcome {
        complete_verdicts(server, &remaining.usable, &mut decision.verdicts);
    }
    decision
}

/// Steps 1 to 5 for one candidate: why it is eliminated or set aside; `None` if it is usable.
fn eliminate(
    candidate: &Candidate,
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
) -> Option<CandidateVerdict> {
    let snapshot = &candidate.snapshot;
    let inside = input.entry == Some(candidate.server);
    // A hint counts like an entry where the URL names no database of its own: a login form must be posted to the server
    // that showed it.
    let stays =
        inside || (input.entry.is_none() && input.hint.is_some_and(|(server, _)| server == candidate.server));
    // 1. Marks of the replica. Domino lets users inside finish.
    if !inside {
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
        if !stays || drained {
            return Some(CandidateVerdict::Restricted);
        }
    }
    let limit = policy.in_flight_limit(snapshot.max_connections);
    if limit > 0 && snapshot.in_flight >= limit {
        return Some(CandidateVerdict::Full);
    }
    // 5. BUSY and MAXUSERS are set aside, unless the user is already there.
    if !stays && snapshot.busy {
        return Some(CandidateVerdict::Busy);
    }
    if !stays && snapshot.max_users {
        return Some(CandidateVerdict::MaxUsers);
    }
    None
}

/// Steps 6 to 8: the outcome. Adds the verdicts of the ranking to `decision`.
fn choose(
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
    remaining: &Remaining,
    decision: &mut Decision,
) -> SelectionOutcome {
    let usable = |server: ServerId| remaining.usable.iter().any(|c| c.server == server);
    // 6. The user's server, a hint, the most recent server, a server with a session, else the lightest.
    if let Some(server) = input.entry {
        if usable(server) {
            return SelectionOutcome::Serve(server, SelectionReason::Entry);
        }
        if input.note_id {
            // A NoteID means another document in another replica: no answer is better than a wrong one.
            let is_full = decision.verdict(server) == Some(CandidateVerdict::Full);
            return if is_full { SelectionOutcome::Full } else { SelectionOutcome::NoteIdServerGone };
        }
    } else if let Some((server, hint)) = input.hint
        && usable(server)
    {
        return SelectionOutcome::Serve(server, SelectionReason::Hint(hint));
    }
    if let Some(server) = input.recent
        && usable(server)
    {
        return SelectionOutcome::Serve(server, SelectionReason::Recent);
    }
    if let Some(server) = input.sessions.iter().copied().find(|server| usable(*server)) {
        return SelectionOutcome::Serve(server, SelectionReason::Session);
    }
    if let Some(server) = pick_lightest(&remaining.usable, input, policy, decision) {
        return SelectionOutcome::Serve(server, SelectionReason::Lightest);
    }
    // 7. BUSY and MAXUSERS degrade, they never refuse.
    if let Some(server) = pick_lightest(&remaining.set_aside, input, policy, decision) {
        return SelectionOutcome::Serve(server, SelectionReason::SetAside);
    }
    // 8. No eligible server.
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
    candidates: &Candidates,
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
fn skip_slow_starters(
    candidates: &Candidates,
    input: &SelectionInput<'_>,
    policy: &SelectionPolicy,
    verdicts: &mut Verdicts,
    random: &mut fastrand::Rng,
) -> Candidates {
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

/// Adds the missing verdicts on usable candidates and moves the chosen one to the end.
fn complete_verdicts(chosen: ServerId, usable: &Candidates, verdicts: &mut Verdicts) {
    for candidate in usable {
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

//! The heart: which server takes a request, and why.
//!
//! In: a [`SelectionInput`], plain data of one moment. Out: a [`Decision`] with a verdict on every
//! candidate. One pure function serves traffic, `explain`, the simulator and the tests. It sees no
//! clock, socket, lock or log.
//!
//! The order is the ICM's own
//! (<https://help.hcl-software.com/domino/10.0.1/conf_failoverandworkloadbalancing_c.html>), with what a
//! proxy adds: servers already tried, and users who belong to a server.

pub mod decision;
pub mod input;
pub mod rank;

use smallvec::SmallVec;

pub use decision::{CandidateVerdict, Decision, SelectionOutcome, SelectionReason};
pub use input::{Candidate, Hint, SelectionInput, SelectionPolicy, ServerId};

use crate::domain::cluster::Port;
use crate::domain::directory::ReplicaStatus;

type Candidates = SmallVec<[Candidate; 8]>;

/// What is said beside the outcome.
struct SelectionTrace {
    verdicts: SmallVec<[(ServerId, CandidateVerdict); 8]>,
    band: SmallVec<[ServerId; 8]>,
}

/// Decides. The steps are numbered as in the selection rules of the documentation.
#[must_use]
pub fn decide(input: &SelectionInput<'_>, settings: &SelectionPolicy) -> Decision {
    let mut verdicts: SmallVec<[(ServerId, CandidateVerdict); 8]> = SmallVec::new();
    let mut usable = Candidates::new();
    let mut set_aside = Candidates::new();
    let mut unreachable = Candidates::new();
    let mut full = false;

    for candidate in input.candidates {
        match eliminate(candidate, input, settings) {
            Some(verdict @ (CandidateVerdict::Busy | CandidateVerdict::MaxUsers)) => {
                if is_full(candidate, settings) {
                    full = true;
                    verdicts.push((candidate.server, CandidateVerdict::Full));
                } else {
                    set_aside.push(*candidate);
                    verdicts.push((candidate.server, verdict));
                }
            }
            Some(verdict) => {
                full |= verdict == CandidateVerdict::Full;
                if verdict == CandidateVerdict::Unreachable {
                    unreachable.push(*candidate);
                }
                verdicts.push((candidate.server, verdict));
            }
            None => usable.push(*candidate),
        }
    }

    let mut trace = SelectionTrace { verdicts, band: SmallVec::new() };
    let outcome = choose(input, settings, &usable, &set_aside, &unreachable, full, &mut trace);
    let SelectionTrace { mut verdicts, band } = trace;
    if let SelectionOutcome::Serve(server, _) = outcome {
        complete_verdicts(server, &usable, &mut verdicts);
    }
    Decision { outcome, verdicts, band }
}

/// Steps 1 to 5 for one candidate: why it is out or set aside, or `None`.
fn eliminate(
    candidate: &Candidate,
    input: &SelectionInput<'_>,
    settings: &SelectionPolicy,
) -> Option<CandidateVerdict> {
    let snapshot = &candidate.snapshot;
    // The user's own entry opens doors; a hint does where the URL names no database of its own, so
    // that a login form is posted to the server that showed it.
    let inside = input.entry == Some(candidate.server);
    let stays =
        inside || (input.entry.is_none() && input.hint.is_some_and(|(server, _)| server == candidate.server));
    // 1. Marks: Domino lets those inside finish.
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
    // 3. The port of the needed kind does not answer.
    let reachable = match input.port {
        Port::Http => snapshot.http,
        Port::Https => snapshot.https,
    };
    if !reachable {
        return Some(CandidateVerdict::Unreachable);
    }
    // 4. RESTRICTED, an administrator's drain among it.
    if let Some(since) = snapshot.restricted_since_ms {
        let drained = input.now_ms.saturating_sub(since) >= settings.drain_timeout_ms;
        if !stays || drained {
            return Some(CandidateVerdict::Restricted);
        }
    }
    // 5. BUSY and MAXUSERS are set aside, unless the user is there already.
    if !stays && snapshot.busy {
        return Some(CandidateVerdict::Busy);
    }
    if !stays && snapshot.max_users {
        return Some(CandidateVerdict::MaxUsers);
    }
    if is_full(candidate, settings) {
        return Some(CandidateVerdict::Full);
    }
    None
}

fn is_full(candidate: &Candidate, settings: &SelectionPolicy) -> bool {
    let cap = settings.in_flight_limit(candidate.snapshot.max_connections);
    cap > 0 && candidate.snapshot.in_flight >= cap
}

/// Steps 6 to 8.
fn choose(
    input: &SelectionInput<'_>,
    settings: &SelectionPolicy,
    usable: &Candidates,
    set_aside: &Candidates,
    unreachable: &Candidates,
    full: bool,
    trace: &mut SelectionTrace,
) -> SelectionOutcome {
    let has = |server: ServerId| usable.iter().any(|c| c.server == server);
    // 6. The user's server, a hint, the most recent server, else the lightest.
    if let Some(server) = input.entry {
        if has(server) {
            return SelectionOutcome::Serve(server, SelectionReason::Entry);
        }
        if input.note_id {
            // A NoteID means another document in another replica: better no answer than a wrong one.
            let is_full = trace.verdicts.iter().any(|(m, v)| *m == server && *v == CandidateVerdict::Full);
            return if is_full { SelectionOutcome::Full } else { SelectionOutcome::NoteIdServerGone };
        }
    } else if let Some((server, hint)) = input.hint
        && has(server)
    {
        return SelectionOutcome::Serve(server, SelectionReason::Hint(hint));
    }
    if let Some(server) = input.recent
        && has(server)
    {
        return SelectionOutcome::Serve(server, SelectionReason::Recent);
    }
    if let Some(server) = input.sessions.iter().copied().find(|server| has(*server)) {
        return SelectionOutcome::Serve(server, SelectionReason::Session);
    }
    if let Some(server) = pick_lightest(usable, input, settings, trace) {
        return SelectionOutcome::Serve(server, SelectionReason::Lightest);
    }
    // 7. BUSY and MAXUSERS degrade, they never refuse.
    if let Some(server) = pick_lightest(set_aside, input, settings, trace) {
        return SelectionOutcome::Serve(server, SelectionReason::SetAside);
    }
    // 8. Nobody.
    if full {
        return SelectionOutcome::Full;
    }
    if settings.try_unreachable
        && let Some(server) = pick_lightest(unreachable, input, settings, trace)
    {
        return SelectionOutcome::Serve(server, SelectionReason::LastResort);
    }
    let marked =
        |v: &CandidateVerdict| matches!(v, CandidateVerdict::OutOfService | CandidateVerdict::PendingDelete);
    if !trace.verdicts.is_empty() && trace.verdicts.iter().all(|(_, v)| marked(v)) {
        return SelectionOutcome::OutOfService;
    }
    SelectionOutcome::NoServer
}

/// The lightest workload of those left; writes the verdicts on the others.
fn pick_lightest(
    left: &Candidates,
    input: &SelectionInput<'_>,
    settings: &SelectionPolicy,
    trace: &mut SelectionTrace,
) -> Option<ServerId> {
    let only = match left.as_slice() {
        [] => return None,
        [only] => Some(only.server),
        _ => None,
    };
    let SelectionTrace { verdicts, band: equal } = trace;
    let mut set = |server: ServerId, verdict: CandidateVerdict| {
        if let Some(slot) = verdicts.iter_mut().find(|(m, _)| *m == server) {
            // Set aside and yet compared: the ranking is the later word, except for the losers,
            // of whom the administrator wants to know that they were set aside.
            if matches!(verdict, CandidateVerdict::Chosen(_)) {
                slot.1 = verdict;
            }
        } else {
            verdicts.push((server, verdict));
        }
    };
    if let Some(server) = only {
        set(server, CandidateVerdict::Chosen(None));
        equal.push(server);
        return Some(server);
    }
    let mut random = fastrand::Rng::with_seed(input.seed);
    // A server that returned lately is passed over in proportion to its ramp, whatever its index
    // says: an idle one shows 100 and would draw everybody at once.
    let mut passed: SmallVec<[bool; 8]> = SmallVec::new();
    for candidate in left {
        let share = rank::slow_start_share(candidate, settings, input.now_ms);
        passed.push(share < 1.0 && random.f32() >= share);
    }
    let all_passed = passed.iter().all(|p| *p);
    let mut in_draw = Candidates::new();
    for (candidate, passed) in left.iter().zip(&passed) {
        if *passed && !all_passed {
            let percent = (rank::slow_start_share(candidate, settings, input.now_ms) * 100.0) as u8;
            set(candidate.server, CandidateVerdict::SlowStart(percent));
        } else {
            in_draw.push(*candidate);
        }
    }
    let indexes = rank::corrected_indexes(&in_draw, settings);
    let band = rank::equal_band(&in_draw, &indexes);
    let winner = rank::draw_winner(&in_draw, &band, settings, input.now_ms, &mut random)?;
    equal.extend(band.iter().filter_map(|position| in_draw.get(*position)).map(|c| c.server));
    for (position, (candidate, index)) in in_draw.iter().zip(&indexes).enumerate() {
        let verdict = if position == winner {
            CandidateVerdict::Chosen(Some(*index))
        } else if band.contains(&position) {
            CandidateVerdict::Equal(*index)
        } else {
            CandidateVerdict::Heavier(*index)
        };
        set(candidate.server, verdict);
    }
    in_draw.get(winner).map(|c| c.server)
}

/// Gives everybody who is usable a verdict and puts the chosen one last.
fn complete_verdicts(
    chosen: ServerId,
    usable: &Candidates,
    verdicts: &mut SmallVec<[(ServerId, CandidateVerdict); 8]>,
) {
    for candidate in usable {
        if candidate.server != chosen && !verdicts.iter().any(|(m, _)| *m == candidate.server) {
            verdicts.push((candidate.server, CandidateVerdict::NotAffinityServer));
        }
    }
    match verdicts.iter().position(|(m, _)| *m == chosen) {
        Some(position) => {
            let verdict = verdicts.remove(position);
            verdicts.push(match verdict {
                (server, CandidateVerdict::Chosen(index)) => (server, CandidateVerdict::Chosen(index)),
                (server, _) => (server, CandidateVerdict::Chosen(None)),
            });
        }
        None => verdicts.push((chosen, CandidateVerdict::Chosen(None))),
    }
}

#[cfg(test)]
mod tests;

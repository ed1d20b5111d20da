//! The heart: which server takes a request, and why.
//!
//! In: a [`Question`], plain data of one moment. Out: a [`Decision`] with a verdict on every
//! candidate. One pure function serves traffic, `explain`, the simulator and the tests. It sees no
//! clock, socket, lock or log.
//!
//! The order is the ICM's own
//! (<https://help.hcl-software.com/domino/10.0.1/conf_failoverandworkloadbalancing_c.html>), with what a
//! proxy adds: servers already tried, and users who belong to a server.

pub mod decision;
pub mod question;
pub mod rank;

use smallvec::SmallVec;

pub use decision::{Decision, Outcome, Verdict, Why};
pub use question::{Candidate, Hint, Question, ServerId, Settings};

use crate::domain::cluster::Port;
use crate::domain::directory::Mark;

type Kept = SmallVec<[Candidate; 8]>;

/// What is said beside the outcome.
struct Told {
    verdicts: SmallVec<[(ServerId, Verdict); 8]>,
    band: SmallVec<[ServerId; 8]>,
}

/// Decides. The steps are numbered as in the selection rules of the documentation.
#[must_use]
pub fn decide(question: &Question<'_>, settings: &Settings) -> Decision {
    let mut verdicts: SmallVec<[(ServerId, Verdict); 8]> = SmallVec::new();
    let mut usable = Kept::new();
    let mut aside = Kept::new();
    let mut unreachable = Kept::new();
    let mut full = false;

    for candidate in question.candidates {
        match eliminate(candidate, question, settings) {
            Some(verdict @ (Verdict::Busy | Verdict::MaxUsers)) => {
                if is_full(candidate, settings) {
                    full = true;
                    verdicts.push((candidate.member, Verdict::Full));
                } else {
                    aside.push(*candidate);
                    verdicts.push((candidate.member, verdict));
                }
            }
            Some(verdict) => {
                full |= verdict == Verdict::Full;
                if verdict == Verdict::Unreachable {
                    unreachable.push(*candidate);
                }
                verdicts.push((candidate.member, verdict));
            }
            None => usable.push(*candidate),
        }
    }

    let mut told = Told { verdicts, band: SmallVec::new() };
    let outcome = choose(question, settings, &usable, &aside, &unreachable, full, &mut told);
    let Told { mut verdicts, band } = told;
    if let Outcome::Serve(member, _) = outcome {
        settle(member, &usable, &mut verdicts);
    }
    Decision { outcome, verdicts, band }
}

/// Steps 1 to 5 for one candidate: why it is out or set aside, or `None`.
fn eliminate(candidate: &Candidate, question: &Question<'_>, settings: &Settings) -> Option<Verdict> {
    let view = &candidate.view;
    // The user's own entry opens doors; a hint does where the URL names no database of its own, so
    // that a login form is posted to the server that showed it.
    let inside = question.entry == Some(candidate.member);
    let stays = inside
        || (question.entry.is_none() && question.hint.is_some_and(|(member, _)| member == candidate.member));
    // 1. Marks: Domino lets those inside finish.
    if !inside {
        match candidate.mark {
            Mark::OutOfService => return Some(Verdict::OutOfService),
            Mark::PendingDelete => return Some(Verdict::PendingDelete),
            Mark::InService => {}
        }
    }
    // 2. Already tried.
    if question.tried.contains(&candidate.member) {
        return Some(Verdict::Tried);
    }
    // 3. The port of the needed kind does not answer.
    let reachable = match question.port {
        Port::Http => view.http,
        Port::Https => view.https,
    };
    if !reachable {
        return Some(Verdict::Unreachable);
    }
    // 4. RESTRICTED, an administrator's drain among it.
    if let Some(since) = view.restricted_since_ms {
        let drained = question.now_ms.saturating_sub(since) >= settings.drain_timeout_ms;
        if !stays || drained {
            return Some(Verdict::Restricted);
        }
    }
    // 5. BUSY and MAXUSERS are set aside, unless the user is there already.
    if !stays && view.busy {
        return Some(Verdict::Busy);
    }
    if !stays && view.max_users {
        return Some(Verdict::MaxUsers);
    }
    if is_full(candidate, settings) {
        return Some(Verdict::Full);
    }
    None
}

fn is_full(candidate: &Candidate, settings: &Settings) -> bool {
    let cap = settings.cap(candidate.view.max_connections);
    cap > 0 && candidate.view.in_flight >= cap
}

/// Steps 6 to 8.
fn choose(
    question: &Question<'_>,
    settings: &Settings,
    usable: &Kept,
    aside: &Kept,
    unreachable: &Kept,
    full: bool,
    told: &mut Told,
) -> Outcome {
    let has = |member: ServerId| usable.iter().any(|c| c.member == member);
    // 6. The user's server, a hint, the most recent server, else the lightest.
    if let Some(member) = question.entry {
        if has(member) {
            return Outcome::Serve(member, Why::Entry);
        }
        if question.note_id {
            // A NoteID means another document in another replica: better no answer than a wrong one.
            let is_full = told.verdicts.iter().any(|(m, v)| *m == member && *v == Verdict::Full);
            return if is_full { Outcome::Full } else { Outcome::NoteIdServerGone };
        }
    } else if let Some((member, hint)) = question.hint
        && has(member)
    {
        return Outcome::Serve(member, Why::Hint(hint));
    }
    if let Some(member) = question.recent
        && has(member)
    {
        return Outcome::Serve(member, Why::Recent);
    }
    if let Some(member) = question.sessions.iter().copied().find(|member| has(*member)) {
        return Outcome::Serve(member, Why::Session);
    }
    if let Some(member) = lightest(usable, question, settings, told) {
        return Outcome::Serve(member, Why::Lightest);
    }
    // 7. BUSY and MAXUSERS degrade, they never refuse.
    if let Some(member) = lightest(aside, question, settings, told) {
        return Outcome::Serve(member, Why::SetAside);
    }
    // 8. Nobody.
    if full {
        return Outcome::Full;
    }
    if settings.try_unreachable
        && let Some(member) = lightest(unreachable, question, settings, told)
    {
        return Outcome::Serve(member, Why::LastResort);
    }
    let marked = |v: &Verdict| matches!(v, Verdict::OutOfService | Verdict::PendingDelete);
    if !told.verdicts.is_empty() && told.verdicts.iter().all(|(_, v)| marked(v)) {
        return Outcome::OutOfService;
    }
    Outcome::NoServer
}

/// The lightest workload of those left; writes the verdicts on the others.
fn lightest(left: &Kept, question: &Question<'_>, settings: &Settings, told: &mut Told) -> Option<ServerId> {
    let only = match left.as_slice() {
        [] => return None,
        [only] => Some(only.member),
        _ => None,
    };
    let Told { verdicts, band: equal } = told;
    let mut set = |member: ServerId, verdict: Verdict| {
        if let Some(slot) = verdicts.iter_mut().find(|(m, _)| *m == member) {
            // Set aside and yet compared: the ranking is the later word, except for the losers,
            // of whom the administrator wants to know that they were set aside.
            if matches!(verdict, Verdict::Chosen(_)) {
                slot.1 = verdict;
            }
        } else {
            verdicts.push((member, verdict));
        }
    };
    if let Some(member) = only {
        set(member, Verdict::Chosen(None));
        equal.push(member);
        return Some(member);
    }
    let mut random = fastrand::Rng::with_seed(question.seed);
    // A server that returned lately is passed over in proportion to its ramp, whatever its index
    // says: an idle one shows 100 and would draw everybody at once.
    let mut passed: SmallVec<[bool; 8]> = SmallVec::new();
    for candidate in left {
        let ramp = rank::ramp(candidate, settings, question.now_ms);
        passed.push(ramp < 1.0 && random.f32() >= ramp);
    }
    let all_passed = passed.iter().all(|p| *p);
    let mut in_draw = Kept::new();
    for (candidate, passed) in left.iter().zip(&passed) {
        if *passed && !all_passed {
            let percent = (rank::ramp(candidate, settings, question.now_ms) * 100.0) as u8;
            set(candidate.member, Verdict::SlowStart(percent));
        } else {
            in_draw.push(*candidate);
        }
    }
    let indexes = rank::corrected(&in_draw, settings);
    let band = rank::band(&in_draw, &indexes);
    let winner = rank::draw(&in_draw, &band, settings, question.now_ms, &mut random)?;
    equal.extend(band.iter().filter_map(|position| in_draw.get(*position)).map(|c| c.member));
    for (position, (candidate, index)) in in_draw.iter().zip(&indexes).enumerate() {
        let verdict = if position == winner {
            Verdict::Chosen(Some(*index))
        } else if band.contains(&position) {
            Verdict::Equal(*index)
        } else {
            Verdict::Heavier(*index)
        };
        set(candidate.member, verdict);
    }
    in_draw.get(winner).map(|c| c.member)
}

/// Gives everybody who is usable a verdict and puts the chosen one last.
fn settle(chosen: ServerId, usable: &Kept, verdicts: &mut SmallVec<[(ServerId, Verdict); 8]>) {
    for candidate in usable {
        if candidate.member != chosen && !verdicts.iter().any(|(m, _)| *m == candidate.member) {
            verdicts.push((candidate.member, Verdict::NotTheUsers));
        }
    }
    match verdicts.iter().position(|(m, _)| *m == chosen) {
        Some(position) => {
            let verdict = verdicts.remove(position);
            verdicts.push(match verdict {
                (member, Verdict::Chosen(index)) => (member, Verdict::Chosen(index)),
                (member, _) => (member, Verdict::Chosen(None)),
            });
        }
        None => verdicts.push((chosen, Verdict::Chosen(None))),
    }
}

#[cfg(test)]
mod tests;

//! May this request be tried again, and on which server.
//!
//! In: the request's state and what just failed. Out: yes with the next server chosen, or no. A
//! request that may have been executed is never sent a second time unless its method, its Domino
//! command and its body all allow it.

use std::sync::atomic::Ordering::Relaxed;

use pingora_proxy::Session;
use smallvec::SmallVec;

use super::attempt::AttemptFailure;
use super::ctx::Ctx;
use super::routed::Routed;
use crate::clock;
use crate::config::settings::UnknownCommands;
use crate::directory::Mark;
use crate::select::{self, Candidate, Decision, MemberIx, Outcome, Question};
use crate::url::Class;

/// Asks selection about this request as things are now.
#[must_use]
pub fn decide(routed: &Routed, tried: &[MemberIx]) -> Decision {
    let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
    // What belongs to a page of another database, a login form above all, is of use only to a server that holds
    // it: should the user's own be gone, then to another one that does.
    if let Some(hinted) = &routed.affinity.hinted_database {
        routed.view.candidates(Some(hinted), &mut candidates);
        for candidate in &mut candidates {
            candidate.mark = Mark::InService;
        }
        let decision = ask(routed, &candidates, tried);
        if matches!(decision.outcome, Outcome::Serve(..)) {
            return decision;
        }
    }
    routed.view.candidates(routed.database.found.as_ref(), &mut candidates);
    ask(routed, &candidates, tried)
}

fn ask(routed: &Routed, candidates: &[Candidate], tried: &[MemberIx]) -> Decision {
    let question = Question {
        candidates,
        port: routed.port,
        entry: routed.affinity.entry,
        hint: routed.affinity.hint,
        recent: routed.affinity.recent,
        sessions: &routed.affinity.sessions,
        note_id: routed.database.note_id,
        tried,
        now_ms: clock::now_ms(),
        seed: fastrand::u64(..),
    };
    select::decide(&question, &routed.cluster.rules)
}

/// The method, the command and the body allow a second execution.
#[must_use]
pub fn is_replayable(session: &mut Session, routed: &Routed) -> bool {
    let failover = &routed.cluster.settings.failover;
    let commands_allow = match routed.class {
        Class::Safe => true,
        Class::Unknown => failover.unknown_commands == UnknownCommands::Replay,
        Class::Acting => false,
    };
    commands_allow
        && failover.retry_methods.contains(&session.req_header().method)
        && session.as_mut().is_body_done()
        && !session.as_ref().retry_buffer_truncated()
}

/// A connection could not be made: nothing was sent, so any request goes on to the next candidate.
pub fn after_connect_failure(ctx: &mut Ctx) -> bool {
    let Some(member) = ctx.end_attempt() else { return false };
    ctx.failover.tried.push(member);
    ctx.failover.failures.push((member, AttemptFailure::Connect));
    let again = choose_next(ctx);
    if again {
        count(ctx, AttemptFailure::Connect);
    }
    again
}

/// After so many pooled connections that were unfit for a request, it gets a new one.
const MAX_UNFIT_CONNECTIONS: u32 = 3;

/// The pooled connection is unfit, and nothing was sent: the same server is asked on another one. The attempt is over,
/// and counts as none.
pub fn take_another_connection(ctx: &mut Ctx) {
    let Some((member, why)) = ctx.attempt.as_ref().map(|attempt| (attempt.member, attempt.why)) else {
        return;
    };
    ctx.end_attempt();
    ctx.failover.attempts = ctx.failover.attempts.saturating_sub(1);
    ctx.failover.unfit_connections += 1;
    if ctx.failover.unfit_connections >= MAX_UNFIT_CONNECTIONS {
        ctx.failover.retry_on_new_connection = Some(member);
    }
    ctx.failover.next = Some((member, why));
}

/// The request was sent, and no final answer came of it, or one that tries the next. The attempt is
/// over if the answer is yes.
pub fn after_failure(session: &mut Session, ctx: &mut Ctx, failure: AttemptFailure) -> bool {
    let Some(attempt) = &ctx.attempt else { return false };
    let (member, reused) = (attempt.member, attempt.reused);
    let Some(routed) = &ctx.routed else { return false };
    let failover = &routed.cluster.settings.failover;
    // A connection that has grown old in the pool says nothing about the server: it may be asked
    // again, on another connection, once.
    let stale_connection = reused
        && failure == AttemptFailure::Broken
        && !ctx.failover.failures.iter().any(|(m, _)| *m == member);
    let allowed = failure != AttemptFailure::Malformed
        && is_replayable(session, routed)
        && ctx.failover.attempts < failover.attempts
        && ctx.started.elapsed() < failover.deadline
        && (failure != AttemptFailure::Timeout
            || (failover.retry_after_timeout && !ctx.failover.timeout_retried));
    if !allowed {
        return false;
    }
    if stale_connection {
        ctx.failover.retry_on_new_connection = Some(member);
    } else {
        ctx.failover.tried.push(member);
    }
    let outcome = ctx.outcome;
    // The budget is asked last: it counts what it grants.
    let found = has_next(ctx) && {
        ctx.routed.as_ref().is_some_and(|r| {
            let share = r.cluster.settings.failover.retry_budget;
            r.cluster.kept.budget.replay(share, clock::now_ms())
        })
    };
    if !found {
        if !stale_connection {
            ctx.failover.tried.pop();
        }
        ctx.failover.next = None;
        // The server's own answer passes: the request was served after all.
        if matches!(failure, AttemptFailure::Status(_) | AttemptFailure::NotFound) {
            ctx.outcome = outcome;
        }
        return false;
    }
    ctx.failover.failures.push((member, failure));
    ctx.failover.timeout_retried |= failure == AttemptFailure::Timeout;
    count(ctx, failure);
    if let Some(attempt) = &ctx.attempt {
        attempt.in_flight.member().counters.failed_over.fetch_add(1, Relaxed);
    }
    ctx.end_attempt();
    true
}

/// Another server is asked.
fn count(ctx: &Ctx, failure: AttemptFailure) {
    if let Some(progress) = &ctx.in_progress {
        progress.statistics().here().failovers.fetch_add(1, Relaxed);
    }
    if let Some(routed) = &ctx.routed {
        routed.cluster.kept.traffic.failover(failure.word());
    }
}

fn choose_next(ctx: &mut Ctx) -> bool {
    let deadline_passed =
        ctx.routed.as_ref().is_none_or(|r| ctx.started.elapsed() >= r.cluster.settings.failover.deadline);
    !deadline_passed && has_next(ctx)
}

/// Chooses the next server and remembers it, so that what was promised here is what is tried.
fn has_next(ctx: &mut Ctx) -> bool {
    let Some(routed) = &ctx.routed else { return false };
    let decision = decide(routed, &ctx.failover.tried);
    match decision.outcome {
        Outcome::Serve(member, why) => {
            ctx.failover.next = Some((member, why));
            true
        }
        // Waits for a place in the next attempt.
        Outcome::Full => true,
        outcome => {
            ctx.outcome = Some(outcome);
            false
        }
    }
}

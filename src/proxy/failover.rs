//! Whether a request may be sent again, and to which server. A request that may have been executed is sent again only
//! if its method, its Domino command and its body allow it.

use std::sync::atomic::Ordering::Relaxed;

use pingora_proxy::Session;
use smallvec::SmallVec;

use super::attempt::{AttemptFailure, FailedAttempt};
use super::ctx::Ctx;
use super::routed::{LastWrite, Routed};
use super::{own_write, user_affinity};
use crate::config::settings::UnknownCommands;
use crate::domain::directory::ReplicaStatus;
use crate::domain::rehearsal;
use crate::domain::select::{self, Candidate, Decision, SelectionInput, SelectionOutcome, ServerId};
use crate::domain::url::RequestSafety;
use crate::util::clock;

/// Runs selection for this request with the current state of the servers.
#[must_use]
pub fn decide(routed: &Routed, tried: &[ServerId]) -> Decision {
    decide_at(routed, tried, clock::now_ms())
}

/// As [`decide`], for a caller that has just read the clock.
pub(super) fn decide_at(routed: &Routed, tried: &[ServerId], now_ms: u64) -> Decision {
    decide_among(routed, tried, now_ms, ask)
}

fn decide_among(
    routed: &Routed,
    tried: &[ServerId],
    now_ms: u64,
    ask: impl Fn(&Routed, &[Candidate], &[ServerId], u64) -> Decision,
) -> Decision {
    let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
    // A request that belongs to a page of another database, such as a login form, needs a server with that database.
    if let Some(hinted) = &routed.affinity.hinted_database {
        routed.view.candidates(Some(hinted), &mut candidates);
        keep_servers_of_route(routed, &mut candidates);
        for candidate in &mut candidates {
            candidate.status = ReplicaStatus::InService;
        }
        let decision = ask(routed, &candidates, tried, now_ms);
        if matches!(decision.outcome, SelectionOutcome::Serve(..)) {
            return decision;
        }
    }
    routed.view.candidates(routed.database.found.as_ref(), &mut candidates);
    keep_servers_of_route(routed, &mut candidates);
    own_write::compare(routed, &mut candidates);
    ask(routed, &candidates, tried, now_ms)
}

fn keep_servers_of_route(routed: &Routed, candidates: &mut SmallVec<[Candidate; 8]>) {
    if routed.route.as_ref().is_some_and(|route| !route.servers.is_empty()) {
        candidates.retain(|candidate| routed.allows(candidate.server));
    }
}

/// As [`decide`], as if no rehearsal were under way.
pub(super) fn decide_without_rehearsal(routed: &Routed, tried: &[ServerId]) -> Decision {
    decide_among(routed, tried, clock::now_ms(), ask_all)
}

fn ask(routed: &Routed, candidates: &[Candidate], tried: &[ServerId], now_ms: u64) -> Decision {
    if let Some(server) = routed.rehearsed_server()
        && candidates.iter().any(|candidate| candidate.server == server)
    {
        let without = rehearsal::with_unreachable(candidates, server);
        let decision = ask_all(routed, &without, tried, now_ms);
        if rehearsal::is_taken_over(decision.outcome, server) {
            return decision;
        }
    }
    ask_all(routed, candidates, tried, now_ms)
}

fn ask_all(routed: &Routed, candidates: &[Candidate], tried: &[ServerId], now_ms: u64) -> Decision {
    let decide = |last_write: Option<&LastWrite>| {
        let input = input(routed, candidates, tried, last_write, now_ms);
        select::decide(&input, &routed.cluster.selection_policy)
    };
    let affinity = &routed.affinity;
    let last_write = affinity.last_write.as_ref();
    if let Some(entry) = affinity.entry
        && last_write.is_some_and(|write| !write.may_move && write.server != entry)
    {
        // The user's own write moves nobody who posts a form. It counts if the server of the form cannot take it.
        let decision = decide(None);
        let stays = decision.chosen().is_none_or(|server| server == entry);
        return if stays { decision } else { decide(last_write) };
    }
    decide(last_write)
}

fn input<'a>(
    routed: &'a Routed,
    candidates: &'a [Candidate],
    tried: &'a [ServerId],
    last_write: Option<&LastWrite>,
    now_ms: u64,
) -> SelectionInput<'a> {
    SelectionInput {
        candidates,
        port: routed.port,
        entry: routed.affinity.entry,
        hint: routed.affinity.hint,
        recent: routed.affinity.recent,
        sessions: &routed.affinity.sessions,
        written_on: last_write.map(|write| write.server),
        posts_login_form: user_affinity::posts_recent_login_form(routed),
        note_id: routed.database.note_id,
        tried,
        now_ms,
        seed: fastrand::u64(..),
    }
}

/// Whether the method, the command and the body allow a second execution.
pub(super) fn is_replayable(session: &mut Session, routed: &Routed) -> bool {
    let failover = &routed.cluster.settings.failover;
    let commands_allow = match routed.class {
        RequestSafety::Safe => true,
        RequestSafety::Unknown => failover.unknown_commands == UnknownCommands::Replay,
        RequestSafety::Unsafe => false,
    };
    commands_allow
        && failover.retry_methods.contains(&session.req_header().method)
        && session.as_mut().is_body_done()
        && !session.as_ref().retry_buffer_truncated()
}

/// After a failed connect: nothing was sent, so any request may go to the next server.
pub(super) fn after_connect_failure(ctx: &mut Ctx) -> bool {
    let Some(failed) = ctx.attempt.as_ref().map(|attempt| attempt.failed(AttemptFailure::Connect)) else {
        return false;
    };
    ctx.end_attempt();
    ctx.failover.tried.push(failed.server);
    ctx.failover.failures.push(failed);
    let again = choose_next(ctx);
    if again {
        count_failover(ctx, failed);
    }
    again
}

/// A request opens a new connection after this many pooled ones that it could not use.
const MAX_UNFIT_CONNECTIONS: u32 = 3;

/// After a pooled connection that cannot be used: nothing was sent, so the same server gets the request on another
/// connection, and the attempt does not count.
pub(super) fn take_another_connection(ctx: &mut Ctx) {
    let Some((server, why)) = ctx.attempt.as_ref().map(|attempt| (attempt.server, attempt.why)) else {
        return;
    };
    ctx.end_attempt();
    ctx.failover.attempts = ctx.failover.attempts.saturating_sub(1);
    ctx.failover.unfit_connections += 1;
    if ctx.failover.unfit_connections >= MAX_UNFIT_CONNECTIONS {
        ctx.failover.retry_on_new_connection = Some(server);
    }
    ctx.failover.next = Some((server, why));
}

/// After the request was sent without success. True if another attempt follows; then this one has ended.
pub(super) fn after_failure(session: &mut Session, ctx: &mut Ctx, failure: AttemptFailure) -> bool {
    let Some(attempt) = &ctx.attempt else { return false };
    let (server, reused) = (attempt.server, attempt.reused);
    let Some(routed) = &ctx.routed else { return false };
    let failover = &routed.cluster.settings.failover;
    // A pooled connection may break because it is old, so the server gets the request once more on a new one.
    let stale_connection = reused
        && failure == AttemptFailure::Broken
        && !ctx.failover.failures.iter().any(|failed| failed.server == server);
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
        ctx.failover.retry_on_new_connection = Some(server);
    } else {
        ctx.failover.tried.push(server);
    }
    let outcome = ctx.outcome;
    // The retry budget comes last, because it counts what it grants.
    let found = has_next(ctx)
        && ctx.routed.as_ref().is_some_and(|r| {
            let share = r.cluster.settings.failover.retry_budget;
            r.cluster.persistent_state.retry_budget.try_acquire(share, clock::now_ms())
        });
    if !found {
        if !stale_connection {
            ctx.failover.tried.pop();
        }
        ctx.failover.next = None;
        // The server's response is passed on, so it counts as served.
        if matches!(failure, AttemptFailure::Status(_) | AttemptFailure::NotFound) {
            ctx.outcome = outcome;
        }
        return false;
    }
    ctx.failover.timeout_retried |= failure == AttemptFailure::Timeout;
    if let Some(failed) = ctx.attempt.as_ref().map(|attempt| attempt.failed(failure)) {
        ctx.failover.failures.push(failed);
        count_failover(ctx, failed);
    }
    ctx.end_attempt();
    true
}

fn count_failover(ctx: &Ctx, failed: FailedAttempt) {
    if let Some(progress) = &ctx.in_progress {
        progress.statistics().this_thread().failovers.fetch_add(1, Relaxed);
    }
    if let Some(routed) = &ctx.routed {
        routed.cluster.persistent_state.traffic.record_failover(failed.failure.as_str());
        if let Some(entry) = routed.view.server(failed.server) {
            entry.server.counters.failed_over.fetch_add(1, Relaxed);
        }
    }
}

fn choose_next(ctx: &mut Ctx) -> bool {
    let deadline_passed =
        ctx.routed.as_ref().is_none_or(|r| ctx.started.elapsed() >= r.cluster.settings.failover.deadline);
    !deadline_passed && has_next(ctx)
}

/// Chooses the server of the next attempt and keeps it, so that a second decision cannot differ.
fn has_next(ctx: &mut Ctx) -> bool {
    let Some(routed) = &ctx.routed else { return false };
    let decision = decide(routed, &ctx.failover.tried);
    match decision.outcome {
        SelectionOutcome::Serve(server, why) => {
            ctx.failover.next = Some((server, why));
            true
        }
        // The next attempt waits until a server is below its limit.
        SelectionOutcome::Full => true,
        outcome => {
            ctx.outcome = Some(outcome);
            false
        }
    }
}

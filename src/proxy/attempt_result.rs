//! The result of an attempt: what a response or an error says about the server, and whether the request may go to
//! another one. It never chooses that server.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use http::Method;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::attempt::AttemptFailure;
use super::ctx::Ctx;
use super::error_mapping;
use super::response_validation::MalformedResponse;
use super::routed::Routed;
use crate::domain::cluster::ClusterServer;
use crate::pages::Problem;
use crate::util::clock;

/// At most one line about a malformed response in this time: clients choose how often they ask for such a page.
const MALFORMED_LOG_INTERVAL_MS: u64 = 1_000;
/// At most one extra reading of the directory in this time.
const EXTRA_READING_INTERVAL_MS: u64 = 30_000;

/// Notes that the final head of the response came at this moment. Gives the failure that makes the request try another
/// server, if its status means one.
pub(super) fn note_response(
    session: &Session,
    ctx: &mut Ctx,
    status: u16,
    at: Instant,
) -> Option<AttemptFailure> {
    let now_ms = clock::instant_ms(at);
    if let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed) {
        attempt.answered = true;
        let member = attempt.in_flight.server();
        member.passive_success(routed.port);
        let time = at.saturating_duration_since(attempt.started);
        routed.cluster.persistent_state.traffic.record_response(routed.request_class, time);
        member.observe(routed.request_class, u64::try_from(time.as_micros()).unwrap_or(u64::MAX), now_ms);
    }
    let failure = retryable_failure(session, ctx, status, now_ms);
    ctx.failover.last_failure = failure;
    if let Some(attempt) = &ctx.attempt {
        attempt.in_flight.server().attempt_ended(matches!(failure, Some(AttemptFailure::Status(_))));
    }
    failure
}

/// The failure that makes the request try another server, if the status means one.
fn retryable_failure(session: &Session, ctx: &mut Ctx, status: u16, now_ms: u64) -> Option<AttemptFailure> {
    let routed = ctx.routed.as_ref()?;
    let attempt = ctx.attempt.as_ref()?;
    if let (Some(found), Some(holder)) = (&routed.database.found, attempt.holder) {
        let directory = &routed.view.directory;
        if status != 404 {
            directory.record_answer(found.database, holder);
        } else if ctx.failover.not_found_retried {
            // Two servers say so: the database is gone until the next reading of the directory.
            directory.record_genuine_404(found.database);
        } else if matches!(session.req_header().method, Method::GET | Method::HEAD)
            && directory.is_404_suspect(found.database, holder)
        {
            ask_for_reading(routed, now_ms);
            ctx.failover.not_found_retried = true;
            return Some(AttemptFailure::NotFound);
        }
    }
    routed
        .cluster
        .settings
        .failover
        .retry_statuses
        .contains(&status)
        .then_some(AttemptFailure::Status(status))
}

/// The failure that an error before the response means; `None` where the client caused it, or the proxy. It makes a
/// server suspect, not UNREACHABLE: a bad page or a slow agent breaks a request, too, so only a probe decides.
pub(super) fn note_error(e: &Error, ctx: &Ctx) -> Option<AttemptFailure> {
    let routed = ctx.routed.as_ref()?;
    let attempt = ctx.attempt.as_ref()?;
    let overdue = attempt.is_overdue();
    if *e.esource() != ErrorSource::Upstream && !overdue {
        return None;
    }
    let member = attempt.in_flight.server();
    if !attempt.answered && !overdue && *e.etype() == ErrorType::InvalidHTTPHeader {
        member.passive_success(routed.port);
        member.attempt_ended(false);
        note_malformed(member, e);
        return Some(AttemptFailure::Malformed);
    }
    member.attempt_ended(true);
    member.suspect(routed.port);
    if overdue || error_mapping::is_timeout(e) {
        member.counters.timeouts.fetch_add(1, Relaxed);
        Some(AttemptFailure::Timeout)
    } else {
        member.counters.broken.fetch_add(1, Relaxed);
        Some(AttemptFailure::Broken)
    }
}

/// Notes that the head of the response cannot be forwarded: the client gets 502.
pub(super) fn malformed(ctx: &mut Ctx, cause: MalformedResponse) {
    if let Some(attempt) = &ctx.attempt {
        note_malformed(attempt.in_flight.server(), &cause);
    }
    ctx.failover.last_failure = Some(AttemptFailure::Malformed);
    ctx.problem = Some(Problem::MalformedResponse);
}

/// Counts a response that is not valid HTTP, and logs the cause.
fn note_malformed(member: &ClusterServer, cause: &dyn std::fmt::Display) {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    member.counters.malformed.fetch_add(1, Relaxed);
    let (now, last) = (clock::now_ms(), LAST_MS.load(Relaxed));
    if (last == 0 || now.saturating_sub(last) >= MALFORMED_LOG_INTERVAL_MS)
        && LAST_MS.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    {
        log::warn!(target: "icm::proxy", "{}: malformed response: {cause}; the client gets 502", member.name());
    }
}

/// Has the directory read again after a 404 from a server that holds the database according to it.
fn ask_for_reading(routed: &Routed, now_ms: u64) {
    let kept = &routed.cluster.persistent_state;
    let last = kept.last_requested_refresh_ms.load(Relaxed);
    if (last == 0 || now_ms.saturating_sub(last) >= EXTRA_READING_INTERVAL_MS)
        && kept.last_requested_refresh_ms.compare_exchange(last, now_ms, Relaxed, Relaxed).is_ok()
    {
        kept.directory_refresh_requested.notify_one();
    }
}

//! What the response or the error of an attempt means: for the health of the server, and whether the request should go
//! to another one.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::Method;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::attempt::AttemptFailure;
use super::ctx::Ctx;
use super::response_validation::MalformedResponse;
use super::routed::Routed;
use super::{error_mapping, failover, local_reply, upstream_connection};
use crate::domain::cluster::ClusterServer;
use crate::pages::Problem;
use crate::util::clock;
use crate::util::log_interval::LogInterval;

/// One log line about malformed responses in this time, because clients could fill the log.
const MALFORMED_LOG_INTERVAL_MS: u64 = 1_000;
const EXTRA_REFRESH_INTERVAL_MS: u64 = 30_000;

/// Notes the final head of a response. Returns the failure if the request should go to another server.
pub(super) fn note_response(
    session: &Session,
    ctx: &mut Ctx,
    status: u16,
    at: Instant,
) -> Option<AttemptFailure> {
    let now_ms = clock::instant_ms(at);
    if let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed) {
        attempt.answered = true;
        let server = attempt.in_flight.server();
        let time = at.saturating_duration_since(attempt.started);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        server.passive_success(routed.port, Some(micros));
        routed.cluster.persistent_state.traffic.record_response(routed.request_class, time);
        server.observe(routed.request_class, micros, now_ms);
    }
    let failure = retryable_failure(session, ctx, status, now_ms);
    ctx.failover.last_failure = failure;
    if let Some(attempt) = &ctx.attempt {
        attempt.in_flight.server().attempt_ended(matches!(failure, Some(AttemptFailure::Status(_))));
    }
    failure
}

fn retryable_failure(session: &Session, ctx: &mut Ctx, status: u16, now_ms: u64) -> Option<AttemptFailure> {
    let routed = ctx.routed.as_ref()?;
    let attempt = ctx.attempt.as_ref()?;
    if let (Some(found), Some(holder)) = (&routed.database.found, attempt.holder) {
        let directory = &routed.view.directory;
        directory.count_request(found.database);
        if status != 404 {
            directory.record_answer(found.database, holder);
        } else if ctx.failover.not_found_retried {
            // The second 404: the database is gone until the next reading of the directory.
            directory.record_genuine_404(found.database);
        } else if matches!(session.req_header().method, Method::GET | Method::HEAD)
            && directory.is_404_suspect(found.database, holder)
        {
            request_directory_refresh(routed, now_ms);
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

/// Notes an error. `None` if the server did not cause it. The server becomes suspect, not UNREACHABLE: a bad page or a
/// slow agent fails too, so a probe decides.
pub(super) fn note_error(e: &Error, ctx: &Ctx) -> Option<AttemptFailure> {
    let routed = ctx.routed.as_ref()?;
    let attempt = ctx.attempt.as_ref()?;
    let overdue = attempt.is_overdue();
    if *e.esource() != ErrorSource::Upstream && !overdue {
        return None;
    }
    let server = attempt.in_flight.server();
    if !attempt.answered && !overdue && *e.etype() == ErrorType::InvalidHTTPHeader {
        server.passive_success(routed.port, None);
        server.attempt_ended(false);
        note_malformed(server, e);
        return Some(AttemptFailure::Malformed);
    }
    server.attempt_ended(true);
    server.suspect(routed.port);
    if overdue || error_mapping::is_timeout(e) {
        server.counters.timeouts.fetch_add(1, Relaxed);
        Some(AttemptFailure::Timeout)
    } else {
        server.counters.broken.fetch_add(1, Relaxed);
        Some(AttemptFailure::Broken)
    }
}

/// Decides after an error whether another attempt follows, and notes what the error means for the server.
pub(super) fn decide_retry(session: &mut Session, ctx: &mut Ctx, e: &mut Error) {
    // Another step has decided already: at the response's head, or before anything was sent.
    if ctx.attempt.is_none() || matches!(e.etype(), ErrorType::HTTPStatus(_)) {
        if ctx.problem.is_some() || ctx.attempt.is_some() {
            e.set_retry(false);
        }
        return;
    }
    let failure = note_error(e, ctx);
    ctx.failover.last_failure = failure;
    if failure == Some(AttemptFailure::Broken) {
        upstream_connection::note_closed(ctx);
    }
    let again = failure.is_some_and(|failure| {
        !local_reply::is_response_begun(session) && failover::after_failure(session, ctx, failure)
    });
    e.set_retry(again);
}

/// Notes that the head of the response cannot be forwarded.
pub(super) fn malformed(ctx: &mut Ctx, cause: MalformedResponse) {
    if let Some(attempt) = &ctx.attempt {
        note_malformed(attempt.in_flight.server(), &cause);
    }
    ctx.failover.last_failure = Some(AttemptFailure::Malformed);
    ctx.problem = Some(Problem::MalformedResponse);
}

fn note_malformed(server: &ClusterServer, cause: &dyn std::fmt::Display) {
    static INTERVAL: LogInterval = LogInterval::new(MALFORMED_LOG_INTERVAL_MS);
    server.counters.malformed.fetch_add(1, Relaxed);
    if INTERVAL.is_due() {
        log::warn!(target: "icm::proxy", "{}: malformed response: {cause}; the client gets 502", server.name());
    }
}

fn request_directory_refresh(routed: &Routed, now_ms: u64) {
    let state = &routed.cluster.persistent_state;
    let last = state.last_requested_refresh_ms.load(Relaxed);
    if (last == 0 || now_ms.saturating_sub(last) >= EXTRA_REFRESH_INTERVAL_MS)
        && state.last_requested_refresh_ms.compare_exchange(last, now_ms, Relaxed, Relaxed).is_ok()
    {
        state.directory_refresh_requested.notify_one();
    }
}

//! Keeps the request of a cluster that failed last, for the status page. Only requests that fail come here, so it may
//! allocate and lock.

use std::time::Duration;

use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::attempt::AttemptFailure;
use super::ctx::Ctx;
use super::log_record;
use super::route_context::origin_form;
use crate::pages::Problem;
use crate::state::failed_request::{self, FailedRequest, FailedRequestAttempt};
use crate::util::clock::{self, saturating_millis};

/// Keeps the request if it has failed.
pub(super) fn note(session: &Session, error: Option<&Error>, ctx: &Ctx, total: Duration) {
    // Nearly all requests end here.
    if error.is_none() && ctx.problem.is_none() && ctx.failover.last_failure.is_none() {
        return;
    }
    if !has_failed(error, ctx) {
        return;
    }
    let Some(cluster) = ctx.cluster() else { return };
    let failed = failed_request(session, error, ctx, total);
    // If another request fails at the same moment, one of them is enough.
    if let Some(mut last) = cluster.persistent_state.last_failed.try_lock() {
        *last = Some(failed);
    }
}

/// Whether no server gave a whole response that could be passed on. What a client did wrong, or an administrator wants,
/// is no failure.
fn has_failed(error: Option<&Error>, ctx: &Ctx) -> bool {
    match &ctx.problem {
        Some(Problem::Draining) => false,
        Some(problem) => matches!(problem.status(), 500 | 502..=504),
        // The response broke off.
        None if error.is_some_and(|error| *error.esource() == ErrorSource::Upstream) => true,
        // The response has one of `failover.retry_statuses`, and no other server could be asked.
        None => matches!(ctx.failover.last_failure, Some(AttemptFailure::Status(_))),
    }
}

fn failed_request(session: &Session, error: Option<&Error>, ctx: &Ctx, total: Duration) -> FailedRequest {
    let head = session.req_header();
    let (_, target) = origin_form(head.raw_path());
    FailedRequest {
        at: clock::unix_ms(),
        method: failed_request::short_method(head.method.as_str()),
        path: failed_request::path_without_query(target),
        status: log_record::status(session, error),
        page: ctx.problem.as_ref().map(Problem::as_str),
        why: log_record::why(ctx),
        total_ms: saturating_millis(total),
        attempts: attempts(ctx),
    }
}

fn attempts(ctx: &Ctx) -> Vec<FailedRequestAttempt> {
    let mut attempts = Vec::new();
    if let Some(routed) = &ctx.routed {
        attempts.extend(ctx.failover.failures.iter().map(|failed| {
            FailedRequestAttempt {
                server: routed
                    .view
                    .server(failed.server)
                    .map_or_else(String::new, |entry| entry.config.name.abbreviated().to_owned()),
                cause: Some(failed.failure.as_str()),
                ms: u64::from(failed.ms),
            }
        }));
    }
    attempts.extend(ctx.attempt.as_ref().map(|attempt| FailedRequestAttempt {
        server: attempt.in_flight.server().name().abbreviated().to_owned(),
        cause: ctx.failover.last_failure.map(AttemptFailure::as_str),
        ms: saturating_millis(attempt.started.elapsed()),
    }));
    attempts
}

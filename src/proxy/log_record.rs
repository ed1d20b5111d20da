//! The access log record of a finished request. It is separate because the access log knows nothing of the proxy.

use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::ctx::Ctx;
use crate::domain::select::SelectionOutcome;
use crate::pages::Problem;
use crate::telemetry::access_log::record::{LoggedAttempts, LoggedServer, Record};
use crate::util::clock::saturating_millis;

pub(super) fn record<'a>(
    session: &'a Session,
    error: Option<&Error>,
    ctx: &'a Ctx,
    total: Duration,
) -> Record<'a> {
    let head = session.req_header();
    let value = |name: &HeaderName| head.headers.get(name).map(|v| v.as_bytes()).unwrap_or_default();
    let routed = ctx.routed.as_ref();
    let host = match routed {
        Some(routed) => routed.authority.as_bytes(),
        None => match head.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => value(&header::HOST),
        },
    };
    let server = ctx.attempt.as_ref().map(|attempt| LoggedServer {
        name: attempt.in_flight.server().name().abbreviated(),
        state: attempt.state.as_str(),
        index: attempt.index,
    });
    Record {
        client: ctx.client.address,
        client_subject: routed.and_then(|routed| Some(routed.certificate.as_ref()?.subject.as_str())),
        method: head.method.as_str(),
        host,
        target: head.raw_path(),
        protocol: head.version,
        status: status(session, error),
        sent: session.body_bytes_sent() as u64,
        received: session.body_bytes_read() as u64,
        referer: value(&header::REFERER),
        user_agent: value(&header::USER_AGENT),
        cluster: ctx.cluster().map(|cluster| cluster.settings.name.as_str()),
        route: ctx.route.as_ref().map(|taken| &*taken.route.name),
        database: routed.and_then(|routed| {
            let database = routed.view.directory.index.database(routed.database.found.as_ref()?.database);
            Some((database.path(), database.replica_id()))
        }),
        server,
        attempts: attempts(ctx, server),
        why: why(ctx),
        page: ctx.problem.as_ref().map(Problem::as_str),
        request_id: ctx.request_id.as_ref().map(HeaderValue::as_bytes).unwrap_or_default(),
        access_rule: ctx
            .denied_by
            .and_then(|number| Some(&*ctx.reply_cluster.as_ref()?.settings.access.rules().get(number)?.name)),
        is_rehearsed: routed.is_some_and(|r| r.rehearsal.as_ref().is_some_and(|user| user.is_moved())),
        first_byte_ms: ctx.first_byte.map(saturating_millis),
        total_ms: saturating_millis(total),
    }
}

/// The status that the client got; 499 if it left before.
pub(super) fn status(session: &Session, error: Option<&Error>) -> u16 {
    match session.response_written() {
        Some(head) => head.status.as_u16(),
        None if error.is_some_and(|e| *e.esource() == ErrorSource::Downstream) => 499,
        None => 0,
    }
}

fn attempts<'a>(ctx: &'a Ctx, last: Option<LoggedServer<'a>>) -> LoggedAttempts<'a> {
    let mut attempts = LoggedAttempts::new();
    if let Some(routed) = &ctx.routed {
        attempts.extend(ctx.failover.failures.iter().map(|failed| {
            let name = routed.view.server(failed.server).map_or("", |entry| entry.config.name.abbreviated());
            (name, Some(failed.failure.as_str()))
        }));
    }
    attempts
        .extend(last.map(|server| (server.name, ctx.failover.last_failure.map(|failure| failure.as_str()))));
    attempts
}

pub(super) fn why(ctx: &Ctx) -> &'static str {
    if let Some(attempt) = &ctx.attempt {
        return attempt.why.as_str();
    }
    if let Some(own) = ctx.reply_reason {
        return own;
    }
    match (ctx.outcome, &ctx.problem) {
        (Some(SelectionOutcome::Serve(_, why)), None) => why.as_str(),
        (Some(SelectionOutcome::Full), _) => "full",
        (Some(SelectionOutcome::NoteIdServerGone), _) => "note_id",
        (Some(SelectionOutcome::OutOfService), _) => "out_of_service",
        (Some(SelectionOutcome::NoServer), _) => "no_server",
        (_, Some(problem)) => problem.as_str(),
        (None, None) => "-",
    }
}

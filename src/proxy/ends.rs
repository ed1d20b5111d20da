//! How attempts end: an answer that is passed on or not, a failure and whose fault it was, and redirect mode,
//! where the choice of a server is the answer.
//!
//! In: the request's state and what came back. Out: why another candidate is due, if one is. It never chooses.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::Method;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;

use super::ctx::{Ctx, Failure, Routed};
use super::{Proxy, blame, failover, respond};
use crate::domain::cluster::Member;
use crate::domain::select::{MemberIx, Outcome};
use crate::pages::Problem;
use crate::state::Snapshot;
use crate::util::clock;

impl Proxy {
    /// The classic ICM: the browser goes to the server itself.
    pub(super) async fn redirect(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        snapshot: &Snapshot,
        target: &[u8],
    ) -> Result<bool> {
        let Some(routed) = &ctx.routed else { return Error::err(ErrorType::InternalError) };
        // Nothing is ever in flight here: nobody can be full.
        let outcome = failover::decide(routed, &[]).outcome;
        ctx.outcome = Some(outcome);
        let Outcome::Serve(member, _) = outcome else {
            let problem = blame::problem_of(ctx, routed, target);
            return self.refuse(session, ctx, snapshot, problem).await;
        };
        let Some(location) = redirect_location(routed, member, target) else {
            return self.refuse(session, ctx, snapshot, Problem::NoServer).await;
        };
        let status =
            if matches!(session.req_header().method, Method::GET | Method::HEAD) { 302 } else { 307 };
        respond::redirect(session, status, &location, None).await?;
        Ok(true)
    }

    /// Whether this answer makes the request try the next candidate.
    pub(super) fn unwelcome(
        &self,
        session: &Session,
        ctx: &mut Ctx,
        status: u16,
        now_ms: u64,
    ) -> Option<Failure> {
        let routed = ctx.routed.as_ref()?;
        let attempt = ctx.attempt.as_ref()?;
        if let (Some(found), Some(holder)) = (&routed.found, attempt.holder) {
            let directory = &routed.view.directory;
            if status != 404 {
                directory.answered(found.database, holder);
            } else if ctx.doubted {
                // Two holders say so: genuine until the next reading.
                directory.genuine(found.database);
            } else if matches!(session.req_header().method, Method::GET | Method::HEAD)
                && directory.doubts(found.database, holder)
            {
                ask_for_reading(routed, now_ms);
                ctx.doubted = true;
                return Some(Failure::NotFound);
            }
        }
        routed.cluster.settings.failover.retry_statuses.contains(&status).then_some(Failure::Status(status))
    }

    /// What an error on the way to the answer means; `None` where it is the client's or our own. Nothing that follows
    /// a request is counted against its server: only a probe tells whether it is dead.
    pub(super) fn note_failure(&self, e: &Error, ctx: &mut Ctx) -> Option<Failure> {
        let routed = ctx.routed.as_ref()?;
        let attempt = ctx.attempt.as_ref()?;
        let overdue = attempt.is_overdue();
        if *e.esource() != ErrorSource::Upstream && !overdue {
            return None;
        }
        let member = attempt.in_flight.member();
        if !attempt.answered && !overdue && *e.etype() == ErrorType::InvalidHTTPHeader {
            member.passive_success(routed.port);
            member.attempt_ended(false);
            note_malformed(member, e);
            return Some(Failure::Malformed);
        }
        member.attempt_ended(true);
        member.suspect(routed.port);
        if overdue || blame::is_timeout(e) {
            member.counters.timeouts.fetch_add(1, Relaxed);
            Some(Failure::Timeout)
        } else {
            member.counters.broken.fetch_add(1, Relaxed);
            Some(Failure::Broken)
        }
    }
}

/// Counts an answer that is not HTTP and says why it is none, once a second at most: clients choose how often they ask
/// for such a page.
pub(super) fn note_malformed(member: &Member, cause: &dyn std::fmt::Display) {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    member.counters.malformed.fetch_add(1, Relaxed);
    let (now, last) = (clock::now_ms(), LAST_MS.load(Relaxed));
    if (last == 0 || now.saturating_sub(last) >= 1_000)
        && LAST_MS.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    {
        log::warn!(target: "icm::proxy", "{}: malformed response: {cause}; the client gets 502", member.name());
    }
}

/// Where redirect mode sends the browser.
fn redirect_location(routed: &Routed, member: MemberIx, target: &[u8]) -> Option<String> {
    let entry = routed.view.entry(member)?;
    let port = entry.host_port(routed.port)?.port;
    let scheme = match routed.port {
        crate::domain::cluster::Port::Http => http::uri::Scheme::HTTP,
        crate::domain::cluster::Port::Https => http::uri::Scheme::HTTPS,
    };
    let path = routed
        .holder(member)
        .filter(|holder| routed.replaces_path(holder))
        .map(|h| crate::domain::directory::db_path::encode_for_url(h.path()).into_owned());
    // The range leaves out the leading slash, which the location's builder wants.
    let range = routed.database_range.clone();
    let with_slash = path.map(|p| (range.start.saturating_sub(1)..range.end, format!("/{p}")));
    let server_path = with_slash.as_ref().map(|(range, path)| (range.clone(), path.as_str()));
    Some(crate::domain::rewrite::redirect_location(
        &scheme,
        &entry.server.hostname,
        port,
        server_path,
        target,
    ))
}

/// A 404 from a supposed holder triggers at most one extra reading in 30 s.
fn ask_for_reading(routed: &Routed, now_ms: u64) {
    let kept = &routed.cluster.kept;
    let last = kept.last_extra_reading.load(Relaxed);
    if (last == 0 || now_ms.saturating_sub(last) >= 30_000)
        && kept.last_extra_reading.compare_exchange(last, now_ms, Relaxed, Relaxed).is_ok()
    {
        kept.read_directory.notify_one();
    }
}

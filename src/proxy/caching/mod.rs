//! Pingora's cache for the paths that `cache` lists: when a request uses it, and what that means for the response.
//!
//! It is separate from [`crate::state::response_cache`], which keeps the responses and knows no requests.

mod request;
mod response;

use std::time::{Instant, SystemTime};

use http::Method;
use http::header::RANGE;
use pingora::protocols::http::conditional_filter::not_modified_filter;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_cache::{CacheKey, CachePhase, NoCacheReason, RespCacheable};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::header_edits::FieldEdits;
use super::routed::Routed;
use super::{Proxy, compression, keep_alive};
use crate::config::settings::{CacheSettings, ConnectorHeaders};
use crate::domain::rules::Glob;
use crate::domain::url;
use crate::edge::raw_request;
use crate::state::cluster_view::{ConnectionKind, UpstreamServer};
use crate::state::response_cache::CacheKeyParts;
use crate::telemetry::statistics::CacheResult;
pub(super) use request::{forced_freshness, variance};

const X_CACHE: &str = "X-Cache";
/// The reason in the access log for a response that needed no server.
const REASON: &str = "cache";

impl Proxy {
    /// Lets a request for a listed path use the cache. It then takes Pingora's loop.
    pub(super) fn begin_caching(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let Some(routed) = &ctx.routed else { return Ok(()) };
        let Some(settings) = &routed.snapshot.settings.cache else { return Ok(()) };
        let head = session.req_header();
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        if !is_read
            || routed.exchange != ConnectionKind::Request
            || listed_path(settings, head.raw_path()).is_none()
        {
            return Ok(());
        }
        // A connection with a login has the user's rights without a field that says so.
        let is_login = ctx.login.is_some() || logs_in_by_certificate(routed);
        if is_login || request::must_bypass(head) || !session.as_mut().is_body_empty() {
            ctx.cache = Some(CacheResult::Bypass);
            return Ok(());
        }
        ctx.cache = Some(CacheResult::Miss);
        raw_request::complete_head(session.req_header_mut())?;
        self.balancer.response_cache.enable(&mut session.cache, settings.max_object);
        Ok(())
    }

    /// Says in the head for the client where the response comes from, and gives it the fields of the cluster and the route,
    /// which may differ from request to request.
    pub(super) fn note_cache_result(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if head.status.is_informational() || !ctx.uses_cache() {
            return Ok(());
        }
        let result = result_of(session.cache.phase());
        ctx.cache = Some(result);
        if let Some(value) = result.field() {
            head.insert_header(X_CACHE, value)?;
        }
        if let Some(routed) = &ctx.routed {
            FieldEdits::to_client(routed, ctx.request_id.as_ref()).apply_to_response(head)?;
        }
        if result.needs_no_server() {
            ctx.reply_reason = Some(REASON);
            ctx.first_byte = Some(Instant::now().saturating_duration_since(ctx.started));
            if self.balancer.is_draining() {
                keep_alive::close_after_response(session);
            }
        }
        Ok(())
    }
}

/// The pattern of `cache.paths` that lists the path of a target.
pub(crate) fn listed_path<'s>(settings: &'s CacheSettings, target: &[u8]) -> Option<&'s Glob> {
    settings.paths.find(url::parse(target).path)
}

/// Whether a server may take the client's certificate for a login.
fn logs_in_by_certificate(routed: &Routed) -> bool {
    let takes_it =
        |entry: &UpstreamServer| entry.config.connector_headers == ConnectorHeaders::ClientCertificate;
    routed.certificate.is_some() && routed.view.entries.iter().any(takes_it)
}

fn result_of(phase: CachePhase) -> CacheResult {
    match phase {
        CachePhase::Hit => CacheResult::Hit,
        CachePhase::Stale | CachePhase::StaleUpdating => CacheResult::Stale,
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => CacheResult::Revalidated,
        _ => CacheResult::Miss,
    }
}

pub(super) fn key(session: &Session, ctx: &Ctx) -> Result<CacheKey> {
    let Some(routed) = &ctx.routed else { return Error::err(ErrorType::InternalError) };
    let parts = CacheKeyParts {
        cluster: &routed.cluster.cache_key,
        route: routed.route.as_ref().map_or("", |route| &route.name),
        tls: routed.tls,
        authority: &routed.authority,
        target: session.req_header().raw_path(),
    };
    Ok(CacheKey::new(parts.to_bytes(), ""))
}

/// Notes that no stored response was found. A request for a part does not fetch the whole.
pub(super) fn missed(session: &mut Session) {
    if session.req_header().headers.contains_key(RANGE) {
        session.cache.disable(NoCacheReason::Deferred);
    } else {
        session.cache.cache_miss();
    }
}

pub(super) fn cacheable(head: &ResponseHeader, ctx: &Ctx) -> RespCacheable {
    let settings = ctx.routed.as_ref().and_then(|routed| routed.snapshot.settings.cache.as_ref());
    match settings {
        Some(settings) => response::cacheable(head, settings.stale, SystemTime::now()),
        None => RespCacheable::Uncacheable(NoCacheReason::OriginNotCache),
    }
}

/// Whether the client has the stored response already. It may know it by the tag of its compressed form.
pub(super) fn is_not_modified(
    request: &RequestHeader,
    head: &ResponseHeader,
    routed: Option<&Routed>,
) -> Result<bool> {
    if routed.is_none_or(|routed| routed.cluster.settings.compression.is_none()) {
        return Ok(not_modified_filter(request, head));
    }
    let mut restored = request.clone();
    compression::restore_tags(&mut restored)?;
    Ok(not_modified_filter(&restored, head))
}

/// Whether the stored response is used in place of an error. A status of a server is first judged like any other: another
/// server may do better.
pub(super) fn may_serve_stale(session: &mut Session, ctx: &mut Ctx, error: Option<&Error>) -> bool {
    let Some(error) = error.filter(|e| *e.esource() != ErrorSource::Downstream) else { return false };
    let is_judged = ctx.attempt.as_ref().is_none_or(|attempt| attempt.answered);
    if matches!(error.etype(), ErrorType::HTTPStatus(_)) && !is_judged {
        return false;
    }
    ctx.problem = None;
    ctx.end_attempt();
    // Pingora closes the connection after an error, whatever was sent then.
    keep_alive::close_after_response(session);
    true
}

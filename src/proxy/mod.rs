//! Pingora's hooks in the order of a request. Each one asks the modules beside it; [`crate::domain::select`] alone decides
//! which server gets the request.

pub(crate) mod access;
mod acme_challenge;
mod affinity_cookie;
mod attempt;
mod attempt_result;
mod authority;
mod body_compression;
pub(crate) mod caching;
mod client_info;
mod client_limits;
mod compression;
mod counters;
mod ctx;
pub mod database_lookup;
mod error_mapping;
mod failed_request;
pub mod failover;
mod fast_path;
mod header_edits;
mod home_mail;
mod http_validation;
mod keep_alive;
pub mod local_reply;
mod log_record;
mod login_form;
mod login_limits;
pub mod own_write;
mod redirect_mode;
mod rehearsal;
pub mod rehearsal_user;
mod request_body;
mod request_checks;
mod request_cookies;
mod request_facts;
mod request_headers;
mod request_id;
mod response_body;
mod response_deadline;
mod response_headers;
mod response_validation;
pub mod route;
mod route_action;
mod route_context;
mod route_target;
pub mod routed;
pub mod save_check;
mod server_choice;
mod static_files;
mod upstream_connection;
mod user_affinity;
mod write_cookie;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Version, header};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::edge::coalesce::Coalescer;
use crate::edge::login_connections::LoginConnections;
use crate::edge::{pending_responses, raw_request};
use crate::state::Balancer;
use crate::telemetry::access_log::AccessLog;
use crate::upstream::response_head::ResponseHead;
use crate::util::clock;
use client_limits::{ClientRate, ClientsInFlight};
use ctx::Ctx;
pub(crate) use fast_path::FastPath;
use header_edits::FieldEdits;
use login_limits::LoginLimiter;
use response_headers::ResponseFields;

/// One for all listeners.
#[derive(Debug)]
pub(crate) struct Proxy {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    coalescer: Arc<Coalescer>,
    logins: Arc<LoginConnections>,
    fast_path: FastPath,
    client_rate: ClientRate,
    in_flight: ClientsInFlight,
    login_limits: LoginLimiter,
}

impl Proxy {
    pub fn new(
        balancer: Arc<Balancer>,
        access_log: Arc<AccessLog>,
        coalescer: Arc<Coalescer>,
        logins: Arc<LoginConnections>,
        fast_path: FastPath,
    ) -> Self {
        let (client_rate, in_flight, login_limits) = Default::default();
        Self { balancer, access_log, coalescer, logins, fast_path, client_rate, in_flight, login_limits }
    }

    /// Checks a response's head, notes what it says about server and connection, and rewrites it for the client.
    ///
    /// # Errors
    /// The head cannot be forwarded, or the request goes to another server.
    fn response_head_received<H: ResponseHead>(
        &self,
        session: &mut Session,
        head: &mut H,
        ctx: &mut Ctx,
    ) -> Result<ReceivedHead> {
        response_validation::check(head, session, |cause| attempt_result::malformed(ctx, cause))?;
        let fields = ResponseFields::of(head);
        let status = head.status();
        if status.is_informational() && status != 101 {
            response_headers::interim(head, fields, ctx, session.req_header())?;
            return Ok(ReceivedHead::Interim);
        }
        let at = Instant::now();
        self.note_connection(session, head, ctx);
        response_deadline::expect_body(ctx, status, fields.media_type, clock::instant_ms(at));
        let failure = attempt_result::note_response(session, ctx, status.as_u16(), at);
        if let Some(failure) = failure
            && failover::after_failure(session, ctx, failure)
        {
            let mut e = Error::new(ErrorType::HTTPStatus(status.as_u16()));
            e.as_up();
            e.set_retry(true);
            return Err(e);
        }
        // The page of an error is worse than a stored response that is no longer fresh.
        if status.is_server_error() && session.cache.can_serve_stale_error() {
            let mut e = Error::new(ErrorType::HTTPStatus(status.as_u16()));
            e.as_up();
            return Err(e);
        }
        if self.balancer.is_draining() {
            // Tells the client not to send another request on this connection.
            keep_alive::close_after_response(session);
        }
        if let Some(user) = ctx.login_user {
            self.note_login(user, head);
        }
        ctx.first_byte = Some(at.saturating_duration_since(ctx.started));
        response_headers::to_client(head, fields, ctx, session.req_header())?;
        Ok(ReceivedHead::Final)
    }
}

/// Which head of a response was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceivedHead {
    /// A 1xx other than 101: another head follows.
    Interim,
    Final,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new()
    }

    /// None: Pingora's compression module has a cost even when it is off, and it cannot be flushed.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// Validates and routes the request. One that needs no server is answered here.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let snapshot = self.balancer.snapshot();
        self.begin(session, ctx);
        let listener = client_info::listener_of(&snapshot, session);
        let client = client_info::client_of(session, listener);
        ctx.client = client;
        if self.balancer.acme.may_answer_challenges() {
            acme_challenge::prepare(&self.balancer.acme, session).await;
        }
        let accepted = match self.check_and_route(session, ctx, &snapshot, listener, client) {
            Ok(mut routed) => {
                routed.certificate = client_info::certificate_of(session, listener);
                match self.read_login(session, ctx, &mut routed).await? {
                    Ok(()) => self.accept(session, ctx, routed),
                    Err(reply) => Err(reply),
                }
            }
            Err(reply) => Err(reply),
        };
        if let Err(reply) = request_checks::ask_servers(session, ctx, accepted).await {
            let hsts = reply.hsts_of_route(client.tls);
            self.reply(session, ctx, &snapshot, reply, hsts.as_deref()).await?;
            return Ok(true);
        }
        if let Some(routed) = &ctx.routed {
            routed.cluster.persistent_state.retry_budget.record_request(clock::instant_ms(ctx.started));
        }
        Ok(false)
    }

    /// Lets requests for listed paths use the cache. All hooks with `cache` in their name are only called for these.
    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        self.begin_caching(session, ctx)
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut Ctx) -> Result<CacheKey> {
        caching::key(session, ctx)
    }

    fn cache_miss(&self, session: &mut Session, _ctx: &mut Ctx) {
        caching::missed(session);
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _hit: &mut HitHandler,
        _is_fresh: bool,
        _ctx: &mut Ctx,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(caching::forced_freshness(session.req_header(), meta))
    }

    fn response_cache_filter(
        &self,
        _session: &Session,
        head: &ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<RespCacheable> {
        Ok(caching::cacheable(head, ctx))
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        _ctx: &mut Ctx,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        caching::variance(meta, request)
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        head: &ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<bool> {
        caching::is_not_modified(session.req_header(), head, ctx.routed.as_deref())
    }

    fn should_serve_stale(&self, session: &mut Session, ctx: &mut Ctx, error: Option<&Error>) -> bool {
        caching::may_serve_stale(session, ctx, error)
    }

    /// Serves a plain request on the fast path, and prepares any other for Pingora's loop.
    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if let Some(body) = fast_path::body_of_plain_request(session, ctx).await? {
            self.balancer.statistics.this_thread().fast_path.fetch_add(1, Relaxed);
            self.serve_on_fast_path(session, ctx, &body).await?;
            return Ok(false);
        }
        raw_request::complete_head(session.req_header_mut())?;
        if let Some(routed) = &mut ctx.routed {
            routed.has_hop_by_hop_fields =
                request_headers::of_client(session.req_header_mut(), routed, ctx.client)?;
        }
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        server_choice::begin_attempt(ctx, session.req_header()).await?;
        upstream_connection::peer(ctx)
    }

    /// Nothing was sent, so any request may go to another server.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut e: Box<Error>,
    ) -> Box<Error> {
        self.connect_failed(ctx, &mut e);
        e
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        fd: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        self.coalescer.coalesce_writes().await;
        let descriptor = upstream_connection::descriptor(fd, digest, ctx.tunnel.as_deref());
        self.connected(session, ctx, reused, descriptor)
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        match (&ctx.routed, &ctx.attempt) {
            (Some(routed), Some(attempt)) => {
                request_headers::to_server(request, routed, attempt, ctx.client)?;
                FieldEdits::to_server(routed, ctx.request_id.as_ref()).apply_to_request(request)
            }
            _ => Ok(()),
        }
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        request_body::piece_passes(body, end, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if self.response_head_received(session, head, ctx)? == ReceivedHead::Interim {
            // Pingora writes it to a client of HTTP/1 only.
            pending_responses::send_interim(head);
        }
        Ok(())
    }

    /// Pingora adds chunks wherever a length is missing. HTTP/1.0 has no chunks: the body ends with the connection. Only
    /// here the head is the one for the client, wherever it came from.
    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if ctx.cache.is_some() {
            self.note_cache_result(session, head, ctx)?;
        }
        compression::begin(session.req_header(), head, ctx)?;
        if session.req_header().version == Version::HTTP_10 {
            head.remove_header(&header::TRANSFER_ENCODING);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        response_body::piece_passes(session, body, end, response_body::Flush::EachPiece, ctx)?;
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Ctx,
        _reused: bool,
    ) -> Box<Error> {
        attempt_result::decide_retry(session, ctx, &mut e);
        e
    }

    /// The error page, unless the client is gone or has the head of a response already.
    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        let error_code = self.reply_after_failure(session, e, ctx).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
        self.count_end(e, ctx);
        let total = ctx.ended.unwrap_or_else(Instant::now).saturating_duration_since(ctx.started);
        self.count_traffic(session, e, ctx, total);
        if self.access_log.is_enabled() {
            self.access_log.put(&log_record::record(session, e, ctx, total));
        }
        failed_request::note(session, e, ctx, total);
        ctx.end_attempt();
    }

    /// The access log has a line for every failed request.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

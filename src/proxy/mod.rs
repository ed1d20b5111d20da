//! Pingora's hooks, in the order of a request: this page is its story.
//!
//! In: the client's request. Out: the answer of the right server, or a page. Each hook asks one of the
//! modules beside it; decisions are made by [`crate::select`], never here.

pub mod affinity_cookie;
pub mod answer;
pub mod blame;
pub mod client_limits;
mod connection;
pub mod cookies;
pub mod ctx;
mod ends;
pub mod failover;
pub mod headers;
pub mod incoming;
mod log_record;
pub mod respond;
mod response_validation;
pub mod route;
pub mod semantics;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Version, header};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::access_log::AccessLog;
use crate::balancer::statistics::InProgress;
use crate::balancer::view::Exchange;
use crate::balancer::{Balancer, Snapshot};
use crate::clock;
use crate::cluster::InFlight;
use crate::config::settings::{Limits, Mode};
use crate::edge::batch::Batch;
use crate::edge::login_connections::LoginConnections;
use crate::edge::waiting;
use crate::pages::Problem;
use crate::select::{MemberIx, Outcome, Why};
use client_limits::{ClientRate, ClientsInFlight};
use ctx::{Attempt, Ctx, Failure};
use route::{Addressed, Route};

/// The proxy: one for all listeners.
#[derive(Debug)]
pub struct Proxy {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    batch: Arc<Batch>,
    logins: Arc<LoginConnections>,
    client_rate: ClientRate,
    in_flight: ClientsInFlight,
}

impl Proxy {
    /// In front of this balancer's clusters.
    #[must_use]
    pub fn new(
        balancer: Arc<Balancer>,
        access_log: Arc<AccessLog>,
        batch: Arc<Batch>,
        logins: Arc<LoginConnections>,
    ) -> Self {
        let (client_rate, in_flight) = Default::default();
        Self { balancer, access_log, batch, logins, client_rate, in_flight }
    }

    /// Writes a page and remembers why.
    async fn refuse(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        snapshot: &Snapshot,
        problem: Problem,
    ) -> Result<bool> {
        let rendered = respond::problem(snapshot, session, &problem);
        ctx.problem = Some(problem);
        respond::page(session, rendered, None).await?;
        Ok(true)
    }

    /// Counts a request of this client. False when it is one too many.
    fn may_ask(&self, ctx: &mut Ctx, limits: &Limits) -> bool {
        let statistics = &self.balancer.statistics.clients;
        if !self.client_rate.allows(ctx.client, limits) {
            statistics.over_rate.fetch_add(1, Relaxed);
            return false;
        }
        let Ok(place) = self.in_flight.begin(ctx.client, limits) else {
            statistics.over_in_flight.fetch_add(1, Relaxed);
            self.in_flight.refused(ctx.client, limits);
            return false;
        };
        ctx.place = place;
        true
    }

    /// Chooses a server and takes a place there; waits where all that could serve have their hands full.
    async fn choose(&self, ctx: &mut Ctx) -> Option<(MemberIx, Why, InFlight)> {
        let routed = ctx.routed.as_ref()?;
        let mut until = None;
        loop {
            // Made before the question, so that no end of a request is missed in between.
            let place_free = routed.cluster.kept.place_free.notified();
            let outcome = match ctx.next.take() {
                Some((member, why)) => Outcome::Serve(member, why),
                None => failover::decide(routed, &ctx.tried).outcome,
            };
            ctx.outcome = Some(outcome);
            match outcome {
                Outcome::Serve(member, why) => {
                    let entry = routed.view.entry(member)?;
                    let cap = routed.cluster.rules.cap(entry.member.view().max_connections);
                    // Somebody else may have taken the last place meanwhile: then it is asked again.
                    if let Some(place) = entry.member.begin(cap) {
                        return Some((member, why, place));
                    }
                }
                Outcome::Full => {
                    let patience = routed.cluster.settings.limits.queue_timeout;
                    let until = *until.get_or_insert_with(|| tokio::time::Instant::now() + patience);
                    if tokio::time::timeout_at(until, place_free).await.is_err() {
                        return None;
                    }
                }
                _ => return None,
            }
        }
    }

    /// Whether the connection is kept for another request. 0 is for ever: the edge ends it in time.
    fn keepalive(&self) -> Option<u64> {
        (!self.balancer.is_draining()).then_some(0)
    }

    /// The time and the octets of a request that has ended.
    fn measure(&self, session: &Session, e: Option<&Error>, ctx: &Ctx, took: Duration) {
        let statistics = &self.balancer.statistics;
        let traffic = ctx.cluster().map_or(&statistics.elsewhere, |cluster| &cluster.kept.traffic);
        traffic.request(log_record::status(session, e), took);
        let here = statistics.here();
        // Most requests have no body, and what is not counted costs nothing.
        let count = |counter: &AtomicU64, octets: u64| {
            if octets > 0 {
                counter.fetch_add(octets, Relaxed);
            }
        };
        count(&here.client_received, session.body_bytes_read() as u64);
        count(&here.client_sent, session.body_bytes_sent() as u64);
        count(&here.server_received, session.upstream_body_bytes_received() as u64);
        count(&here.server_sent, ctx.body_bytes);
    }

    /// Counts as the ICM did.
    fn count(&self, outcome: Option<Outcome>) {
        let statistics = self.balancer.statistics.here();
        match outcome {
            Some(Outcome::Serve(_, why)) => {
                statistics.successful.fetch_add(1, Relaxed);
                if why == Why::SetAside {
                    statistics.cluster_busy.fetch_add(1, Relaxed);
                }
            }
            Some(_) => {
                statistics.unsuccessful.fetch_add(1, Relaxed);
            }
            None => {
                statistics.unknown.fetch_add(1, Relaxed);
            }
        }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new()
    }

    /// None: bodies pass as they are, and Pingora's own module, which compresses, costs every request something even
    /// where it is switched off.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// What the request names and whose it is; answers at once what needs no server.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let snapshot = self.balancer.snapshot();
        ctx.in_progress = Some(InProgress::begin(&self.balancer));
        self.balancer.statistics.here().commands.fetch_add(1, Relaxed);
        let listener = incoming::listener_of(&snapshot, session);
        let client = incoming::client_of(session, listener);
        let tls = client.tls;
        ctx.client = client.address;
        let limits = &snapshot.settings.limits;
        let keepalive = self.keepalive().filter(|_| semantics::keeps_connection(session.req_header()));
        session.set_keepalive(keepalive);
        // The edge has the clock of an HTTP/1.1 connection.
        session.set_read_timeout(None);
        if !self.may_ask(ctx, limits) {
            session.set_keepalive(None);
            return self.refuse(session, ctx, &snapshot, Problem::TooManyRequests).await;
        }
        // The gate has measured every head of HTTP/1.
        if session.is_http2()
            && let Some(problem) = incoming::malformed(session, limits)
        {
            session.set_keepalive(None);
            return self.refuse(session, ctx, &snapshot, problem).await;
        }
        if session.req_header().version == Version::HTTP_10
            && let ServerSession::H1(client) = session.as_mut()
        {
            // It knows no 1xx, and servers may send one unasked.
            client.set_ignore_info_resp(true);
        }
        let settled = semantics::settle(session.req_header_mut());
        let settled =
            settled.and_then(|last| incoming::to_origin_form(session.req_header_mut()).map(|()| last));
        let last_hop = match settled {
            Ok(last_hop) => last_hop,
            Err(problem) => {
                session.set_keepalive(None);
                return self.refuse(session, ctx, &snapshot, problem).await;
            }
        };
        let authority = incoming::authority_of(session.req_header())
            .or_else(|| incoming::authority_of_http_1_0(session, tls));
        let Some(authority) = authority else {
            session.set_keepalive(None);
            let problem = Problem::BadRequest("The request names no host.");
            return self.refuse(session, ctx, &snapshot, problem).await;
        };
        let (_, target) = route::origin_form(session.req_header().raw_path());
        let target: Bytes = Bytes::copy_from_slice(target);
        let addressed = Addressed { authority: &authority, target: &target, tls };
        let route = route::route(&snapshot, session.req_header(), addressed);

        if listener.is_some_and(|l| l.redirect_to_https)
            && !tls
            && !matches!(route, Route::Problem(Problem::Misdirected, _))
        {
            ctx.answered_by = route.cluster().cloned();
            ctx.own = Some("https");
            let secure = incoming::secure_authority(&snapshot, listener, &authority);
            let location = format!("https://{secure}{}", String::from_utf8_lossy(&target));
            respond::redirect(session, 308, &location, None).await?;
            return Ok(true);
        }
        if last_hop && !matches!(route, Route::Problem(..)) {
            respond::options(session).await?;
            return Ok(true);
        }
        let mut routed = match route {
            Route::To(routed) => routed,
            Route::Problem(problem, cluster) => {
                ctx.answered_by = cluster;
                self.count(None);
                return self.refuse(session, ctx, &snapshot, problem).await;
            }
            Route::Choose(cluster, view, ambiguous) => {
                (ctx.answered_by, ctx.own) = (Some(cluster), Some("choice"));
                let rendered = respond::choice(&snapshot, session, &view, ambiguous, addressed);
                respond::page(session, rendered, None).await?;
                return Ok(true);
            }
            Route::List(cluster, view) => {
                let rendered = respond::list(&snapshot, session, &cluster, &view);
                (ctx.answered_by, ctx.own) = (Some(cluster), Some("list"));
                respond::page(session, rendered, None).await?;
                return Ok(true);
            }
        };
        let limit = routed.cluster.settings.limits.request_body;
        if limit > 0
            && incoming::content_length(&session.req_header().headers).is_some_and(|length| length > limit)
        {
            session.set_keepalive(None);
            return self.refuse(session, ctx, &snapshot, Problem::BodyTooLarge).await;
        }
        incoming::login_form(session, &mut routed, &target).await?;
        routed.exchange = if session.as_mut().is_upgrade_req() {
            session.set_read_timeout(Some(snapshot.settings.limits.websocket_idle));
            Exchange::Tunnel
        } else {
            Exchange::Plain
        };
        let redirects = routed.cluster.settings.mode == Mode::Redirect;
        self.find_login(session, ctx);
        if let Some(server) = ctx.login.and_then(|login| login.server) {
            // Each step of a handshake goes where the last one went.
            routed.recent = routed.view.by_tag(server).or(routed.recent);
        }
        ctx.routed = Some(routed);
        if redirects {
            return self.redirect(session, ctx, &snapshot, &target).await;
        }
        if let Some(routed) = &mut ctx.routed {
            routed.has_fields_of_this_hop = headers::of_client(session.req_header_mut(), routed, client)?;
            routed.cluster.kept.budget.request(clock::ms_of(ctx.started));
        }
        Ok(false)
    }

    /// Asks selection, and hands Pingora the server's prebuilt peer.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let chosen = self.choose(ctx).await;
        let Some(routed) = &ctx.routed else { return Error::err(ErrorType::InternalError) };
        let (_, target) = route::origin_form(session.req_header().raw_path());
        let Some((member, why, mut in_flight)) = chosen else {
            ctx.problem = Some(blame::problem_of(ctx, routed, target));
            return Error::err(ErrorType::HTTPStatus(503));
        };
        let prepared = routed.view.entry(member).and_then(|entry| {
            let peer = entry.peer(routed.port, routed.exchange)?;
            Some((entry, peer))
        });
        let Some((entry, mut peer)) = prepared else {
            ctx.problem = Some(Problem::NoServer);
            return Error::err(ErrorType::HTTPStatus(503));
        };
        if routed.exchange == Exchange::Tunnel {
            in_flight.is_tunnel();
        }
        let holder = routed.holder(member);
        let replace_path = holder.is_some_and(|holder| routed.replaces_path(&holder));
        ctx.outcome = Some(Outcome::Serve(member, why));
        ctx.attempts += 1;
        ctx.body_bytes = 0;
        ctx.last_failure = None;
        ctx.attempt = Some(Attempt {
            member,
            in_flight,
            why,
            state: entry.member.state(),
            index: entry.member.index(),
            holder: holder.map(|h| h.server),
            replace_path,
            started: Instant::now(),
            reused: false,
            connection: None,
            usage: None,
            body_timeout_ms: 0,
            due: None,
            close_at_end: false,
            answered: false,
        });
        self.prepare_peer(&mut peer, member, ctx);
        Ok(peer)
    }

    /// Nothing was sent: any request may go on.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut e: Box<Error>,
    ) -> Box<Error> {
        if let (Some(attempt), Some(routed)) = (&ctx.attempt, &ctx.routed) {
            let member = attempt.in_flight.member();
            member.counters.connect_failures.fetch_add(1, Relaxed);
            if blame::is_servers_fault(&e) {
                member.attempt_ended(true);
                let change = member.passive_failure(routed.port, &blame::connect_cause(&e), clock::now_ms());
                self.balancer.record(&routed.cluster.settings.name, member.name(), change);
            }
        }
        // Failed connects do not count as attempts.
        ctx.attempts = ctx.attempts.saturating_sub(1);
        let again = failover::after_connect_failure(ctx);
        e.set_retry(again);
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
        self.batch.gather().await;
        self.connected(session, ctx, reused, fd, digest)
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        match (&ctx.routed, &ctx.attempt) {
            (Some(routed), Some(attempt)) => headers::to_server(request, routed, attempt, ctx.client),
            _ => Ok(()),
        }
    }

    /// Counts the body, and starts the answer's clock at its end.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        // An empty last chunk from an HTTP/2 client would end a chunked body twice
        // (<https://github.com/cloudflare/pingora/issues/935>).
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let Some(routed) = &ctx.routed else { return Ok(()) };
        ctx.body_bytes += body.as_ref().map_or(0, |b| b.len() as u64);
        let limit = routed.cluster.settings.limits.request_body;
        if limit > 0 && ctx.body_bytes > limit {
            ctx.problem = Some(Problem::BodyTooLarge);
            let mut e = Error::new(ErrorType::HTTPStatus(413));
            e.as_down();
            return Err(e);
        }
        if end {
            connection::expect_head(ctx);
        }
        Ok(())
    }

    /// The server's head: another candidate, or the browser's head.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        response_validation::check(head, session, |cause| ctx.malformed_response(cause))?;
        let status = head.status.as_u16();
        if status < 200 && status != 101 {
            answer::interim(head, ctx, session.req_header())?;
            // Pingora writes it to a client of HTTP/1 only.
            crate::edge::interim::send(head);
            return Ok(());
        }
        let at = Instant::now();
        let now = clock::ms_of(at);
        self.note_connection(session, head, ctx);
        connection::expect_body(ctx, head, now);
        if let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed) {
            attempt.answered = true;
            let member = attempt.in_flight.member();
            member.passive_success(routed.port);
            let time = at.saturating_duration_since(attempt.started);
            routed.cluster.kept.traffic.answer(routed.request_class, time);
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            member.observe(routed.request_class, micros, now);
        }
        let unwelcome = self.unwelcome(session, ctx, status, now);
        ctx.last_failure = unwelcome;
        if let Some(attempt) = &ctx.attempt {
            let failed = matches!(unwelcome, Some(Failure::Status(_)));
            attempt.in_flight.member().attempt_ended(failed);
        }
        if let Some(failure) = unwelcome
            && failover::after_failure(session, ctx, failure)
        {
            let mut e = Error::new(ErrorType::HTTPStatus(status));
            e.as_up();
            e.set_retry(true);
            return Err(e);
        }
        if self.balancer.is_draining() {
            // The last answer on this connection says so.
            session.set_keepalive(None);
        }
        ctx.first_byte = Some(at.saturating_duration_since(ctx.started));
        answer::to_browser(head, ctx, session.req_header())
    }

    /// HTTP/1.0 knows no chunks, which Pingora puts in wherever a length is missing: the connection's end is
    /// the body's.
    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        _ctx: &mut Ctx,
    ) -> Result<()> {
        if session.req_header().version == Version::HTTP_10 {
            head.remove_header(&header::TRANSFER_ENCODING);
        }
        Ok(())
    }

    /// The edge has to know which answers of HTTP/2 have bytes that wait.
    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<std::time::Duration>> {
        connection::body_passes(ctx, end);
        if session.is_http2()
            && let Some(body) = body
        {
            *body = waiting::track(&mut ctx.waiting, std::mem::take(body));
        }
        Ok(None)
    }

    /// The server died, or was too slow.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Ctx,
        _reused: bool,
    ) -> Box<Error> {
        // Decided already: where the answer's head was read, or before anything was sent.
        if ctx.attempt.is_none() || matches!(e.etype(), ErrorType::HTTPStatus(_)) {
            if ctx.problem.is_some() || ctx.attempt.is_some() {
                e.set_retry(false);
            }
            return e;
        }
        let failure = self.note_failure(&e, ctx);
        ctx.last_failure = failure;
        if let Some(failure) = failure {
            connection::note_closed(ctx, failure);
        }
        let nothing_written = !respond::answer_begun(session);
        let again = match failure {
            Some(failure) => nothing_written && failover::after_failure(session, ctx, failure),
            None => false,
        };
        e.set_retry(again);
        e
    }

    /// The last word: a page, unless the client is gone or has part of an answer already.
    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        let gone = FailToProxy { error_code: 0, can_reuse_downstream: false };
        if respond::answer_begun(session) {
            return gone;
        }
        let (_, target) = route::origin_form(session.req_header().raw_path());
        let problem = ctx.problem.take().or_else(|| blame::last_failure(e, ctx, target));
        let Some(problem) = problem else { return gone };
        let snapshot =
            ctx.routed.as_ref().map_or_else(|| self.balancer.snapshot(), |r| Arc::clone(&r.snapshot));
        let rendered = respond::problem(&snapshot, session, &problem);
        let status = rendered.status;
        let hsts =
            ctx.routed.as_ref().filter(|r| r.tls).and_then(|r| r.cluster.settings.headers.hsts.clone());
        ctx.problem = Some(problem);
        session.set_keepalive(None);
        if let Err(error) = respond::page(session, rendered, hsts.as_deref()).await {
            log::debug!(target: "icm::proxy", "writing the {status} page: {error}");
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
        if ctx.routed.is_some() {
            self.count(ctx.outcome);
        }
        if e.is_some_and(|e| *e.esource() == ErrorSource::Downstream) && ctx.problem.is_none() {
            self.balancer.statistics.here().receive_errors.fetch_add(1, Relaxed);
        }
        let took = ctx.started.elapsed();
        self.measure(session, e, ctx, took);
        if self.access_log.is_enabled() {
            self.access_log.put(&log_record::record(session, e, ctx, took));
        }
        ctx.end_attempt();
    }

    /// One line a failed request is what the access log is for.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: pingora_proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

//! The connection of an attempt: whether a pooled one may be used for this request. A connection that carries a login
//! (NTLM, Negotiate) serves one client only.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::{Proxy, error_mapping, failover};
use crate::domain::cluster::Port;
use crate::edge::login_connections::{ClientConnection, is_connection_auth, offers_connection_auth};
use crate::edge::proxy_protocol;
use crate::state::cluster_view::ConnectionKind;
use crate::upstream::response_head::{ResponseField, ResponseHead};
use crate::upstream::reuse::{self, NotReusable, ReuseRequirements};
use crate::upstream::tunnel;
use crate::upstream::{deadline, usage};
use crate::util::clock;
use crate::util::socket_fd::SocketFd;

/// The TCP connection behind Pingora's: its descriptor, or that of a tunnel, which Pingora does not know.
pub(super) fn descriptor(
    number: RawFd,
    digest: Option<&Digest>,
    tunnel: Option<&tunnel::TunnelConnector>,
) -> Option<SocketFd> {
    if let Some(tunnel) = tunnel {
        return tunnel.descriptor();
    }
    let socket = digest?.socket_digest.as_ref()?;
    let local_port = socket.local_addr()?.as_inet()?.port();
    Some(SocketFd { fd: number, local_port })
}

/// The peer of the attempt, adapted to this request: it may need the pool of its client, or a new connection.
pub(super) fn peer(ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let is_new = ctx.takes_new_connection();
    let (Some(routed), Some(attempt)) = (&ctx.routed, &ctx.attempt) else {
        return Error::err(ErrorType::InternalError);
    };
    let peer = routed.view.server(attempt.server).and_then(|entry| entry.peer(routed.port, routed.exchange));
    let Some(mut peer) = peer.map(|peer| Box::new(peer.clone())) else {
        return Error::err(ErrorType::InternalError);
    };
    peer.options.http_upstream_request_policy.strip_hop_by_hop = routed.has_hop_by_hop_fields;
    if routed.exchange == ConnectionKind::Tunnel {
        let connect = Arc::new(tunnel::TunnelConnector::default());
        peer.options.custom_l4 = Some(Arc::clone(&connect) as _);
        ctx.tunnel = Some(connect);
    } else if let Some(login) = ctx.login {
        peer.group_key = peer.group_key.wrapping_add(login.pool_key);
        peer.options.idle_timeout = Some(routed.snapshot.settings.limits.idle_timeout);
        return Ok(peer);
    }
    if is_new || routed.exchange == ConnectionKind::Tunnel {
        // A pool key that no other connection has, and no reuse afterwards.
        peer.group_key = fastrand::u64(..);
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    Ok(peer)
}

impl Proxy {
    /// Notes that no connection could be opened, and decides about another attempt. Nothing was sent, so any request may
    /// go to another server.
    pub(super) fn connect_failed(&self, ctx: &mut Ctx, e: &mut Error) {
        if let (Some(attempt), Some(routed)) = (&ctx.attempt, &ctx.routed) {
            let server = attempt.in_flight.server();
            server.counters.connect_failures.fetch_add(1, Relaxed);
            if error_mapping::is_servers_fault(e) {
                server.attempt_ended(true);
                let cause = error_mapping::connect_cause(e);
                let change = server.passive_failure(routed.port, &cause, clock::now_ms());
                self.balancer.record_transition(&routed.cluster.settings.name, server.name(), change);
            }
        }
        // Failed connects do not count as attempts.
        ctx.failover.attempts = ctx.failover.attempts.saturating_sub(1);
        e.set_retry(failover::after_connect_failure(ctx));
    }

    /// Takes the connection that was opened, or found in a pool.
    ///
    /// # Errors
    /// Where it must not be used for this request, which then gets another one.
    pub(super) fn connected(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        reused: bool,
        connection: Option<SocketFd>,
    ) -> Result<()> {
        let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed) else { return Ok(()) };
        let tls = routed.port == Port::Https;
        self.balancer.statistics.outbound.begin(tls, !reused);
        ctx.outbound = Some(tls);
        attempt.reused = reused;
        attempt.connection = connection;
        let Some(connection) = attempt.connection else { return Ok(()) };
        // The attempt began just now, unless a connection had to be opened.
        let now = if reused { clock::instant_ms(attempt.started) } else { clock::now_ms() };
        attempt.usage = usage::begin_request(connection, !reused, now);
        let server = attempt.in_flight.server();
        if ctx.login.is_some()
            && let Some(client) = client_connection(session)
            && let Some(entry) = routed.view.server(attempt.server)
        {
            self.logins.add_upstream(client, entry.tag(), connection);
        }
        if !reused {
            deadline::clear(connection);
            return Ok(());
        }
        let replayable = failover::is_replayable(session, routed);
        let needs = ReuseRequirements { replayable, tls, private: ctx.login.is_some() };
        match reuse::check_reusable(connection, attempt.usage, needs, &server.keep_alive, now) {
            Ok(()) => return Ok(()),
            Err(NotReusable::UnexpectedBytes) => log::debug!(
                target: "icm::proxy",
                "{}: closing an idle connection that has unexpected bytes",
                server.name()
            ),
            Err(NotReusable::Closed | NotReusable::MayCloseSoon) => {}
        }
        failover::take_another_connection(ctx);
        let mut e = Error::new(ErrorType::ConnectionClosed);
        e.as_up();
        e.set_retry(true);
        Err(e)
    }

    /// Finds the login that the client's connection carries, or begins to carry.
    pub(super) fn find_login(&self, session: &Session, ctx: &mut Ctx) {
        let now = clock::instant_ms(ctx.started);
        ctx.login = self.logins.get(|| client_connection(session), now);
        if ctx.login.is_none()
            && brings_login(session.req_header())
            && let Some(client) = client_connection(session)
        {
            ctx.login = Some(self.logins.begin(client, now));
        }
    }

    /// Notes what the head of a response says about its connection.
    pub(super) fn note_connection<H: ResponseHead>(&self, session: &Session, head: &H, ctx: &mut Ctx) {
        let Some(attempt) = &mut ctx.attempt else { return };
        let keep_alive = &attempt.in_flight.server().keep_alive;
        match attempt.usage.filter(|_| attempt.reused) {
            Some(usage) => keep_alive.worked(usage.served + 1),
            None => {
                let announced = head.first(ResponseField::KeepAlive);
                if let Some(seconds) = announced.and_then(reuse::keep_alive_timeout) {
                    keep_alive.announced(seconds);
                }
            }
        }
        let offers = |head: &H| head.all(ResponseField::WwwAuthenticate).any(offers_connection_auth);
        if head.status() == 401
            && ctx.login.is_none()
            && offers(head)
            && let Some(client) = client_connection(session)
        {
            // The login continues on a connection for this client alone. This one is shared, but the server may already
            // treat it as part of the login.
            ctx.login = Some(self.logins.begin(client, clock::instant_ms(ctx.started)));
            attempt.close_at_end = true;
            if session.req_header().method == http::Method::HEAD || has_no_body(head) {
                attempt.shut_down();
            }
        }
    }
}

/// Notes the idle time after which the server closed a pooled connection, if the attempt used one.
pub(super) fn note_closed(ctx: &Ctx) {
    if let Some(attempt) = &ctx.attempt
        && let Some(usage) = attempt.usage.filter(|_| attempt.reused && !attempt.answered)
    {
        let keep_alive = &attempt.in_flight.server().keep_alive;
        keep_alive.closed(usage.idle_ms, usage.served, clock::now_ms());
    }
}

fn client_connection(session: &Session) -> Option<ClientConnection> {
    let peer = match session.digest().and_then(proxy_protocol::proxy_of) {
        Some(proxy) => proxy,
        None => *session.client_addr()?.as_inet()?,
    };
    Some(ClientConnection { peer, local: *session.server_addr()?.as_inet()? })
}

fn brings_login(request: &RequestHeader) -> bool {
    request.headers.get(header::AUTHORIZATION).is_some_and(|value| is_connection_auth(value.as_bytes()))
}

fn has_no_body<H: ResponseHead>(head: &H) -> bool {
    head.first(ResponseField::ContentLength) == Some(b"0")
}

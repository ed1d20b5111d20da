//! The connection that carries an attempt: whether a pooled one is fit for it, and whose it is from then on.
//!
//! In: Pingora's word that it has a connection, and the head of the answer. Out: go on, or take another connection. Where
//! connections carry logins (NTLM, Negotiate), client and server keep theirs to themselves.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::{Ctx, Failure, Routed};
use super::{Proxy, failover};
use crate::domain::cluster::Port;
use crate::domain::select::MemberIx;
use crate::edge::login_connections::{ClientConnection, logs_in_the_connection, offers_connection_login};
use crate::state::view::Exchange;
use crate::upstream::deadline::Due;
use crate::upstream::reuse::{self, Needs, Unfit};
use crate::upstream::tunnel;
use crate::upstream::{deadline, usage};
use crate::util::clock;
use crate::util::descriptor::Descriptor;

/// The TCP connection under Pingora's: by the descriptor it names, or the one that a tunnel keeps to itself.
fn descriptor(
    number: RawFd,
    digest: Option<&Digest>,
    tunnel: Option<&tunnel::Connect>,
) -> Option<Descriptor> {
    if let Some(tunnel) = tunnel {
        return tunnel.descriptor();
    }
    let socket = digest?.socket_digest.as_ref()?;
    let local_port = socket.local_addr()?.as_inet()?.port();
    Some(Descriptor { number, local_port })
}

impl Proxy {
    /// Makes the peer one for this very request: its pool may be one that belongs to its client, or none at all.
    pub(super) fn prepare_peer(&self, peer: &mut HttpPeer, member: MemberIx, ctx: &mut Ctx) {
        let Some(routed) = &ctx.routed else { return };
        peer.options.http_upstream_request_policy.strip_hop_by_hop = routed.has_fields_of_this_hop;
        let is_new = ctx.fresh.take_if(|fresh| *fresh == member).is_some();
        if routed.exchange == Exchange::Tunnel {
            // A tunnel needs a connection of its own kind: see `balancer::tunnel`.
            let connect = Arc::new(tunnel::Connect::default());
            peer.options.custom_l4 = Some(Arc::clone(&connect) as _);
            ctx.tunnel = Some(connect);
        } else if let Some(login) = ctx.login {
            peer.group_key = peer.group_key.wrapping_add(login.pool_key);
            peer.options.idle_timeout = Some(routed.snapshot.settings.limits.idle_timeout);
            return;
        }
        if is_new || routed.exchange == Exchange::Tunnel {
            // The pool has nothing under this number, and keeps nothing.
            peer.group_key = fastrand::u64(..);
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
    }

    /// Pingora has a connection.
    ///
    /// # Errors
    /// When this request must not go out on it; it is then retried on another one.
    pub(super) fn connected(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        reused: bool,
        number: RawFd,
        digest: Option<&Digest>,
    ) -> Result<()> {
        let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed) else { return Ok(()) };
        let tls = routed.port == Port::Https;
        self.balancer.statistics.outbound.begin(tls, !reused);
        ctx.outbound = Some(tls);
        attempt.reused = reused;
        attempt.connection = descriptor(number, digest, ctx.tunnel.as_deref());
        let Some(connection) = attempt.connection else { return Ok(()) };
        let now = clock::now_ms();
        attempt.usage = usage::begin(connection, !reused, now);
        let member = attempt.in_flight.member();
        if ctx.login.is_some()
            && let Some(client) = client_connection(session)
            && let Some(entry) = routed.view.entry(attempt.member)
        {
            self.logins.connected(client, entry.tag(), connection);
        }
        if !reused {
            deadline::clear(connection);
            return Ok(());
        }
        let replayable = failover::is_replayable(session, routed);
        let needs = Needs { replayable, tls, private: ctx.login.is_some() };
        match reuse::check(connection, attempt.usage, needs, &member.keep_alive, now) {
            Ok(()) => return Ok(()),
            Err(Unfit::OutOfStep) => log::debug!(
                target: "icm::proxy",
                "{}: bytes wait on an idle connection, which is closed",
                member.name()
            ),
            Err(Unfit::Closed | Unfit::Risky) => {}
        }
        failover::take_another_connection(ctx);
        let mut e = Error::new(ErrorType::ConnectionClosed);
        e.as_up();
        e.set_retry(true);
        Err(e)
    }

    /// A request begins: the login that its client's connection carries, or begins to carry.
    pub(super) fn find_login(&self, session: &Session, ctx: &mut Ctx) {
        let now = clock::ms_of(ctx.started);
        ctx.login = self.logins.get(|| client_connection(session), now);
        if ctx.login.is_none()
            && brings_login(session.req_header())
            && let Some(client) = client_connection(session)
        {
            ctx.login = Some(self.logins.begin(client, now));
        }
    }

    /// The head of an answer is there: what it says about its connection.
    pub(super) fn note_connection(&self, session: &Session, head: &ResponseHeader, ctx: &mut Ctx) {
        let Some(attempt) = &mut ctx.attempt else { return };
        let keep_alive = &attempt.in_flight.member().keep_alive;
        match attempt.usage.filter(|_| attempt.reused) {
            Some(usage) => keep_alive.worked(usage.served + 1),
            None => {
                let announced =
                    head.headers.get("keep-alive").map(|v| reuse::announced_timeout(v.as_bytes()));
                if let Some(seconds) = announced.flatten() {
                    keep_alive.announced(seconds);
                }
            }
        }
        let offers = |head: &ResponseHeader| {
            let mut challenges = head.headers.get_all(header::WWW_AUTHENTICATE).iter();
            challenges.any(|challenge| offers_connection_login(challenge.as_bytes()))
        };
        if head.status == 401
            && ctx.login.is_none()
            && offers(head)
            && let Some(client) = client_connection(session)
        {
            // The next step of the login goes out on a connection of this client's own. This one was everybody's, and
            // the server may think that the login has begun on it.
            ctx.login = Some(self.logins.begin(client, clock::ms_of(ctx.started)));
            attempt.close_at_end = true;
            if session.req_header().method == http::Method::HEAD || has_no_body(head) {
                attempt.cut();
            }
        }
    }
}

/// The pooled connection of a failed attempt had been closed, or was closed under the request.
pub(super) fn note_closed(ctx: &Ctx, failure: Failure) {
    if let Some(attempt) = &ctx.attempt
        && let Some(usage) = attempt.usage.filter(|_| attempt.reused && !attempt.answered)
        && failure == Failure::Broken
    {
        let keep_alive = &attempt.in_flight.member().keep_alive;
        keep_alive.closed(usage.idle_ms, usage.served, clock::now_ms());
    }
}

/// The request is there to its end: from now on the answer's head is due.
pub(super) fn expect_head(ctx: &mut Ctx) {
    if let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed)
        && let Some(connection) = attempt.connection.filter(|_| !attempt.answered)
    {
        let within = clock::whole_ms(routed.cluster.settings.failover.response_timeout);
        attempt.due = Some(deadline::head_due(connection, clock::now_ms().saturating_add(within)));
    }
}

/// The head is there, and the body is due. Not that of a stream of events, which may be silent for as long as nothing
/// happens, nor that of a tunnel, which has a timeout of its own.
pub(super) fn expect_body(ctx: &mut Ctx, head: &ResponseHeader, now_ms: u64) {
    let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed) else { return };
    let Some(connection) = attempt.connection else { return };
    match body_timeout(routed, head) {
        Some(timeout) => {
            attempt.body_timeout_ms = clock::whole_ms(timeout);
            let due = now_ms.saturating_add(attempt.body_timeout_ms);
            attempt.due = Some(deadline::body_due(connection, due));
        }
        None => attempt.due.take().into_iter().for_each(Due::clear),
    }
}

/// A piece of the body is on its way to the client, the last one at the `end`.
pub(super) fn body_passes(ctx: &mut Ctx, end: bool) {
    let Some(attempt) = &mut ctx.attempt else { return };
    if end && attempt.close_at_end {
        attempt.cut();
    }
    if !end
        && attempt.body_timeout_ms > 0
        && let Some(connection) = attempt.connection
    {
        let due = clock::now_ms().saturating_add(attempt.body_timeout_ms);
        attempt.due = Some(deadline::body_due(connection, due));
    }
}

fn body_timeout(routed: &Routed, head: &ResponseHeader) -> Option<Duration> {
    let timeout = routed.cluster.settings.failover.body_timeout?;
    let kind = head.headers.get(header::CONTENT_TYPE).map(|v| v.as_bytes()).unwrap_or_default();
    let is_stream = kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
    (!is_stream && head.status != 101).then_some(timeout)
}

/// Both ends of the client's connection.
fn client_connection(session: &Session) -> Option<ClientConnection> {
    ClientConnection::of(session.client_addr(), session.server_addr())
}

fn brings_login(request: &RequestHeader) -> bool {
    request.headers.get(header::AUTHORIZATION).is_some_and(|value| logs_in_the_connection(value.as_bytes()))
}

fn has_no_body(head: &ResponseHeader) -> bool {
    head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

//! The checks of a request before it has a server. Each one passes the request or returns the response.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::Version;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use super::client_info::ClientInfo;
use super::ctx::Ctx;
use super::local_reply::LocalReply;
use super::route::Routing;
use super::route_context::TargetUri;
use super::routed::Routed;
use super::{
    Proxy, acme_challenge, authority, home_mail, http_validation, keep_alive, redirect_mode, request_id,
    route,
};
use crate::config::settings::{Limits, Listener, Mode};
use crate::edge::gate::refusal;
use crate::pages::Problem;
use crate::state::Snapshot;
use crate::state::cluster_view::ConnectionKind;
use crate::telemetry::statistics::InFlightRequest;

impl Proxy {
    /// Counts the request, and decides whether its connection stays open.
    pub(super) fn begin(&self, session: &mut Session, ctx: &mut Ctx) {
        ctx.in_progress = Some(InFlightRequest::begin(&self.balancer.statistics));
        self.balancer.statistics.this_thread().commands.fetch_add(1, Relaxed);
        let keeps = !self.balancer.is_draining() && http_validation::keeps_connection(session.req_header());
        keep_alive::begin(session, keeps);
        // The edge has the timeouts of an HTTP/1 connection.
        session.set_read_timeout(None);
    }

    /// Validates the head and routes it.
    ///
    /// # Errors
    /// The response to a request that needs no server.
    pub(super) fn check_and_route(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        snapshot: &Arc<Snapshot>,
        listener: Option<&Listener>,
        client: ClientInfo,
    ) -> Result<Box<Routed>, LocalReply> {
        let limits = &snapshot.settings.limits;
        self.check_client_limits(ctx, limits)?;
        // The gate has checked every head of HTTP/1.
        if session.is_http2() {
            http_validation::check_http2(session.req_header(), limits)?;
        }
        ignore_interim_responses(session);
        let is_last_hop = http_validation::validate(session.req_header_mut())?;
        http_validation::to_origin_form(session.req_header_mut())?;
        if self.balancer.acme.may_answer_challenges() {
            acme_challenge::answer(&self.balancer.acme, session.req_header())?;
        }
        let authority = authority::of_request(session, client.tls)
            .ok_or(Problem::BadRequest(refusal::HOST_MISSING.reason))?;
        let head = session.req_header();
        let uri = TargetUri { authority: &authority, target: head.raw_path(), tls: client.tls };
        let Routing { route, result: routed } = route::route(snapshot, head, uri, client.address);
        if !client.tls
            && listener.is_some_and(|listener| listener.redirect_to_https)
            && !is_acme_challenge(&routed)
        {
            redirect_to_https(snapshot, listener, uri, &routed)?;
        }
        ctx.route = route;
        if is_last_hop && !matches!(routed, Err(LocalReply::Problem(..))) {
            return Err(LocalReply::Options);
        }
        let routed = routed?;
        let limit = routed.cluster.settings.limits.request_body;
        let length = http_validation::content_length(&head.headers);
        if limit > 0 && length.is_some_and(|length| length > limit) {
            return Err(LocalReply::Rejected(Problem::BodyTooLarge));
        }
        Ok(routed)
    }

    /// Stores the result of routing.
    ///
    /// # Errors
    /// The response of redirect mode.
    pub(super) fn accept(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        mut routed: Box<Routed>,
    ) -> Result<(), LocalReply> {
        if session.as_mut().is_upgrade_req() {
            session.set_read_timeout(Some(routed.snapshot.settings.limits.websocket_idle));
            routed.exchange = ConnectionKind::Tunnel;
        }
        self.find_login(session, ctx);
        if let Some(server) = ctx.login.and_then(|login| login.server) {
            // All steps of one login handshake go to the same server.
            routed.affinity.recent = routed.view.server_by_tag(server).or(routed.affinity.recent);
        }
        if let Some(field) = &routed.cluster.settings.headers.request_id {
            ctx.request_id = Some(request_id::of_request(session.req_header(), field));
        }
        let redirects = routed.cluster.settings.mode == Mode::Redirect;
        let routed = ctx.routed.insert(routed);
        if redirects {
            return Err(redirect_mode::reply(routed, &mut ctx.outcome, session.req_header()));
        }
        Ok(())
    }

    fn check_client_limits(&self, ctx: &mut Ctx, limits: &Limits) -> Result<(), Problem> {
        let statistics = &self.balancer.statistics.client_statistics;
        if !self.client_rate.allows(ctx.client.address, limits) {
            statistics.over_rate.fetch_add(1, Relaxed);
            return Err(Problem::TooManyRequests);
        }
        let Ok(permit) = self.in_flight.begin(ctx.client.address, limits) else {
            statistics.over_in_flight.fetch_add(1, Relaxed);
            self.in_flight.log_refused(ctx.client.address, limits);
            return Err(Problem::TooManyRequests);
        };
        ctx.client_permit = permit;
        Ok(())
    }
}

/// Answers the requests for which `icm` itself asks servers: `home_mail`, and whether a save happened.
///
/// # Errors
/// The answer, or that of the steps before.
pub(super) async fn ask_servers(
    session: &mut Session,
    ctx: &mut Ctx,
    accepted: Result<(), LocalReply>,
) -> Result<(), LocalReply> {
    match accepted {
        Ok(()) if home_mail::is_wanted(ctx) => Err(home_mail::reply(session, ctx).await),
        Err(LocalReply::SaveQuestion(question)) => Err(LocalReply::of_save(*question).await),
        accepted => accepted,
    }
}

/// HTTP/1.0 has no 1xx, but servers may send one.
fn ignore_interim_responses(session: &mut Session) {
    if session.req_header().version == Version::HTTP_10
        && let ServerSession::H1(client) = session.as_mut()
    {
        client.set_ignore_info_resp(true);
    }
}

/// Whether a folder is to answer the challenge of a certificate authority, which begins without TLS
/// (<https://www.rfc-editor.org/rfc/rfc8555#section-8.3>).
fn is_acme_challenge(routed: &Result<Box<Routed>, LocalReply>) -> bool {
    matches!(routed, Err(LocalReply::File(_, file)) if file.is_acme_challenge)
}

fn redirect_to_https(
    snapshot: &Snapshot,
    listener: Option<&Listener>,
    uri: TargetUri<'_>,
    routed: &Result<Box<Routed>, LocalReply>,
) -> Result<(), LocalReply> {
    let cluster = match routed {
        Ok(routed) => Some(&routed.cluster),
        Err(LocalReply::Problem(Problem::Misdirected, _)) => return Ok(()),
        Err(reply) => reply.cluster(),
    };
    let authority = authority::over_tls(snapshot, listener, uri.authority);
    let location = format!("https://{authority}{}", String::from_utf8_lossy(uri.target));
    Err(LocalReply::RedirectToHttps(location, cluster.cloned()))
}

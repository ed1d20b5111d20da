//! The fast path: plain requests go to a server over connections of our own, and the responses back through Pingora's
//! session. It replaces Pingora's loop (in `pingora-proxy`), which spends most of a small request's time on
//! channels, copies and its pool.
//!
//! It runs inside `proxy_upstream_filter` and takes the same steps as the loop in the same order: a server is chosen
//! (`upstream_peer`), its connection is checked (`connected_to_upstream`), the head is written
//! (`upstream_request_filter`), the response's head and body are handled (`upstream_response_filter`,
//! `response_body_filter`), and an error decides about another attempt (`fail_to_connect`, `error_while_proxy`). Each step
//! is the function that the hook of that name calls too. Requests that are not plain take Pingora's loop: tunnels,
//! `Expect`, HTTP/1.0, and bodies that are large or of unknown length.

mod exchange;
mod request_head;

use std::time::Instant;

use bytes::Bytes;
use http::{Version, header};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::server::configuration::ServerConf;
use pingora::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::{Proxy, attempt_result, http_validation, server_choice};
use crate::edge::raw_request::RawRequest;
use crate::state::cluster_view::ConnectionKind;
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::pool::ConnectionPool;
use crate::util::clock;

/// A larger body is not kept in memory. Pingora's buffer, which holds it for another attempt, is as large.
const MAX_BODY_BYTES: u64 = 64 * 1024;

/// The connections of the fast path. Pingora opens them, with the peer's options; the pool is our own.
pub(crate) struct FastPath {
    connector: TransportConnector,
    pool: std::sync::Arc<ConnectionPool>,
}

impl FastPath {
    pub fn new(conf: &ServerConf, pool: std::sync::Arc<ConnectionPool>) -> Self {
        Self { connector: TransportConnector::new(Some(ConnectorOptions::from_server_conf(conf))), pool }
    }
}

impl std::fmt::Debug for FastPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FastPath")
    }
}

/// The whole body of a plain request; `None` if Pingora's loop serves the request.
///
/// # Errors
/// The client did not send the body.
pub(super) async fn body_of_plain_request(session: &mut Session, ctx: &Ctx) -> Result<Option<Bytes>> {
    let Some(routed) = &ctx.routed else { return Ok(None) };
    let is_switched_on = routed.snapshot.settings.fast_path && routed.exchange == ConnectionKind::Request;
    // Only Pingora's loop fills the cache.
    if !is_switched_on || ctx.uses_cache() || !is_plain(session.req_header()) {
        return Ok(None);
    }
    if session.as_mut().is_body_empty() {
        return Ok(Some(Bytes::new()));
    }
    let length = http_validation::content_length(&session.req_header().headers);
    if length.is_none_or(|length| length > MAX_BODY_BYTES) {
        return Ok(None);
    }
    let client = session.as_mut();
    client.enable_retry_buffering();
    while client.read_request_body().await.map_err(Error::into_down)?.is_some() {}
    let not_kept = || Error::explain(ErrorType::InternalError, "the body of the request was not kept");
    client.get_retry_buffer().map(Some).ok_or_else(not_kept)
}

fn is_plain(head: &RequestHeader) -> bool {
    // The gate has checked the same already.
    if RawRequest::of(head).is_some() {
        return true;
    }
    let headers = &head.headers;
    matches!(head.version, Version::HTTP_11 | Version::HTTP_2)
        && !headers.contains_key(header::EXPECT)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        // Other options name fields that Pingora removes.
        && http_validation::connection_options(headers)
            .all(|option| option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive"))
}

impl Proxy {
    /// Sends a request to one server after another, as far as failover allows, and the response to the client.
    ///
    /// # Errors
    /// That of the last attempt.
    pub(super) async fn serve_on_fast_path(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        body: &Bytes,
    ) -> Result<()> {
        let max_attempts = ctx.routed.as_ref().map_or(1, |r| r.snapshot.settings.pingora.max_retries);
        let mut result = Ok(());
        for _ in 0..max_attempts {
            result = self.attempt(session, ctx, body).await;
            if !result.as_ref().is_err_and(|e| e.retry()) {
                break;
            }
        }
        result
    }

    async fn attempt(&self, session: &mut Session, ctx: &mut Ctx, body: &Bytes) -> Result<()> {
        server_choice::begin_attempt(ctx, session.req_header()).await?;
        let (mut connection, reused) = match self.take_or_connect(ctx).await {
            Ok(connection) => connection,
            Err(e) => {
                let mut e = e.into_up();
                self.connect_failed(ctx, &mut e);
                return Err(e);
            }
        };
        self.coalescer.coalesce_writes().await;
        let exchanged = match self.connected(session, ctx, reused, connection.descriptor()) {
            Ok(()) => self.exchange(session, ctx, &mut connection, body).await,
            Err(e) => Err(e),
        };
        match exchanged {
            Ok(is_reusable) => {
                let ended = Instant::now();
                ctx.ended = Some(ended);
                if let Some(attempt) = &mut ctx.attempt {
                    attempt.release_connection(clock::instant_ms(ended));
                }
                if is_reusable && let Some((key, idle_timeout)) = pool_key(ctx) {
                    self.fast_path.pool.put(key, connection, idle_timeout, clock::instant_ms(ended));
                }
                Ok(())
            }
            Err(mut e) => {
                attempt_result::decide_retry(session, ctx, &mut e);
                Err(e)
            }
        }
    }

    /// The connection that was used last, or a new one. True if it was used before.
    async fn take_or_connect(&self, ctx: &mut Ctx) -> Result<(UpstreamConnection, bool)> {
        let wants_new = ctx.takes_new_connection();
        if !wants_new
            && let Some(attempt) = &ctx.attempt
            && let Some((key, _)) = pool_key(ctx)
            && let Some(connection) = self.fast_path.pool.take(key, clock::instant_ms(attempt.started))
        {
            return Ok((connection, true));
        }
        let peer = ctx.routed.as_ref().zip(ctx.attempt.as_ref()).and_then(|(routed, attempt)| {
            routed.view.server(attempt.server)?.peer(routed.port, ConnectionKind::Request)
        });
        let Some(peer) = peer else { return Error::err(ErrorType::InternalError) };
        // Boxed: most requests need no new connection, and the future of a TLS handshake has 9 KiB.
        let stream = Box::pin(self.fast_path.connector.new_stream(peer)).await?;
        Ok((UpstreamConnection::new(stream), false))
    }
}

/// Where the connection of the attempt is pooled, and for how long. A connection with a login serves one client only.
fn pool_key(ctx: &Ctx) -> Option<(u64, std::time::Duration)> {
    let (routed, attempt) = (ctx.routed.as_ref()?, ctx.attempt.as_ref()?);
    let (key, idle_timeout) = routed.view.server(attempt.server)?.pool(routed.port)?;
    Some(match ctx.login {
        Some(login) => (key.wrapping_add(login.pool_key), routed.snapshot.settings.limits.idle_timeout),
        None => (key, idle_timeout),
    })
}

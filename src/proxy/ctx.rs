//! The state of one request, from its head to its log line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use smallvec::SmallVec;

use super::attempt::{Attempt, AttemptFailure, FailedAttempt};
use super::body_compression::BodyCompression;
use super::client_info::ClientInfo;
use super::login_limits::UserKey;
use super::routed::{Routed, TakenRoute};
use crate::domain::select::{SelectionOutcome, SelectionReason, ServerId};
use crate::edge::connection_limit::ConnectionPermit;
use crate::edge::login_connections::ConnectionLogin;
use crate::edge::pending_responses::PendingResponse;
use crate::pages::Problem;
use crate::state::Cluster;
use crate::telemetry::statistics::{CacheResult, InFlightRequest};
use crate::upstream::tunnel;

/// Pingora passes it to every hook. Dropping it ends everything that is still counted.
#[derive(Debug)]
pub struct Ctx {
    pub started: Instant,
    /// As it is logged and forwarded.
    pub client: ClientInfo,
    /// Counts the request among all in progress.
    pub in_progress: Option<InFlightRequest>,
    /// Counts the request among those of its client.
    pub client_permit: Option<ConnectionPermit>,
    /// The bytes of the response that wait for an HTTP/2 client.
    pub waiting: Option<Arc<PendingResponse>>,
    /// `None` if the request was answered before it was routed.
    pub routed: Option<Box<Routed>>,
    /// The route that the request took.
    pub route: Option<TakenRoute>,
    /// The current attempt, or the one whose response was passed on.
    pub attempt: Option<Attempt>,
    pub failover: FailoverState,
    /// The last decision of selection.
    pub outcome: Option<SelectionOutcome>,
    /// Set if the client's connection carries a login: it has its own connections to servers.
    pub login: Option<ConnectionLogin>,
    /// The user whose login this request tries; set if `limits.logins` counts it.
    pub login_user: Option<UserKey>,
    pub tunnel: Option<Arc<tunnel::TunnelConnector>>,
    /// Whether the connection that is counted for this request has TLS.
    pub outbound: Option<bool>,
    /// Bytes of the request's body that this attempt has sent.
    pub body_bytes: u64,
    /// Bytes of the response's body that came over the fast path; Pingora counts its own.
    pub response_bytes: u64,
    /// The request ID, where the cluster has them.
    pub request_id: Option<HeaderValue>,
    /// Set while the response's body is compressed for the client.
    pub compression: Option<Box<BodyCompression>>,
    /// What the cache did for a request for a cached path; `None` for all others.
    pub(super) cache: Option<CacheResult>,
    /// The cluster of a response that the proxy made itself.
    pub reply_cluster: Option<Arc<Cluster>>,
    /// The reason in the access log for such a response, unless its page says it.
    pub reply_reason: Option<&'static str>,
    /// The number of the access rule that denied the request.
    pub denied_by: Option<usize>,
    /// A `Set-Cookie` value for such a response.
    pub reply_cookie: Option<String>,
    pub problem: Option<Problem>,
    /// When the response was passed on to its end, if that is known.
    pub ended: Option<Instant>,
    /// From the head of the request to the head of the response.
    pub first_byte: Option<Duration>,
}

/// What earlier attempts of a request mean for the next one.
#[derive(Debug, Default)]
pub struct FailoverState {
    pub tried: SmallVec<[ServerId; 4]>,
    /// The failed attempts that were followed by another one.
    pub failures: SmallVec<[FailedAttempt; 2]>,
    pub last_failure: Option<AttemptFailure>,
    /// The server of the next attempt, if it is chosen already.
    pub next: Option<(ServerId, SelectionReason)>,
    /// The next attempt at this server opens a new connection: those in the pool may be as old as the one that broke.
    pub retry_on_new_connection: Option<ServerId>,
    /// Pooled connections that could not be used for this request.
    pub unfit_connections: u32,
    /// Attempts so far; failed connects do not count.
    pub attempts: u32,
    pub timeout_retried: bool,
    /// Whether a 404 of a supposed holder was followed by another attempt.
    pub not_found_retried: bool,
}

impl Ctx {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            client: ClientInfo::default(),
            in_progress: None,
            client_permit: None,
            waiting: None,
            routed: None,
            route: None,
            attempt: None,
            failover: FailoverState::default(),
            outcome: None,
            login: None,
            login_user: None,
            tunnel: None,
            outbound: None,
            body_bytes: 0,
            response_bytes: 0,
            request_id: None,
            compression: None,
            cache: None,
            reply_cluster: None,
            reply_reason: None,
            denied_by: None,
            reply_cookie: None,
            problem: None,
            ended: None,
            first_byte: None,
        }
    }

    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.routed.as_ref().map(|routed| &routed.cluster).or(self.reply_cluster.as_ref())
    }

    /// Whether the response may be kept for other users, or comes from the cache.
    pub fn uses_cache(&self) -> bool {
        self.cache.is_some_and(|result| result != CacheResult::Bypass)
    }

    /// Whether this attempt needs a new connection. False the next time.
    pub fn takes_new_connection(&mut self) -> bool {
        let server = self.attempt.as_ref().map(|attempt| attempt.server);
        self.failover.retry_on_new_connection.take_if(|wanted| Some(*wanted) == server).is_some()
    }

    /// Ends the current attempt, so that its server is free for another request.
    pub fn end_attempt(&mut self) -> Option<ServerId> {
        if let (Some(tls), Some(progress)) = (self.outbound.take(), &self.in_progress) {
            progress.statistics().outbound.end(tls);
        }
        let attempt = self.attempt.take()?;
        let capped = attempt.in_flight.server().snapshot().max_connections > 0;
        let server = attempt.server;
        drop(attempt);
        if let Some(routed) = &self.routed
            && (capped || routed.cluster.selection_policy.max_in_flight > 0)
        {
            // All waiting requests: the first of them may not be able to use this server.
            routed.cluster.persistent_state.slot_freed.notify_waiters();
        }
        Some(server)
    }
}

impl Default for Ctx {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        self.end_attempt();
    }
}

//! The state of one request, from its head to its log line. Dropping it ends everything that is still counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::attempt::{Attempt, AttemptFailure};
use super::routed::Routed;
use crate::domain::select::{SelectionOutcome, SelectionReason, ServerId};
use crate::edge::connection_limit::ConnectionPermit;
use crate::edge::login_connections::ConnectionLogin;
use crate::edge::pending_responses::PendingResponse;
use crate::pages::Problem;
use crate::state::Cluster;
use crate::telemetry::statistics::InFlightRequest;
use crate::upstream::tunnel;

/// The state of one request, which Pingora hands to every hook.
#[derive(Debug)]
pub struct Ctx {
    /// When the head was read.
    pub started: Instant,
    /// As logged and forwarded.
    pub client: Option<IpAddr>,
    /// Counts the request among all in progress.
    pub in_progress: Option<InFlightRequest>,
    /// Counts the request among those of its client.
    pub client_permit: Option<ConnectionPermit>,
    /// The bytes of the response that wait for an HTTP/2 client.
    pub waiting: Option<Arc<PendingResponse>>,
    /// `None` where the request was answered before it was routed.
    pub routed: Option<Box<Routed>>,
    /// The attempt under way, or the one whose response was passed on.
    pub attempt: Option<Attempt>,
    /// What earlier attempts mean for the next one.
    pub failover: FailoverState,
    /// What selection last decided.
    pub outcome: Option<SelectionOutcome>,
    /// The client's connection carries a login, and has connections to servers of its own.
    pub login: Option<ConnectionLogin>,
    /// The connection of a tunnel.
    pub tunnel: Option<Arc<tunnel::TunnelConnector>>,
    /// A connection to a server is counted for this request; `true` = with TLS.
    pub outbound: Option<bool>,
    /// Bytes of the request's body that were passed on in this attempt.
    pub body_bytes: u64,
    /// The cluster in whose name the proxy itself answered.
    pub reply_cluster: Option<Arc<Cluster>>,
    /// The access log's reason for a response of the proxy itself that is not an error.
    pub reply_reason: Option<&'static str>,
    /// The error page that is the response.
    pub problem: Option<Problem>,
    /// From the head of the request to the head of the response.
    pub first_byte: Option<Duration>,
}

/// What earlier attempts of a request mean for the next one.
#[derive(Debug, Default)]
pub struct FailoverState {
    /// Servers that this request does not go to again.
    pub tried: SmallVec<[ServerId; 4]>,
    /// The failed attempts that were followed by another one.
    pub failures: SmallVec<[(ServerId, AttemptFailure); 2]>,
    /// The failure of the last attempt.
    pub last_failure: Option<AttemptFailure>,
    /// The server of the next attempt, where it is chosen already.
    pub next: Option<(ServerId, SelectionReason)>,
    /// The server whose pooled connection broke: the next attempt opens a new one, as others in the pool may be as old.
    pub retry_on_new_connection: Option<ServerId>,
    /// Pooled connections that could not be used for this request.
    pub unfit_connections: u32,
    /// Attempts so far; failed connects do not count.
    pub attempts: u32,
    /// A timeout was followed by another attempt.
    pub timeout_retried: bool,
    /// The 404 of a supposed holder was followed by another attempt.
    pub not_found_retried: bool,
}

impl Ctx {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            client: None,
            in_progress: None,
            client_permit: None,
            waiting: None,
            routed: None,
            attempt: None,
            failover: FailoverState::default(),
            outcome: None,
            login: None,
            tunnel: None,
            outbound: None,
            body_bytes: 0,
            reply_cluster: None,
            reply_reason: None,
            problem: None,
            first_byte: None,
        }
    }

    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.routed.as_ref().map(|routed| &routed.cluster).or(self.reply_cluster.as_ref())
    }

    /// Ends the current attempt, so that its server is free for another request.
    pub fn end_attempt(&mut self) -> Option<ServerId> {
        if let (Some(tls), Some(progress)) = (self.outbound.take(), &self.in_progress) {
            progress.statistics().outbound.end(tls);
        }
        let attempt = self.attempt.take()?;
        let capped = attempt.in_flight.server().snapshot().max_connections > 0;
        let member = attempt.member;
        drop(attempt);
        if let Some(routed) = &self.routed
            && (capped || routed.cluster.selection_policy.max_in_flight > 0)
        {
            // All that wait: the first of them may not be able to use this server.
            routed.cluster.persistent_state.slot_freed.notify_waiters();
        }
        Some(member)
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

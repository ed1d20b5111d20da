//! What a request that has ended adds to the statistics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use pingora::{Error, ErrorSource};
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::{Proxy, log_record, rehearsal};
use crate::config::settings::Mode;
use crate::domain::select::{SelectionOutcome, SelectionReason};
use crate::telemetry::statistics::CacheResult;

/// Counts a request that a server of another site got, or to which redirect mode sent the browser.
fn count_crossing(ctx: &Ctx) {
    let Some(routed) = ctx.routed.as_ref().filter(|routed| routed.view.has_other_sites) else { return };
    let server = match (&ctx.attempt, ctx.outcome) {
        (Some(attempt), _) => attempt.server,
        (None, Some(SelectionOutcome::Serve(server, _)))
            if routed.cluster.settings.mode == Mode::Redirect =>
        {
            server
        }
        _ => return,
    };
    if routed.view.is_of_other_site(server) {
        routed.cluster.persistent_state.traffic.record_site_crossing();
    }
}

impl Proxy {
    /// Counts how a request ended.
    pub(super) fn count_end(&self, e: Option<&Error>, ctx: &Ctx) {
        let here = self.balancer.statistics.this_thread();
        if let Some(result) = ctx.cache {
            here.cache.of(result).fetch_add(1, Relaxed);
        }
        if ctx.cache.is_some_and(CacheResult::needs_no_server) {
            here.successful.fetch_add(1, Relaxed);
        } else if ctx.routed.is_some() {
            self.count_outcome(ctx.outcome);
            count_crossing(ctx);
        }
        if e.is_some_and(|e| *e.esource() == ErrorSource::Downstream) && ctx.problem.is_none() {
            here.receive_errors.fetch_add(1, Relaxed);
        }
        if let Some(compression) = &ctx.compression {
            compression.count(here);
        }
    }

    pub(super) fn count_traffic(&self, session: &Session, e: Option<&Error>, ctx: &Ctx, total: Duration) {
        if let Some(taken) = &ctx.route
            && let Some(requests) = taken.cluster.route_requests.get(taken.route.number)
        {
            requests.count();
        }
        let statistics = &self.balancer.statistics;
        let traffic = ctx.cluster().map_or(&statistics.unrouted, |cluster| &cluster.persistent_state.traffic);
        let status = log_record::status(session, e);
        traffic.record_request(status, total);
        rehearsal::count(&self.balancer, ctx, status, e);
        let here = statistics.this_thread();
        // Most requests have no body, and an atomic addition costs more than the comparison.
        let add = |counter: &AtomicU64, bytes: u64| {
            if bytes > 0 {
                counter.fetch_add(bytes, Relaxed);
            }
        };
        add(&here.client_received, session.body_bytes_read() as u64);
        add(&here.client_sent, session.body_bytes_sent() as u64);
        add(&here.server_received, session.upstream_body_bytes_received() as u64 + ctx.response_bytes);
        add(&here.server_sent, ctx.body_bytes);
    }

    /// Adds the outcome to the counters of the classic ICM. `None`: no cluster or database was found for the URL.
    pub(super) fn count_outcome(&self, outcome: Option<SelectionOutcome>) {
        let statistics = self.balancer.statistics.this_thread();
        match outcome {
            Some(SelectionOutcome::Serve(_, why)) => {
                statistics.successful.fetch_add(1, Relaxed);
                if why == SelectionReason::SetAside {
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

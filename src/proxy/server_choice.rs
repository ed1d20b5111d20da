//! Chooses a server and begins the attempt there. Waits if every eligible server is at its in-flight limit.

use std::time::Instant;

use pingora::{Error, ErrorType, Result};
use pingora_http::RequestHeader;

use super::attempt::Attempt;
use super::ctx::Ctx;
use super::{error_mapping, failover, own_write, rehearsal, write_cookie};
use crate::domain::cluster::InFlight;
use crate::domain::select::{SelectionOutcome, SelectionReason, ServerId};
use crate::pages::Problem;
use crate::state::cluster_view::ConnectionKind;
use crate::util::clock;

/// Begins an attempt at the server that selection chooses.
///
/// # Errors
/// 503 if there is no server, or if the user must be told first that its replica is older.
pub(super) async fn begin_attempt(ctx: &mut Ctx, request: &RequestHeader) -> Result<()> {
    let chosen = choose(ctx).await;
    if let Some((server, ..)) = &chosen {
        rehearsal::note_choice(ctx, *server);
    }
    let Some(routed) = &ctx.routed else { return Error::err(ErrorType::InternalError) };
    let Some((server, why, mut in_flight, at)) = chosen else {
        ctx.problem = Some(error_mapping::problem_of(ctx.outcome, routed, request.raw_path()));
        return Error::err(ErrorType::HTTPStatus(503));
    };
    if let Some(page) = own_write::page(routed, request, server, &ctx.failover.tried) {
        ctx.reply_cookie = write_cookie::told(routed);
        ctx.problem = Some(page);
        return Error::err(ErrorType::HTTPStatus(503));
    }
    let Some(entry) = routed.view.server(server).filter(|entry| entry.address(routed.port).is_some()) else {
        ctx.problem = Some(Problem::NoServer);
        return Error::err(ErrorType::HTTPStatus(503));
    };
    if routed.exchange == ConnectionKind::Tunnel {
        in_flight.mark_as_tunnel();
    }
    let holder = routed.replica_on(server);
    let replace_path = holder.is_some_and(|holder| routed.replaces_path(&holder, request.raw_path()));
    ctx.outcome = Some(SelectionOutcome::Serve(server, why));
    ctx.failover.attempts += 1;
    ctx.failover.last_failure = None;
    ctx.body_bytes = 0;
    ctx.attempt = Some(Attempt {
        server,
        in_flight,
        why,
        state: entry.server.state(),
        index: entry.server.index(),
        holder: holder.map(|holder| holder.server),
        replace_path,
        started: at,
        reused: false,
        connection: None,
        usage: None,
        body_timeout_ms: 0,
        due: None,
        close_at_end: false,
        answered: false,
    });
    Ok(())
}

/// Chooses a server and counts the request there. Returns when that was.
async fn choose(ctx: &mut Ctx) -> Option<(ServerId, SelectionReason, InFlight, Instant)> {
    let routed = ctx.routed.as_ref()?;
    let mut until = None;
    loop {
        // Created before the decision, so that a request that ends meanwhile is not missed.
        let slot_freed = routed.cluster.persistent_state.slot_freed.notified();
        let at = Instant::now();
        let outcome = match ctx.failover.next.take() {
            Some((server, why)) => SelectionOutcome::Serve(server, why),
            None => failover::decide_at(routed, &ctx.failover.tried, clock::instant_ms(at)).outcome,
        };
        ctx.outcome = Some(outcome);
        match outcome {
            SelectionOutcome::Serve(server, why) => {
                let entry = routed.view.server(server)?;
                let cap =
                    routed.cluster.selection_policy.in_flight_limit(entry.server.snapshot().max_connections);
                // Another request may have reached the limit meanwhile: then selection decides again.
                if let Some(in_flight) = entry.server.begin(cap) {
                    return Some((server, why, in_flight, at));
                }
            }
            SelectionOutcome::Full => {
                let timeout = routed.cluster.settings.limits.queue_timeout;
                let until = *until.get_or_insert_with(|| tokio::time::Instant::now() + timeout);
                if tokio::time::timeout_at(until, slot_freed).await.is_err() {
                    return None;
                }
            }
            _ => return None,
        }
    }
}

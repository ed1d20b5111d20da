//! The deadlines of a response: for its head, and for each part of its body.

use http::StatusCode;

use super::ctx::Ctx;
use super::response_headers::MediaType;
use crate::upstream::deadline::{self, ResponseDeadline};
use crate::util::clock;

/// Sets the deadline of the head, once the request was sent to its end.
pub(super) fn expect_head(ctx: &mut Ctx) {
    if let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed)
        && let Some(connection) = attempt.connection.filter(|_| !attempt.answered)
    {
        let within = clock::saturating_millis(routed.response_timeout());
        attempt.due = Some(deadline::set_head_deadline(connection, clock::now_ms().saturating_add(within)));
    }
}

/// Sets the deadline of the body, once the head is there. Event streams may pause without limit, and tunnels have a
/// timeout of their own.
pub(super) fn expect_body(ctx: &mut Ctx, status: StatusCode, media_type: Option<MediaType>, now_ms: u64) {
    let (Some(attempt), Some(routed)) = (&mut ctx.attempt, &ctx.routed) else { return };
    let Some(connection) = attempt.connection else { return };
    let has_deadline = media_type != Some(MediaType::EventStream) && status != 101;
    match routed.body_timeout().filter(|_| has_deadline) {
        Some(timeout) => {
            attempt.body_timeout_ms = clock::saturating_millis(timeout);
            let due = now_ms.saturating_add(attempt.body_timeout_ms);
            attempt.due = Some(deadline::set_body_deadline(connection, due));
        }
        None => attempt.due.take().into_iter().for_each(ResponseDeadline::clear),
    }
}

/// Renews the deadline when a part of the body has arrived.
pub(super) fn body_passes(ctx: &mut Ctx, end: bool) {
    let Some(attempt) = &mut ctx.attempt else { return };
    if end && attempt.close_at_end {
        attempt.shut_down();
    }
    if !end
        && attempt.body_timeout_ms > 0
        && let Some(connection) = attempt.connection
    {
        let due = clock::now_ms().saturating_add(attempt.body_timeout_ms);
        attempt.due = Some(deadline::set_body_deadline(connection, due));
    }
}

//! What happens to every piece of a request's body on its way through Pingora's loop: it is counted and limited. The fast path
//! has the whole body before it begins.

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};

use super::ctx::Ctx;
use super::response_deadline;
use crate::pages::Problem;

/// Handles a piece before it is sent to the server.
///
/// # Errors
/// 413 if the body is larger than the cluster allows.
pub(super) fn piece_passes(body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    // An empty last chunk from an HTTP/2 client would end a chunked body twice
    // (<https://github.com/cloudflare/pingora/issues/935>).
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    let Some(routed) = &ctx.routed else { return Ok(()) };
    ctx.body_bytes += body.as_ref().map_or(0, |body| body.len() as u64);
    let limit = routed.cluster.settings.limits.request_body;
    if limit > 0 && ctx.body_bytes > limit {
        ctx.problem = Some(Problem::BodyTooLarge);
        let mut e = Error::new(ErrorType::HTTPStatus(413));
        e.as_down();
        return Err(e);
    }
    if end {
        response_deadline::expect_head(ctx);
    }
    Ok(())
}

//! What every piece of a response's body renews: the deadline of the server, and the count of the bytes that wait for an
//! HTTP/2 client.

use bytes::Bytes;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::response_deadline;
use crate::edge::pending_responses;

/// Notes a piece before it is written to the client. The edge limits the bytes that wait for HTTP/2 clients, so it has to
/// know of them.
pub(super) fn piece_passes(session: &Session, body: &mut Option<Bytes>, end: bool, ctx: &mut Ctx) {
    response_deadline::body_passes(ctx, end);
    if session.is_http2()
        && let Some(body) = body
    {
        *body = pending_responses::track_chunk(&mut ctx.waiting, std::mem::take(body));
    }
}

//! What happens to every piece of a response's body: it renews the deadline of the server, is compressed, and counts among
//! the bytes that wait for an HTTP/2 client.

use bytes::Bytes;
use pingora::Result;
use pingora_proxy::Session;

use super::ctx::Ctx;
use super::response_deadline;
use crate::edge::pending_responses;

/// When compressed bytes come out of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// With every piece: nothing tells when the server pauses.
    EachPiece,
    /// With [`flush`], which the caller calls when it waits for the server.
    AtPause,
}

/// Handles a piece before it is written to the client. An encoder may keep a piece; `body` is `None` then. The edge limits
/// the bytes that wait for HTTP/2 clients, so it has to know of them.
///
/// # Errors
/// The piece cannot be compressed.
pub(super) fn piece_passes(
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    flush: Flush,
    ctx: &mut Ctx,
) -> Result<()> {
    response_deadline::body_passes(ctx, end);
    if let Some(compression) = &mut ctx.compression {
        compression.pass(body, end, flush == Flush::EachPiece)?;
    }
    track(session, body, ctx);
    Ok(())
}

/// The rest of the pieces that have passed, when the server pauses: a part that an agent has written must not wait for the
/// next one. `None` if nothing is left.
///
/// # Errors
/// The piece cannot be compressed.
pub(super) fn flush(session: &Session, ctx: &mut Ctx) -> Result<Option<Bytes>> {
    let Some(compression) = &mut ctx.compression else { return Ok(None) };
    let mut rest = compression.flush()?;
    track(session, &mut rest, ctx);
    Ok(rest)
}

fn track(session: &Session, body: &mut Option<Bytes>, ctx: &mut Ctx) {
    if session.is_http2()
        && let Some(body) = body
    {
        *body = pending_responses::track_chunk(&mut ctx.waiting, std::mem::take(body));
    }
}

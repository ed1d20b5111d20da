//! Whether a client's connection carries another request. Pingora's `set_keepalive` does nothing for the sessions of plain
//! requests, so this is the one place that decides it for both.

use pingora_proxy::Session;

use crate::edge::raw_request::RawRequest;

/// Decides it when a request begins.
pub(super) fn begin(session: &mut Session, keeps_connection: bool) {
    if keeps_connection {
        // 0: no limit, because the edge has the timeout of an idle connection.
        session.set_keepalive(Some(0));
    } else {
        close_after_response(session);
    }
}

/// Closes the client's connection after this response.
pub(super) fn close_after_response(session: &mut Session) {
    session.set_keepalive(None);
    if let Some(raw) = RawRequest::of(session.req_header()) {
        raw.close_after_response();
    }
}

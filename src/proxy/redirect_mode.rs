//! Redirect mode, as in the classic ICM: the response sends the browser to the chosen server.

use http::Method;
use http::uri::Scheme;
use pingora_http::RequestHeader;

use super::local_reply::LocalReply;
use super::routed::Routed;
use super::{error_mapping, failover};
use crate::domain::cluster::Port;
use crate::domain::directory::db_path;
use crate::domain::rewrite;
use crate::domain::select::{SelectionOutcome, ServerId};
use crate::pages::Problem;

/// The redirect, or the error page if no server can be chosen.
pub(super) fn reply(
    routed: &Routed,
    outcome: &mut Option<SelectionOutcome>,
    request: &RequestHeader,
) -> LocalReply {
    let target = request.raw_path();
    // Nothing is in flight in redirect mode, so no server is full.
    let chosen = failover::decide(routed, &[]).outcome;
    *outcome = Some(chosen);
    let SelectionOutcome::Serve(server, _) = chosen else {
        return LocalReply::Problem(error_mapping::problem_of(Some(chosen), routed, target), None);
    };
    let status = if matches!(request.method, Method::GET | Method::HEAD) { 302 } else { 307 };
    match rewrite_location(routed, server, target) {
        Some(location) => LocalReply::RedirectToServer { status, location },
        None => LocalReply::Problem(Problem::NoServer, None),
    }
}

fn rewrite_location(routed: &Routed, server: ServerId, target: &[u8]) -> Option<String> {
    let entry = routed.view.server(server)?;
    let port = entry.host_port(routed.port)?.port;
    let scheme = match routed.port {
        Port::Http => Scheme::HTTP,
        Port::Https => Scheme::HTTPS,
    };
    let path = routed
        .replica_on(server)
        .filter(|holder| routed.replaces_path(holder, target))
        .map(|holder| db_path::percent_encode_path(holder.path()).into_owned());
    // The range leaves out the leading slash, which belongs to the path of the location.
    let range = &routed.database.range;
    let with_slash = path.map(|path| (range.start.saturating_sub(1)..range.end, format!("/{path}")));
    let server_path = with_slash.as_ref().map(|(range, path)| (range.clone(), path.as_str()));
    Some(rewrite::redirect_location(&scheme, &entry.config.hostname, port, server_path, target))
}

//! `POST /servers/{name}/restrict` and `release`: all that changes anything.
//!
//! In: a server's name, common or whole. Out: what came of it for every cluster that has such a server.

use http::StatusCode;
use serde_json::json;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::state::restrictions;

/// Takes a server out for new users.
pub(super) fn restrict(request: &AdminRequest) -> AdminReply {
    let peer = request.peer.map_or_else(String::new, |peer| peer.to_string());
    set_restricted(request, Some(format!("an administrator at {peer}")))
}

/// Takes an administrator's restriction back.
pub(super) fn release(request: &AdminRequest) -> AdminReply {
    set_restricted(request, None)
}

fn set_restricted(request: &AdminRequest, by: Option<String>) -> AdminReply {
    match restrictions::set_restricted(&request.balancer, &request.name, by.as_deref()) {
        Ok(outcomes) if outcomes.is_empty() => AdminReply::unknown_server(&request.name),
        Ok(outcomes) => AdminReply::json(&json!({ "servers": outcomes })),
        Err(error) => {
            log::error!(target: "icm::admin", "{error}");
            let message = format!("done, but not kept over a restart: {error}");
            AdminReply::error(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", message)
        }
    }
}

//! `POST /servers/{name}/restrict` and `release`, by common or full server name, in every cluster that has the server.

use http::StatusCode;
use serde_json::json;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::state::restrictions;

pub(super) fn restrict(request: &AdminRequest) -> AdminReply {
    let peer = request.peer.map_or_else(String::new, |peer| peer.to_string());
    set_restricted(request, Some(format!("an administrator at {peer}")))
}

pub(super) fn release(request: &AdminRequest) -> AdminReply {
    set_restricted(request, None)
}

fn set_restricted(request: &AdminRequest, by: Option<String>) -> AdminReply {
    match restrictions::set_restricted(&request.balancer, &request.name, by.as_deref()) {
        Ok(outcomes) if outcomes.is_empty() => AdminReply::unknown_server(&request.name),
        Ok(outcomes) => AdminReply::json(&json!({ "servers": outcomes })),
        Err(error) => {
            log::error!(target: "icm::admin", "{error}");
            let message = format!("applied, but could not be saved: {error}");
            AdminReply::error(StatusCode::INTERNAL_SERVER_ERROR, "not_saved", message)
        }
    }
}

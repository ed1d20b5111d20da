//! `POST /servers/{name}/restrict`, `release` and `release?now=1`, by common or full server name, in every cluster that has the server.

use http::StatusCode;
use serde_json::json;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::state::release_gate::release_gates;
use crate::state::restrictions::{self, RestrictionOutcome};
use crate::state::state_file::StateFileError;

pub(super) fn restrict(request: &AdminRequest) -> AdminReply {
    let peer = request.peer.map_or_else(String::new, |peer| peer.to_string());
    set_restricted(request, Some(format!("an administrator at {peer}")))
}

pub(super) fn release(request: &AdminRequest) -> AdminReply {
    match request.query_value("now").as_deref() {
        None => set_restricted(request, None),
        Some("1" | "") => reply(request, release_gates(&request.balancer, &request.name)),
        Some(_) => AdminReply::bad_query("`now` must be 1: /servers/Web1/release?now=1"),
    }
}

fn set_restricted(request: &AdminRequest, by: Option<String>) -> AdminReply {
    reply(request, restrictions::set_restricted(&request.balancer, &request.name, by.as_deref()))
}

fn reply(request: &AdminRequest, result: Result<Vec<RestrictionOutcome>, StateFileError>) -> AdminReply {
    match result {
        Ok(outcomes) if outcomes.is_empty() => AdminReply::unknown_server(&request.name),
        Ok(outcomes) => AdminReply::json(&json!({ "servers": outcomes })),
        Err(error) => {
            log::error!(target: "icm::admin", "{error}");
            let message = format!("applied, but could not be saved: {error}");
            AdminReply::error(StatusCode::INTERNAL_SERVER_ERROR, "not_saved", message)
        }
    }
}

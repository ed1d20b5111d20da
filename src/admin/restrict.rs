//! `POST /servers/{name}/restrict`, `release` and `release?now=1`, by common or full server name, in every cluster that has the server.

use http::StatusCode;
use serde_json::json;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::state::release_gate::release_gates;
use crate::state::restrictions::{self, RestrictionOrder, RestrictionOutcome};
use crate::state::state_file::StateFileError;
use crate::util::control_chars;

/// Long enough for a sentence on the status page.
const MAX_BY_CHARS: usize = 200;

/// Answers `POST /servers/{name}/restrict`, with `?by=TEXT` and `&closed=1` to let nobody return.
pub(super) fn restrict(request: &AdminRequest) -> AdminReply {
    let closed = match request.query_value("closed").as_deref() {
        None => false,
        Some("1" | "") => true,
        Some(_) => return AdminReply::bad_query("`closed` must be 1: /servers/Web1/restrict?closed=1"),
    };
    match by(request) {
        Ok(by) => set_restricted(request, Some(&RestrictionOrder { by, closed })),
        Err(error_reply) => error_reply,
    }
}

/// Who gives an order: the text of `?by=`, else the address.
///
/// # Errors
/// 400 for a text that is too long.
pub(super) fn by(request: &AdminRequest) -> Result<String, AdminReply> {
    match request.query_value("by").filter(|by| !by.trim().is_empty()) {
        Some(by) if by.chars().count() > MAX_BY_CHARS => {
            Err(AdminReply::bad_query(format!("`by` must have at most {MAX_BY_CHARS} characters")))
        }
        // It appears in the log and on the status page.
        Some(by) => Ok(control_chars::escape_all(by.trim()).into_owned()),
        None => {
            let peer = request.peer.map_or_else(String::new, |peer| peer.to_string());
            Ok(format!("an administrator at {peer}"))
        }
    }
}

pub(super) fn release(request: &AdminRequest) -> AdminReply {
    match request.query_value("now").as_deref() {
        None => set_restricted(request, None),
        Some("1" | "") => reply(request, release_gates(&request.balancer, &request.name)),
        Some(_) => AdminReply::bad_query("`now` must be 1: /servers/Web1/release?now=1"),
    }
}

fn set_restricted(request: &AdminRequest, order: Option<&RestrictionOrder>) -> AdminReply {
    reply(request, restrictions::set_restricted(&request.balancer, &request.name, order))
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

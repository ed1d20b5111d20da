//! `POST /servers/{name}/restrict` and `release`, by common or full server name, in every cluster that has the server.

use http::StatusCode;
use serde_json::json;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::state::restrictions::{self, RestrictionOrder};
use crate::util::control_chars;

/// Long enough for a sentence on the status page.
const MAX_BY_CHARS: usize = 200;

/// Answers `POST /servers/{name}/restrict?by=&closed=`.
pub(super) fn restrict(request: &AdminRequest) -> AdminReply {
    let closed = match request.query_value("closed").as_deref() {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(_) => return AdminReply::bad_query("`closed` must be true or false"),
    };
    let by = match request.query_value("by").filter(|by| !by.trim().is_empty()) {
        Some(by) if by.chars().count() > MAX_BY_CHARS => {
            return AdminReply::bad_query(format!("`by` must have at most {MAX_BY_CHARS} characters"));
        }
        // It appears in the log and on the status page.
        Some(by) => control_chars::escape_all(by.trim()).into_owned(),
        None => {
            let peer = request.peer.map_or_else(String::new, |peer| peer.to_string());
            format!("an administrator at {peer}")
        }
    };
    set_restricted(request, Some(&RestrictionOrder { by, closed }))
}

pub(super) fn release(request: &AdminRequest) -> AdminReply {
    set_restricted(request, None)
}

fn set_restricted(request: &AdminRequest, order: Option<&RestrictionOrder>) -> AdminReply {
    match restrictions::set_restricted(&request.balancer, &request.name, order) {
        Ok(outcomes) if outcomes.is_empty() => AdminReply::unknown_server(&request.name),
        Ok(outcomes) => AdminReply::json(&json!({ "servers": outcomes })),
        Err(error) => {
            log::error!(target: "icm::admin", "{error}");
            let message = format!("applied, but could not be saved: {error}");
            AdminReply::error(StatusCode::INTERNAL_SERVER_ERROR, "not_saved", message)
        }
    }
}

//! `POST /servers/{name}/restrict` and `release`: all that changes anything.
//!
//! In: a server's name, common or whole. Out: what came of it for every cluster that has such a server.

use http::StatusCode;
use serde_json::json;

use super::Call;
use super::reply::Reply;
use crate::state::restrictions;

/// Takes a server out for new users.
pub(super) fn restrict(call: &Call) -> Reply {
    let peer = call.peer.map_or_else(String::new, |peer| peer.to_string());
    set(call, Some(format!("an administrator at {peer}")))
}

/// Takes an administrator's restriction back.
pub(super) fn release(call: &Call) -> Reply {
    set(call, None)
}

fn set(call: &Call, by: Option<String>) -> Reply {
    match restrictions::set(&call.balancer, &call.name, by.as_deref()) {
        Ok(outcomes) if outcomes.is_empty() => Reply::unknown_server(&call.name),
        Ok(outcomes) => Reply::json(&json!({ "servers": outcomes })),
        Err(error) => {
            log::error!(target: "icm::admin", "{error}");
            let message = format!("done, but not kept over a restart: {error}");
            Reply::problem(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", message)
        }
    }
}

//! `GET /rehearsal`, `POST /rehearsal?down=Web1&users=5&for=10m` and `POST /rehearsal/stop`: a failover of one server for a
//! share of the users.

use http::StatusCode;
use serde_json::json;

use super::AdminRequest;
use super::reply::AdminReply;
use super::restrict;
use crate::domain::rehearsal::RehearsalEnd;
use crate::state::rehearsal::RunningRehearsal;
use crate::state::rehearsal_control::{self, RehearsalOrder, RehearsalRefusal};

const USAGE: &str = "name the server, the share and the time: /rehearsal?down=Web1&users=5&for=10m";

/// The one that runs, or the last one of this process.
pub(super) fn show(request: &AdminRequest) -> AdminReply {
    reply(request.balancer.rehearsals.last().as_deref())
}

pub(super) fn start(request: &AdminRequest) -> AdminReply {
    let order = match order(request) {
        Ok(order) => order,
        Err(error_reply) => return error_reply,
    };
    match rehearsal_control::start(&request.balancer, &order) {
        Ok(rehearsal) => reply(Some(&rehearsal)),
        Err(refusal) => {
            let status = match refusal {
                RehearsalRefusal::Share | RehearsalRefusal::Duration => StatusCode::BAD_REQUEST,
                RehearsalRefusal::UnknownServer(_) => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            };
            AdminReply::error(status, refusal.code(), refusal.to_string())
        }
    }
}

pub(super) fn stop(request: &AdminRequest) -> AdminReply {
    let by = match restrict::by(request) {
        Ok(by) => by,
        Err(error_reply) => return error_reply,
    };
    match rehearsal_control::end_running(&request.balancer, RehearsalEnd::Stopped, &format!("by {by}")) {
        Some(rehearsal) => reply(Some(&rehearsal)),
        None => AdminReply::error(StatusCode::CONFLICT, "no_rehearsal", "no rehearsal is under way"),
    }
}

fn reply(rehearsal: Option<&RunningRehearsal>) -> AdminReply {
    AdminReply::json(&json!({ "rehearsal": rehearsal.map(RunningRehearsal::report) }))
}

fn order(request: &AdminRequest) -> Result<RehearsalOrder, AdminReply> {
    let text = |name: &str| request.query_value(name).filter(|text| !text.is_empty());
    let (Some(server), Some(users), Some(duration)) = (text("down"), text("users"), text("for")) else {
        return Err(AdminReply::bad_query(USAGE));
    };
    let users_percent = users
        .trim_end_matches('%')
        .trim()
        .parse()
        .map_err(|_| AdminReply::bad_query("`users` must be a percentage: 5 or 0.5"))?;
    let duration = humantime::parse_duration(&duration)
        .map_err(|_| AdminReply::bad_query("`for` must be a duration: 30s, 10m, 1h"))?;
    let id = text("id").map(|id| u32::from_str_radix(&id, 16)).transpose();
    let id = id.map_err(|_| AdminReply::bad_query("`id` must be eight hexadecimal digits"))?;
    let by = restrict::by(request)?;
    Ok(RehearsalOrder { server, cluster: text("cluster"), users_percent, duration, id, by })
}

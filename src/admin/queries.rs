//! The read-only handlers behind the command line: audit, simulation, drain progress, events, statistics.

use serde_json::{Map, Value, json};
use tokio::runtime::Handle;

use super::AdminRequest;
use super::reply::AdminReply;
use crate::admin::metrics::domino::{self, StatisticValue};
use crate::insight::audit::audit;
use crate::insight::exposure;
use crate::insight::simulate::{SimulatedChanges, simulate};
use crate::state::drain;

/// The number of examples in each list without `limit`.
pub const DEFAULT_EXAMPLES: usize = 10;

/// Answers `GET /audit?limit=` with all findings. Asks every server what Anonymous may read, for 3 s at most.
pub(super) fn audit_report(request: &AdminRequest) -> AdminReply {
    match example_limit(request) {
        Ok(limit) => {
            let exposures = Handle::current().block_on(exposure::ask_all(&request.snapshot));
            AdminReply::json(&audit(&request.snapshot, limit, Some(&exposures)))
        }
        Err(error_reply) => error_reply,
    }
}

/// Answers `GET /simulate?down=Web1,Web2&restricted=&busy=&catching_up=&limit=` with a simulation.
pub(super) fn simulation(request: &AdminRequest) -> AdminReply {
    let limit = match example_limit(request) {
        Ok(limit) => limit,
        Err(error_reply) => return error_reply,
    };
    let names = |name: &str| -> Vec<String> {
        let text = request.query_value(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect()
    };
    let changes = SimulatedChanges {
        down: names("down"),
        restricted: names("restricted"),
        busy: names("busy"),
        catching_up: names("catching_up"),
    };
    let result = simulate(&request.snapshot, &changes, limit);
    if result.unknown.is_empty() {
        AdminReply::json(&result)
    } else {
        AdminReply::unknown_server(&result.unknown.join(", "))
    }
}

/// Answers `GET /servers/{name}/drain`; with `?limit=` also the databases that only this server can serve.
pub(super) fn drain_progress(request: &AdminRequest) -> AdminReply {
    let wants_databases = request.query_value("limit").is_some_and(|text| !text.is_empty());
    let limit = match example_limit(request) {
        Ok(limit) => wants_databases.then_some(limit),
        Err(error_reply) => return error_reply,
    };
    let servers = drain::drain_progress(&request.balancer, &request.name, limit);
    if servers.is_empty() {
        AdminReply::unknown_server(&request.name)
    } else {
        AdminReply::json(&json!({ "servers": servers }))
    }
}

/// Answers `GET /events?after=` with the events that have a higher number, oldest first.
pub(super) fn events(request: &AdminRequest) -> AdminReply {
    let after = match request.query_number("after", 0, 0..=usize::MAX) {
        Ok(after) => after as u64,
        Err(error_reply) => return error_reply,
    };
    let all = request.balancer.events.oldest_first();
    let last = all.last().map_or(0, |event| event.number);
    // The client has seen a higher number, so it was another process.
    let after = if last < after { 0 } else { after };
    let events: Vec<_> = all.iter().filter(|event| event.number > after).collect();
    AdminReply::json(&json!({ "events": events, "last": last }))
}

/// Answers `GET /statistics` with the statistics of the ICM under their Domino names
/// (<https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>).
pub(super) fn statistics(request: &AdminRequest) -> AdminReply {
    let all: Map<String, Value> = domino::statistics(&request.balancer)
        .into_iter()
        .map(|statistic| {
            let value = match statistic.value {
                StatisticValue::Number(number) => json!(number),
                StatisticValue::Text(text) => json!(text),
            };
            (statistic.domino.to_owned(), value)
        })
        .collect();
    AdminReply::json(&all)
}

fn example_limit(request: &AdminRequest) -> Result<usize, AdminReply> {
    request.query_number("limit", DEFAULT_EXAMPLES, 0..=usize::MAX)
}

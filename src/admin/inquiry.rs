//! What the command line asks a running balancer beside its status: audit, simulation, drain, events, statistics.
//!
//! In: a request that may be answered. Out: JSON. It changes nothing. What goes through a whole directory is marked
//! so in the table of [`routes`](super::routes).

use serde_json::{Map, Value, json};

use super::Call;
use super::reply::Reply;
use crate::admin::metrics::domino::{self, Value as Statistic};
use crate::insight::audit::audit;
use crate::insight::simulate::{Changes, simulate};
use crate::state::drain;

/// Examples in each list unless the question says otherwise.
pub const EXAMPLES: usize = 10;

/// `GET /audit?limit=`
pub(super) fn audited(call: &Call) -> Reply {
    match examples(call) {
        Ok(limit) => Reply::json(&audit(&call.snapshot, limit, true)),
        Err(refusal) => refusal,
    }
}

/// `GET /simulate?down=Web1,Web2&restricted=&busy=&limit=`
pub(super) fn simulated(call: &Call) -> Reply {
    let limit = match examples(call) {
        Ok(limit) => limit,
        Err(refusal) => return refusal,
    };
    let names = |name: &str| -> Vec<String> {
        let text = call.argument(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect()
    };
    let changes = Changes { down: names("down"), restricted: names("restricted"), busy: names("busy") };
    let told = simulate(&call.snapshot, &changes, limit);
    if told.unknown.is_empty() { Reply::json(&told) } else { Reply::unknown_server(&told.unknown.join(", ")) }
}

/// `GET /servers/{name}/drain`; with `?limit=` also the databases that only it can serve.
pub(super) fn drained(call: &Call) -> Reply {
    let asked = call.argument("limit").is_some_and(|text| !text.is_empty());
    let limit = match examples(call) {
        Ok(limit) => asked.then_some(limit),
        Err(refusal) => return refusal,
    };
    let servers = drain::progress(&call.balancer, &call.name, limit);
    if servers.is_empty() {
        Reply::unknown_server(&call.name)
    } else {
        Reply::json(&json!({ "servers": servers }))
    }
}

/// `GET /events?after=`: those with a higher number, oldest first.
pub(super) fn events(call: &Call) -> Reply {
    let after = match call.number("after", 0, 0..=usize::MAX) {
        Ok(after) => after as u64,
        Err(refusal) => return refusal,
    };
    let all = call.balancer.events.in_order();
    let last = all.last().map_or(0, |event| event.number);
    // A smaller number than the asker has seen: this process is another one.
    let after = if last < after { 0 } else { after };
    let events: Vec<_> = all.iter().filter(|event| event.number > after).collect();
    Reply::json(&json!({ "events": events, "last": last }))
}

/// `GET /statistics`: the ICM's own by their names in Domino
/// (<https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>).
pub(super) fn statistics(call: &Call) -> Reply {
    let all: Map<String, Value> = domino::statistics(&call.balancer)
        .into_iter()
        .map(|statistic| {
            let value = match statistic.value {
                Statistic::Number(number) => json!(number),
                Statistic::Text(text) => json!(text),
            };
            (statistic.domino.to_owned(), value)
        })
        .collect();
    Reply::json(&all)
}

fn examples(call: &Call) -> Result<usize, Reply> {
    call.number("limit", EXAMPLES, 0..=usize::MAX)
}

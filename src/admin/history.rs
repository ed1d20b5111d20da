//! `GET /history`: the samples of the status page's charts, and the request of each cluster that failed last. Compact,
//! because the page asks for it every few seconds; with `?since=` it has only what is new.

use serde_json::{Map, Value, json};

use super::AdminRequest;
use super::reply::{AdminReply, JSON};
use crate::domain::cluster::ServerState;
use crate::state::Cluster;
use crate::telemetry::history::{History, MAX_SAMPLES, SampleTime, ServerSample};
use crate::util::clock::{self, saturating_millis};

/// Answers `GET /history?since=MS` with the samples that are later than this time, oldest first.
pub(super) fn handle(request: &AdminRequest) -> AdminReply {
    let since = match request.query_number("since", 0, 0..=usize::MAX) {
        Ok(since) => since as u64,
        Err(error_reply) => return error_reply,
    };
    let interval = request.snapshot.settings.admin.history_interval;
    // Sampling waits for the lock, requests of clients do not.
    let history = request.balancer.history.lock();
    let times = history.times_since(since);
    let clusters: Vec<Value> =
        request.snapshot.clusters.iter().map(|one| cluster(one, &history, times.len())).collect();
    drop(history);
    let column = |of: fn(&SampleTime) -> u64| times.iter().map(of).collect::<Vec<u64>>();
    let value = json!({
        "now": clock::unix_ms(),
        "interval_ms": saturating_millis(interval),
        "max_samples": MAX_SAMPLES,
        "states": ServerState::ALL.map(ServerState::as_str),
        "at": column(|time| time.at_unix_ms),
        "took_ms": column(|time| u64::from(time.interval_ms)),
        "clusters": clusters,
    });
    AdminReply::text(JSON, format!("{value}\n"))
}

fn cluster(cluster: &Cluster, history: &History, count: usize) -> Value {
    let name = cluster.settings.name.as_str();
    let servers: Vec<Value> = cluster
        .view
        .load()
        .entries
        .iter()
        .map(|entry| {
            let server = entry.config.name.abbreviated();
            self::server(server, &history.last_samples(name, server, count))
        })
        .collect();
    json!({
        "name": name,
        "servers": servers,
        "last_failed": *cluster.persistent_state.last_failed.lock(),
    })
}

/// The name of a column, and its value of a sample.
type Column = (&'static str, fn(&ServerSample) -> Value);

/// The samples in columns, which are half as long as rows with names.
fn server(name: &str, samples: &[ServerSample]) -> Value {
    let columns: [Column; 8] = [
        ("requests", |sample| json!(sample.answered)),
        ("failed", |sample| json!(sample.failed)),
        ("failovers", |sample| json!(sample.failed_over)),
        ("in_flight", |sample| json!(sample.in_flight)),
        ("p50_ms", |sample| milliseconds(sample.p50_micros())),
        ("p99_ms", |sample| milliseconds(sample.p99_micros())),
        ("index", |sample| json!(sample.index())),
        ("state", |sample| json!(sample.state as u8)),
    ];
    let mut object = Map::from_iter([("name".to_owned(), json!(name))]);
    object.extend(columns.map(|(key, of)| (key.to_owned(), samples.iter().map(of).collect())));
    Value::Object(object)
}

/// With as many digits as the percentiles are exact.
fn milliseconds(micros: Option<u64>) -> Value {
    match micros {
        None => Value::Null,
        Some(micros) if micros < 10_000 => json!((micros as f64 / 100.0).round() / 10.0),
        Some(micros) => json!((micros + 500) / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_digits_as_they_are_exact() {
        let shown =
            [None, Some(128), Some(1_472), Some(9_961), Some(10_500), Some(1_234_567)].map(milliseconds);
        assert_eq!(json!(shown), json!([null, 0.1, 1.5, 10.0, 11, 1235]));
    }
}

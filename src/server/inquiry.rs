//! Questions of the command line to a running balancer, which may go through the whole directory.
//!
//! In: path and query of a GET that was allowed already. Out: JSON, made on a thread that serves nobody. It
//! changes nothing.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::audit::audit;
use crate::balancer::statistics::{Statistics, Value};
use crate::balancer::{Balancer, drain};
use crate::databases;
use crate::simulate::{Changes, simulate};

/// Examples in each list unless the question says otherwise.
pub const EXAMPLES: usize = 10;
/// Databases in a listing, the same.
pub const DATABASES: usize = 50;

/// A question.
#[derive(Clone, Debug)]
pub enum Inquiry {
    /// `/audit`
    Audit(usize),
    /// `/simulate?down=Web1,Web2&restricted=&busy=`
    Simulate(Changes, usize),
    /// `/replicas?q=`
    Databases(String, usize),
    /// `/servers/{name}/drain`; with `?limit=` also the databases that only it can serve.
    Drain(String, Option<usize>),
    /// `/events?after=`
    Events(u64),
    /// `/statistics`
    Statistics,
}

impl Inquiry {
    /// The question that a path and a query ask, if they ask one of these.
    #[must_use]
    pub fn of(path: &str, query: &str) -> Option<Self> {
        let argument = |name: &[u8]| {
            crate::url::argument(query.as_bytes(), name).map(|v| String::from_utf8_lossy(&v).into_owned())
        };
        let number = |name: &[u8]| argument(name).and_then(|text| text.parse().ok());
        let names = |name: &[u8]| -> Vec<String> {
            let text = argument(name).unwrap_or_default();
            text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect()
        };
        let limit = || number(b"limit").unwrap_or(EXAMPLES);
        Some(match path {
            "/audit" => Self::Audit(limit()),
            "/simulate" => {
                let changes =
                    Changes { down: names(b"down"), restricted: names(b"restricted"), busy: names(b"busy") };
                Self::Simulate(changes, limit())
            }
            "/replicas" => {
                Self::Databases(argument(b"q").unwrap_or_default(), number(b"limit").unwrap_or(DATABASES))
            }
            "/events" => Self::Events(argument(b"after").and_then(|n| n.parse().ok()).unwrap_or(0)),
            "/statistics" => Self::Statistics,
            _ => {
                let name = path.strip_prefix("/servers/")?.strip_suffix("/drain")?;
                let name = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
                Self::Drain(name.into_owned(), number(b"limit"))
            }
        })
    }

    /// Answers, away from the threads that serve.
    pub async fn answer(self, balancer: &Arc<Balancer>) -> (StatusCode, String) {
        let balancer = Arc::clone(balancer);
        let work = tokio::task::spawn_blocking(move || self.look(&balancer));
        work.await.unwrap_or_else(|_| (StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned()))
    }

    fn look(self, balancer: &Balancer) -> (StatusCode, String) {
        let snapshot = balancer.snapshot();
        match self {
            Self::Audit(limit) => fine(&audit(&snapshot, limit, true)),
            Self::Simulate(changes, limit) => {
                let told = simulate(&snapshot, &changes, limit);
                if told.unknown.is_empty() { fine(&told) } else { unknown(&told.unknown.join(", ")) }
            }
            Self::Databases(text, limit) => fine(&databases::list(&snapshot, &text, limit)),
            Self::Drain(name, examples) => {
                let servers = drain::progress(balancer, &name, examples);
                if servers.is_empty() { unknown(&name) } else { fine(&json!({ "servers": servers })) }
            }
            Self::Events(after) => {
                let all = balancer.events.in_order();
                let last = all.last().map_or(0, |event| event.number);
                // A smaller number than the asker has seen: this process is another one.
                let after = if last < after { 0 } else { after };
                let events: Vec<_> = all.iter().filter(|event| event.number > after).collect();
                fine(&json!({ "events": events, "last": last }))
            }
            Self::Statistics => fine(&statistics(balancer)),
        }
    }
}

fn fine(value: &impl Serialize) -> (StatusCode, String) {
    (StatusCode::OK, format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()))
}

fn unknown(names: &str) -> (StatusCode, String) {
    let text = json!({ "error": "unknown_server", "message": format!("no cluster has a server {names}") });
    (StatusCode::NOT_FOUND, format!("{text}\n"))
}

/// The ICM's own statistics by their names in Domino
/// (<https://help.hcl-software.com/domino/10.0.1/tune_internetclustermanagerstatistics_r.html>).
fn statistics(balancer: &Balancer) -> serde_json::Value {
    Statistics::domino(balancer)
        .into_iter()
        .map(|statistic| {
            let value = match statistic.value {
                Value::Number(number) => json!(number),
                Value::Text(text) => json!(text),
            };
            (statistic.domino.to_owned(), value)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

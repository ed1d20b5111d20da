//! Who executed what: counts of requests by their identifier, and the last requests of each server.
//!
//! *Received*: the head was complete. *Executed*: the whole request was, so a real server might have acted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::{Value, json};

/// How often a request arrived at one server.
#[derive(Clone, Default, Serialize)]
pub struct Count {
    pub received: u64,
    pub executed: u64,
    /// Executed, by method.
    pub methods: BTreeMap<String, u64>,
}

/// Counts by request identifier and server.
#[derive(Default)]
pub struct Executions(Mutex<BTreeMap<String, BTreeMap<String, Count>>>);

impl Executions {
    fn with(&self, rid: &str, server: &str, change: impl FnOnce(&mut Count)) {
        let mut all = self.0.lock().unwrap();
        change(all.entry(rid.to_owned()).or_default().entry(server.to_owned()).or_default());
    }

    /// The head is there.
    pub fn received(&self, rid: &str, server: &str) {
        self.with(rid, server, |count| count.received += 1);
    }

    /// The whole request is there.
    pub fn executed(&self, rid: &str, server: &str, method: &str) {
        self.with(rid, server, |count| {
            count.executed += 1;
            *count.methods.entry(method.to_owned()).or_default() += 1;
        });
    }

    /// One identifier with its sums, or all of them.
    pub fn to_json(&self, rid: Option<&str>) -> Value {
        let all = self.0.lock().unwrap();
        match rid {
            None => json!(*all),
            Some(rid) => {
                let servers = all.get(rid).cloned().unwrap_or_default();
                json!({
                    "rid": rid,
                    "received": servers.values().map(|c| c.received).sum::<u64>(),
                    "executed": servers.values().map(|c| c.executed).sum::<u64>(),
                    "servers": servers,
                })
            }
        }
    }

    /// How many identifiers were executed more than once, in all, and the first few of them.
    pub fn repeated(&self) -> Value {
        let all = self.0.lock().unwrap();
        let sum = |servers: &BTreeMap<String, Count>| servers.values().map(|c| c.executed).sum::<u64>();
        let more: Vec<&String> = all.iter().filter(|(_, s)| sum(s) > 1).map(|(rid, _)| rid).collect();
        json!({ "identifiers": all.len(), "repeated": more.len(), "first": more.iter().take(20).collect::<Vec<_>>() })
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// One request as it arrived.
#[derive(Serialize)]
pub struct Record {
    /// Order of arrival on this server.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub server: String,
    pub scheme: &'static str,
    pub remote: String,
    /// Number of the connection on this server, and of the request on it.
    pub connection: u64,
    pub nth: u64,
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    /// Octets of the body read so far.
    #[serde(serialize_with = "serialize_locked")]
    pub body_length: Mutex<Option<u64>>,
    /// Status sent, or what happened instead; null while it goes on.
    #[serde(serialize_with = "serialize_locked")]
    pub outcome: Mutex<Option<String>>,
}

fn serialize_locked<T: Serialize, S: serde::Serializer>(value: &Mutex<T>, to: S) -> Result<S::Ok, S::Error> {
    value.lock().unwrap().serialize(to)
}

/// The last requests of a server.
#[derive(Default)]
pub struct Log(Mutex<VecDeque<Arc<Record>>>);

/// How many are kept for each server.
const MAX_RECORDS: usize = 2000;

impl Log {
    /// Adds one, forgetting the oldest.
    pub fn add(&self, record: Arc<Record>) {
        let mut log = self.0.lock().unwrap();
        if log.len() == MAX_RECORDS {
            log.pop_front();
        }
        log.push_back(record);
    }

    /// The last ones, oldest first.
    pub fn last(&self, n: usize) -> Vec<Arc<Record>> {
        let log = self.0.lock().unwrap();
        log.iter().skip(log.len().saturating_sub(n)).cloned().collect()
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.0.lock().unwrap().clear();
    }
}

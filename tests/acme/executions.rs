//! Counts of requests by their identifier, and the last requests of each server.
//!
//! A request is *received* when its head is complete, and *executed* when the whole request is, because a real server
//! might then have acted on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::{Value, json};

/// How often a request arrived at one server.
#[derive(Clone, Default, Serialize)]
pub struct Count {
    pub received: u64,
    pub executed: u64,
    /// Executed requests by method.
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

    pub fn received(&self, rid: &str, server: &str) {
        self.with(rid, server, |count| count.received += 1);
    }

    pub fn executed(&self, rid: &str, server: &str, method: &str) {
        self.with(rid, server, |count| {
            count.executed += 1;
            *count.methods.entry(method.to_owned()).or_default() += 1;
        });
    }

    /// The counts and sums of one identifier, or the counts of all.
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

    /// How many identifiers there are, how many were executed more than once, and the first 20 of these.
    pub fn repeated(&self) -> Value {
        let all = self.0.lock().unwrap();
        let sum = |servers: &BTreeMap<String, Count>| servers.values().map(|c| c.executed).sum::<u64>();
        let more: Vec<&String> = all.iter().filter(|(_, s)| sum(s) > 1).map(|(rid, _)| rid).collect();
        json!({ "identifiers": all.len(), "repeated": more.len(), "first": more.iter().take(20).collect::<Vec<_>>() })
    }

    pub fn reset(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// One request as it arrived.
#[derive(Serialize)]
pub struct Record {
    /// Number of the request on this server, in order of arrival.
    pub seq: u64,
    pub time_ms: u64,
    pub server: String,
    pub scheme: &'static str,
    pub remote: String,
    /// Number of the connection on this server.
    pub connection: u64,
    /// Number of the request on its connection.
    pub nth: u64,
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    /// Bytes of the body read so far.
    #[serde(serialize_with = "serialize_locked")]
    pub body_length: Mutex<Option<u64>>,
    /// Status sent, or what happened instead; null while the request is in flight.
    #[serde(serialize_with = "serialize_locked")]
    pub outcome: Mutex<Option<String>>,
}

fn serialize_locked<T: Serialize, S: serde::Serializer>(value: &Mutex<T>, to: S) -> Result<S::Ok, S::Error> {
    value.lock().unwrap().serialize(to)
}

/// The last requests of a server.
#[derive(Default)]
pub struct Log(Mutex<VecDeque<Arc<Record>>>);

/// Requests kept for each server.
const MAX_RECORDS: usize = 2000;

impl Log {
    /// Adds a record, and drops the oldest if the log is full.
    pub fn add(&self, record: Arc<Record>) {
        let mut log = self.0.lock().unwrap();
        if log.len() == MAX_RECORDS {
            log.pop_front();
        }
        log.push_back(record);
    }

    /// The last `n` records, oldest first.
    pub fn last(&self, n: usize) -> Vec<Arc<Record>> {
        let log = self.0.lock().unwrap();
        log.iter().skip(log.len().saturating_sub(n)).cloned().collect()
    }

    pub fn reset(&self) {
        self.0.lock().unwrap().clear();
    }
}

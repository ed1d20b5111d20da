//! Parses the document of the companion, the agent of `conf/domino` that reports what HTTP alone cannot know.
//!
//! Every item may be absent, null or unreadable; it is unknown then. Only `icm_companion` is required, because without
//! it the response is something else, such as an error page of Domino.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::statistics::{Collector, ParseError, number};
use crate::discovery::domino::fault::single_line;
use crate::discovery::domino::login::is_html;
use crate::domain::cluster::{AvailabilityReport, ReplicatorReport, ServerName};
use crate::domain::directory::{ReplicaId, ReplicaStatus};
use crate::domain::save::Unid;

/// The version of the document that this parser knows.
const KNOWN_VERSION: f64 = 1.0;
/// Far above the databases of one server; further ones are not read.
const MAX_REPLICAS: usize = 200_000;
const MAX_MEMBERS: usize = 1_000;
const MAX_MISSING: usize = 100;
/// Warnings about single replicas; the others are only counted.
const MAX_EXAMPLES: usize = 3;
/// Items of the first level, to tell which ones a document lacks.
const ITEMS: [&str; 13] = [
    "server",
    "time",
    "release",
    "started",
    "availability_index",
    "availability_threshold",
    "server_restricted",
    "server_maxusers",
    "users",
    "cluster",
    "members",
    "replication",
    "replicas",
];

/// What the companion of one server reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompanionDocument {
    /// The statistics, as any availability source gives them.
    pub report: AvailabilityReport,
    /// The server that wrote the document.
    pub server: Option<ServerName>,
    /// The clock of the server when it wrote the document, in milliseconds since 1970.
    pub time_unix_ms: Option<u64>,
    /// The release of Domino, for people.
    pub release: Option<String>,
    /// The members of its cluster; empty = unknown.
    pub members: Vec<ServerName>,
    /// Its replicas; `None` = not listed.
    pub replicas: Option<Vec<CompanionReplica>>,
    /// The answer to `&modified`: a document of a database.
    pub revision: Option<CompanionRevision>,
    /// What the agent says it could not read.
    pub missing: Vec<String>,
    /// Items that the document lacks.
    pub absent: Vec<&'static str>,
    /// One for each value that was ignored.
    pub warnings: Vec<String>,
}

/// One database on the server that wrote the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompanionReplica {
    /// Path below the data directory, as the server spells it.
    pub path: String,
    /// The ID that all replicas of the database share.
    pub replica_id: ReplicaId,
    /// The data modification time on the server's own clock, in milliseconds since 1970.
    pub modified_unix_ms: Option<u64>,
    /// `None` = neither mark could be read.
    pub mark: Option<ReplicaStatus>,
}

/// The revision of one document on the server that wrote the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompanionRevision {
    /// The database in which it was found.
    pub replica_id: ReplicaId,
    /// The document that was asked for.
    pub unid: Unid,
    /// When this revision was saved, by the clock of the server where that was, in milliseconds since 1970.
    pub saved_unix_ms: u64,
}

/// Parses the body of a response.
///
/// # Errors
/// When it is not the companion's document.
pub fn parse(body: &[u8]) -> Result<CompanionDocument, ParseError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let not_companion = |why: &str| ParseError::NotCompanion(single_line(why));
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(_) if crate::discovery::domino::login::is_login_page(body) => return Err(ParseError::LoginPage),
        Err(_) if is_html(body) => return Err(not_companion("it is an HTML page")),
        Err(error) => return Err(not_companion(&error.to_string())),
    };
    let Value::Object(items) = value else { return Err(not_companion("it is no JSON object")) };
    let Some(version) = items.get("icm_companion").and_then(text_of).and_then(|text| number(&text)) else {
        return Err(not_companion("it has no `icm_companion`"));
    };
    let mut document = CompanionDocument::default();
    if version != KNOWN_VERSION {
        document.warnings.push(format!("icm_companion is {version}, read as 1"));
    }
    statistics(&items, &mut document);
    identity(&items, &mut document);
    document.report.replicator = replicator(&items);
    if let Some(Value::Array(replicas)) = items.get("replicas") {
        document.replicas = Some(read_replicas(replicas, &mut document.warnings));
    }
    document.revision = items.get("revision").and_then(revision);
    document.missing = texts(items.get("missing"), MAX_MISSING).collect();
    let is_absent = |item: &&&str| items.get(**item).is_none_or(Value::is_null);
    document.absent = ITEMS.iter().filter(is_absent).copied().collect();
    Ok(document)
}

/// The items that have a name among Domino's statistics.
fn statistics(items: &Map<String, Value>, document: &mut CompanionDocument) {
    let mut collector = Collector::default();
    for (item, statistic) in [
        ("availability_index", "Server.AvailabilityIndex"),
        ("availability_threshold", "Server.AvailabilityThreshold"),
        ("server_restricted", "Server_Restricted"),
        ("server_maxusers", "Server_MaxUsers"),
        ("users", "Server.Users"),
    ] {
        if let Some(text) = items.get(item).and_then(text_of) {
            collector.take(statistic, &text);
        }
    }
    let parsed = collector.into_parsed();
    document.report = parsed.report;
    document.warnings.extend(parsed.warnings);
}

fn identity(items: &Map<String, Value>, document: &mut CompanionDocument) {
    let text = |item: &str| items.get(item).and_then(text_of);
    if let Some(name) = text("server") {
        match ServerName::parse(&name) {
            Ok(server) => {
                document.report.name = Some(server.abbreviated().to_owned());
                document.server = Some(server);
            }
            Err(error) => document.warnings.push(format!("server: {error}")),
        }
    }
    if let Some(time) = text("time") {
        document.time_unix_ms = unix_ms(&time);
        // While it does not advance, the values are old.
        document.report.updated_at = document.time_unix_ms.map(|ms| ms as f64 / 1e3);
        if document.time_unix_ms.is_none() {
            document.warnings.push(format!("time = `{}` is no time and ignored", single_line(&time)));
        }
    }
    document.release = text("release").map(|release| single_line(&release));
    let members = texts(items.get("members"), MAX_MEMBERS);
    document.members = members.filter_map(|name| ServerName::parse(&name).ok()).collect();
}

fn replicator(items: &Map<String, Value>) -> ReplicatorReport {
    let started = items.get("started").and_then(text_of).map(|text| single_line(&text));
    let Some(Value::Object(values)) = items.get("replication") else {
        return ReplicatorReport { run: started, ..ReplicatorReport::default() };
    };
    let count = |item: &str| {
        let number = values.get(item).and_then(text_of).and_then(|text| number(&text))?;
        (number >= 0.0 && number <= u64::MAX as f64).then_some(number as u64)
    };
    let small = |item: &str| count(item).and_then(|count| u32::try_from(count).ok());
    ReplicatorReport {
        successful: count("successful"),
        failed: count("failed"),
        retry_waiting: small("retry_waiting"),
        work_queue_depth: small("work_queue_depth"),
        seconds_on_queue: small("seconds_on_queue"),
        run: started,
    }
}

/// `None` unless all of it can be read.
fn revision(value: &Value) -> Option<CompanionRevision> {
    let text = |item: &str| value.get(item).and_then(text_of);
    Some(CompanionRevision {
        replica_id: ReplicaId::parse(&text("replica_id")?).ok()?,
        unid: Unid::parse(text("unid")?.as_bytes())?,
        saved_unix_ms: unix_ms(&text("saved")?)?,
    })
}

fn read_replicas(list: &[Value], warnings: &mut Vec<String>) -> Vec<CompanionReplica> {
    let mut replicas = Vec::with_capacity(list.len().min(MAX_REPLICAS));
    let mut bad = 0;
    for value in list.iter().take(MAX_REPLICAS) {
        match replica(value) {
            Ok(replica) => replicas.push(replica),
            Err(reason) => {
                bad += 1;
                if bad <= MAX_EXAMPLES {
                    warnings.push(format!("a replica is ignored: {reason}"));
                }
            }
        }
    }
    if bad > MAX_EXAMPLES {
        warnings.push(format!("{} more replicas are ignored", bad - MAX_EXAMPLES));
    }
    if list.len() > MAX_REPLICAS {
        warnings.push(format!("only the first {MAX_REPLICAS} replicas are read"));
    }
    replicas
}

fn replica(value: &Value) -> Result<CompanionReplica, String> {
    let text = |item: &str| value.get(item).and_then(text_of);
    let path = text("path").unwrap_or_default();
    let id = text("replica_id").ok_or_else(|| format!("no replica_id: {}", single_line(&path)))?;
    let replica_id = ReplicaId::parse(&id).map_err(|error| error.to_string())?;
    let flag = |item: &str| value.get(item).and_then(truth);
    let mark = match (flag("pending_delete"), flag("out_of_service")) {
        (Some(true), _) => Some(ReplicaStatus::PendingDelete),
        (_, Some(true)) => Some(ReplicaStatus::OutOfService),
        // One item alone does not show that the other mark is not set.
        (Some(false), Some(false)) => Some(ReplicaStatus::InService),
        _ => None,
    };
    let modified_unix_ms = text("modified").and_then(|time| unix_ms(&time));
    Ok(CompanionReplica { path, replica_id, modified_unix_ms, mark })
}

/// A scalar as text, so that a number in quotes is read like one without; blanks are unknown.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn texts(value: Option<&Value>, at_most: usize) -> impl Iterator<Item = String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(text_of).map(|text| single_line(&text)).take(at_most)
}

/// `true`, `"true"`, 1, `"1"` and `yes`, and their opposites.
fn truth(value: &Value) -> Option<bool> {
    if let Value::Bool(truth) = value {
        return Some(*truth);
    }
    match text_of(value)?.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(true),
        "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// RFC 3339, in milliseconds since 1970.
fn unix_ms(text: &str) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(time.timestamp_millis()).ok()
}

impl CompanionDocument {
    /// When the server was started by its own clock, in milliseconds since 1970.
    #[must_use]
    pub fn started_unix_ms(&self) -> Option<u64> {
        self.report.replicator.run.as_deref().and_then(unix_ms)
    }

    /// The replicas by ID. `None` for a database of which the server has several copies: they may differ.
    #[must_use]
    pub fn replicas_by_id(&self) -> HashMap<ReplicaId, Option<&CompanionReplica>> {
        let replicas = self.replicas.as_deref().unwrap_or_default();
        let mut by_id = HashMap::with_capacity(replicas.len());
        for replica in replicas {
            by_id.entry(replica.replica_id).and_modify(|known| *known = None).or_insert(Some(replica));
        }
        by_id
    }
}

#[cfg(test)]
mod tests;

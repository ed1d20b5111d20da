//! Outages and gates as plain data, which outlive the process and travel to other ICMs. All times are milliseconds since
//! 1970.

use crate::domain::cluster::name::ServerName;

/// An outage in progress, or a gate that is still closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutageRecord {
    /// The server that was away.
    pub server: ServerName,
    /// When it became UNREACHABLE.
    pub since_unix_ms: u64,
    /// When it returned; `None` = it is still away.
    pub returned_unix_ms: Option<u64>,
    /// When the time began after which the gate opens without evidence; `None` = there is no gate.
    pub limit_from_unix_ms: Option<u64>,
    /// How long the outage lasted that closed the gate.
    pub outage_ms: u64,
    /// At some moment no server of the cluster answered.
    pub all_unreachable: bool,
    /// `catch_up.request` was answered, or given up.
    pub requested: bool,
    /// The servers that were reachable all the time.
    pub witnesses: Vec<WitnessRecord>,
}

/// What is known about a witness from before the outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessRecord {
    /// The server that must report.
    pub server: ServerName,
    /// Its `Retry.Waiting` before the outage.
    pub retry_waiting: Option<u32>,
    /// Its run before the outage, by source.
    pub runs: Vec<KnownRun>,
}

/// What tells one run of a server from the next, as one source reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRun {
    /// The kind of the source; sources name runs differently.
    pub source: String,
    /// Boot ID or start time.
    pub run: Option<String>,
    /// Successful replications in this run.
    pub successful: Option<u64>,
    /// Failed replications in this run.
    pub failed: Option<u64>,
}

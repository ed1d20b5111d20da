//! Outages and gates as they are saved in `state_dir`, handed over, and sent to ICMs that follow this one. Fields are only
//! ever added, because the reader may have another version.

use serde::{Deserialize, Serialize};

use crate::config::file_access::{CATCH_UP, CATCH_UP_COPY, CATCH_UP_DAMAGED};
use crate::domain::cluster::ServerName;
use crate::domain::cluster::catch_up::{KnownRun, OpenReason, OutageRecord, WitnessRecord};
use crate::state::state_file::StateFile;

/// The files with outages and gates.
pub const CATCH_UP_FILE: StateFile = StateFile {
    what: "outages",
    file: CATCH_UP,
    copy: CATCH_UP_COPY,
    damaged: CATCH_UP_DAMAGED,
    consequence: "so NO SERVER IS KNOWN to be CATCHING UP: restrict a server that was away until its replicas are current",
};

/// An outage, a gate that is closed, or one that was opened. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCatchUp {
    pub cluster: String,
    /// The server's abbreviated name.
    pub server: String,
    pub unreachable_since: u64,
    /// Absent while the server is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<u64>,
    /// When the time of `catch_up.limit` began; absent if there is no gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_from: Option<u64>,
    #[serde(default)]
    pub outage_ms: u64,
    /// At some moment no server of the cluster answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_unreachable: bool,
    /// `catch_up.request` was answered, or given up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requested: bool,
    /// Present once the gate is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<KeptOpening>,
    /// The servers that must report, with what they reported before the outage. Not sent to followers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<KeptWitness>,
    /// The ICM that saw it; absent = this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// How a gate was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOpening {
    pub at: u64,
    pub reason: String,
}

/// A server that was reachable throughout an outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWitness {
    pub server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_waiting: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<KeptRun>,
}

/// What tells a run of a witness from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRun {
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successful: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
}

impl KeptCatchUp {
    pub(super) fn from_record(cluster: &str, record: OutageRecord) -> Self {
        Self {
            cluster: cluster.to_owned(),
            server: record.server.to_string(),
            unreachable_since: record.since_unix_ms,
            returned: record.returned_unix_ms,
            limit_from: record.limit_from_unix_ms,
            outage_ms: record.outage_ms,
            all_unreachable: record.all_unreachable,
            requested: record.requested,
            opened: None,
            witnesses: record.witnesses.into_iter().map(KeptWitness::from_record).collect(),
            at: None,
        }
    }

    /// Without the server if its name cannot be read.
    pub(super) fn to_record(&self) -> Option<OutageRecord> {
        Some(OutageRecord {
            server: ServerName::parse(&self.server).ok()?,
            since_unix_ms: self.unreachable_since,
            returned_unix_ms: self.returned,
            limit_from_unix_ms: self.limit_from,
            outage_ms: self.outage_ms,
            all_unreachable: self.all_unreachable,
            requested: self.requested,
            witnesses: self.witnesses.iter().filter_map(KeptWitness::to_record).collect(),
        })
    }

    /// Whether it is about a gate that is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.opened.is_none() && self.returned.is_some() && self.limit_from.is_some()
    }

    /// As sent to ICMs that follow this one.
    pub(super) fn without_witnesses(self) -> Self {
        Self { witnesses: Vec::new(), ..self }
    }

    pub(super) fn opened(self, at: u64, reason: OpenReason) -> Self {
        let opened = Some(KeptOpening { at, reason: reason.as_str().to_owned() });
        Self { opened, ..self.without_witnesses() }
    }
}

impl KeptWitness {
    fn from_record(record: WitnessRecord) -> Self {
        let run = |known: KnownRun| KeptRun {
            source: known.source,
            run: known.run,
            successful: known.successful,
            failed: known.failed,
        };
        Self {
            server: record.server.to_string(),
            retry_waiting: record.retry_waiting,
            runs: record.runs.into_iter().map(run).collect(),
        }
    }

    fn to_record(&self) -> Option<WitnessRecord> {
        let run = |kept: &KeptRun| KnownRun {
            source: kept.source.clone(),
            run: kept.run.clone(),
            successful: kept.successful,
            failed: kept.failed,
        };
        Some(WitnessRecord {
            server: ServerName::parse(&self.server).ok()?,
            retry_waiting: self.retry_waiting,
            runs: self.runs.iter().map(run).collect(),
        })
    }
}

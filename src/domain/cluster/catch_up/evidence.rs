//! The evidence of one witness: a server that was reachable throughout an outage, and whose Cluster Replicator therefore
//! knows every change that the returned server lacks.

use super::records::{KnownRun, WitnessRecord};
use super::reporter::is_earlier_run;
use super::types::SourceId;
use crate::domain::cluster::name::ServerName;
use crate::domain::cluster::report::ReplicatorReport;

/// Why a server proves nothing. Its queue is in memory, so a restart loses what waits in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exclusion {
    Unreachable,
    Restarted,
}

/// The last report since the return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastReport {
    /// It was surely measured after the return.
    is_later: bool,
    retry_waiting: Option<u32>,
    work_queue_depth: Option<u32>,
}

/// A server that was reachable when the outage began.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    /// Its `Retry.Waiting` before the outage, which others may have caused.
    retry_before: Option<u32>,
    /// Its run before the outage.
    runs: Vec<KnownRun>,
    pub(super) excluded: Option<Exclusion>,
    /// The sources that have reported since the return. The first report of a source may have been measured before it.
    reported: Vec<SourceId>,
    queue_was_empty: bool,
    last: Option<LastReport>,
}

impl Witness {
    pub(super) fn new(retry_before: Option<u32>, runs: Vec<KnownRun>) -> Self {
        Self { retry_before, runs, excluded: None, reported: Vec::new(), queue_was_empty: false, last: None }
    }

    /// Its baseline for the file in `state_dir`; `None` = it proves nothing.
    pub(super) fn record(&self, server: &ServerName) -> Option<WitnessRecord> {
        let (retry_waiting, runs) = (self.retry_before, self.runs.clone());
        self.excluded.is_none().then(|| WitnessRecord { server: server.clone(), retry_waiting, runs })
    }

    /// Whether it has ever reported.
    pub(super) fn has_baseline(&self) -> bool {
        self.retry_before.is_some() || !self.runs.is_empty()
    }

    /// The server returned: reports count from now on.
    pub(super) fn begin(&mut self) {
        self.reported.clear();
        self.queue_was_empty = false;
        self.last = None;
    }

    /// Compares a report with the run before the outage, which an earlier process may have seen.
    pub(super) fn check_run(&mut self, source: SourceId, report: &ReplicatorReport) {
        let new = (report.run.as_deref(), report.successful, report.failed);
        let restarted = self
            .runs
            .iter()
            .filter(|known| known.source == source.0)
            .any(|known| is_earlier_run((known.run.as_deref(), known.successful, known.failed), new));
        if restarted {
            self.excluded.get_or_insert(Exclusion::Restarted);
        }
    }

    /// Adds a new report that was received after the return.
    pub(super) fn add(&mut self, source: SourceId, report: &ReplicatorReport) {
        let ReplicatorReport { retry_waiting, work_queue_depth, .. } = *report;
        if retry_waiting.is_none() && work_queue_depth.is_none() {
            return;
        }
        let is_later = self.reported.contains(&source);
        if !is_later {
            self.reported.push(source);
        }
        self.queue_was_empty |= is_later && work_queue_depth == Some(0);
        self.last = Some(LastReport { is_later, retry_waiting, work_queue_depth });
    }

    /// What is missing until it has shown that the returned server lacks nothing of it; `None` = it has.
    pub(super) fn missing(&self, name: &ServerName) -> Option<String> {
        let name = name.abbreviated();
        let Some(last) = self.last else {
            return Some(format!("{name} has not reported about its Cluster Replicator since the return"));
        };
        if !last.is_later {
            return Some(format!("{name} must report a second time since the return"));
        }
        let Some(waiting) = last.retry_waiting else {
            return Some(format!("{name} does not report how many replicas wait for a retry"));
        };
        if waiting > self.retry_before.unwrap_or(0) {
            let before = self.retry_before.map_or_else(
                || "unknown before the outage".to_owned(),
                |before| format!("{before} before the outage"),
            );
            return Some(format!("{name} reports {waiting} replicas that wait for a retry, {before}"));
        }
        if self.queue_was_empty {
            return None;
        }
        Some(match last.work_queue_depth {
            Some(depth) => format!("{name} has {depth} databases in its work queue, which was not empty yet"),
            None => format!("{name} does not report the depth of its work queue"),
        })
    }
}

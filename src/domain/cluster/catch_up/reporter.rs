//! The reports of one server's Cluster Replicator: which are new, whether the server restarted between two of them, and
//! what it reported at an earlier time.

use std::collections::VecDeque;

use super::records::KnownRun;
use super::types::{Moment, ReporterStatus, SourceId};
use crate::domain::cluster::report::ReplicatorReport;

/// Changes of `Retry.Waiting` that are remembered. An outage asks for the value some probe intervals ago.
const MAX_CHANGES: usize = 16;

/// The last report of one source.
#[derive(Clone, Debug)]
struct SourceState {
    source: SourceId,
    stamp: Option<f64>,
    run: Option<String>,
    successful: Option<u64>,
    failed: Option<u64>,
}

/// Whether a report is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    /// An exporter's old file, or a report without any value.
    Nothing,
    /// The first report of another run of the server: its queues were lost.
    Restarted,
    New,
}

/// What one server has reported.
#[derive(Clone, Debug, Default)]
pub(super) struct Reporter {
    sources: Vec<SourceState>,
    /// When `retry_waiting` changed, and to what.
    retry_waiting: VecDeque<(u64, u32)>,
    pub(super) last: Option<ReporterStatus>,
    /// When a restart was noticed; it may have happened any time since the report before.
    pub(super) restarted_ms: Option<u64>,
}

impl Reporter {
    pub(super) fn add(
        &mut self,
        source: SourceId,
        report: &ReplicatorReport,
        stamp: Option<f64>,
        now: Moment,
    ) -> Novelty {
        if *report == ReplicatorReport::default() {
            return Novelty::Nothing;
        }
        let known = self.sources.iter_mut().find(|known| known.source == source);
        let is_repeated =
            |known: &SourceState| stamp.is_some_and(|stamp| known.stamp.is_some_and(|old| stamp <= old));
        if known.as_ref().is_some_and(|known| is_repeated(known)) {
            return Novelty::Nothing;
        }
        let restarted = known.as_ref().is_some_and(|known| known.is_earlier_run_than(report));
        let state = SourceState {
            source,
            stamp,
            run: report.run.clone(),
            successful: report.successful,
            failed: report.failed,
        };
        match known {
            // A report that lacks a value does not hide a restart from the next one.
            Some(known) if !restarted => known.merge(state),
            Some(known) => *known = state,
            None => self.sources.push(state),
        }
        if restarted {
            self.restarted_ms = Some(now.ms);
            self.retry_waiting.clear();
        }
        if let Some(waiting) = report.retry_waiting
            && self.retry_waiting.back().is_none_or(|(_, last)| *last != waiting)
        {
            if self.retry_waiting.len() >= MAX_CHANGES {
                self.retry_waiting.pop_front();
            }
            self.retry_waiting.push_back((now.ms, waiting));
        }
        self.last = Some(ReporterStatus { report: report.clone(), at_ms: now.ms, source: source.0 });
        if restarted { Novelty::Restarted } else { Novelty::New }
    }

    /// `Retry.Waiting` as last reported at or before this time. Reports after it may already count what the outage
    /// caused.
    pub(super) fn retry_waiting_at(&self, ms: u64) -> Option<u32> {
        self.retry_waiting.iter().rev().find(|(at, _)| *at <= ms).map(|(_, waiting)| *waiting)
    }

    /// What tells this run of the server from the next, for the file in `state_dir`.
    pub(super) fn runs(&self) -> Vec<KnownRun> {
        let known = |state: &SourceState| KnownRun {
            source: state.source.0.to_owned(),
            run: state.run.clone(),
            successful: state.successful,
            failed: state.failed,
        };
        self.sources.iter().map(known).collect()
    }
}

impl SourceState {
    fn is_earlier_run_than(&self, report: &ReplicatorReport) -> bool {
        is_earlier_run(
            (self.run.as_deref(), self.successful, self.failed),
            (report.run.as_deref(), report.successful, report.failed),
        )
    }

    fn merge(&mut self, newer: Self) {
        self.stamp = newer.stamp.or(self.stamp);
        self.run = newer.run.or_else(|| self.run.take());
        self.successful = newer.successful.or(self.successful);
        self.failed = newer.failed.or(self.failed);
    }
}

/// What one report says about the run: its name, and the counters that begin at 0 with each run.
type Run<'a> = (Option<&'a str>, Option<u64>, Option<u64>);

/// Whether the server restarted between two reports of one source.
pub(super) fn is_earlier_run(old: Run<'_>, new: Run<'_>) -> bool {
    let differs = old.0.zip(new.0).is_some_and(|(old, new)| old != new);
    let fell = |old: Option<u64>, new: Option<u64>| old.zip(new).is_some_and(|(old, new)| new < old);
    differs || fell(old.1, new.1) || fell(old.2, new.2)
}

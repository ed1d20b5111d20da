//! Sums a rehearsal up: as a report with its numbers up to now, and as the sentences of its events.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::counts::GroupCounts;
use super::report::{RehearsalReport, StayedReport};
use super::running::RunningRehearsal;
use crate::util::clock;

impl RunningRehearsal {
    pub(crate) fn report(&self) -> RehearsalReport {
        let (moved, ended) = (group(&self.moved_users), self.ended());
        RehearsalReport {
            id: format!("{:08x}", self.id),
            server: self.server.abbreviated().to_owned(),
            cluster: self.cluster.clone(),
            users_percent: self.share.percent(),
            running: self.is_running(),
            started: rfc3339(self.started_unix_ms),
            ends: rfc3339(self.ends_unix_ms),
            left_ms: match ended {
                Some(_) => 0,
                None => self.ends_ms.saturating_sub(clock::now_ms()),
            },
            ended: ended.map(|end| rfc3339(end.at_unix_ms)),
            ended_because: ended.map(|end| end.why.as_str().to_owned()),
            ended_detail: ended.map(|end| end.detail.clone()).filter(|detail| !detail.is_empty()),
            users: moved.users,
            requests: moved.requests,
            moved: self.moved.load(Relaxed),
            failed: moved.failed,
            not_found: moved.not_found,
            denied: moved.denied,
            older_pages: self.older_pages.load(Relaxed),
            logins_lost: self.logins_lost.load(Relaxed),
            kept: self.kept.load(Relaxed),
            median_ms: moved.median_ms,
            p99_ms: moved.p99_ms,
            stayed: group(&self.stayed_users),
            only_replicas: self.only_replicas.clone(),
        }
    }

    /// The text of the event at its start.
    pub(in crate::state) fn start_text(&self, by: &str) -> String {
        let lasts = Duration::from_millis(self.ends_unix_ms.saturating_sub(self.started_unix_ms));
        let alone = match self.only_replicas.count {
            0 => String::new(),
            count => format!("; {count} databases have no other replica in service and stay there"),
        };
        format!(
            "rehearsal: {} counts as UNREACHABLE for {} % of the users for {}, begun by {by}{alone}",
            self.server,
            self.share.percent(),
            humantime::format_duration(lasts)
        )
    }

    /// The text of the event at its end.
    pub(in crate::state) fn end_text(&self) -> String {
        let report = self.report();
        let detail = report.ended_detail.map_or_else(String::new, |detail| format!(" ({detail})"));
        format!(
            "rehearsal of {} ended: {}{detail}. Moved: {} requests of {} users, {} failed, {} not found, {} denied. \
             Stayed: {} requests of {} users, {} failed, {} not found, {} denied",
            report.server,
            report.ended_because.unwrap_or_default(),
            report.requests,
            report.users,
            report.failed,
            report.not_found,
            report.denied,
            report.stayed.requests,
            report.stayed.users,
            report.stayed.failed,
            report.stayed.not_found,
            report.stayed.denied
        )
    }
}

fn group(counts: &GroupCounts) -> StayedReport {
    StayedReport {
        users: counts.users.len(),
        requests: counts.requests.load(Relaxed),
        failed: counts.failed.load(Relaxed),
        not_found: counts.not_found.load(Relaxed),
        denied: counts.denied.load(Relaxed),
        median_ms: counts.times.quantile_ms(0.5),
        p99_ms: counts.times.quantile_ms(0.99),
    }
}

fn rfc3339(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    at.map(|at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

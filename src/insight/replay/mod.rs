//! Replays the JSON access log through the selection of the proxy, with the states of the servers that the log has
//! recorded: what a threshold, a weight, a mark or a server that is down would have changed. Nothing is sent.

mod advice;
mod attempt;
mod changes;
mod engine;
mod known_states;
mod line;
mod report;
mod selection;
mod sides;
mod tally;
mod users;

use std::collections::BinaryHeap;

pub use changes::ReplayChanges;
pub use line::{LineError, time_of};
pub use report::{ClusterReplay, ReplayReport};

use crate::domain::directory::ReplicaId;
use crate::state::Snapshot;
use engine::{Engine, LoggedAttempt, LoggedRequest};
use line::{LineParser, LogLine, LoggedOutcome};
use sides::ClusterSides;

/// Lines are in the order of the ends of requests. They wait for this long, so that the replay sees them in the order in
/// which they began: a longer one begins late.
const REORDER_MS: u64 = 30_000;
/// More requests do not wait.
const MAX_WAITING: usize = 200_000;

/// Which part of a log counts.
#[derive(Clone, Debug, Default)]
pub struct ReplayRange {
    /// Requests that began at or after this, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Requests that began before this.
    pub to_ms: Option<u64>,
    /// Requests of this cluster or pool.
    pub cluster: Option<String>,
}

/// A replay in progress.
#[derive(Debug)]
pub struct Replay {
    engine: Engine,
    parser: LineParser,
    range: ReplayRange,
    /// Clients come over TLS where the log cannot say it.
    assumes_tls: bool,
    waiting: BinaryHeap<Waiting>,
    newest_end_ms: u64,
    lines: LineCounts,
}

/// How many lines were of each kind.
#[derive(Clone, Copy, Debug, Default)]
struct LineCounts {
    read: u64,
    malformed: u64,
    own_answers: u64,
    unknown_cluster: u64,
    out_of_range: u64,
    /// Lines with states of servers.
    records: u64,
    first_ms: Option<u64>,
    last_ms: Option<u64>,
}

/// A request that waits for those that began before; the earliest is the greatest.
#[derive(Debug)]
struct Waiting(LoggedRequest, u64);

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0.begin_ms, other.1).cmp(&(self.0.begin_ms, self.1))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl Replay {
    /// `other` is the configuration to compare with, if not only `changes` are applied. The same `seed` gives the same
    /// result.
    #[must_use]
    pub fn new(
        snapshot: &Snapshot,
        other: Option<&Snapshot>,
        changes: &ReplayChanges,
        range: ReplayRange,
        seed: u64,
    ) -> Self {
        let listeners = &snapshot.settings.listeners;
        Self {
            engine: Engine::new(ClusterSides::of(snapshot, other, changes), seed),
            parser: LineParser::default(),
            range,
            assumes_tls: !listeners.is_empty() && listeners.iter().all(|listener| listener.tls.is_some()),
            waiting: BinaryHeap::new(),
            newest_end_ms: 0,
            lines: LineCounts::default(),
        }
    }

    /// Takes the next line of the log.
    ///
    /// # Errors
    /// If it is no line of the JSON access log. The line is counted, and the replay can go on.
    pub fn line(&mut self, text: &[u8]) -> Result<(), LineError> {
        self.lines.read += 1;
        let line = self.parser.parse(text).inspect_err(|_| self.lines.malformed += 1)?;
        self.add_states(&line);
        self.newest_end_ms = self.newest_end_ms.max(line.end_ms);
        if let Some(request) = self.request_of(line) {
            self.waiting.push(Waiting(request, self.lines.read));
        }
        let horizon = self.newest_end_ms.saturating_sub(REORDER_MS);
        while self.waiting.len() > MAX_WAITING
            || self.waiting.peek().is_some_and(|Waiting(next, _)| next.begin_ms <= horizon)
        {
            let Some(Waiting(request, _)) = self.waiting.pop() else { break };
            self.engine.replay(&request);
        }
        Ok(())
    }

    /// A line that could not be read at all.
    pub fn skip_line(&mut self) {
        self.lines.read += 1;
        self.lines.malformed += 1;
    }

    fn add_states(&mut self, line: &LogLine<'_>) {
        let Some(states) = &line.states else { return };
        self.lines.records += 1;
        let at_ms = line::record_time(states).unwrap_or(line.end_ms);
        for cluster in &mut self.engine.clusters {
            let name = &cluster.sides.name;
            let servers = &cluster.sides.servers;
            cluster.states.record(at_ms, &states.list, |server| {
                (server.cluster == *name).then(|| servers.find(&server.server)).flatten()
            });
        }
    }

    /// The request, if selection had to decide it.
    fn request_of(&mut self, line: LogLine<'_>) -> Option<LoggedRequest> {
        let begin_ms = line.end_ms.saturating_sub(line.total_ms);
        let is_counted = self.range.from_ms.is_none_or(|from| begin_ms >= from)
            && self.range.to_ms.is_none_or(|to| begin_ms < to)
            && (self.range.cluster.is_none() || self.range.cluster.as_deref() == line.cluster.as_deref());
        if is_counted {
            self.lines.first_ms = Some(self.lines.first_ms.map_or(begin_ms, |first| first.min(begin_ms)));
            self.lines.last_ms = self.lines.last_ms.max(Some(line.end_ms));
        } else {
            self.lines.out_of_range += 1;
        }
        let count = u64::from(is_counted);
        let Some(name) = line.cluster.as_deref().filter(|_| line.outcome != LoggedOutcome::Own) else {
            self.lines.own_answers += count;
            return None;
        };
        let found = self.engine.clusters.iter_mut().zip(0..).find(|(c, _)| c.sides.name == name);
        let Some((cluster, number)) = found else {
            self.lines.unknown_cluster += count;
            return None;
        };
        let has_route = |side: &sides::Side| side.servers_of_route(line.route.as_deref()).is_some();
        let sides = &mut cluster.sides;
        let names_servers = has_route(&sides.before) || sides.after.as_ref().is_some_and(has_route);
        let attempts = line.attempts.iter().map(|(name, failure)| LoggedAttempt {
            server: sides.servers.position_of(name),
            failure: *failure,
        });
        Some(LoggedRequest {
            begin_ms,
            end_ms: line.end_ms,
            cluster: number,
            user: line.user,
            database: line.replica_id.map(ReplicaId),
            route: line.route.as_deref().filter(|_| names_servers).map(Into::into),
            tls: line.is_http2 || self.assumes_tls,
            note_id: line.note_id,
            tie: line.tie,
            is_set_aside: line.is_set_aside,
            attempts: attempts.collect(),
            state: line.state,
            index: line.index,
            answered_ms: line.first_byte_ms.filter(|_| (200..400).contains(&line.status)),
            is_fixed_refusal: line.outcome == LoggedOutcome::NoteIdRefused,
            is_counted,
        })
    }

    /// Replays what is left, and reports. `limit`: number of databases in each list.
    #[must_use]
    pub fn finish(mut self, limit: usize) -> ReplayReport {
        while let Some(Waiting(request, _)) = self.waiting.pop() {
            self.engine.replay(&request);
        }
        self.engine.finish();
        report::report(&self.engine, &self.lines.into(), limit)
    }
}

impl From<LineCounts> for report::ReplayedLines {
    fn from(lines: LineCounts) -> Self {
        Self {
            read: lines.read,
            malformed: lines.malformed,
            own_answers: lines.own_answers,
            unknown_cluster: lines.unknown_cluster,
            out_of_range: lines.out_of_range,
            with_states: lines.records,
            from_unix_ms: lines.first_ms,
            to_unix_ms: lines.last_ms,
        }
    }
}

#[cfg(test)]
mod tests;

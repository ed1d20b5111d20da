//! What is known about the servers of a cluster at each moment of the log: recorded states, else what lines show of the
//! servers that they name, else nothing.

use std::collections::VecDeque;

use crate::domain::cluster::{ServerSnapshot, ServerState};
use crate::domain::directory::ReplicaId;
use crate::domain::select::ServerId;
use crate::telemetry::access_log::recorded::RecordedServer;

/// A record is written at least once a minute while there are requests; after this time the states are unknown.
const MAX_RECORD_AGE_MS: u64 = 180_000;
/// Requests that began longer ago than this find no record any more.
const MAX_KEPT_MS: u64 = 900_000;
/// For how long a state holds that a line showed.
const MAX_SEEN_AGE_MS: u64 = 120_000;
/// As long for a server that could not be reached: no line shows it while it is away.
const MAX_UNREACHABLE_AGE_MS: u64 = 600_000;

/// What selection knew about a server. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KnownServer {
    pub snapshot: ServerSnapshot,
    pub index: Option<u8>,
    pub threshold: u8,
    /// The databases whose replica is behind here.
    pub behind: Vec<ReplicaId>,
}

/// Where the state of a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Assumed,
    Seen,
    Recorded,
}

impl Default for KnownServer {
    /// AVAILABLE, with an unknown index.
    fn default() -> Self {
        let snapshot = ServerSnapshot {
            http: true,
            https: true,
            restricted_since_ms: None,
            closed: false,
            busy: false,
            max_users: false,
            catching_up_since_unix_ms: None,
            index: None,
            noise: 0.0,
            in_flight: 0,
            in_flight_then: 0.0,
            weight: 1,
            max_connections: 0,
            returned_at_ms: None,
            failing: 0.0,
        };
        Self { snapshot, index: None, threshold: 0, behind: Vec::new() }
    }
}

impl KnownServer {
    fn from_record(server: &RecordedServer, at_ms: u64) -> Self {
        // 0 would mean never.
        let since = |age_ms: u64| at_ms.saturating_sub(age_ms).max(1);
        let snapshot = ServerSnapshot {
            http: server.http,
            https: server.https,
            restricted_since_ms: server.restricted_ms.map(since),
            closed: server.closed,
            busy: server.busy,
            max_users: server.max_users,
            catching_up_since_unix_ms: server.catching_up_ms.map(since),
            index: server.ranking,
            noise: server.noise,
            in_flight: 0,
            in_flight_then: server.in_flight,
            weight: server.weight.max(1),
            max_connections: server.max_connections,
            returned_at_ms: server.returned_ms.map(since),
            failing: server.failing,
        };
        let behind = server.behind.iter().filter_map(|id| ReplicaId::parse(id).ok()).collect();
        Self { snapshot, index: server.index, threshold: server.threshold, behind }
    }
}

/// What lines show of one server.
#[derive(Clone, Copy, Debug)]
struct SeenState {
    at_ms: u64,
    /// Since when it has been in this state.
    since_ms: u64,
    state: ServerState,
    index: Option<f32>,
}

impl SeenState {
    fn holds(&self, at_ms: u64) -> bool {
        let limit = match self.state {
            ServerState::Unreachable => MAX_UNREACHABLE_AGE_MS,
            _ => MAX_SEEN_AGE_MS,
        };
        at_ms.saturating_sub(self.at_ms) <= limit
    }

    fn apply(&self, known: &mut KnownServer) {
        let snapshot = &mut known.snapshot;
        snapshot.index = self.index;
        known.index = self.index.map(|index| index.round().clamp(0.0, 100.0) as u8);
        match self.state {
            ServerState::Available => {}
            ServerState::Busy => snapshot.busy = true,
            ServerState::MaxUsers => snapshot.max_users = true,
            ServerState::Restricted => snapshot.restricted_since_ms = Some(self.since_ms),
            ServerState::CatchingUp => snapshot.catching_up_since_unix_ms = Some(self.since_ms),
            ServerState::Unreachable => (snapshot.http, snapshot.https) = (false, false),
        }
    }
}

/// The servers of one record, by their position in the replay's cluster.
type StatesOfRecord = Vec<Option<KnownServer>>;

/// The states of one cluster over time.
#[derive(Debug, Default)]
pub(super) struct KnownStates {
    /// In the order of their times.
    records: VecDeque<(u64, StatesOfRecord)>,
    seen: Vec<Option<SeenState>>,
}

impl KnownStates {
    /// Adds a record; `position` finds the servers of this cluster.
    pub fn record(
        &mut self,
        at_ms: u64,
        servers: &[RecordedServer],
        position: impl Fn(&RecordedServer) -> Option<ServerId>,
    ) {
        let mut states = StatesOfRecord::new();
        for server in servers {
            let Some(at) = position(server).map(usize::from) else { continue };
            if states.len() <= at {
                states.resize(at + 1, None);
            }
            if let Some(state) = states.get_mut(at) {
                *state = Some(KnownServer::from_record(server, at_ms));
            }
        }
        if states.is_empty() {
            return;
        }
        // Two processes write during an upgrade.
        let after =
            self.records.iter().rposition(|(known, _)| *known <= at_ms).map_or(0, |before| before + 1);
        self.records.insert(after, (at_ms, states));
        while self.records.len() > 1
            && self.records.get(1).is_some_and(|(second, _)| second + MAX_KEPT_MS < at_ms)
        {
            self.records.pop_front();
        }
    }

    /// A line showed a server in this state.
    pub fn saw(&mut self, server: ServerId, at_ms: u64, state: ServerState, index: Option<f32>) {
        let at = usize::from(server);
        if self.seen.len() <= at {
            self.seen.resize(at + 1, None);
        }
        let Some(seen) = self.seen.get_mut(at) else { return };
        let since_ms = seen.filter(|known| known.state == state && known.holds(at_ms));
        let since_ms = since_ms.map_or(at_ms, |known| known.since_ms);
        *seen = Some(SeenState { at_ms, since_ms, state, index });
    }

    /// The record in force at this time.
    pub fn record_at(&self, at_ms: u64) -> Option<&StatesOfRecord> {
        let before = self.records.iter().rev().find(|(known, _)| *known <= at_ms);
        // At the start of a log the first record is only a little late.
        let (known, states) = before.or(self.records.front())?;
        (at_ms.abs_diff(*known) <= MAX_RECORD_AGE_MS).then_some(states)
    }

    /// A server at this time; `record` is the one in force, `unknown` what is assumed without any.
    pub fn server(
        &self,
        record: Option<&StatesOfRecord>,
        server: ServerId,
        at_ms: u64,
        unknown: &KnownServer,
    ) -> (KnownServer, Origin) {
        let at = usize::from(server);
        if let Some(known) = record.and_then(|states| states.get(at)).and_then(Option::as_ref) {
            return (known.clone(), Origin::Recorded);
        }
        let mut known = unknown.clone();
        match self.seen.get(at).copied().flatten().filter(|seen| seen.holds(at_ms)) {
            Some(seen) => {
                seen.apply(&mut known);
                (known, Origin::Seen)
            }
            None => (known, Origin::Assumed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(index: u8) -> RecordedServer {
        RecordedServer {
            index: Some(index),
            http: true,
            restricted_ms: Some(500),
            ..RecordedServer::default()
        }
    }

    fn index_at(states: &KnownStates, at_ms: u64) -> (Option<u8>, Origin) {
        let (known, origin) = states.server(states.record_at(at_ms), 0, at_ms, &KnownServer::default());
        (known.index, origin)
    }

    #[test]
    fn a_request_gets_the_states_of_its_own_time() {
        let mut states = KnownStates::default();
        for (at_ms, index) in [(10_000, 10), (30_000, 30), (20_000, 20)] {
            states.record(at_ms, &[recorded(index)], |_| Some(0));
        }
        assert_eq!(index_at(&states, 9_000), (Some(10), Origin::Recorded), "a little before the first");
        assert_eq!(index_at(&states, 10_000), (Some(10), Origin::Recorded));
        assert_eq!(index_at(&states, 29_999), (Some(20), Origin::Recorded));
        assert_eq!(index_at(&states, 30_000 + MAX_RECORD_AGE_MS), (Some(30), Origin::Recorded));
        assert_eq!(index_at(&states, 30_001 + MAX_RECORD_AGE_MS), (None, Origin::Assumed), "too old");
        let (known, _) = states.server(states.record_at(20_000), 0, 20_000, &KnownServer::default());
        assert_eq!(known.snapshot.restricted_since_ms, Some(19_500));
    }

    #[test]
    fn without_a_record_lines_show_a_state_for_a_while() {
        let mut states = KnownStates::default();
        states.saw(0, 1_000, ServerState::Busy, Some(20.4));
        states.saw(1, 1_000, ServerState::Unreachable, None);
        let at = |server, at_ms| states.server(None, server, at_ms, &KnownServer::default());
        let (known, origin) = at(0, 1_000 + MAX_SEEN_AGE_MS);
        assert_eq!((known.snapshot.busy, known.index, origin), (true, Some(20), Origin::Seen));
        assert_eq!(at(0, 1_001 + MAX_SEEN_AGE_MS), (KnownServer::default(), Origin::Assumed));
        assert!(!at(1, 1_000 + MAX_UNREACHABLE_AGE_MS).0.snapshot.http, "no line shows it while it is away");
        assert_eq!(at(2, 1_000).1, Origin::Assumed);
    }

    #[test]
    fn old_records_are_dropped() {
        let mut states = KnownStates::default();
        for second in 0..10_000 {
            states.record(second * 1_000, &[recorded(1)], |_| Some(0));
        }
        assert!(states.records.len() < 1_000, "{}", states.records.len());
    }
}

//! Replays one request after the other, in the order in which they began: once as the configuration was, to see how well
//! that agrees with the log, and once with the change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use smallvec::SmallVec;

use super::attempt::ReplayedAttempt;
use super::known_states::{KnownStates, Origin};
use super::line::{Failure, Tie};
use super::selection::{Moment, Question};
use super::sides::ClusterSides;
use super::tally::ClusterTally;
use super::users::{MovedUsers, UserKey};
use crate::domain::cluster::ServerState;
use crate::domain::directory::ReplicaId;
use crate::domain::select::ServerId;

/// Pauses without requests count as states only up to this time.
const MAX_PAUSE_SECONDS: u64 = 60;

/// One attempt of a logged request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoggedAttempt {
    pub server: ServerId,
    pub failure: Option<Failure>,
}

/// A request of the log that selection had to decide.
#[derive(Clone, Debug)]
pub(super) struct LoggedRequest {
    pub begin_ms: u64,
    pub end_ms: u64,
    pub cluster: u16,
    pub user: u64,
    pub database: Option<ReplicaId>,
    pub route: Option<Box<str>>,
    pub tls: bool,
    pub note_id: bool,
    pub tie: Tie,
    /// The server was set aside, and no better one was left.
    pub is_set_aside: bool,
    /// Empty if it was refused.
    pub attempts: SmallVec<[LoggedAttempt; 2]>,
    /// Of the server of the last attempt, when it was chosen.
    pub state: Option<ServerState>,
    pub index: Option<f32>,
    /// Milliseconds to the first byte of a good answer.
    pub answered_ms: Option<u64>,
    /// Refused because of its NoteID: only the log knows.
    pub is_fixed_refusal: bool,
    /// Outside of the time that is asked for: it only shows states.
    pub is_counted: bool,
}

impl LoggedRequest {
    /// The server that answered, or the last one that was tried.
    fn server(&self) -> Option<ServerId> {
        self.attempts.last().map(|attempt| attempt.server)
    }

    fn is_last_resort(&self) -> bool {
        self.is_set_aside && matches!(self.state, Some(ServerState::Busy | ServerState::MaxUsers))
    }
}

/// One cluster of the replay.
#[derive(Debug)]
pub(super) struct ReplayedCluster {
    pub sides: ClusterSides,
    pub states: KnownStates,
    pub tally: ClusterTally,
}

/// What a side does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Served {
    server: ServerId,
    last_resort: bool,
}

/// A request that has begun; ordered by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RequestInFlight {
    end_ms: u64,
    cluster: u16,
    before: Option<ServerId>,
    after: Option<ServerId>,
}

/// The clusters and what goes on at the time of the replay.
#[derive(Debug)]
pub(super) struct Engine {
    pub clusters: Vec<ReplayedCluster>,
    pub moved: MovedUsers,
    /// The request that ends first is on top.
    in_flight: BinaryHeap<Reverse<RequestInFlight>>,
    second: u64,
    random: fastrand::Rng,
}

impl Engine {
    pub fn new(clusters: Vec<ClusterSides>, seed: u64) -> Self {
        let cluster =
            |sides| ReplayedCluster { sides, states: KnownStates::default(), tally: ClusterTally::default() };
        Self {
            clusters: clusters.into_iter().map(cluster).collect(),
            moved: MovedUsers::default(),
            in_flight: BinaryHeap::new(),
            second: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Replays a request; each must not begin before the one before.
    pub fn replay(&mut self, request: &LoggedRequest) {
        self.advance(request.begin_ms);
        let Some(cluster) = self.clusters.get_mut(usize::from(request.cluster)) else { return };
        if let (Some(server), Some(state)) = (request.server(), request.state) {
            cluster.states.saw(server, request.begin_ms, state, request.index);
        }
        if request.is_counted && cluster.sides.before.prepare(request.database) {
            let served = cluster.replay(request, &mut self.moved, &mut self.random);
            let after = if cluster.sides.after.is_some() { served } else { request.server() };
            cluster.begin(request.server(), after);
            self.in_flight.push(Reverse(RequestInFlight {
                end_ms: request.end_ms,
                cluster: request.cluster,
                before: request.server(),
                after,
            }));
        } else if request.is_counted {
            cluster.tally.not_in_directory += 1;
        }
        for attempt in request.attempts.iter().filter(|attempt| attempt.failure == Some(Failure::Connect)) {
            cluster.states.saw(attempt.server, request.begin_ms, ServerState::Unreachable, None);
        }
    }

    /// Ends the requests in flight, and counts the second that is over.
    fn advance(&mut self, now_ms: u64) {
        while let Some(Reverse(request)) = self.in_flight.peek().copied()
            && request.end_ms <= now_ms
        {
            self.in_flight.pop();
            if let Some(cluster) = self.clusters.get_mut(usize::from(request.cluster)) {
                cluster.end(request.before, request.after);
            }
        }
        let second = now_ms / 1_000;
        if second > self.second {
            let passed = (second - self.second).min(MAX_PAUSE_SECONDS);
            if self.second > 0 {
                self.clusters.iter_mut().for_each(|cluster| cluster.end_second(self.second, passed));
            }
            self.second = second;
        }
    }

    /// Counts what is left at the end of the log.
    pub fn finish(&mut self) {
        let second = self.second;
        self.clusters.iter_mut().for_each(|cluster| cluster.end_second(second, 1));
    }
}

impl ReplayedCluster {
    fn begin(&mut self, before: Option<ServerId>, after: Option<ServerId>) {
        before.into_iter().for_each(|server| self.tally.server(server).begin(true));
        after.into_iter().for_each(|server| self.tally.server(server).begin(false));
    }

    fn end(&mut self, before: Option<ServerId>, after: Option<ServerId>) {
        if let Some(server) = before {
            let in_flight = &mut self.tally.server(server).in_flight.before;
            *in_flight = in_flight.saturating_sub(1);
        }
        if let Some(server) = after {
            let in_flight = &mut self.tally.server(server).in_flight.after;
            *in_flight = in_flight.saturating_sub(1);
        }
    }

    fn end_second(&mut self, second: u64, passed: u64) {
        self.tally.servers().for_each(super::tally::ServerTally::end_second);
        let at_ms = second * 1_000;
        let record = self.states.record_at(at_ms);
        for (server, member) in self.sides.before.members() {
            let (known, origin) = self.states.server(record, server, at_ms, &member.unknown);
            if origin == Origin::Assumed {
                continue;
            }
            let changed = self.sides.after.as_ref().and_then(|side| side.member(server));
            let after = changed.map(|member| member.change.apply(&known));
            let tally = self.tally.server(server);
            tally.known_seconds += passed;
            tally.busy_seconds.before += if known.snapshot.busy { passed } else { 0 };
            tally.busy_seconds.after += if after.is_some_and(|a| a.snapshot.busy) { passed } else { 0 };
        }
    }

    /// Replays a request of a database that the directory has. Returns the server after the change.
    fn replay(
        &mut self,
        request: &LoggedRequest,
        moved: &mut MovedUsers,
        random: &mut fastrand::Rng,
    ) -> Option<ServerId> {
        self.tally.requests += 1;
        self.tally.users.add(request.user);
        self.tally.database(request.database).requests += 1;
        let real = request.server();
        if real.is_none() {
            self.tally.refused.before += 1;
            self.tally.database(request.database).refused.before += 1;
        }
        if let Some(server) = real.filter(|_| request.is_last_resort()) {
            self.tally.server(server).last_resort.before += 1;
        }
        if let (Some(server), Some(index), Some(ms)) = (real, request.index, request.answered_ms) {
            self.tally.server(server).answered(index, ms);
        }
        let question = Question {
            database: request.database,
            route: request.route.as_deref(),
            tls: request.tls,
            note_id: request.note_id,
            at_ms: request.begin_ms,
            seed: random.u64(..),
        };
        let before = {
            let in_flight = |server| self.tally.known_server(server).map_or(0, |t| t.in_flight.before);
            Moment::of(&self.sides.before, &self.states, &question, in_flight)
        };
        self.count_knowledge(&before);
        self.compare_with_log(request, &question, &before);
        let prepared = self.sides.after.as_mut().is_some_and(|side| side.prepare(request.database));
        if !prepared {
            return if self.sides.after.is_some() { self.refuse(request) } else { None };
        }
        if request.is_fixed_refusal {
            return self.refuse(request);
        }
        match self.serve_after(request, &question, &before, moved, random) {
            None => self.refuse(request),
            Some(served) => {
                if served.last_resort {
                    self.tally.server(served.server).last_resort.after += 1;
                }
                self.count_move(request, served.server, moved);
                Some(served.server)
            }
        }
    }

    fn refuse(&mut self, request: &LoggedRequest) -> Option<ServerId> {
        self.tally.refused.after += 1;
        self.tally.database(request.database).refused.after += 1;
        self.tally.newly_refused += u64::from(request.server().is_some());
        None
    }

    fn count_knowledge(&mut self, moment: &Moment) {
        match moment.knowledge() {
            Origin::Recorded => self.tally.recorded += 1,
            Origin::Seen => self.tally.partly_known += 1,
            Origin::Assumed => self.tally.assumed += 1,
        }
        let indexes = || moment.known.iter().map(|(known, _)| known.index);
        self.tally.best_index.add(if indexes().any(|index| index.is_none()) {
            None
        } else {
            indexes().flatten().max()
        });
        for (candidate, (known, origin)) in moment.candidates.iter().zip(&moment.known) {
            let tally = self.tally.server(candidate.server);
            tally.index.add(known.index);
            if *origin == Origin::Recorded {
                tally.threshold = Some(known.threshold);
            }
        }
    }

    /// Whether the configuration that was in force explains the first attempt of the log.
    fn compare_with_log(&mut self, request: &LoggedRequest, question: &Question<'_>, moment: &Moment) {
        let Some(first) = request.attempts.first().map(|attempt| attempt.server) else { return };
        let decision = moment.decide(&self.sides.before, question, (request.tie, Some(first)), &[]);
        if request.tie != Tie::None {
            self.tally.tied += 1;
            self.tally.tied_same += u64::from(decision.chosen() == Some(first));
            return;
        }
        self.tally.new += 1;
        self.tally.new_explained += u64::from(moment.share(&decision, first) > 0.0);
        self.tally.server(first).new_users += 1;
        for candidate in &moment.candidates {
            let share = moment.share(&decision, candidate.server);
            self.tally.server(candidate.server).new_users_expected += share;
        }
    }

    /// The server after the change, through the attempts that failed in the log; `None` = refused.
    fn serve_after(
        &mut self,
        request: &LoggedRequest,
        question: &Question<'_>,
        before: &Moment,
        moved: &MovedUsers,
        random: &mut fastrand::Rng,
    ) -> Option<Served> {
        let side = self.sides.after.as_ref()?;
        let in_flight = |server| self.tally.known_server(server).map_or(0, |t| t.in_flight.after);
        let after = Moment::of(side, &self.states, question, in_flight);
        let mut tried: SmallVec<[ServerId; 4]> = SmallVec::new();
        let mut at = 0;
        loop {
            let real = request.attempts.get(at).map(|attempt| attempt.server);
            let tie = if at == 0 && side.has_affinity() { request.tie } else { Tie::None };
            let attempt = ReplayedAttempt {
                sides: (&self.sides.before, side),
                before,
                after: &after,
                question,
                tried: &tried,
            };
            let key = UserKey {
                user: request.user,
                cluster: request.cluster,
                server: 0,
                database: request.database,
            };
            let (server, set_aside) = match (tie, real) {
                (Tie::None, Some(real)) => attempt.new_user(real, random),
                (Tie::None, None) => attempt.any_user(),
                (tie, Some(real)) => attempt.user_of_server(tie, real, key, moved),
                (_, None) => None,
            }?;
            let failed = |attempt: &LoggedAttempt| attempt.server == server && attempt.failure.is_some();
            match request.attempts.iter().position(failed) {
                // There, too, the request would have failed and gone to the next server.
                Some(position) if position + 1 < request.attempts.len() && !tried.contains(&server) => {
                    tried.push(server);
                    at = position + 1;
                }
                _ => {
                    let snapshot = after.candidate(server).map(|candidate| candidate.snapshot);
                    let is_busy = snapshot.is_some_and(|server| server.busy || server.max_users);
                    return Some(Served { server, last_resort: set_aside && is_busy });
                }
            }
        }
    }

    fn count_move(&mut self, request: &LoggedRequest, server: ServerId, moved: &mut MovedUsers) {
        let Some(real) = request.server() else { return };
        let key = UserKey {
            user: request.user,
            cluster: request.cluster,
            server: real,
            database: request.database,
        };
        if server == real {
            moved.remove(key);
            return;
        }
        self.tally.moved += 1;
        self.tally.moved_users.add(request.user);
        *self.tally.moves.entry((real, server)).or_default() += 1;
        moved.insert(key, server);
        moved.insert(UserKey { database: None, ..key }, server);
    }
}

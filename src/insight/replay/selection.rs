//! Selects a server for a logged request as a side would have: builds the candidates of that moment, asks
//! `select::decide`, and compares two decisions.

use smallvec::SmallVec;

use super::known_states::{KnownServer, KnownStates, Origin};
use super::line::Tie;
use super::sides::Side;
use crate::domain::cluster::Port;
use crate::domain::directory::ReplicaId;
use crate::domain::select::{
    self, Candidate, CandidateFreshness, CandidateVerdict, Decision, Hint, SelectionInput, ServerId,
};

pub(super) type Candidates = SmallVec<[Candidate; 8]>;

/// What a request asks selection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub database: Option<ReplicaId>,
    pub route: Option<&'a str>,
    /// The client came over TLS.
    pub tls: bool,
    pub note_id: bool,
    pub at_ms: u64,
    pub seed: u64,
}

/// The candidates of a request, with what is known about them.
#[derive(Debug, Default)]
pub(super) struct Moment {
    pub candidates: Candidates,
    /// In the order of `candidates`.
    pub known: SmallVec<[(KnownServer, Origin); 4]>,
}

impl Moment {
    /// The candidates as they were at the time of the question, with these numbers of requests in flight.
    pub fn of(
        side: &Side,
        states: &KnownStates,
        question: &Question<'_>,
        in_flight: impl Fn(ServerId) -> u32,
    ) -> Self {
        let record = states.record_at(question.at_ms);
        let of_route = side.servers_of_route(question.route);
        let mut moment = Self::default();
        for holder in side.holders(question.database) {
            if of_route.is_some_and(|servers| !servers.contains(&holder.server)) {
                continue;
            }
            let Some(member) = side.member(holder.server) else { continue };
            let (known, origin) = states.server(record, holder.server, question.at_ms, &member.unknown);
            let known = member.change.apply(&known);
            let is_behind = question.database.is_some_and(|id| known.behind.contains(&id));
            let freshness = CandidateFreshness {
                behind_since_unix_ms: is_behind.then_some(1),
                ..CandidateFreshness::default()
            };
            let mut snapshot = known.snapshot;
            snapshot.in_flight = in_flight(holder.server);
            moment.candidates.push(Candidate {
                server: holder.server,
                status: holder.status,
                snapshot,
                freshness,
                of_other_site: holder.of_other_site,
            });
            moment.known.push((known, origin));
        }
        moment
    }

    pub fn candidate(&self, server: ServerId) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.server == server)
    }

    /// What was known about all candidates together.
    pub fn knowledge(&self) -> Origin {
        let mut origins = self.known.iter().map(|(_, origin)| *origin);
        let (least, most) = (origins.clone().min(), origins.by_ref().max());
        match (least, most) {
            (Some(Origin::Recorded), _) => Origin::Recorded,
            (_, Some(Origin::Recorded | Origin::Seen)) => Origin::Seen,
            _ => Origin::Assumed,
        }
    }

    /// Asks selection about a user with this tie to a server.
    pub fn decide(
        &self,
        side: &Side,
        question: &Question<'_>,
        tie: (Tie, Option<ServerId>),
        tried: &[ServerId],
    ) -> Decision {
        let port: Port = side.port(question.tls);
        let mut input =
            SelectionInput::without_affinity(&self.candidates, port, question.at_ms, question.seed);
        input.tried = tried;
        let sessions: SmallVec<[ServerId; 1]>;
        if let (tie, Some(server)) = tie {
            match tie {
                Tie::None => {}
                Tie::Entry => {
                    input.entry = Some(server);
                    input.note_id = question.note_id;
                }
                Tie::Hint => input.hint = Some((server, Hint::Referer)),
                Tie::Recent => input.recent = Some(server),
                Tie::Session => {
                    sessions = SmallVec::from([server]);
                    input.sessions = &sessions;
                    return select::decide(&input, &side.policy);
                }
                Tie::OwnWrite => input.written_on = Some(server),
            }
        }
        select::decide(&input, &side.policy)
    }

    /// The share of the draw that a server has, if requests in flight are in proportion to the weights: this is what
    /// many requests get. 1 for a server that was chosen without a draw.
    pub fn share(&self, decision: &Decision, server: ServerId) -> f64 {
        if decision.band.is_empty() {
            return f64::from(u8::from(decision.chosen() == Some(server)));
        }
        let weight = |server: ServerId| self.candidate(server).map_or(0, |c| c.snapshot.weight.max(1));
        let all: u32 = decision.band.iter().map(|server| weight(*server)).sum();
        match decision.band.contains(&server) {
            true => f64::from(weight(server)) / f64::from(all.max(1)),
            false => 0.0,
        }
    }
}

/// How good a verdict is for the server; lower is better.
pub(super) fn rank_of(verdict: Option<CandidateVerdict>) -> u8 {
    match verdict {
        Some(
            CandidateVerdict::Chosen(_) | CandidateVerdict::Equal(_) | CandidateVerdict::NotAffinityServer,
        ) => 0,
        Some(CandidateVerdict::Heavier(_) | CandidateVerdict::SlowStart(_)) => 1,
        Some(
            CandidateVerdict::Busy
            | CandidateVerdict::MaxUsers
            | CandidateVerdict::CatchingUp
            | CandidateVerdict::Behind
            | CandidateVerdict::OtherSite
            | CandidateVerdict::OlderThanOwnWrite,
        ) => 2,
        _ => 3,
    }
}

/// Whether the change leaves this server as it was, and only takes others away from the draw. Then nobody moves from it.
pub(super) fn only_takes_away(before: &Moment, after: &Moment, real: ServerId) -> bool {
    let is_no_better = |new: &Candidate| {
        let Some(old) = before.candidate(new.server) else { return false };
        let is_same = is_as_before(new, old);
        is_same || (new.server != real && is_worse(new, old))
    };
    after.candidate(real).is_some() && after.candidates.iter().all(is_no_better)
}

/// Whether only the load differs.
fn is_as_before(new: &Candidate, old: &Candidate) -> bool {
    let mut same_load = *new;
    same_load.snapshot.in_flight = old.snapshot.in_flight;
    same_load == *old
}

/// Whether a candidate has lost something and gained nothing.
fn is_worse(new: &Candidate, old: &Candidate) -> bool {
    let (n, o) = (&new.snapshot, &old.snapshot);
    n.weight == o.weight
        && new.status >= old.status
        && n.http <= o.http
        && n.https <= o.https
        && n.busy >= o.busy
        && n.max_users >= o.max_users
        && n.restricted_since_ms.is_some() >= o.restricted_since_ms.is_some()
        && n.catching_up_since_unix_ms.is_some() >= o.catching_up_since_unix_ms.is_some()
        && new.of_other_site >= old.of_other_site
}

/// A draw of both sides, to be compared.
pub(super) struct Draw<'a> {
    pub moment: &'a Moment,
    pub decision: &'a Decision,
}

/// Where a new user goes who went to `real` in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewUser {
    /// To the same server: the change gives it no smaller share of the draw, or this user is in its part of it.
    Same,
    /// To this server, whose share has grown.
    Other(ServerId),
    /// To what selection draws, because `real` is not in the draw any more.
    Drawn,
}

/// Moves as few new users as the changed shares allow: one that went to `real` stays with the probability
/// `after / before`, and otherwise goes to a server whose share grew.
pub(super) fn compare_draws(
    before: &Draw<'_>,
    after: &Draw<'_>,
    real: ServerId,
    random: &mut fastrand::Rng,
) -> NewUser {
    let share = |draw: &Draw<'_>, server| draw.moment.share(draw.decision, server);
    let (old, new) = (share(before, real), share(after, real));
    if old <= 0.0 {
        // The states do not explain the log. Without a change for the worse it stays as it was.
        let rank = |draw: &Draw<'_>| rank_of(draw.decision.verdict(real));
        return if rank(after) <= rank(before) { NewUser::Same } else { NewUser::Drawn };
    }
    if random.f64() < new / old {
        return NewUser::Same;
    }
    if new <= 0.0 {
        return NewUser::Drawn;
    }
    let grown: SmallVec<[(ServerId, f64); 8]> = after
        .decision
        .band
        .iter()
        .map(|server| (*server, share(after, *server) - share(before, *server)))
        .filter(|(_, growth)| *growth > 0.0)
        .collect();
    let mut at = random.f64() * grown.iter().map(|(_, growth)| growth).sum::<f64>();
    let drawn = grown.iter().find(|(_, growth)| {
        at -= growth;
        at < 0.0
    });
    drawn.or(grown.last()).map_or(NewUser::Drawn, |(server, _)| NewUser::Other(*server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directory::ReplicaStatus;
    use crate::domain::select::{CrossSites, SelectionPolicy};

    const POLICY: SelectionPolicy = SelectionPolicy {
        drain_timeout_ms: 0,
        slow_start_ms: 0,
        max_in_flight: 0,
        try_unreachable: false,
        cross_sites: CrossSites::WhenUnavailable,
        transinfo_range: 6,
    };

    /// Servers with these weights; 0 = UNREACHABLE.
    fn moment(weights: &[u32]) -> Moment {
        let candidate = |(weight, server): (&u32, ServerId)| Candidate {
            server,
            status: ReplicaStatus::InService,
            snapshot: crate::domain::cluster::ServerSnapshot {
                weight: *weight,
                http: *weight > 0,
                ..KnownServer::default().snapshot
            },
            freshness: CandidateFreshness::default(),
            of_other_site: false,
        };
        let candidates: Candidates = weights.iter().zip(0..).map(candidate).collect();
        Moment {
            known: candidates.iter().map(|_| (KnownServer::default(), Origin::Seen)).collect(),
            candidates,
        }
    }

    fn decide(moment: &Moment, seed: u64) -> Decision {
        let input = SelectionInput::without_affinity(&moment.candidates, Port::Http, 1, seed);
        select::decide(&input, &POLICY)
    }

    /// How many of 30,000 new users each server gets after a change, and how many of them went elsewhere before.
    fn after(before: &[u32], then: &[u32]) -> (Vec<u64>, u64) {
        let (before, then) = (moment(before), moment(then));
        let mut random = fastrand::Rng::with_seed(7);
        let (mut counts, mut moved) = (vec![0; then.candidates.len()], 0);
        for seed in 0..30_000 {
            let (old, new) = (decide(&before, seed), decide(&then, seed ^ 0xffff));
            let real = old.chosen().unwrap();
            let of = |moment, decision| Draw { moment, decision };
            let server = match compare_draws(&of(&before, &old), &of(&then, &new), real, &mut random) {
                NewUser::Same => real,
                NewUser::Other(server) => server,
                NewUser::Drawn => new.chosen().unwrap(),
            };
            counts[usize::from(server)] += 1;
            moved += u64::from(server != real);
        }
        (counts, moved)
    }

    fn assert_near(counts: &[u64], expected: &[u64]) {
        for (count, expected) in counts.iter().zip(expected) {
            assert!(count.abs_diff(*expected) < 700, "{counts:?}, but {expected:?} are due");
        }
    }

    #[test]
    fn without_a_change_nobody_moves() {
        assert_eq!(after(&[1, 1, 2], &[1, 1, 2]).1, 0);
    }

    #[test]
    fn the_users_of_a_server_that_is_down_move_and_no_others() {
        let before = after(&[1, 1, 1], &[1, 1, 1]).0;
        let (counts, moved) = after(&[1, 1, 1], &[1, 1, 0]);
        assert_eq!((counts[2], moved), (0, before[2]));
        assert_near(&counts, &[15_000, 15_000, 0]);
    }

    #[test]
    fn a_weight_moves_as_many_as_the_shares_differ() {
        let (counts, moved) = after(&[1, 1, 1], &[2, 1, 1]);
        assert_near(&counts, &[15_000, 7_500, 7_500]);
        assert!(moved.abs_diff(5_000) < 400, "{moved}");
    }

    #[test]
    fn a_server_that_joins_the_draw_gets_its_share() {
        let (counts, moved) = after(&[1, 1, 0], &[1, 1, 1]);
        assert_near(&counts, &[10_000, 10_000, 10_000]);
        assert!(moved.abs_diff(10_000) < 400, "{moved}");
    }
}

//! One attempt of a logged request as it was and after the change: which server a user gets there who went to another, or to
//! the same, in the log.

use smallvec::SmallVec;

use super::line::Tie;
use super::selection::{Draw, Moment, NewUser, Question, compare_draws, only_takes_away};
use super::sides::Side;
use super::users::{MovedUsers, UserKey};
use crate::domain::select::{CandidateVerdict, Decision, SelectionOutcome, SelectionReason, ServerId};

/// Whether every server that is left is set aside.
fn is_set_aside(decision: &Decision) -> bool {
    matches!(decision.outcome, SelectionOutcome::Serve(_, SelectionReason::SetAside))
}

/// One attempt on both sides. Its answers are a server, and whether every server that is left is set aside.
pub(super) struct ReplayedAttempt<'a> {
    pub sides: (&'a Side, &'a Side),
    pub before: &'a Moment,
    pub after: &'a Moment,
    pub question: &'a Question<'a>,
    pub tried: &'a [ServerId],
}

impl ReplayedAttempt<'_> {
    fn decide_before(&self, tie: Tie, on: Option<ServerId>) -> Decision {
        self.before.decide(self.sides.0, self.question, (tie, on), self.tried)
    }

    fn decide_after(&self, tie: Tie, on: Option<ServerId>) -> Decision {
        let mut decision = self.after.decide(self.sides.1, self.question, (tie, on), self.tried);
        // What is down by the change would not answer a last try.
        if let SelectionOutcome::Serve(server, SelectionReason::LastResort) = decision.outcome
            && self.is_excluded(server)
        {
            decision.outcome = SelectionOutcome::NoServer;
        }
        decision
    }

    /// Whether the change alone keeps everybody from this server.
    fn is_excluded(&self, server: ServerId) -> bool {
        self.sides.1.member(server).is_none_or(|member| member.change.excludes())
    }

    /// A user who belongs to a server stays there, or on the one where the change has moved this user before.
    pub fn user_of_server(
        &self,
        tie: Tie,
        real: ServerId,
        key: UserKey,
        moved: &MovedUsers,
    ) -> Option<(ServerId, bool)> {
        let key = UserKey { server: real, ..key };
        let anywhere = || moved.get(UserKey { database: None, ..key }).filter(|_| tie != Tie::Entry);
        let elsewhere = moved.get(key).or_else(anywhere);
        let decision = self.decide_after(tie, Some(elsewhere.unwrap_or(real)));
        let (chosen, set_aside) = (decision.chosen(), is_set_aside(&decision));
        if elsewhere.is_none() && chosen != Some(real) && !self.is_excluded(real) {
            // If the states of the log do not explain it, the change is not the reason.
            let before = self.decide_before(tie, Some(real)).chosen();
            let server = if before == chosen { Some(real) } else { chosen };
            return Some((server?, set_aside));
        }
        Some((chosen?, set_aside))
    }

    /// A user who got no server in the log.
    pub fn any_user(&self) -> Option<(ServerId, bool)> {
        let decision = self.decide_after(Tie::None, None);
        Some((decision.chosen()?, is_set_aside(&decision)))
    }

    /// A user without a server goes where the log shows it, unless the change makes that less likely. What is likely is
    /// judged by the requests in flight of the log; where the user goes instead, by those after the change.
    pub fn new_user(&self, real: ServerId, random: &mut fastrand::Rng) -> Option<(ServerId, bool)> {
        let drawn = self.decide_after(Tie::None, None);
        Some((self.server_of_new_user(real, &drawn, random)?, is_set_aside(&drawn)))
    }

    fn server_of_new_user(
        &self,
        real: ServerId,
        drawn: &Decision,
        random: &mut fastrand::Rng,
    ) -> Option<ServerId> {
        let is_full = |verdict| verdict == Some(CandidateVerdict::Full);
        if self.is_excluded(real) || drawn.outcome == SelectionOutcome::Full || is_full(drawn.verdict(real)) {
            return drawn.chosen();
        }
        if only_takes_away(self.before, self.after, real) {
            return Some(real);
        }
        let before = self.decide_before(Tie::None, None);
        let mut same_load = self.after.candidates.clone();
        for candidate in &mut same_load {
            let of_log = self.before.candidate(candidate.server).map(|c| c.snapshot.in_flight);
            candidate.snapshot.in_flight = of_log.unwrap_or(candidate.snapshot.in_flight);
        }
        let same_load = Moment { candidates: same_load, known: SmallVec::new() };
        let after = same_load.decide(self.sides.1, self.question, (Tie::None, None), self.tried);
        if after.chosen().is_none() {
            // If the states of the log do not explain it, the change is not the reason.
            return before.chosen().is_none().then_some(real);
        }
        let of = |moment, decision| Draw { moment, decision };
        match compare_draws(&of(self.before, &before), &of(&same_load, &after), real, random) {
            NewUser::Same => Some(real),
            NewUser::Other(server) => Some(server),
            NewUser::Drawn => drawn.chosen(),
        }
    }
}

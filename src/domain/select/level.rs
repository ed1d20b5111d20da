//! Step 5 of selection: how far a candidate is set aside, and why.
//!
//! It is separate because the order of the reasons is one rule: the user's own last write counts most, then the site, then
//! whether the replica is behind, then the state of the server.

use super::decision::CandidateVerdict;
use super::input::{Candidate, CrossSites, OwnWrite, SelectionInput, ServerId};

/// The condition of candidates for which nothing speaks against.
const GOOD: u8 = 0;
const BUSY: u8 = 1;
const CATCHING_UP: u8 = 2;
/// Added for a replica that is behind: it is worse than any that is not.
const BEHIND: u8 = 3;

/// How gladly a candidate serves: the lowest level serves first. The fields are compared in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level {
    own_write: OwnWrite,
    site: SiteLevel,
    condition: u8,
}

/// How the site of a server compares with that of this balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SiteLevel {
    Own,
    /// Of another site, and the first choice after the own one.
    Other,
    /// Of the own site, but set aside more than the good servers of another one: only with [`CrossSites::WhenBusy`].
    OwnSetAside,
    OtherSetAside,
}

impl Level {
    /// Whether this is a server or a replica that serves only if no better one can, whatever its site.
    pub fn is_set_aside(self) -> bool {
        self.condition != GOOD
    }

    /// Whether nothing but its site sets the server aside.
    pub fn is_other_site(self) -> bool {
        self.site == SiteLevel::Other && !self.is_set_aside()
    }
}

/// A hint counts like an entry where the URL names no database of its own: a login form must be posted to the server
/// that showed it.
pub(super) fn is_on(server: ServerId, input: &SelectionInput<'_>) -> bool {
    input.entry == Some(server)
        || (input.entry.is_none() && input.hint.is_some_and(|(hinted, _)| hinted == server))
}

/// Whether the site of a server speaks against it: it is another one, and the user does not belong to this server.
pub(super) fn sets_site_aside(candidate: &Candidate, input: &SelectionInput<'_>) -> bool {
    candidate.of_other_site && !is_on(candidate.server, input) && input.written_on != Some(candidate.server)
}

/// The level of a candidate, and the verdict if it is set aside.
pub(super) fn of(
    candidate: &Candidate,
    input: &SelectionInput<'_>,
    cross_sites: CrossSites,
) -> (Level, Option<CandidateVerdict>) {
    let wrote_here = input.written_on == Some(candidate.server);
    let (condition, mut verdict) = condition(candidate, input);
    let is_other = sets_site_aside(candidate, input);
    let is_good = condition == GOOD || cross_sites != CrossSites::WhenBusy;
    let site = match (is_other, is_good) {
        (false, true) => SiteLevel::Own,
        (true, true) => SiteLevel::Other,
        (false, false) => SiteLevel::OwnSetAside,
        (true, false) => SiteLevel::OtherSetAside,
    };
    if is_other {
        verdict = Some(CandidateVerdict::OtherSite);
    }
    let mut own_write = OwnWrite::Included;
    if input.written_on.is_some() && !wrote_here {
        own_write = candidate.freshness.own_write;
        if own_write == OwnWrite::Missing {
            verdict = Some(CandidateVerdict::OlderThanOwnWrite);
        }
    }
    (Level { own_write, site, condition }, verdict)
}

/// How far the state of the server and its replica set a candidate aside, whatever its site.
fn condition(candidate: &Candidate, input: &SelectionInput<'_>) -> (u8, Option<CandidateVerdict>) {
    let snapshot = &candidate.snapshot;
    let is_on = is_on(candidate.server, input);
    let wrote_here = input.written_on == Some(candidate.server);
    let is_gated = snapshot.catching_up_since_unix_ms.is_some()
        && !candidate.freshness.shown_fresh
        && !wrote_here
        && (!is_on || !input.posts_login_form);
    let (state, verdict) = if is_gated {
        (CATCHING_UP, Some(CandidateVerdict::CatchingUp))
    } else if is_on || wrote_here {
        (GOOD, None)
    } else if snapshot.busy {
        (BUSY, Some(CandidateVerdict::Busy))
    } else if snapshot.max_users {
        (BUSY, Some(CandidateVerdict::MaxUsers))
    } else {
        (GOOD, None)
    };
    let is_newcomer = !is_on && !wrote_here && !input.sessions.contains(&candidate.server);
    if is_newcomer && candidate.freshness.behind_since_unix_ms.is_some() {
        return (state + BEHIND, verdict.or(Some(CandidateVerdict::Behind)));
    }
    (state, verdict)
}

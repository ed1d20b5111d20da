//! A rehearsed failover: for a share of the users one server counts as UNREACHABLE. Decides who belongs to the share, what
//! selection sees for these users, and when a rehearsal must not begin or must end; times and counts are passed in.

mod cookie;
mod end;
mod errors;

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

pub use cookie::{RehearsalCookie, UserGroup};
pub use end::{OtherServer, RehearsalEnd, ServersProblem, check_servers};
pub use errors::{GroupErrors, have_errors_risen};

use crate::domain::select::{Candidate, SelectionOutcome, SelectionReason, ServerId};

/// The share of users in percent: with less hardly a user is moved, and with more it is an outage.
pub const USERS_PERCENT: std::ops::RangeInclusive<f64> = 0.1..=50.0;
/// How long a rehearsal may take: shorter ones show nothing, and a longer one is forgotten.
pub const DURATION: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(24 * 60 * 60);

/// The share of the users for whom the server counts as UNREACHABLE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UserShare {
    percent: f64,
    /// Users whose draw is below this belong to it.
    below: u64,
}

impl UserShare {
    /// `None` if it is not in [`USERS_PERCENT`].
    #[must_use]
    pub fn from_percent(percent: f64) -> Option<Self> {
        let below = (percent / 100.0 * 4_294_967_296.0) as u64;
        USERS_PERCENT.contains(&percent).then_some(Self { percent, below })
    }

    /// The share as it was given.
    #[must_use]
    pub fn percent(self) -> f64 {
        self.percent
    }

    /// Whether a user belongs to it.
    #[must_use]
    pub fn contains(self, user: UserDraw) -> bool {
        u64::from(user.0) < self.below
    }
}

/// The number that a user drew in one rehearsal, spread evenly over all 32-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserDraw(pub u32);

/// Draws for a browser that does not know its number yet, from what all its connections bring alike, so that requests at the
/// same time draw the same. Every ICM with the same secret draws the same.
#[derive(Debug)]
pub struct DrawHasher(Sha256);

impl DrawHasher {
    /// Begins with the number of the rehearsal and the client's address. Affinity cookies alone are not enough: those that
    /// one server gave in one second are equal.
    #[must_use]
    pub fn new(rehearsal: u32, client: Option<IpAddr>) -> Self {
        let mut hash = Sha256::new();
        hash.update(rehearsal.to_be_bytes());
        match client {
            Some(IpAddr::V4(address)) => hash.update(address.octets()),
            Some(IpAddr::V6(address)) => hash.update(address.octets()),
            None => {}
        }
        Self(hash)
    }

    /// Adds the value of a cookie.
    pub fn add(&mut self, cookie: &[u8]) {
        self.0.update((cookie.len() as u64).to_be_bytes());
        self.0.update(cookie);
    }

    /// The number that the user drew.
    #[must_use]
    pub fn finish(self) -> UserDraw {
        UserDraw(self.0.finalize().first_chunk::<4>().copied().map_or(0, u32::from_be_bytes))
    }
}

/// The candidates as a user of the share meets them: this server does not answer.
#[must_use]
pub fn with_unreachable(candidates: &[Candidate], server: ServerId) -> SmallVec<[Candidate; 8]> {
    let mut changed: SmallVec<[Candidate; 8]> = candidates.iter().copied().collect();
    for candidate in changed.iter_mut().filter(|candidate| candidate.server == server) {
        (candidate.snapshot.http, candidate.snapshot.https) = (false, false);
    }
    changed
}

/// Whether another server takes the request, so that the rehearsal refuses nobody: a request that none would take goes to
/// the server as if there were no rehearsal.
#[must_use]
pub fn is_taken_over(outcome: SelectionOutcome, server: ServerId) -> bool {
    matches!(outcome, SelectionOutcome::Serve(chosen, why)
        if chosen != server && why != SelectionReason::LastResort)
}

#[cfg(test)]
mod tests;

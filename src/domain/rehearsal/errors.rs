//! When the errors of moved users have risen: a comparison of two shares that needs several errors of several users, so that
//! one missing page, or one user, ends no rehearsal.

/// Fewer errors than these prove nothing.
const MIN_ERRORS: u64 = 5;
/// The errors must come from as many users, or from all moved users if these are fewer: one browser may reload a broken
/// page for ever.
const MIN_USERS: u64 = 3;
/// Standard deviations between the shares of the two groups. It is checked after each error, so it must be rare by chance:
/// of 2000 simulated rehearsals with 2 % of errors in both groups, fewer than 20 end (`tests::by_chance`).
const DEVIATIONS: f64 = 4.0;
/// The share of errors must be so many times that of the other group: users differ, and few of them are moved, so that a small
/// difference of the shares shows only who was drawn.
const MIN_RATIO: f64 = 2.0;
/// If the users who stayed have sent fewer requests than these, the missing ones count with [`ASSUMED_SHARE`]: else the first
/// errors would be compared with nothing.
const MIN_REQUESTS: f64 = 20.0;
const ASSUMED_SHARE: f64 = 0.05;

/// The requests of one group of users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupErrors {
    /// Those that have ended.
    pub requests: u64,
    /// Those that failed or were answered with 404.
    pub errors: u64,
    /// How many users sent requests.
    pub users: u64,
    /// How many of these had an error.
    pub users_with_errors: u64,
}

/// Whether moved users have more errors than users who stayed on the server let expect.
#[must_use]
pub fn have_errors_risen(moved: &GroupErrors, stayed: &GroupErrors) -> bool {
    if moved.errors < MIN_ERRORS || moved.users_with_errors < MIN_USERS.min(moved.users.max(1)) {
        return false;
    }
    let (moved_requests, moved_errors) = (moved.requests as f64, moved.errors as f64);
    let missing = (MIN_REQUESTS - stayed.requests as f64).max(0.0);
    let stayed_requests = stayed.requests as f64 + missing;
    let stayed_errors = stayed.errors as f64 + missing * ASSUMED_SHARE;
    // The test of two proportions, with the variance of their common share.
    let common = ((moved_errors + stayed_errors) / (moved_requests + stayed_requests)).min(1.0);
    let variance = common * (1.0 - common) * (1.0 / moved_requests + 1.0 / stayed_requests);
    let (moved_share, stayed_share) = (moved_errors / moved_requests, stayed_errors / stayed_requests);
    moved_share >= MIN_RATIO * stayed_share && moved_share - stayed_share > DEVIATIONS * variance.sqrt()
}

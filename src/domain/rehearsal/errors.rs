//! When the errors of moved users have risen: a comparison of two shares that needs several errors of several users, so that
//! one missing page, or one user, ends no rehearsal.

/// Fewer errors than these prove nothing.
const MIN_ERRORS: u64 = 5;
/// The errors must come from as many users, or from all moved users if these are fewer: one browser may reload a broken
/// page for ever.
const MIN_USERS: u64 = 3;
/// Standard deviations above what the users who stayed let expect. It is checked after each error, so it must be rare by
/// chance: with 2 % of errors in both groups, 1 of 2000 rehearsals of 10000 requests ends wrongly (`tests::by_chance`).
const DEVIATIONS: f64 = 4.0;
/// The users who stayed count as if they had sent so many requests more, one of them with an error: without them the first
/// errors would be compared with nothing.
const PRIOR_REQUESTS: f64 = 20.0;

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
    let usual = (stayed.errors as f64 + 1.0) / (stayed.requests as f64 + PRIOR_REQUESTS);
    let usual = usual.min(1.0);
    let expected = moved.requests as f64 * usual;
    let deviation = (expected * (1.0 - usual)).sqrt();
    moved.errors as f64 > expected + DEVIATIONS * deviation
}

//! What selection sees of a member.
//!
//! In: the member's atomics, read once. Out: numbers that no longer change, so that one decision rests on one moment.

/// What selection sees of a member: plain data of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The HTTP port answers.
    pub http: bool,
    /// The HTTPS port answers.
    pub https: bool,
    /// RESTRICTED since this moment.
    pub restricted_since_ms: Option<u64>,
    /// Index at or under its threshold.
    pub busy: bool,
    /// User limit reached.
    pub max_users: bool,
    /// Index 0..=100 to rank by: published and observed joined ([`super::load`]); `None` = unknown.
    pub index: Option<f32>,
    /// Points within which that index is not exact: what is observed of fast answers is mostly noise.
    pub noise: f32,
    /// Requests of this balancer in flight there.
    pub in_flight: u32,
    /// How many of them the index knows of: their mean while it was taken.
    pub in_flight_then: f32,
    /// 1..=1000.
    pub weight: u32,
    /// Requests in flight that it takes at most; 0 = no cap.
    pub max_connections: u32,
    /// When it last returned from UNREACHABLE or RESTRICTED.
    pub returned_at_ms: Option<u64>,
    /// Share of the latest attempts that got no answer or one that tries the next server, 0.0..=1.0.
    pub failing: f32,
}

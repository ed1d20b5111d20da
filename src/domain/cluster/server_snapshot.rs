//! What selection reads of a server: numbers that no longer change, so that one decision rests on one moment.

/// The state of a server at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerSnapshot {
    /// The HTTP port answers.
    pub http: bool,
    /// The HTTPS port answers.
    pub https: bool,
    /// On the caller's clock; `None` = not RESTRICTED.
    pub restricted_since_ms: Option<u64>,
    /// Index at or under its threshold.
    pub busy: bool,
    /// Users at or over their limit.
    pub max_users: bool,
    /// Index 0..=100 to rank by: published and observed joined ([`super::load`]); `None` = unknown.
    pub index: Option<f32>,
    /// Points within which `index` is not exact: for fast responses the observed index is mostly noise.
    pub noise: f32,
    /// Requests of this balancer in flight there.
    pub in_flight: u32,
    /// Their mean while `index` was taken: it covers so many of them.
    pub in_flight_then: f32,
    /// 1..=1000.
    pub weight: u32,
    /// Requests in flight that it takes at most; 0 = no cap.
    pub max_connections: u32,
    /// When it last returned from UNREACHABLE or RESTRICTED.
    pub returned_at_ms: Option<u64>,
    /// Share of the latest attempts that failed or led to the next server, 0.0..=1.0.
    pub failing: f32,
}

//! The values of a server that selection reads, copied so that a decision sees one moment.

use super::Port;

/// The state of a server at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerSnapshot {
    /// The HTTP port answers.
    pub http: bool,
    /// The HTTPS port answers.
    pub https: bool,
    /// When it became RESTRICTED; `None` = not RESTRICTED.
    pub restricted_since_ms: Option<u64>,
    /// RESTRICTED for everyone: not even users who work there may return.
    pub closed: bool,
    /// Index at or under its threshold.
    pub busy: bool,
    /// Users at or over their limit.
    pub max_users: bool,
    /// When it returned, in milliseconds since 1970, if it is CATCHING UP; `None` = it is not.
    pub catching_up_since_unix_ms: Option<u64>,
    /// The index for ranking, 0..=100: published and observed joined ([`super::load`]); `None` = unknown.
    pub index: Option<f32>,
    /// Points by which `index` is not exact: with fast responses the observed index is mostly noise.
    pub noise: f32,
    /// Requests of this balancer in flight.
    pub in_flight: u32,
    /// Their mean number while `index` was taken.
    pub in_flight_then: f32,
    /// The configured weight, 1..=1000.
    pub weight: u32,
    /// The server's own limit of requests in flight; 0 = no limit.
    pub max_connections: u32,
    /// When it last returned from UNREACHABLE or RESTRICTED.
    pub returned_at_ms: Option<u64>,
    /// Share of the latest attempts that failed or led to a failover attempt, 0.0..=1.0.
    pub failing: f32,
}

impl ServerSnapshot {
    /// Whether this port answers.
    #[must_use]
    pub fn is_up(&self, port: Port) -> bool {
        match port {
            Port::Http => self.http,
            Port::Https => self.https,
        }
    }
}

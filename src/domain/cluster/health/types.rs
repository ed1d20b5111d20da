//! Plain data that goes into the health of a server, and its snapshot.

use super::Timestamped;
use crate::domain::cluster::state::ServerState;

/// What the health of a server needs of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    /// The HTTP port is enabled.
    pub http: bool,
    /// The HTTPS port is enabled.
    pub https: bool,
    /// Good probes in a row that make a port reachable again; at least 1.
    pub healthy_after: u32,
    /// Bad probes in a row that make it UNREACHABLE; at least 1.
    pub unreachable_after: u32,
    /// Passive failures in a row that make it UNREACHABLE at once; 0 = never.
    pub passive_failures: u32,
    /// The administrator's threshold; `None` = what the server publishes, else 0.
    pub threshold: Option<u8>,
    /// `server_restricted` in the configuration.
    pub restricted: bool,
    /// 0 = what the server publishes, else never MAXUSERS.
    pub max_users: u32,
    /// Requests may go to the HTTP port. A server is UNREACHABLE when none of the ports that requests use answers.
    pub uses_http: bool,
    /// Requests may go to the HTTPS port.
    pub uses_https: bool,
}

/// One availability source of the server, by its place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSource {
    /// `prometheus`, `console`, ...: after a reload the source of the same kind is the same source.
    pub kind: &'static str,
    /// How long its reports hold, milliseconds.
    pub stale_after_ms: u64,
}

/// An administrator's restriction, which only the ICM where it was made can release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// Milliseconds since 1970, for people.
    pub since_unix_ms: u64,
    /// The administrator or the address, for people.
    pub by: String,
    /// The ICM where it was made; `None` = this one.
    pub at: Option<String>,
}

impl std::fmt::Display for Restriction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.at {
            None => write!(f, "restricted by {}", self.by),
            Some(at) => write!(f, "restricted by {} on {at}, release it there", self.by),
        }
    }
}

/// The health of a server at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSnapshot {
    /// The HTTP port is enabled and answers.
    pub http: bool,
    /// The HTTPS port is enabled and answers.
    pub https: bool,
    /// On the caller's clock.
    pub restricted_since_ms: Option<u64>,
    /// Index at or under the threshold.
    pub busy: bool,
    /// Users at or over the limit.
    pub max_users: bool,
    /// As reported; `None` = unknown or stale.
    pub published_index: Option<Timestamped<u8>>,
    /// The same without its noise, to rank by.
    pub smoothed_index: Option<f64>,
    /// The threshold in force.
    pub threshold: u8,
    /// Agent-check's `maxconn`; 0 = no cap.
    pub max_connections: u32,
    /// The worst that applies.
    pub state: ServerState,
}

//! The settings, sources and restrictions of a server's health, and its snapshot.

use super::Timestamped;
use crate::domain::cluster::state::ServerState;

/// The part of the configuration that the health of a server uses.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    /// The HTTP port is enabled.
    pub http: bool,
    /// The HTTPS port is enabled.
    pub https: bool,
    /// Consecutive good probes that make a port reachable again; at least 1.
    pub healthy_after: u32,
    /// Consecutive bad probes that make a port UNREACHABLE; at least 1.
    pub unreachable_after: u32,
    /// Consecutive failed connects that make a port UNREACHABLE at once; 0 = never.
    pub passive_failures: u32,
    /// The configured threshold; `None` = the published one, else 0.
    pub threshold: Option<u8>,
    /// `server_restricted` in the configuration.
    pub restricted: bool,
    /// The configured user limit; 0 = the published one, else no limit.
    pub max_users: u32,
    /// Requests may go to the HTTP port. A server is UNREACHABLE when none of the ports that requests use answers.
    pub uses_http: bool,
    /// Requests may go to the HTTPS port.
    pub uses_https: bool,
    /// After a longer outage the server is CATCHING UP; `None` = never.
    pub catch_up_after_ms: Option<u64>,
}

/// An availability source of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSource {
    /// `prometheus`, `console`, ...: identifies the source after a reload.
    pub kind: &'static str,
    /// Milliseconds after which its reports are stale.
    pub stale_after_ms: u64,
}

/// An administrator's restriction, which only the ICM where it was made can release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// Unix time in milliseconds.
    pub since_unix_ms: u64,
    /// The administrator or the client address.
    pub by: String,
    /// The ICM where it was made; `None` = this ICM.
    pub at: Option<String>,
    /// Nobody may return, not even users who work there.
    pub closed: bool,
}

impl std::fmt::Display for Restriction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.at {
            None => write!(f, "restricted by {}", self.by),
            Some(at) => write!(f, "restricted by {} on {at}, release it there", self.by),
        }
    }
}

/// The health of a server at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSnapshot {
    /// The HTTP port is enabled and answers.
    pub http: bool,
    /// The HTTPS port is enabled and answers.
    pub https: bool,
    /// When it became RESTRICTED; `None` = not RESTRICTED.
    pub restricted_since_ms: Option<u64>,
    /// Index at or under the threshold.
    pub busy: bool,
    /// Users at or over the limit.
    pub max_users: bool,
    /// When it returned, if it is CATCHING UP; also while it is RESTRICTED or UNREACHABLE again.
    pub catching_up_since_unix_ms: Option<u64>,
    /// The index as reported; `None` = unknown or stale.
    pub published_index: Option<Timestamped<u8>>,
    /// The smoothed index, for ranking.
    pub smoothed_index: Option<f64>,
    /// The threshold in force.
    pub threshold: u8,
    /// The `maxconn` of agent-check; 0 = no limit.
    pub max_connections: u32,
    /// The worst state that applies.
    pub state: ServerState,
}

//! A rehearsal as JSON, for `/rehearsal`, `/status` and the command line. It is apart from the counters that it is made from.

use serde::{Deserialize, Serialize};

/// A rehearsal with its numbers up to now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RehearsalReport {
    /// Eight hexadecimal digits, equal on all ICMs that rehearse together.
    pub id: String,
    /// The abbreviated name of the server that counts as UNREACHABLE.
    pub server: String,
    pub cluster: String,
    pub users_percent: f64,
    pub running: bool,
    pub started: String,
    /// When it ends, or would have ended.
    pub ends: String,
    pub left_ms: u64,
    pub ended: Option<String>,
    /// `null` while it runs.
    pub ended_because: Option<String>,
    /// What failed, if it ended early.
    pub ended_detail: Option<String>,
    /// Moved users, estimated from 65536 on.
    pub users: u64,
    /// Requests of moved users that the server could have got.
    pub requests: u64,
    /// Those of them that the server would have got without the rehearsal.
    pub moved: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Those that were answered with 404.
    pub not_found: u64,
    /// Those that were answered with 401 or 403, and not for want of a login that `logins_lost` has counted.
    pub denied: u64,
    /// Pages that told a user that the replica is older than the user's own last write.
    pub older_pages: u64,
    /// Requests that moved a user who was logged in on the server, and not on the one that took over.
    pub logins_lost: u64,
    /// Requests of the share that went to the server because no other could take them.
    pub kept: u64,
    pub median_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// The users outside the share whom the server has served.
    pub stayed: StayedReport,
    /// Databases that no other server can serve: their requests go on to the server.
    pub only_replicas: OnlyReplicas,
}

/// Databases without another replica in service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OnlyReplicas {
    pub count: usize,
    /// Paths of the first of them.
    pub examples: Vec<String>,
}

/// The requests of users outside the share whom the server has served, if it could get them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StayedReport {
    pub users: u64,
    pub requests: u64,
    pub failed: u64,
    pub not_found: u64,
    pub denied: u64,
    pub median_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

//! What a cluster keeps over reloads: its servers, restrictions, retry budget, counters and logins.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use ahash::AHashMap;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::catch_up::CatchUpState;
use super::failed_request::FailedRequest;
use super::rehearsal::RehearsalSlot;
use super::replica_readings::ReplicaReadings;
use super::retry_budget::RetryBudget;
use super::site_crossing::SiteCrossing;
use crate::discovery::directory::ReadingValidator;
use crate::discovery::domino::LoginSessions;
use crate::domain::cluster::{ClusterServer, Port, Restriction, ServerName};
use crate::domain::directory::ReplicaId;
use crate::domain::freshness::FreshnessTable;
use crate::telemetry::statistics::denied::DeniedCounters;
use crate::telemetry::statistics::request_counter::RequestCounter;
use crate::telemetry::statistics::save_checks::SaveChecks;
use crate::telemetry::statistics::traffic::Traffic;

/// What a cluster keeps over reloads; found by the cluster's name.
#[derive(Debug, Default)]
pub struct PersistentState {
    /// By folded server name.
    pub(super) servers: Mutex<AHashMap<String, Arc<ClusterServer>>>,
    pub(crate) admin_restrictions: Mutex<AdminRestrictions>,
    pub(crate) catch_up: CatchUpState,
    pub(crate) retry_budget: RetryBudget,
    pub(crate) traffic: Traffic,
    /// The requests that took each route, by its name.
    route_requests: Mutex<BTreeMap<Box<str>, Arc<RequestCounter>>>,
    pub(crate) site_crossing: SiteCrossing,
    /// The rehearsed failover of a server, while one runs.
    pub(crate) rehearsal: RehearsalSlot,
    /// Answers to "did my save happen?".
    pub(crate) save_checks: SaveChecks,
    /// Denied requests by the name of the rule.
    pub(crate) denied: DeniedCounters,
    /// Notified when a request ends, for requests that wait for an in-flight limit.
    pub(crate) slot_freed: Notify,
    /// Notified to read the directory at once.
    pub(crate) directory_refresh_requested: Notify,
    /// When a 404 last caused an extra reading, in milliseconds.
    pub(crate) last_requested_refresh_ms: AtomicU64,
    /// Set after the first reading of the directory, even a failed one.
    pub(crate) directory_read_attempted: AtomicBool,
    /// Set after the first reading of the Server documents, even a failed one.
    pub(crate) server_list_read_attempted: AtomicBool,
    pub(crate) login_sessions: LoginSessions,
    /// How replicas compare; `None` while nothing reads that.
    pub(crate) freshness: Arc<ArcSwapOption<FreshnessTable>>,
    /// What the table in `freshness` is made from.
    pub(crate) replica_readings: ReplicaReadings,
    /// Compares each reading of the directory with the last one.
    pub reading_validator: tokio::sync::Mutex<ReadingValidator>,
    /// Why the directory cannot be read; empty after a success.
    pub(crate) directory_error: Mutex<String>,
    /// Why the Server documents cannot be read; empty after a success.
    pub(crate) server_list_error: Mutex<String>,
    pub(crate) server_list_warnings: Mutex<Vec<String>>,
    /// The request that failed last; only failed requests take the lock.
    pub(crate) last_failed: Mutex<Option<FailedRequest>>,
}

/// Restrictions by administrators. They are kept apart from the servers, so that a server that leaves the cluster and
/// joins again is still restricted.
#[derive(Debug, Default)]
pub struct AdminRestrictions {
    /// Set on this ICM.
    pub local: BTreeMap<ServerName, Restriction>,
    /// Set on the ICM that this one follows, or on the ICMs that it follows in turn.
    pub from_followed_icm: BTreeMap<ServerName, Vec<Restriction>>,
}

impl PersistentState {
    /// The address that a port had last; `None` without such a server or port.
    #[must_use]
    pub(crate) fn last_address(&self, server: &ServerName, port: Port) -> Option<SocketAddr> {
        let servers = self.servers.lock();
        servers.get(server.folded()).and_then(|server| server.last_address(port))
    }

    /// The count of a route, which goes on as long as a route has this name.
    pub(super) fn route_counter(&self, name: &str) -> Arc<RequestCounter> {
        Arc::clone(self.route_requests.lock().entry(name.into()).or_default())
    }

    /// A user wrote to a replica through this balancer, at this time in milliseconds since 1970. From then on its
    /// modification time does not prove that it has the changes of other replicas. `server` is
    /// [`ClusterServer::tag`]. Does nothing unless `freshness` is on.
    pub fn record_write(&self, database: ReplicaId, server: u32, at_unix_ms: u64) {
        self.replica_readings.record_write(database, server, at_unix_ms);
    }

    /// Forgets errors of a source that a reload has replaced.
    pub(crate) fn clear_source_errors(&self, servers: bool, directory: bool) {
        if servers {
            self.server_list_error.lock().clear();
            self.server_list_warnings.lock().clear();
        }
        if directory {
            self.directory_error.lock().clear();
        }
    }
}

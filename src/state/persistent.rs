//! What a cluster keeps over reloads, by its name: its servers, restrictions, budget, counters and logins.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use ahash::AHashMap;
use tokio::sync::Notify;

use super::retry_budget::RetryBudget;
use crate::discovery::directory::ReadingValidator;
use crate::discovery::domino::LoginSessions;
use crate::domain::cluster::{ClusterServer, Port, Restriction, ServerName};
use crate::telemetry::statistics::traffic::Traffic;

/// What a cluster keeps over reloads, by its name.
#[derive(Debug, Default)]
pub struct PersistentState {
    /// By folded server name.
    pub(super) members: Mutex<AHashMap<String, Arc<ClusterServer>>>,
    /// What administrators restrict, whether or not it is a member now.
    pub admin_restrictions: Mutex<AdminRestrictions>,
    /// Replays of the last ten seconds.
    pub retry_budget: RetryBudget,
    /// How its requests ended.
    pub traffic: Traffic,
    /// Told whenever a request ends, for those that wait for a place.
    pub slot_freed: Notify,
    /// Told when the directory should be read at once.
    pub directory_refresh_requested: Notify,
    /// When a 404 last asked for an extra reading, milliseconds.
    pub last_requested_refresh_ms: AtomicU64,
    /// The directory was read, or tried in vain, at least once.
    pub directory_read_attempted: AtomicBool,
    /// The members were read, or tried in vain, at least once.
    pub server_list_read_attempted: AtomicBool,
    /// Logins at the members.
    pub login_sessions: LoginSessions,
    /// Judges readings that have lost much.
    pub reading_validator: tokio::sync::Mutex<ReadingValidator>,
    /// Why the directory cannot be read now; empty when it can.
    pub directory_error: Mutex<String>,
    /// Why the members cannot be read now; empty when they can.
    pub server_list_error: Mutex<String>,
    /// What was doubtful about the last reading of them.
    pub server_list_warnings: Mutex<Vec<String>>,
}

/// Restrictions by administrators. They are kept beside the members: one that leaves the cluster and comes back
/// is restricted still.
#[derive(Debug, Default)]
pub struct AdminRestrictions {
    /// Made on this ICM.
    pub local: BTreeMap<ServerName, Restriction>,
    /// Made on the ICM that this one follows, or on those that it follows.
    pub from_followed_icm: BTreeMap<ServerName, Vec<Restriction>>,
}

impl PersistentState {
    /// Where a port of a member was last seen; `None` where there is no such member, or no such port.
    #[must_use]
    pub fn last_address(&self, server: &ServerName, port: Port) -> Option<SocketAddr> {
        let members = self.members.lock();
        members.get(server.folded()).and_then(|member| member.last_address(port))
    }

    /// After a reload that reads from elsewhere: the old sources' troubles say nothing of the new ones.
    pub fn clear_source_errors(&self, members: bool, directory: bool) {
        if members {
            self.server_list_error.lock().clear();
            self.server_list_warnings.lock().clear();
        }
        if directory {
            self.directory_error.lock().clear();
        }
    }
}

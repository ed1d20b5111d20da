//! What a running balancer shows about a cluster at one moment, reduced to what maintenance needs. Plain data, so that the
//! steps can be tested without a balancer.

use serde::Deserialize;

use crate::state::drain::{DrainProgress, LastReplicas};

/// `/status`, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ObservedStatus {
    /// The balancer's clock, in milliseconds since 1970.
    pub now: u64,
    pub clusters: Vec<ObservedCluster>,
    #[serde(default)]
    pub events: Vec<ObservedEvent>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ObservedCluster {
    pub name: String,
    /// Its cluster, if this is a pool.
    #[serde(default)]
    pub pool_of: Option<String>,
    pub servers: Vec<ObservedServer>,
    #[serde(default)]
    pub evidence: ObservedEvidence,
}

/// What can show that a returned server has caught up.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ObservedEvidence {
    /// A server that returns is CATCHING UP.
    #[serde(default)]
    pub enabled: bool,
    /// ... unless it was away for this time at most.
    #[serde(default)]
    pub after_ms: u64,
    #[serde(default)]
    pub reporting: Vec<ObservedReporter>,
    /// Modification times of databases are read.
    #[serde(default)]
    pub freshness: bool,
}

/// A server that reports about its Cluster Replicator.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ObservedReporter {
    pub server: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ObservedEvent {
    pub at: u64,
    #[serde(default)]
    pub cluster: Option<String>,
    #[serde(default)]
    pub server: Option<String>,
    #[serde(default)]
    pub new: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ObservedServer {
    pub name: String,
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub http: Option<String>,
    #[serde(default)]
    pub https: Option<String>,
    pub state: String,
    #[serde(default)]
    pub restrictions: Vec<String>,
    #[serde(default)]
    pub restricted_by_admin: Option<ObservedRestriction>,
    #[serde(default)]
    pub catching_up: Option<ObservedCatchUp>,
    #[serde(default)]
    pub last_catch_up: Option<ObservedOpening>,
    #[serde(default)]
    pub replicator: Option<ObservedReplicator>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ObservedRestriction {
    pub by: String,
    #[serde(default)]
    pub closed: bool,
}

/// The server is CATCHING UP.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ObservedCatchUp {
    #[serde(default)]
    pub limit_at: Option<u64>,
    #[serde(default)]
    pub waiting_for: Vec<String>,
}

/// How CATCHING UP ended.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ObservedOpening {
    /// In milliseconds since 1970.
    pub opened_at: u64,
    /// `evidence`, `limit`, `administrator`, ...
    pub by: String,
}

/// The last report of the server's Cluster Replicator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ObservedReplicator {
    #[serde(default)]
    pub retry_waiting: Option<u64>,
    #[serde(default)]
    pub work_queue_depth: Option<u64>,
    /// Another value is another run of the server.
    #[serde(default)]
    pub run: Option<String>,
    #[serde(default)]
    pub age_ms: Option<u64>,
}

/// One moment of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// The balancer's clock, in milliseconds since 1970.
    pub now: u64,
    pub cluster: ObservedCluster,
    pub events: Vec<ObservedEvent>,
    pub drain: ObservedDrain,
}

/// The drain of one server, over all clusters that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ObservedDrain {
    pub in_flight: u32,
    pub tunnels: u32,
    /// For how long users may still return.
    pub may_return_ms: u64,
    /// Databases that only this server can serve; counted only when asked for.
    pub last_replicas: usize,
    pub examples: Vec<String>,
}

impl ObservedDrain {
    pub(super) fn of(all: &[DrainProgress]) -> Self {
        let mut drain = Self::default();
        for one in all {
            let LastReplicas { count, examples } = &one.last_replicas;
            drain.in_flight = drain.in_flight.saturating_add(one.in_flight);
            drain.tunnels = drain.tunnels.saturating_add(one.tunnels);
            drain.may_return_ms = drain.may_return_ms.max(one.may_return_ms);
            drain.last_replicas += count;
            drain.examples.extend(examples.iter().cloned());
        }
        drain
    }
}

impl Observation {
    /// `None` if the balancer has no such cluster.
    pub(super) fn new(status: ObservedStatus, cluster: &str, drain: ObservedDrain) -> Option<Self> {
        let found = status.clusters.into_iter().find(|c| c.name == cluster)?;
        Some(Self { now: status.now, cluster: found, events: status.events, drain })
    }

    pub(super) fn server(&self, name: &str) -> Option<&ObservedServer> {
        self.cluster.servers.iter().find(|server| server.name == name)
    }

    pub(super) fn others(&self, name: &str) -> impl Iterator<Item = &ObservedServer> {
        self.cluster.servers.iter().filter(move |server| server.name != name)
    }

    /// When the server became UNREACHABLE, if that was at `since` or later. A state that lasted shorter than our interval
    /// is found, too.
    pub(super) fn went_down_since(&self, server: &str, since: u64) -> Option<u64> {
        let is_down = |event: &&ObservedEvent| {
            event.at >= since
                && event.cluster.as_deref() == Some(&*self.cluster.name)
                && event.server.as_deref() == Some(server)
                && event.new.as_deref() == Some(UNREACHABLE)
        };
        self.events.iter().filter(is_down).map(|event| event.at).min()
    }
}

pub(super) const UNREACHABLE: &str = "UNREACHABLE";
pub(super) const CATCHING_UP: &str = "CATCHING UP";

impl ObservedServer {
    pub(super) fn is_reachable(&self) -> bool {
        self.state != UNREACHABLE
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.is_reachable() && (self.catching_up.is_some() || self.state == CATCHING_UP)
    }
}

impl ObservedReplicator {
    /// When the report was made, on the balancer's clock.
    pub(super) fn reported_at(&self, now: u64) -> Option<u64> {
        self.age_ms.map(|age| now.saturating_sub(age))
    }

    /// Nothing waits. `None` if the report does not say it.
    pub(super) fn is_idle(&self) -> Option<bool> {
        Some(self.retry_waiting? == 0 && self.work_queue_depth? == 0)
    }
}

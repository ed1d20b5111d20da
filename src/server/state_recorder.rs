//! Gives the access log the states of the servers, so that `icm replay` can select again with what selection knew. It is
//! separate from the log, which knows nothing of clusters, and costs nothing unless the log is JSON.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::domain::cluster::ClusterServer;
use crate::domain::directory::ReplicaId;
use crate::domain::freshness::FreshnessTable;
use crate::state::cluster_view::UpstreamServer;
use crate::state::{Balancer, Cluster};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::access_log::recorded::{RecordedServer, RecordedStates};
use crate::util::clock;

/// How soon a change is recorded.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// At most one record in this time, however often the states change.
const MIN_RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// A record even without a change, so that any part of a log can be replayed.
const MAX_RECORD_INTERVAL: Duration = Duration::from_secs(60);
/// Databases whose replica is behind, for each server of a record.
const MAX_BEHIND: usize = 32;

/// The background task that records the states.
pub(super) struct StateRecorder {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
}

impl StateRecorder {
    pub(super) fn new(balancer: Arc<Balancer>, access_log: Arc<AccessLog>) -> Self {
        Self { balancer, access_log }
    }

    /// Publishes the states if they changed, or if the last record is old.
    fn check(&self, last: &mut Option<(Instant, RecordedStates)>, behind: &BehindReplicas) {
        if !self.access_log.records_states() {
            *last = None;
            return;
        }
        let age = last.as_ref().map(|(at, _)| at.elapsed());
        if age.is_some_and(|age| age < MIN_RECORD_INTERVAL) {
            return;
        }
        let states = read_states(&self.balancer, behind);
        let is_old = age.is_none_or(|age| age >= MAX_RECORD_INTERVAL);
        if !is_old && !last.as_ref().is_some_and(|(_, known)| states.differ_from(known)) {
            return;
        }
        match serde_json::to_vec(&states) {
            Ok(json) => self.access_log.record_states(&json),
            Err(error) => log::warn!(target: "icm::access_log", "cannot record the servers' states: {error}"),
        }
        *last = Some((Instant::now(), states));
    }
}

#[async_trait]
impl BackgroundService for StateRecorder {
    /// Continues after the shutdown, because lines are written until the last client has left.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let (mut last, behind) = (None, BehindReplicas::default());
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.check(&mut last, &behind);
        }
    }
}

fn read_states(balancer: &Balancer, behind: &BehindReplicas) -> RecordedStates {
    let mut at = Vec::new();
    clock::push_rfc3339_time(&mut at);
    let now_ms = clock::now_ms();
    let mut list = Vec::new();
    for cluster in &balancer.snapshot().clusters {
        let view = cluster.view.load();
        list.extend(view.entries.iter().map(|entry| {
            let mut server = read_server(cluster, entry, now_ms);
            behind.add_to(&mut server, cluster, &entry.server);
            server
        }));
    }
    RecordedStates { at: String::from_utf8(at).unwrap_or_default(), list }
}

fn read_server(cluster: &Cluster, entry: &UpstreamServer, now_ms: u64) -> RecordedServer {
    let live = entry.server.snapshot();
    let health = entry.server.read(|health| health.snapshot(now_ms));
    let age = |since_ms: u64| now_ms.saturating_sub(since_ms);
    let ramps_up = |age: &u64| *age < cluster.selection_policy.slow_start_ms;
    let since_unix = |since_ms: u64| clock::unix_ms().saturating_sub(since_ms);
    RecordedServer {
        cluster: cluster.settings.name.clone(),
        server: entry.config.name.abbreviated().to_owned(),
        state: entry.server.state().as_str().to_owned(),
        http: live.http,
        https: live.https,
        index: health.published_index.map(|index| index.value),
        threshold: health.threshold,
        ranking: live.index.map(tenths),
        noise: tenths(live.noise),
        in_flight: tenths(live.in_flight_then),
        weight: live.weight,
        max_connections: live.max_connections,
        busy: live.busy,
        max_users: live.max_users,
        closed: live.closed,
        restricted_ms: live.restricted_since_ms.map(age),
        catching_up_ms: live.catching_up_since_unix_ms.map(since_unix),
        returned_ms: live.returned_at_ms.map(age).filter(ramps_up),
        failing: (live.failing * 100.0).round() / 100.0,
        behind: Vec::new(),
        behind_more: 0,
    }
}

fn tenths(value: f32) -> f32 {
    (value * 10.0).round() / 10.0
}

/// Databases whose replica is behind, by the server's tag.
type BehindByServer = AHashMap<u32, Vec<ReplicaId>>;

/// The replicas that are behind, by the cluster's name, with the table they were read from. A table of a large directory
/// is read once.
#[derive(Default)]
struct BehindReplicas(Mutex<AHashMap<String, (Arc<FreshnessTable>, BehindByServer)>>);

impl BehindReplicas {
    fn add_to(&self, recorded: &mut RecordedServer, cluster: &Cluster, server: &ClusterServer) {
        let Some(table) = cluster.persistent_state.freshness.load_full() else { return };
        let mut known = self.0.lock();
        let is_known = known.get(&recorded.cluster).is_some_and(|(of, _)| Arc::ptr_eq(of, &table));
        if !is_known {
            let behind = behind_by_server(&table);
            known.insert(recorded.cluster.clone(), (table, behind));
        }
        let Some(all) = known.get(&recorded.cluster).and_then(|(_, behind)| behind.get(&server.tag())) else {
            return;
        };
        recorded.behind = all.iter().take(MAX_BEHIND).map(ToString::to_string).collect();
        recorded.behind_more = u32::try_from(all.len() - recorded.behind.len()).unwrap_or(u32::MAX);
    }
}

fn behind_by_server(table: &FreshnessTable) -> BehindByServer {
    let mut behind = BehindByServer::new();
    for (database, replicas) in table.databases() {
        for replica in replicas.iter().filter(|replica| replica.behind_since_unix_ms.is_some()) {
            behind.entry(replica.server).or_default().push(database);
        }
    }
    // The table has no order, and an order that changes would be a change of the states.
    behind.values_mut().for_each(|all| all.sort_unstable_by_key(|id| id.0));
    behind
}

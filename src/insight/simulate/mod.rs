//! Simulates that some servers are down, RESTRICTED, BUSY or CATCHING UP: which databases lose their last server, and how the shares of
//! the servers change. It uses the selection of the proxy and changes nothing.

mod load;

use std::collections::BTreeMap;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::domain::cluster::{Port, ServerSnapshot};
use crate::domain::directory::{DatabaseMatch, ReplicaStatus};
use crate::domain::select::{
    self, Candidate, CandidateFreshness, SelectionInput, SelectionOutcome, SelectionReason, ServerId,
};
use crate::state::{Cluster, ClusterView, Snapshot};
use crate::util::clock;

/// The servers that change, by common or full name.
#[derive(Clone, Debug, Default)]
pub struct SimulatedChanges {
    pub down: Vec<String>,
    /// RESTRICTED for longer than `affinity.drain_timeout`.
    pub restricted: Vec<String>,
    pub busy: Vec<String>,
    pub catching_up: Vec<String>,
}

/// The answer of `/simulate` and `icm simulate --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Simulation {
    /// Names that no cluster has.
    pub unknown: Vec<String>,
    /// In the order of the configuration.
    pub clusters: Vec<ClusterSimulation>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterSimulation {
    pub name: String,
    /// Databases in its directory.
    pub databases: usize,
    /// `requests`: databases are weighted by the answers of their servers so far; `databases`: all have the same weight.
    pub weighted_by: String,
    /// In the order of the configuration.
    pub servers: Vec<ServerShare>,
    /// Percentage of new users for whom there is no server.
    pub unserved_now: f64,
    pub unserved_then: f64,
    /// Served now, but not after the change.
    pub lost: AffectedDatabases,
    /// Served now in this site, but after the change only by another one.
    #[serde(default)]
    pub other_site: AffectedDatabases,
    /// Served now, but after the change only by servers or replicas that are set aside.
    pub set_aside: AffectedDatabases,
    /// Not served even now.
    pub lost_already: AffectedDatabases,
}

/// The state and the share of one server, now and after the change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerShare {
    pub server: String,
    /// Where it is, by `site`; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    pub now: String,
    pub then: String,
    /// Percentage of new users.
    pub share_now: f64,
    pub share_then: f64,
}

/// A number of databases, with examples.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AffectedDatabases {
    pub count: usize,
    /// The first ones, each with path, replica ID and servers.
    pub examples: Vec<String>,
}

impl Simulation {
    /// True if a database would lose its last server.
    #[must_use]
    pub fn loses_databases(&self) -> bool {
        self.clusters.iter().any(|c| c.lost.count > 0)
    }
}

/// A server of a database, with what selection needs to know about its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct MarkedHolder {
    server: ServerId,
    status: ReplicaStatus,
    is_behind: bool,
    of_other_site: bool,
}

/// The servers of a database. Selection treats databases with equal ones alike.
type MarkedHolders = SmallVec<[MarkedHolder; 8]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ServiceLevel {
    Normal,
    OtherSite,
    SetAside,
    Unserved,
}

/// `limit`: number of examples in each list.
#[must_use]
pub fn simulate(snapshot: &Snapshot, changes: &SimulatedChanges, limit: usize) -> Simulation {
    let all =
        || changes.down.iter().chain(&changes.restricted).chain(&changes.busy).chain(&changes.catching_up);
    let is_known =
        |name: &str| snapshot.clusters.iter().any(|c| c.view.load().server_by_name(name).is_some());
    Simulation {
        unknown: all().filter(|name| !is_known(name)).cloned().collect(),
        clusters: snapshot.clusters.iter().map(|c| simulate_cluster(c, changes, limit)).collect(),
    }
}

fn simulate_cluster(cluster: &Cluster, changes: &SimulatedChanges, limit: usize) -> ClusterSimulation {
    let view = cluster.view.load_full();
    let now: Vec<ServerSnapshot> = view.entries.iter().map(|e| steady_state(e.server.snapshot())).collect();
    let (then, states) = changed(&view, &now, changes);
    let ports: SmallVec<[Port; 2]> =
        [Port::Http, Port::Https].into_iter().filter(|p| cluster.settings.uses(*p)).collect();
    let groups = databases_by_holders(cluster, &view);
    let levels: AHashMap<&MarkedHolders, (ServiceLevel, ServiceLevel)> = groups
        .keys()
        .map(|h| (h, (service_level(cluster, h, &now, &ports), service_level(cluster, h, &then, &ports))))
        .collect();
    let [lost, other_site, set_aside, lost_already] = affected_databases(cluster, &view, &levels, limit);
    let load = load::compare_loads(cluster, &view, &groups, &now, &then, &ports);
    let servers = view
        .entries
        .iter()
        .zip(states)
        .enumerate()
        .map(|(at, (entry, state))| ServerShare {
            server: entry.config.name.to_string(),
            site: entry.config.site.as_ref().map(ToString::to_string),
            now: entry.server.state().as_str().to_owned(),
            then: state.to_owned(),
            share_now: load.now.get(at).copied().unwrap_or(0.0),
            share_then: load.then.get(at).copied().unwrap_or(0.0),
        })
        .collect();
    ClusterSimulation {
        name: cluster.settings.name.clone(),
        databases: view.directory.index.len(),
        weighted_by: if load.by_requests { "requests" } else { "databases" }.to_owned(),
        servers,
        unserved_now: load.unserved_now,
        unserved_then: load.unserved_then,
        lost,
        other_site,
        set_aside,
        lost_already,
    }
}

/// The servers after the changes, and the names of their states.
fn changed(
    view: &ClusterView,
    now: &[ServerSnapshot],
    changes: &SimulatedChanges,
) -> (Vec<ServerSnapshot>, Vec<&'static str>) {
    let mut then = now.to_vec();
    let mut states: Vec<&'static str> = view.entries.iter().map(|e| e.server.state().as_str()).collect();
    for (entry, (server, state)) in view.entries.iter().zip(then.iter_mut().zip(&mut states)) {
        let named = |list: &[String]| list.iter().any(|name| entry.config.name.answers_to(name));
        if named(&changes.busy) {
            server.busy = true;
            *state = "BUSY";
        }
        if named(&changes.catching_up) {
            server.catching_up_since_unix_ms = Some(clock::unix_ms());
            *state = "CATCHING UP";
        }
        if named(&changes.restricted) {
            server.restricted_since_ms = Some(1);
            *state = "RESTRICTED";
        }
        if named(&changes.down) {
            (server.http, server.https) = (false, false);
            *state = "UNREACHABLE";
        }
    }
    (then, states)
}

/// The number of databases for each group of holders, in a stable order.
fn databases_by_holders(cluster: &Cluster, view: &ClusterView) -> BTreeMap<MarkedHolders, usize> {
    let mut groups: AHashMap<MarkedHolders, usize> = AHashMap::new();
    for_each_database(cluster, view, |_, holders| match groups.get_mut(holders) {
        Some(count) => *count += 1,
        None => {
            groups.insert(holders.clone(), 1);
        }
    });
    groups.into_iter().collect()
}

/// Returns the databases that are lost, served by another site, set aside, and lost already. `levels` has the service level of each group now and
/// after the change.
fn affected_databases(
    cluster: &Cluster,
    view: &ClusterView,
    levels: &AHashMap<&MarkedHolders, (ServiceLevel, ServiceLevel)>,
    limit: usize,
) -> [AffectedDatabases; 4] {
    let [mut lost, mut other_site, mut set_aside, mut lost_already]: [AffectedDatabases; 4] =
        Default::default();
    for_each_database(cluster, view, |found, holders| {
        let list = match levels.get(holders) {
            Some((ServiceLevel::Unserved, _)) => &mut lost_already,
            Some((_, ServiceLevel::Unserved)) => &mut lost,
            Some((ServiceLevel::Normal, ServiceLevel::OtherSite)) => &mut other_site,
            Some((ServiceLevel::Normal | ServiceLevel::OtherSite, ServiceLevel::SetAside)) => &mut set_aside,
            _ => return,
        };
        list.count += 1;
        if list.examples.len() < limit {
            list.examples.push(match found {
                Some(found) => describe(view, found, holders),
                None => "all requests to the pool".to_owned(),
            });
        }
    });
    [lost, other_site, set_aside, lost_already]
}

/// Removes slow start and the current requests in flight, which are accidental.
fn steady_state(server: ServerSnapshot) -> ServerSnapshot {
    ServerSnapshot { in_flight: 0, in_flight_then: 0.0, returned_at_ms: None, ..server }
}

/// Calls `with` for every database, with the servers that have a replica. A pool counts as one database without a name on
/// all its servers.
fn for_each_database(
    cluster: &Cluster,
    view: &ClusterView,
    mut with: impl FnMut(Option<&DatabaseMatch>, &MarkedHolders),
) {
    let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
    let mut holders = MarkedHolders::new();
    let holder_of = |candidate: &Candidate| MarkedHolder {
        server: candidate.server,
        status: candidate.status,
        is_behind: candidate.freshness.behind_since_unix_ms.is_some(),
        of_other_site: candidate.of_other_site,
    };
    if cluster.settings.is_pool() {
        view.candidates(None, &mut candidates);
        holders.extend(candidates.iter().map(holder_of));
        with(None, &holders);
    }
    for database in view.directory.index.databases() {
        let found = DatabaseMatch { database: database.id(), path: None };
        view.candidates(Some(&found), &mut candidates);
        holders.clear();
        holders.extend(candidates.iter().map(holder_of));
        with(Some(&found), &holders);
    }
}

fn describe(view: &ClusterView, found: &DatabaseMatch, holders: &MarkedHolders) -> String {
    let database = view.directory.index.database(found.database);
    let servers: Vec<String> = holders
        .iter()
        .filter_map(|holder| view.server(holder.server))
        .map(|entry| entry.config.name.to_string())
        .collect();
    let servers = if servers.is_empty() { "no server of the cluster".to_owned() } else { servers.join(", ") };
    format!("{} ({}): on {servers}", database.path(), database.replica_id())
}

/// What selection gives a new user; with several schemes the worst level counts.
fn service_level(
    cluster: &Cluster,
    holders: &MarkedHolders,
    servers: &[ServerSnapshot],
    ports: &[Port],
) -> ServiceLevel {
    let worst = ports.iter().map(|port| match decide(cluster, holders, servers, *port, 0) {
        Some((_, SelectionReason::OtherSite)) => ServiceLevel::OtherSite,
        Some((_, SelectionReason::SetAside)) => ServiceLevel::SetAside,
        None | Some((_, SelectionReason::LastResort)) => ServiceLevel::Unserved,
        Some(_) => ServiceLevel::Normal,
    });
    worst.max().unwrap_or(ServiceLevel::Unserved)
}

/// Selects a server for a user without affinity.
fn decide(
    cluster: &Cluster,
    holders: &[MarkedHolder],
    servers: &[ServerSnapshot],
    port: Port,
    seed: u64,
) -> Option<(ServerId, SelectionReason)> {
    let candidates: SmallVec<[Candidate; 8]> = holders
        .iter()
        .filter_map(|MarkedHolder { server, status, is_behind, of_other_site }| {
            let snapshot = *servers.get(usize::from(*server))?;
            // The time does not matter for the decision.
            let behind_since_unix_ms = is_behind.then_some(1);
            let freshness = CandidateFreshness { behind_since_unix_ms, ..CandidateFreshness::default() };
            let (server, status, of_other_site) = (*server, *status, *of_other_site);
            Some(Candidate { server, status, snapshot, freshness, of_other_site })
        })
        .collect();
    let input = SelectionInput::without_affinity(&candidates, port, clock::now_ms(), seed);
    match select::decide(&input, &cluster.selection_policy).outcome {
        SelectionOutcome::Serve(server, why) => Some((server, why)),
        _ => None,
    }
}

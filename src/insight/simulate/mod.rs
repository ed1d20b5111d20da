//! What if: some servers down, RESTRICTED or BUSY. Who is left without a replica, and where does the load go?
//!
//! In: a snapshot and the servers that would change. Out: for each cluster the databases that lose their last
//! server, and the share of every server now and then, by the very selection that serves traffic. It sends
//! nothing and changes nothing.

mod load;

use std::collections::BTreeMap;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::domain::cluster::{Port, ServerSnapshot};
use crate::domain::directory::{DatabaseMatch, ReplicaStatus};
use crate::domain::select::{self, Candidate, SelectionInput, SelectionOutcome, SelectionReason, ServerId};
use crate::state::{Cluster, ClusterView, Snapshot};
use crate::util::clock;

/// The servers that would change, by common or whole name.
#[derive(Clone, Debug, Default)]
pub struct SimulatedChanges {
    /// UNREACHABLE.
    pub down: Vec<String>,
    /// RESTRICTED, for so long that nobody stays.
    pub restricted: Vec<String>,
    /// BUSY.
    pub busy: Vec<String>,
}

/// The whole answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Simulation {
    /// Names that no cluster has.
    pub unknown: Vec<String>,
    /// In the file's order.
    pub clusters: Vec<ClusterSimulation>,
}

/// What would become of one cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterSimulation {
    /// Its name.
    pub name: String,
    /// Databases in its directory.
    pub databases: usize,
    /// `requests`: each server's answers so far weigh its databases; `databases`: all weigh the same.
    pub weighted_by: String,
    /// In the file's order.
    pub servers: Vec<ServerShare>,
    /// Percent of new users whom nobody serves, now.
    pub unserved_now: f64,
    /// The same then.
    pub unserved_then: f64,
    /// Served now, by nobody then.
    pub lost: AffectedDatabases,
    /// Served now, then only by BUSY or MAXUSERS servers.
    pub set_aside: AffectedDatabases,
    /// Served by nobody even now.
    pub lost_already: AffectedDatabases,
}

/// A server's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerShare {
    /// Its name.
    pub server: String,
    /// Its state now.
    pub now: String,
    /// Its state then.
    pub then: String,
    /// Percent of new users now.
    pub share_now: f64,
    /// The same then.
    pub share_then: f64,
}

/// Some databases.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AffectedDatabases {
    /// How many.
    pub count: usize,
    /// The first ones: path, replica ID, and the servers that hold it.
    pub examples: Vec<String>,
}

impl Simulation {
    /// Some database would lose its last server.
    #[must_use]
    pub fn loses_databases(&self) -> bool {
        self.clusters.iter().any(|c| c.lost.count > 0)
    }
}

/// Holders and their marks: databases with equal ones are served equally.
type MarkedHolders = SmallVec<[(ServerId, ReplicaStatus); 8]>;

/// How well a database is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ServiceLevel {
    Normal,
    SetAside,
    Unserved,
}

/// Simulates. `limit`: examples in each list.
#[must_use]
pub fn simulate(snapshot: &Snapshot, changes: &SimulatedChanges, limit: usize) -> Simulation {
    let all = || changes.down.iter().chain(&changes.restricted).chain(&changes.busy);
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
    let (then, words) = changed(&view, &now, changes);
    let ports: SmallVec<[Port; 2]> =
        [Port::Http, Port::Https].into_iter().filter(|p| cluster.settings.uses(*p)).collect();
    let groups = databases_by_holders(&view);
    let levels: AHashMap<&MarkedHolders, (ServiceLevel, ServiceLevel)> = groups
        .keys()
        .map(|h| (h, (service_level(cluster, h, &now, &ports), service_level(cluster, h, &then, &ports))))
        .collect();
    let [lost, set_aside, lost_already] = affected_databases(&view, &levels, limit);
    let load = load::compare_loads(cluster, &view, &groups, &now, &then, &ports);
    let servers = view
        .entries
        .iter()
        .zip(words)
        .enumerate()
        .map(|(at, (entry, word))| ServerShare {
            server: entry.config.name.to_string(),
            now: entry.server.state().as_str().to_owned(),
            then: word.to_owned(),
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
        set_aside,
        lost_already,
    }
}

/// The servers after the changes, and the words for their states.
fn changed(
    view: &ClusterView,
    now: &[ServerSnapshot],
    changes: &SimulatedChanges,
) -> (Vec<ServerSnapshot>, Vec<&'static str>) {
    let mut then = now.to_vec();
    let mut words: Vec<&'static str> = view.entries.iter().map(|e| e.server.state().as_str()).collect();
    for (entry, (seen, word)) in view.entries.iter().zip(then.iter_mut().zip(&mut words)) {
        let named = |list: &[String]| list.iter().any(|name| entry.config.name.answers_to(name));
        if named(&changes.busy) {
            seen.busy = true;
            *word = "BUSY";
        }
        if named(&changes.restricted) {
            seen.restricted_since_ms = Some(1);
            *word = "RESTRICTED";
        }
        if named(&changes.down) {
            (seen.http, seen.https) = (false, false);
            *word = "UNREACHABLE";
        }
    }
    (then, words)
}

/// How many databases have the same holders, in an order that does not depend on hashing.
fn databases_by_holders(view: &ClusterView) -> BTreeMap<MarkedHolders, usize> {
    let mut groups: AHashMap<MarkedHolders, usize> = AHashMap::new();
    for_each_database(view, |_, holders| match groups.get_mut(holders) {
        Some(count) => *count += 1,
        None => {
            groups.insert(holders.clone(), 1);
        }
    });
    groups.into_iter().collect()
}

/// The databases that are lost, set aside, and lost already; `judged` is how each group is served now and then.
fn affected_databases(
    view: &ClusterView,
    levels: &AHashMap<&MarkedHolders, (ServiceLevel, ServiceLevel)>,
    limit: usize,
) -> [AffectedDatabases; 3] {
    let [mut lost, mut set_aside, mut lost_already]: [AffectedDatabases; 3] = Default::default();
    for_each_database(view, |found, holders| {
        let list = match levels.get(holders) {
            Some((ServiceLevel::Unserved, _)) => &mut lost_already,
            Some((_, ServiceLevel::Unserved)) => &mut lost,
            Some((ServiceLevel::Normal, ServiceLevel::SetAside)) => &mut set_aside,
            _ => return,
        };
        list.count += 1;
        if list.examples.len() < limit {
            list.examples.push(describe(view, found, holders));
        }
    });
    [lost, set_aside, lost_already]
}

/// A server long after its return, without the requests of this moment.
fn steady_state(seen: ServerSnapshot) -> ServerSnapshot {
    ServerSnapshot { in_flight: 0, in_flight_then: 0.0, returned_at_ms: None, ..seen }
}

/// Every database with the members that hold it.
fn for_each_database(view: &ClusterView, mut with: impl FnMut(&DatabaseMatch, &MarkedHolders)) {
    let index = &view.directory.index;
    let mut holders = MarkedHolders::new();
    for database in index.databases() {
        let found = DatabaseMatch { database: database.id(), path: None };
        holders.clear();
        holders.extend(
            index.replicas_by_server(&found).filter_map(|h| Some((view.server_id(h.server)?, h.status))),
        );
        with(&found, &holders);
    }
}

fn describe(view: &ClusterView, found: &DatabaseMatch, holders: &MarkedHolders) -> String {
    let database = view.directory.index.database(found.database);
    let servers: Vec<String> = holders
        .iter()
        .filter_map(|(member, _)| view.server(*member))
        .map(|entry| entry.config.name.to_string())
        .collect();
    let servers = if servers.is_empty() { "no member".to_owned() } else { servers.join(", ") };
    format!("{} ({}): on {servers}", database.path(), database.replica_id())
}

/// As selection says for a new user; by several schemes the worst counts.
fn service_level(
    cluster: &Cluster,
    holders: &MarkedHolders,
    seen: &[ServerSnapshot],
    ports: &[Port],
) -> ServiceLevel {
    let worst = ports.iter().map(|port| match decide(cluster, holders, seen, *port, 0) {
        Some((_, SelectionReason::SetAside)) => ServiceLevel::SetAside,
        None | Some((_, SelectionReason::LastResort)) => ServiceLevel::Unserved,
        Some(_) => ServiceLevel::Normal,
    });
    worst.max().unwrap_or(ServiceLevel::Unserved)
}

/// The one rule of selection, for a user nobody knows.
fn decide(
    cluster: &Cluster,
    holders: &[(ServerId, ReplicaStatus)],
    seen: &[ServerSnapshot],
    port: Port,
    seed: u64,
) -> Option<(ServerId, SelectionReason)> {
    let candidates: SmallVec<[Candidate; 8]> = holders
        .iter()
        .filter_map(|(member, status)| {
            let view = *seen.get(usize::from(*member))?;
            Some(Candidate { server: *member, status: *status, snapshot: view })
        })
        .collect();
    let input = SelectionInput::without_affinity(&candidates, port, clock::now_ms(), seed);
    match select::decide(&input, &cluster.selection_policy).outcome {
        SelectionOutcome::Serve(member, why) => Some((member, why)),
        _ => None,
    }
}

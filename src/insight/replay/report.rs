//! The report of a replay, as JSON has it and the verb prints it.

use serde::{Deserialize, Serialize};

use super::advice::{self, ThresholdAdvice, ThresholdShare};
use super::engine::{Engine, ReplayedCluster};
use super::tally::{BeforeAfter, ServerTally, percent};
use crate::domain::directory::ReplicaId;
use crate::domain::select::ServerId;

/// The answer of `icm replay --json`, to which the verb adds what it knows of the files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReplayReport {
    pub lines: ReplayedLines,
    /// Whether something was changed: without it every `after` is absent.
    pub has_change: bool,
    pub clusters: Vec<ClusterReplay>,
    pub notes: Vec<String>,
}

/// What the lines of the log were.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ReplayedLines {
    pub read: u64,
    pub malformed: u64,
    /// Answers of `icm` itself, and refused requests that never reached selection.
    pub own_answers: u64,
    /// Requests of clusters that the configuration does not have.
    pub unknown_cluster: u64,
    /// Not in the time or the cluster that was asked for.
    pub out_of_range: u64,
    /// Lines that recorded the states of the servers.
    pub with_states: u64,
    /// The first beginning and the last end of a request.
    pub from_unix_ms: Option<u64>,
    pub to_unix_ms: Option<u64>,
}

/// The replay of one cluster or pool. Percentages have one decimal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClusterReplay {
    pub name: String,
    pub requests: u64,
    /// Different clients by address, User-Agent and certificate.
    pub users: u64,
    pub not_in_directory: u64,
    /// Requests whose candidates' states were recorded, known for some of them from other lines, or assumed.
    pub states_recorded: u64,
    pub states_partly_known: u64,
    pub states_assumed: u64,
    pub agreement: Agreement,
    pub servers: Vec<ServerReplay>,
    /// Requests that another server gets after the change, and their users.
    pub moved_requests: u64,
    pub moved_users: u64,
    pub moves: Vec<ServerMove>,
    pub refused_before: u64,
    pub refused_after: u64,
    /// Served in the log, but refused after the change.
    pub newly_refused: u64,
    pub refused_databases: RefusedDatabases,
    /// Requested databases that only one server holds.
    pub single_replicas: SingleReplicas,
    pub thresholds: Vec<ThresholdAdvice>,
    /// For what share of the requests every holder would be BUSY, if all had this threshold.
    pub all_busy: Vec<ThresholdShare>,
}

/// How well the replay of the unchanged configuration agrees with the log.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Agreement {
    /// Requests of users who belonged to a server.
    pub with_server: u64,
    /// Of them, those that the replay sends to the same server.
    pub same_server: u64,
    /// Requests of other users, who are drawn.
    pub drawn: u64,
    /// Of them, those that went to a server that the replay draws from.
    pub explained: u64,
    /// The share of drawn requests that would have to go elsewhere for the expected distribution, in percent.
    pub draw_deviation: f64,
}

/// One server as logged, and after the change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ServerReplay {
    pub server: String,
    pub requests_before: u64,
    pub requests_after: u64,
    pub share_before: f64,
    pub share_after: f64,
    /// Requests that it served although it was BUSY or MAXUSERS, because no better server was left.
    pub last_resort_before: u64,
    pub last_resort_after: u64,
    /// Percentage of the time in which its state was known; absent if it never was.
    pub busy_percent_before: Option<f64>,
    pub busy_percent_after: Option<f64>,
    /// The most requests that began in one second.
    pub peak_per_second_before: u32,
    pub peak_per_second_after: u32,
    /// Requests of users without a server in the log, and how many the replay expects.
    pub drawn: u64,
    pub drawn_expected: u64,
}

/// Requests that moved from one server to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerMove {
    pub from: String,
    pub to: String,
    pub requests: u64,
}

/// Databases whose requests no server could take.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RefusedDatabases {
    pub count: u64,
    /// The first ones, most refused first.
    pub examples: Vec<RefusedDatabase>,
}

/// Requests for one database that no server could take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusedDatabase {
    /// `None` for requests that name no database.
    pub path: Option<String>,
    pub replica_id: Option<String>,
    pub refused_before: u64,
    pub refused_after: u64,
}

/// Databases without a second replica.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SingleReplicas {
    pub count: u64,
    pub requests: u64,
    /// The first ones, most requested first.
    pub examples: Vec<SingleReplica>,
}

/// A database that only one server holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SingleReplica {
    pub path: String,
    pub replica_id: String,
    pub server: String,
    pub requests: u64,
}

/// Builds the report from the counts of a replay.
pub(super) fn report(engine: &Engine, lines: &ReplayedLines, limit: usize) -> ReplayReport {
    let used = engine.clusters.iter().filter(|c| c.tally.requests > 0 || c.tally.not_in_directory > 0);
    let clusters: Vec<ClusterReplay> = used.map(|cluster| cluster_report(cluster, limit)).collect();
    let has_change = engine.clusters.iter().any(|cluster| cluster.sides.after.is_some());
    let mut notes = Vec::new();
    if engine.moved.forgotten {
        notes.push(
            "more than a million moved users: those who moved long ago were replayed as new ones".to_owned(),
        );
    }
    for cluster in
        engine.clusters.iter().filter(|c| has_change && c.sides.after.is_none() && c.tally.requests > 0)
    {
        notes.push(format!("the other configuration has no cluster {}", cluster.sides.name));
    }
    for cluster in engine.clusters.iter().filter(|c| c.tally.not_in_directory > 0) {
        let (name, count) = (&cluster.sides.name, cluster.tally.not_in_directory);
        let why = if cluster.sides.before.has_directory() {
            "does not have"
        } else {
            "is not loaded (directory.cache), so it lacks"
        };
        notes.push(format!(
            "{name}: the directory {why} the databases of {count} requests, which were not replayed"
        ));
    }
    ReplayReport { lines: *lines, has_change, clusters, notes }
}

fn cluster_report(cluster: &ReplayedCluster, limit: usize) -> ClusterReplay {
    let tally = &cluster.tally;
    let servers = servers(cluster);
    let surplus: f64 =
        tally_of(cluster).map(|(_, t)| (t.new_users as f64 - t.new_users_expected).max(0.0)).sum();
    let agreement = Agreement {
        with_server: tally.tied,
        same_server: tally.tied_same,
        drawn: tally.new,
        explained: tally.new_explained,
        draw_deviation: percent(surplus.round() as u64, tally.new),
    };
    let name = |server: ServerId| cluster.sides.servers.name(server).to_owned();
    let mut moves: Vec<ServerMove> = tally
        .moves
        .iter()
        .map(|((from, to), requests)| ServerMove { from: name(*from), to: name(*to), requests: *requests })
        .collect();
    moves.sort_by(|a, b| (b.requests, &a.from, &a.to).cmp(&(a.requests, &b.from, &b.to)));
    ClusterReplay {
        name: cluster.sides.name.clone(),
        requests: tally.requests,
        users: tally.users.count(),
        not_in_directory: tally.not_in_directory,
        states_recorded: tally.recorded,
        states_partly_known: tally.partly_known,
        states_assumed: tally.assumed,
        agreement,
        servers,
        moved_requests: tally.moved,
        moved_users: tally.moved_users.count(),
        moves,
        refused_before: tally.refused.before,
        refused_after: tally.refused.after,
        newly_refused: tally.newly_refused,
        refused_databases: refused_databases(cluster, limit),
        single_replicas: single_replicas(cluster, limit),
        thresholds: members(cluster).map(|(server, tally)| advice::advise(&name(server), tally)).collect(),
        all_busy: advice::all_busy(&tally.best_index),
    }
}

/// Every server of both configurations and of the log that has counts.
fn tally_of(cluster: &ReplayedCluster) -> impl Iterator<Item = (ServerId, &ServerTally)> {
    let count = ServerId::try_from(cluster.sides.servers.len()).unwrap_or(ServerId::MAX);
    (0..count).filter_map(|server| Some((server, cluster.tally.known_server(server)?)))
}

/// The members of the configuration.
fn members(cluster: &ReplayedCluster) -> impl Iterator<Item = (ServerId, &ServerTally)> {
    tally_of(cluster).filter(|(server, _)| cluster.sides.before.member(*server).is_some())
}

fn servers(cluster: &ReplayedCluster) -> Vec<ServerReplay> {
    let total =
        |of: fn(&BeforeAfter<u64>) -> u64| -> u64 { tally_of(cluster).map(|(_, t)| of(&t.requests)).sum() };
    let (before, after) = (total(|r| r.before), total(|r| r.after));
    let busy = |seconds: u64, tally: &ServerTally| {
        (tally.known_seconds > 0).then(|| percent(seconds, tally.known_seconds))
    };
    tally_of(cluster)
        .map(|(server, tally)| ServerReplay {
            server: cluster.sides.servers.name(server).to_owned(),
            requests_before: tally.requests.before,
            requests_after: tally.requests.after,
            share_before: percent(tally.requests.before, before),
            share_after: percent(tally.requests.after, after),
            last_resort_before: tally.last_resort.before,
            last_resort_after: tally.last_resort.after,
            busy_percent_before: busy(tally.busy_seconds.before, tally),
            busy_percent_after: busy(tally.busy_seconds.after, tally),
            peak_per_second_before: tally.peak.before,
            peak_per_second_after: tally.peak.after,
            drawn: tally.new_users,
            drawn_expected: tally.new_users_expected.round() as u64,
        })
        .collect()
}

fn refused_databases(cluster: &ReplayedCluster, limit: usize) -> RefusedDatabases {
    let refused = cluster.tally.databases.iter().filter(|(_, t)| t.refused.before > 0 || t.refused.after > 0);
    let mut all: Vec<_> = refused.collect();
    all.sort_by_key(|(id, t)| (std::cmp::Reverse(t.refused.after.max(t.refused.before)), id.map(|id| id.0)));
    let example = |(id, tally): &(&Option<ReplicaId>, &super::tally::DatabaseTally)| RefusedDatabase {
        path: id.and_then(|id| cluster.sides.before.path(id)).map(str::to_owned),
        replica_id: id.map(|id| id.to_string()),
        refused_before: tally.refused.before,
        refused_after: tally.refused.after,
    };
    RefusedDatabases { count: all.len() as u64, examples: all.iter().take(limit).map(example).collect() }
}

fn single_replicas(cluster: &ReplayedCluster, limit: usize) -> SingleReplicas {
    let side = &cluster.sides.before;
    let single = |(id, tally): (&Option<ReplicaId>, &super::tally::DatabaseTally)| {
        let id = (*id)?;
        let [only] = side.holders(Some(id)) else { return None };
        Some((tally.requests, id, only.server))
    };
    let mut all: Vec<(u64, ReplicaId, ServerId)> =
        cluster.tally.databases.iter().filter_map(single).collect();
    all.sort_by_key(|(requests, id, _)| (std::cmp::Reverse(*requests), id.0));
    let example = |(requests, id, server): &(u64, ReplicaId, ServerId)| SingleReplica {
        path: side.path(*id).unwrap_or("-").to_owned(),
        replica_id: id.to_string(),
        server: cluster.sides.servers.name(*server).to_owned(),
        requests: *requests,
    };
    SingleReplicas {
        count: all.len() as u64,
        requests: all.iter().map(|(requests, ..)| requests).sum(),
        examples: all.iter().take(limit).map(example).collect(),
    }
}

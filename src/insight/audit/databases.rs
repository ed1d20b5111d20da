//! Audits replicas, marks and paths in one pass over the directory. Like selection, it decides by marks, ports and states
//! of the servers whether a database can be served.

use smallvec::SmallVec;

use super::finding::{self, FindingCollector};
use crate::domain::cluster::Port;
use crate::domain::cluster::ServerSnapshot;
use crate::domain::directory::{DatabaseMatch, IndexedDatabase, ReplicaStatus, ServerReplica};
use crate::domain::select::Candidate;
use crate::state::cluster_view::UpstreamServer;
use crate::state::{Cluster, ClusterView};
use crate::util::clock;

/// A replica on a server of the cluster, with the position of the server in the view.
type KnownReplica<'a> = (usize, &'a UpstreamServer, ServerReplica<'a>);

pub(super) fn audit_databases(
    cluster: &Cluster,
    view: &ClusterView,
    live: bool,
    findings: &mut FindingCollector,
) {
    let index = &view.directory.index;
    let ports: SmallVec<[Port; 2]> =
        [Port::Http, Port::Https].into_iter().filter(|p| cluster.settings.uses(*p)).collect();
    let snapshots: Vec<ServerSnapshot> = view.entries.iter().map(|e| e.server.snapshot()).collect();
    let mut holds = vec![false; view.entries.len()];
    let mut candidates: SmallVec<[Candidate; 8]> = SmallVec::new();
    for database in index.databases() {
        let found = DatabaseMatch { database: database.id(), path: None };
        let mut holders: SmallVec<[KnownReplica<'_>; 8]> = SmallVec::new();
        let mut unknown_servers = 0_usize;
        for holder in index.replicas_by_server(&found) {
            match view.server_id(holder.server) {
                Some(server) => {
                    let at = usize::from(server);
                    if let Some(holds) = holds.get_mut(at) {
                        *holds = true;
                    }
                    if let Some(entry) = view.server(server) {
                        holders.push((at, entry, holder));
                    }
                }
                None => unknown_servers += 1,
            }
        }
        audit_replicas(view, &database, &holders, unknown_servers, findings);
        if live {
            view.candidates(Some(&found), &mut candidates);
            audit_freshness(view, &database, &candidates, findings);
        }
        holders.retain(|(_, _, holder)| holder.status == ReplicaStatus::InService);
        // A database without a replica in service is already a finding of `audit_replicas`.
        if !holders.is_empty() {
            audit_service(&database, &holders, &ports, live.then_some(&snapshots), findings);
        }
    }
    if view.directory.is_loaded() {
        for (entry, _) in view.entries.iter().zip(&holds).filter(|(_, holds)| !**holds) {
            findings.add(&finding::NO_REPLICAS, || entry.config.name.to_string());
        }
    }
    audit_ambiguous_paths(view, findings);
}

/// Reports replicas that are behind.
fn audit_freshness(
    view: &ClusterView,
    database: &IndexedDatabase<'_>,
    candidates: &[Candidate],
    findings: &mut FindingCollector,
) {
    for candidate in candidates {
        if let Some(since) = candidate.freshness.behind_since_unix_ms
            && let Some(entry) = view.server(candidate.server)
        {
            findings.add(&finding::BEHIND, || {
                let at = clock::local_minute(since);
                format!("{} on {} behind since {at}", database.path(), entry.config.name)
            });
        }
    }
}

/// Reports a database that clients of some scheme cannot use. `snapshots` is `None` if the states are unknown.
fn audit_service(
    database: &IndexedDatabase<'_>,
    in_service: &[KnownReplica<'_>],
    ports: &[Port],
    snapshots: Option<&Vec<ServerSnapshot>>,
    findings: &mut FindingCollector,
) {
    // Clients of a scheme without a server fail, even if the other scheme works.
    let lacks_port = |port: &&Port| in_service.iter().all(|(_, e, _)| e.host_port(**port).is_none());
    if let Some(port) = ports.iter().find(lacks_port) {
        findings.add(&finding::NO_REPLICA_BY_SCHEME, || format!("{}: {port}", describe(database)));
        return;
    }
    let Some(snapshots) = snapshots else { return };
    let serves = |at: usize, port: Port, include_set_aside: bool| {
        snapshots.get(at).is_some_and(|s| {
            s.is_up(port)
                && s.restricted_since_ms.is_none()
                && (include_set_aside || !(s.busy || s.max_users || s.catching_up_since_unix_ms.is_some()))
        })
    };
    let all = |include_set_aside: bool| {
        ports.iter().all(|p| in_service.iter().any(|(at, ..)| serves(*at, *p, include_set_aside)))
    };
    let states = || {
        let states = in_service.iter().map(|(_, e, _)| format!("{} {}", e.config.name, e.server.state()));
        format!("{}: {}", describe(database), states.collect::<Vec<_>>().join(", "))
    };
    if !all(true) {
        findings.add(&finding::UNSERVED, states);
    } else if !all(false) {
        findings.add(&finding::ONLY_SET_ASIDE, states);
    }
}

fn audit_replicas(
    view: &ClusterView,
    database: &IndexedDatabase<'_>,
    holders: &[KnownReplica<'_>],
    unknown_servers: usize,
    findings: &mut FindingCollector,
) {
    let index = &view.directory.index;
    match holders {
        [] if unknown_servers > 0 => findings.add(&finding::ONLY_ON_UNKNOWN_SERVERS, || describe(database)),
        [(_, entry, _)] => findings.add(&finding::SINGLE_REPLICA, || {
            format!("{}: only on {}", describe(database), entry.config.name)
        }),
        _ => {}
    }
    let in_service: SmallVec<[&UpstreamServer; 8]> =
        holders.iter().filter(|(_, _, h)| h.status == ReplicaStatus::InService).map(|(_, e, _)| *e).collect();
    match in_service.as_slice() {
        [] if !holders.is_empty() => findings.add(&finding::ALL_MARKED, || describe(database)),
        [only] if holders.len() > 1 => findings.add(&finding::SINGLE_IN_SERVICE, || {
            format!("{}: only on {}", describe(database), only.config.name)
        }),
        _ => {}
    }
    for (_, entry, holder) in holders.iter().filter(|(_, _, h)| h.replica_count > 1) {
        findings.add(&finding::SEVERAL_COPIES, || {
            format!("{}: {} copies on {}", describe(database), holder.replica_count, entry.config.name)
        });
    }
    let mut first_path = None;
    let mut differs = false;
    for replica in database.replicas() {
        let kind = match replica.status {
            ReplicaStatus::InService => None,
            ReplicaStatus::OutOfService => Some(&finding::OUT_OF_SERVICE),
            ReplicaStatus::PendingDelete => Some(&finding::PENDING_DELETE),
        };
        if let Some(kind) = kind {
            let server = index.servers().get(replica.server.as_usize());
            findings.add(kind, || {
                let server = server.map(ToString::to_string).unwrap_or_default();
                format!("{} on {server}", replica.path)
            });
        }
        differs |= *first_path.get_or_insert(replica.path_id) != replica.path_id;
    }
    if differs && holders.len() > 1 {
        findings.add(&finding::DIFFERENT_PATHS, || {
            let places: Vec<String> =
                holders.iter().map(|(_, e, h)| format!("{} on {}", h.path(), e.config.name)).collect();
            format!("{}: {}", database.replica_id(), places.join(", "))
        });
    }
}

fn audit_ambiguous_paths(view: &ClusterView, findings: &mut FindingCollector) {
    let index = &view.directory.index;
    for (path, ambiguous) in index.ambiguous_paths() {
        findings.add(&finding::AMBIGUOUS_PATH, || {
            let databases: Vec<String> = index
                .ambiguous_databases(ambiguous)
                .map(|found| {
                    let servers: Vec<String> = index
                        .replicas_by_server(&found)
                        .filter(|h| h.same_path)
                        .filter_map(|h| index.servers().get(h.server.as_usize()))
                        .map(ToString::to_string)
                        .collect();
                    format!("{} on {}", index.database(found.database).replica_id(), servers.join(", "))
                })
                .collect();
            format!("{}: {}", index.folded_path(path), databases.join("; "))
        });
    }
}

fn describe(database: &IndexedDatabase<'_>) -> String {
    format!("{} ({})", database.path(), database.replica_id())
}

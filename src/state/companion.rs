//! Takes what a companion reports about replicas: marks always, modification times if `freshness` reads them from it.

use std::sync::Arc;

use super::cluster::Cluster;
use super::cluster_view::UpstreamServer;
use super::replica_readings::{ServerTimes, rules};
use super::{Balancer, ClusterView};
use crate::config::settings::FreshnessSource;
use crate::discovery::availability::CompanionReading;
use crate::discovery::availability::companion::CompanionDocument;
use crate::domain::cluster::{ClusterServer, ServerName};
use crate::domain::directory::{DatabaseId, ReplicaId};
use crate::domain::freshness::{IgnoredDatabases, ModifiedReading, UnknownModified};

/// Takes a document that the companion of this server has written.
pub(super) fn take(
    balancer: &Balancer,
    cluster: &Cluster,
    server: &ClusterServer,
    reading: &CompanionReading,
) {
    let document = &reading.document;
    warn_about_members(balancer, cluster, server.name(), document);
    if document.replicas.is_none() {
        return;
    }
    let settings = &cluster.settings.freshness;
    let rules = rules(settings);
    let readings = &cluster.persistent_state.replica_readings;
    let offset = match document.time_unix_ms {
        Some(clock) => {
            let (sent, received) = (reading.sent_unix_ms, reading.received_unix_ms);
            let times = ServerTimes { modified: 0, clock, sent, received };
            match readings.observe_document(server.tag(), times, &rules) {
                Some(offset) => offset,
                // The agent runs on a schedule, or a cache answered: nothing new.
                None => return,
            }
        }
        None => Err(UnknownModified::NoDate),
    };
    let reads_times = settings.source == FreshnessSource::Companion;
    let ignored = IgnoredDatabases::new(&settings.ignore);
    let view = cluster.view.load_full();
    let by_id = document.replicas_by_id();
    let mut counts = [("read", 0), ("not_given", 0), ("unknown", 0)];
    readings.track(|tracker| {
        tracker.retain_replicas(server.tag(), |id| by_id.contains_key(&id));
        for (id, replica) in &by_id {
            let (Some(database), Some(replica)) = (view.directory.index.find_by_replica_id(*id), replica)
            else {
                continue;
            };
            if let Some(mark) = replica.mark {
                tracker.record_mark(*id, server.tag(), mark, reading.sent_unix_ms);
            }
            if !reads_times || !is_compared(&view, database, &ignored) {
                continue;
            }
            let [read, not_given, unknown] = &mut counts;
            match (replica.modified_unix_ms, offset) {
                (None, _) => {
                    not_given.1 += 1;
                    tracker.record_unknown(*id, server.tag());
                }
                (Some(modified), Ok(offset)) => match offset.to_ours(modified) {
                    Ok(modified_unix_ms) => {
                        read.1 += 1;
                        let taken_unix_ms = reading.sent_unix_ms;
                        let taken = ModifiedReading { modified_unix_ms, taken_unix_ms };
                        tracker.record_reading(*id, server.tag(), taken, &rules);
                    }
                    Err(_) => unknown.1 += 1,
                },
                (Some(_), Err(_)) => unknown.1 += 1,
            }
        }
    });
    for (result, count) in counts {
        let result = match (result, offset) {
            ("unknown", Err(why)) => why.as_str(),
            ("unknown", Ok(_)) => UnknownModified::ClockMoved.as_str(),
            (result, _) => result,
        };
        readings.count(server.tag(), result, count);
    }
    readings.changed.notify_one();
}

/// Whether the times of a database are compared: several servers of the cluster hold it, and it is not ignored.
pub(super) fn is_compared(view: &ClusterView, database: DatabaseId, ignored: &IgnoredDatabases) -> bool {
    let index = &view.directory.index;
    let database = index.database(database);
    let mut first = None;
    let several = database.replicas().filter_map(|replica| view.server_id(replica.server)).any(|server| {
        let is_other = first.is_some_and(|first| first != server);
        first.get_or_insert(server);
        is_other
    });
    several && !database.replicas().any(|replica| ignored.matches(index.folded_path(replica.path_id)))
}

/// The path of a database on a server, as that server spells it.
pub(super) fn path_on(view: &ClusterView, database: ReplicaId, server: u32) -> String {
    let index = &view.directory.index;
    let is_on = |entry: &UpstreamServer| entry.server.tag() == server;
    let path = index.find_by_replica_id(database).and_then(|database| {
        let mut replicas = index.database(database).replicas();
        let here = |id| view.server_id(id).and_then(|id| view.server(id)).is_some_and(is_on);
        replicas.find(|replica| here(replica.server)).map(|replica| replica.path.to_owned())
    });
    path.unwrap_or_else(|| database.to_string())
}

/// Records an event if the members differ from the configured servers; once for each difference.
fn warn_about_members(
    balancer: &Balancer,
    cluster: &Cluster,
    from: &ServerName,
    document: &CompanionDocument,
) {
    let Some(text) = members_difference(&cluster.view.load_full(), &document.members) else { return };
    if cluster.persistent_state.replica_readings.is_new_members_warning(&text) {
        let text = format!("the companion of {from} says: {text}");
        balancer.events.record(log::Level::Warn, "members", Some(&cluster.settings.name), text);
    }
}

/// How the members that a companion reports differ from the servers in use.
#[must_use]
pub(crate) fn members_difference(view: &Arc<ClusterView>, members: &[ServerName]) -> Option<String> {
    if members.is_empty() {
        return None;
    }
    let configured: Vec<&ServerName> = view.entries.iter().map(|entry| &entry.config.name).collect();
    let list = |names: Vec<&ServerName>| {
        let names: Vec<&str> = names.into_iter().map(ServerName::abbreviated).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut extra: Vec<&ServerName> = members.iter().filter(|name| !configured.contains(name)).collect();
    extra.sort_unstable();
    let extra = list(extra).map(|names| format!("members of the cluster that are not configured: {names}"));
    let absent = configured.iter().copied().filter(|name| !members.contains(name)).collect();
    let absent = list(absent).map(|names| format!("configured servers that are no members: {names}"));
    let parts: Vec<String> = extra.into_iter().chain(absent).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

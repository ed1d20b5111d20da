//! The state of replication for the control port: what each server has in memory, and which copies lack which documents.

use serde_json::{Value, json};

use crate::cluster::{Cluster, SimulatedServer};
use crate::documents::CopyKey;

/// The memory of every server, the databases that have documents, and the copies that lack some.
pub fn report(cluster: &Cluster) -> Value {
    let mut documents = cluster.documents.lock().unwrap();
    let servers: serde_json::Map<String, Value> = cluster
        .local_servers()
        .map(|server| (server.name.abbreviated.clone(), server_json(cluster, server)))
        .collect();
    let copies = cluster.copies();
    let (mut databases, mut behind) = (Vec::new(), Vec::new());
    let name = |server: usize| cluster.servers[server].name.abbreviated.as_str();
    for (replica_id, mut copies) in copies.databases() {
        copies.retain(|copy| cluster.servers[copy.server].is_local);
        let keys: Vec<CopyKey> = copies.iter().map(|copy| CopyKey::of(copy)).collect();
        if !keys.iter().any(|key| documents.has_any(key)) {
            continue;
        }
        let mut shown = Vec::new();
        for (copy, key) in copies.iter().zip(&keys) {
            let modified_ms = documents.modified_ms(key, cluster.servers[copy.server].now_ms());
            shown.push(json!({
                "server": name(copy.server), "path": copy.path, "modified_ms": modified_ms,
                "documents": documents.count(key),
            }));
        }
        databases.push(json!({ "replica_id": replica_id, "title": copies[0].title, "copies": shown }));
        behind.extend(documents.behind(&keys).into_iter().map(|(key, unid, seq, newest)| {
            json!({
                "server": name(key.server), "path": key.path, "unid": unid, "seq": seq, "newest_seq": newest,
            })
        }));
    }
    json!({ "servers": servers, "databases": databases, "behind": behind, "edits": documents.counts_json() })
}

fn server_json(cluster: &Cluster, server: &SimulatedServer) -> Value {
    let replicator = server.replicator.lock().unwrap();
    let mut value = replicator.to_json(cluster, &server.settings());
    let statistics = replicator.values(server.number_of_others);
    value["running"] = (!server.is_down()).into();
    value["statistics"] = statistics.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    value["companion_calls"] = server.companion_calls.lock().unwrap().clone().into();
    value
}

//! The state of replication for the control port: what each server has in memory, and which copies lack which documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cluster::{Cluster, SimulatedServer};
use crate::copies::DatabaseCopy;
use crate::documents::CopyKey;

/// The memory of every server, and the databases that have documents.
pub fn report(cluster: &Cluster) -> Value {
    let mut documents = cluster.documents.lock().unwrap();
    let server_json = |server: &Arc<SimulatedServer>| {
        let settings = server.settings();
        let replicator = server.replicator.lock().unwrap();
        let mut value = replicator.to_json(cluster, &settings);
        value["running"] = (!server.is_down()).into();
        value["statistics"] = replicator
            .values(server.number_of_others)
            .iter()
            .map(|(n, v)| ((*n).to_owned(), json!(v)))
            .collect();
        value["companion_calls"] = server.companion_calls.lock().unwrap().clone().into();
        (server.name.abbreviated.clone(), value)
    };
    let servers: serde_json::Map<String, Value> = cluster.local_servers().map(server_json).collect();
    let copies = cluster.copies();
    let mut by_replica: BTreeMap<&str, Vec<&DatabaseCopy>> = BTreeMap::new();
    for copy in copies.copies.iter().filter(|copy| cluster.servers[copy.server].is_local) {
        by_replica.entry(&copy.replica_id).or_default().push(copy);
    }
    by_replica.retain(|_, copies| copies.iter().any(|copy| documents.has_any(&CopyKey::of(copy))));
    let (mut databases, mut behind) = (Vec::new(), Vec::new());
    let name = |server: usize| cluster.servers[server].name.abbreviated.clone();
    for (replica_id, copies) in by_replica {
        let keys: Vec<CopyKey> = copies.iter().map(|copy| CopyKey::of(copy)).collect();
        let mut copy_json = |(copy, key): (&&DatabaseCopy, &CopyKey)| {
            let modified_ms = documents.modified_ms(key, cluster.servers[copy.server].now_ms());
            json!({
                "server": name(copy.server), "path": copy.path, "modified_ms": modified_ms,
                "documents": documents.count(key),
            })
        };
        let shown: Value = copies.iter().zip(&keys).map(&mut copy_json).collect();
        databases.push(json!({ "replica_id": replica_id, "title": copies[0].title, "copies": shown }));
        behind.extend(documents.behind(&keys).into_iter().map(|(key, unid, seq, newest)| {
            json!({
                "server": name(key.server), "path": key.path, "unid": unid, "seq": seq, "newest_seq": newest,
            })
        }));
    }
    json!({ "servers": servers, "databases": databases, "behind": behind, "edits": documents.counts_json() })
}

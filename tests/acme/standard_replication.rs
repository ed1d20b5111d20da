//! Standard replication: it compares whole copies, so it also moves the changes that a Cluster Replicator has lost. The
//! control port and the companion start it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::copies::DatabaseCopy;
use crate::documents::{CopyKey, Documents};

/// What a standard replication covers; nothing named means everything.
#[derive(Default)]
pub struct Selection {
    pub from: Option<usize>,
    pub to: Option<usize>,
    /// A path, or a replica ID.
    pub database: Option<String>,
}

impl Selection {
    fn covers(&self, one: &DatabaseCopy, other: &DatabaseCopy) -> bool {
        let named = |a: &DatabaseCopy, b: &DatabaseCopy| {
            self.from.is_none_or(|from| from == a.server) && self.to.is_none_or(|to| to == b.server)
        };
        let is_database = |copy: &DatabaseCopy, name: &str| {
            copy.path.eq_ignore_ascii_case(name) || copy.replica_id.eq_ignore_ascii_case(name)
        };
        one.server != other.server
            && (named(one, other) || named(other, one))
            && self.database.as_deref().is_none_or(|name| is_database(one, name) || is_database(other, name))
    }
}

/// Replicates the copies in both directions between all running servers, and returns what was copied.
pub fn replicate(cluster: &Cluster, documents: &mut Documents, selection: &Selection) -> Value {
    let copies = cluster.copies();
    let mut databases: BTreeMap<&str, Vec<&DatabaseCopy>> = BTreeMap::new();
    for copy in &copies.copies {
        databases.entry(&copy.replica_id).or_default().push(copy);
    }
    databases.retain(|_, copies| copies.iter().any(|copy| documents.has_any(&CopyKey::of(copy))));
    let is_running = |server: usize| cluster.servers[server].is_local && !cluster.servers[server].is_down();
    let name = |copy: &DatabaseCopy| cluster.servers[copy.server].name.abbreviated.clone();
    let (mut moved, mut total) = (Vec::new(), 0);
    for copies in databases.values() {
        for (i, one) in copies.iter().enumerate() {
            for other in copies.iter().skip(i + 1).filter(|other| selection.covers(one, other)) {
                if !is_running(one.server) || !is_running(other.server) {
                    continue;
                }
                for (from, to) in [(one, other), (other, one)] {
                    let now_ms = cluster.servers[to.server].now_ms();
                    let number = documents.transfer(&CopyKey::of(from), &CopyKey::of(to), None, now_ms);
                    if number > 0 {
                        total += number;
                        moved.push(json!({
                            "from": name(from), "to": name(to), "path": to.path, "documents": number,
                        }));
                    }
                }
            }
        }
    }
    let down = cluster.local_servers().filter(|server| server.is_down());
    let down: Vec<&str> = down.map(|server| server.name.abbreviated.as_str()).collect();
    json!({ "documents": total, "moved": moved, "not_running": down })
}

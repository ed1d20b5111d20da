//! Standard replication: it compares whole copies, so it also moves the changes that a Cluster Replicator has lost. The
//! control port and the companion start it.

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
    let mut moved = Vec::new();
    for copies in copies.databases().values() {
        if !copies.iter().any(|copy| documents.has_any(&CopyKey::of(copy))) {
            continue;
        }
        for (i, one) in copies.iter().enumerate() {
            for other in copies.iter().skip(i + 1).filter(|other| selection.covers(one, other)) {
                for (from, to) in [(one, other), (other, one)] {
                    moved.extend(pull(cluster, documents, from, to));
                }
            }
        }
    }
    let total: u64 = moved.iter().filter_map(|one| one["documents"].as_u64()).sum();
    let down = cluster.local_servers().filter(|server| server.is_down());
    let down: Vec<&str> = down.map(|server| server.name.abbreviated.as_str()).collect();
    json!({ "documents": total, "moved": moved, "not_running": down })
}

/// Copies what is newer in one direction if both servers run, and returns what that was.
fn pull(
    cluster: &Cluster,
    documents: &mut Documents,
    from: &DatabaseCopy,
    to: &DatabaseCopy,
) -> Option<Value> {
    let (source, destination) = (&cluster.servers[from.server], &cluster.servers[to.server]);
    if [source, destination].iter().any(|server| !server.is_local || server.is_down()) {
        return None;
    }
    let number = documents.transfer(&CopyKey::of(from), &CopyKey::of(to), None, destination.now_ms());
    let moved = json!({
        "from": source.name.abbreviated, "to": destination.name.abbreviated, "path": to.path, "documents": number,
    });
    (number > 0).then_some(moved)
}

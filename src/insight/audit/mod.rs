//! The cluster seen with an auditor's eyes: what stands on one leg, contradicts itself, or is not known.
//!
//! In: a snapshot. Out: findings by cluster, worst first, each with a count, examples and what to do. One pass
//! over the directory. It sends nothing and changes nothing.

mod databases;
mod finding;
mod servers;

use serde::{Deserialize, Serialize};

use crate::state::{Cluster, Snapshot};
use finding::FindingCollector;
pub use finding::{Finding, Severity};

/// The whole answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Audit {
    /// Findings of this severity, over all clusters.
    pub errors: usize,
    /// The same.
    pub warnings: usize,
    /// The same.
    pub notes: usize,
    /// In the file's order.
    pub clusters: Vec<ClusterAudit>,
}

/// What was found in one cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterAudit {
    /// Its name.
    pub name: String,
    /// Members.
    pub servers: usize,
    /// Different replica IDs in the directory.
    pub databases: usize,
    /// Copies of all of them.
    pub replicas: usize,
    /// Where the directory came from.
    pub directory: String,
    /// Its age, milliseconds.
    pub directory_age_ms: u64,
    /// Worst first.
    pub findings: Vec<Finding>,
}

/// Looks at every cluster. `limit`: examples for each finding. `live`: what was probed and reported counts;
/// `false` for what is known from files alone.
#[must_use]
pub fn audit(snapshot: &Snapshot, limit: usize, live: bool) -> Audit {
    let clusters: Vec<ClusterAudit> =
        snapshot.clusters.iter().map(|cluster| audit_cluster(cluster, limit, live)).collect();
    let count =
        |severity| clusters.iter().flat_map(|c| &c.findings).filter(|f| f.severity == severity).count();
    Audit {
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        notes: count(Severity::Note),
        clusters,
    }
}

fn audit_cluster(cluster: &Cluster, limit: usize, live: bool) -> ClusterAudit {
    let view = cluster.view.load();
    let mut findings = FindingCollector::new(limit);
    servers::audit_servers(cluster, &view, live, &mut findings);
    databases::audit_databases(cluster, &view, live, &mut findings);
    let directory = &view.directory;
    ClusterAudit {
        name: cluster.settings.name.clone(),
        servers: view.entries.len(),
        databases: directory.index.len(),
        replicas: directory.index.replica_count(),
        directory: directory.origin.to_string(),
        directory_age_ms: crate::util::clock::unix_ms().saturating_sub(directory.at_unix_ms),
        findings: findings.finish(),
    }
}

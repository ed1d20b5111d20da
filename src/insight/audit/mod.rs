//! Audits a snapshot: finds single points of failure, contradictions and missing data. Each finding has a count, examples
//! and advice.

mod databases;
mod finding;
mod servers;

use serde::{Deserialize, Serialize};

use crate::insight::exposure::Exposure;
use crate::state::{Cluster, Snapshot};
use finding::FindingCollector;
pub use finding::{Finding, Severity};

/// The answer of `/audit` and `icm audit --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Audit {
    /// Findings of this severity in all clusters.
    pub errors: usize,
    pub warnings: usize,
    pub notes: usize,
    /// In the order of the configuration.
    pub clusters: Vec<ClusterAudit>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterAudit {
    pub name: String,
    pub servers: usize,
    /// Distinct replica IDs in the directory.
    pub databases: usize,
    pub replicas: usize,
    /// Where the directory came from.
    pub directory: String,
    pub directory_age_ms: u64,
    /// Sorted by severity, errors first.
    pub findings: Vec<Finding>,
}

/// `limit`: examples for each finding. `exposures`: what each cluster's servers show to Anonymous; with it, states and ages
/// are audited too. `None` if only files are known.
#[must_use]
pub fn audit(snapshot: &Snapshot, limit: usize, exposures: Option<&[Vec<Exposure>]>) -> Audit {
    let of_cluster = |number: usize| exposures.map(|all| all.get(number).map_or(&[][..], Vec::as_slice));
    let clusters: Vec<ClusterAudit> = snapshot
        .clusters
        .iter()
        .enumerate()
        .map(|(number, cluster)| audit_cluster(cluster, limit, of_cluster(number)))
        .collect();
    let count =
        |severity| clusters.iter().flat_map(|c| &c.findings).filter(|f| f.severity == severity).count();
    Audit {
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        notes: count(Severity::Note),
        clusters,
    }
}

fn audit_cluster(cluster: &Cluster, limit: usize, exposures: Option<&[Exposure]>) -> ClusterAudit {
    let view = cluster.view.load();
    let live = exposures.is_some();
    let mut findings = FindingCollector::new(limit);
    servers::audit_servers(cluster, &view, live, &mut findings);
    if !cluster.settings.is_pool() {
        databases::audit_databases(cluster, &view, live, &mut findings);
    }
    servers::audit_exposures(exposures.unwrap_or_default(), &mut findings);
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

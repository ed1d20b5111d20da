//! What `icm check --probe` says about replicas: what the companions understood, and whether modification times can be
//! read from databases.

use crate::config::settings::FreshnessSource;
use crate::discovery::availability::CompanionReading;
use crate::discovery::domino::fault::single_line;
use crate::discovery::freshness::read_head;
use crate::domain::directory::ReplicaStatus;
use crate::state::cluster_view::UpstreamServer;
use crate::state::{Cluster, companion, head_passes};
use crate::util::clock;

/// Databases of each server that are tried.
const SAMPLED_DATABASES: usize = 5;
/// Texts of one kind in a finding.
const MAX_EXAMPLES: usize = 5;

/// What a companion reported and what it did not.
#[must_use]
pub fn describe_companion(cluster: &Cluster, reading: &CompanionReading) -> String {
    let document = &reading.document;
    let mut parts = Vec::new();
    parts.extend(document.release.clone());
    match &document.replicas {
        Some(replicas) => {
            let timed = replicas.iter().filter(|replica| replica.modified_unix_ms.is_some()).count();
            let marked = replicas.iter().filter(|r| r.mark.is_some()).count();
            let set =
                replicas.iter().filter(|r| r.mark.is_some_and(|m| m != ReplicaStatus::InService)).count();
            parts.push(format!(
                "{} replicas, {timed} with a modification time, {marked} with known marks, {set} marked",
                replicas.len()
            ));
        }
        None => parts.push("no replicas listed".to_owned()),
    }
    let replicator = &document.report.replicator;
    if replicator.retry_waiting.is_none() || replicator.work_queue_depth.is_none() {
        parts.push("pending replications unknown".to_owned());
    }
    if let Some(time) = document.time_unix_ms {
        let ahead_ms = i128::from(time) - i128::from(reading.sent_unix_ms.midpoint(reading.received_unix_ms));
        if ahead_ms.unsigned_abs() > 5_000 {
            parts.push(format!("its clock is {} s off", ahead_ms / 1_000));
        }
    }
    parts.extend(companion::members_difference(&cluster.view.load_full(), &document.members));
    if !document.absent.is_empty() {
        parts.push(format!("absent: {}", document.absent.join(", ")));
    }
    let texts = |name: &str, texts: &[String]| {
        let shown: Vec<String> = texts.iter().take(MAX_EXAMPLES).map(|text| single_line(text)).collect();
        let more = texts.len().saturating_sub(shown.len());
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        (!texts.is_empty()).then(|| format!("{name}: {}{more}", shown.join("; ")))
    };
    parts.extend(texts("missing", &document.missing));
    parts.extend(texts("ignored", &document.warnings));
    format!("companion: {}", parts.join("; "))
}

/// Reads a few databases of a server as `freshness: { source: head }` does. `None` with another source.
///
/// True if a database gave its modification time, or there is none to ask for.
pub async fn sample_databases(cluster: &Cluster, entry: &UpstreamServer) -> Option<(bool, String)> {
    if cluster.settings.freshness.source != FreshnessSource::Head {
        return None;
    }
    let targets = head_passes::sample(cluster, entry, SAMPLED_DATABASES);
    if targets.is_empty() {
        return Some((true, "no database that other servers hold too".to_owned()));
    }
    let (mut texts, mut any) = (Vec::new(), false);
    for target in &targets {
        let auth = cluster.settings.directory.auth();
        let sessions = &cluster.persistent_state.login_sessions;
        texts.push(match read_head(&cluster.client, target, auth, sessions).await {
            Ok(reading) => {
                any = true;
                let age = reading.date_unix_ms.saturating_sub(reading.modified_unix_ms);
                let at = clock::local_time_of_day(reading.sent_unix_ms.saturating_sub(age));
                format!("{} modified {at}", target.path)
            }
            Err(error) => format!("{}: {error}", target.path),
        });
    }
    Some((any, texts.join("; ")))
}

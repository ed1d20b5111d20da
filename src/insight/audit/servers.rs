//! Audits the servers, their availability sources, and the directory as a whole.

use super::finding::{self, FindingCollector};
use crate::config::settings::{AvailabilitySource, Directory};
use crate::domain::cluster::{Port, ServerState};
use crate::insight::exposure::Exposure;
use crate::state::cluster_view::UpstreamServer;
use crate::state::{Cluster, ClusterView, DirectoryOrigin, catch_up};
use crate::util::clock;

pub(super) fn audit_servers(
    cluster: &Cluster,
    view: &ClusterView,
    live: bool,
    findings: &mut FindingCollector,
) {
    for entry in &view.entries {
        let name = entry.config.name.abbreviated();
        for port in [Port::Http, Port::Https] {
            let Some(at) = entry.host_port(port) else {
                let kind = match (cluster.settings.uses(port), port) {
                    (true, _) => &finding::PORT_DISABLED,
                    // Only browsers that are redirected use another port.
                    _ if cluster.settings.is_pool() => continue,
                    (false, Port::Https) => &finding::NO_HTTPS,
                    (false, Port::Http) => &finding::NO_HTTP,
                };
                findings.add(kind, || format!("{name}: {port}"));
                continue;
            };
            if entry.address(port).is_none() {
                findings.add(&finding::NO_ADDRESS, || format!("{name}: {port} port {at}"));
            }
        }
        if let Some(exposure) = cluster.settings.exposure_of(&entry.config) {
            findings.add(&finding::EXPOSED, || format!("{name}: {exposure}"));
        }
        if live {
            audit_state(cluster, entry, findings);
        }
    }
    for fact in crate::config::facts(&cluster.settings) {
        if let Some(text) = fact.unread() {
            findings.add(&finding::NOT_REPORTED, || format!("{text}; {}", fact.hint));
        }
    }
    if live {
        audit_evidence(cluster, findings);
    }
    audit_directory(cluster, view, live, findings);
}

/// Reports a cluster in which CATCHING UP is on and has no effect.
fn audit_evidence(cluster: &Cluster, findings: &mut FindingCollector) {
    let evidence = catch_up::evidence_sources(cluster);
    let several = evidence.reporting.len() + evidence.silent.len() > 1;
    if cluster.settings.catch_up.enabled && several && evidence.is_empty() {
        findings.add(&finding::NO_EVIDENCE, || {
            "no server has reported about its Cluster Replicator, and freshness.source is off".to_owned()
        });
    }
}

/// Audits what probes and availability sources reported.
fn audit_state(cluster: &Cluster, entry: &UpstreamServer, findings: &mut FindingCollector) {
    let now = clock::now_ms();
    let name = entry.config.name.abbreviated();
    entry.server.read(|health| {
        let (state, _, cause) = health.state();
        let kind = match state {
            ServerState::Available => None,
            ServerState::Busy | ServerState::MaxUsers => Some(&finding::SET_ASIDE),
            ServerState::CatchingUp => Some(&finding::CATCHING_UP),
            ServerState::Restricted => Some(&finding::RESTRICTED),
            ServerState::Unreachable => Some(&finding::UNREACHABLE),
        };
        if let Some(kind) = kind {
            let why = match health.restrictions() {
                all if state == ServerState::Restricted && !all.is_empty() => all.join("; "),
                _ => cause.to_owned(),
            };
            findings.add(kind, || format!("{name}: {state}, {why}"));
        }
        if state != ServerState::Unreachable {
            for port in [Port::Http, Port::Https] {
                let cause = health.port_cause(port);
                if entry.host_port(port).is_some() && !cause.is_empty() {
                    findings.add(&finding::PORT_DOWN, || format!("{name}: {cause}"));
                }
            }
        }
        if health.restriction_stale(now) {
            findings.add(&finding::RESTRICTION_STALE, || name.to_owned());
        }
        // Without a polled source this is already reported by `config::unread`.
        let has_source = cluster
            .availability_sources(&entry.config)
            .iter()
            .any(|a| !matches!(a.source, AvailabilitySource::Observed));
        if has_source && !health.restricted_is_read() {
            findings.add(&finding::NOT_REPORTED, || {
                format!("RESTRICTED of {name}: its sources have not reported it so far")
            });
        }
    });
}

/// Reports what anyone can read. A server that does not answer is reported as such already.
pub(super) fn audit_exposures(exposures: &[Exposure], findings: &mut FindingCollector) {
    for exposure in exposures.iter().filter(|exposure| exposure.is_open()) {
        findings.add(&finding::READABLE_BY_ANYONE, || exposure.describe());
    }
}

fn audit_directory(cluster: &Cluster, view: &ClusterView, live: bool, findings: &mut FindingCollector) {
    let directory = &view.directory;
    if !directory.is_loaded() {
        findings.add(&finding::NO_DIRECTORY, || directory.origin.to_string());
    }
    for (kind, error) in [
        (&finding::DIRECTORY_UNREADABLE, &cluster.persistent_state.directory_error),
        (&finding::SERVER_LIST_UNREADABLE, &cluster.persistent_state.server_list_error),
    ] {
        let text = error.lock().clone();
        if !text.is_empty() {
            findings.add(kind, || text);
        }
    }
    let mut examples = directory.duplicate_examples.iter();
    for _ in 0..directory.duplicates {
        match examples.next() {
            Some((server, path)) => findings.add(&finding::DUPLICATES, || format!("{server}: {path}")),
            None => break,
        }
    }
    // Only the first duplicates are stored; of the rest the number is known.
    let unlisted = directory.duplicates.saturating_sub(directory.duplicate_examples.len());
    findings.add_many(&finding::DUPLICATES, unlisted, || format!("and {unlisted} more"));
    for warning in &directory.warnings {
        findings.add(&finding::READING_WARNING, || warning.clone());
    }
    for name in view.unknown_servers() {
        findings.add(&finding::UNKNOWN_SERVERS, || name.to_string());
    }
    if live {
        if matches!(directory.origin, DirectoryOrigin::Cache(_)) {
            findings.add(&finding::FROM_CACHE, || directory.origin.to_string());
        }
        if let Directory::Cldbdir(settings) = &cluster.settings.directory
            && directory.is_loaded()
        {
            let age = clock::unix_ms().saturating_sub(directory.at_unix_ms);
            let limit = clock::saturating_millis(settings.refresh).saturating_mul(3);
            if age > limit {
                let age = humantime::format_duration(std::time::Duration::from_secs(age / 1_000));
                findings.add(&finding::OLD_DIRECTORY, || format!("read {age} ago from {}", directory.origin));
            }
        }
    }
}

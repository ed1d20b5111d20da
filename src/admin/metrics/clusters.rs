//! Metrics of each cluster: its traffic and its directory. Requests without a cluster have `cluster="-"`, as in the access
//! log.

use super::exposition::Exposition;
use crate::config::settings::{Directory, FreshnessSource, Servers};
use crate::state::{Balancer, Cluster};
use crate::telemetry::statistics::traffic::Traffic;
use crate::util::clock;

/// Writes one metric after the other, each for every cluster.
pub fn render(out: &mut Exposition, balancer: &Balancer) {
    let snapshot = balancer.snapshot();
    let clusters: Vec<(&str, &Cluster)> =
        snapshot.clusters.iter().map(|cluster| (cluster.settings.name.as_str(), &**cluster)).collect();
    traffic(out, &clusters, &balancer.statistics.unrouted);
    out.counter("icm_catch_up_opened_total", "Servers that are no longer CATCHING UP, by reason");
    for (name, cluster) in &clusters {
        for (reason, count) in cluster.persistent_state.catch_up.opened_by_reason() {
            out.sample(&[("cluster", *name), ("reason", reason)], count);
        }
    }
    out.counter("icm_route_requests_total", "Requests that took each route");
    for (name, cluster) in &clusters {
        for (route, requests) in cluster.settings.routes.iter().zip(&cluster.route_requests) {
            out.sample(&[("cluster", *name), ("route", &*route.name)], requests.total());
        }
    }
    out.counter("icm_site_crossings_total", "Requests that went to a server of another site");
    for (name, cluster) in clusters.iter().filter(|(_, cluster)| cluster.has_sites()) {
        out.sample(&[("cluster", *name)], cluster.persistent_state.traffic.site_crossings());
    }
    out.counter("icm_save_checks_total", "Answers to the question whether a save that was cut happened");
    for (name, cluster) in clusters.iter().filter(|(_, cluster)| !cluster.settings.is_pool()) {
        for (answer, count) in cluster.persistent_state.save_checks.answers() {
            out.sample(&[("cluster", *name), ("answer", answer)], count);
        }
    }
    out.counter("icm_access_denied_total", "Requests denied by a rule of access");
    for (name, cluster) in &clusters {
        for (rule, count) in cluster.denied_by_rule() {
            out.sample(&[("cluster", *name), ("rule", rule)], count);
        }
    }
    server_documents(out, &clusters);
    let with_directory: Vec<_> =
        clusters.iter().copied().filter(|(_, cluster)| !cluster.settings.is_pool()).collect();
    directories(out, &with_directory);
    replicas(out, &clusters);
}

/// A cluster that reads no modification times has no samples.
fn replicas(out: &mut Exposition, clusters: &[(&str, &Cluster)]) {
    let reading = || {
        clusters
            .iter()
            .filter(|(_, cluster)| cluster.settings.freshness.source != FreshnessSource::Off)
            .map(|(name, cluster)| (*name, *cluster, &cluster.persistent_state.replica_readings))
    };
    out.gauge("icm_replicas_behind", "Replicas that lack changes of another replica");
    for (name, _, readings) in reading() {
        out.sample(&[("cluster", name)], readings.behind().0);
    }
    out.gauge(
        "icm_replicas_behind_oldest_seconds",
        "For how long the first of them lacks changes, 0 without any",
    );
    for (name, _, readings) in reading() {
        let age = readings.behind().1.map_or(0, |since| clock::unix_ms().saturating_sub(since));
        out.sample(&[("cluster", name)], age / 1_000);
    }
    out.counter("icm_freshness_readings_total", "Readings of modification times, by result");
    for (name, cluster, readings) in reading() {
        let view = cluster.view.load_full();
        for ((tag, result), count) in readings.results() {
            if let Some(entry) = view.entries.iter().find(|entry| entry.server.tag() == tag) {
                let server = entry.config.name.abbreviated();
                out.sample(&[("cluster", name), ("server", server), ("result", result)], count);
            }
        }
    }
}

fn traffic(out: &mut Exposition, clusters: &[(&str, &Cluster)], unrouted: &Traffic) {
    let traffic_by_cluster =
        || clusters.iter().map(|(name, cluster)| (*name, &cluster.persistent_state.traffic));
    out.histogram(
        "icm_request_duration_seconds",
        "Time from the head of a request to the last byte of its answer, by status class",
    );
    for (cluster, traffic) in traffic_by_cluster().chain([("-", unrouted)]) {
        for (status, times) in traffic.request_durations() {
            out.histogram_samples(&[("cluster", cluster), ("status", status)], &times);
        }
    }
    out.histogram(
        "icm_upstream_response_seconds",
        "Time from the choice of a server to the head of its answer",
    );
    for (cluster, traffic) in traffic_by_cluster() {
        for (class, times) in traffic.response_times() {
            out.histogram_samples(&[("cluster", cluster), ("class", class)], &times);
        }
    }
    out.counter("icm_failovers_total", "Requests sent to another server, by the failure of the previous one");
    for (cluster, traffic) in traffic_by_cluster() {
        for (cause, count) in traffic.failovers_by_cause() {
            out.sample(&[("cluster", cluster), ("cause", cause)], count);
        }
    }
}

fn server_documents(out: &mut Exposition, clusters: &[(&str, &Cluster)]) {
    out.gauge("icm_members_readable", "0 while the Server documents cannot be read");
    for (name, cluster) in clusters {
        if matches!(cluster.settings.servers, Servers::Names(_)) {
            let error = cluster.persistent_state.server_list_error.lock();
            out.sample(&[("cluster", name)], u8::from(error.is_empty()));
        }
    }
}

fn directories(out: &mut Exposition, clusters: &[(&str, &Cluster)]) {
    let now = clock::unix_ms();
    let loaded: Vec<_> =
        clusters.iter().map(|(name, cluster)| ([("cluster", *name)], cluster.view.load_full())).collect();
    out.gauge("icm_directory_age_seconds", "Age of the directory in use");
    for (labels, view) in &loaded {
        out.sample(labels, now.saturating_sub(view.directory.at_unix_ms) / 1_000);
    }
    out.gauge(
        "icm_directory_refresh_seconds",
        "Refresh interval of a directory that is read from a database",
    );
    for (name, cluster) in clusters {
        if let Directory::Cldbdir(source) = &cluster.settings.directory {
            out.sample(&[("cluster", name)], source.refresh.as_secs_f64());
        }
    }
    out.gauge("icm_directory_readable", "0 while the directory cannot be read");
    for (name, cluster) in clusters {
        let error = cluster.persistent_state.directory_error.lock();
        out.sample(&[("cluster", name)], u8::from(error.is_empty()));
    }
    out.gauge("icm_directory_loaded", "1 if there is a directory, fresh or from the cache");
    for (labels, view) in &loaded {
        out.sample(labels, u8::from(view.directory.is_loaded()));
    }
    out.gauge("icm_directory_databases", "Databases in the directory");
    for (labels, view) in &loaded {
        out.sample(labels, view.directory.index.len());
    }
    out.gauge("icm_directory_replicas", "Replicas in the directory");
    for (labels, view) in &loaded {
        out.sample(labels, view.directory.index.replica_count());
    }
    out.gauge("icm_directory_unknown_servers", "Servers in the directory that the cluster does not have");
    for (labels, view) in &loaded {
        out.sample(labels, view.unknown_servers().len());
    }
}

//! Keeps the servers of a cluster as the Server documents list them (`servers: { source: names }`). If a reading fails or
//! is incomplete, the last good list stays in use.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::cluster::Cluster;
use super::preflight::{self, PreflightProbes};
use super::{Balancer, resolve};
use crate::config::settings::{self, NamesView};
use crate::discovery::directory::server_cache;
use crate::discovery::servers::{self, ServersHold, ServersReading};
use crate::discovery::site_rules;
use crate::domain::cluster::ServerName;
use crate::util::clock::jitter;

/// Reads the list at every interval; runs until aborted.
pub async fn refresh_server_list(balancer: Arc<Balancer>, cluster: Arc<Cluster>, view: NamesView) {
    let name = &cluster.settings.name;
    let mut hold = ServersHold::default();
    loop {
        match servers::read(&cluster.client, &view, name, &cluster.persistent_state.login_sessions).await {
            Ok(mut reading) => {
                reading.warnings.extend(unknown_in_routes(&cluster.settings, &reading.servers));
                reading.warnings.extend(read_site_rules(&balancer, &cluster, &view).await);
                let before = std::mem::replace(
                    &mut *cluster.persistent_state.server_list_warnings.lock(),
                    reading.warnings.clone(),
                );
                // A warning that every reading repeats is logged once.
                for warning in reading.warnings.iter().filter(|warning| !before.contains(warning)) {
                    log::warn!(target: "icm::members", "{name}: {warning}");
                }
                match hold.judge(&cluster.servers(), &reading) {
                    Some(reason) => {
                        let text = format!("reading held, the old servers stay in use: {reason}");
                        set_server_list_error(&balancer, &cluster, &text);
                    }
                    None => apply_server_list(&balancer, &cluster, &view, reading).await,
                }
            }
            Err(failure) => set_server_list_error(&balancer, &cluster, &failure.to_string()),
        }
        cluster.persistent_state.server_list_read_attempted.store(true, Relaxed);
        let pause = if cluster.servers().is_empty() {
            view.refresh.min(Duration::from_secs(5))
        } else {
            view.refresh
        };
        tokio::time::sleep(jitter(pause)).await;
    }
}

/// Reads the rules of the site, if they are wanted. Returns the warning about a failure, after which the last ones stay.
async fn read_site_rules(balancer: &Balancer, cluster: &Cluster, view: &NamesView) -> Option<String> {
    let rules = view.site_rules.as_ref()?;
    match site_rules::read(&cluster.client, view, rules, &cluster.persistent_state.login_sessions).await {
        Ok(rules) => {
            if cluster.set_site_rules(rules) {
                let text = format!("site rules: {}", cluster.view.load().site_routes);
                balancer.events.record(log::Level::Info, "members", Some(&cluster.settings.name), text);
            }
            None
        }
        Err(failure) => Some(format!("{failure}; the last rules stay in use")),
    }
}

/// What the configuration could not check, because the servers are listed elsewhere.
fn unknown_in_routes(cluster: &settings::ClusterSettings, servers: &[settings::Server]) -> Vec<String> {
    let is_known = |name: &ServerName| servers.iter().any(|server| server.name == *name);
    let named = cluster.routes.iter().flat_map(|route| route.servers.iter().map(move |name| (route, name)));
    let unknown = named.filter(|(_, name)| !is_known(name));
    unknown
        .map(|(route, name)| format!("the route `{}` names {name}, which is not in the cluster", route.name))
        .collect()
}

async fn apply_server_list(
    balancer: &Balancer,
    cluster: &Arc<Cluster>,
    view: &NamesView,
    reading: ServersReading,
) {
    let name = &cluster.settings.name;
    let known = cluster.servers();
    if known != reading.servers {
        let text = describe_changes(&known, &reading.servers);
        balancer.events.record(log::Level::Info, "members", Some(name), text);
        let addresses = resolve::resolve_async(&reading.servers).await;
        // Servers in use may leave with the same reading, so the new ones are probed first. At start none is in use.
        let probes = match known.is_empty() {
            true => PreflightProbes::default(),
            false => {
                let (client, deadline) = (&cluster.client, Instant::now() + preflight::PREFLIGHT_TIMEOUT);
                let unknown = preflight::unprobed_ports(
                    &cluster.persistent_state,
                    &cluster.settings,
                    &reading.servers,
                    &addresses,
                );
                preflight::probe_ports(client, &cluster.settings, unknown, deadline).await
            }
        };
        probes.record_failures(balancer, name);
        for (server, change) in cluster.set_servers(reading.servers.clone(), addresses, &probes) {
            balancer.record_transition(name, server.name(), Some(change));
        }
    }
    if let Some(path) = view.cache.clone() {
        let (from, servers, cluster_name) = (reading.from, reading.servers, name.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = server_cache::save_servers(&path, &from, SystemTime::now(), &servers) {
                log::error!(target: "icm::members", "{cluster_name}: {error}");
            }
        });
    }
    set_server_list_error(balancer, cluster, "");
}

/// Records an event when the error changes; `text` is empty after a success.
fn set_server_list_error(balancer: &Balancer, cluster: &Cluster, text: &str) {
    let mut known = cluster.persistent_state.server_list_error.lock();
    if *known != text {
        let (level, message) = match text {
            "" => (log::Level::Info, "server documents can be read again"),
            text => (log::Level::Error, text),
        };
        balancer.events.record(level, "members", Some(&cluster.settings.name), message.to_owned());
        text.clone_into(&mut known);
    }
}

fn describe_changes(old: &[settings::Server], new: &[settings::Server]) -> String {
    let missing = |from: &[settings::Server], in_: &[settings::Server]| -> Vec<String> {
        from.iter().filter(|s| in_.iter().all(|o| o.name != s.name)).map(|s| s.name.to_string()).collect()
    };
    let (joined, left) = (missing(new, old), missing(old, new));
    match (joined.is_empty(), left.is_empty()) {
        (false, true) => format!("joined the cluster: {}", joined.join(", ")),
        (true, false) => format!("left the cluster: {}", left.join(", ")),
        (false, false) => format!("joined the cluster: {}; left it: {}", joined.join(", "), left.join(", ")),
        (true, true) => "a Server document changed".to_owned(),
    }
}

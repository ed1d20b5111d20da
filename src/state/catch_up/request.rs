//! Sends `catch_up.request` once for each return, in a task of its own, so that a slow agent delays nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::config::settings::ReplicationRequest;
use crate::discovery::replication_request::request_replication;
use crate::discovery::server_url::ServerPlace;
use crate::domain::cluster::{Port, ServerName};
use crate::state::{Balancer, Cluster};

/// Pauses before each attempt. A server that has just answered its first probe may not run agents yet.
const ATTEMPT_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(45),
    Duration::from_secs(120),
];

/// Starts the requests that were not made yet.
pub(super) fn start_missing(balancer: &Arc<Balancer>, cluster: &Arc<Cluster>) {
    let Some(settings) = &cluster.settings.catch_up.request else { return };
    // The followed ICM asks for all that follow it, while it answers.
    let is_left_to_followed = balancer.followed.lock().as_ref().is_some_and(|f| f.trouble.is_empty());
    let serves = balancer.owns_state.load(Relaxed) && !balancer.is_draining();
    if is_left_to_followed || !serves {
        return;
    }
    for entry in &cluster.view.load().entries {
        let name = &entry.config.name;
        {
            let mut inner = cluster.persistent_state.catch_up.lock();
            if inner.requesting.contains(name) || !inner.tracker.must_request(name) {
                continue;
            }
            inner.requesting.push(name.clone());
        }
        let (balancer, cluster) = (Arc::clone(balancer), Arc::clone(cluster));
        let (settings, name) = (settings.clone(), name.clone());
        tokio::spawn(async move {
            let guard = Requesting { cluster: Arc::clone(&cluster), server: name.clone() };
            ask(&balancer, &cluster, &settings, &name).await;
            drop(guard);
        });
    }
}

/// Ends the request on every path, a panic included.
struct Requesting {
    cluster: Arc<Cluster>,
    server: ServerName,
}

impl Drop for Requesting {
    fn drop(&mut self) {
        let mut inner = self.cluster.persistent_state.catch_up.lock();
        inner.requesting.retain(|server| *server != self.server);
    }
}

async fn ask(balancer: &Balancer, cluster: &Cluster, settings: &ReplicationRequest, server: &ServerName) {
    let (cluster_name, state) = (cluster.settings.name.as_str(), &cluster.persistent_state.catch_up);
    let record = |level, text: String| {
        let text = format!("{}: {text}", server.abbreviated());
        balancer.events.record(level, "catch_up", Some(cluster_name), text);
    };
    let mut remaining = ATTEMPT_PAUSES.len();
    for pause in ATTEMPT_PAUSES {
        tokio::time::sleep(pause).await;
        remaining -= 1;
        if !state.lock().tracker.must_request(server) {
            return;
        }
        let failure = match place(cluster, server) {
            Some((hostname, address)) => {
                let place = ServerPlace { name: server, hostname: &hostname, address };
                match request_replication(&cluster.client, settings, &place, cluster_name).await {
                    Ok(()) => {
                        state.lock().tracker.requested(server);
                        record(
                            log::Level::Info,
                            "asked to start a replication (catch_up.request)".to_owned(),
                        );
                        return;
                    }
                    Err(error) => error.to_string(),
                }
            }
            None => "it has no address".to_owned(),
        };
        let next = if remaining == 0 { "not asked again" } else { "asked again soon" };
        record(log::Level::Warn, format!("could not be asked to start a replication, {next}: {failure}"));
    }
    state.lock().tracker.requested(server);
}

fn place(cluster: &Cluster, server: &ServerName) -> Option<(String, std::net::SocketAddr)> {
    let view = cluster.view.load();
    let entry = view.entries.iter().find(|entry| entry.config.name == *server)?;
    let address = entry.address(Port::Http).or_else(|| entry.address(Port::Https))?;
    Some((entry.config.hostname.clone(), address))
}

//! The loop that keeps the members of a cluster as the Server documents have them.
//!
//! In: `servers: { source: names }`, and Domino servers that answer or do not. Out: members that join and leave, and events.
//! The last good members serve on whatever cannot be read, or is incomplete.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::cluster::Cluster;
use super::first_probes::{self, FirstProbes};
use super::{Balancer, resolve};
use crate::config::settings::{self, NamesView};
use crate::discovery::directory::cache;
use crate::discovery::servers::{self, ServersHold, ServersReading};
use crate::util::clock::jitter;

/// Reads the members again and again; ends when aborted.
pub async fn read_members(balancer: Arc<Balancer>, cluster: Arc<Cluster>, view: NamesView) {
    let name = &cluster.settings.name;
    let mut hold = ServersHold::default();
    loop {
        match servers::read(&cluster.client, &view, name, &cluster.kept.sessions).await {
            Ok(reading) => {
                for warning in &reading.warnings {
                    log::warn!(target: "icm::members", "{name}: {warning}");
                }
                cluster
                    .kept
                    .members_warnings
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone_from(&reading.warnings);
                match hold.judge(&cluster.servers(), &reading) {
                    Some(reason) => {
                        let text = format!("a reading is held, the old members serve on: {reason}");
                        set_trouble(&balancer, &cluster, &text);
                    }
                    None => accept(&balancer, &cluster, &view, reading).await,
                }
            }
            Err(failure) => set_trouble(&balancer, &cluster, &failure.to_string()),
        }
        cluster.kept.members_tried.store(true, Relaxed);
        let pause = if cluster.servers().is_empty() {
            view.refresh.min(Duration::from_secs(5))
        } else {
            view.refresh
        };
        tokio::time::sleep(jitter(pause)).await;
    }
}

async fn accept(balancer: &Balancer, cluster: &Arc<Cluster>, view: &NamesView, reading: ServersReading) {
    let name = &cluster.settings.name;
    let known = cluster.servers();
    if known != reading.servers {
        let text = difference(&known, &reading.servers);
        balancer.events.note(log::Level::Info, "members", Some(name), text);
        let addresses = resolve::later(&reading.servers).await;
        // Members that serve may leave with the same reading: those that join are probed before. At start nobody serves.
        let first = match known.is_empty() {
            true => FirstProbes::default(),
            false => {
                let (client, until) = (&cluster.client, Instant::now() + first_probes::TIMEOUT);
                let unknown =
                    first_probes::unknown(&cluster.kept, &cluster.settings, &reading.servers, &addresses);
                first_probes::of(client, &cluster.settings, unknown, until).await
            }
        };
        first.tell(balancer, name);
        for (member, change) in cluster.set_servers(reading.servers.clone(), addresses, &first) {
            balancer.events.transition(name, member.name(), &change);
        }
    }
    if let Some(path) = view.cache.clone() {
        let (from, servers, cluster_name) = (reading.from, reading.servers, name.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cache::save_servers(&path, &from, SystemTime::now(), &servers) {
                log::error!(target: "icm::members", "{cluster_name}: {error}");
            }
        });
    }
    set_trouble(balancer, cluster, "");
}

/// Says loudly, once, that the members cannot be read, and that they can again.
fn set_trouble(balancer: &Balancer, cluster: &Cluster, text: &str) {
    let mut known = cluster.kept.members_trouble.lock().unwrap_or_else(PoisonError::into_inner);
    if *known != text {
        let (level, said) = match text {
            "" => (log::Level::Info, "server documents can be read again"),
            text => (log::Level::Error, text),
        };
        balancer.events.note(level, "members", Some(&cluster.settings.name), said.to_owned());
        text.clone_into(&mut known);
    }
}

fn difference(old: &[settings::Server], new: &[settings::Server]) -> String {
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

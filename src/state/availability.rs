//! Polls the availability sources of a cluster and lets old reports lapse. Each source has a task and an interval of
//! its own, so that a slow server delays no other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::Balancer;
use super::cluster::Cluster;
use super::cluster_view::UpstreamServer;
use super::companion;
use super::readable::reading_port;
use super::site_crossing;
use crate::config::settings::{Availability, AvailabilitySource, Server};
use crate::discovery::availability::{PollError, PollReading, PollTarget, poll};
use crate::domain::cluster::{ClusterServer, Port, load};
use crate::util::clock;
use crate::util::clock::jitter;

const MIN_POLL_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_POLL_TIMEOUT: Duration = Duration::from_secs(5);
const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// One source of one server at its current address.
#[derive(Clone, Debug)]
struct PolledSource {
    server: Arc<ClusterServer>,
    config: Server,
    address: SocketAddr,
    /// The port from which views are read, and whether it is the HTTPS port.
    reading_port: (SocketAddr, bool),
    /// Index into the server's list of sources.
    number: usize,
}

impl PartialEq for PolledSource {
    fn eq(&self, other: &Self) -> bool {
        // A server that left and joined again is a new one, although it has the same name.
        Arc::ptr_eq(&self.server, &other.server)
            && self.number == other.number
            && self.address == other.address
            && self.reading_port == other.reading_port
            && self.config == other.config
    }
}

/// Runs one task for each source; each change of servers or addresses starts and ends tasks.
pub(super) async fn poll_sources(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    // A reload aborts this task, which drops the set and so ends the tasks in it.
    let mut tasks = JoinSet::new();
    let mut running: Vec<(PolledSource, AbortHandle)> = Vec::new();
    loop {
        let wanted = polled_sources(&cluster);
        running.retain(|(source, task)| {
            let stays = wanted.contains(source);
            if !stays {
                task.abort();
            }
            stays
        });
        for source in wanted {
            if !running.iter().any(|(known, _)| *known == source) {
                let task = poll_source(Arc::clone(&balancer), Arc::clone(&cluster), source.clone());
                running.push((source, tasks.spawn(task)));
            }
        }
        // The set keeps an aborted task until it is joined.
        while tasks.try_join_next().is_some() {}
        cluster.servers_changed.notified().await;
    }
}

/// The sources that can be polled: `observed` and `statpub` report by themselves.
fn polled_sources(cluster: &Cluster) -> Vec<PolledSource> {
    let mut all = Vec::new();
    for entry in &cluster.view.load().entries {
        let Some(address) = entry.address(Port::Http).or_else(|| entry.address(Port::Https)) else {
            continue;
        };
        let reading_port =
            reading_port(cluster, entry).map_or((address, false), |(_, at)| (at.address, at.https));
        for (number, source) in cluster.availability_sources(&entry.config).iter().enumerate() {
            if !matches!(source.source, AvailabilitySource::Observed | AvailabilitySource::Statpub) {
                let (server, config) = (Arc::clone(&entry.server), entry.config.clone());
                all.push(PolledSource { server, config, address, reading_port, number });
            }
        }
    }
    all
}

async fn poll_source(balancer: Arc<Balancer>, cluster: Arc<Cluster>, polled: PolledSource) {
    let (name, server) = (&cluster.settings.name, &polled.config.name);
    let Some(source) = cluster.availability_sources(&polled.config).get(polled.number) else { return };
    let mut failure_level = log::Level::Warn;
    loop {
        let began = Instant::now();
        // A panic costs one poll and not its source. Dropping the set ends the poll.
        let mut one = JoinSet::new();
        one.spawn(poll_once(Arc::clone(&cluster), polled.clone(), source.clone()));
        let failure = match one.join_next().await {
            Some(Ok(Ok(reading))) => {
                let id = (source.source.kind(), polled.number);
                balancer.record_report(&cluster, &polled.server, id, &reading.report);
                if let Some(of_companion) = &reading.companion {
                    companion::take(&balancer, &cluster, &polled.server, of_companion);
                }
                None
            }
            Some(Ok(Err(error))) => Some(error.to_string()),
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        };
        match failure {
            Some(error) => {
                log::log!(target: "icm::availability", failure_level, "{name}: {server}: {error}");
                // Only the first of several failures in a row is a warning.
                failure_level = log::Level::Debug;
            }
            None => failure_level = log::Level::Warn,
        }
        sleep_until(began + jitter(source.interval)).await;
    }
}

async fn poll_once(
    cluster: Arc<Cluster>,
    PolledSource { config, address, reading_port, .. }: PolledSource,
    source: Availability,
) -> Result<PollReading, PollError> {
    let timeout = source.interval.min(MAX_POLL_TIMEOUT).max(MIN_POLL_TIMEOUT);
    let target = PollTarget {
        name: &config.name,
        hostname: &config.hostname,
        address,
        reading_port,
        sessions: &cluster.persistent_state.login_sessions,
        timeout,
    };
    poll(&cluster.client, &source.source, &target).await
}

/// Lets stale reports lapse and renews the observed indexes.
pub(super) async fn tick_servers(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    let mut interval = interval_at(Instant::now() + TICK_INTERVAL, TICK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let now_ms = clock::now_ms();
        let view = cluster.view.load_full();
        let peers = load::Peers::of(view.entries.iter().map(|entry| entry.server.as_ref()));
        for entry in &view.entries {
            let sources = cluster.availability_sources(&entry.config);
            let observed = sources.iter().find(|a| a.source == AvailabilitySource::Observed);
            let (range, stale_ms) = observed
                .or_else(|| sources.first())
                .map_or((6, 180_000), |a| (a.range, clock::saturating_millis(a.stale_after)));
            let change = entry.server.tick(range, stale_ms, &peers, now_ms);
            balancer.record_transition(&cluster.settings.name, &entry.config.name, change);
            fail_unresolved_ports(&balancer, &cluster, entry, now_ms);
        }
        site_crossing::update(&balancer, &cluster, &view, now_ms);
    }
}

/// Counts a port whose host name does not resolve as a failed probe.
fn fail_unresolved_ports(balancer: &Balancer, cluster: &Cluster, entry: &UpstreamServer, now_ms: u64) {
    for port in [Port::Http, Port::Https] {
        if let Some(at) = entry.host_port(port)
            && entry.address(port).is_none()
            && at.literal_address().is_none()
        {
            let reason = format!("{} does not resolve", at.host);
            balancer.record_probe(&cluster.settings.name, &entry.server, port, Err(&reason), now_ms);
        }
    }
}

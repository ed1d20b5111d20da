//! Publishes what is known about replicas as a table for requests, and records which replicas fall behind and catch up.
//! Nothing of this runs unless `freshness` is on or a companion reports marks.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::replica_readings::rules;
use super::{Balancer, companion, head_passes};
use crate::config::settings::FreshnessSource;
use crate::domain::freshness::{BehindChange, TrackedChange};
use crate::util::clock;

/// A replica that is behind for too long is noticed by time alone.
const MAX_TABLE_INTERVAL: Duration = Duration::from_secs(2);
const MIN_TABLE_INTERVAL: Duration = Duration::from_millis(100);
/// A large table takes a thread for at most a hundredth of the time.
const TABLE_COST_FACTOR: u32 = 100;
/// Events of one table; the others are only counted.
const MAX_EVENTS: usize = 5;

/// Starts the tasks that are needed, and stops publishing if none is.
#[must_use]
pub(super) fn start(balancer: &Arc<Balancer>, cluster: &Arc<Cluster>) -> Vec<JoinHandle<()>> {
    let state = &cluster.persistent_state;
    let source = cluster.settings.freshness.source;
    let has_companion = cluster.settings.has_companion();
    state.replica_readings.prepare(source, has_companion);
    if source == FreshnessSource::Off && !has_companion {
        state.freshness.store(None);
        return Vec::new();
    }
    let both = || (Arc::clone(balancer), Arc::clone(cluster));
    let (b, c) = both();
    let mut tasks = vec![tokio::spawn(publish_tables(b, c))];
    if source == FreshnessSource::Head {
        let (b, c) = both();
        tasks.push(tokio::spawn(head_passes::read_databases(b, c)));
    }
    tasks
}

async fn publish_tables(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    let readings = &cluster.persistent_state.replica_readings;
    loop {
        let began = Instant::now();
        publish(&balancer, &cluster);
        let rest = began.elapsed().saturating_mul(TABLE_COST_FACTOR);
        sleep(rest.clamp(MIN_TABLE_INTERVAL, MAX_TABLE_INTERVAL.max(rest))).await;
        tokio::select! {
            () = readings.changed.notified() => {}
            () = sleep(MAX_TABLE_INTERVAL) => {}
        }
    }
}

fn publish(balancer: &Balancer, cluster: &Cluster) {
    let view = cluster.view.load_full();
    if view.entries.is_empty() {
        // With `source: names` the servers are not known yet, and their readings must not be forgotten.
        return;
    }
    let tags: Vec<u32> = view.entries.iter().map(|entry| entry.server.tag()).collect();
    let state = &cluster.persistent_state;
    let rules = rules(&cluster.settings.freshness);
    let tracked = state.replica_readings.table(&rules, &tags, clock::unix_ms());
    state.freshness.store(Some(Arc::new(tracked.table)));
    record_changes(balancer, cluster, &tracked.changes);
}

fn record_changes(balancer: &Balancer, cluster: &Cluster, changes: &[TrackedChange]) {
    let name = Some(cluster.settings.name.as_str());
    let view = cluster.view.load_full();
    for TrackedChange { database, server, change } in changes.iter().take(MAX_EVENTS) {
        let path = companion::path_on(&view, *database, *server);
        let server = view.entries.iter().find(|entry| entry.server.tag() == *server);
        let replica =
            format!("{path} on {}", server.map(|e| e.config.name.abbreviated()).unwrap_or_default());
        let (level, text) = match change {
            BehindChange::Behind(since) => {
                (log::Level::Warn, format!("{replica} is behind since {}", clock::local_time_of_day(*since)))
            }
            BehindChange::CaughtUp(_) => (log::Level::Info, format!("{replica} has caught up")),
            BehindChange::GaveUp(since) => {
                let since = clock::local_time_of_day(*since);
                let text = format!("{replica} is older since {since}, which no longer counts as behind");
                (log::Level::Warn, text)
            }
            BehindChange::Unknown(_) => {
                (log::Level::Warn, format!("it is no longer known whether {replica} is behind"))
            }
        };
        balancer.events.record(level, "freshness", name, text);
    }
    if let Some(more) = changes.get(MAX_EVENTS..).filter(|more| !more.is_empty()) {
        let behind = more.iter().filter(|c| matches!(c.change, BehindChange::Behind(_))).count();
        let text = format!("{behind} more replicas are behind, {} more no longer are", more.len() - behind);
        balancer.events.record(log::Level::Warn, "freshness", name, text);
    }
}

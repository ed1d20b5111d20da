//! The Cluster Replicator of each server. Its queue, its retries and its statistics are in the server's memory and lost
//! when the server stops; documents are not (`documents.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::clock;
use crate::cluster::{Cluster, SimulatedServer};
use crate::copies::DatabaseCopy;
use crate::documents::CopyKey;
use crate::settings::Settings;
use crate::standard_replication::{Selection, replicate};

/// From a copy on this server to a copy on another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    from: CopyKey,
    to: CopyKey,
}

/// Changed documents that wait for their push, or after a failed one for its retry.
struct Entry {
    unids: BTreeSet<String>,
    queued: Instant,
    /// The last failed push.
    failed: Option<Instant>,
    failures: u32,
}

impl Entry {
    fn due(&self, settings: &Settings) -> Instant {
        match self.failed {
            None => self.queued + Duration::from_millis(settings.push_ms),
            Some(failed) => {
                let doubled = settings.retry_ms.saturating_mul(1 << (self.failures - 1).min(32));
                failed + Duration::from_millis(doubled.min(settings.retry_max_ms))
            }
        }
    }
}

/// The average and the maximum of some readings.
#[derive(Default)]
struct Readings {
    last: f64,
    sum: f64,
    number: u32,
    max: f64,
}

impl Readings {
    fn add(&mut self, value: f64) {
        (self.last, self.sum, self.number) = (value, self.sum + value, self.number + 1);
        self.max = self.max.max(value);
    }

    fn average(&self) -> f64 {
        if self.number == 0 { 0.0 } else { self.sum / f64::from(self.number) }
    }
}

#[derive(Default)]
struct Statistics {
    successful: u64,
    failed: u64,
    skipped: u64,
    depth: Readings,
    seconds: Readings,
}

/// What a server has in memory for replication.
pub struct Replicator {
    pub boot_id: u32,
    /// When the server started, in milliseconds since 1970, by a true clock.
    pub started_ms: u64,
    queue: BTreeMap<Route, Entry>,
    statistics: Statistics,
    /// Standard replications that the companion has started and that have not begun.
    requested: Vec<Instant>,
}

impl Replicator {
    fn new(previous_boot_id: u32) -> Replicator {
        let boot_id = loop {
            let id = fastrand::u32(1_000_000..10_000_000);
            if id != previous_boot_id {
                break id;
            }
        };
        Replicator {
            boot_id,
            started_ms: clock::now_ms(),
            queue: BTreeMap::new(),
            statistics: Statistics::default(),
            requested: Vec::new(),
        }
    }

    /// Forgets everything, as when the server stops.
    pub fn restart(&mut self) {
        *self = Replicator::new(self.boot_id);
    }

    fn waiting(&self) -> usize {
        self.queue.values().filter(|entry| entry.failed.is_some()).count()
    }

    fn depth(&self) -> usize {
        self.queue.len() - self.waiting()
    }

    fn add(&mut self, route: Route, unid: &str) {
        let now = Instant::now();
        let new = || Entry { unids: BTreeSet::new(), queued: now, failed: None, failures: 0 };
        let entry = self.queue.entry(route).or_insert_with(new);
        if entry.failed.is_some() {
            self.statistics.skipped += 1;
        }
        entry.unids.insert(unid.to_owned());
        self.statistics.depth.add(self.depth() as f64);
    }

    /// Records the result of a push that was due.
    fn pushed(&mut self, route: &Route, succeeded: bool) {
        let Some(entry) = self.queue.get_mut(route) else { return };
        if succeeded {
            self.statistics.successful += 1;
            self.statistics.seconds.add(entry.queued.elapsed().as_secs_f64());
            self.queue.remove(route);
        } else {
            self.statistics.failed += 1;
            entry.failed = Some(Instant::now());
            entry.failures += 1;
        }
    }

    /// The statistics without their prefix.
    pub fn values(&self, other_servers: usize) -> [(&'static str, u64); 11] {
        let round = |value: f64| value.round() as u64;
        let s = &self.statistics;
        [
            ("Servers", other_servers as u64),
            ("Successful", s.successful),
            ("Failed", s.failed),
            ("Retry.Waiting", self.waiting() as u64),
            ("Retry.Skipped", s.skipped),
            ("WorkQueueDepth", self.depth() as u64),
            ("WorkQueueDepth.Avg", round(s.depth.average())),
            ("WorkQueueDepth.Max", round(s.depth.max)),
            ("SecondsOnQueue", round(s.seconds.last)),
            ("SecondsOnQueue.Avg", round(s.seconds.average())),
            ("SecondsOnQueue.Max", round(s.seconds.max)),
        ]
    }

    pub fn to_json(&self, cluster: &Cluster, settings: &Settings) -> Value {
        let now = Instant::now();
        let entries = |failed: bool| -> Value {
            let entries = self.queue.iter().filter(|(_, entry)| entry.failed.is_some() == failed);
            let show = |(route, entry): (&Route, &Entry)| {
                json!({
                    "from": route.from.path, "to": cluster.servers[route.to.server].name.abbreviated,
                    "path": route.to.path, "replica_id": route.to.replica_id, "documents": entry.unids,
                    "failures": entry.failures,
                    "due_in_ms": entry.due(settings).saturating_duration_since(now).as_millis() as u64,
                })
            };
            entries.map(show).collect()
        };
        json!({
            "boot_id": self.boot_id, "started_ms": self.started_ms, "queue": entries(false),
            "retries": entries(true), "requested": self.requested.len(),
        })
    }
}

impl Default for Replicator {
    fn default() -> Self {
        Replicator::new(0)
    }
}

/// Names and values of the Cluster Replicator's statistics; none unless the settings publish them.
pub fn statistics(server: &SimulatedServer) -> Vec<(String, u64)> {
    let settings = server.settings();
    if !settings.replication || !settings.replica_statistics {
        return Vec::new();
    }
    let values = server.replicator.lock().unwrap().values(server.number_of_others);
    values.iter().map(|(name, value)| (format!("Replica.Cluster.{name}"), *value)).collect()
}

/// The same for the companion, whatever the settings are.
pub fn companion_statistics(server: &SimulatedServer) -> Value {
    let values = server.replicator.lock().unwrap().values(server.number_of_others);
    let value = |name: &str| values.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
    json!({
        "successful": value("Successful"), "failed": value("Failed"), "retry_waiting": value("Retry.Waiting"),
        "retry_skipped": value("Retry.Skipped"), "work_queue_depth": value("WorkQueueDepth"),
        "seconds_on_queue": value("SecondsOnQueue"),
    })
}

/// Tells the Cluster Replicator that a document of this copy has changed.
pub fn changed(cluster: &Cluster, server: &SimulatedServer, copy: &DatabaseCopy, unid: &str) {
    let settings = server.settings();
    if !settings.replicator || !settings.member {
        return;
    }
    let copies = cluster.copies();
    let from = CopyKey::of(copy);
    let takes_part = |to: &&DatabaseCopy| {
        let other = &cluster.servers[to.server];
        let settings = other.settings();
        to.replica_id == copy.replica_id
            && to.server != copy.server
            && other.is_local
            && settings.member
            && settings.replication
    };
    let mut replicator = server.replicator.lock().unwrap();
    // Under the lock: what a stopping server has lost must not be added again.
    if server.is_down() {
        return;
    }
    for to in copies.copies.iter().filter(takes_part) {
        replicator.add(Route { from: from.clone(), to: CopyKey::of(to) }, unid);
    }
    drop(replicator);
    server.replicator_wakes.notify_one();
}

/// Starts a standard replication with all other servers after the delay of the settings.
pub fn request(server: &SimulatedServer) {
    let begin = Instant::now() + Duration::from_millis(server.settings().replicate_delay_ms);
    server.replicator.lock().unwrap().requested.push(begin);
    server.replicator_wakes.notify_one();
}

/// The Cluster Replicator of one server.
pub async fn run(server: Arc<SimulatedServer>, cluster: Arc<Cluster>) {
    let wakes: &Notify = &server.replicator_wakes;
    loop {
        let next = replicate_due(&cluster, &server);
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wakes.notified() => {}
            () = due => {}
        }
    }
}

/// Replicates what is due, and returns when the next is.
fn replicate_due(cluster: &Cluster, server: &SimulatedServer) -> Option<Instant> {
    let settings = server.settings();
    let mut documents = cluster.documents.lock().unwrap();
    let mut replicator = server.replicator.lock().unwrap();
    if server.is_down() {
        return None;
    }
    let now = Instant::now();
    let begun = replicator.requested.len();
    replicator.requested.retain(|begin| *begin > now);
    if replicator.requested.len() < begun {
        let only = Selection { from: Some(server.position), ..Selection::default() };
        replicate(cluster, &mut documents, &only);
    }
    let due = replicator.queue.iter().filter(|(_, entry)| entry.due(&settings) <= now);
    let due: Vec<Route> = due.map(|(route, _)| route.clone()).collect();
    for route in due {
        let destination = &cluster.servers[route.to.server];
        let is_up = !destination.is_down();
        if is_up {
            let unids = &replicator.queue[&route].unids;
            documents.transfer(&route.from, &route.to, Some(unids), destination.now_ms());
        }
        replicator.pushed(&route, is_up);
    }
    let pushes = replicator.queue.values().map(|entry| entry.due(&settings));
    pushes.chain(replicator.requested.iter().copied()).min()
}

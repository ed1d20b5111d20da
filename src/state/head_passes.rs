//! Reads the modification times of the busiest databases from each server that answers, pass after pass
//! (`freshness: { source: head }`). Gentle, because the servers have users: few requests at a time, a fixed rate, and
//! pauses after errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::cluster::Cluster;
use super::cluster_view::UpstreamServer;
use super::companion::{is_compared, path_on};
use super::readable::reading_port;
use super::replica_readings::{ServerTimes, rules};
use super::{Balancer, ClusterView};
use crate::config::settings::Auth;
use crate::discovery::directory::ServerAddress;
use crate::discovery::freshness::{HeadError, HeadTarget, ServerPace, answers_login_form, read_head};
use crate::discovery::probe::probe_host;
use crate::domain::directory::{DatabaseMatch, ReplicaId};
use crate::domain::freshness::{IgnoredDatabases, UnknownModified};
use crate::util::clock::jitter;

/// Requests to one server at a time.
const MAX_IN_FLIGHT: usize = 2;
/// A server that is slower than the others by more than this factor of the expected time ends its pass early.
const SLOW_FACTOR: u32 = 2;
/// Between the starts of two requests to one server.
const REQUEST_INTERVAL: Duration = Duration::from_millis(200);
/// A database that our reading modifies is tried again after this time: its design may have changed.
const SKIP_TIME: Duration = Duration::from_secs(3600);

/// What one server is asked in one pass.
struct ServerPass {
    balancer: Arc<Balancer>,
    cluster: Arc<Cluster>,
    view: Arc<ClusterView>,
    /// The tag of the server.
    server: u32,
    address: ServerAddress,
    pace: Arc<Mutex<ServerPace>>,
    /// A login form is looked for once in a pass.
    login_checked: AtomicBool,
    skipped: Arc<Mutex<AHashMap<ReplicaId, Instant>>>,
}

/// Reads the databases at every interval; runs until aborted.
pub(super) async fn read_databases(balancer: Arc<Balancer>, cluster: Arc<Cluster>) {
    let mut paces: AHashMap<u32, Arc<Mutex<ServerPace>>> = AHashMap::new();
    let skipped: Arc<Mutex<AHashMap<ReplicaId, Instant>>> = Arc::default();
    loop {
        let began = Instant::now();
        let view = cluster.view.load_full();
        skipped.lock().retain(|_, until| *until > began);
        let mut passes = JoinSet::new();
        let mut longest = 0;
        for (server, jobs) in plan(&cluster, &view, &skipped.lock()) {
            let Some(entry) = view.entries.iter().find(|entry| entry.server.tag() == server) else {
                continue;
            };
            let Some((true, address)) = reading_port(&cluster, entry) else { continue };
            longest = longest.max(jobs.len());
            let pass = ServerPass {
                balancer: Arc::clone(&balancer),
                cluster: Arc::clone(&cluster),
                view: Arc::clone(&view),
                server,
                address,
                pace: Arc::clone(paces.entry(server).or_default()),
                login_checked: AtomicBool::new(false),
                skipped: Arc::clone(&skipped),
            };
            passes.spawn(Arc::new(pass).read_all(jobs));
        }
        let expected = REQUEST_INTERVAL.saturating_mul(u32::try_from(longest).unwrap_or(u32::MAX));
        let interval = cluster.settings.freshness.interval;
        let limit = began + interval.max(expected.saturating_mul(SLOW_FACTOR));
        while let Ok(Some(_)) = tokio::time::timeout_at(limit, passes.join_next()).await {}
        drop(passes);
        sleep_until(began + jitter(interval)).await;
    }
}

/// The databases to read from each server, busiest first, by the tag of the server.
fn plan(
    cluster: &Cluster,
    view: &ClusterView,
    skipped: &AHashMap<ReplicaId, Instant>,
) -> AHashMap<u32, Vec<(ReplicaId, String)>> {
    let settings = &cluster.settings.freshness;
    let directory = &view.directory;
    directory.enable_request_counts();
    let ignored = IgnoredDatabases::new(&settings.ignore);
    let index = &directory.index;
    let mut plan: AHashMap<u32, Vec<(ReplicaId, String)>> = AHashMap::new();
    let wanted = directory.busiest_databases().filter(|database| {
        is_compared(view, *database, &ignored)
            && !skipped.contains_key(&index.database(*database).replica_id())
    });
    for database in wanted.take(settings.databases) {
        let id = index.database(database).replica_id();
        for holder in index.replicas_by_server(&DatabaseMatch { database, path: None }) {
            let server = view.server_id(holder.server).and_then(|server| view.server(server));
            let Some(tag) = server.map(|entry| entry.server.tag()) else { continue };
            if holder.replica_count > 1 {
                let readings = &cluster.persistent_state.replica_readings;
                readings.count(tag, UnknownModified::SeveralCopies.as_str(), 1);
                continue;
            }
            plan.entry(tag).or_default().push((id, holder.path().to_owned()));
        }
    }
    plan
}

/// Some databases of a server, as a pass would ask for them.
#[must_use]
pub(crate) fn sample(cluster: &Cluster, entry: &UpstreamServer, at_most: usize) -> Vec<HeadTarget> {
    let view = cluster.view.load_full();
    let Some((_, address)) = reading_port(cluster, entry) else { return Vec::new() };
    let jobs = plan(cluster, &view, &AHashMap::new()).remove(&entry.server.tag()).unwrap_or_default();
    jobs.into_iter().take(at_most).map(|(_, path)| head_target(cluster, &address, path)).collect()
}

fn head_target(cluster: &Cluster, server: &ServerAddress, path: String) -> HeadTarget {
    let (hostname, address, https) = (&server.hostname, server.address, server.https);
    HeadTarget {
        address,
        https,
        hostname: hostname.clone(),
        host_header: probe_host(&cluster.settings, hostname, address, https),
        path,
    }
}

impl ServerPass {
    async fn read_all(self: Arc<Self>, jobs: Vec<(ReplicaId, String)>) {
        let mut running = JoinSet::new();
        for (database, path) in jobs {
            while running.len() >= MAX_IN_FLIGHT {
                running.join_next().await;
            }
            if self.pace.lock().is_paused(Instant::now()) {
                break;
            }
            self.slot().await;
            running.spawn(Arc::clone(&self).read(database, path));
        }
        while running.join_next().await.is_some() {}
    }

    async fn slot(&self) {
        let at = self.pace.lock().take_slot(Instant::now());
        sleep_until(at).await;
    }

    async fn read(self: Arc<Self>, database: ReplicaId, path: String) {
        let (cluster, state) = (&self.cluster, &self.cluster.persistent_state);
        let auth = cluster.settings.directory.auth();
        let target = head_target(cluster, &self.address, path);
        let result = read_head(&cluster.client, &target, auth, &state.login_sessions).await;
        let why = match result {
            Ok(reading) => {
                self.pace.lock().succeeded();
                let times = ServerTimes {
                    modified: reading.modified_unix_ms,
                    clock: reading.date_unix_ms,
                    sent: reading.sent_unix_ms,
                    received: reading.received_unix_ms,
                };
                let rules = rules(&cluster.settings.freshness);
                let recorded = state.replica_readings.record_times(database, self.server, times, &rules);
                state.replica_readings.changed.notify_one();
                match recorded {
                    Ok(()) => return state.replica_readings.count(self.server, "read", 1),
                    Err(why) => why,
                }
            }
            Err(HeadError::Unknown(why)) => {
                self.pace.lock().succeeded();
                if self.is_login_form(why, &target, auth).await { UnknownModified::LoginPage } else { why }
            }
            Err(error) => return self.failed(&error),
        };
        self.unknown(database, why);
    }

    /// A session may have expired, which only a page with a body shows.
    async fn is_login_form(&self, why: UnknownModified, target: &HeadTarget, auth: &Auth) -> bool {
        let may_be = matches!(why, UnknownModified::NoLastModified | UnknownModified::EqualsDate)
            && matches!(auth, Auth::Session { .. });
        if !may_be || self.login_checked.swap(true, Relaxed) {
            return false;
        }
        self.slot().await;
        let sessions = &self.cluster.persistent_state.login_sessions;
        answers_login_form(&self.cluster.client, target, auth, sessions).await
    }

    fn failed(&self, error: &HeadError) {
        let interval = self.cluster.settings.freshness.interval;
        let mut pace = self.pace.lock();
        let was_paused = pace.is_paused(Instant::now());
        pace.failed(error.is_of_server(), interval, Instant::now());
        let is_paused = pace.is_paused(Instant::now()) && !was_paused;
        drop(pace);
        let level = if is_paused { log::Level::Warn } else { log::Level::Debug };
        let (cluster, server) = (&self.cluster.settings.name, &self.address.name);
        log::log!(target: "icm::freshness", level, "{cluster}: {server}: cannot read modification times: {error}");
        self.cluster.persistent_state.replica_readings.count(self.server, "failed", 1);
    }

    fn unknown(&self, database: ReplicaId, why: UnknownModified) {
        let readings = &self.cluster.persistent_state.replica_readings;
        readings.record_unknown(database, self.server, why);
        readings.count(self.server, why.as_str(), 1);
        readings.changed.notify_one();
        if why == UnknownModified::MovedByReading {
            self.skipped.lock().insert(database, Instant::now() + SKIP_TIME);
            let path = path_on(&self.view, database, self.server);
            let text = format!(
                "{path} on {} is modified whenever it is opened (a WebQueryOpen agent?), so it is not compared",
                self.address.name
            );
            let cluster = Some(self.cluster.settings.name.as_str());
            self.balancer.events.record(log::Level::Warn, "freshness", cluster, text);
        }
    }
}

//! Runs the background tasks of all clusters, and handles HUP, USR1, USR2 and new configurations of a followed ICM. One
//! task does all of that, so no two reloads overlap.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use pingora_load_balancing::Backends;
use tokio::task::AbortHandle;

use super::acme_orders::AcmeOrders;
use super::follow_poller::{self, FollowPoller, FollowResult};
use super::handover::{HandoverChild, HandoverParent, PROBING_TIMEOUT};
use super::lifecycle::Signals;
use super::pid_file::PidFile;
use super::{reload, systemd};
use crate::edge::tls::Certificates;
use crate::edge::tls_endpoint::TlsEndpoints;
use crate::state::{
    Balancer, Cluster, ClusterView, DirectoryOrigin, catch_up, history, low_priority, refresh_state,
    restrictions,
};
use crate::telemetry::access_log::AccessLog;
use crate::util::clock;

/// The listeners open after this time even if discovery is not complete.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// With a cached directory, a start waits only this long for a reading, in milliseconds: enough for a directory of usual
/// size, while a server that hangs does not delay the start beyond two seconds.
const CACHED_DIRECTORY_TIMEOUT_MS: u64 = 1_500;

/// Connects this process with its predecessor and its successor.
pub struct ProcessHandover {
    /// Set if this process takes over from another.
    pub handover: Option<Arc<HandoverChild>>,
    pub upgrade: Arc<HandoverParent>,
    pub pid_file: Option<PidFile>,
    /// Number of listeners that do not accept yet.
    pub unopened: Arc<AtomicUsize>,
}

pub struct Supervisor {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    certificates: Arc<Certificates>,
    endpoints: Arc<TlsEndpoints>,
    backends: Backends,
    file: PathBuf,
    signals: Mutex<Option<Signals>>,
    process_handover: ProcessHandover,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Supervisor {
    /// `file` is the configuration file, read again on HUP.
    #[must_use]
    pub fn new(
        balancer: Arc<Balancer>,
        access_log: Arc<AccessLog>,
        (certificates, endpoints): (Arc<Certificates>, Arc<TlsEndpoints>),
        backends: Backends,
        file: PathBuf,
        signals: Signals,
        process_handover: ProcessHandover,
    ) -> Self {
        let signals = Mutex::new(Some(signals));
        let tasks = Mutex::default();
        Self {
            balancer,
            access_log,
            certificates,
            endpoints,
            backends,
            file,
            signals,
            process_handover,
            tasks,
        }
    }

    /// Ends the tasks of the old snapshot and starts those of the new one.
    fn restart_tasks(&self) {
        let mut tasks = self.tasks.lock();
        for task in tasks.drain(..) {
            task.abort();
        }
        for cluster in &self.balancer.snapshot().clusters {
            tasks.extend(refresh_state::start(&self.balancer, cluster));
        }
    }

    /// Makes Pingora read the list of servers again.
    async fn update_backends(&self) {
        if let Err(error) = self.backends.update(|_| {}).await {
            log::error!(target: "icm::lifecycle", "cannot pass the servers to the health checks: {error}");
        }
    }

    /// Every server was probed once, and every directory was read, tried, or taken from the cache.
    fn is_discovery_complete(&self) -> bool {
        self.balancer.snapshot().clusters.iter().all(|cluster| {
            directory_is_ready(cluster)
                && cluster.persistent_state.server_list_read_attempted.load(Relaxed)
                && all_probed_once(&cluster.view.load())
        })
    }

    async fn wait_for_discovery(&self) {
        let wait = async {
            while !self.is_discovery_complete() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.update_backends().await;
            }
        };
        if tokio::time::timeout(START_TIMEOUT, wait).await.is_err() {
            log::warn!(
                target: "icm::lifecycle",
                "opening the listeners although discovery took longer than {START_TIMEOUT:?}: a server was not probed or a directory not read"
            );
        }
    }

    /// Opens the listeners once discovery is complete, or ends the process if it cannot take over from the old one.
    /// Returns whether the configuration may have changed since it was read.
    async fn open_listeners(&self, ready: ServiceReadyNotifier) -> bool {
        let Some(handover) = &self.process_handover.handover else {
            self.wait_for_discovery().await;
            ready.notify_ready();
            return false;
        };
        match self.take_over_from_parent(handover, ready).await {
            Ok(reload) => reload,
            Err(reason) => {
                log::error!(target: "icm::lifecycle", "cannot take over from process {}: {reason}", handover.from);
                handover.report_failure(&reason);
                std::process::exit(1);
            }
        }
    }

    /// Listeners open within milliseconds, and systemd should not start dependent units before that.
    async fn notify_systemd_once_open(&self) -> bool {
        for _ in 0..50 {
            let systemd_notified = self.notify_systemd();
            if systemd_notified || !self.is_discovery_complete() {
                return systemd_notified;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Takes over as soon as this process can serve as well as the old one. Returns whether the configuration may have
    /// changed since it was read.
    async fn take_over_from_parent(
        &self,
        handover: &Arc<HandoverChild>,
        open: ServiceReadyNotifier,
    ) -> Result<bool, String> {
        if handover.parent_is_ready {
            let wait = async {
                while !(self.is_discovery_complete() && self.has_all_directories()) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    self.update_backends().await;
                }
            };
            tokio::time::timeout(PROBING_TIMEOUT, wait).await.map_err(|_| self.describe_missing())?;
        } else {
            self.wait_for_discovery().await;
        }
        let old = Arc::clone(handover);
        let proceed = tokio::task::spawn_blocking(move || old.report_ready()).await;
        let proceed = proceed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        restrictions::replace_local_restrictions(&self.balancer, &proceed.restrictions)
            .map_err(|e| e.to_string())?;
        catch_up::replace_local_catch_up(&self.balancer, &proceed.catching_up);
        self.process_handover.pid_file.as_ref().map_or(Ok(()), PidFile::write).map_err(|e| e.to_string())?;
        // The old process still accepts on these sockets, so `/readyz` must not answer 503 in between.
        self.update_readiness(true);
        open.notify_ready();
        // The listeners depend on nothing else, and end the process if they cannot open.
        while !self.listeners_are_open() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if let Err(error) = handover.report_serving() {
            log::warn!(target: "icm::lifecycle", "could not notify process {} that the handover completed: {error}", handover.from);
        }
        let text = format!("taken over from process {}", handover.from);
        self.balancer.events.record(log::Level::Info, "upgrade", None, text);
        Ok(proceed.reload)
    }

    fn describe_missing(&self) -> String {
        let snapshot = self.balancer.snapshot();
        let missing =
            snapshot.clusters.iter().find(|c| !c.view.load().directory.is_loaded()).map(|cluster| {
                let error = cluster.persistent_state.directory_error.lock();
                let error = if error.is_empty() { "no answer yet" } else { error.as_str() };
                format!("no directory of cluster {}: {error}", cluster.settings.name)
            });
        let missing = missing.unwrap_or_else(|| "not every server was probed".to_owned());
        format!("not ready after {}: {missing}", humantime::format_duration(PROBING_TIMEOUT))
    }

    fn has_all_directories(&self) -> bool {
        self.balancer.snapshot().clusters.iter().all(|c| c.view.load().directory.is_loaded())
    }

    fn listeners_are_open(&self) -> bool {
        self.process_handover.unopened.load(SeqCst) == 0
    }

    /// Once ready, the balancer stays ready until it drains.
    fn update_readiness(&self, is_open: bool) {
        let ready = is_open
            && self.balancer.snapshot().clusters.iter().all(|cluster| {
                let view = cluster.view.load();
                view.directory.is_loaded() && all_probed_once(&view)
            });
        if ready {
            self.balancer.set_ready();
        }
    }

    async fn apply_follow_result(&self, result: FollowResult) {
        let balancer = Arc::clone(&self.balancer);
        let can_wait = balancer.has_large_directory();
        let runtime = tokio::runtime::Handle::current();
        match low_priority::run(can_wait, move || follow_poller::apply_result(&balancer, &runtime, result))
            .await
        {
            Ok(true) => {
                self.restart_tasks();
                self.update_backends().await;
            }
            Ok(false) => {}
            Err(error) => {
                log::error!(target: "icm::lifecycle", "cannot apply the configuration of the followed ICM: {error}")
            }
        }
    }

    /// Notifies systemd once every server was probed and the listeners are open. A directory that cannot be read only
    /// shows in the status, because systemd would kill the process for a start that takes too long.
    fn notify_systemd(&self) -> bool {
        let ready = self.listeners_are_open() && self.is_discovery_complete();
        if ready {
            // So that `/readyz` agrees with the notification.
            self.update_readiness(true);
            systemd::ready(self.status());
        }
        ready
    }

    fn status(&self) -> &'static str {
        if self.balancer.is_ready() { "serving" } else { "serving, but no directory could be read" }
    }

    /// systemd accepts notifications of a reload only after the one that the process is ready.
    async fn reload(&self, systemd_notified: bool) {
        if systemd_notified {
            systemd::reloading();
        }
        let (balancer, file) = (Arc::clone(&self.balancer), self.file.clone());
        let (certificates, endpoints) = (Arc::clone(&self.certificates), Arc::clone(&self.endpoints));
        let runtime = tokio::runtime::Handle::current();
        let can_wait = balancer.has_large_directory();
        let work = low_priority::run(can_wait, move || {
            reload::reload(&balancer, &file, (&certificates, &endpoints), &runtime)
        });
        self.process_handover.upgrade.set_reload_missed();
        match work.await {
            Ok(true) => {
                self.access_log.reconfigure(&self.balancer.snapshot().settings.access_log);
                self.restart_tasks();
                self.update_backends().await;
            }
            Ok(false) => {}
            Err(error) => log::error!(target: "icm::lifecycle", "reload: {error}"),
        }
        if systemd_notified {
            let refused = !self.balancer.reload.lock().success;
            let status = "serving; the last configuration was refused, see the log";
            systemd::ready(if refused { status } else { self.status() });
        }
    }
}

fn all_probed_once(view: &ClusterView) -> bool {
    view.entries.iter().all(|entry| entry.server.read(|health| health.probed_once()))
}

/// Whether the directory was read or tried. With a cached copy, a large directory or a server that hangs does not keep
/// the listeners closed.
fn directory_is_ready(cluster: &Cluster) -> bool {
    let view = cluster.view.load();
    let has_copy = matches!(view.directory.origin, DirectoryOrigin::Cache(_));
    cluster.persistent_state.directory_read_attempted.load(Relaxed)
        || (has_copy && clock::now_ms().saturating_sub(view.directory.at_ms) >= CACHED_DIRECTORY_TIMEOUT_MS)
}

#[async_trait]
impl BackgroundService for Supervisor {
    async fn start_with_ready_notifier(&self, mut shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        let signals = self.signals.lock().take();
        let Some(Signals { reload: mut hangup, mut reopen, mut upgrade }) = signals else {
            log::error!(target: "icm::lifecycle", "the supervisor was started twice");
            return;
        };
        self.restart_tasks();
        self.update_backends().await;
        let must_reload = self.open_listeners(ready).await;
        log::info!(target: "icm::lifecycle", "serving");
        let mut systemd_notified = self.notify_systemd_once_open().await;
        if must_reload {
            self.reload(systemd_notified).await;
        }
        let _history = history::start(&self.balancer);
        let _acme = AcmeOrders::start(&self.balancer, &self.certificates);
        let mut follower = FollowPoller::start(&self.balancer);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    // A result still on its way would belong to the old settings.
                    drop(follower.take());
                    self.reload(systemd_notified).await;
                    follower = FollowPoller::start(&self.balancer);
                }
                result = follow_poller::next_result(&mut follower) => self.apply_follow_result(result).await,
                _ = reopen.recv() => self.access_log.reopen(),
                _ = upgrade.recv() => self.process_handover.upgrade.start(),
                _ = tick.tick() => {
                    self.update_backends().await;
                    self.update_readiness(self.listeners_are_open());
                    self.balancer.statistics.sample_rates(clock::now_ms());
                    systemd_notified = systemd_notified || self.notify_systemd();
                }
                changed = shutdown.changed() => {
                    if changed.is_err() || *shutdown.borrow() {
                        return;
                    }
                }
            }
        }
    }
}

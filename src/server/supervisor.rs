//! The service that keeps the state of all clusters current and applies reloads.
//!
//! In: the clusters' loops, offers of the ICM that is followed, HUP, USR1 and USR2. Out: readiness for the
//! listeners, new snapshots. One task does all of it in turn, so no two reloads overlap.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use pingora_load_balancing::Backends;
use tokio::task::AbortHandle;

use super::follow_poller::{self, FollowPoller, FollowResult};
use super::handover::{HandoverChild, HandoverParent, PROBING_TIMEOUT};
use super::lifecycle::Signals;
use super::pid_file::PidFile;
use super::{reload, systemd};
use crate::edge::tls::Certificates;
use crate::state::{Balancer, Cluster, DirectoryOrigin, low_priority, refresh_state, restrictions};
use crate::telemetry::access_log::AccessLog;
use crate::util::clock;

/// Listeners open at last after this, whatever is not known by then.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the last good copy of a directory serves, so long is waited for a reading, in milliseconds: enough for a directory
/// of usual size, and too little for a member that hangs to keep a start from being over within two seconds.
const CACHED_DIRECTORY_TIMEOUT_MS: u64 = 1_500;

/// What ties this process to the ones before and after it.
pub struct ProcessHandover {
    /// The process that this one takes over from, if there is one.
    pub handover: Option<Arc<HandoverChild>>,
    /// The next process.
    pub upgrade: Arc<HandoverParent>,
    /// Written by whoever serves.
    pub pid_file: Option<PidFile>,
    /// Listeners that nobody accepts on yet.
    pub unopened: Arc<AtomicUsize>,
}

/// See the module's description.
pub struct Supervisor {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    certificates: Arc<Certificates>,
    backends: Backends,
    file: PathBuf,
    signals: Mutex<Option<Signals>>,
    process_handover: ProcessHandover,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Supervisor {
    /// For a balancer whose configuration came from `file`.
    #[must_use]
    pub fn new(
        balancer: Arc<Balancer>,
        access_log: Arc<AccessLog>,
        certificates: Arc<Certificates>,
        backends: Backends,
        file: PathBuf,
        signals: Signals,
        process_handover: ProcessHandover,
    ) -> Self {
        let signals = Mutex::new(Some(signals));
        let tasks = Mutex::default();
        Self { balancer, access_log, certificates, backends, file, signals, process_handover, tasks }
    }

    /// Ends the loops of the old snapshot and starts those of the new one.
    fn restart_tasks(&self) {
        let mut tasks = self.tasks.lock();
        for task in tasks.drain(..) {
            task.abort();
        }
        for cluster in &self.balancer.snapshot().clusters {
            tasks.extend(refresh_state::start(&self.balancer, cluster));
        }
    }

    /// Tells Pingora who the members are now.
    async fn update_backends(&self) {
        if let Err(error) = self.backends.update(|_| {}).await {
            log::error!(target: "icm::lifecycle", "members cannot be handed to the health checks: {error}");
        }
    }

    /// Every member was probed once, and every directory was read or tried, or its last good copy serves.
    fn is_discovery_complete(&self) -> bool {
        self.balancer.snapshot().clusters.iter().all(|cluster| {
            directory_is_ready(cluster)
                && cluster.persistent_state.server_list_read_attempted.load(Relaxed)
                && cluster.view.load().entries.iter().all(|e| e.server.read(|l| l.probed_once()))
        })
    }

    async fn wait_until_informed(&self) {
        let wait = async {
            while !self.is_discovery_complete() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.update_backends().await;
            }
        };
        if tokio::time::timeout(START_TIMEOUT, wait).await.is_err() {
            log::warn!(
                target: "icm::lifecycle",
                "opening the listeners though not every member was probed or no directory was read in 5 s"
            );
        }
    }

    /// Opens the listeners when enough is known, or ends the process where it cannot take over from the old one. Out:
    /// whether the configuration may have changed since it was read.
    async fn open_listeners(&self, ready: ServiceReadyNotifier) -> bool {
        let Some(handover) = &self.process_handover.handover else {
            self.wait_until_informed().await;
            ready.notify_ready();
            return false;
        };
        match self.take_over_from_parent(handover, ready).await {
            Ok(read_again) => read_again,
            Err(reason) => {
                log::error!(target: "icm::lifecycle", "cannot take over from process {}: {reason}", handover.from);
                handover.report_failure(&reason);
                std::process::exit(1);
            }
        }
    }

    /// Listeners open within milliseconds, and systemd starts dependent units only after this.
    async fn tell_ready_once_open(&self) -> bool {
        for _ in 0..50 {
            let systemd_notified = self.notify_systemd();
            if systemd_notified || !self.is_discovery_complete() {
                return systemd_notified;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Takes over as soon as this process can serve at least as well as the old one. Out: whether the
    /// configuration may have changed since it was read.
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
            self.wait_until_informed().await;
        }
        let old = Arc::clone(handover);
        let proceed = tokio::task::spawn_blocking(move || old.report_ready()).await;
        let proceed = proceed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        restrictions::replace_local_restrictions(&self.balancer, &proceed.restrictions)
            .map_err(|e| e.to_string())?;
        self.process_handover.pid_file.as_ref().map_or(Ok(()), PidFile::write).map_err(|e| e.to_string())?;
        // The old process still accepts on these sockets: nobody must hear in between that nobody does.
        self.update_readiness(true);
        open.notify_ready();
        // They wait for nothing else, and end the process when they cannot open.
        while !self.listeners_are_open() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if let Err(error) = handover.report_serving() {
            log::warn!(target: "icm::lifecycle", "process {} does not hear that this one serves: {error}", handover.from);
        }
        let text = format!("taken over from process {}", handover.from);
        self.balancer.events.record(log::Level::Info, "upgrade", None, text);
        Ok(proceed.reload)
    }

    fn describe_missing(&self) -> String {
        let snapshot = self.balancer.snapshot();
        let missing =
            snapshot.clusters.iter().find(|c| !c.view.load().directory.is_loaded()).map(|cluster| {
                let trouble = cluster.persistent_state.directory_error.lock();
                let trouble = if trouble.is_empty() { "no answer yet" } else { trouble.as_str() };
                format!("no directory of cluster {}: {trouble}", cluster.settings.name)
            });
        let missing = missing.unwrap_or_else(|| "not every server was probed".to_owned());
        format!("not ready after {}: {missing}", humantime::format_duration(PROBING_TIMEOUT))
    }

    /// Every cluster has a directory, fresh or cached.
    fn has_all_directories(&self) -> bool {
        self.balancer.snapshot().clusters.iter().all(|c| c.view.load().directory.is_loaded())
    }

    /// Every listener accepts connections.
    fn listeners_are_open(&self) -> bool {
        self.process_handover.unopened.load(SeqCst) == 0
    }

    /// Ready is more than open: a directory must be there.
    fn update_readiness(&self, is_open: bool) {
        let ready = is_open
            && self.balancer.snapshot().clusters.iter().all(|cluster| {
                let view = cluster.view.load();
                view.directory.is_loaded() && view.entries.iter().all(|e| e.server.read(|l| l.probed_once()))
            });
        if ready {
            self.balancer.set_ready();
        }
    }

    /// What came from the ICM that this one follows.
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
            Err(error) => log::error!(target: "icm::lifecycle", "taking the clusters over: {error}"),
        }
    }

    /// Tells systemd, once every member was probed and the listeners are open; a directory that cannot be read
    /// is said, and no reason to be killed for a start that takes too long.
    fn notify_systemd(&self) -> bool {
        let ready = self.listeners_are_open() && self.is_discovery_complete();
        if ready {
            // What it hears and what `/readyz` says are of one moment.
            self.update_readiness(true);
            systemd::ready(self.status());
        }
        ready
    }

    fn status(&self) -> &'static str {
        if self.balancer.is_ready() { "serving" } else { "serving, but no directory could be read" }
    }

    /// systemd hears of it if it was told before that this process is ready.
    async fn reload(&self, systemd_notified: bool) {
        if systemd_notified {
            systemd::reloading();
        }
        let (balancer, file) = (Arc::clone(&self.balancer), self.file.clone());
        let certificates = Arc::clone(&self.certificates);
        let runtime = tokio::runtime::Handle::current();
        let can_wait = balancer.has_large_directory();
        let work =
            low_priority::run(can_wait, move || reload::reload(&balancer, &file, &certificates, &runtime));
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

/// It was read, or tried in vain. Where there is a copy, a large directory that takes a minute to read, or a member
/// that hangs, does not keep the listeners closed.
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
        let read_again = self.open_listeners(ready).await;
        log::info!(target: "icm::lifecycle", "serving");
        let mut systemd_notified = self.tell_ready_once_open().await;
        if read_again {
            self.reload(systemd_notified).await;
        }
        let mut follower = FollowPoller::start(&self.balancer);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    // What it has under way would come under settings that are about to change.
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

//! The service that keeps the state of all clusters current and applies reloads.
//!
//! In: the clusters' loops, offers of the ICM that is followed, HUP, USR1 and USR2. Out: readiness for the
//! listeners, new snapshots. One task does all of it in turn, so no two reloads overlap.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use pingora_load_balancing::Backends;
use tokio::task::AbortHandle;

use super::follow::{self, Follower, Offer};
use super::handover::{Inheritance, PROBING, Upgrade};
use super::lifecycle::Signals;
use super::pid_file::PidFile;
use super::{reload, systemd};
use crate::edge::tls::Certificates;
use crate::state::{Balancer, Cluster, Origin, low_priority, refresh_state, restrictions};
use crate::telemetry::access_log::AccessLog;
use crate::util::clock;

/// Listeners open at last after this, whatever is not known by then.
const LONGEST_START: Duration = Duration::from_secs(5);

/// Where the last good copy of a directory serves, so long is waited for a reading, in milliseconds: enough for a directory
/// of usual size, and too little for a member that hangs to keep a start from being over within two seconds.
const PATIENCE_WITH_COPY: u64 = 1_500;

/// What ties this process to the ones before and after it.
pub struct Succession {
    /// The process that this one takes over from, if there is one.
    pub inheritance: Option<Arc<Inheritance>>,
    /// The next process.
    pub upgrade: Arc<Upgrade>,
    /// Written by whoever serves.
    pub pid_file: Option<PidFile>,
    /// Listeners that nobody accepts on yet.
    pub closed: Arc<AtomicUsize>,
}

/// See the module's description.
pub struct Supervisor {
    balancer: Arc<Balancer>,
    access_log: Arc<AccessLog>,
    certificates: Arc<Certificates>,
    backends: Backends,
    file: PathBuf,
    signals: Mutex<Option<Signals>>,
    succession: Succession,
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
        succession: Succession,
    ) -> Self {
        let signals = Mutex::new(Some(signals));
        let tasks = Mutex::default();
        Self { balancer, access_log, certificates, backends, file, signals, succession, tasks }
    }

    /// Ends the loops of the old snapshot and starts those of the new one.
    fn restart_loops(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
        for cluster in &self.balancer.snapshot().clusters {
            tasks.extend(refresh_state::start(&self.balancer, cluster));
        }
    }

    /// Tells Pingora who the members are now.
    async fn update_members(&self) {
        if let Err(error) = self.backends.update(|_| {}).await {
            log::error!(target: "icm::lifecycle", "members cannot be handed to the health checks: {error}");
        }
    }

    /// Every member was probed once, and every directory was read or tried, or its last good copy serves.
    fn knows_enough(&self) -> bool {
        self.balancer.snapshot().clusters.iter().all(|cluster| {
            has_directory(cluster)
                && cluster.kept.members_tried.load(Relaxed)
                && cluster.view.load().entries.iter().all(|e| e.member.read(|l| l.probed_once()))
        })
    }

    async fn wait_until_informed(&self) {
        let wait = async {
            while !self.knows_enough() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.update_members().await;
            }
        };
        if tokio::time::timeout(LONGEST_START, wait).await.is_err() {
            log::warn!(
                target: "icm::lifecycle",
                "opening the listeners though not every member was probed or no directory was read in 5 s"
            );
        }
    }

    /// Opens the listeners when enough is known, or ends the process where it cannot take over from the old one. Out:
    /// whether the configuration may have changed since it was read.
    async fn open_listeners(&self, ready: ServiceReadyNotifier) -> bool {
        let Some(inheritance) = &self.succession.inheritance else {
            self.wait_until_informed().await;
            ready.notify_ready();
            return false;
        };
        match self.inherit(inheritance, ready).await {
            Ok(read_again) => read_again,
            Err(reason) => {
                log::error!(target: "icm::lifecycle", "cannot take over from process {}: {reason}", inheritance.from);
                inheritance.fail(&reason);
                std::process::exit(1);
            }
        }
    }

    /// Listeners open within milliseconds, and systemd starts dependent units only after this.
    async fn tell_ready_once_open(&self) -> bool {
        for _ in 0..50 {
            let told = self.tell_ready();
            if told || !self.knows_enough() {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Takes over as soon as this process can serve at least as well as the old one. Out: whether the
    /// configuration may have changed since it was read.
    async fn inherit(
        &self,
        inheritance: &Arc<Inheritance>,
        open: ServiceReadyNotifier,
    ) -> Result<bool, String> {
        if inheritance.must_be_ready {
            let wait = async {
                while !(self.knows_enough() && self.is_informed()) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    self.update_members().await;
                }
            };
            tokio::time::timeout(PROBING, wait).await.map_err(|_| self.what_is_missing())?;
        } else {
            self.wait_until_informed().await;
        }
        let old = Arc::clone(inheritance);
        let go = tokio::task::spawn_blocking(move || old.ready()).await;
        let go = go.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        restrictions::inherit(&self.balancer, &go.restrictions).map_err(|e| e.to_string())?;
        self.succession.pid_file.as_ref().map_or(Ok(()), PidFile::write).map_err(|e| e.to_string())?;
        // The old process still accepts on these sockets: nobody must hear in between that nobody does.
        self.watch_readiness(true);
        open.notify_ready();
        // They wait for nothing else, and end the process when they cannot open.
        while !self.is_open() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if let Err(error) = inheritance.serving() {
            log::warn!(target: "icm::lifecycle", "process {} does not hear that this one serves: {error}", inheritance.from);
        }
        let text = format!("taken over from process {}", inheritance.from);
        self.balancer.events.note(log::Level::Info, "upgrade", None, text);
        Ok(go.reload)
    }

    fn what_is_missing(&self) -> String {
        let snapshot = self.balancer.snapshot();
        let lacking =
            snapshot.clusters.iter().find(|c| !c.view.load().directory.is_loaded()).map(|cluster| {
                let trouble = cluster.kept.directory_trouble.lock().unwrap_or_else(PoisonError::into_inner);
                let trouble = if trouble.is_empty() { "no answer yet" } else { trouble.as_str() };
                format!("no directory of cluster {}: {trouble}", cluster.settings.name)
            });
        let lacking = lacking.unwrap_or_else(|| "not every server was probed".to_owned());
        format!("not ready after {}: {lacking}", humantime::format_duration(PROBING))
    }

    /// Every cluster has a directory, fresh or cached.
    fn is_informed(&self) -> bool {
        self.balancer.snapshot().clusters.iter().all(|c| c.view.load().directory.is_loaded())
    }

    /// Every listener accepts connections.
    fn is_open(&self) -> bool {
        self.succession.closed.load(SeqCst) == 0
    }

    /// Ready is more than open: a directory must be there.
    fn watch_readiness(&self, is_open: bool) {
        let ready = is_open
            && self.balancer.snapshot().clusters.iter().all(|cluster| {
                let view = cluster.view.load();
                view.directory.is_loaded() && view.entries.iter().all(|e| e.member.read(|l| l.probed_once()))
            });
        if ready {
            self.balancer.set_ready();
        }
    }

    /// What came from the ICM that this one follows.
    async fn take_over(&self, offer: Offer) {
        let balancer = Arc::clone(&self.balancer);
        let can_wait = balancer.has_large_directory();
        let runtime = tokio::runtime::Handle::current();
        match low_priority::run(can_wait, move || follow::take_over(&balancer, &runtime, offer)).await {
            Ok(true) => {
                self.restart_loops();
                self.update_members().await;
            }
            Ok(false) => {}
            Err(error) => log::error!(target: "icm::lifecycle", "taking the clusters over: {error}"),
        }
    }

    /// Tells systemd, once every member was probed and the listeners are open; a directory that cannot be read
    /// is said, and no reason to be killed for a start that takes too long.
    fn tell_ready(&self) -> bool {
        let ready = self.is_open() && self.knows_enough();
        if ready {
            // What it hears and what `/readyz` says are of one moment.
            self.watch_readiness(true);
            systemd::ready(self.status());
        }
        ready
    }

    fn status(&self) -> &'static str {
        if self.balancer.is_ready() { "serving" } else { "serving, but no directory could be read" }
    }

    /// systemd hears of it if it was told before that this process is ready.
    async fn reload(&self, told: bool) {
        if told {
            systemd::reloading();
        }
        let (balancer, file) = (Arc::clone(&self.balancer), self.file.clone());
        let certificates = Arc::clone(&self.certificates);
        let runtime = tokio::runtime::Handle::current();
        let can_wait = balancer.has_large_directory();
        let work =
            low_priority::run(can_wait, move || reload::reload(&balancer, &file, &certificates, &runtime));
        self.succession.upgrade.note_reload();
        match work.await {
            Ok(true) => {
                self.access_log.reconfigure(&self.balancer.snapshot().settings.access_log);
                self.restart_loops();
                self.update_members().await;
            }
            Ok(false) => {}
            Err(error) => log::error!(target: "icm::lifecycle", "reload: {error}"),
        }
        if told {
            let refused = !self.balancer.reload.lock().unwrap_or_else(PoisonError::into_inner).success;
            let status = "serving; the last configuration was refused, see the log";
            systemd::ready(if refused { status } else { self.status() });
        }
    }
}

/// It was read, or tried in vain. Where there is a copy, a large directory that takes a minute to read, or a member
/// that hangs, does not keep the listeners closed.
fn has_directory(cluster: &Cluster) -> bool {
    let view = cluster.view.load();
    let has_copy = matches!(view.directory.origin, Origin::Cache(_));
    cluster.kept.directory_tried.load(Relaxed)
        || (has_copy && clock::now_ms().saturating_sub(view.directory.at_ms) >= PATIENCE_WITH_COPY)
}

#[async_trait]
impl BackgroundService for Supervisor {
    async fn start_with_ready_notifier(&self, mut shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Signals { reload: mut hangup, mut reopen, mut upgrade }) = signals else {
            log::error!(target: "icm::lifecycle", "the supervisor was started twice");
            return;
        };
        self.restart_loops();
        self.update_members().await;
        let read_again = self.open_listeners(ready).await;
        log::info!(target: "icm::lifecycle", "serving");
        let mut told = self.tell_ready_once_open().await;
        if read_again {
            self.reload(told).await;
        }
        let mut follower = Follower::start(&self.balancer);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    // What it has under way would come under settings that are about to change.
                    drop(follower.take());
                    self.reload(told).await;
                    follower = Follower::start(&self.balancer);
                }
                offer = follow::next(&mut follower) => self.take_over(offer).await,
                _ = reopen.recv() => self.access_log.reopen(),
                _ = upgrade.recv() => self.succession.upgrade.start(),
                _ = tick.tick() => {
                    self.update_members().await;
                    self.watch_readiness(self.is_open());
                    self.balancer.statistics.tick(clock::now_ms());
                    told = told || self.tell_ready();
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

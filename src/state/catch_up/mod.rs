//! CATCHING UP in the running balancer: gives the tracker of each cluster its events, and opens the gates that it names.
//!
//! The health of a server closes its gate by itself; [`Balancer::record_transition`] asks the tracker at once whether it
//! stays closed, and a task does so twice a second.

mod followed;
pub(crate) mod kept;
pub(crate) mod release;
mod request;
mod saved;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};

use super::{Balancer, Cluster, ClusterView};
use crate::config::settings::FreshnessSource;
use crate::domain::cluster::catch_up::{
    CatchUpAction, CatchUpRules, CatchUpTracker, Moment, OpenReason, ReporterStatus, ServerReachability,
};
use crate::domain::cluster::{AvailabilityReport, ClusterServer, ServerName, ServerState, Transition};
use crate::util::clock;
pub(crate) use followed::{records_for_followers, replace_followed_catch_up};
use kept::{KeptCatchUp, KeptOpening};
pub(crate) use saved::{load_from_state_dir, local_records, replace_local_catch_up, save_if_changed};
pub(crate) use task::run;

/// What a cluster knows about outages and catching up; kept over reloads.
#[derive(Debug, Default)]
pub(crate) struct CatchUpState {
    inner: Mutex<CatchUpInner>,
    /// Opened gates, in the order of [`OpenReason::ALL`].
    opened: [AtomicU64; OpenReason::ALL.len()],
}

#[derive(Debug, Default)]
pub(super) struct CatchUpInner {
    tracker: CatchUpTracker,
    /// The last gate of each server that was opened, for the ICMs that follow this one.
    opened: BTreeMap<ServerName, KeptCatchUp>,
    /// What the followed ICM and those that it follows have sent.
    followed: BTreeMap<ServerName, Vec<KeptCatchUp>>,
    /// The servers whose `catch_up.request` is on its way.
    requesting: Vec<ServerName>,
}

/// A server that is CATCHING UP, as the admin listener shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatchUpStatus {
    /// When it returned, in milliseconds since 1970.
    pub(crate) since_unix_ms: u64,
    /// When it opens without evidence.
    pub(crate) limit_at_unix_ms: u64,
    pub(crate) outage_ms: u64,
    pub(crate) waiting_for: Vec<String>,
}

/// From where a cluster could learn that a returned server has caught up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EvidenceSources {
    /// Servers that report about their Cluster Replicator, with the kind of the source.
    pub(crate) reporting: Vec<(ServerName, &'static str)>,
    /// Servers that never have.
    pub(crate) silent: Vec<ServerName>,
    /// Modification times of databases are read.
    pub(crate) freshness: bool,
}

impl EvidenceSources {
    /// Without any source a server is never CATCHING UP.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.reporting.is_empty() && !self.freshness
    }
}

/// The change of this server that is not recorded yet.
fn unrecorded<'a>(
    change: &'a mut Option<(ServerName, Transition)>,
    server: &ServerName,
) -> Option<&'a mut Transition> {
    change.as_mut().filter(|(of, _)| of == server).map(|(_, change)| change)
}

pub(super) fn now() -> Moment {
    Moment { ms: clock::now_ms(), unix_ms: clock::unix_ms() }
}

/// The rules of a cluster, with what may serve as evidence.
fn rules(cluster: &Cluster) -> CatchUpRules {
    let catch_up = &cluster.settings.catch_up;
    CatchUpRules {
        enabled: catch_up.enabled,
        after_ms: clock::saturating_millis(catch_up.after),
        limit_ms: clock::saturating_millis(catch_up.limit),
        reads_freshness: cluster.settings.freshness.source != FreshnessSource::Off,
    }
}

fn reachability(view: &ClusterView) -> Vec<ServerReachability> {
    let one = |server: &ClusterServer| ServerReachability {
        name: server.name().clone(),
        health: server.read(|health| health.reachability()),
    };
    view.entries.iter().map(|entry| one(&entry.server)).collect()
}

fn find_server(view: &ClusterView, name: &ServerName) -> Option<Arc<ClusterServer>> {
    view.entries.iter().find(|entry| entry.config.name == *name).map(|entry| Arc::clone(&entry.server))
}

impl CatchUpState {
    pub(super) fn lock(&self) -> MutexGuard<'_, CatchUpInner> {
        self.inner.lock()
    }

    /// Gates opened since the process started, by reason.
    pub(crate) fn opened_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        OpenReason::ALL.iter().zip(&self.opened).map(|(reason, count)| (reason.as_str(), count.load(Relaxed)))
    }

    fn count(&self, reason: OpenReason) {
        let position = OpenReason::ALL.iter().position(|known| *known == reason);
        if let Some(count) = position.and_then(|position| self.opened.get(position)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The last report about the Cluster Replicator of a server.
    pub(crate) fn reporter(&self, server: &ServerName) -> Option<ReporterStatus> {
        self.inner.lock().tracker.reporter(server).cloned()
    }

    /// The state of a server as [`ServerHealth`](crate::domain::cluster::ServerHealth) begins with it, if an earlier
    /// process saw an outage.
    pub(super) fn restore(&self, server: &ClusterServer) -> Option<Transition> {
        let now = now();
        server.set_unix_offset(now.unix_ms.saturating_sub(now.ms));
        let (outage, gate) = self.inner.lock().tracker.restored(server.name(), now)?;
        server.restore_catch_up(outage, gate, now.ms)
    }
}

/// From where this cluster could learn that a returned server has caught up.
#[must_use]
pub(crate) fn evidence_sources(cluster: &Cluster) -> EvidenceSources {
    let inner = cluster.persistent_state.catch_up.lock();
    let mut sources = EvidenceSources { freshness: rules(cluster).reads_freshness, ..Default::default() };
    for entry in &cluster.view.load().entries {
        let name = entry.config.name.clone();
        let knows = |status: &&ReporterStatus| {
            status.report.retry_waiting.is_some() || status.report.work_queue_depth.is_some()
        };
        match inner.tracker.reporter(&name).filter(knows) {
            Some(status) => sources.reporting.push((name, status.source)),
            None => sources.silent.push(name),
        }
    }
    sources
}

/// The status of a server that is CATCHING UP, here or on the followed ICM; `None` for others.
#[must_use]
pub(crate) fn status(cluster: &Cluster, server: &ClusterServer) -> Option<CatchUpStatus> {
    let (gate, elsewhere, now) = (
        server.read(|health| health.reachability().gate),
        server.read(|h| h.gate_elsewhere().cloned()),
        now(),
    );
    let limit_ms = rules(cluster).limit_ms;
    let inner = cluster.persistent_state.catch_up.lock();
    let mut status = gate.map(|gate| CatchUpStatus {
        since_unix_ms: gate.returned_unix_ms,
        limit_at_unix_ms: inner
            .tracker
            .limit_from_unix_ms(server.name())
            .unwrap_or_else(|| now.unix_ms.saturating_sub(gate.elapsed_ms(now.ms)))
            .saturating_add(limit_ms),
        outage_ms: gate.outage_ms,
        waiting_for: inner.tracker.waiting_for(server.name()),
    });
    if let Some(elsewhere) = elsewhere {
        let known = inner.followed_gate(server.name());
        let from = known.and_then(|kept| kept.limit_from).unwrap_or(elsewhere.returned_unix_ms);
        let status = status.get_or_insert_with(|| CatchUpStatus {
            since_unix_ms: elsewhere.returned_unix_ms,
            limit_at_unix_ms: from.saturating_add(limit_ms),
            outage_ms: known.map_or(0, |kept| kept.outage_ms),
            waiting_for: Vec::new(),
        });
        status.waiting_for.push(format!("{} must open it, which this ICM follows", elsewhere.at));
    }
    status
}

/// How the last gate of a server was opened; `None` while it is closed, or if there was none.
#[must_use]
pub(crate) fn last_opening(cluster: &Cluster, server: &ServerName) -> Option<KeptOpening> {
    cluster.persistent_state.catch_up.lock().opened.get(server)?.opened.clone()
}

/// The result of `release --now` for one server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GateRelease {
    Opened,
    /// It was not CATCHING UP on this ICM.
    NotCatchingUp,
}

impl Balancer {
    /// Gives a report of an availability source to the health of the server and to the tracker of its cluster.
    pub(crate) fn record_report(
        &self,
        cluster: &Cluster,
        server: &ClusterServer,
        (kind, number): (&'static str, usize),
        report: &AvailabilityReport,
    ) {
        let now = now();
        let change = server.report(number, report, now.ms);
        let name = &cluster.settings.name;
        self.record_transition(name, server.name(), change);
        let state = &cluster.persistent_state.catch_up;
        let (replicator, stamp) = (&report.replicator, report.updated_at);
        state.lock().tracker.report(server.name(), (kind, number), replicator, stamp, now);
        self.update_catch_up(name, None);
    }

    /// Asks the tracker what to do, and does it. `change` is a change of state that is not recorded yet.
    pub(super) fn update_catch_up(&self, cluster: &str, change: Option<(&ServerName, Transition)>) {
        let snapshot = self.snapshot();
        let Some(cluster) = snapshot.clusters.iter().find(|c| c.settings.name == cluster) else {
            if let Some((server, change)) = change {
                self.events.record_transition(cluster, server, &change);
            }
            return;
        };
        let (view, now, rules) = (cluster.view.load_full(), now(), rules(cluster));
        let mut change = change.map(|(server, change)| (server.clone(), change));
        let state = &cluster.persistent_state.catch_up;
        let mut inner = state.lock();
        let returning = change.as_ref().map(|(server, _)| server);
        let mut actions = inner.tracker.update(&reachability(&view), returning, rules, now);
        actions.extend(inner.openings_of_followed_icm(&reachability(&view), now));
        for action in actions {
            self.apply(cluster, &view, &mut inner, action, &mut change, now);
        }
        drop(inner);
        if let Some((server, change)) = change {
            self.events.record_transition(&cluster.settings.name, &server, &change);
        }
    }

    /// Applies one action. A change of the same server that is not recorded yet becomes one with it.
    fn apply(
        &self,
        cluster: &Cluster,
        view: &ClusterView,
        inner: &mut CatchUpInner,
        action: CatchUpAction,
        change: &mut Option<(ServerName, Transition)>,
        now: Moment,
    ) {
        let name = cluster.settings.name.as_str();
        match action {
            CatchUpAction::Gated { server, text, .. } => {
                inner.opened.remove(&server);
                match unrecorded(change, &server).filter(|change| change.new == ServerState::CatchingUp) {
                    Some(change) => change.cause = format!("{}; {text}", change.cause),
                    None => {
                        let text = format!("{}: {text}", server.abbreviated());
                        self.events.record(log::Level::Info, "catch_up", Some(name), text);
                    }
                }
            }
            CatchUpAction::NotGated { server, returned_ms, text } => {
                let Some(found) = find_server(view, &server) else { return };
                let cause = unrecorded(change, &server)
                    .map_or_else(|| "it need not be set aside".to_owned(), |change| change.cause.clone());
                let opened = found.open_gate(returned_ms, &cause, now.ms);
                inner.tracker.opened(&server, found.state() == ServerState::Unreachable);
                self.record_merged(name, &server, change, opened);
                if let Some(text) = text {
                    self.events.record(log::Level::Info, "catch_up", Some(name), text);
                }
            }
            CatchUpAction::Open { server, returned_ms, reason, text } => {
                let Some(found) = find_server(view, &server) else { return };
                let opened = self.open(cluster, inner, &found, returned_ms, (reason, &text), now);
                self.record_merged(name, &server, change, opened);
            }
        }
    }

    /// Records the opening of a gate, or adds it to the change of the same server that is not recorded yet.
    fn record_merged(
        &self,
        cluster: &str,
        server: &ServerName,
        change: &mut Option<(ServerName, Transition)>,
        opened: Option<Transition>,
    ) {
        match (unrecorded(change, server), opened) {
            (Some(change), Some(opened)) => {
                change.new = opened.new;
                if !change.cause.contains(&opened.cause) {
                    change.cause = format!("{}; {}", change.cause, opened.cause);
                }
            }
            (None, Some(opened)) => self.events.record_transition(cluster, server, &opened),
            (_, None) => {}
        }
    }

    /// Opens a gate and counts it. Returns the change of state, which the caller records.
    fn open(
        &self,
        cluster: &Cluster,
        inner: &mut CatchUpInner,
        server: &ClusterServer,
        returned_ms: u64,
        (reason, text): (OpenReason, &str),
        now: Moment,
    ) -> Option<Transition> {
        let name = cluster.settings.name.as_str();
        let records = inner.tracker.records();
        if let Some(record) = records.into_iter().find(|record| record.server == *server.name()) {
            let opened = KeptCatchUp::from_record(name, record).opened(now.unix_ms, reason);
            inner.opened.insert(server.name().clone(), opened);
        }
        let change = server.open_gate(returned_ms, text, now.ms);
        inner.tracker.opened(server.name(), server.state() == ServerState::Unreachable);
        cluster.persistent_state.catch_up.count(reason);
        let level = if reason == OpenReason::Limit { log::Level::Warn } else { log::Level::Info };
        if reason == OpenReason::Limit || change.is_none() {
            let text =
                format!("{} need not catch up any longer on this ICM: {text}", server.name().abbreviated());
            self.events.record(level, "catch_up", Some(name), text);
        }
        change
    }

    /// An administrator opens the gate of a server. That of the followed ICM stays.
    pub(crate) fn release_gate(&self, cluster: &Cluster, server: &ClusterServer) -> GateRelease {
        let Some(gate) = server.read(|health| health.reachability().gate) else {
            return GateRelease::NotCatchingUp;
        };
        let mut inner = cluster.persistent_state.catch_up.lock();
        let why = (OpenReason::Administrator, "released by an administrator");
        let change = self.open(cluster, &mut inner, server, gate.returned_ms, why, now());
        if let Some(change) = change {
            self.events.record_transition(&cluster.settings.name, server.name(), &change);
        }
        GateRelease::Opened
    }
}

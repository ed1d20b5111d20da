//! The running balancer: one snapshot behind one pointer, and what outlives it.
//!
//! In: settings, at start and at every reload. Out: the [`Snapshot`] that every request loads once.
//! A reload builds a whole new snapshot beside the old one and swaps the pointer; whatever was
//! learned about servers, budgets and directories is kept by name and carried over.

mod availability;
pub(crate) mod cluster;
pub(crate) mod cluster_view;
pub(crate) mod directory;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod followed;
pub(crate) mod host_table;
pub mod low_priority;
pub(crate) mod persistent;
pub(crate) mod preflight;
pub(crate) mod probes;
pub(crate) mod refresh_state;
pub(crate) mod resolve;
pub(crate) mod restrictions;
pub(crate) mod restrictions_file;
pub(crate) mod retry_budget;
mod server_list;
pub(crate) mod upgrade;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ahash::AHashMap;
use arc_swap::ArcSwap;

pub use cluster::Cluster;
pub use cluster_view::ClusterView;
pub use directory::{DirectoryOrigin, LoadedDirectory};
pub use persistent::PersistentState;

use crate::config::Settings;
use crate::config::settings::{Directory, Servers};
use crate::domain::cluster::HostPort;
use crate::domain::cluster::{ClusterServer, Port, ServerName, Transition};
use crate::pages::{Pages, PagesError};
use crate::state::followed::FollowedConfig;
use crate::telemetry::statistics::Statistics;
use cluster::{Transitions, ViewInputs};
use events::Events;
use host_table::HostTable;
use preflight::{PreflightProbes, PreflightResults};
use upgrade::UpgradeTracker;

/// Everything a request needs, immutable.
#[derive(Debug)]
pub struct Snapshot {
    /// As loaded.
    pub settings: Arc<Settings>,
    /// In the file's order.
    pub clusters: Vec<Arc<Cluster>>,
    /// Which of them a Host name means.
    pub hosts: HostTable,
    /// Own pages.
    pub pages: Pages,
}

/// How the last reload went.
#[derive(Clone, Debug, Default)]
pub struct ReloadStatus {
    /// The configuration in force was the last one offered.
    pub success: bool,
    /// Milliseconds since 1970 of the last attempt.
    pub at_unix_ms: u64,
    /// How long it took, milliseconds; 0 at the start.
    pub duration_ms: u64,
    /// Why it was refused; empty on success.
    pub error: String,
    /// What the file says but only a restart would apply.
    pub restart_required: Vec<String>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Balancer {
    snapshot: ArcSwap<Snapshot>,
    kept: Mutex<AHashMap<String, Arc<PersistentState>>>,
    /// For clusters without a secret of their own.
    generated_affinity_key: Vec<u8>,
    /// What happened.
    pub events: Events,
    /// Counters.
    pub statistics: Arc<Statistics>,
    /// How the last reload went.
    pub reload: Mutex<ReloadStatus>,
    /// The configuration of another ICM, where this one follows it.
    pub followed: Mutex<Option<FollowedConfig>>,
    /// Distinguishes this process from the ICMs that it follows.
    pub instance_id: String,
    /// How the last upgrade went.
    pub upgrade: UpgradeTracker,
    draining: AtomicBool,
    ready: AtomicBool,
}

/// What is known before a cluster's view is first built.
#[derive(Debug, Default)]
pub struct InitialState {
    /// Members read from a cache, for `source: names`.
    pub servers: Option<Vec<crate::config::settings::Server>>,
    /// A directory read from a cache, for `source: cldbdir`.
    pub directory: Option<Arc<LoadedDirectory>>,
}

impl Balancer {
    /// Builds the first snapshot. Resolves host names, so it may block for a moment.
    ///
    /// # Errors
    /// When the shop's own pages cannot be read.
    pub fn new(settings: Arc<Settings>, generated_affinity_key: Vec<u8>) -> Result<Self, PagesError> {
        let kept = Mutex::default();
        let (snapshot, _) = build_snapshot(&settings, &kept, None, &generated_affinity_key, None)?;
        Ok(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            kept,
            generated_affinity_key,
            events: Events::default(),
            statistics: Arc::default(),
            reload: Mutex::new(ReloadStatus {
                success: true,
                at_unix_ms: crate::util::clock::unix_ms(),
                ..ReloadStatus::default()
            }),
            followed: Mutex::default(),
            instance_id: format!("{:032x}", fastrand::u128(..)),
            upgrade: UpgradeTracker::default(),
            draining: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        })
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Some cluster's directory takes long to read.
    #[must_use]
    pub fn has_large_directory(&self) -> bool {
        self.snapshot().clusters.iter().any(|cluster| cluster.view.load().directory.is_large())
    }

    /// Applies new settings, of whose servers this was found out before: everything or nothing.
    ///
    /// # Errors
    /// When the shop's own pages cannot be read; the old snapshot then stays.
    pub fn apply_settings(
        &self,
        settings: Arc<Settings>,
        preflight: &PreflightResults,
    ) -> Result<(), PagesError> {
        let old = self.snapshot();
        let (snapshot, changes) =
            build_snapshot(&settings, &self.kept, Some(&old), &self.generated_affinity_key, Some(preflight))?;
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(Arc::clone(&snapshot));
        let record_all = |cluster: &str, transitions: Transitions| {
            for (member, change) in transitions {
                self.events.record_transition(cluster, member.name(), &change);
            }
        };
        changes.into_iter().for_each(|(cluster, transitions)| record_all(&cluster, transitions));
        let no_probes = PreflightProbes::default();
        for cluster in &snapshot.clusters {
            let name = &cluster.settings.name;
            let first = preflight.for_cluster(name).unwrap_or(&no_probes);
            record_all(name, cluster.apply_server_changes(first));
            first.record_failures(self, name);
        }
        Ok(())
    }

    /// What outlives reloads of the cluster of this name, which may not be there yet.
    #[must_use]
    pub fn persistent_state(&self, cluster: &str) -> Arc<PersistentState> {
        get_or_create_persistent_state(&self.kept, cluster)
    }

    /// Not ready any more: about to stop.
    pub fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// About to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Every member was probed once and a directory is loaded, fresh or cached.
    pub fn set_ready(&self) {
        self.ready.store(true, Relaxed);
    }

    /// Serves, and is not about to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Relaxed) && !self.is_draining()
    }

    /// Gives a member the result of a probe and says what that changed: the state, else the port's own
    /// condition, which its state need not show.
    pub fn record_probe(
        &self,
        cluster: &str,
        member: &ClusterServer,
        port: Port,
        result: Result<u16, &str>,
        now_ms: u64,
    ) {
        let read_port = || member.read(|l| (l.was_probed(port), l.port_cause(port).to_owned()));
        let (was_probed, before) = read_port();
        let change = member.probed(port, result, now_ms);
        let (_, after) = read_port();
        let changed = before.is_empty() != after.is_empty();
        if change.is_none() && was_probed && changed && after.is_empty() {
            let text = format!("{port} port answers again");
            self.events.record_port_change(log::Level::Info, cluster, member.name(), text);
        } else if change.is_none() && !after.is_empty() && (changed || !was_probed) {
            self.events.record_port_change(log::Level::Warn, cluster, member.name(), after);
        }
        self.record_transition(cluster, member.name(), change);
    }

    /// Logs and keeps the transition of a member, if there was one.
    pub fn record_transition(&self, cluster: &str, server: &ServerName, change: Option<Transition>) {
        if let Some(change) = change {
            self.events.record_transition(cluster, server, &change);
        }
    }
}

/// By cluster.
type ClusterTransitions = Vec<(String, Transitions)>;

fn get_or_create_persistent_state(
    kept: &Mutex<AHashMap<String, Arc<PersistentState>>>,
    cluster: &str,
) -> Arc<PersistentState> {
    let mut all = kept.lock();
    Arc::clone(all.entry(cluster.to_owned()).or_default())
}

fn build_snapshot(
    settings: &Arc<Settings>,
    kept: &Mutex<AHashMap<String, Arc<PersistentState>>>,
    old: Option<&Snapshot>,
    generated_affinity_key: &[u8],
    preflight: Option<&PreflightResults>,
) -> Result<(Snapshot, ClusterTransitions), PagesError> {
    let pages = match &settings.pages_dir {
        Some(dir) => Pages::load(dir)?,
        None => Pages::built_in(),
    };
    let no_probes = PreflightProbes::default();
    let mut clusters = Vec::with_capacity(settings.clusters.len());
    let mut changes = Vec::new();
    for wanted in &settings.clusters {
        let before = old.and_then(|s| s.clusters.iter().find(|c| c.settings.name == wanted.name));
        let initial = refresh_state::beginning(wanted, before.map(|c| &**c));
        let servers = match &wanted.servers {
            Servers::Static(list) => list.clone(),
            Servers::Names(_) => initial.servers.unwrap_or_default(),
        };
        let directory = match &wanted.directory {
            Directory::Static(entries) => {
                Arc::new(LoadedDirectory::new(entries.take(), DirectoryOrigin::Configuration, Vec::new()))
            }
            Directory::File { path, entries } => Arc::new(LoadedDirectory::new(
                entries.take(),
                DirectoryOrigin::File(path.clone()),
                Vec::new(),
            )),
            Directory::Cldbdir(_) => initial.directory.unwrap_or_else(|| Arc::new(LoadedDirectory::empty())),
        };
        let mut addresses: HashMap<HostPort, _> = before.map(|c| c.addresses()).unwrap_or_default();
        match (preflight, &wanted.servers) {
            // They were asked for a moment ago; a name server that is silent must not be waited for twice.
            (Some(preflight), Servers::Static(_)) => {
                addresses.extend(preflight.addresses.iter().map(|(at, address)| (at.clone(), *address)));
            }
            _ => addresses.extend(resolve::resolve_blocking(&servers)),
        }
        let kept = get_or_create_persistent_state(kept, &wanted.name);
        if let Some(before) = before {
            kept.clear_source_errors(
                !refresh_state::same_members(wanted, &before.settings),
                !refresh_state::same_directory(wanted, &before.settings),
            );
        }
        let (cluster, transitions) = Cluster::new(
            Arc::clone(wanted),
            settings,
            generated_affinity_key,
            kept,
            ViewInputs { servers, addresses, directory },
            preflight.and_then(|preflight| preflight.for_cluster(&wanted.name)).unwrap_or(&no_probes),
        );
        changes.push((wanted.name.clone(), transitions));
        clusters.push(Arc::new(cluster));
    }
    let hosts = HostTable::new(settings.clusters.iter().map(|c| c.hostnames.as_slice()));
    Ok((Snapshot { settings: Arc::clone(settings), clusters, hosts, pages }, changes))
}

impl Snapshot {
    /// All members of all clusters with the ports that are enabled and have an address.
    pub fn enabled_ports(&self) -> impl Iterator<Item = (Arc<Cluster>, Arc<ClusterView>, usize, Port)> + '_ {
        self.clusters.iter().flat_map(|cluster| {
            let view = cluster.view.load_full();
            let count = view.entries.len();
            (0..count).flat_map(move |ix| {
                let (cluster, view) = (Arc::clone(cluster), Arc::clone(&view));
                [Port::Http, Port::Https].into_iter().filter_map(move |port| {
                    let enabled = view.entries.get(ix).is_some_and(|e| e.host_port(port).is_some());
                    enabled.then(|| (Arc::clone(&cluster), Arc::clone(&view), ix, port))
                })
            })
        })
    }
}

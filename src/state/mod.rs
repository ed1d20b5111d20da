//! The running balancer: an immutable `Snapshot` behind one pointer, which every request loads once. A reload builds a
//! new snapshot and swaps the pointer; what was learned about servers and directories is carried over by name.

mod availability;
pub(crate) mod catch_up;
pub(crate) mod cluster;
pub(crate) mod cluster_view;
pub(crate) mod companion;
pub(crate) mod directory;
pub(crate) mod document_copies;
pub(crate) mod drain;
pub(crate) mod events;
pub(crate) mod failed_request;
pub(crate) mod followed;
mod freshness;
pub(crate) mod head_passes;
pub(crate) mod history;
pub(crate) mod host_table;
pub mod low_priority;
pub(crate) mod marks;
pub(crate) mod persistent;
pub(crate) mod preflight;
pub(crate) mod probes;
pub(crate) mod readable;
pub(crate) mod refresh_state;
pub(crate) mod rehearsal;
pub(crate) mod rehearsal_control;
pub(crate) mod release_gate;
pub(crate) mod replica_readings;
pub(crate) mod resolve;
pub(crate) mod response_cache;
pub(crate) mod restrictions;
pub(crate) mod restrictions_file;
pub(crate) mod retry_budget;
mod server_list;
pub(crate) mod site_crossing;
pub(crate) mod site_routes;
pub(crate) mod state_file;
pub(crate) mod upgrade;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ahash::AHashMap;
use arc_swap::ArcSwap;
pub use cluster::Cluster;
pub use cluster_view::ClusterView;
pub use directory::{DirectoryOrigin, LoadedDirectory};
use parking_lot::Mutex;
pub use persistent::PersistentState;

use crate::acme::AcmeState;
use crate::config::Settings;
use crate::config::settings::{Directory, FreshnessSource, Server, Servers};
use crate::domain::cluster::{ClusterServer, HostPort, Port, ServerName, ServerState, Transition};
use crate::domain::rehearsal::RehearsalEnd;
use crate::domain::rules::SiteRules;
use crate::pages::{Pages, PagesError};
use crate::state::followed::FollowedConfig;
use crate::telemetry::history::History;
use crate::telemetry::statistics::Statistics;
use catch_up::kept::KeptCatchUp;
use cluster::{Transitions, ViewInputs};
use events::Events;
use host_table::HostTable;
use preflight::{PreflightProbes, PreflightResults};
use response_cache::ResponseCache;
use upgrade::UpgradeTracker;

/// Everything a request needs, immutable.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) settings: Arc<Settings>,
    /// In the order of the configuration file, then their pools.
    pub clusters: Vec<Arc<Cluster>>,
    pub(crate) hosts: HostTable,
    pub(crate) pages: Pages,
}

/// The result of the last reload.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReloadStatus {
    pub(crate) success: bool,
    /// When it was attempted, in milliseconds since 1970.
    pub(crate) at_unix_ms: u64,
    /// How long it took in milliseconds; 0 for the start.
    pub(crate) duration_ms: u64,
    /// Why it was refused; empty on success.
    pub(crate) error: String,
    /// Changed keys that only a restart can apply.
    pub(crate) restart_required: Vec<String>,
}

/// The running balancer: the current snapshot and everything that outlives it.
#[derive(Debug)]
pub struct Balancer {
    snapshot: ArcSwap<Snapshot>,
    /// By cluster name, also of clusters that the configuration does not have now.
    persistent_states: Mutex<AHashMap<String, Arc<PersistentState>>>,
    /// For clusters without a secret of their own.
    generated_affinity_key: Vec<u8>,
    pub(crate) events: Events,
    pub(crate) statistics: Arc<Statistics>,
    /// The samples of the status page's charts.
    pub(crate) history: Mutex<History>,
    pub(crate) response_cache: ResponseCache,
    pub(crate) reload: Mutex<ReloadStatus>,
    /// The configuration taken over from another ICM, if this one follows it.
    pub(crate) followed: Mutex<Option<FollowedConfig>>,
    /// Identifies this process, so that an ICM that follows itself is detected.
    pub(crate) instance_id: String,
    /// Certificates from ACME, and the challenges that requests and handshakes answer.
    pub(crate) acme: Arc<AcmeState>,
    pub(crate) upgrade: UpgradeTracker,
    /// The last rehearsed failover.
    pub(crate) rehearsals: rehearsal::Rehearsals,
    /// This process writes the files in `state_dir`: no older process still serves.
    pub(crate) owns_state: AtomicBool,
    /// The outages as last saved.
    saved_catch_up: Mutex<Option<Vec<KeptCatchUp>>>,
    draining: AtomicBool,
    ready: AtomicBool,
}

/// What is used until a cluster has read its servers and directory.
#[derive(Debug, Default)]
struct InitialState {
    servers: Option<Vec<Server>>,
    directory: Option<Arc<LoadedDirectory>>,
    site_rules: Arc<SiteRules>,
}

impl Balancer {
    /// Builds the first snapshot. Resolves host names, so it may block.
    ///
    /// # Errors
    /// When the configured `pages_dir` cannot be read.
    pub fn new(settings: Arc<Settings>, generated_affinity_key: Vec<u8>) -> Result<Self, PagesError> {
        let persistent_states = Mutex::default();
        let (snapshot, _) =
            build_snapshot(&settings, &persistent_states, None, &generated_affinity_key, None)?;
        let response_cache = ResponseCache::default();
        response_cache.resize(settings.cache.as_ref().map_or(0, |cache| cache.size));
        Ok(Self {
            response_cache,
            snapshot: ArcSwap::from_pointee(snapshot),
            persistent_states,
            generated_affinity_key,
            events: Events::default(),
            statistics: Arc::default(),
            history: Mutex::default(),
            reload: Mutex::new(ReloadStatus {
                success: true,
                at_unix_ms: crate::util::clock::unix_ms(),
                ..ReloadStatus::default()
            }),
            followed: Mutex::default(),
            instance_id: format!("{:032x}", fastrand::u128(..)),
            acme: Arc::default(),
            upgrade: UpgradeTracker::default(),
            rehearsals: rehearsal::Rehearsals::default(),
            owns_state: AtomicBool::new(true),
            saved_catch_up: Mutex::default(),
            draining: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        })
    }

    /// The snapshot in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    #[must_use]
    pub(crate) fn has_large_directory(&self) -> bool {
        self.snapshot().clusters.iter().any(|cluster| cluster.view.load().directory.is_large())
    }

    /// Applies new settings as a whole or not at all.
    ///
    /// # Errors
    /// When the configured `pages_dir` cannot be read; the old snapshot then stays.
    pub(crate) fn apply_settings(
        &self,
        settings: Arc<Settings>,
        preflight: &PreflightResults,
    ) -> Result<(), PagesError> {
        let old = self.snapshot();
        let (snapshot, changes) = build_snapshot(
            &settings,
            &self.persistent_states,
            Some(&old),
            &self.generated_affinity_key,
            Some(preflight),
        )?;
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(Arc::clone(&snapshot));
        self.response_cache.resize(settings.cache.as_ref().map_or(0, |cache| cache.size));
        let record_all = |cluster: &str, transitions: Transitions| {
            for (server, change) in transitions {
                self.record_transition(cluster, server.name(), Some(change));
            }
        };
        changes.into_iter().for_each(|(cluster, transitions)| record_all(&cluster, transitions));
        let no_probes = PreflightProbes::default();
        for cluster in &snapshot.clusters {
            let name = &cluster.settings.name;
            let probes = preflight.for_cluster(name).unwrap_or(&no_probes);
            record_all(name, cluster.apply_server_changes(probes));
            probes.record_failures(self, name);
        }
        Ok(())
    }

    /// The cluster need not exist yet.
    #[must_use]
    pub(crate) fn persistent_state(&self, cluster: &str) -> Arc<PersistentState> {
        get_or_create_persistent_state(&self.persistent_states, cluster)
    }

    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
        rehearsal_control::end_running(self, RehearsalEnd::Shutdown, "this process drains");
    }

    #[must_use]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Every server was probed once and a directory is loaded, fresh or cached.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Relaxed);
    }

    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed) && !self.is_draining()
    }

    /// Gives a server the result of a probe. Records the change of its state, or else of the port alone.
    pub(crate) fn record_probe(
        &self,
        cluster: &str,
        server: &ClusterServer,
        port: Port,
        result: Result<u16, &str>,
        now_ms: u64,
    ) {
        let read_port = || server.read(|l| (l.was_probed(port), l.port_cause(port).to_owned()));
        let (was_probed, before) = read_port();
        let change = server.probed(port, result, now_ms);
        let (_, after) = read_port();
        let changed = before.is_empty() != after.is_empty();
        if change.is_none() && was_probed && changed && after.is_empty() {
            let text = format!("{port} port answers again");
            self.events.record_port_change(log::Level::Info, cluster, server.name(), text);
        } else if change.is_none() && !after.is_empty() && (changed || !was_probed) {
            self.events.record_port_change(log::Level::Warn, cluster, server.name(), after);
        }
        self.record_transition(cluster, server.name(), change);
    }

    /// Records a change of state, and asks the tracker of catching up if the server went away or returned.
    pub(crate) fn record_transition(&self, cluster: &str, server: &ServerName, change: Option<Transition>) {
        let Some(change) = change else { return };
        let concerns = |state| matches!(state, ServerState::Unreachable | ServerState::CatchingUp);
        if concerns(change.old) || concerns(change.new) {
            self.update_catch_up(cluster, Some((server, change)));
        } else {
            self.events.record_transition(cluster, server, &change);
        }
    }
}

type ClusterTransitions = Vec<(String, Transitions)>;

fn get_or_create_persistent_state(
    states: &Mutex<AHashMap<String, Arc<PersistentState>>>,
    cluster: &str,
) -> Arc<PersistentState> {
    Arc::clone(states.lock().entry(cluster.to_owned()).or_default())
}

fn build_snapshot(
    settings: &Arc<Settings>,
    persistent_states: &Mutex<AHashMap<String, Arc<PersistentState>>>,
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
        let initial = refresh_state::initial_state(wanted, before.map(|c| &**c));
        let servers = match &wanted.servers {
            Servers::Static(list) => list.clone(),
            Servers::Names(_) => initial.servers.unwrap_or_default(),
        };
        let directory = initial_directory(&wanted.directory, initial.directory);
        if let Some(before) = before
            && wanted.freshness.source == FreshnessSource::Head
        {
            directory.carry_request_counts(&before.view.load().directory);
        }
        let mut addresses: HashMap<HostPort, _> = before.map(|c| c.addresses()).unwrap_or_default();
        match (preflight, &wanted.servers) {
            // The preflight has just resolved them; do not wait a second time for a dead name server.
            (Some(preflight), Servers::Static(_)) => {
                addresses.extend(preflight.addresses.iter().map(|(at, address)| (at.clone(), *address)));
            }
            _ => addresses.extend(resolve::resolve_blocking(&servers)),
        }
        let persistent_state = get_or_create_persistent_state(persistent_states, &wanted.name);
        if let Some(before) = before {
            persistent_state.clear_source_errors(
                !refresh_state::same_server_source(wanted, &before.settings),
                !refresh_state::same_directory_source(wanted, &before.settings),
            );
        }
        let (cluster, transitions) = Cluster::new(
            Arc::clone(wanted),
            settings,
            generated_affinity_key,
            persistent_state,
            ViewInputs { servers, addresses, directory, site_rules: initial.site_rules },
            preflight.and_then(|preflight| preflight.for_cluster(&wanted.name)).unwrap_or(&no_probes),
        );
        changes.push((wanted.name.clone(), transitions));
        clusters.push(Arc::new(cluster));
    }
    // The positions stay those of all clusters, because pools come last.
    let served = settings.clusters.iter().filter(|c| !c.is_pool());
    let hosts = HostTable::new(served.map(|c| c.hostnames.as_slice()));
    Ok((Snapshot { settings: Arc::clone(settings), clusters, hosts, pages }, changes))
}

fn initial_directory(source: &Directory, last: Option<Arc<LoadedDirectory>>) -> Arc<LoadedDirectory> {
    let (entries, origin) = match source {
        Directory::Static(entries) => (entries, DirectoryOrigin::Configuration),
        Directory::File { path, entries } => (entries, DirectoryOrigin::File(path.clone())),
        Directory::Cldbdir(_) => return last.unwrap_or_else(|| Arc::new(LoadedDirectory::empty())),
    };
    Arc::new(LoadedDirectory::new(entries.take(), origin, Vec::new()))
}

impl Snapshot {
    /// Every enabled port of every server, as cluster, view, index of the server and port.
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

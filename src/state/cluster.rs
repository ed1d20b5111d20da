//! A cluster as it runs: settings turned into what the request path uses, and the current view.
//!
//! In: one cluster's settings, and what was kept from the time before a reload. Out: views. A new
//! `Cluster` is built on every reload; [`Kept`] and the members live on.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::cluster_view::{ClusterView, PeerSettings, UpstreamServer};
use super::directory::LoadedDirectory;
use super::persistent::PersistentState;
use super::preflight::{PreflightProbes, upstream_client};
use crate::config::Settings;
use crate::config::settings::{self, Availability, AvailabilitySource, Server};
use crate::discovery::domino::DominoClient;
use crate::domain::affinity::{CookieClassifier, CookieKeys, cookie};
use crate::domain::cluster::HostPort;
use crate::domain::cluster::{
    ClusterServer, HealthSettings, Port, ReportSource, ServerHealth, Transition, load,
};
use crate::domain::select;
use crate::domain::url::UnsafeCommands;
use crate::util::clock;

/// See the module's description.
#[derive(Debug)]
pub struct Cluster {
    /// From the configuration.
    pub settings: Arc<settings::ClusterSettings>,
    /// Rules of selection.
    pub selection_policy: select::SelectionPolicy,
    /// What acts.
    pub commands: UnsafeCommands,
    /// Of the affinity cookie.
    pub affinity_keys: CookieKeys,
    /// Cookies that mean something: the affinity cookie and the servers' sessions; none with `mode: off`.
    pub cookies: CookieClassifier,
    /// Reads Domino: directory, names, statistics, probes.
    pub client: DominoClient,
    /// What outlives a reload.
    pub persistent_state: Arc<PersistentState>,
    /// The current picture.
    pub view: ArcSwap<ClusterView>,
    /// Notified after each change of `view`, for the one task that polls the sources of its servers.
    pub view_changed: Notify,
    view_inputs: Mutex<ViewInputs>,
    peers: PeerSettings,
}

/// What a view is made of.
#[derive(Debug)]
pub struct ViewInputs {
    /// The members.
    pub servers: Vec<Server>,
    /// Of their host names, as far as they resolve.
    pub addresses: HashMap<HostPort, SocketAddr>,
    /// What is known already.
    pub directory: Arc<LoadedDirectory>,
}

/// Which of the changes that a new configuration makes to members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerChanges {
    /// Those that take no server away that serves now.
    NonDisruptive,
    /// Also those that do.
    All,
}

/// Members' changes of state, to be told.
pub type Transitions = Vec<(Arc<ClusterServer>, Transition)>;

impl Cluster {
    /// Builds a cluster. Members that are known keep their history; those that are not begin with what was found out
    /// about them. What the new settings take away from members stays until [`Cluster::apply_server_changes`]: the old
    /// cluster serves with the same members until this one does. The transitions come beside it.
    #[must_use]
    pub fn new(
        settings: Arc<settings::ClusterSettings>,
        process: &Settings,
        fallback_secret: &[u8],
        persistent_state: Arc<PersistentState>,
        view_inputs: ViewInputs,
        join_probes: &PreflightProbes,
    ) -> (Self, Transitions) {
        let failover = &settings.failover;
        let range = settings.availability.iter().map(|a| a.range).max().unwrap_or(6);
        let selection_policy = select::SelectionPolicy {
            drain_timeout_ms: clock::saturating_millis(settings.affinity.drain_timeout),
            slow_start_ms: clock::saturating_millis(failover.slow_start),
            max_in_flight: u32::try_from(settings.limits.max_requests_in_flight_per_server)
                .unwrap_or(u32::MAX),
            try_unreachable: failover.last_resort == settings::LastResort::TryUnreachable,
            transinfo_range: range,
        };
        let peers = PeerSettings {
            connect_timeout: failover.connect_timeout,
            response_timeout: failover.response_timeout,
            websocket_idle: process.limits.websocket_idle,
            verify: settings.upstream_tls.verify,
            ca_certificates: crate::discovery::domino::tls::ca_certificates(&settings.upstream_tls),
            group: pool_group_key(&settings.name, &settings.upstream_tls),
        };
        let keys = if settings.affinity.secrets.is_empty() {
            CookieKeys::new([fallback_secret])
        } else {
            CookieKeys::new(settings.affinity.secrets.iter().map(|s| &*s.0))
        };
        let keys = keys.for_cluster(&settings.name);
        let affinity = &settings.affinity;
        let cookies = match affinity.enabled {
            true => CookieClassifier::new(&affinity.cookie, &affinity.session_cookies),
            false => CookieClassifier::new("", &[]),
        };
        let cookies = cookies.with_style(affinity.session_cookie_style);
        let client = upstream_client(&settings, process);
        let cluster = Self {
            selection_policy,
            commands: UnsafeCommands::new(&failover.unsafe_commands),
            affinity_keys: keys,
            cookies,
            client,
            view: ArcSwap::from_pointee(ClusterView::new(Vec::new(), Arc::clone(&view_inputs.directory))),
            view_changed: Notify::new(),
            view_inputs: Mutex::new(view_inputs),
            peers,
            persistent_state,
            settings,
        };
        let mut transitions = cluster.rebuild_view(join_probes);
        transitions.extend(cluster.apply_server_changes_in(join_probes, ServerChanges::NonDisruptive));
        (cluster, transitions)
    }

    /// The availability sources of a server: its own, else the cluster's.
    #[must_use]
    pub fn availability_sources<'a>(&'a self, server: &'a Server) -> &'a [Availability] {
        if server.availability.is_empty() { &self.settings.availability } else { &server.availability }
    }

    /// Takes a new list of members (from `names`).
    pub fn set_servers(
        &self,
        servers: Vec<Server>,
        addresses: HashMap<HostPort, SocketAddr>,
        join_probes: &PreflightProbes,
    ) -> Transitions {
        {
            let mut view_inputs = self.lock_inputs();
            view_inputs.servers = servers;
            view_inputs.addresses.extend(addresses);
        }
        let mut transitions = self.rebuild_view(join_probes);
        transitions.extend(self.apply_server_changes(join_probes));
        transitions
    }

    /// Takes renewed addresses; nothing happens when none differs.
    pub fn set_addresses(&self, addresses: HashMap<HostPort, SocketAddr>) -> Transitions {
        {
            let mut view_inputs = self.lock_inputs();
            if addresses.iter().all(|(name, address)| view_inputs.addresses.get(name) == Some(address)) {
                return Vec::new();
            }
            view_inputs.addresses.extend(addresses);
        }
        let join_probes = PreflightProbes::default();
        let mut transitions = self.rebuild_view(&join_probes);
        transitions.extend(self.apply_server_changes(&join_probes));
        transitions
    }

    /// Takes a new directory.
    pub fn set_directory(&self, directory: Arc<LoadedDirectory>) {
        self.lock_inputs().directory = directory;
        self.rebuild_view(&PreflightProbes::default());
    }

    /// The members as configured or read now.
    #[must_use]
    pub fn servers(&self) -> Vec<Server> {
        self.lock_inputs().servers.clone()
    }

    /// All known addresses, for a cluster that takes this one's place.
    #[must_use]
    pub fn addresses(&self) -> HashMap<HostPort, SocketAddr> {
        self.lock_inputs().addresses.clone()
    }

    fn lock_inputs(&self) -> parking_lot::MutexGuard<'_, ViewInputs> {
        self.view_inputs.lock()
    }

    /// Makes a new view of the parts. Members that are new begin with what was found out about them.
    fn rebuild_view(&self, join_probes: &PreflightProbes) -> Transitions {
        let view_inputs = self.lock_inputs();
        let now = clock::now_ms();
        let mut transitions = Vec::new();
        let entries = view_inputs
            .servers
            .iter()
            .map(|server| {
                let addresses = [&server.http, &server.https].map(|port| {
                    port.as_ref()
                        .and_then(|p| p.literal_address().or_else(|| view_inputs.addresses.get(p).copied()))
                });
                let (member, is_new) = self.get_or_create_server(server, now);
                for (port, address) in [Port::Http, Port::Https].into_iter().zip(addresses) {
                    if !is_new {
                        break;
                    }
                    member.set_address(port, address);
                    if let Some(result) = address.and_then(|at| join_probes.result(&server.name, port, at)) {
                        let change = member.probed(port, result, now);
                        transitions.extend(change.map(|t| (Arc::clone(&member), t)));
                    }
                }
                let tags =
                    self.affinity_keys.tags(&self.settings.name, "server", server.name.folded().as_bytes());
                UpstreamServer::new(member, server.clone(), addresses, tags, &self.peers)
            })
            .collect();
        // Whoever has left is forgotten: if it joins again it is new, and UNREACHABLE until probed.
        let stays = |name: &str| view_inputs.servers.iter().any(|s| s.name.folded() == name);
        self.persistent_state.members.lock().retain(|name, _| stays(name));
        self.view.store(Arc::new(ClusterView::new(entries, Arc::clone(&view_inputs.directory))));
        self.view_changed.notify_one();
        transitions
    }

    /// Gives members that were known before what is new about them, once this cluster's view serves.
    pub fn apply_server_changes(&self, join_probes: &PreflightProbes) -> Transitions {
        self.apply_server_changes_in(join_probes, ServerChanges::All)
    }

    /// Whatever takes nothing away from a member may be done while the old view serves, and must be: the new one may rest
    /// on it. The rest waits, as that may rest on members that the old view does not have.
    fn apply_server_changes_in(&self, join_probes: &PreflightProbes, changes: ServerChanges) -> Transitions {
        let now = clock::now_ms();
        let mut transitions = Vec::new();
        for entry in &self.view.load_full().entries {
            let (member, server) = (&entry.server, &entry.config);
            let moved = |port: Port| member.last_address(port) != entry.address(port);
            let answers = |port: Port| {
                let address = entry.address(port);
                address
                    .is_some_and(|at| join_probes.result(&server.name, port, at).is_some_and(|r| r.is_ok()))
            };
            let all = changes == ServerChanges::All;
            let keeps = |port: Port| member.last_address(port).is_none() || entry.host_port(port).is_some();
            if all || (!server.restricted && keeps(Port::Http) && keeps(Port::Https)) {
                let (settings, sources) = (self.health_settings(server), self.report_sources(server));
                let change = member.reconfigure(settings, &sources, server.weight, now);
                transitions.extend(change.map(|t| (Arc::clone(member), t)));
            }
            // A port at another address, or enabled again, is another port: UNREACHABLE until probed.
            for port in [Port::Http, Port::Https].into_iter().filter(|port| moved(*port)) {
                if all || answers(port) {
                    let address = entry.address(port);
                    member.set_address(port, address);
                    let result = address.and_then(|at| join_probes.result(&server.name, port, at));
                    let change = member.address_changed(port, result, now);
                    transitions.extend(change.map(|t| (Arc::clone(member), t)));
                }
            }
        }
        transitions
    }

    fn get_or_create_server(&self, server: &Server, now: u64) -> (Arc<ClusterServer>, bool) {
        let mut members = self.persistent_state.members.lock();
        if let Some(member) = members.get(server.name.folded()) {
            return (Arc::clone(member), false);
        }
        let number = cookie::stable_tag(&self.settings.name, "server", server.name.folded().as_bytes());
        let mut health = ServerHealth::new(self.health_settings(server), &self.report_sources(server), now);
        {
            let admin_restrictions = self.persistent_state.admin_restrictions.lock();
            if let Some(restriction) = admin_restrictions.local.get(&server.name) {
                let _ = health.restrict(Some(restriction.clone()), now);
            }
            if let Some(all) = admin_restrictions.from_followed_icm.get(&server.name) {
                let _ = health.restrict_elsewhere(all.clone(), now);
            }
        }
        let member = Arc::new(ClusterServer::new(server.name.clone(), number, server.weight, health));
        // What the configuration restricts is restricted from the first moment on.
        member.tick(self.selection_policy.transinfo_range, 0, &load::Peers::default(), now);
        members.insert(server.name.folded().to_owned(), Arc::clone(&member));
        (member, true)
    }

    fn health_settings(&self, server: &Server) -> HealthSettings {
        HealthSettings {
            http: server.http.is_some(),
            https: server.https.is_some(),
            healthy_after: self.settings.probe.healthy_after,
            unreachable_after: self.settings.probe.unreachable_after,
            passive_failures: self.settings.failover.passive_failures,
            threshold: server.threshold,
            restricted: server.restricted,
            max_users: server.max_users,
            uses_http: self.settings.uses(Port::Http),
            uses_https: self.settings.uses(Port::Https),
        }
    }

    fn report_sources(&self, server: &Server) -> Vec<ReportSource> {
        let source = |a: &Availability| ReportSource {
            kind: match a.source {
                AvailabilitySource::Observed => "observed",
                AvailabilitySource::Console { .. } => "console",
                AvailabilitySource::Prometheus { .. } => "prometheus",
                AvailabilitySource::AgentCheck { .. } => "agent_check",
                AvailabilitySource::Statpub => "statpub",
            },
            stale_after_ms: clock::saturating_millis(a.stale_after),
        };
        self.availability_sources(server).iter().map(source).collect()
    }
}

/// Connections verified against different authorities must not share a pool.
fn pool_group_key(cluster: &str, tls: &settings::UpstreamTls) -> u64 {
    use std::hash::{BuildHasher, Hash, Hasher};
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    cluster.hash(&mut hasher);
    tls.verify.hash(&mut hasher);
    tls.ca.hash(&mut hasher);
    hasher.finish()
}

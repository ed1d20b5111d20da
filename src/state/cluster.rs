//! A cluster as it runs: settings turned into what the request path uses, and the current view.
//!
//! In: one cluster's settings, and what was kept from the time before a reload. Out: views. A new
//! `Cluster` is built on every reload; [`Kept`] and the members live on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::directory::Loaded;
use super::first_probes::{FirstProbes, upstream_client};
use super::persistent::PersistentState;
use super::view::{PeerSettings, UpstreamServer, View};
use crate::config::Settings;
use crate::config::settings::{self, Availability, AvailabilitySource, Server};
use crate::discovery::domino::Client;
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
    pub settings: Arc<settings::Cluster>,
    /// Rules of selection.
    pub rules: select::SelectionPolicy,
    /// What acts.
    pub commands: UnsafeCommands,
    /// Of the affinity cookie.
    pub keys: CookieKeys,
    /// Cookies that mean something: the affinity cookie and the servers' sessions; none with `mode: off`.
    pub cookies: CookieClassifier,
    /// Reads Domino: directory, names, statistics, probes.
    pub client: Client,
    /// What outlives a reload.
    pub kept: Arc<PersistentState>,
    /// The current picture.
    pub view: ArcSwap<View>,
    /// Notified after each change of `view`, for the one task that polls the sources of its servers.
    pub view_changed: Notify,
    parts: Mutex<Parts>,
    peers: PeerSettings,
}

/// What a view is made of.
#[derive(Debug)]
pub struct Parts {
    /// The members.
    pub servers: Vec<Server>,
    /// Of their host names, as far as they resolve.
    pub addresses: HashMap<HostPort, SocketAddr>,
    /// What is known already.
    pub directory: Arc<Loaded>,
}

/// Which of the changes that a new configuration makes to members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changes {
    /// Those that take no server away that serves now.
    Harmless,
    /// Also those that do.
    All,
}

/// Members' changes of state, to be told.
pub type Transitions = Vec<(Arc<ClusterServer>, Transition)>;

impl Cluster {
    /// Builds a cluster. Members that are known keep their history; those that are not begin with what was found out
    /// about them. What the new settings take away from members stays until [`Cluster::renew_members`]: the old
    /// cluster serves with the same members until this one does. The transitions come beside it.
    #[must_use]
    pub fn new(
        settings: Arc<settings::Cluster>,
        process: &Settings,
        fallback_secret: &[u8],
        kept: Arc<PersistentState>,
        parts: Parts,
        first: &FirstProbes,
    ) -> (Self, Transitions) {
        let failover = &settings.failover;
        let range = settings.availability.iter().map(|a| a.range).max().unwrap_or(6);
        let rules = select::SelectionPolicy {
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
            authorities: crate::discovery::domino::tls::authorities(&settings.upstream_tls),
            group: trust_group(&settings.name, &settings.upstream_tls),
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
            rules,
            commands: UnsafeCommands::new(&failover.unsafe_commands),
            keys,
            cookies,
            client,
            view: ArcSwap::from_pointee(View::new(Vec::new(), Arc::clone(&parts.directory))),
            view_changed: Notify::new(),
            parts: Mutex::new(parts),
            peers,
            kept,
            settings,
        };
        let mut transitions = cluster.rebuild(first);
        transitions.extend(cluster.renew(first, Changes::Harmless));
        (cluster, transitions)
    }

    /// The availability sources of a server: its own, else the cluster's.
    #[must_use]
    pub fn sources<'a>(&'a self, server: &'a Server) -> &'a [Availability] {
        if server.availability.is_empty() { &self.settings.availability } else { &server.availability }
    }

    /// Takes a new list of members (from `names`).
    pub fn set_servers(
        &self,
        servers: Vec<Server>,
        addresses: HashMap<HostPort, SocketAddr>,
        first: &FirstProbes,
    ) -> Transitions {
        {
            let mut parts = self.lock();
            parts.servers = servers;
            parts.addresses.extend(addresses);
        }
        let mut transitions = self.rebuild(first);
        transitions.extend(self.renew_members(first));
        transitions
    }

    /// Takes renewed addresses; nothing happens when none differs.
    pub fn set_addresses(&self, addresses: HashMap<HostPort, SocketAddr>) -> Transitions {
        {
            let mut parts = self.lock();
            if addresses.iter().all(|(name, address)| parts.addresses.get(name) == Some(address)) {
                return Vec::new();
            }
            parts.addresses.extend(addresses);
        }
        let first = FirstProbes::default();
        let mut transitions = self.rebuild(&first);
        transitions.extend(self.renew_members(&first));
        transitions
    }

    /// Takes a new directory.
    pub fn set_directory(&self, directory: Arc<Loaded>) {
        self.lock().directory = directory;
        self.rebuild(&FirstProbes::default());
    }

    /// The members as configured or read now.
    #[must_use]
    pub fn servers(&self) -> Vec<Server> {
        self.lock().servers.clone()
    }

    /// All known addresses, for a cluster that takes this one's place.
    #[must_use]
    pub fn addresses(&self) -> HashMap<HostPort, SocketAddr> {
        self.lock().addresses.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new view of the parts. Members that are new begin with what was found out about them.
    fn rebuild(&self, first: &FirstProbes) -> Transitions {
        let parts = self.lock();
        let now = clock::now_ms();
        let mut transitions = Vec::new();
        let entries = parts
            .servers
            .iter()
            .map(|server| {
                let addresses = [&server.http, &server.https].map(|port| {
                    port.as_ref().and_then(|p| p.literal().or_else(|| parts.addresses.get(p).copied()))
                });
                let (member, is_new) = self.member(server, now);
                for (port, address) in [Port::Http, Port::Https].into_iter().zip(addresses) {
                    if !is_new {
                        break;
                    }
                    member.set_address(port, address);
                    if let Some(result) = address.and_then(|at| first.result(&server.name, port, at)) {
                        let change = member.probed(port, result, now);
                        transitions.extend(change.map(|t| (Arc::clone(&member), t)));
                    }
                }
                let tags = self.keys.tags(&self.settings.name, "server", server.name.folded().as_bytes());
                UpstreamServer::new(member, server.clone(), addresses, tags, &self.peers)
            })
            .collect();
        // Whoever has left is forgotten: if it joins again it is new, and UNREACHABLE until probed.
        let stays = |name: &str| parts.servers.iter().any(|s| s.name.folded() == name);
        self.kept.members.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| stays(name));
        self.view.store(Arc::new(View::new(entries, Arc::clone(&parts.directory))));
        self.view_changed.notify_one();
        transitions
    }

    /// Gives members that were known before what is new about them, once this cluster's view serves.
    pub fn renew_members(&self, first: &FirstProbes) -> Transitions {
        self.renew(first, Changes::All)
    }

    /// Whatever takes nothing away from a member may be done while the old view serves, and must be: the new one may rest
    /// on it. The rest waits, as that may rest on members that the old view does not have.
    fn renew(&self, first: &FirstProbes, changes: Changes) -> Transitions {
        let now = clock::now_ms();
        let mut transitions = Vec::new();
        for entry in &self.view.load_full().entries {
            let (member, server) = (&entry.member, &entry.server);
            let moved = |port: Port| member.last_address(port) != entry.address(port);
            let answers = |port: Port| {
                let address = entry.address(port);
                address.is_some_and(|at| first.result(&server.name, port, at).is_some_and(|r| r.is_ok()))
            };
            let all = changes == Changes::All;
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
                    let result = address.and_then(|at| first.result(&server.name, port, at));
                    let change = member.address_changed(port, result, now);
                    transitions.extend(change.map(|t| (Arc::clone(member), t)));
                }
            }
        }
        transitions
    }

    fn member(&self, server: &Server, now: u64) -> (Arc<ClusterServer>, bool) {
        let mut members = self.kept.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(server.name.folded()) {
            return (Arc::clone(member), false);
        }
        let number = cookie::stable_tag(&self.settings.name, "server", server.name.folded().as_bytes());
        let mut health = ServerHealth::new(self.health_settings(server), &self.report_sources(server), now);
        {
            let orders = self.kept.orders.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(restriction) = orders.here.get(&server.name) {
                let _ = health.restrict(Some(restriction.clone()), now);
            }
            if let Some(all) = orders.elsewhere.get(&server.name) {
                let _ = health.restrict_elsewhere(all.clone(), now);
            }
        }
        let member = Arc::new(ClusterServer::new(server.name.clone(), number, server.weight, health));
        // What the configuration restricts is restricted from the first moment on.
        member.tick(self.rules.transinfo_range, 0, &load::Peers::default(), now);
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
        self.sources(server).iter().map(source).collect()
    }
}

/// Connections verified against different authorities must not share a pool.
fn trust_group(cluster: &str, tls: &settings::UpstreamTls) -> u64 {
    use std::hash::{BuildHasher, Hash, Hasher};
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    cluster.hash(&mut hasher);
    tls.verify.hash(&mut hasher);
    tls.ca.hash(&mut hasher);
    hasher.finish()
}

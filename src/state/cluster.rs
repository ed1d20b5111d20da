//! A running cluster: its settings in the form that requests use, and its current view. Every reload builds a new one;
//! the servers and the [`PersistentState`] stay.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::cluster_view::{ClusterView, PeerSettings, UpstreamServer};
use super::directory::LoadedDirectory;
use super::marks::DirectoryMarks;
use super::persistent::PersistentState;
use super::preflight::{PreflightProbes, upstream_client};
use crate::config::Settings;
use crate::config::settings::{self, Availability, Server};
use crate::discovery::domino::DominoClient;
use crate::domain::affinity::{CookieClassifier, CookieKeys, cookie};
use crate::domain::cluster::{
    ClusterServer, HealthSettings, HostPort, Port, ReportSource, ServerHealth, SiteName, Transition, load,
};
use crate::domain::rules::{AccessEffect, SiteRules};
use crate::domain::select;
use crate::domain::url::UnsafeCommands;
use crate::telemetry::statistics::request_counter::RequestCounter;
use crate::util::clock;

/// A running cluster; replaced by every reload.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) settings: Arc<settings::ClusterSettings>,
    /// The site of this ICM.
    pub(crate) site: Option<SiteName>,
    /// The rules of selection, derived from the settings.
    pub selection_policy: select::SelectionPolicy,
    pub(crate) commands: UnsafeCommands,
    /// Its part of the keys of cached responses: the name, and what of the settings changes responses.
    pub(crate) cache_key: Box<str>,
    /// Sign and verify the affinity cookie.
    pub affinity_keys: CookieKeys,
    /// Recognises the affinity cookie and the servers' session cookies; nothing with `mode: off`.
    pub(crate) cookies: CookieClassifier,
    /// Denied requests, by the position of the access rule.
    denied: Box<[Arc<AtomicU64>]>,
    /// What stands in the cookie of a pool instead of the tag of a database; `None` for a cluster.
    pub(crate) pool_tag: Option<u32>,
    /// Reads from Domino: directory, Server documents, statistics, probes.
    pub(crate) client: DominoClient,
    pub(crate) persistent_state: Arc<PersistentState>,
    /// The requests that took each route, in the order of the routes.
    pub(crate) route_requests: Vec<Arc<RequestCounter>>,
    /// The current view; a request loads it once.
    pub view: ArcSwap<ClusterView>,
    /// Notified after each change of servers or addresses, for the one task that polls the sources of its servers.
    pub(super) servers_changed: Notify,
    view_inputs: Mutex<ViewInputs>,
    peers: PeerSettings,
}

/// What a view is built from.
#[derive(Debug)]
pub struct ViewInputs {
    pub servers: Vec<Server>,
    /// Addresses of the host names that resolve.
    pub addresses: HashMap<HostPort, SocketAddr>,
    pub directory: Arc<LoadedDirectory>,
    /// As they were last read; empty unless `site_rules` says that they are read.
    pub site_rules: Arc<SiteRules>,
}

/// Cached responses have the fields that these settings give them, and the content that the routes lead to. After a change
/// they are not found any more.
fn cache_key(settings: &settings::ClusterSettings) -> String {
    let relevant = format!("{:?} {:?}", settings.headers, settings.routes);
    format!("{} {:08x}", settings.name, crc32fast::hash(relevant.as_bytes()))
}

/// Which changes of a new configuration to apply to servers that were known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerChanges {
    /// Only those that make no server unavailable.
    NonDisruptive,
    All,
}

/// Changes of state that the caller must log.
pub type Transitions = Vec<(Arc<ClusterServer>, Transition)>;

impl Cluster {
    /// Builds a cluster. Known servers keep their history; new ones begin with the result of their probe in
    /// `join_probes`. Changes that make a server unavailable wait for [`Cluster::apply_server_changes`], because the old
    /// cluster uses the same servers until it is replaced.
    #[must_use]
    pub(crate) fn new(
        settings: Arc<settings::ClusterSettings>,
        process: &Settings,
        generated_affinity_key: &[u8],
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
            cross_sites: settings.cross_sites,
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
            CookieKeys::new([generated_affinity_key])
        } else {
            CookieKeys::new(settings.affinity.secrets.iter().map(|s| &*s.0))
        };
        let keys = keys.for_cluster(&settings.name);
        let pool_tag =
            settings.is_pool().then(|| keys.database_tag(cookie::stable_tag(&settings.name, "pool", b"")));
        let affinity = &settings.affinity;
        let cookies = match affinity.enabled {
            true => CookieClassifier::new(&affinity.cookie, &affinity.session_cookies),
            false => CookieClassifier::new("", &[]),
        };
        let cookies =
            cookies.with_style(affinity.session_cookie_style).with_siblings(&settings.sibling_cookies);
        let client = upstream_client(&settings, process);
        let denied = persistent_state.denied.of_rules(settings.access.rules().iter().map(|rule| &*rule.name));
        let counter = |route: &Arc<settings::Route>| persistent_state.route_counter(&route.name);
        let route_requests = settings.routes.iter().map(counter).collect();
        let cluster = Self {
            site: process.site.clone(),
            selection_policy,
            commands: UnsafeCommands::new(&failover.unsafe_commands),
            cache_key: cache_key(&settings).into(),
            affinity_keys: keys,
            cookies,
            denied,
            pool_tag,
            client,
            view: ArcSwap::from_pointee(ClusterView::new(
                Vec::new(),
                Arc::clone(&view_inputs.directory),
                Arc::clone(&persistent_state.freshness),
                DirectoryMarks::of(&settings.directory),
                &view_inputs.site_rules,
            )),
            servers_changed: Notify::new(),
            view_inputs: Mutex::new(view_inputs),
            peers,
            persistent_state,
            route_requests,
            settings,
        };
        let mut transitions = cluster.rebuild_view(join_probes);
        transitions.extend(cluster.apply_server_changes_in(join_probes, ServerChanges::NonDisruptive));
        (cluster, transitions)
    }

    /// Counts a request that a rule of `access` denied.
    pub(crate) fn count_denied(&self, rule: usize) {
        if let Some(count) = self.denied.get(rule) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// How many requests each denying rule of `access` has denied.
    pub(crate) fn denied_by_rule(&self) -> impl Iterator<Item = (&str, u64)> {
        let rules = self.settings.access.rules().iter().enumerate().filter(|(at, rule)| {
            // Rules with one name share a count.
            rule.effect != AccessEffect::Allow
                && !self.settings.access.rules().iter().take(*at).any(|before| before.name == rule.name)
        });
        rules.filter_map(|(at, rule)| Some((&*rule.name, self.denied.get(at)?.load(Relaxed))))
    }

    /// The availability sources of a server: its own, else the cluster's.
    #[must_use]
    pub(crate) fn availability_sources<'a>(&'a self, server: &'a Server) -> &'a [Availability] {
        if server.availability.is_empty() { &self.settings.availability } else { &server.availability }
    }

    /// Whether sites matter here: this ICM has one, and so has a server.
    #[must_use]
    pub(crate) fn has_sites(&self) -> bool {
        self.site.is_some() && self.view.load().entries.iter().any(|entry| entry.config.site.is_some())
    }

    /// Takes a new list of servers, read from Server documents.
    pub(crate) fn set_servers(
        &self,
        servers: Vec<Server>,
        addresses: HashMap<HostPort, SocketAddr>,
        join_probes: &PreflightProbes,
    ) -> Transitions {
        {
            let mut view_inputs = self.view_inputs.lock();
            view_inputs.servers = servers;
            view_inputs.addresses.extend(addresses);
        }
        let mut transitions = self.rebuild_view(join_probes);
        self.servers_changed.notify_one();
        transitions.extend(self.apply_server_changes(join_probes));
        transitions
    }

    /// Takes newly resolved addresses. Does nothing if none differs.
    pub(crate) fn set_addresses(&self, addresses: HashMap<HostPort, SocketAddr>) -> Transitions {
        {
            let mut view_inputs = self.view_inputs.lock();
            if addresses.iter().all(|(name, address)| view_inputs.addresses.get(name) == Some(address)) {
                return Vec::new();
            }
            view_inputs.addresses.extend(addresses);
        }
        let join_probes = PreflightProbes::default();
        let mut transitions = self.rebuild_view(&join_probes);
        self.servers_changed.notify_one();
        transitions.extend(self.apply_server_changes(&join_probes));
        transitions
    }

    /// Replaces the directory by one swap of the view.
    pub fn set_directory(&self, directory: Arc<LoadedDirectory>) {
        directory.carry_request_counts(&self.view.load().directory);
        self.view_inputs.lock().directory = directory;
        self.rebuild_view(&PreflightProbes::default());
    }

    /// Takes new rules of the site by one swap of the view. Returns false if they are those in use.
    pub(crate) fn set_site_rules(&self, rules: SiteRules) -> bool {
        {
            let mut view_inputs = self.view_inputs.lock();
            if *view_inputs.site_rules == rules {
                return false;
            }
            view_inputs.site_rules = Arc::new(rules);
        }
        self.rebuild_view(&PreflightProbes::default());
        true
    }

    /// The rules of the site, for the cluster that replaces this one.
    #[must_use]
    pub(crate) fn site_rules(&self) -> Arc<SiteRules> {
        Arc::clone(&self.view_inputs.lock().site_rules)
    }

    #[must_use]
    pub(crate) fn servers(&self) -> Vec<Server> {
        self.view_inputs.lock().servers.clone()
    }

    /// All resolved addresses, for the cluster that replaces this one.
    #[must_use]
    pub(crate) fn addresses(&self) -> HashMap<HostPort, SocketAddr> {
        self.view_inputs.lock().addresses.clone()
    }

    fn rebuild_view(&self, join_probes: &PreflightProbes) -> Transitions {
        let view_inputs = self.view_inputs.lock();
        let now = clock::now_ms();
        let mut transitions = Vec::new();
        let entries = view_inputs
            .servers
            .iter()
            .map(|config| {
                let addresses = [&config.http, &config.https].map(|port| {
                    port.as_ref()
                        .and_then(|p| p.literal_address().or_else(|| view_inputs.addresses.get(p).copied()))
                });
                let (server, is_new) = self.get_or_create_server(config, now);
                if is_new {
                    for (port, address) in [Port::Http, Port::Https].into_iter().zip(addresses) {
                        server.set_address(port, address);
                        if let Some(result) =
                            address.and_then(|at| join_probes.result(&config.name, port, at))
                        {
                            let change = server.probed(port, result, now);
                            transitions.extend(change.map(|t| (Arc::clone(&server), t)));
                        }
                    }
                }
                let tags =
                    self.affinity_keys.tags(&self.settings.name, "server", config.name.folded().as_bytes());
                UpstreamServer::new(server, config.clone(), addresses, tags, &self.peers, self.site.as_ref())
            })
            .collect();
        // A server that leaves and joins again is new, and UNREACHABLE until probed.
        let stays = |name: &str| view_inputs.servers.iter().any(|s| s.name.folded() == name);
        self.persistent_state.servers.lock().retain(|name, _| stays(name));
        let freshness = Arc::clone(&self.persistent_state.freshness);
        let marks = DirectoryMarks::of(&self.settings.directory);
        let directory = Arc::clone(&view_inputs.directory);
        let view = ClusterView::new(entries, directory, freshness, marks, &view_inputs.site_rules);
        self.view.store(Arc::new(view));
        transitions
    }

    /// Applies the new settings and addresses to servers that were known before, once this cluster's view is in use.
    pub(crate) fn apply_server_changes(&self, join_probes: &PreflightProbes) -> Transitions {
        self.apply_server_changes_in(join_probes, ServerChanges::All)
    }

    /// A reload calls this twice. Before the swap it makes servers available that the new view may depend on; after the
    /// swap it makes servers unavailable that the old view may have depended on.
    fn apply_server_changes_in(&self, join_probes: &PreflightProbes, changes: ServerChanges) -> Transitions {
        let now = clock::now_ms();
        let mut transitions = Vec::new();
        for entry in &self.view.load_full().entries {
            let (server, config) = (&entry.server, &entry.config);
            let all = changes == ServerChanges::All;
            let keeps = |port: Port| server.last_address(port).is_none() || entry.host_port(port).is_some();
            if all || (!config.restricted && keeps(Port::Http) && keeps(Port::Https)) {
                let (settings, sources) = (self.health_settings(config), self.report_sources(config));
                let change = server.reconfigure(settings, &sources, config.weight, now);
                transitions.extend(change.map(|t| (Arc::clone(server), t)));
            }
            // A port with a new address, or enabled again, is UNREACHABLE until probed.
            for port in [Port::Http, Port::Https] {
                let address = entry.address(port);
                let result = address.and_then(|at| join_probes.result(&config.name, port, at));
                let moved = server.last_address(port) != address;
                if moved && (all || result.is_some_and(|result| result.is_ok())) {
                    server.set_address(port, address);
                    let change = server.address_changed(port, result, now);
                    transitions.extend(change.map(|t| (Arc::clone(server), t)));
                }
            }
        }
        transitions
    }

    fn get_or_create_server(&self, config: &Server, now: u64) -> (Arc<ClusterServer>, bool) {
        let mut servers = self.persistent_state.servers.lock();
        if let Some(server) = servers.get(config.name.folded()) {
            return (Arc::clone(server), false);
        }
        let tag = cookie::stable_tag(&self.settings.name, "server", config.name.folded().as_bytes());
        let mut health = ServerHealth::new(self.health_settings(config), &self.report_sources(config), now);
        {
            let admin_restrictions = self.persistent_state.admin_restrictions.lock();
            if let Some(restriction) = admin_restrictions.local.get(&config.name) {
                let _ = health.restrict(Some(restriction.clone()), now);
            }
            if let Some(all) = admin_restrictions.from_followed_icm.get(&config.name) {
                let _ = health.restrict_elsewhere(all.clone(), now);
            }
        }
        let server = Arc::new(ClusterServer::new(config.name.clone(), tag, config.weight, health));
        // Publishes the health, so that a restriction in the configuration holds from the start.
        server.tick(self.selection_policy.transinfo_range, 0, &load::Peers::default(), now);
        // A server that left while it was away, or one of a process before this one.
        let _ = self.persistent_state.catch_up.restore(&server);
        servers.insert(config.name.folded().to_owned(), Arc::clone(&server));
        (server, true)
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
            catch_up_after_ms: Some(&self.settings.catch_up)
                .filter(|catch_up| catch_up.enabled)
                .map(|catch_up| clock::saturating_millis(catch_up.after)),
        }
    }

    fn report_sources(&self, server: &Server) -> Vec<ReportSource> {
        let source = |a: &Availability| ReportSource {
            kind: a.source.kind(),
            stale_after_ms: clock::saturating_millis(a.stale_after),
        };
        self.availability_sources(server).iter().map(source).collect()
    }
}

/// Connections verified against different certificate authorities must not share a pool.
fn pool_group_key(cluster: &str, tls: &settings::UpstreamTls) -> u64 {
    use std::hash::{BuildHasher, Hash, Hasher};
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    cluster.hash(&mut hasher);
    tls.verify.hash(&mut hasher);
    tls.ca.hash(&mut hasher);
    hasher.finish()
}

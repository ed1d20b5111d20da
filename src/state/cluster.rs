//! A cluster as it runs: settings turned into what the request path uses, and the current view.
//!
//! In: one cluster's settings, and what was kept from the time before a reload. Out: views. A new
//! `Cluster` is built on every reload; [`Kept`] and the members live on.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;
use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::budget::RetryBudget;
use super::directory::Loaded;
use super::first_probes::FirstProbes;
use super::view::{Entry, PeerSettings, View};
use crate::config::Settings;
use crate::config::settings::{self, Availability, AvailabilitySource, Server};
use crate::discovery::directory::Holder;
use crate::discovery::domino::{Client, Sessions};
use crate::domain::affinity::{Cookies, Keys, cookie};
use crate::domain::cluster::HostPort;
use crate::domain::cluster::{Ledger, Member, Port, Restriction, ServerName, Transition, ledger, load};
use crate::domain::select;
use crate::domain::url::CommandTable;
use crate::telemetry::statistics::traffic::Traffic;
use crate::util::clock;

/// What a cluster keeps over reloads, by its name.
#[derive(Debug, Default)]
pub struct Kept {
    /// By folded server name.
    members: Mutex<AHashMap<String, Arc<Member>>>,
    /// What administrators restrict, whether or not it is a member now.
    pub orders: Mutex<Orders>,
    /// Replays of the last ten seconds.
    pub budget: RetryBudget,
    /// How its requests ended.
    pub traffic: Traffic,
    /// Told whenever a request ends, for those that wait for a place.
    pub place_free: Notify,
    /// Told when the directory should be read at once.
    pub read_directory: Notify,
    /// When a 404 last asked for an extra reading, milliseconds.
    pub last_extra_reading: AtomicU64,
    /// The directory was read, or tried in vain, at least once.
    pub directory_tried: AtomicBool,
    /// The members were read, or tried in vain, at least once.
    pub members_tried: AtomicBool,
    /// Logins at the members.
    pub sessions: Sessions,
    /// Judges readings that have lost much.
    pub holder: tokio::sync::Mutex<Holder>,
    /// Why the directory cannot be read now; empty when it can.
    pub directory_trouble: Mutex<String>,
    /// Why the members cannot be read now; empty when they can.
    pub members_trouble: Mutex<String>,
    /// What was doubtful about the last reading of them.
    pub members_warnings: Mutex<Vec<String>>,
}

/// Restrictions by administrators. They are kept beside the members: one that leaves the cluster and comes back
/// is restricted still.
#[derive(Debug, Default)]
pub struct Orders {
    /// Made on this ICM.
    pub here: BTreeMap<ServerName, Restriction>,
    /// Made on the ICM that this one follows, or on those that it follows.
    pub elsewhere: BTreeMap<ServerName, Vec<Restriction>>,
}

impl Kept {
    /// Where a port of a member was last seen; `None` where there is no such member, or no such port.
    #[must_use]
    pub fn last_address(&self, server: &ServerName, port: Port) -> Option<SocketAddr> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.get(server.folded()).and_then(|member| member.last_address(port))
    }

    /// After a reload that reads from elsewhere: the old sources' troubles say nothing of the new ones.
    pub fn forget_sources(&self, members: bool, directory: bool) {
        if members {
            self.members_trouble.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.members_warnings.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        if directory {
            self.directory_trouble.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Cluster {
    /// From the configuration.
    pub settings: Arc<settings::Cluster>,
    /// Rules of selection.
    pub rules: select::Settings,
    /// What acts.
    pub commands: CommandTable,
    /// Of the affinity cookie.
    pub keys: Keys,
    /// Cookies that mean something: the affinity cookie and the servers' sessions; none with `mode: off`.
    pub cookies: Cookies,
    /// Reads Domino: directory, names, statistics, probes.
    pub client: Client,
    /// What outlives a reload.
    pub kept: Arc<Kept>,
    /// The current picture.
    pub view: ArcSwap<View>,
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
pub type Transitions = Vec<(Arc<Member>, Transition)>;

impl Cluster {
    /// Builds a cluster. Members that are known keep their history; those that are not begin with what was found out
    /// about them. What the new settings take away from members stays until [`Cluster::renew_members`]: the old
    /// cluster serves with the same members until this one does. The transitions come beside it.
    #[must_use]
    pub fn new(
        settings: Arc<settings::Cluster>,
        process: &Settings,
        fallback_secret: &[u8],
        kept: Arc<Kept>,
        parts: Parts,
        first: &FirstProbes,
    ) -> (Self, Transitions) {
        let failover = &settings.failover;
        let range = settings.availability.iter().map(|a| a.range).max().unwrap_or(6);
        let rules = select::Settings {
            drain_timeout_ms: clock::whole_ms(settings.affinity.drain_timeout),
            slow_start_ms: clock::whole_ms(failover.slow_start),
            max_in_flight: u32::try_from(settings.limits.max_connections_per_server).unwrap_or(u32::MAX),
            try_unreachable: failover.last_resort == settings::LastResort::TryUnreachable,
            range,
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
            Keys::new([fallback_secret])
        } else {
            Keys::new(settings.affinity.secrets.iter().map(|s| &*s.0))
        };
        let keys = keys.of_cluster(&settings.name);
        let affinity = &settings.affinity;
        let cookies = match affinity.enabled {
            true => Cookies::new(&affinity.cookie, &affinity.session_cookies),
            false => Cookies::new("", &[]),
        };
        let cookies = cookies.with_style(affinity.session_cookie_style);
        let client = Self::client(&settings, process);
        let cluster = Self {
            rules,
            commands: CommandTable::new(&failover.acting_commands),
            keys,
            cookies,
            client,
            view: ArcSwap::from_pointee(View::new(Vec::new(), Arc::clone(&parts.directory))),
            parts: Mutex::new(parts),
            peers,
            kept,
            settings,
        };
        let mut transitions = cluster.rebuild(first);
        transitions.extend(cluster.renew(first, Changes::Harmless));
        (cluster, transitions)
    }

    /// What reads servers and probes them. As for requests, `pingora.ca_file` counts where the cluster names no `ca_file`.
    #[must_use]
    pub fn client(settings: &settings::Cluster, process: &Settings) -> Client {
        let own = &settings.upstream_tls;
        let ca = own.ca.clone().or_else(|| process.upstream_ca.clone());
        let tls = settings::UpstreamTls { ca, ..own.clone() };
        Client::new(&tls, settings.failover.connect_timeout)
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
                    port.as_ref().and_then(|p| literal(p).or_else(|| parts.addresses.get(p).copied()))
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
                Entry::new(member, server.clone(), addresses, tags, &self.peers)
            })
            .collect();
        // Whoever has left is forgotten: if it joins again it is new, and UNREACHABLE until probed.
        let stays = |name: &str| parts.servers.iter().any(|s| s.name.folded() == name);
        self.kept.members.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| stays(name));
        self.view.store(Arc::new(View::new(entries, Arc::clone(&parts.directory))));
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
                let (settings, sources) = (self.ledger_settings(server), self.ledger_sources(server));
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

    fn member(&self, server: &Server, now: u64) -> (Arc<Member>, bool) {
        let mut members = self.kept.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(server.name.folded()) {
            return (Arc::clone(member), false);
        }
        let number = cookie::number(&self.settings.name, "server", server.name.folded().as_bytes());
        let mut ledger = Ledger::new(self.ledger_settings(server), &self.ledger_sources(server), now);
        {
            let orders = self.kept.orders.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(restriction) = orders.here.get(&server.name) {
                let _ = ledger.restrict(Some(restriction.clone()), now);
            }
            if let Some(all) = orders.elsewhere.get(&server.name) {
                let _ = ledger.restrict_elsewhere(all.clone(), now);
            }
        }
        let member = Arc::new(Member::new(server.name.clone(), number, server.weight, ledger));
        // What the configuration restricts is restricted from the first moment on.
        member.tick(self.rules.range, 0, &load::Peers::default(), now);
        members.insert(server.name.folded().to_owned(), Arc::clone(&member));
        (member, true)
    }

    fn ledger_settings(&self, server: &Server) -> ledger::Settings {
        ledger::Settings {
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

    fn ledger_sources(&self, server: &Server) -> Vec<ledger::Source> {
        let source = |a: &Availability| ledger::Source {
            kind: match a.source {
                AvailabilitySource::Observed => "observed",
                AvailabilitySource::Console { .. } => "console",
                AvailabilitySource::Prometheus { .. } => "prometheus",
                AvailabilitySource::AgentCheck { .. } => "agent_check",
                AvailabilitySource::Statpub => "statpub",
            },
            stale_after_ms: clock::whole_ms(a.stale_after),
        };
        self.sources(server).iter().map(source).collect()
    }
}

/// An address literal needs no resolver.
#[must_use]
pub fn literal(at: &HostPort) -> Option<SocketAddr> {
    at.host.parse().ok().map(|ip| SocketAddr::new(ip, at.port))
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

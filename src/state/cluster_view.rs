//! A cluster at one moment: its servers, its directory, and the mapping between the two. Immutable, so a request that
//! has loaded it sees no change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use arc_swap::ArcSwapOption;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, Peer};
use smallvec::SmallVec;

use super::directory::LoadedDirectory;
use super::marks::DirectoryMarks;
use super::site_routes::SiteRoutes;
use crate::config::settings::Server;
use crate::domain::affinity::session_cookies::{UniqueSuffix, unique_suffixes};
use crate::domain::cluster::{ClusterServer, HostPort, Port, ServerName, SiteName};
use crate::domain::directory::{DatabaseId, DatabaseMatch, DirectoryServerId, ReplicaStatus, ServerReplica};
use crate::domain::freshness::{FreshnessTable, ReplicaFreshness};
use crate::domain::rewrite::ServerNames;
use crate::domain::rules::SiteRules;
use crate::domain::select::{Candidate, CandidateFreshness, CandidateVerdict, OwnWrite, ServerId};

/// A server as the proxy uses it.
#[derive(Debug)]
pub struct UpstreamServer {
    /// Its health and counters, which outlive this view.
    pub server: Arc<ClusterServer>,
    /// What the configuration or its Server document says.
    pub config: Server,
    /// Whether it is of another site than this ICM.
    pub of_other_site: bool,
    /// By port; `None` = disabled, or the host name does not resolve.
    pub addresses: [Option<SocketAddr>; 2],
    /// The tags that name it in cookies: the current one, then those of older secrets.
    pub tags: SmallVec<[u32; 2]>,
    peers: [Option<Box<HttpPeer>>; 2],
    /// Equal for peers whose connections are interchangeable.
    pool_keys: [u64; 2],
    tunnels: [Option<Box<HttpPeer>>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    Request,
    /// Switches protocols, as WebSocket does.
    Tunnel,
}

/// What the peers of one cluster have in common.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Limits TCP and TLS together.
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub websocket_idle: Duration,
    pub verify: bool,
    pub ca_certificates: Option<Arc<pingora::protocols::tls::CaType>>,
    /// Keeps pooled connections with different settings apart.
    pub group: u64,
}

/// Shorter than Domino's own idle timeout, so that a pooled connection is rarely closed under a request.
const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const UPSTREAM_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

impl UpstreamServer {
    /// Builds the peers of each port once, so that a request only clones one.
    #[must_use]
    pub fn new(
        server: Arc<ClusterServer>,
        config: Server,
        addresses: [Option<SocketAddr>; 2],
        tags: SmallVec<[u32; 2]>,
        settings: &PeerSettings,
        own_site: Option<&SiteName>,
    ) -> Self {
        let build = |read_timeout: Option<Duration>| -> [Option<Box<HttpPeer>>; 2] {
            [Port::Http, Port::Https].map(|port| {
                let address = addresses.get(port as usize).copied().flatten()?;
                Some(Box::new(build_peer(address, port, &config, read_timeout, settings)))
            })
        };
        let peers = build(None);
        let pool_keys = peers.each_ref().map(|peer| peer.as_ref().map_or(0, |peer| peer.reuse_hash()));
        let tunnels = build(Some(settings.websocket_idle));
        let of_other_site = SiteName::differ(config.site.as_ref(), own_site);
        Self { server, config, of_other_site, addresses, tags, peers, pool_keys, tunnels }
    }

    /// The tag that new cookies use for this server.
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.tags.first().copied().unwrap_or_default()
    }

    /// The prebuilt peer; `None` if the port is disabled.
    #[must_use]
    pub fn peer(&self, port: Port, kind: ConnectionKind) -> Option<&HttpPeer> {
        let peers = match kind {
            ConnectionKind::Request => &self.peers,
            ConnectionKind::Tunnel => &self.tunnels,
        };
        peers.get(port as usize)?.as_deref()
    }

    /// What connections of the port have in common in a pool, and how long they may be idle.
    #[must_use]
    pub fn pool(&self, port: Port) -> Option<(u64, Duration)> {
        let key = self.pool_keys.get(port as usize).copied()?;
        self.peer(port, ConnectionKind::Request).map(|_| (key, UPSTREAM_IDLE_TIMEOUT))
    }

    /// The verdict of selection on this server, with the name of its site where that decided.
    #[must_use]
    pub(crate) fn describe_verdict(&self, verdict: CandidateVerdict) -> String {
        match (verdict, &self.config.site) {
            (CandidateVerdict::OtherSite, Some(site)) => format!("set aside: of site {site}"),
            (CandidateVerdict::OtherSiteExcluded, Some(site)) => {
                format!("dropped: of site {site}, and cross_sites is never")
            }
            _ => verdict.to_string(),
        }
    }

    #[must_use]
    pub fn address(&self, port: Port) -> Option<SocketAddr> {
        self.addresses.get(port as usize).copied().flatten()
    }

    /// The host name and port as configured; `None` = the port is disabled.
    #[must_use]
    pub fn host_port(&self, port: Port) -> Option<&HostPort> {
        match port {
            Port::Http => self.config.http.as_ref(),
            Port::Https => self.config.https.as_ref(),
        }
    }
}

fn build_peer(
    address: SocketAddr,
    port: Port,
    server: &Server,
    read_timeout: Option<Duration>,
    settings: &PeerSettings,
) -> HttpPeer {
    let tls = port == Port::Https;
    // Pingora does not verify an empty name.
    let name = if server.hostname.is_empty() { address.ip().to_string() } else { server.hostname.clone() };
    let mut peer = HttpPeer::new(address, tls, if tls { name } else { String::new() });
    peer.group_key = settings.group;
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout);
    // Tunnels only; `upstream::deadline` limits the time of an answer.
    options.read_timeout = read_timeout;
    // A pause of an uploading client starts no write, so this expires only if the server does not read.
    options.write_timeout = Some(read_timeout.unwrap_or(settings.response_timeout));
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: UPSTREAM_KEEPALIVE_INTERVAL,
        interval: UPSTREAM_KEEPALIVE_INTERVAL,
        count: 3,
        // After a write timeout Pingora still waits for an answer; the kernel then ends the connection.
        #[cfg(target_os = "linux")]
        user_timeout: settings.response_timeout,
    });
    options.idle_timeout = Some(UPSTREAM_IDLE_TIMEOUT);
    options.verify_cert = settings.verify;
    options.verify_hostname = settings.verify;
    options.ca.clone_from(&settings.ca_certificates);
    peer
}

/// A holder of a database, with what is known about its replica.
fn candidate(
    server: ServerId,
    entry: &UpstreamServer,
    status: ReplicaStatus,
    replica: Option<&ReplicaFreshness>,
) -> Candidate {
    let snapshot = entry.server.snapshot();
    let freshness = replica.map_or_else(CandidateFreshness::default, |replica| CandidateFreshness {
        behind_since_unix_ms: replica.behind_since_unix_ms,
        shown_fresh: snapshot.catching_up_since_unix_ms.is_some_and(|since| {
            replica.is_newest && replica.reading.is_some_and(|reading| reading.taken_unix_ms >= since)
        }),
        own_write: OwnWrite::Unknown,
    });
    Candidate { server, status, snapshot, freshness, of_other_site: entry.of_other_site }
}

/// The servers of a cluster and its directory at one moment.
#[derive(Debug)]
pub struct ClusterView {
    /// The servers, by [`ServerId`].
    pub entries: Vec<UpstreamServer>,
    /// Host names and ports by [`ServerId`], to rewrite headers.
    pub(crate) names: Vec<ServerNames>,
    /// The directory that was in use when the view was made.
    pub directory: Arc<LoadedDirectory>,
    /// Whether a server is of another site than this ICM.
    pub(crate) has_other_sites: bool,
    /// The rules of the site that lead somewhere, as routes.
    pub(crate) site_routes: SiteRoutes,
    /// How replicas compare; `None` inside while nothing reads that.
    freshness: Arc<ArcSwapOption<FreshnessTable>>,
    /// How marks of the directory compare with those that servers report.
    marks: DirectoryMarks,
    /// By the directory's own server ids; `None` = not a server of this cluster.
    ids_by_directory: Vec<Option<ServerId>>,
    /// Domino 14 ends the name of each server's session cookie in a suffix of its own.
    session_suffixes: AHashMap<UniqueSuffix, ServerId>,
    /// Current tags and those of older secrets.
    tags: AHashMap<u32, ServerId>,
}

impl ClusterView {
    #[must_use]
    pub(crate) fn new(
        entries: Vec<UpstreamServer>,
        directory: Arc<LoadedDirectory>,
        freshness: Arc<ArcSwapOption<FreshnessTable>>,
        marks: DirectoryMarks,
        site_rules: &SiteRules,
    ) -> Self {
        let by_name: AHashMap<&str, ServerId> = entries
            .iter()
            .enumerate()
            .map(|(ix, e)| (e.config.name.folded(), ServerId::try_from(ix).unwrap_or(ServerId::MAX)))
            .collect();
        let ids_by_directory: Vec<Option<ServerId>> =
            directory.index.servers().iter().map(|name| by_name.get(name.folded()).copied()).collect();
        let names = entries
            .iter()
            .map(|e| ServerNames::new(&e.config.hostname, e.config.http.as_ref(), e.config.https.as_ref()))
            .collect();
        let mut session_suffixes = AHashMap::new();
        // Domino derives the suffix from its own spelling of the name; the configuration may spell it differently.
        let directory_spellings =
            directory.index.servers().iter().zip(&ids_by_directory).filter_map(|(n, id)| Some((n, (*id)?)));
        let configured = entries.iter().map(|e| &e.config.name).zip(0..);
        for (name, server) in directory_spellings.chain(configured) {
            session_suffixes.extend(unique_suffixes(name).into_iter().map(|suffix| (suffix, server)));
        }
        let tags =
            entries.iter().zip(0..).flat_map(|(e, ix)| e.tags.iter().map(move |tag| (*tag, ix))).collect();
        let has_other_sites = entries.iter().any(|entry| entry.of_other_site);
        Self {
            entries,
            names,
            site_routes: SiteRoutes::new(site_rules, &directory),
            directory,
            has_other_sites,
            freshness,
            marks,
            ids_by_directory,
            session_suffixes,
            tags,
        }
    }

    /// `None` if the id comes from a view with more servers.
    #[must_use]
    pub fn server(&self, server: ServerId) -> Option<&UpstreamServer> {
        self.entries.get(usize::from(server))
    }

    #[must_use]
    pub(crate) fn server_by_tag(&self, tag: u32) -> Option<ServerId> {
        self.tags.get(&tag).copied()
    }

    /// Replaces a tag of an older secret by the current one; an unknown tag stays.
    #[must_use]
    pub(crate) fn current_tag(&self, tag: u32) -> u32 {
        self.server_by_tag(tag).and_then(|server| self.server(server)).map_or(tag, UpstreamServer::tag)
    }

    #[must_use]
    pub(crate) fn server_by_session_suffix(&self, suffix: &UniqueSuffix) -> Option<ServerId> {
        self.session_suffixes.get(suffix).copied()
    }

    /// Finds a server by its common or full name.
    #[must_use]
    pub(crate) fn server_by_name(&self, text: &str) -> Option<ServerId> {
        self.entries
            .iter()
            .position(|e| e.config.name.answers_to(text))
            .and_then(|ix| ServerId::try_from(ix).ok())
    }

    /// Whether a server is one of those with these names.
    #[must_use]
    pub(crate) fn is_among(&self, server: ServerId, names: &[ServerName]) -> bool {
        self.server(server).is_some_and(|entry| names.contains(&entry.config.name))
    }

    #[must_use]
    pub(crate) fn server_id(&self, server: DirectoryServerId) -> Option<ServerId> {
        self.ids_by_directory.get(server.as_usize()).copied().flatten()
    }

    /// Names in the directory that are not servers of this cluster.
    #[must_use]
    pub(crate) fn unknown_servers(&self) -> Vec<&ServerName> {
        let servers = self.directory.index.servers().iter();
        servers.zip(&self.ids_by_directory).filter(|(_, id)| id.is_none()).map(|(name, _)| name).collect()
    }

    /// Collects the holders of a database, or every server if no database was found.
    pub fn candidates(&self, found: Option<&DatabaseMatch>, out: &mut SmallVec<[Candidate; 8]>) {
        out.clear();
        match found {
            Some(found) => {
                let freshness = self.freshness.load();
                let known = freshness
                    .as_deref()
                    .map(|table| table.replicas(self.directory.index.database(found.database).replica_id()))
                    .unwrap_or_default();
                for holder in self.directory.index.replicas_by_server(found) {
                    if let Some(server) = self.server_id(holder.server)
                        && let Some(entry) = self.server(server)
                    {
                        let replica = known.iter().find(|replica| replica.server == entry.server.tag());
                        let mark = self.marks.merge(&self.directory, holder.status, replica);
                        out.push(candidate(server, entry, mark, replica));
                    }
                }
            }
            None => out.extend(
                self.entries
                    .iter()
                    .zip(0..)
                    .map(|(entry, server)| candidate(server, entry, ReplicaStatus::InService, None)),
            ),
        }
    }

    /// Whether a server is of another site than this ICM.
    #[must_use]
    pub(crate) fn is_of_other_site(&self, server: ServerId) -> bool {
        self.server(server).is_some_and(|entry| entry.of_other_site)
    }

    /// The replica that a request for this database gets on that server.
    #[must_use]
    pub(crate) fn replica_on(&self, found: &DatabaseMatch, server: ServerId) -> Option<ServerReplica<'_>> {
        self.directory
            .index
            .replicas_by_server(found)
            .find(|holder| self.server_id(holder.server) == Some(server))
    }

    /// The mark of the replica that a request for this database gets on that server.
    #[must_use]
    pub(crate) fn mark_on(&self, found: &DatabaseMatch, server: ServerId) -> Option<ReplicaStatus> {
        let holder = self.replica_on(found, server)?;
        let replica = self.freshness_on(found.database, server);
        Some(self.marks.merge(&self.directory, holder.status, replica.as_ref()))
    }

    /// What is known about the replica of a database on a server, beyond the directory.
    #[must_use]
    pub(crate) fn freshness_on(&self, database: DatabaseId, server: ServerId) -> Option<ReplicaFreshness> {
        let tag = self.server(server)?.server.tag();
        let freshness = self.freshness.load();
        freshness.as_deref()?.replica(self.directory.index.database(database).replica_id(), tag).copied()
    }

    #[must_use]
    pub(crate) fn is_on_every_server(&self, found: &DatabaseMatch) -> bool {
        let holders = self.directory.index.replicas_by_server(found);
        holders.filter(|holder| self.server_id(holder.server).is_some()).count() == self.entries.len()
    }
}

//! One picture of a cluster: its members, its directory, and how the two belong together.
//!
//! In: the servers with their resolved addresses, and a directory. Out: candidates for selection,
//! peers for the proxy, tags for the affinity cookie. Immutable: a change makes a new view.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use smallvec::SmallVec;

use super::directory::LoadedDirectory;
use crate::config::settings::Server;
use crate::domain::affinity::session_cookies::{UniqueSuffix, unique_suffixes};
use crate::domain::cluster::HostPort;
use crate::domain::cluster::{ClusterServer, Port, ServerName};
use crate::domain::directory::{DatabaseMatch, ReplicaStatus, ServerReplica};
use crate::domain::rewrite::ServerNames;
use crate::domain::select::{Candidate, ServerId};

/// A member as the proxy uses it.
#[derive(Debug)]
pub struct UpstreamServer {
    /// Its health and counters, which outlive this view.
    pub server: Arc<ClusterServer>,
    /// What the configuration or its Server document says.
    pub config: Server,
    /// Where its ports are; `None` = disabled, or its name does not resolve.
    pub addresses: [Option<SocketAddr>; 2],
    /// In cookies: the current one, then those of older secrets.
    pub tags: SmallVec<[u32; 2]>,
    peers: [Option<Box<HttpPeer>>; 2],
    tunnels: [Option<Box<HttpPeer>>; 2],
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// A request and its answer.
    Request,
    /// A connection that will switch protocols.
    Tunnel,
}

/// Timeouts and verification of the peers of one cluster.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// TCP and TLS together.
    pub connect_timeout: Duration,
    /// Silence while an answer is due.
    pub response_timeout: Duration,
    /// Silence on a switched connection.
    pub websocket_idle: Duration,
    /// Verify certificates.
    pub verify: bool,
    /// Own authorities.
    pub ca_certificates: Option<Arc<pingora::protocols::tls::CaType>>,
    /// Keeps pooled connections of different settings apart.
    pub group: u64,
}

/// A pooled connection is dropped after this: below the time after which Domino closes it.
const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the kernel asks whether the other side of a silent connection still exists.
const UPSTREAM_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

impl UpstreamServer {
    /// A member with its peers built once.
    #[must_use]
    pub fn new(
        server: Arc<ClusterServer>,
        config: Server,
        addresses: [Option<SocketAddr>; 2],
        tags: SmallVec<[u32; 2]>,
        settings: &PeerSettings,
    ) -> Self {
        let build = |read_timeout: Option<Duration>| -> [Option<Box<HttpPeer>>; 2] {
            [Port::Http, Port::Https].map(|port| {
                let address = addresses.get(port as usize).copied().flatten()?;
                Some(Box::new(build_peer(address, port, &config, read_timeout, settings)))
            })
        };
        let peers = build(None);
        let tunnels = build(Some(settings.websocket_idle));
        Self { server, config, addresses, tags, peers, tunnels }
    }

    /// The tag under which cookies name this server.
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.tags.first().copied().unwrap_or_default()
    }

    /// The prebuilt peer of a port.
    #[must_use]
    pub fn peer(&self, port: Port, exchange: ConnectionKind) -> Option<Box<HttpPeer>> {
        let peers = match exchange {
            ConnectionKind::Request => &self.peers,
            ConnectionKind::Tunnel => &self.tunnels,
        };
        peers.get(port as usize).cloned().flatten()
    }

    /// The address of a port.
    #[must_use]
    pub fn address(&self, port: Port) -> Option<SocketAddr> {
        self.addresses.get(port as usize).copied().flatten()
    }

    /// The port as configured.
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
    // The name is never empty: an empty one would switch the verification off.
    let name = if server.hostname.is_empty() { address.ip().to_string() } else { server.hostname.clone() };
    let mut peer = HttpPeer::new(address, tls, if tls { name } else { String::new() });
    peer.group_key = settings.group;
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = Some(settings.connect_timeout);
    // Of a tunnel; how long an answer may take is `upstream::deadline`'s.
    options.read_timeout = read_timeout;
    // An upload's client may pause, which is no write; a server that takes nothing is one that hangs. Pingora
    // would go on waiting for an answer then, so the kernel ends the connection.
    options.write_timeout = Some(read_timeout.unwrap_or(settings.response_timeout));
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: UPSTREAM_KEEPALIVE_INTERVAL,
        interval: UPSTREAM_KEEPALIVE_INTERVAL,
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: settings.response_timeout,
    });
    options.idle_timeout = Some(UPSTREAM_IDLE_TIMEOUT);
    options.verify_cert = settings.verify;
    options.verify_hostname = settings.verify;
    options.ca.clone_from(&settings.ca_certificates);
    peer
}

/// See the module's description.
#[derive(Debug)]
pub struct ClusterView {
    /// By [`ServerId`].
    pub entries: Vec<UpstreamServer>,
    /// Their names and addresses, for the rewriting of headers.
    pub names: Vec<ServerNames>,
    /// What is where.
    pub directory: Arc<LoadedDirectory>,
    /// The directory's servers as members; `None` = not in the list.
    members: Vec<Option<ServerId>>,
    /// Whose session cookie Domino 14 gives this suffix.
    session_suffixes: AHashMap<UniqueSuffix, ServerId>,
    /// Whose this tag is, current or older.
    tags: AHashMap<u32, ServerId>,
}

impl ClusterView {
    /// Joins members and directory.
    #[must_use]
    pub fn new(entries: Vec<UpstreamServer>, directory: Arc<LoadedDirectory>) -> Self {
        let by_name: AHashMap<&str, ServerId> = entries
            .iter()
            .enumerate()
            .map(|(ix, e)| (e.config.name.folded(), ServerId::try_from(ix).unwrap_or(ServerId::MAX)))
            .collect();
        let members: Vec<Option<ServerId>> =
            directory.index.servers().iter().map(|name| by_name.get(name.folded()).copied()).collect();
        let names = entries
            .iter()
            .map(|e| ServerNames::new(&e.config.hostname, e.config.http.as_ref(), e.config.https.as_ref()))
            .collect();
        let mut session_suffixes = AHashMap::new();
        // The directory spells a name as Domino does, the configuration perhaps not.
        let directory_spellings =
            directory.index.servers().iter().zip(&members).filter_map(|(n, m)| Some((n, (*m)?)));
        let configured = entries.iter().map(|e| &e.config.name).zip(0..);
        for (name, member) in directory_spellings.chain(configured) {
            session_suffixes.extend(unique_suffixes(name).into_iter().map(|suffix| (suffix, member)));
        }
        let tags =
            entries.iter().zip(0..).flat_map(|(e, ix)| e.tags.iter().map(move |tag| (*tag, ix))).collect();
        Self { entries, names, directory, members, session_suffixes, tags }
    }

    /// A member by its number.
    #[must_use]
    pub fn server(&self, member: ServerId) -> Option<&UpstreamServer> {
        self.entries.get(usize::from(member))
    }

    /// The member of a tag in a cookie.
    #[must_use]
    pub fn server_by_tag(&self, tag: u32) -> Option<ServerId> {
        self.tags.get(&tag).copied()
    }

    /// The current tag of the member that a tag of an older secret names.
    #[must_use]
    pub fn current_tag(&self, tag: u32) -> u32 {
        self.server_by_tag(tag).and_then(|member| self.server(member)).map_or(tag, UpstreamServer::tag)
    }

    /// The member whose session cookie Domino 14 gives this suffix.
    #[must_use]
    pub fn server_by_session_suffix(&self, suffix: &UniqueSuffix) -> Option<ServerId> {
        self.session_suffixes.get(suffix).copied()
    }

    /// A member by its common or whole name.
    #[must_use]
    pub fn server_by_name(&self, text: &str) -> Option<ServerId> {
        self.entries
            .iter()
            .position(|e| e.config.name.answers_to(text))
            .and_then(|ix| ServerId::try_from(ix).ok())
    }

    /// The member of a directory's server.
    #[must_use]
    pub fn server_id(&self, server: crate::domain::directory::DirectoryServerId) -> Option<ServerId> {
        self.members.get(server.as_usize()).copied().flatten()
    }

    /// Names in the directory that are no members.
    #[must_use]
    pub fn unknown_servers(&self) -> Vec<&ServerName> {
        let servers = self.directory.index.servers();
        servers.iter().zip(&self.members).filter(|(_, m)| m.is_none()).map(|(name, _)| name).collect()
    }

    /// Who could serve: the holders of a database, or every member.
    pub fn candidates(&self, found: Option<&DatabaseMatch>, out: &mut SmallVec<[Candidate; 8]>) {
        out.clear();
        match found {
            Some(found) => {
                for holder in self.directory.index.replicas_by_server(found) {
                    if let Some(member) = self.server_id(holder.server)
                        && let Some(entry) = self.server(member)
                    {
                        out.push(Candidate {
                            server: member,
                            status: holder.status,
                            snapshot: entry.server.snapshot(),
                        });
                    }
                }
            }
            None => out.extend(self.entries.iter().enumerate().map(|(ix, entry)| Candidate {
                server: ServerId::try_from(ix).unwrap_or(ServerId::MAX),
                status: ReplicaStatus::InService,
                snapshot: entry.server.snapshot(),
            })),
        }
    }

    /// What a member holds of a database, as far as the request is concerned.
    #[must_use]
    pub fn replica_on(&self, found: &DatabaseMatch, member: ServerId) -> Option<ServerReplica<'_>> {
        self.directory
            .index
            .replicas_by_server(found)
            .find(|holder| self.server_id(holder.server) == Some(member))
    }

    /// Every member holds this database.
    #[must_use]
    pub fn is_on_every_server(&self, found: &DatabaseMatch) -> bool {
        let mut holders = 0;
        for holder in self.directory.index.replicas_by_server(found) {
            if self.server_id(holder.server).is_some() {
                holders += 1;
            }
        }
        holders == self.entries.len()
    }
}

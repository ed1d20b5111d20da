//! One cluster: its parts, the host names it serves, and how its servers are reached.

use std::path::PathBuf;
use std::sync::Arc;

use super::Secret;
use super::policy::{
    Affinity, Availability, AvailabilitySource, CatchUp, ClusterLimits, Failover, Freshness, Headers, Probe,
};
use super::routes::Route;
use super::servers::{Directory, Server, Servers};
use crate::domain::cluster::Port;
use crate::domain::compression::CompressionPolicy;
use crate::domain::rules::AccessRules;
use crate::domain::select::CrossSites;

/// One Domino cluster, or a set of servers that are in none.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Unique among the clusters of the file. A pool is named `<cluster>/<pool>`.
    pub name: String,
    /// The name of the cluster that it is a pool of; `None` for a cluster. A pool has no host names, no directory and no
    /// routes: requests reach it by the routes of its cluster.
    pub pool_of: Option<String>,
    /// The position of its first pool among the clusters of the settings; the others follow in their order.
    pub first_pool: usize,
    /// The affinity cookies of its pools, or of the cluster and the other pools of a pool. No server gets them.
    pub sibling_cookies: Vec<String>,
    /// Which host names this cluster serves; empty: all that no other cluster serves.
    pub hostnames: Vec<HostPattern>,
    /// Whether requests are forwarded or redirected.
    pub mode: Mode,
    /// Which port of the servers is used.
    pub upstream_scheme: UpstreamScheme,
    /// How the certificates of the servers are verified.
    pub upstream_tls: UpstreamTls,
    /// The servers of the cluster.
    pub servers: Servers,
    /// When a server of another site serves.
    pub cross_sites: CrossSites,
    /// Which server holds which database.
    pub directory: Directory,
    /// How it is found out whether a server is reachable.
    pub probe: Probe,
    /// The sources of the availability index; at least one.
    pub availability: Vec<Availability>,
    /// How a request fails over to another server.
    pub failover: Failover,
    /// When a server that was UNREACHABLE is trusted again.
    pub catch_up: CatchUp,
    /// Which replicas are behind.
    pub freshness: Freshness,
    /// How users stay on one server.
    pub affinity: Affinity,
    /// What to do with a database that is not in the directory.
    pub unknown_database: UnknownDatabase,
    /// What to do with a path that stands for several databases.
    pub ambiguous_path: AmbiguousPath,
    /// Whose spelling of a database's path a server gets.
    pub forwarded_path: ForwardedPath,
    /// What to do with `?OpenServer`.
    pub open_server: OpenServer,
    /// Limits of this cluster.
    pub limits: ClusterLimits,
    /// Which headers are changed.
    pub headers: Headers,
    /// What is compressed for clients; `None`: nothing.
    pub compression: Option<CompressionPolicy>,
    /// Rules that lead requests elsewhere; the first that matches decides.
    pub routes: Vec<Arc<Route>>,
    /// Which requests may reach a server; the first rule that matches decides.
    pub access: AccessRules,
    /// The secret that is sent in `X-ConnectorHeaders-Secret`.
    pub connector_secret: Option<Secret>,
}

impl ClusterSettings {
    /// Whether its servers are of another kind than Domino's own HTTP.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.pool_of.is_some()
    }

    /// Which port of a server a request needs. In redirect mode that is the client's own scheme, because the browser
    /// connects to the server itself.
    #[must_use]
    pub fn port_for(&self, tls: bool) -> Port {
        let same = if tls { Port::Https } else { Port::Http };
        match (self.mode, self.upstream_scheme) {
            (Mode::Redirect, _) | (_, UpstreamScheme::Same) => same,
            (Mode::Proxy, UpstreamScheme::Http) => Port::Http,
            (Mode::Proxy, UpstreamScheme::Https) => Port::Https,
        }
    }

    /// Whether the companion of any server is read.
    #[must_use]
    pub fn has_companion(&self) -> bool {
        // Servers that are read from Domino have no sources of their own.
        let own = match &self.servers {
            Servers::Static(servers) => servers.as_slice(),
            Servers::Names(_) => &[],
        };
        let all = self.availability.iter().chain(own.iter().flat_map(|server| &server.availability));
        all.map(|a| &a.source).any(AvailabilitySource::is_companion)
    }

    /// [`Server::exposure`], where this cluster forwards requests.
    #[must_use]
    pub fn exposure_of(&self, server: &Server) -> Option<String> {
        if self.mode == Mode::Proxy { server.exposure() } else { None }
    }

    /// Whether a request may need this port.
    #[must_use]
    pub fn uses(&self, port: Port) -> bool {
        [false, true].into_iter().any(|tls| self.port_for(tls) == port)
    }
}

/// A host name or a wildcard, in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// A name such as `www.acme.example`.
    Exact(String),
    /// All names below one: `*.acme.example`, stored as `.acme.example`.
    Wildcard(String),
}

impl HostPattern {
    /// Whether this pattern covers a host: in lower case, without port, with or without the brackets of IPv6 and the
    /// root's dot. A wildcard covers names of any depth.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Exact(name) => name == host,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is forwarded to a server.
    Proxy,
    /// The browser is redirected to a server, as by the classic ICM.
    Redirect,
}

/// Which port of the servers is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamScheme {
    /// Always the HTTP port.
    Http,
    /// Always the HTTPS port.
    Https,
    /// The one of the client's scheme.
    Same,
}

/// How the certificates of the servers are verified.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// Its certificates are trusted instead of the platform's roots.
    pub ca_file: Option<PathBuf>,
    /// The certificates of `ca_file`, DER.
    pub ca: Option<Arc<Vec<Vec<u8>>>>,
    /// `false` accepts any certificate.
    pub verify: bool,
}

/// What to do with a database that is not in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownDatabase {
    /// Any server may get the request.
    Any,
    /// Answer with status 404.
    NotFound,
}

/// What to do with a path that stands for several databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// Let the user choose one.
    Choose,
    /// Take the one with the lowest replica ID.
    First,
    /// Answer with status 404.
    NotFound,
}

/// Whose spelling of a database's path a server gets, if both name the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedPath {
    /// The one in the URL, byte for byte.
    Client,
    /// The one of the server's own entry in the directory, for servers whose file system distinguishes case.
    Directory,
}

/// What to do with `?OpenServer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenServer {
    /// A server gets it like any other URL.
    Off,
    /// Answer with a list of the databases of the cluster.
    List,
}

//! What the configuration says about one cluster: members, directory, and how requests are treated.
//!
//! In: nothing; the loader fills these. Out: plain immutable data, with units in the comments. Nothing here is
//! ever checked again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Secret;
use crate::domain::affinity::{SameSite, SessionCookieStyle};
use crate::domain::cluster::HostPort;
use crate::domain::cluster::{Port, ServerName};
use crate::domain::directory::Draft;

/// One Domino cluster (or a set of unclustered servers).
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Unique in the file.
    pub name: String,
    /// Host patterns, lower case, without port; empty = all others.
    pub hostnames: Vec<HostPattern>,
    /// Proxy or redirect.
    pub mode: Mode,
    /// Which port of the servers we use.
    pub upstream_scheme: UpstreamScheme,
    /// Verification toward the servers.
    pub upstream_tls: UpstreamTls,
    /// Who the members are.
    pub servers: Servers,
    /// Which database is where.
    pub directory: Directory,
    /// Reachability.
    pub probe: Probe,
    /// Availability index sources; at least one.
    pub availability: Vec<Availability>,
    /// Failover inside the request.
    pub failover: Failover,
    /// Sessions.
    pub affinity: Affinity,
    /// A database that the directory does not know.
    pub unknown_database: UnknownDatabase,
    /// One path, several databases.
    pub ambiguous_path: AmbiguousPath,
    /// `?OpenServer`.
    pub open_server: OpenServer,
    /// Per cluster limits.
    pub limits: ClusterLimits,
    /// What we do to headers.
    pub headers: Headers,
    /// `X-ConnectorHeaders-Secret`.
    pub connector_secret: Option<Secret>,
}

impl Cluster {
    /// Which port of a server a client's request needs: in redirect mode the client's own scheme,
    /// because the browser goes there itself.
    #[must_use]
    pub fn port_for(&self, tls: bool) -> Port {
        let same = if tls { Port::Https } else { Port::Http };
        match (self.mode, self.upstream_scheme) {
            (Mode::Redirect, _) | (_, UpstreamScheme::Same) => same,
            (Mode::Proxy, UpstreamScheme::Http) => Port::Http,
            (Mode::Proxy, UpstreamScheme::Https) => Port::Https,
        }
    }

    /// Some request may need this port.
    #[must_use]
    pub fn uses(&self, port: Port) -> bool {
        [false, true].into_iter().any(|tls| self.port_for(tls) == port)
    }
}

/// A Host name, exact or `*.` wildcard; lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `www.acme.example`
    Exact(String),
    /// `*.acme.example`, stored as `.acme.example`
    Wildcard(String),
}

impl HostPattern {
    /// Whether this pattern covers a Host name (lower case, without port; an IPv6 address with or
    /// without brackets, a name with or without the root's dot). A wildcard covers any depth.
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

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reverse proxy.
    Proxy,
    /// The classic ICM: send the browser to the server.
    Redirect,
}

/// `upstream_scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamScheme {
    /// Always the HTTP port.
    Http,
    /// Always the HTTPS port.
    Https,
    /// As the client came.
    Same,
}

/// `upstream_tls`.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// Replaces the platform's roots.
    pub ca_file: Option<PathBuf>,
    /// The certificates of `ca_file`, DER.
    pub ca: Option<Arc<Vec<Vec<u8>>>>,
    /// `false` only where the administrator says so.
    pub verify: bool,
}

/// `servers`.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one for each cluster: a box would save nothing
pub enum Servers {
    /// Written in the file; at least one, names unique.
    Static(Vec<Server>),
    /// Read from a view over the Server documents.
    Names(NamesView),
}

/// A member as the configuration or a Server document describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Hierarchical name.
    pub name: ServerName,
    /// DNS name: redirects, SNI, certificate check.
    pub hostname: String,
    /// HTTP port; `None` = disabled in the Server document. At least one of the two is there.
    pub http: Option<HostPort>,
    /// HTTPS port.
    pub https: Option<HostPort>,
    /// 1 to 1000.
    pub weight: u32,
    /// 0..=100; `None` = what the server publishes, else 0.
    pub threshold: Option<u8>,
    /// `server_restricted` is not 0.
    pub restricted: bool,
    /// 0 = never MAXUSERS.
    pub max_users: u32,
    /// Send `$WS*` of the harmless kind.
    pub connector_headers: bool,
    /// Sources for this server only; empty = the cluster's.
    pub availability: Vec<Availability>,
}

/// An `http://` or `https://` URL split up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// TLS.
    pub https: bool,
    /// Where to connect and the Host header.
    pub at: HostPort,
    /// Begins with `/`; without trailing slash unless it is all there is; includes a query if any.
    pub path: String,
}

impl BaseUrl {
    /// Scheme, host and port, for messages.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.at)
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

/// `servers: { source: names }`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamesView {
    /// Servers to ask, the first that answers; at least one.
    pub from: Vec<BaseUrl>,
    /// Usually `names.nsf`.
    pub database: String,
    /// Usually `ICM Servers`.
    pub view: String,
    /// Which column is what.
    pub columns: NamesColumns,
    /// XML or JSON.
    pub format: ViewFormat,
    /// How to log in.
    pub auth: Auth,
    /// How often.
    pub refresh: Duration,
    /// Last good copy.
    pub cache: Option<PathBuf>,
}

/// A view column, by number or by programmatic name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// `@columnnumber`
    Number(u32),
    /// `@name`, compared without regard to case.
    Name(String),
}

/// Columns of the servers view. Port status: `1` or `Enabled` is on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NamesColumns {
    pub name: Column,
    pub hostname: Column,
    pub address: Column,
    pub cluster: Column,
    pub http_port: Column,
    pub http_status: Column,
    pub https_port: Column,
    pub https_status: Column,
}

/// `format` of a view reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewFormat {
    /// `?ReadViewEntries`
    Xml,
    /// `?ReadViewEntries&OutputFormat=JSON`
    Json,
}

/// How to log in at a Domino server. Plaintext rules were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// As Anonymous.
    None,
    /// `Authorization: Basic`.
    Basic {
        /// User name.
        user: String,
        /// From the password file, without its line end.
        password: Secret,
    },
    /// `names.nsf?Login`, then the cookie.
    Session {
        /// User name.
        user: String,
        /// From the password file, without its line end.
        password: Secret,
    },
}

/// The replicas that a configuration brings along, until they are indexed: a million of them are not to
/// lie in memory twice for as long as the balancer runs.
#[derive(Clone, Debug, Default)]
pub struct Entries(Arc<Mutex<Draft>>);

impl Entries {
    /// As they were read.
    #[must_use]
    pub fn new(draft: Draft) -> Self {
        Self(Arc::new(Mutex::new(draft)))
    }

    /// Hands them over; there are none afterwards.
    #[must_use]
    pub fn take(&self) -> Draft {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `directory`.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one for each cluster: a box would save nothing
pub enum Directory {
    /// Written in the file.
    Static(Entries),
    /// A CSV or JSON file, read on load and on HUP.
    File {
        /// Where it is.
        path: PathBuf,
        /// What stood in it when the configuration was loaded.
        entries: Entries,
    },
    /// The Cluster Database Directory of any member that answers.
    Cldbdir(Cldbdir),
}

/// `directory: { source: cldbdir }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cldbdir {
    /// Usually `cldbdir.nsf`.
    pub database: String,
    /// Usually `($Pathname)`.
    pub view: String,
    /// XML or JSON.
    pub format: ViewFormat,
    /// Which column is what.
    pub columns: DirectoryColumns,
    /// How to log in.
    pub auth: Auth,
    /// How often.
    pub refresh: Duration,
    /// Last good copy.
    pub cache: Option<PathBuf>,
}

/// Columns of the directory view.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DirectoryColumns {
    pub path: Column,
    pub server: Column,
    pub replica_id: Column,
    pub title: Option<Column>,
    pub out_of_service: Option<Column>,
    pub pending_delete: Option<Column>,
}

/// `probe`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Begins with `/`.
    pub path: String,
    /// `None`: the first of `hostnames`, else the server's.
    pub host: Option<String>,
    /// Between probes of one port.
    pub interval: Duration,
    /// Total for one probe.
    pub timeout: Duration,
    /// Good probes in a row; at least 1.
    pub healthy_after: u32,
    /// Bad probes in a row; at least 1.
    pub unreachable_after: u32,
    /// Inclusive status ranges.
    pub ok: Vec<(u16, u16)>,
}

impl Probe {
    /// Whether an answer with this status means that the port serves.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        self.ok.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

/// One availability source with its timing.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    /// Where from.
    pub source: AvailabilitySource,
    /// Between readings.
    pub interval: Duration,
    /// An index older than this counts as unknown.
    pub stale_after: Duration,
    /// `Server_Transinfo_Range` for the observed index: 1..=30.
    pub range: u8,
}

/// `availability.source`.
#[derive(Clone, Debug, PartialEq)]
pub enum AvailabilitySource {
    /// From our own traffic.
    Observed,
    /// A URL that answers `show stat` text; may hold `{address} {hostname} {name}`.
    Console {
        /// Template.
        url: String,
    },
    /// A URL that answers Prometheus text; may hold `{address} {hostname} {name}`.
    Prometheus {
        /// Template.
        url: String,
    },
    /// HAProxy's agent-check protocol on this TCP port of the server.
    AgentCheck {
        /// 1..=65535.
        port: u16,
    },
    /// Pushed to the statpub listener.
    Statpub,
}

/// `failover`.
#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    /// Answers or deaths; at least 1.
    pub attempts: u32,
    /// No further attempt after it.
    pub deadline: Duration,
    /// Share of requests that may be replayed, 0.0..=1.0.
    pub retry_budget: f64,
    /// TCP (and TLS) connect.
    pub connect_timeout: Duration,
    /// From the end of the request's body to the answer's header.
    pub response_timeout: Duration,
    /// Silence of the server within the body of an answer; `None` = for ever. Not in a stream of events.
    pub body_timeout: Option<Duration>,
    /// Statuses that try the next candidate, 500..=599.
    pub retry_statuses: Vec<u16>,
    /// Methods that may be replayed.
    pub retry_methods: Vec<http::Method>,
    /// Commands that act, lower case.
    pub acting_commands: Vec<String>,
    /// Commands neither known as safe nor acting.
    pub unknown_commands: UnknownCommands,
    /// Replay once after the answer's header did not come in time.
    pub retry_after_timeout: bool,
    /// In a row: UNREACHABLE at once; 0 = off.
    pub passive_failures: u32,
    /// A server that returns ramps up over this.
    pub slow_start: Duration,
    /// When every holder is UNREACHABLE.
    pub last_resort: LastResort,
}

/// `unknown_commands`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCommands {
    /// As safe ones.
    Replay,
    /// As acting ones.
    Once,
}

/// `last_resort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastResort {
    /// 503.
    Refuse,
    /// Try the holders all the same.
    TryUnreachable,
}

/// `affinity`.
#[derive(Clone, Debug, PartialEq)]
pub struct Affinity {
    /// `mode: cookie`.
    pub enabled: bool,
    /// Cookie name.
    pub cookie: String,
    /// First signs, all verify. Empty: generated.
    pub secrets: Vec<Secret>,
    /// Domino's session cookies, lower case.
    pub session_cookies: Vec<String>,
    /// Where they carry the tag of their server.
    pub session_cookie_style: SessionCookieStyle,
    /// Of the affinity cookie.
    pub same_site: SameSite,
    /// `None` = never.
    pub fail_back: Option<Duration>,
    /// Entries not used so long are forgotten.
    pub idle_timeout: Duration,
    /// How long those inside may stay on a RESTRICTED server.
    pub drain_timeout: Duration,
}

/// `unknown_database`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownDatabase {
    /// Any member.
    Any,
    /// 404.
    NotFound,
}

/// `ambiguous_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// Choice page.
    Choose,
    /// The lowest replica ID.
    First,
    /// 404.
    NotFound,
}

/// `open_server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenServer {
    /// Passed to a server like any other URL.
    Off,
    /// The page of the cluster's databases.
    List,
}

/// `clusters[].limits`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterLimits {
    /// Bytes; 0 = no limit.
    pub request_body: u64,
    /// Requests in flight on one server; 0 = no limit.
    pub max_connections_per_server: usize,
    /// How long a request waits for one of them.
    pub queue_timeout: Duration,
}

/// `clusters[].headers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Headers {
    /// `true`: the server's host name; `false`: the client's Host.
    pub host_of_server: bool,
    /// Pseudonym in Via; `None` = off.
    pub via: Option<String>,
    /// Value for answers over TLS; `None` = drop Domino's and send none.
    pub hsts: Option<String>,
    /// Pass Domino's `Server` header on.
    pub expose_server: bool,
}

//! The configuration as the rest of the program sees it: types that cannot be wrong. Here the process as a
//! whole, in `cluster` what one cluster says.
//!
//! In: nothing. [`super::load`] fills these from the YAML file. Out: plain immutable data. It never
//! names YAML, and no field needs a further check: host names are split, units are converted,
//! secrets are read, cross references hold.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::file_access::FileAccess;

mod cluster;

pub use cluster::*;

/// Everything one configuration file says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it came from, for messages.
    pub file: PathBuf,
    /// Pingora's own `ServerConf`, validated; threads, pool size, grace period.
    pub pingora: Arc<pingora::server::configuration::ServerConf>,
    /// The certificates of `pingora.ca_file`, DER: trusted where a cluster's `upstream_tls` names no `ca_file`.
    pub upstream_ca: Option<Arc<Vec<Vec<u8>>>>,
    /// `pingora.pid_file` where the file names one; written also in the foreground.
    pub pid_file: Option<PathBuf>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Where restrictions and a generated affinity key are kept.
    pub state_dir: Option<PathBuf>,
    /// What a client may do.
    pub limits: Limits,
    /// Directory of the shop's own pages.
    pub pages_dir: Option<PathBuf>,
    /// The admin listener.
    pub admin: Admin,
    /// The statistics receiver.
    pub statpub: Option<Statpub>,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// In the file's order; at least one unless `follow` is set.
    pub clusters: Vec<Arc<Cluster>>,
    /// The same as YAML with aliases and merge keys written out, for other ICMs; `None` without clusters. It
    /// names secret files, it does not hold secrets.
    pub clusters_yaml: Option<Arc<str>>,
    /// `get_configuration_from`: take `clusters` from another ICM.
    pub follow: Option<Follow>,
}

/// A secret that never shows in a log or a debug print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `get_configuration_from`.
#[derive(Clone, Debug, PartialEq)]
pub struct Follow {
    /// `http` or `https` URL of the other ICM's `/config`.
    pub url: BaseUrl,
    /// CA of the other ICM's admin listener.
    pub ca_file: Option<PathBuf>,
    /// The certificates of `ca_file`, DER.
    pub ca: Option<Arc<Vec<Vec<u8>>>>,
    /// Its token.
    pub token: Option<Secret>,
    /// How often.
    pub refresh: Duration,
    /// Last good copy.
    pub cache: Option<PathBuf>,
    /// Files that what comes may name.
    pub files: FileAccess,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// As written; the key of the socket hand-over.
    pub address: SocketAddr,
    /// Answer 308 to the same URL with `https`.
    pub redirect_to_https: bool,
    /// Peers whose `X-Forwarded-For` and `-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// TLS when present.
    pub tls: Option<ListenerTls>,
}

/// TLS of a listener. The files were checked when the configuration was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// First is the default; at least one.
    pub certificates: Vec<CertificateFiles>,
    /// Offer HTTP/2 by ALPN.
    pub h2: bool,
    /// Ask for client certificates signed by these.
    pub client_ca_file: Option<PathBuf>,
    /// The certificates of `client_ca_file`, DER.
    pub client_ca: Option<Arc<Vec<Vec<u8>>>>,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What a client may do, before any cluster is chosen. Sizes in bytes; 0 means no limit only where said.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Header fields of a request.
    pub header_count: usize,
    /// All header fields together.
    pub header_bytes: u64,
    /// Request target.
    pub uri_bytes: u64,
    /// The whole head from its first octet.
    pub header_timeout: Duration,
    /// Keep-alive connection without a request.
    pub idle_timeout: Duration,
    /// TLS handshake.
    pub handshake_timeout: Duration,
    /// Octets a second, mean over 30 s.
    pub min_rate: u64,
    /// Idle WebSocket.
    pub websocket_idle: Duration,
    /// Open connections.
    pub connections: usize,
    /// Connections of one client address; 0 = no limit.
    pub per_client_connections: usize,
    /// Requests a second of one client address; 0 = no limit.
    pub per_client_requests: usize,
    /// Requests of one client address at a time; 0 = no limit.
    pub per_client_in_flight: usize,
    /// Networks whose clients have no limits of their own.
    pub per_client_exempt: Vec<IpNet>,
    /// Requests of one HTTP/2 connection at a time.
    pub http2_streams: u32,
}

impl Limits {
    /// Whether no `per_client` limit applies to this address.
    #[must_use]
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        self.per_client_exempt.iter().any(|network| network.contains(&client))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_count: 100,
            header_bytes: 64 << 10,
            uri_bytes: 8 << 10,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            min_rate: 512,
            websocket_idle: Duration::from_secs(300),
            connections: 50_000,
            per_client_connections: 0,
            per_client_requests: 0,
            per_client_in_flight: 1000,
            per_client_exempt: Vec::new(),
            http2_streams: 32,
        }
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Loopback unless a token is set.
    pub address: SocketAddr,
    /// Required off loopback.
    pub token: Option<Secret>,
    /// TLS, also for statpub.
    pub tls: Option<CertificateFiles>,
}

/// The receiver of Domino's statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Statpub {
    /// Where it listens.
    pub address: SocketAddr,
    /// Bearer token.
    pub token: Option<Secret>,
    /// Networks beside the servers' own addresses.
    pub allow: Vec<IpNet>,
}

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where to.
    pub target: LogTarget,
    /// How.
    pub format: LogFormat,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// `stdout`.
    Stdout,
    /// `stderr`.
    Stderr,
    /// A file, reopened on USR1.
    File(PathBuf),
}

/// The shape of an access log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Apache's combined format and our fields after it.
    Combined,
    /// One JSON object a line.
    Json,
    /// Nothing.
    Off,
}

//! The configuration as the rest of the program sees it. No field needs a further check: units are converted, secrets are
//! read, and references are resolved.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::file_access::FileAccess;
use crate::domain::cluster::SiteName;

mod acme;
mod auth;
mod cache;
mod cluster;
mod headers;
mod policy;
mod routes;
mod servers;
mod tls;

pub use acme::*;
pub use auth::*;
pub use cache::*;
pub use cluster::*;
pub use headers::*;
pub use policy::*;
pub use routes::*;
pub use servers::*;
pub use tls::*;

/// Everything in a configuration file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it came from, for messages.
    pub file: PathBuf,
    /// Pingora's own settings: threads, pool size, grace period.
    pub pingora: Arc<pingora::server::configuration::ServerConf>,
    /// The certificates of `pingora.ca_file` in DER, for clusters whose `upstream_tls` has no `ca_file`.
    pub upstream_ca: Option<Arc<Vec<Vec<u8>>>>,
    /// `pingora.pid_file`. Unlike Pingora, we also write it in the foreground.
    pub pid_file: Option<PathBuf>,
    /// Where this ICM is; `None`: at no particular place. Other ICMs never get it.
    pub site: Option<SiteName>,
    /// The listeners for browsers; at least one.
    pub listeners: Vec<Listener>,
    /// Where restrictions and a generated affinity key are kept.
    pub state_dir: Option<PathBuf>,
    /// Limits of each client and of the process.
    pub limits: Limits,
    /// The directory of pages that replace the built-in ones.
    pub pages_dir: Option<PathBuf>,
    /// The listener for administrators.
    pub admin: AdminConfig,
    /// The listener that receives Domino's statistics.
    pub statpub: Option<Statpub>,
    /// Where and how requests are logged.
    pub access_log: AccessLogSettings,
    /// Whether plain requests take the fast path instead of Pingora's loop.
    pub fast_path: bool,
    /// Which responses are kept in memory; `None`: none.
    pub cache: Option<CacheSettings>,
    /// In the order of the file, then their pools; at least one unless `follow` is set.
    pub clusters: Vec<Arc<ClusterSettings>>,
    /// The same as YAML, for other ICMs: aliases and merge keys are written out. It names secret files and holds no
    /// secrets. `None` without clusters.
    pub clusters_yaml: Option<Arc<str>>,
    /// The other ICM that `clusters` come from.
    pub follow: Option<Follow>,
}

/// A secret, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `get_configuration_from`: another ICM that has the clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Follow {
    /// The URL of its `/config` page.
    pub url: BaseUrl,
    /// Its certificates are trusted for this URL.
    pub ca_file: Option<PathBuf>,
    /// The certificates of `ca_file` in DER.
    pub ca: Option<Arc<Vec<Vec<u8>>>>,
    /// The token of its admin listener.
    pub token: Option<Secret>,
    /// How often it is asked.
    pub refresh: Duration,
    /// Where its last good configuration is kept for the next start.
    pub cache: Option<PathBuf>,
    /// Which files its configuration may name.
    pub files: FileAccess,
}

/// A listener for browsers.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Identifies the socket when a new process takes it over.
    pub address: SocketAddr,
    /// Whether every request is redirected (308) to the same URL with `https`.
    pub redirect_to_https: bool,
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers whose connections begin with a PROXY protocol header. Those of all others must not.
    pub proxy_protocol_from: Vec<IpNet>,
    /// `None` means plain HTTP.
    pub tls: Option<ListenerTls>,
}

/// TLS of a listener. The loader has checked the files.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// At least one unless `acme` is set; the first is for clients without a matching SNI.
    pub certificates: Vec<CertificateFiles>,
    /// Hosts with certificates from an ACME server.
    pub acme: Option<Arc<AcmeSettings>>,
    /// Whether HTTP/2 is offered by ALPN.
    pub h2: bool,
    /// `None`: clients are not asked for a certificate.
    pub client_certificates: Option<ClientCertificates>,
    /// Versions, cipher suites and curves.
    pub protocol: TlsProtocol,
    /// The secrets of `ticket_key_file`: the first encrypts tickets, all decrypt. Empty: keys are generated.
    pub ticket_secrets: Vec<Secret>,
}

impl Listener {
    /// Whether a connection of this peer begins with a PROXY protocol header.
    #[must_use]
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        self.proxy_protocol_from.iter().any(|network| network.contains(&peer))
    }
}

/// `client_certificates`: which authorities may issue them, and whether one is needed.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificates {
    /// A certificate that none of these has issued fails the handshake.
    pub ca_file: PathBuf,
    /// The certificates of `ca_file` in DER.
    pub ca: Arc<Vec<Vec<u8>>>,
    /// Whether a client without a certificate is refused.
    pub mode: ClientCertificateMode,
}

/// Whether a client needs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// A client without one is served, too.
    Request,
    /// A client without one fails the handshake.
    Require,
}

/// A certificate chain and its key in PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// Limits that hold before a cluster is chosen. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Number of header fields of a request.
    pub header_count: usize,
    /// Size of all header fields together.
    pub header_bytes: u64,
    /// Size of the request target.
    pub uri_bytes: u64,
    /// For a whole request head, from its first byte on.
    pub header_timeout: Duration,
    /// For a connection without a request.
    pub idle_timeout: Duration,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// Bytes a second that a client must send or take, averaged over 30 s; 0: no limit.
    pub min_rate: u64,
    /// For a WebSocket without data.
    pub websocket_idle: Duration,
    /// Open connections of all clients; 0: no limit.
    pub connections: usize,
    /// Open connections of one client address; 0: no limit.
    pub per_client_connections: usize,
    /// Requests a second of one client address; 0: no limit.
    pub per_client_requests: usize,
    /// Requests in flight of one client address; 0: no limit.
    pub per_client_in_flight: usize,
    /// Networks whose clients have no `per_client` limits.
    pub per_client_exempt: Vec<IpNet>,
    /// Requests in flight of one HTTP/2 connection.
    pub http2_streams: u32,
    /// Attempts to log in; `None`: no limit.
    pub logins: Option<LoginLimits>,
}

/// `limits.logins`: how many attempts to log in may reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginLimits {
    /// Attempts of one client address, or IPv6 /64 network, in a window; 0: no limit.
    pub per_address: u32,
    /// Attempts for one user name in a window; 0: no limit.
    pub per_user: u32,
    /// The time in which attempts are counted.
    pub window: Duration,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self { per_address: 30, per_user: 10, window: Duration::from_secs(300) }
    }
}

impl Limits {
    /// Whether this client has no `per_client` limits.
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
            logins: None,
        }
    }
}

/// `admin`: the listener for administrators.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// A loopback address unless there is a token.
    pub address: SocketAddr,
    /// Callers must send it as a bearer token.
    pub token: Option<Secret>,
    /// `None`: plain HTTP. Also for the `statpub` listener.
    pub tls: Option<CertificateFiles>,
    /// The time between two samples of the status page's charts.
    pub history_interval: Duration,
}

/// `statpub`: the listener that receives Domino's statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Statpub {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Servers must send it as a bearer token.
    pub token: Option<Secret>,
    /// Networks that may send, beside the addresses of the servers.
    pub allow: Vec<IpNet>,
}

/// `access_log`: where and how requests are logged.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSettings {
    /// Standard output, standard error or a file.
    pub target: LogTarget,
    /// The format of a line.
    pub format: LogFormat,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// The standard output, `stdout`.
    Stdout,
    /// The standard error, `stderr`.
    Stderr,
    /// A file, which is opened again on USR1.
    File(PathBuf),
}

/// The format of access log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Apache's combined format, followed by our own fields.
    Combined,
    /// A JSON object in each line.
    Json,
    /// No request is logged.
    Off,
}

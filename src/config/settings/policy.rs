//! How a cluster is probed, how requests fail over, where users stay, and what happens to headers.

use std::time::Duration;

use super::Secret;
use super::auth::Auth;
use super::headers::{FieldName, HeaderRules};
use crate::domain::affinity::{SameSite, SessionCookieStyle};

/// `probe`: how servers are checked for reachability.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The path that is asked for; begins with `/`.
    pub path: String,
    /// The Host header. `None`: the first of `hostnames`, else the host name of the server.
    pub host: Option<String>,
    /// Time between two probes of one port.
    pub interval: Duration,
    /// For a whole probe, from connecting to the response header.
    pub timeout: Duration,
    /// Successful probes in a row after which a port is healthy; at least 1.
    pub healthy_after: u32,
    /// Failed probes in a row after which a port is UNREACHABLE; at least 1.
    pub unreachable_after: u32,
    /// Ranges of the statuses of a successful probe, both ends included.
    pub expected_statuses: Vec<(u16, u16)>,
}

impl Probe {
    /// Whether a response with this status makes a probe successful.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        self.expected_statuses.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

/// One availability source with its timing.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    /// Where the index comes from.
    pub source: AvailabilitySource,
    /// Time between two readings.
    pub interval: Duration,
    /// An older index counts as unknown.
    pub stale_after: Duration,
    /// `Server_Transinfo_Range` for the observed index, from 1 to 30.
    pub range: u8,
}

/// Where an availability index comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum AvailabilitySource {
    /// The response times of our own requests.
    Observed,
    /// A URL that answers `show stat` text; may hold `{address} {hostname} {name}`.
    Console {
        /// The URL with its placeholders.
        url: String,
    },
    /// A URL that answers Prometheus text; may hold `{address} {hostname} {name}`.
    Prometheus {
        /// The URL with its placeholders.
        url: String,
    },
    /// HAProxy's agent-check protocol on this TCP port of the server.
    AgentCheck {
        /// From 1 to 65535.
        port: u16,
    },
    /// What the server sends to the `statpub` listener.
    Statpub,
    /// The agent in `conf/domino`, which answers one JSON document.
    Companion {
        /// May hold `{address} {hostname} {name}`. `None`: `/icm.nsf/companion?OpenAgent` on the server's own port.
        url: Option<String>,
        /// How to log in: its own, else as for the directory.
        auth: Option<Auth>,
        /// Whether the password may be sent in clear text.
        allow_plaintext: bool,
    },
}

impl AvailabilitySource {
    /// Whether this is the agent in `conf/domino`.
    #[must_use]
    pub fn is_companion(&self) -> bool {
        matches!(self, Self::Companion { .. })
    }

    /// The word of `availability.source`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Console { .. } => "console",
            Self::Prometheus { .. } => "prometheus",
            Self::AgentCheck { .. } => "agent_check",
            Self::Statpub => "statpub",
            Self::Companion { .. } => "companion",
        }
    }
}

/// `catch_up`: when a server that was UNREACHABLE is trusted again.
#[derive(Clone, Debug, PartialEq)]
pub struct CatchUp {
    /// Whether `mode` is `on`.
    pub enabled: bool,
    /// A shorter outage does not count.
    pub after: Duration,
    /// After this time the server is trusted without evidence.
    pub limit: Duration,
    /// Asked once at the return, so that an agent can start a replication.
    pub request: Option<ReplicationRequest>,
}

/// `catch_up.request`: where a replication is started.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicationRequest {
    /// May hold `{address} {hostname} {name}`.
    pub url: String,
    /// Sent as a bearer token and in the form.
    pub token: Option<Secret>,
}

/// `freshness`: which replicas are behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Freshness {
    /// Where the modification times come from.
    pub source: FreshnessSource,
    /// Time between two passes over the databases.
    pub interval: Duration,
    /// The busiest databases, up to this number, are read.
    pub databases: usize,
    /// Differences of two times up to this do not count.
    pub slack: Duration,
    /// A replica that is older for longer than this is behind.
    pub behind_after: Duration,
    /// After this time a replica no longer counts as behind: some changes never replicate.
    pub behind_limit: Duration,
    /// Databases that are never read: folded paths, in which `*` stands for any characters.
    pub ignore: Vec<String>,
    /// What happens to a user whose last write is on a server that cannot be used.
    pub after_write: AfterWrite,
}

/// Where modification times of databases come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreshnessSource {
    /// The modification times are not read.
    Off,
    /// `Last-Modified` of `?OpenDatabase`, asked by HEAD.
    Head,
    /// The document of the companion.
    Companion,
}

impl FreshnessSource {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Head => "head",
            Self::Companion => "companion",
        }
    }
}

/// What happens to a user whose last write is on a server that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterWrite {
    /// Replicas that have the write are preferred.
    Prefer,
    /// As `Prefer`, and a page tells the user before an older replica is shown.
    Tell,
}

/// `failover`: how often, how long and for which requests other servers are tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    /// Servers that may have received the request, the first one included; at least 1.
    pub attempts: u32,
    /// No further attempt begins after this time.
    pub deadline: Duration,
    /// The share of requests that may be sent again, from 0.0 to 1.0.
    pub retry_budget: f64,
    /// For the TCP connection and the TLS handshake.
    pub connect_timeout: Duration,
    /// From the end of the request body to the response header.
    pub response_timeout: Duration,
    /// Longest pause within a response body; `None`: no limit. Event streams have none either.
    pub body_timeout: Option<Duration>,
    /// Response statuses after which the next server is tried, from 500 to 599.
    pub retry_statuses: Vec<u16>,
    /// Methods whose requests may be sent again.
    pub retry_methods: Vec<http::Method>,
    /// URL commands that change something, in lower case.
    pub unsafe_commands: Vec<String>,
    /// What to do with commands that are known neither as safe nor as unsafe.
    pub unknown_commands: UnknownCommands,
    /// Whether a request may be sent again, once, after `response_timeout`.
    pub retry_after_timeout: bool,
    /// Whether the page of a save that was cut has a link that asks whether it happened. Needs a companion.
    pub save_check: bool,
    /// Failed connection attempts in a row that make a server UNREACHABLE before the next probe; 0: never.
    pub passive_failures: u32,
    /// How long a server that returns gets a reduced, rising share of requests.
    pub slow_start: Duration,
    /// What to do when every server with a replica is UNREACHABLE.
    pub last_resort: LastResort,
}

/// How to treat URL commands that are known neither as safe nor as unsafe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCommands {
    /// As safe ones: they may be sent again.
    Replay,
    /// As unsafe ones: sent once.
    Once,
}

/// What to do when every server with a replica is UNREACHABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastResort {
    /// Answer with status 503.
    Refuse,
    /// Try these servers nevertheless.
    TryUnreachable,
}

/// `affinity`: how users stay on one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Affinity {
    /// Whether `mode` is `cookie`.
    pub enabled: bool,
    /// The name of our cookie.
    pub cookie: String,
    /// The first key signs, all verify. Empty: a key is generated.
    pub secrets: Vec<Secret>,
    /// The names of Domino's session cookies, in lower case.
    pub session_cookies: Vec<String>,
    /// Whether the name or the value of these cookies carries the tag of the server.
    pub session_cookie_style: SessionCookieStyle,
    /// The `SameSite` attribute of our cookie.
    pub same_site: SameSite,
    /// How long after its return a user goes back to the preferred server; `None`: never.
    pub fail_back: Option<Duration>,
    /// Affinity to a server ends after this time without a request.
    pub idle_timeout: Duration,
    /// How long users with affinity may stay on a server after it became RESTRICTED.
    pub drain_timeout: Duration,
}

/// Limits of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterLimits {
    /// The largest request body in bytes; 0: no limit.
    pub request_body: u64,
    /// Requests that a server has at a time; 0: no limit.
    pub max_requests_in_flight_per_server: usize,
    /// How long a request waits when all servers are at this limit.
    pub queue_timeout: Duration,
}

/// Which request and response headers are changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Headers {
    /// Whether servers get their own host name in Host instead of the client's.
    pub host_of_server: bool,
    /// The pseudonym in Via; `None`: no Via.
    pub via: Option<String>,
    /// Strict-Transport-Security of responses over TLS; `None`: none, not even Domino's own.
    pub hsts: Option<String>,
    /// Whether Domino's `Server` header is passed on.
    pub expose_server: bool,
    /// Fields that are set and removed.
    pub rules: HeaderRules,
    /// The field of request IDs; `None`: there are none.
    pub request_id: Option<FieldName>,
}

//! All keys of the configuration file by section.
//!
//! The reader refuses keys that are not in these tables, and a test looks for each of them in `conf/full.yaml`.
//! Pingora itself lists the keys of `pingora`.

/// The keys of one map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Its path, such as `clusters[].probe`; empty for the top level.
    pub name: &'static str,
    pub keys: &'static [&'static str],
}

impl Section {
    const fn new(name: &'static str, keys: &'static [&'static str]) -> Self {
        Self { name, keys }
    }

    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    pub fn list(&self) -> String {
        self.keys.join(", ")
    }

    /// The new name of a key that was renamed.
    pub fn renamed(&self, key: &str) -> Option<&'static str> {
        RENAMED.iter().find(|(section, old, _)| *section == self.name && *old == key).map(|(_, _, new)| *new)
    }

    /// Another section that has this key: one around this section, else the first.
    pub fn elsewhere(&self, key: &str) -> Option<&'static str> {
        let others = || ALL.iter().filter(|s| s.name != self.name && s.has(key));
        let is_around = |s: &&Section| !s.name.is_empty() && self.name.starts_with(s.name);
        let home = others().find(is_around).or_else(|| others().next())?;
        Some(if home.name.is_empty() { "the top level" } else { home.name })
    }
}

/// Section, old key, new key.
const RENAMED: &[(&str, &str, &str)] = &[
    ("", "pages", "pages_dir"),
    ("listeners[].tls", "client_ca_file", "client_certificates: { ca_file: FILE, mode: require }"),
    ("clusters[].probe", "ok", "expected_statuses"),
    ("clusters[].failover", "acting_commands", "unsafe_commands"),
    ("clusters[].limits", "max_connections_per_server", "max_requests_in_flight_per_server"),
];

pub(super) const TOP: Section = Section::new(
    "",
    &[
        "pingora",
        "get_configuration_from",
        "site",
        "listeners",
        "state_dir",
        "limits",
        "pages_dir",
        "admin",
        "statpub",
        "access_log",
        "proxy",
        "cache",
        "clusters",
    ],
);
pub(super) const FOLLOW: Section = Section::new(
    "get_configuration_from",
    &["url", "ca_file", "token_file", "refresh", "cache", "allow_files_under", "allow_caches_under"],
);
pub(super) const LISTENER: Section = Section::new(
    "listeners[]",
    &["address", "redirect_to_https", "trusted_proxies", "proxy_protocol", "tls"],
);
pub(super) const PROXY_PROTOCOL: Section = Section::new("listeners[].proxy_protocol", &["from"]);
pub(super) const LISTENER_TLS: Section = Section::new(
    "listeners[].tls",
    &[
        "certificates",
        "acme",
        "h2",
        "client_certificates",
        "min_version",
        "ciphers",
        "curves",
        "ticket_key_file",
    ],
);
pub(super) const CLIENT_CERTIFICATES: Section =
    Section::new("listeners[].tls.client_certificates", &["ca_file", "mode"]);
pub(super) const CERTIFICATE: Section = Section::new("listeners[].tls.certificates[]", &["cert", "key"]);
pub(super) const ACME: Section =
    Section::new("listeners[].tls.acme", &["email", "directory", "ca_file", "hosts", "challenges"]);
pub(super) const LIMITS: Section = Section::new(
    "limits",
    &[
        "header_count",
        "header_bytes",
        "uri_bytes",
        "header_timeout",
        "idle_timeout",
        "handshake_timeout",
        "min_rate",
        "websocket_idle",
        "connections",
        "http2_streams",
        "per_client",
        "logins",
    ],
);
pub(super) const PER_CLIENT: Section = Section::new(
    "limits.per_client",
    &["connections", "requests_per_second", "requests_in_flight", "exempt"],
);
pub(super) const LOGIN_LIMITS: Section =
    Section::new("limits.logins", &["per_address", "per_user", "window"]);
pub(super) const ADMIN: Section =
    Section::new("admin", &["address", "token_file", "tls", "history_interval"]);
pub(super) const ADMIN_TLS: Section = Section::new("admin.tls", &["cert", "key"]);
pub(super) const STATPUB: Section = Section::new("statpub", &["address", "token_file", "allow"]);
pub(super) const ACCESS_LOG: Section = Section::new("access_log", &["path", "format"]);
pub(super) const PROXY: Section = Section::new("proxy", &["fast_path"]);
pub(super) const CACHE: Section = Section::new("cache", &["size", "paths", "max_object", "stale"]);
pub(super) const CLUSTER: Section = Section::new(
    "clusters[]",
    &[
        "name",
        "hostnames",
        "mode",
        "upstream_scheme",
        "upstream_tls",
        "cross_sites",
        "servers",
        "directory",
        "probe",
        "availability",
        "failover",
        "catch_up",
        "freshness",
        "affinity",
        "unknown_database",
        "ambiguous_path",
        "forwarded_path",
        "open_server",
        "limits",
        "headers",
        "connector_secret_file",
        "pools",
        "routes",
        "access",
        "compression",
    ],
);
pub(super) const POOL: Section = Section::new(
    "clusters[].pools[]",
    &[
        "name",
        "servers",
        "upstream_scheme",
        "upstream_tls",
        "probe",
        "availability",
        "failover",
        "affinity",
        "limits",
        "headers",
        "connector_secret_file",
    ],
);
pub(super) const HOME_MAIL: Section = Section::new("clusters[].routes[].home_mail", &["agent", "login"]);
pub(super) const ROUTE: Section = Section::new(
    "clusters[].routes[]",
    &[
        "name",
        "match",
        "database",
        "pool",
        "servers",
        "home_mail",
        "redirect",
        "respond",
        "files",
        "deny",
        "response_timeout",
        "body_timeout",
        "headers",
    ],
);
pub(super) const ROUTE_HEADERS: Section =
    Section::new("clusters[].routes[].headers", &["set", "remove", "to_server"]);
pub(super) const ROUTE_REDIRECT: Section = Section::new("clusters[].routes[].redirect", &["to", "status"]);
pub(super) const ROUTE_RESPOND: Section = Section::new(
    "clusters[].routes[].respond",
    &["status", "text", "page", "content_type", "retry_after", "headers"],
);
pub(super) const ROUTE_FILES: Section =
    Section::new("clusters[].routes[].files", &["folder", "index", "content_types"]);
pub(super) const COMPRESSION: Section =
    Section::new("clusters[].compression", &["types", "min_size", "algorithms", "with_session_cookies"]);
pub(super) const MATCH: Section = Section::new(
    "clusters[].routes[].match",
    &["path", "path_prefix", "host", "method", "command", "query", "header", "client"],
);
pub(super) const ACCESS_RULE: Section =
    Section::new("clusters[].access[]", &["allow", "deny", "status", "name"]);
pub(super) const ACCESS_MATCH: Section = Section::new(
    "clusters[].access[].deny",
    &["path", "path_prefix", "host", "method", "command", "query", "header", "client", "database"],
);
pub(super) const UPSTREAM_TLS: Section = Section::new("clusters[].upstream_tls", &["ca_file", "verify"]);
pub(super) const SERVERS: Section = Section::new(
    "clusters[].servers",
    &[
        "source",
        "list",
        "from",
        "database",
        "view",
        "format",
        "columns",
        "auth",
        "refresh",
        "cache",
        "site_rules",
    ],
);
pub(super) const SITE_RULES: Section = Section::new("clusters[].servers.site_rules", &["view", "columns"]);
pub(super) const SITE_RULE_COLUMNS: Section =
    Section::new("clusters[].servers.site_rules.columns", &["type", "incoming", "replacement", "host"]);
pub(super) const SERVER: Section = Section::new(
    "clusters[].servers.list[]",
    &[
        "name",
        "hostname",
        "http",
        "https",
        "weight",
        "server_availability_threshold",
        "server_restricted",
        "server_max_users",
        "site",
        "connector_headers",
        "availability",
    ],
);
pub(super) const NAMES_COLUMNS: Section = Section::new(
    "clusters[].servers.columns",
    &[
        "name",
        "hostname",
        "address",
        "ports",
        "cluster",
        "http_port",
        "http_status",
        "https_port",
        "https_status",
        "site",
    ],
);
pub(super) const AUTH: Section =
    Section::new("clusters[].directory.auth", &["basic", "session", "allow_plaintext"]);
pub(super) const LOGIN: Section = Section::new("clusters[].directory.auth.basic", &["user", "password_file"]);
pub(super) const DIRECTORY: Section = Section::new(
    "clusters[].directory",
    &["source", "database", "view", "format", "columns", "auth", "refresh", "cache", "file", "databases"],
);
pub(super) const DIRECTORY_COLUMNS: Section = Section::new(
    "clusters[].directory.columns",
    &["path", "server", "replica_id", "title", "out_of_service", "pending_delete"],
);
pub(super) const DATABASE: Section =
    Section::new("clusters[].directory.databases[]", &["path", "replica_id", "title", "replicas"]);
pub(super) const REPLICA: Section =
    Section::new("clusters[].directory.databases[].replicas[]", &["server", "path", "mark"]);
pub(super) const PROBE: Section = Section::new(
    "clusters[].probe",
    &["path", "host", "interval", "timeout", "healthy_after", "unreachable_after", "expected_statuses"],
);
pub(super) const AVAILABILITY: Section = Section::new(
    "clusters[].availability",
    &["source", "url", "port", "auth", "interval", "stale_after", "range"],
);
pub(super) const CATCH_UP: Section =
    Section::new("clusters[].catch_up", &["mode", "after", "limit", "request"]);
pub(super) const CATCH_UP_REQUEST: Section =
    Section::new("clusters[].catch_up.request", &["url", "token_file"]);
pub(super) const FRESHNESS: Section = Section::new(
    "clusters[].freshness",
    &["source", "interval", "databases", "slack", "behind_after", "behind_limit", "ignore", "after_write"],
);
pub(super) const FAILOVER: Section = Section::new(
    "clusters[].failover",
    &[
        "attempts",
        "deadline",
        "retry_budget",
        "connect_timeout",
        "response_timeout",
        "body_timeout",
        "retry_statuses",
        "retry_methods",
        "unsafe_commands",
        "unknown_commands",
        "retry_after_timeout",
        "save_check",
        "passive_failures",
        "slow_start",
        "last_resort",
    ],
);
pub(super) const AFFINITY: Section = Section::new(
    "clusters[].affinity",
    &[
        "mode",
        "cookie",
        "same_site",
        "secret_file",
        "session_cookies",
        "session_cookie_style",
        "fail_back",
        "idle_timeout",
        "drain_timeout",
    ],
);
pub(super) const CLUSTER_LIMITS: Section = Section::new(
    "clusters[].limits",
    &["request_body", "max_requests_in_flight_per_server", "queue_timeout"],
);
pub(super) const HEADERS: Section = Section::new(
    "clusters[].headers",
    &["host", "via", "hsts", "expose_server", "set", "remove", "to_server", "request_id"],
);
pub(super) const HEADERS_TO_SERVER: Section =
    Section::new("clusters[].headers.to_server", &["set", "remove"]);

pub(super) const ALL: &[Section] = &[
    TOP,
    FOLLOW,
    LISTENER,
    PROXY_PROTOCOL,
    LISTENER_TLS,
    CLIENT_CERTIFICATES,
    CERTIFICATE,
    ACME,
    LIMITS,
    PER_CLIENT,
    LOGIN_LIMITS,
    ADMIN,
    ADMIN_TLS,
    STATPUB,
    ACCESS_LOG,
    PROXY,
    CACHE,
    CLUSTER,
    POOL,
    ROUTE,
    HOME_MAIL,
    ROUTE_HEADERS,
    ROUTE_REDIRECT,
    ROUTE_RESPOND,
    ROUTE_FILES,
    MATCH,
    ACCESS_RULE,
    ACCESS_MATCH,
    UPSTREAM_TLS,
    SERVERS,
    SERVER,
    NAMES_COLUMNS,
    AUTH,
    LOGIN,
    DIRECTORY,
    DIRECTORY_COLUMNS,
    DATABASE,
    REPLICA,
    PROBE,
    AVAILABILITY,
    CATCH_UP,
    CATCH_UP_REQUEST,
    FRESHNESS,
    FAILOVER,
    AFFINITY,
    CLUSTER_LIMITS,
    HEADERS,
    HEADERS_TO_SERVER,
    COMPRESSION,
];

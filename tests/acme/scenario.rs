//! The scenario file. Unknown keys are errors.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The scenario that is used without `--scenario`.
pub const BUILT_IN: &str = include_str!("built-in.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Cluster name in the names view.
    #[serde(default = "default_cluster")]
    pub cluster: String,
    /// Address of the control port.
    #[serde(default)]
    pub control: Option<String>,
    /// A login is valid on every server: LtpaToken instead of DomAuthSessId.
    #[serde(default)]
    pub sso: bool,
    /// DominoSessionCookieUniqueNames=1: 11 characters of a hash follow the name DomAuthSessId.
    #[serde(default)]
    pub unique_cookie_names: bool,
    /// The response to a missing login: `session` is the form with 200 (Basic is accepted as well), `basic` is 401.
    #[serde(default = "default_auth")]
    pub auth: String,
    /// Passwords by user name.
    #[serde(default)]
    pub users: BTreeMap<String, String>,
    /// Faults without `probe: true` do not affect requests for this path.
    #[serde(default = "default_probe_path")]
    pub probe_path: String,
    /// Columns 4 and 5 of the directory views: out of service, pending delete.
    #[serde(default)]
    pub mark_columns: bool,
    /// Every page has `Strict-Transport-Security: max-age=0`, as in Domino.
    #[serde(default = "default_true")]
    pub hsts_trap: bool,
    /// Where all servers push statistics by default; `{name}` is the common name.
    #[serde(default)]
    pub statpub: Option<StatpubPush>,
    /// Databases store documents and replicate. The keys are those of `set`, for all servers.
    #[serde(default)]
    pub replication: Option<serde_json::Map<String, serde_json::Value>>,
    pub servers: Vec<Server>,
    /// Servers in the names view that belong to no cluster.
    #[serde(default)]
    pub outsiders: Vec<String>,
    /// The rows of the view over Web Site Rule documents. The servers do not apply them.
    #[serde(default)]
    pub site_rules: Vec<WebRule>,
    #[serde(default)]
    pub databases: Vec<Database>,
    /// Additional databases, for large directories.
    #[serde(default)]
    pub generate: Option<Generate>,
}

/// A target for statistics.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatpubPush {
    pub url: String,
    #[serde(default)]
    pub token: Option<String>,
    #[serde(default = "default_interval_ms")]
    pub interval_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub name: String,
    /// Default: `<common name>.<organisation>.example`, lower case.
    #[serde(default)]
    pub hostname: Option<String>,
    /// IP address for all its ports.
    #[serde(default = "default_address")]
    pub address: std::net::IpAddr,
    /// 0 or absent means any free port; `false` means not listening.
    #[serde(default)]
    pub http: Port,
    #[serde(default)]
    pub https: Port,
    /// Port of HAProxy's agent-check.
    #[serde(default)]
    pub agent: Port,
    #[serde(default)]
    pub metrics: Port,
    /// Initial state: what `PUT /servers/<name>` takes on the control port.
    #[serde(default)]
    pub set: serde_json::Value,
}

/// A port number, or `false`.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
pub enum Port {
    Number(u16),
    /// `false` is no port, `true` is any free port.
    Switch(bool),
}

impl Default for Port {
    fn default() -> Self {
        Port::Number(0)
    }
}

impl Port {
    /// The port to bind, if any; 0 is any free port.
    pub fn bind_port(self) -> Option<u16> {
        match self {
            Port::Number(n) => Some(n),
            Port::Switch(true) => Some(0),
            Port::Switch(false) => None,
        }
    }
}

/// A Web Site Rule document, with the hosts of its Web Site document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebRule {
    #[serde(rename = "type")]
    pub kind: String,
    pub incoming: String,
    #[serde(default)]
    pub replacement: String,
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// One database, which has one replica ID.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub path: String,
    pub replica_id: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub login: bool,
    pub replicas: Replicas,
}

/// The servers that hold a database.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Replicas {
    Word(String),
    List(Vec<Replica>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Replica {
    Name(String),
    /// A replica with its own path or mark.
    Full {
        server: String,
        /// Path on that server.
        #[serde(default)]
        path: Option<String>,
        #[serde(default)]
        mark: Option<String>,
    },
}

/// Databases `<prefix>0001.nsf` and so on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    pub databases: u32,
    /// Replicas of each database, on successive servers.
    pub copies: usize,
    /// The path up to the number.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

fn default_cluster() -> String {
    "AcmeWeb".into()
}
fn default_auth() -> String {
    "session".into()
}
fn default_probe_path() -> String {
    "/".into()
}
fn default_prefix() -> String {
    "bulk/db".into()
}
fn default_true() -> bool {
    true
}
fn default_interval_ms() -> u64 {
    60_000
}
fn default_address() -> std::net::IpAddr {
    std::net::Ipv4Addr::LOCALHOST.into()
}

/// A hierarchical server name in its three spellings.
#[derive(Clone, Debug)]
pub struct Name {
    pub canonical: String,
    pub abbreviated: String,
    pub common: String,
}

impl Name {
    pub fn new(text: &str) -> Name {
        let parts: Vec<&str> = text.split('/').collect();
        let bare: Vec<&str> = parts.iter().map(|p| p.split_once('=').map_or(*p, |(_, v)| v)).collect();
        let last = bare.len() - 1;
        let labelled: Vec<String> = bare
            .iter()
            .enumerate()
            .map(|(i, part)| match i {
                0 => format!("CN={part}"),
                i if i == last => format!("O={part}"),
                _ => format!("OU={part}"),
            })
            .collect();
        Name { canonical: labelled.join("/"), abbreviated: bare.join("/"), common: bare[0].to_owned() }
    }

    /// Whether this text is a spelling of this name, or the common name alone, without case.
    pub fn matches(&self, text: &str) -> bool {
        let other = Name::new(text);
        self.abbreviated.eq_ignore_ascii_case(&other.abbreviated)
            || (!text.contains('/') && self.common.eq_ignore_ascii_case(&other.common))
    }

    pub fn default_hostname(&self) -> String {
        let organisation = self.abbreviated.rsplit('/').next().unwrap_or("acme");
        format!("{}.{organisation}.example", self.common).to_lowercase()
    }
}

impl Scenario {
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = serde_yaml::from_str(text).map_err(|e| format!("scenario: {e}"))?;
        if scenario.servers.is_empty() {
            return Err("scenario: no servers".into());
        }
        for db in &scenario.databases {
            if db.replica_id.len() != 16 || !db.replica_id.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(format!(
                    "scenario: {}: replica ID {} is not 16 hex digits",
                    db.path, db.replica_id
                ));
            }
        }
        Ok(scenario)
    }

    /// The position of the server with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|s| Name::new(&s.name).matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_scenario_is_a_valid_scenario() {
        let scenario = Scenario::parse(BUILT_IN).unwrap();
        assert_eq!(scenario.servers.len(), 4);
        assert_eq!(scenario.find("web2"), Some(1));
        assert_eq!(scenario.find("CN=Web2/O=Acme"), Some(1));
        assert_eq!(Name::new("Web1/Acme").canonical, "CN=Web1/O=Acme");
        assert_eq!(Name::new("Web1/Acme").default_hostname(), "web1.acme.example");
    }
}

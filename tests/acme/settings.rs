//! The settings of a running server: statistics, sources and directory traps. They are immutable; a JSON patch gives a
//! new set. Faults are separate (`faults.rs`), because they count and expire.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The keys of `PUT /servers/<name>` and of `set:` in a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Server.AvailabilityIndex; null means that no source publishes it.
    pub index: Option<f64>,
    pub threshold: u32,
    pub users: u32,
    /// Server_Restricted, 0 to 4.
    pub restricted: u8,
    pub maxusers: u32,
    /// The exporter's maintenance window is now.
    pub maintenance: bool,
    /// The metrics port answers 200 with metrics.
    pub prometheus: bool,
    /// stat_update_timestamp no longer advances.
    pub frozen: bool,
    /// The exporter publishes the reduced metrics that remain after a shutdown.
    pub shutdown: bool,
    /// The page with the console text exists.
    pub console: bool,
    /// The console text has the administrator's extra lines (`Server_Restricted` and so on).
    pub recipe: bool,
    /// The agent-check port responds; if false, it closes the connection without a line.
    pub agent_check: bool,
    /// The agent-check line; null means that it is made from `index`, `restricted` and `maintenance`.
    pub agent: Option<String>,
    pub statpub: bool,
    /// Target of the push; `{name}` is the common name.
    pub statpub_url: Option<String>,
    /// Bearer token of the push.
    pub statpub_token: Option<String>,
    pub statpub_interval_ms: u64,
    /// The names view shows the cluster's name for this server.
    pub member: bool,
    /// Requests on one connection before `Connection: close`; 0 means no limit.
    pub max_requests: u64,
    /// Milliseconds after which an idle connection is closed; 0 means never.
    pub keepalive_ms: u64,
    /// Requests with `&work=MS` that are served at once, while the others wait; 0 means no limit.
    pub workers: usize,
    /// Relative speed: at 0.1, work of 20 ms takes 200 ms.
    pub speed: f64,
    /// Milliseconds between two measurements of the index from the time that work took; 0 means that `index` is published.
    pub measure_index_ms: u64,
    /// A request over TLS is the user in the certificate of `$WSCC`; without one, a missing login is answered with 401.
    pub certificate_login: bool,
    /// Logins create an LtpaToken instead of a DomAuthSessId; null means what the scenario says.
    pub sso: Option<bool>,
    /// The key of the Web SSO Configuration: a server accepts only tokens of its own key.
    pub sso_key: String,
    /// The DNS domain of the LtpaToken; null means that of the host name.
    pub sso_domain: Option<String>,
    /// Login cookies are for HTTPS only.
    pub secure_cookie: bool,
    /// Users whose login this server refuses.
    pub refused_users: Vec<String>,
    /// Every request for the HTTP port is redirected to the HTTPS port.
    pub redirect_to_https: bool,
    /// Errors in the directory views (cldbdir.nsf and the names view).
    pub dir: DirectoryTraps,
    /// Milliseconds by which this server's clock is ahead.
    pub clock_skew_ms: i64,
    /// Status for HEAD of a database, as when a server or a proxy before it refuses HEAD.
    pub head_status: Option<u16>,
    /// Databases store documents, which the Cluster Replicator copies to the other servers.
    pub replication: bool,
    /// If false, the Cluster Replicator does not notice changes: they are lost to it.
    pub replicator: bool,
    /// Milliseconds from a change to its push.
    pub push_ms: u64,
    /// Milliseconds from the first failed push to the next; each further wait is twice as long.
    pub retry_ms: u64,
    pub retry_max_ms: u64,
    /// The statistics contain those of the Cluster Replicator.
    pub replica_statistics: bool,
    pub last_modified: LastModified,
    /// Paths of databases whose data modification time moves when they are opened, also by HEAD.
    pub web_query_open: Vec<String>,
    /// `/icm.nsf/companion?OpenAgent` exists.
    pub companion: bool,
    /// Items that the companion leaves out: `users`, `replication.failed`, `replicas.modified`.
    pub companion_missing: Vec<String>,
    /// The companion is behind a login.
    pub companion_login: bool,
    pub companion_trap: Option<CompanionTrap>,
    /// The token without which the companion starts no replication.
    pub companion_token: Option<String>,
    /// Milliseconds from the companion's answer to the replication that it starts.
    pub replicate_delay_ms: u64,
}

/// What `Last-Modified` of a database's pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastModified {
    /// The copy's data modification time.
    Data,
    Off,
    /// The same as `Date`.
    Now,
}

/// What a reader of the companion meets instead of a good document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompanionTrap {
    /// The login form with 200.
    Html,
    /// The body ends in the middle.
    Truncated,
    /// Status 500.
    Error500,
    /// All numbers are strings.
    Strings,
    /// The time does not advance.
    Old,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            index: Some(100.0),
            threshold: 0,
            users: 10,
            restricted: 0,
            maxusers: 0,
            maintenance: false,
            prometheus: true,
            frozen: false,
            shutdown: false,
            console: true,
            recipe: true,
            agent_check: true,
            agent: None,
            statpub: true,
            statpub_url: None,
            statpub_token: None,
            statpub_interval_ms: 60_000,
            member: true,
            max_requests: 0,
            keepalive_ms: 0,
            workers: 0,
            speed: 1.0,
            measure_index_ms: 0,
            certificate_login: false,
            sso: None,
            sso_key: "acme".to_owned(),
            sso_domain: None,
            secure_cookie: false,
            refused_users: Vec::new(),
            redirect_to_https: false,
            dir: DirectoryTraps::default(),
            clock_skew_ms: 0,
            head_status: None,
            replication: false,
            replicator: true,
            push_ms: 200,
            retry_ms: 3_600_000,
            retry_max_ms: 86_400_000,
            replica_statistics: true,
            last_modified: LastModified::Data,
            web_query_open: Vec::new(),
            companion: false,
            companion_missing: Vec::new(),
            companion_login: false,
            companion_trap: None,
            companion_token: None,
            replicate_delay_ms: 0,
        }
    }
}

/// Errors that a reader of the directory views meets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectoryTraps {
    /// `($Pathname)` and `($ReplicaID)` answer 404.
    pub hidden_view_404: bool,
    /// The view over Server documents answers 404.
    pub servers_404: bool,
    /// The view over Web Site Rule documents answers 404.
    pub site_rules_404: bool,
    /// JSON contains `\<`, `\>` and `\!`, which a strict parser rejects.
    pub invalid_escapes: bool,
    /// Titles end in an emoji, which is two references to surrogates in XML.
    pub surrogates: bool,
    pub duplicates: bool,
    /// The body ends in the middle.
    pub truncated: bool,
    /// The view is empty.
    pub empty: bool,
    /// Number of readings with Start above 1 that find one document more than the one before; true means all.
    #[serde(deserialize_with = "times")]
    pub changes_while_paging: u32,
    /// The view answers with the login page and status 200.
    pub unauthorised: bool,
    /// The view answers with "not authorized" and status 500.
    pub error500: bool,
    /// Milliseconds before the response.
    pub slow: u64,
    /// Maximum rows per view page; 0 means no limit.
    pub count_cap: usize,
    /// Number of documents at the end that are counted in toplevelentries but never sent.
    pub withheld: usize,
    /// Percentage of the documents that the view contains.
    pub keep_percent: usize,
    /// In JSON, a list with one element is written as that element.
    pub single_object: bool,
}

impl Default for DirectoryTraps {
    fn default() -> Self {
        DirectoryTraps {
            hidden_view_404: false,
            servers_404: false,
            site_rules_404: false,
            invalid_escapes: false,
            surrogates: false,
            duplicates: false,
            truncated: false,
            empty: false,
            changes_while_paging: 0,
            unauthorised: false,
            error500: false,
            slow: 0,
            count_cap: 1000,
            withheld: 0,
            keep_percent: 100,
            single_object: true,
        }
    }
}

fn times<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Times {
        Switch(bool),
        Number(u32),
    }
    Ok(match Times::deserialize(from)? {
        Times::Switch(on) => u32::from(on) * u32::MAX,
        Times::Number(n) => n,
    })
}

impl Settings {
    /// Whether connections have no limit of requests or idle time.
    pub fn is_unlimited(&self) -> bool {
        self.max_requests == 0 && self.keepalive_ms == 0
    }

    /// BUSY by Domino's rule; with a threshold of 0 a server is never BUSY.
    pub fn busy(&self) -> bool {
        self.threshold > 0 && self.index.is_some_and(|index| index <= f64::from(self.threshold))
    }

    /// A copy with the keys of the patch replaced and objects merged. Errors name the key.
    pub fn with_patch(&self, patch: &Value) -> Result<Settings, String> {
        let mut whole = serde_json::to_value(self).map_err(|e| e.to_string())?;
        merge(&mut whole, patch);
        let patched: Settings = serde_json::from_value(whole).map_err(|e| e.to_string())?;
        if !(patched.speed > 0.0 && patched.speed <= 1000.0) {
            return Err(format!("speed: {} is not over 0 and up to 1000", patched.speed));
        }
        if let Some(status) = patched.head_status.filter(|status| !(200..600).contains(status)) {
            return Err(format!("head_status: {status} is not 200 to 599"));
        }
        Ok(patched)
    }
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let was = Settings { users: 7, ..Settings::default() };
        let is = was
            .with_patch(&json!({"index": null, "dir": {"slow": 5, "changes_while_paging": true}}))
            .unwrap();
        assert_eq!((is.index, is.users, is.dir.slow, is.dir.count_cap), (None, 7, 5, 1000));
        assert_eq!(is.dir.changes_while_paging, u32::MAX);
        assert!(was.with_patch(&json!({"indx": 3})).unwrap_err().contains("indx"));
    }
}

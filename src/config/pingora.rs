//! `pingora:`, Pingora's own `ServerConf`.
//!
//! In: the map. Out: the `ServerConf`. Which keys exist and what type they have is asked of Pingora
//! itself, so that a new release needs no change here. Two keys are refused because this program
//! decides what they would.

use std::path::PathBuf;
use std::sync::Arc;

use pingora::server::configuration::ServerConf;
use serde_yaml::{Mapping, Value};

use super::file_access::Named;
use super::keys;
use super::reader::Item;
use super::tls;
use super::values::{self, Problem};

/// Seconds that requests in flight get at the end: above `failover.response_timeout`.
const GRACE: u64 = 75;
/// Idle connections to servers, per thread.
const POOL: u64 = 512;
/// Pingora's own limit must never be what ends a failover: attempts and failed connects together.
const RETRIES: u64 = 64;

/// Keys that would only matter to a process that Pingora puts into the background.
const BACKGROUND: &[&str] = &[
    "error_log",
    "user",
    "group",
    "working_directory",
    "daemon_wait_for_ready",
    "daemon_ready_timeout_seconds",
    "daemon_notify_timeout_seconds",
];

/// Every key that Pingora has.
pub(super) fn known() -> Vec<String> {
    match serde_yaml::to_value(ServerConf::default()) {
        Ok(Value::Mapping(map)) => map.keys().filter_map(|k| k.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// What `pingora:` says.
pub(super) struct PingoraSettings {
    /// Pingora's own configuration.
    pub server_conf: ServerConf,
    /// The PID file, where it is named.
    pub pid_file: Option<PathBuf>,
    /// The certificates of `ca_file`, where it is named.
    pub upstream_ca: Option<Arc<Vec<Vec<u8>>>>,
}

/// Reads the map.
pub(super) fn settings(item: &Item<'_>) -> PingoraSettings {
    let known = known();
    let mut map = Mapping::new();
    let mut pid_file = None;
    let mut upstream_ca = None;
    for (key, entry) in item.entries() {
        match key.as_str() {
            "daemon" => entry
                .error_at_key(Problem::new("is not available").hint(
                    "remove it: icm stays in the foreground and systemd (or the shell) puts it behind",
                )),
            "max_retries" => entry.error_at_key(
                Problem::new("is not available")
                    .hint("remove it: `failover.attempts` of each cluster decides"),
            ),
            key if known.iter().any(|k| k == key) => {
                let authorities = (key == "ca_file" && entry.is_present()).then(|| tls::authorities(&entry));
                let is_good = !matches!(authorities, Some(None));
                upstream_ca = upstream_ca.or(authorities.flatten().map(|(_, list)| list));
                if let Some(value) = checked(key, &entry).filter(|_| is_good) {
                    map.insert(Value::from(key), value);
                }
                if key == "pid_file" {
                    pid_file = entry.path(Named::Written);
                }
                if BACKGROUND.contains(&key) {
                    entry.warn("has no effect: icm stays in the foreground");
                }
            }
            key => {
                let offered =
                    known.iter().map(String::as_str).filter(|k| !matches!(*k, "daemon" | "max_retries"));
                let list = offered.clone().collect::<Vec<_>>().join(", ");
                let home = keys::ALL.iter().find(|section| section.has(key)).map(|section| section.name);
                // Pingora has too many keys to list them beside a good guess.
                entry.error_at_key(Problem::new("unknown key").hint(
                    match (values::similar(key, offered), home) {
                        (Some(word), _) => format!("did you mean `{word}`? see conf/full.yaml for all keys"),
                        (None, Some("")) => "it belongs to the top level, see conf/full.yaml".to_owned(),
                        (None, Some(home)) => format!("it belongs into `{home}`, see conf/full.yaml"),
                        (None, None) => format!("known here: {list}"),
                    },
                ));
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (key, default) in [
        ("threads", cores as u64),
        ("grace_period_seconds", GRACE),
        ("upstream_keepalive_pool_size", POOL),
        ("max_retries", RETRIES),
    ] {
        if !map.contains_key(key) {
            map.insert(Value::from(key), Value::from(default));
        }
    }
    let conf = serde_yaml::from_value::<ServerConf>(Value::Mapping(map)).unwrap_or_else(|error| {
        // Each key was accepted alone, so together they are too; if not, it is said.
        item.error_at_key(Problem::new(error.to_string()));
        ServerConf::default()
    });
    PingoraSettings { server_conf: conf, pid_file, upstream_ca }
}

/// The value, if Pingora takes it for this key.
fn checked(key: &str, entry: &Item<'_>) -> Option<Value> {
    let value = entry.value?.clone();
    let single = Mapping::from_iter([(Value::from(key), value.clone())]);
    let problem = match serde_yaml::from_value::<ServerConf>(Value::Mapping(single)) {
        Err(error) => {
            let text = error.to_string();
            Some(text.strip_prefix(&format!("{key}: ")).map_or(text.clone(), str::to_owned))
        }
        Ok(conf) => conf.validate().err().map(|e| {
            let text = e.context.as_ref().map_or_else(|| e.to_string(), |c| c.as_str().to_owned());
            text.strip_prefix(&format!("{key} ")).map_or(text.clone(), str::to_owned)
        }),
    };
    if let Some(problem) = problem {
        entry.error(Problem::new(problem));
        return None;
    }
    match key {
        // Tokio and the listeners panic on zero.
        "threads" | "listener_tasks_per_fd" => {
            entry.integer::<u64>(1, 1024)?;
        }
        // Pingora unwraps these when it makes a connector.
        "client_bind_to_ipv4" => {
            for address in entry.list() {
                address.parsed("an IPv4 address", parse_ip::<std::net::Ipv4Addr>)?;
            }
        }
        "client_bind_to_ipv6" => {
            for address in entry.list() {
                address.parsed("an IPv6 address", parse_ip::<std::net::Ipv6Addr>)?;
            }
        }
        _ => {}
    }
    Some(value)
}

fn parse_ip<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::new(format!("`{text}` is not an address of this family")))
}
